//! A run as tools and commands show it.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::question_view::QuestionView;
use crate::agent::output::Summary;
use crate::clock::UnixSeconds;
use crate::engine::slurm::Slurm;
use crate::git::Work;
use crate::home::Home;
use crate::process_tree::names;
use crate::routine::bounds::Bounds;
use crate::run::context::Context;
use crate::run::continuation::{after, is_continued};
use crate::run::disagreement::Disagreement;
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, Liveness};
use crate::run::outcome_file::read_outcome;
use crate::run::pin::is_pinned;
use crate::run::record::{EndRequest, Origin, Outcome, RecordError, SlurmJob};
use crate::run::recording::outcome_left_behind;
use crate::run::report::Report;
use crate::run::retention;
use crate::run::status::Status;
use crate::run::workbench::Workbench;
use crate::session::HostKind;

/// What is known of one run.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// The run's id.
    pub id: RunId,
    /// The routine it is a run of.
    pub routine: String,
    /// How it is, or how it ended.
    pub status: Status,
    /// How it ended, where its workbench is gone: a status.
    #[schemars(with = "Option<String>")]
    pub outcome: Option<Status>,
    /// Why, in words.
    pub status_reason: Option<String>,
    /// The agent's exit status.
    pub exit_code: Option<i32>,
    /// The signal that ended the agent.
    pub signal: Option<i32>,
    /// Whether the check passed that a person set for it; absent where none was made.
    pub verified: Option<bool>,
    /// Which facts contradict its agent's good end; status_reason has the words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disagreements: Vec<Disagreement>,
    /// What started it, if nobody asked for it.
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub origin: Option<Origin>,
    /// The run that it goes on from, in the same workbench.
    pub continues: Option<RunId>,
    /// The run that goes on from it.
    pub continued_by: Option<RunId>,
    /// When it was triggered.
    pub triggered_at: UnixSeconds,
    /// When its agent started.
    pub started_at: Option<UnixSeconds>,
    /// When it ended.
    pub finished_at: Option<UnixSeconds>,
    /// Seconds from its start to its end, or to now.
    pub duration_secs: Option<u64>,
    /// The agent's working directory.
    pub workbench: String,
    /// The name of its session.
    pub session: String,
    /// Where it can be watched.
    pub session_host: HostKind,
    /// Its job on Slurm, if it is one: id, node, partition, state.
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub job: Option<SlurmJob>,
    /// The command that shows it while it runs; without a window on Slurm, one that opens a shell beside it.
    pub attach_command: Option<String>,
    /// The file of everything that the agent printed.
    pub log_path: String,
    /// Its size.
    pub log_bytes: u64,
    /// From when on a sweep removes its workbench, if nothing else keeps it and disk does not get short before.
    pub reap_at: Option<UnixSeconds>,
    /// Why no sweep removes it, if none does.
    pub kept_because: Option<String>,
    /// The end of its output, where its workbench is gone and it was asked for alone.
    pub last_output: Option<String>,
    /// What each repository of its workbench held at its end that no remote had; in a list, the unsaved ones in brief.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub work: Vec<Work>,
    /// What its agent reported, as data; in brief in a list.
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub output: Option<Summary>,
    /// What it asks a person, and what became of that.
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub question: Option<QuestionView>,
    /// What its agent says that it did, as data; in brief in a list.
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub report: Option<Report>,
    /// The command with which a person continues its session.
    pub resume_command: Option<String>,
    /// Whether it is kept until it is unpinned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

impl RunView {
    /// Shows a run that has an entry.
    pub fn of_unfinished(context: &Context, assessment: &Assessment) -> Self {
        let entry = &assessment.entry;
        let mut view = Self::empty(context, entry.id());
        let unreadable = match outcome_of(context, assessment) {
            Ok(Some(outcome)) => {
                view.set_outcome(&context.home, outcome, true);
                return view;
            }
            Ok(None) => None,
            Err(error) => Some(error.to_string()),
        };
        let started = entry.started().ok().flatten();
        let request = entry.end_request().ok().flatten().or_else(|| context.unwritten_ends.of(entry.id()));
        let now = UnixSeconds::now();
        if let Ok(manifest) = &assessment.manifest {
            view.triggered_at = manifest.triggered.at;
            view.session_host = manifest.session_host;
            view.origin = unasked(manifest.origin.clone());
            view.continues.clone_from(&manifest.continues);
        }
        view.job.clone_from(&assessment.placed.job);
        view.started_at = started.as_ref().map(|started| started.at);
        (view.status, view.status_reason, view.finished_at) = match unreadable {
            Some(reason) => (Status::Unknown, Some(reason), None),
            None => status_of(context, assessment, started.is_some(), request.as_ref(), now),
        };
        if let Err(error) = &assessment.manifest
            && view.status_reason.is_none()
            && entry.exists()
        {
            // Only its supervisor knows what it was.
            view.status_reason = Some(error.to_string());
        }
        view.duration_secs = view.started_at.map(|from| from.age_secs_at(view.finished_at.unwrap_or(now)));
        if view.finished_at.is_none() {
            if view.session_host.has_windows() && entry.window_problem().is_none() {
                view.attach_command = context.session_host.attach_command(&view.session);
            }
            view.attach_command = view.attach_command.take().or_else(|| view.shell_command());
            view.kept_because = Some(match view.status {
                Status::Unknown => "its state is unknown".to_owned(),
                _ => "it is alive".to_owned(),
            });
        }
        view
    }

    /// Records why no sweep removes it.
    pub(super) fn keep(&mut self, reason: String) {
        self.reap_at = None;
        self.kept_because = Some(reason);
    }

    /// Shows a run without an entry: a finished one, or a workbench that another program made.
    pub fn of_finished(context: &Context, id: &RunId, bounds: &Bounds) -> Self {
        let workbench = Workbench::of(&context.home, id);
        let mut view = Self::empty(context, id);
        match recorded_outcome(context, id) {
            Ok(outcome) => {
                view.reap_from(Some(outcome.retain_from), None, bounds.retention_secs(outcome.status.retention()));
                view.set_outcome(&context.home, outcome, true);
                if let Some(question) = view.question.as_mut().filter(|question| question.is_open()) {
                    question.expires_after_secs(bounds.answer_within_secs);
                    view.keep("it waits for an answer".to_owned());
                } else if let Some(at) = view.question.as_ref().and_then(|question| question.closed_at) {
                    view.reap_from(Some(at), None, bounds.retention_secs(view.status.retention()));
                }
            }
            Err(RecordError::File(error)) if error.is_not_found() => {
                let written = workbench.log_state().map(|(written, _)| written);
                view.reap_from(None, written, bounds.retention_secs(Status::Unknown.retention()));
                let reason = "it has neither an entry nor an outcome: another program made this workbench, or its entry was \
                              deleted by hand; a sweep that finds nothing alive in it goes by its age";
                view.status_reason = Some(reason.to_owned());
            }
            Err(error) => {
                view.status_reason = Some(error.to_string());
                view.keep(error.to_string());
            }
        }
        if let Some(next) = &view.continued_by {
            let reason = format!("the run {next} went on in its workbench");
            view.keep(reason);
        } else if view.pinned && view.kept_because.is_none() {
            view.keep("it is pinned".to_owned());
        }
        view
    }

    /// Shows a run that only the history has.
    pub fn of_reaped(context: &Context, outcome: Outcome) -> Self {
        let mut view = Self::empty(context, &outcome.id);
        view.outcome = Some(outcome.status);
        view.set_outcome(&context.home, outcome, false);
        // It leads into the workbench.
        view.resume_command = None;
        view.status = Status::Reaped;
        view
    }

    /// Leaves out what is long, for a list of many.
    pub fn in_brief(self) -> Self {
        Self {
            output: self.output.map(Summary::in_brief),
            question: self.question.map(QuestionView::in_brief),
            report: self.report.map(Report::in_brief),
            resume_command: None,
            ..self
        }
    }

    /// Returns the command that opens a shell beside it, on its node, if that is one of Slurm's.
    pub fn shell_command(&self) -> Option<String> {
        let SlurmJob { id, node: Some(_), .. } = self.job.as_ref()? else { return None };
        let shell = std::env::var("SHELL").ok();
        let is_live = matches!(self.status, Status::Preparing | Status::Running);
        is_live.then(|| Slurm::attach_command(id, Path::new(&self.workbench), shell.as_deref()))
    }

    /// Whether its attach command is that of a window.
    pub fn has_window_command(&self) -> bool {
        self.attach_command.is_some() && self.attach_command != self.shell_command()
    }

    /// Returns the status that it has or ended with: never `reaped`.
    pub fn own_status(&self) -> Status {
        self.outcome.unwrap_or(self.status)
    }

    fn empty(context: &Context, id: &RunId) -> Self {
        let workbench = Workbench::of(&context.home, id);
        Self {
            id: id.clone(),
            routine: id.routine().to_string(),
            status: Status::Unknown,
            outcome: None,
            status_reason: None,
            exit_code: None,
            signal: None,
            verified: None,
            disagreements: Vec::new(),
            origin: None,
            continues: None,
            continued_by: after(&context.home, id).ok().flatten().map(|next| next.run),
            triggered_at: id.stamp(),
            started_at: None,
            finished_at: None,
            duration_secs: None,
            workbench: workbench.directory().display().to_string(),
            session: id.session_name(),
            session_host: HostKind::Detached,
            job: None,
            attach_command: None,
            log_path: workbench.log().display().to_string(),
            log_bytes: workbench.log_state().map_or(0, |(_, bytes)| bytes),
            reap_at: None,
            kept_because: None,
            last_output: None,
            work: Vec::new(),
            output: None,
            question: None,
            report: None,
            resume_command: None,
            pinned: is_pinned(&context.home, &workbench),
        }
    }

    fn reap_from(&mut self, retain_from: Option<UnixSeconds>, log_written: Option<UnixSeconds>, retention_secs: u64) {
        let finish = retention::finish(self.id.stamp(), retain_from, log_written, UnixSeconds::now());
        self.reap_at = Some(retention::reap_at(finish, retention_secs));
    }

    fn set_outcome(&mut self, home: &Home, outcome: Outcome, is_there: bool) {
        self.duration_secs = outcome.duration_secs();
        let asked_at = outcome.finished_at;
        let show = |question| QuestionView::of(home, &outcome.id, question, asked_at, is_there);
        self.question = outcome.question.map(show);
        self.status = outcome.status;
        self.status_reason = outcome.reason;
        self.exit_code = outcome.exit_code;
        self.signal = outcome.signal;
        self.verified = outcome.verified;
        self.disagreements = outcome.disagreements;
        self.origin = unasked(outcome.origin);
        self.continues = outcome.continues;
        self.triggered_at = outcome.triggered_at;
        self.started_at = outcome.started_at;
        self.finished_at = Some(outcome.finished_at);
        self.session_host = outcome.session_host;
        self.job = outcome.job;
        self.work = outcome.work;
        self.output = outcome.output;
        self.report = outcome.report;
        self.resume_command = outcome.resume_command;
    }
}

/// Returns the outcome of a finished run. Once another went on in its workbench, that run's agent may have changed what lies there.
///
/// # Errors
/// There is none, it is damaged, or newer than this program.
pub(super) fn recorded_outcome(context: &Context, id: &RunId) -> Result<Outcome, RecordError> {
    if is_continued(&context.home, id)
        && let Some(past) = context.history.find(&context.home, id)?
    {
        return Ok(past.outcome);
    }
    read_outcome(&Workbench::of(&context.home, id), id)
}

/// Returns the outcome of a run whose entry is still there, which the next judge removes.
pub(super) fn outcome_of(context: &Context, assessment: &Assessment) -> Result<Option<Outcome>, RecordError> {
    match (&assessment.liveness, &assessment.manifest) {
        (Liveness::Dead, Ok(manifest)) => {
            let left = outcome_left_behind(&context.home, &assessment.entry, manifest)?;
            Ok(left.map(|(outcome, _)| outcome))
        }
        _ => Ok(None),
    }
}

fn unasked(origin: Origin) -> Option<Origin> {
    (origin != Origin::Call).then_some(origin)
}

/// Returns the status of a run that has an entry, the reason, and when it ended if nothing of it is left.
fn status_of(
    context: &Context,
    assessment: &Assessment,
    is_started: bool,
    request: Option<&EndRequest>,
    now: UnixSeconds,
) -> (Status, Option<String>, Option<UnixSeconds>) {
    let live = match assessment.liveness {
        Liveness::Queued(_) => Status::Queued,
        _ if is_started => Status::Running,
        _ => Status::Preparing,
    };
    let reason = match (&assessment.liveness, request) {
        // What the next judge writes.
        (Liveness::Dead, _) => {
            return match assessment.ending(context, now) {
                Ok(ending) => (ending.status, ending.reason, Some(ending.finished_at)),
                Err(cause) => (Status::Unknown, Some(cause), None),
            };
        }
        (Liveness::Owned, None) => None,
        (Liveness::Queued(why), None) => Some(why.clone()),
        // While it runs, `job` says as much.
        (Liveness::Elsewhere(what), None) => assessment.placed.end.map(|_| what.clone()),
        (Liveness::Owned | Liveness::Judging(_) | Liveness::Queued(_) | Liveness::Elsewhere(_), Some(request)) => {
            Some(format!("it is being ended: {}", request.reason))
        }
        (Liveness::Unsupervised(left), None) => Some(format!("its supervisor is gone; alive: {}", names(left))),
        (Liveness::Unsupervised(left), Some(request)) => {
            Some(format!("it was ended ({}), but these processes survived: {}", request.reason, names(left)))
        }
        (Liveness::Unknown(cause) | Liveness::Judging(cause), _) => {
            return (Status::Unknown, Some(cause.clone()), None);
        }
    };
    (live, reason, None)
}
