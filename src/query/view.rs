//! A run as everybody is shown it: the tools and the commands alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::process_tree::names;
use crate::routine::bounds::Bounds;
use crate::run::context::Context;
use crate::run::entry::Workbench;
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, Liveness};
use crate::run::pin::is_pinned;
use crate::run::record::{EndRequest, Origin, Outcome, RecordError, Started};
use crate::run::recording::{read_outcome, written_outcome};
use crate::run::retention;
use crate::run::status::Status;
use crate::session::HostKind;

/// What is known of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// The run's id.
    pub id: RunId,
    /// The routine it is a run of.
    pub routine: String,
    /// How it is, or how it ended.
    pub status: Status,
    /// How it ended, where its workbench is gone: a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub outcome: Option<Status>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// The agent's exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What started it, if nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub origin: Option<Origin>,
    /// When it was triggered.
    pub triggered_at: UnixSeconds,
    /// When its agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UnixSeconds>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<UnixSeconds>,
    /// Seconds from its start to its end, or to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_secs: Option<u64>,
    /// The agent's working directory.
    pub workbench: String,
    /// The name of its session.
    pub session: String,
    /// Where it can be watched.
    pub session_host: HostKind,
    /// The command that shows it while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_command: Option<String>,
    /// The file of everything that the agent printed.
    pub log_path: String,
    /// Its size.
    pub log_bytes: u64,
    /// From when on a sweep removes its workbench, if nothing else keeps it and disk does not get short before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reap_at: Option<UnixSeconds>,
    /// Why no sweep removes it, if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_because: Option<String>,
    /// The end of its output, where its workbench is gone and it was asked for alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_output: Option<String>,
    /// Whether it is kept until it is unpinned.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pinned: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl RunView {
    /// Shows an unfinished run.
    #[must_use]
    pub fn of_unfinished(context: &Context, assessment: &Assessment) -> Self {
        let entry = &assessment.entry;
        let outcome = outcome_of(context, assessment);
        if let Ok(Some(outcome)) = outcome {
            let mut view = Self::empty(context, entry.id());
            view.tell(outcome);
            return view;
        }
        let started = entry.started().ok().flatten();
        let request = entry.end_request().ok().flatten().or_else(|| context.unwritten_ends.of(entry.id()));
        let workbench = Workbench::of(&context.home, entry.id());
        let now = UnixSeconds::now();
        let mut view = Self::empty(context, entry.id());
        if let Ok(manifest) = &assessment.manifest {
            view.triggered_at = manifest.triggered.at;
            view.session_host = manifest.session_host;
            view.origin = unasked(manifest.origin.clone());
        }
        view.started_at = started.as_ref().map(|started| started.at);
        let last_output = workbench.last_output_or(view.triggered_at);
        let state = match outcome {
            Ok(_) => State::of(assessment, started.as_ref(), request.as_ref(), last_output, now),
            Err(error) => State { status: Status::Unknown, reason: Some(error.to_string()), finished_at: None },
        };
        (view.status, view.status_reason) = (state.status, state.reason);
        if let Err(error) = &assessment.manifest
            && view.status_reason.is_none()
            && entry.exists()
        {
            // Its supervisor knows what it was, and nobody else does.
            view.status_reason = Some(error.to_string());
        }
        view.finished_at = state.finished_at;
        view.duration_secs = view.started_at.map(|from| from.age_secs_at(view.finished_at.unwrap_or(now)));
        if state.finished_at.is_none() {
            if view.session_host.has_windows() && entry.window_problem().is_none() {
                view.attach_command = context.session_host.attach_command(&view.session);
            }
            view.kept_because = Some(match view.status {
                Status::Unknown => "nothing certain is known of it".to_owned(),
                _ => "it is alive".to_owned(),
            });
        }
        view
    }

    /// Notes that no sweep removes it, and why.
    pub(super) fn keep(&mut self, reason: String) {
        self.reap_at = None;
        self.kept_because = Some(reason);
    }

    /// Shows a run without an entry: a finished one, or a workbench that somebody else made.
    #[must_use]
    pub fn of_finished(context: &Context, id: &RunId, bounds: &Bounds) -> Self {
        let workbench = Workbench::of(&context.home, id);
        let mut view = Self::empty(context, id);
        match read_outcome(&workbench, id) {
            Ok(outcome) => {
                view.reap_from(Some(outcome.retain_from), None, bounds.retention_secs(outcome.status.retention()));
                view.tell(outcome);
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
        if view.pinned && view.kept_because.is_none() {
            view.keep("it is pinned".to_owned());
        }
        view
    }

    /// Shows a run that only the history tells of.
    #[must_use]
    pub fn of_reaped(context: &Context, outcome: Outcome) -> Self {
        let mut view = Self::empty(context, &outcome.id);
        view.outcome = Some(outcome.status);
        view.tell(outcome);
        view.status = Status::Reaped;
        view
    }

    /// Returns how it is, or how it ended, also where its workbench is gone.
    #[must_use]
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
            origin: None,
            triggered_at: id.stamp(),
            started_at: None,
            finished_at: None,
            duration_secs: None,
            workbench: workbench.directory().display().to_string(),
            session: id.session_name(),
            session_host: HostKind::Detached,
            attach_command: None,
            log_path: workbench.log().display().to_string(),
            log_bytes: workbench.log_state().map_or(0, |(_, bytes)| bytes),
            reap_at: None,
            kept_because: None,
            last_output: None,
            pinned: is_pinned(&context.home, id),
        }
    }

    fn reap_from(&mut self, retain_from: Option<UnixSeconds>, log_written: Option<UnixSeconds>, retention_secs: u64) {
        let finish = retention::finish(self.id.stamp(), retain_from, log_written, UnixSeconds::now());
        self.reap_at = Some(retention::reap_at(finish, retention_secs));
    }

    fn tell(&mut self, outcome: Outcome) {
        self.status = outcome.status;
        self.status_reason = outcome.reason;
        self.exit_code = outcome.exit_code;
        self.signal = outcome.signal;
        self.origin = unasked(outcome.origin);
        self.triggered_at = outcome.triggered_at;
        self.started_at = outcome.started_at;
        self.finished_at = Some(outcome.finished_at);
        self.duration_secs = outcome.started_at.map(|from| from.age_secs_at(outcome.finished_at));
        self.session_host = outcome.session_host;
    }
}

/// Returns the outcome of a run of which only the entry is left, which the next judge puts away.
///
/// # Errors
/// There is one that cannot be read.
pub(super) fn outcome_of(context: &Context, assessment: &Assessment) -> Result<Option<Outcome>, RecordError> {
    match (&assessment.liveness, &assessment.manifest) {
        (Liveness::Dead, Ok(manifest)) => written_outcome(&context.home, assessment.entry.id(), &manifest.cookie),
        _ => Ok(None),
    }
}

fn unasked(origin: Origin) -> Option<Origin> {
    (origin != Origin::Call).then_some(origin)
}

/// How an unfinished run is.
struct State {
    status: Status,
    reason: Option<String>,
    finished_at: Option<UnixSeconds>,
}

impl State {
    fn of(
        assessment: &Assessment,
        started: Option<&Started>,
        request: Option<&EndRequest>,
        last_output: UnixSeconds,
        now: UnixSeconds,
    ) -> Self {
        let alive = if started.is_some() { Status::Running } else { Status::Preparing };
        let unfinished = |status, reason| Self { status, reason, finished_at: None };
        match (&assessment.liveness, request) {
            (Liveness::Owned, None) => unfinished(alive, None),
            (Liveness::Owned, Some(request)) => {
                unfinished(alive, Some(format!("it is being ended: {}", request.reason)))
            }
            (Liveness::Unsupervised(left), None) => {
                unfinished(alive, Some(format!("its supervisor is gone; alive: {}", names(left))))
            }
            (Liveness::Unsupervised(left), Some(request)) => {
                unfinished(alive, Some(format!("it was ended ({}), and survived: {}", request.reason, names(left))))
            }
            (Liveness::Judging(_), Some(request)) => {
                unfinished(alive, Some(format!("it is being ended: {}", request.reason)))
            }
            (Liveness::Unknown(cause) | Liveness::Judging(cause), _) => {
                unfinished(Status::Unknown, Some(cause.clone()))
            }
            // What the next judge will write.
            (Liveness::Dead, _) => {
                let ending = assessment.abandoned_ending(request, last_output, now);
                Self { status: ending.status, reason: ending.reason, finished_at: Some(ending.finished_at) }
            }
        }
    }
}
