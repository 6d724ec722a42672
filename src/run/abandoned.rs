//! How a run ended that was left behind: what its remaining files show, and what follows from them.

use super::context::Context;
use super::disagreement::Verification;
use super::entry::Entry;
use super::id::RunId;
use super::limit;
use super::liveness::{Assessment, Placed, was_taken};
use super::outcome_file::read_outcome;
use super::output::{Source, read_summary};
use super::question::{Question, question_of};
use super::record::{AgentExit, EndRequest, Ending, Manifest, Started, UNVERIFIED};
use super::status::Status;
use super::submit::said_by_job;
use super::verified::of_verified;
use super::workbench::Workbench;
use crate::agent::output::{FinalEvent, Summary};
use crate::clock::UnixSeconds;
use crate::engine::slurm::JobEnd;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};

/// What is left of a dead run whose end nobody recorded.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(super) started: Option<Started>,
    request: Option<EndRequest>,
    pub(super) exit: Option<AgentExit>,
    pub(super) verification: Option<Verification>,
    pub(super) summary: Option<Summary>,
    pub(super) question: Option<Question>,
    last_output: UnixSeconds,
    /// Of a run on Slurm.
    job: Option<JobRemains>,
}

#[derive(Debug)]
struct JobRemains {
    end: Option<JobEnd>,
    /// Whether a supervisor had it.
    was_taken: bool,
    /// What the job printed itself.
    said: String,
}

impl Remains {
    /// Reads them.
    ///
    /// # Errors
    /// There is some record that cannot be read now.
    pub(crate) fn read(
        context: &Context,
        entry: &Entry,
        manifest: &Manifest,
        placed: &Placed,
        source: Source,
    ) -> Result<Self, FileError> {
        let exit = match atomic_file::unless_damaged(entry.verifying())? {
            None => atomic_file::unless_damaged(entry.terminal_exit())?,
            exit => exit,
        };
        let workbench = own_workbench(&context.home, manifest);
        let summary = read_summary(context, manifest, source);
        // Only one that has said its end was not about to withdraw it.
        let has_ended = exit.is_some() || summary.as_ref().is_some_and(|summary| summary.ended.is_some());
        let question = has_ended.then(|| question_of(&workbench, &manifest.command.agent, summary.as_ref())).flatten();
        let job = || JobRemains { end: placed.end, was_taken: was_taken(entry), said: said_by_job(entry) };
        Ok(Self {
            started: atomic_file::unless_damaged(entry.started())?,
            request: atomic_file::unless_damaged(entry.end_request())?
                .or_else(|| context.unwritten_ends.of(entry.id())),
            exit,
            verification: atomic_file::unless_damaged(entry.verified())?,
            summary,
            question,
            last_output: workbench.last_output_or(manifest.triggered.at),
            job: manifest.is_on_slurm().then(job),
        })
    }

    /// Decides how it ended.
    pub(crate) fn ending(&self, manifest: &Manifest, now: UnixSeconds) -> Ending {
        let is_unverified = manifest.verify.is_some() && self.verification.is_none();
        let has_started = manifest.may_have_started(self.started.as_ref());
        let (request, exit) = (self.request.as_ref(), self.exit);
        let ending = Ending::of_abandoned(has_started, request, exit, is_unverified, self.last_output, now);
        let ending = self.by_job(ending, now);
        let limited_by = limit::that_ended(exit.unwrap_or_default(), self.summary.as_ref());
        let reported = self.summary.as_ref().and_then(|summary| summary.ended);
        let ending = match (reported, limited_by) {
            (_, None) if self.asks() && matches!(ending.status, Status::Lost | Status::Failed) => Ending {
                status: Status::Asked,
                reason: self.question.as_ref().map(|question| {
                    format!("{}; its supervisor died before that was recorded", question.in_words(None))
                }),
                ..ending
            },
            // Unless something else ended it, or it never started.
            (_, Some(limit)) if matches!(ending.status, Status::Lost | Status::Failed) => Ending {
                status: Status::Limited,
                reason: Some(format!("{}; its supervisor died before that was recorded", limit::in_words(limit))),
                ..ending
            },
            (Some(FinalEvent::Succeeded), _) if ending.status == Status::Lost && is_unverified => {
                Ending { reason: Some(UNVERIFIED.to_owned()), ..ending }
            }
            // Its own word, which it gave before or after its supervisor died.
            (Some(reported), _) if ending.status == Status::Lost => Ending {
                status: if reported == FinalEvent::Succeeded { Status::Succeeded } else { Status::Failed },
                reason: Some("its agent reported its end, and its supervisor died before that was recorded".to_owned()),
                ..ending
            },
            _ => ending,
        };
        if self.verification.is_some() && request.is_none() { of_verified(ending) } else { ending }
    }

    /// Whether its agent ended by itself with a question.
    fn asks(&self) -> bool {
        self.question.is_some() && self.exit.is_none_or(|exit| exit.code.is_some())
    }

    /// Adds what Slurm says of the end of its job, and what the job printed where no supervisor had it.
    fn by_job(&self, ending: Ending, now: UnixSeconds) -> Ending {
        let Some(job) = &self.job else { return ending };
        let ending = ending.or_by_job(job.end, job.was_taken, now);
        match ending.reason {
            Some(reason) if ending.status == Status::LaunchFailed => {
                Ending { reason: Some(format!("{reason}{}", job.said)), ..ending }
            }
            reason => Ending { reason, ..ending },
        }
    }
}

/// Returns the workbench of a run, without the files of the run before if they are still in the way.
fn own_workbench(home: &Home, manifest: &Manifest) -> Workbench {
    let workbench = manifest.workbench(home);
    let is_in_the_way = |before: &RunId| read_outcome(&workbench, before).is_ok();
    if manifest.continues.as_ref().is_some_and(is_in_the_way) { workbench.of_previous(&manifest.id) } else { workbench }
}

impl Assessment {
    /// Returns how a dead run ended that left no outcome. Only the end of a large log is read, because lists ask for many.
    ///
    /// # Errors
    /// Its records cannot be read now.
    pub(crate) fn ending(&self, context: &Context, now: UnixSeconds) -> Result<Ending, String> {
        let manifest = self.manifest.as_ref().map_err(ToString::to_string)?;
        let remains = Remains::read(context, &self.entry, manifest, &self.placed, Source::Live);
        Ok(remains.map_err(|error| error.to_string())?.ending(manifest, now))
    }
}
