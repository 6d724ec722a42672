//! Which runs can be continued.

#![allow(missing_docs, reason = "a field without a comment is what its name says")]

use super::{after, is_any_unfinished, runs_of, was_claimed};
use crate::agent::output::AskedQuestion;
use crate::agent::{Agent, is_session_id};
use crate::home::atomic_file::FileError;
use crate::process_tree::visitors;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::outcome_file::read_outcome;
use crate::run::record::{Outcome, RecordError};
use crate::run::status::Status;

/// A finished run in whose workbench another can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// As it is in the history.
    pub outcome: Outcome,
    /// The newest one before it whose agent started, where its own did not: what that said still holds.
    pub started: Option<Outcome>,
}

/// A run cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum NotContinuable {
    /// There is no such run.
    #[error("there is no run '{0}'; see them all with list_runs (moadim-mcp runs)")]
    NotFound(RunId),
    /// It is not over.
    #[error(
        "cannot continue run {0}: it is not over; wait for its end with wait_run, or end it with stop_run (moadim-mcp stop)"
    )]
    Unfinished(RunId),
    /// Another run continues it already.
    #[error("cannot continue run {run}: the run {next} continues it already; continue that one once it is over")]
    Continued {
        run: RunId,
        /// The one that does.
        next: RunId,
    },
    /// There is nothing to go on from.
    #[error("cannot continue run {run}: its agent never started ({status}); trigger its routine again")]
    NeverStarted { run: RunId, status: Status },
    /// What it did is gone.
    #[error("cannot continue run {0}: its workbench is gone; trigger its routine again")]
    Reaped(RunId),
    /// Somebody is at work there.
    #[error("cannot continue run {run}: {who} works in its workbench; leave it, and try again")]
    InUse {
        run: RunId,
        /// The process, with its pid.
        who: String,
    },
    /// Its workbench or the history does not say what can be relied on.
    #[error("cannot continue run {run}: {cause}")]
    Unknown { run: RunId, cause: RecordError },
    /// The history cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Predecessor {
    /// Returns the run that there is something to go on from.
    pub(crate) fn last_started(&self) -> &Outcome {
        self.started.as_ref().unwrap_or(&self.outcome)
    }

    /// Returns the session that an agent can go on with; `None` if it was another's, or the agent cannot.
    pub(crate) fn session_of(&self, agent: &Agent) -> Option<&str> {
        let before = self.last_started();
        let is_its_own = before.agent == agent.name.to_string() && agent.definition.can_continue();
        let session = before.output.as_ref().filter(|_| is_its_own)?.session_id.as_deref()?;
        is_session_id(session).then_some(session)
    }

    /// Returns what its agent asked with a tool of its own, which takes the answer as its result.
    pub(crate) fn asked_by_tool(&self) -> Option<&AskedQuestion> {
        let before = self.last_started();
        let asked = before.output.as_ref().filter(|_| before.status == Status::Asked)?.question.as_ref()?;
        (!asked.input.is_null()).then_some(asked)
    }

    /// Whether its agent goes on by itself once its tool has the answer.
    pub(crate) fn awaits_tool_result(&self) -> bool {
        self.asked_by_tool().is_some()
    }

    /// Finds what another attempt of a run goes on from: the newest run of its workbench, if it continued one itself; else each attempt
    /// begins with nothing.
    ///
    /// # Errors
    /// That run cannot be continued.
    pub(crate) fn of_attempt(context: &Context, first: &RunId) -> Result<Option<Self>, NotContinuable> {
        let Some(past) = context.history.find(&context.home, first)? else { return Ok(None) };
        if past.outcome.continues.is_none() {
            return Ok(None);
        }
        let runs = runs_of(&context.home, past.outcome.workbench_name());
        let runs = runs.map_err(|cause| NotContinuable::Unknown { run: first.clone(), cause })?;
        let newest = Self::find(context, runs.last().unwrap_or(first))?;
        let outcome = &newest.outcome;
        if outcome.origin.attempt_of(&outcome.id).0 == first {
            Ok(Some(newest))
        } else {
            // Somebody had it go on since with something else.
            Err(NotContinuable::Continued { run: first.clone(), next: outcome.id.clone() })
        }
    }

    /// Finds a run that can be continued.
    ///
    /// # Errors
    /// There is none, or it cannot be.
    pub(crate) fn find(context: &Context, run: &RunId) -> Result<Self, NotContinuable> {
        let home = &context.home;
        let unknown = |cause: RecordError| NotContinuable::Unknown { run: run.clone(), cause };
        if Entry::of(home, run).exists() {
            return Err(NotContinuable::Unfinished(run.clone()));
        }
        let past = context.history.find(home, run)?.ok_or_else(|| NotContinuable::NotFound(run.clone()))?;
        let outcome = past.outcome;
        let started = if outcome.started_at.is_none() { last_started_before(context, &outcome)? } else { None };
        let predecessor = Self { outcome, started };
        if let Some(next) = after(home, run).map_err(unknown)?.filter(|next| was_claimed(context, &next.run)) {
            return Err(NotContinuable::Continued { run: run.clone(), next: next.run });
        }
        let workbench = predecessor.outcome.workbench(home);
        if !workbench.exists() {
            return Err(NotContinuable::Reaped(run.clone()));
        }
        if predecessor.last_started().started_at.is_none() {
            let status = predecessor.outcome.status;
            return Err(NotContinuable::NeverStarted { run: run.clone(), status });
        }
        if is_any_unfinished(home, predecessor.outcome.workbench_name()) {
            return Err(NotContinuable::Unfinished(run.clone()));
        }
        // That of the newest run is there; a file that says something else is not ours.
        read_outcome(&workbench, run).map_err(unknown)?;
        let visitors = visitors(workbench.directory());
        if let Some(visitor) = visitors.iter().find(|visitor| visitor.is_working_directory) {
            let who = format!("{} ({})", visitor.name, visitor.pid);
            return Err(NotContinuable::InUse { run: run.clone(), who });
        }
        Ok(predecessor)
    }
}

/// Finds the newest of the runs that a run continues whose agent started.
fn last_started_before(context: &Context, outcome: &Outcome) -> Result<Option<Outcome>, FileError> {
    let mut before = outcome.continues.clone().filter(|before| *before < outcome.id);
    while let Some(run) = before {
        let Some(past) = context.history.find(&context.home, &run)? else { return Ok(None) };
        if past.outcome.started_at.is_some() {
            return Ok(Some(past.outcome));
        }
        before = past.outcome.continues.filter(|before| *before < run);
    }
    Ok(None)
}
