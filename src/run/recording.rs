//! The end of a run, step by step: its outcome, its line in the history, and only then the end of its entry.

use super::abandoned::Remains;
use super::context::Context;
use super::continuation::take_over::take_over;
use super::disagreement::Facts;
use super::entry::Entry;
use super::examine::examine;
use super::history::{self, Known};
use super::home_machine;
use super::hook;
use super::id::RunId;
use super::job_order::is_on_slurm;
use super::liveness::{Judgement, Placed, was_taken};
use super::outcome_file::{write_outcome, written_outcome};
use super::output::Source;
use super::question::state;
use super::record::{Gone, Machine, Manifest, Outcome, RecordError};
use super::report::read_report;
use super::retries::{self, Settled};
use super::status::Status;
use super::this_machine::Here;
use super::verified::{add_evidence, believe_only};
use super::workbench::Workbench;
use crate::clock::{Moment, UnixSeconds};
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::process_tree::ProcessId;

/// The end of a run, once its processes are gone: what its supervisor does, and a judge as far as that is left to do.
struct End<'a> {
    context: &'a Context,
    entry: &'a Entry,
    outcome: Outcome,
    /// Whether the outcome is on disk: then it never changes, and what comes before it is over.
    is_written: bool,
    known: Known,
    has_new_line: bool,
    /// Whether nothing tries again what it began, and a person hears of it.
    gave_up: bool,
}

type Step<T> = fn(&mut T) -> anyhow::Result<()>;

impl End<'_> {
    /// The steps, in order. After a failure, or where we die in between, all of them can be done again.
    const STEPS: [Step<Self>; 5] =
        [Self::write_outcome, Self::open_question, Self::add_line, Self::settle_retries, Self::remove_entry];

    fn finish(mut self) -> anyhow::Result<()> {
        let done = Self::STEPS.iter().try_for_each(|step| step(&mut self));
        // Last, and also where the entry stays: only the process that has just added the line starts them, so each hook runs once
        // at most. It is a process of its own, so that nothing waits for it.
        if self.has_new_line {
            hook::start(self.context, &self.outcome);
        }
        if self.gave_up {
            hook::start_attention(self.context, &self.outcome);
        }
        done
    }

    /// Returns what another attempt would be about, as the run's trigger said; most ends are followed by none.
    fn text(&self) -> Option<String> {
        let status = self.outcome.status;
        let may_follow = status.is_retried() || status == Status::Limited;
        may_follow.then(|| self.entry.manifest().ok()?.text).flatten()
    }

    fn write_outcome(&mut self) -> anyhow::Result<()> {
        if !self.is_written {
            let text = self.text();
            retries::tell_what_follows(self.context, &mut self.outcome, text.as_deref());
            make_way(&self.context.home, self.entry, self.outcome.continues.as_ref(), self.outcome.workbench_name())?;
            write_outcome(&self.context.home, &self.outcome)?;
        }
        Ok(())
    }

    /// Marks its question as open, before anybody learns of it. One that was closed already is settled by a janitor.
    fn open_question(&mut self) -> anyhow::Result<()> {
        if self.outcome.status == Status::Asked {
            state::open(&self.context.home, &self.outcome.id)?;
        }
        Ok(())
    }

    fn add_line(&mut self) -> anyhow::Result<()> {
        let Context { home, config, .. } = self.context;
        self.has_new_line = history::append(home, config, &self.outcome, self.known)?;
        Ok(())
    }

    fn settle_retries(&mut self) -> anyhow::Result<()> {
        self.gave_up = retries::settle(self.context, &self.outcome, self.text())? == Settled::GaveUp;
        Ok(())
    }

    fn remove_entry(&mut self) -> anyhow::Result<()> {
        match self.entry.dispose(&self.context.home) {
            Err(_) if !self.entry.exists() => Ok(()),
            disposed => Ok(disposed?),
        }
    }
}

/// Moves the files of the run before out of the way of one that no supervisor had: the process that launched it may have died
/// before that was done. Later, its agent may have put anything there.
fn make_way(home: &Home, entry: &Entry, predecessor: Option<&RunId>, workbench: &RunId) -> Result<(), FileError> {
    match predecessor {
        Some(predecessor) if entry.exists() && entry.supervisor().is_ok_and(|taken| taken.is_none()) => {
            take_over(home, &Workbench::named(home, workbench), predecessor)
        }
        _ => Ok(()),
    }
}

/// Whether we may have written the outcome already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing of it can be ours.
    First,
    /// An attempt before failed at some step.
    Again,
}

/// Records the end of a run that we own. After an error it can be tried again: nothing is written twice.
///
/// # Errors
/// Some file could not be written; what was written stays true.
pub fn record(context: &Context, entry: &Entry, outcome: &Outcome, attempt: Attempt) -> anyhow::Result<()> {
    match written_outcome(&outcome.workbench(&context.home), &outcome.id, &outcome.cookie) {
        // Nobody else writes it while we own the run: this is the agent's own.
        Ok(Some(_)) if attempt == Attempt::First && entry.exists() => {
            finish(context, entry, outcome, false, Known::Perhaps)
        }
        // Written by us before something failed, or by a person who gave the run up.
        Ok(Some(written)) => finish(context, entry, &written, true, Known::Perhaps),
        Ok(None) => finish(context, entry, outcome, false, Known::New),
        // What cannot be read gives way: we know how it ended.
        Err(_) => finish(context, entry, outcome, false, Known::Perhaps),
    }
}

/// Records the end of a run that we own on the node where Slurm placed it: its outcome, and that nothing of it is left here. The rest,
/// in files that many runs share, is left to the machine of the home. After an error it can be tried again.
///
/// # Errors
/// Some file could not be written; what was written stays true.
pub fn record_on_node(context: &Context, entry: &Entry, outcome: &Outcome, attempt: Attempt) -> anyhow::Result<()> {
    // A person gave it up, or another machine recorded it.
    anyhow::ensure!(entry.exists(), "the run {} has been recorded", outcome.id);
    let written = written_outcome(&outcome.workbench(&context.home), &outcome.id, &outcome.cookie);
    // Before the first attempt it is the agent's own.
    let is_written = attempt == Attempt::Again && matches!(written, Ok(Some(_)));
    let (outcome, known) = (outcome.clone(), Known::Perhaps);
    End { context, entry, outcome, is_written, known, has_new_line: false, gave_up: false }.write_outcome()?;
    Ok(entry.set_gone(&Gone { machine: Machine::this(), at: Moment::now(), has_outcome: true })?)
}

/// Keeps every supervisor that comes up later from starting the agent of a run that Slurm placed, and none has taken.
///
/// # Errors
/// One has just taken it.
pub(super) fn bar_supervisors(home: &Home, entry: &Entry) -> anyhow::Result<()> {
    let bar = Here::of(home).supervisor_record(ProcessId::current()?, 1);
    if !entry.take(&bar)? && entry.supervisor()?.is_none_or(|taken| taken.job.is_some()) {
        anyhow::bail!("a supervisor has just taken the run {}", entry.id());
    }
    Ok(())
}

/// Records the end of a run that a person gave up. The history may have it already.
///
/// # Errors
/// Another machine records for the home, or some file could not be written; what was written stays true.
pub fn record_forgotten(context: &Context, entry: &Entry, outcome: &Outcome) -> anyhow::Result<()> {
    home_machine::owner(&context.home)?;
    if is_on_slurm(entry) && !was_taken(entry) {
        bar_supervisors(&context.home, entry)?;
    }
    finish(context, entry, outcome, false, Known::Perhaps)
}

fn finish(context: &Context, entry: &Entry, outcome: &Outcome, is_written: bool, known: Known) -> anyhow::Result<()> {
    End { context, entry, outcome: outcome.clone(), is_written, known, has_new_line: false, gave_up: false }.finish()
}

/// Records the end of a run that was left behind: with the outcome that its supervisor still wrote, else with what the
/// remaining files show.
///
/// # Errors
/// Some file could not be read or written; what was written stays true.
pub fn record_abandoned(context: &Context, judgement: &Judgement) -> anyhow::Result<Outcome> {
    let Judgement { entry, manifest, placed, .. } = judgement;
    if manifest.is_on_slurm() && !was_taken(entry) {
        bar_supervisors(&context.home, entry)?;
    }
    if let Some((mut outcome, is_as_written)) = outcome_left_behind(&context.home, entry, manifest)? {
        let is_noted = note_job_state(&mut outcome, placed);
        finish(context, entry, &outcome, is_as_written && !is_noted, Known::Perhaps)?;
        return Ok(outcome);
    }
    // Its workbench may have gone before its entry did.
    let past = context.history.find(&context.home, entry.id())?;
    if let Some(past) = past.filter(|past| past.outcome.cookie == manifest.cookie) {
        finish(context, entry, &past.outcome, true, Known::Perhaps)?;
        return Ok(past.outcome);
    }
    // Before its files are read: they would be those of the run before.
    make_way(&context.home, entry, manifest.continues.as_ref(), manifest.workbench_name())?;
    let remains = Remains::read(context, entry, manifest, placed, Source::Abandoned)?;
    let mut outcome = Outcome::new(manifest, remains.started.as_ref(), remains.ending(manifest, UnixSeconds::now()));
    let Remains { started, exit, verification, summary, question, .. } = remains;
    if manifest.may_have_started(started.as_ref()) && started.is_none() && outcome.status != Status::Lost {
        // The earliest that it can be: without any, the run would count as one that cost nothing.
        outcome.started_at = Some(manifest.triggered.at);
    }
    outcome.job.clone_from(&placed.job);
    outcome.set_work(examine(context, outcome.workbench_name(), &manifest.cookie));
    let workbench = manifest.workbench(&context.home);
    let facts = Facts {
        exit: exit.unwrap_or_default(),
        summary: summary.as_ref(),
        asks: question.is_some(),
        verification: verification.as_ref(),
        has_report: read_report(&workbench).is_some(),
        report_was_asked: manifest.asks_for_report,
    };
    add_evidence(&mut outcome, facts);
    outcome.question = question.filter(|_| outcome.status == Status::Asked);
    outcome.set_said(summary, &manifest.command, &workbench);
    record(context, entry, &outcome, Attempt::First)?;
    Ok(outcome)
}

/// Notes in an outcome that its supervisor wrote how Slurm saw the job's end, if it did not end well; returns whether it noted it.
fn note_job_state(outcome: &mut Outcome, placed: &Placed) -> bool {
    let state = placed.job.as_ref().and_then(|job| job.state.clone()).filter(|_| placed.end.is_some());
    match &mut outcome.job {
        // The reason of one that met its usage limit is complete, and is not completed once more.
        Some(job) if state.is_some() && job.state.is_none() && outcome.status != Status::Limited => {
            if outcome.status == Status::Interrupted
                && let (Some(reason), Some(state)) = (&mut outcome.reason, &state)
            {
                reason.push_str(&format!("; Slurm says {state}"));
            }
            job.state = state;
            true
        }
        _ => false,
    }
}

/// Returns the outcome that a dead run's supervisor wrote before it could remove the entry, and whether all of it is believed as it is
/// written: it may be the agent's own.
///
/// # Errors
/// There is one, or a verification on record, that cannot be read now.
pub fn outcome_left_behind(
    home: &Home,
    entry: &Entry,
    manifest: &Manifest,
) -> Result<Option<(Outcome, bool)>, RecordError> {
    let Some(mut outcome) = written_outcome(&manifest.workbench(home), entry.id(), &manifest.cookie)? else {
        return Ok(None);
    };
    let verification = atomic_file::unless_damaged(entry.verified())?;
    // This is a command that a person types.
    let summary = outcome.output.take();
    // It lies about itself alone, and about no other workbench.
    outcome.agent.clone_from(&manifest.command.agent);
    outcome.continues.clone_from(&manifest.continues);
    outcome.workbench.clone_from(&manifest.workbench);
    // Another run may be kept away from this node.
    outcome.job = atomic_file::unless_damaged(entry.supervisor_on_node())?.and_then(|taken| taken.job);
    outcome.set_said(summary, &manifest.command, &manifest.workbench(home));
    let was_false = believe_only(&mut outcome, manifest.verify.is_some(), verification.as_ref());
    Ok(Some((outcome, !was_false)))
}
