//! Going on where a run ended: with the answer to its question, or with more to do.

#![allow(missing_docs, reason = "a field without a comment is what its name says")]

use std::time::{Duration, Instant};

use super::claim::{Claim, ClaimError};
use super::context::Context;
use super::continuation;
use super::continuation::predecessor::{NotContinuable, Predecessor, was_claimed};
use super::id::RunId;
use super::prompt::Occasion;
use super::question::settle::settle;
use super::question::state::{self, Close, QuestionState};
use super::record::{Origin, RecordError};
use super::status::Status;
use super::trigger::{Plan, TRIGGER_TIMEOUT, TriggerError};
use super::workbench::Workbench;
use crate::agent::LOGIN_SHELL_TIMEOUT;
use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::routine::store::{ROUTINES_LOCK_TIMEOUT, StoreError};

/// A run was not continued, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// It cannot be.
    #[error(transparent)]
    NotContinuable(#[from] NotContinuable),
    /// Somebody closed its question before.
    #[error("the question of run {run} was {state} at {at} ({by}){next}")]
    Closed {
        run: RunId,
        /// How.
        state: &'static str,
        at: UnixSeconds,
        by: String,
        /// What to do, as the end of the sentence.
        next: String,
    },
    /// It has no question.
    #[error("run {run} asks nothing: it is {status}; show_run and list_runs say which runs ask")]
    AsksNothing { run: RunId, status: Status },
    /// The answer is kept, and nothing could go on with it yet.
    #[error("the answer to run {run} is kept, and it goes on as soon as it can: {cause}")]
    Postponed {
        run: RunId,
        /// Why.
        cause: Box<TriggerError>,
    },
    /// It could not be started.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// What became of its question cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<ClaimError> for ContinueError {
    fn from(error: ClaimError) -> Self {
        TriggerError::from(error).into()
    }
}

/// More for a run that is over.
#[derive(Debug, Clone)]
pub struct Request {
    pub run: RunId,
    /// The answer to its question, or what it should do.
    pub text: String,
    /// Who says so, and how.
    pub by: String,
    /// When it was asked for.
    pub asked: Instant,
}

/// How long a sweep that finds a workbench in use takes at most to put it back.
const PUT_BACK_TIMEOUT: Duration = Duration::from_secs(2);
const PUT_BACK_PAUSE: Duration = Duration::from_millis(10);

/// Answers the question of a run, and starts the run that goes on with it; or continues one that asked nothing. Returns the new run,
/// within 5 s of when it was asked for.
///
/// # Errors
/// Why it was not continued. An answer that was taken stays, and a janitor goes on with it.
pub fn continue_run(context: &Context, request: Request) -> Result<RunId, ContinueError> {
    let Request { run, text, by, asked } = request;
    let (triggered, deadline) = (Moment::now(), asked + TRIGGER_TIMEOUT);
    let before = Predecessor::find(context, &run).map_err(|error| refused(context, &run, error))?;
    let is_asked = before.outcome.status == Status::Asked;
    let closed = if is_asked { state::read_close(&context.home, &run)? } else { None };
    if let Some(close) = closed.as_ref().filter(|close| close.state == QuestionState::Answered) {
        return Err(was_closed(context, close));
    }
    let plan = plan(context, before, text.clone())?;
    let answer = Close::now(&run, QuestionState::Answered, Some(text), &by);
    let is_answer = is_asked && closed.is_none();
    if is_answer {
        // What is known to keep it from going on is better known before the question is closed.
        plan.check_budget(context, triggered.at)?;
        if !state::close(&context.home, &answer)? {
            let close = state::read_close(&context.home, &run)?;
            return Err(was_closed(context, close.as_ref().unwrap_or(&answer)));
        }
    }
    let claim = match claim(context, &plan, &run, &triggered) {
        Ok(claim) => claim,
        // A janitor may have seen the answer, and been faster.
        Err(error) if is_answer => return next_of(context, &run)?.ok_or_else(|| postponed(run, error)),
        Err(error) => return Err(error),
    };
    if is_answer && let Err(error) = settle(context, &answer) {
        tracing::warn!(%run, %error, "the answer is not in the history yet; a janitor sees to it");
    }
    Ok(plan.start(context, claim, deadline)?)
}

/// Decides that nothing follows from the question of a run.
///
/// # Errors
/// It asks nothing, or its question was closed before.
pub fn dismiss(context: &Context, run: &RunId, by: &str) -> Result<Close, ContinueError> {
    let past = context.history.find(&context.home, run)?.ok_or_else(|| NotContinuable::NotFound(run.clone()))?;
    if past.outcome.status != Status::Asked {
        return Err(ContinueError::AsksNothing { run: run.clone(), status: past.outcome.status });
    }
    let close = Close::now(run, QuestionState::Dismissed, None, by);
    if !state::close(&context.home, &close)? {
        let earlier = state::read_close(&context.home, run)?;
        return Err(was_closed(context, earlier.as_ref().unwrap_or(&close)));
    }
    if let Err(error) = settle(context, &close) {
        tracing::warn!(%run, %error, "the dismissal is not in the history yet; a janitor sees to it");
    }
    Ok(close)
}

/// Says who answered a run that cannot be answered because another goes on with that.
fn refused(context: &Context, run: &RunId, error: NotContinuable) -> ContinueError {
    match (&error, state::read_close(&context.home, run)) {
        (NotContinuable::Continued { .. }, Ok(Some(close))) if close.state == QuestionState::Answered => {
            was_closed(context, &close)
        }
        _ => error.into(),
    }
}

fn postponed(run: RunId, error: ContinueError) -> ContinueError {
    match error {
        ContinueError::Trigger(cause) => ContinueError::Postponed { run, cause: Box::new(cause) },
        ContinueError::NotContinuable(cause) => ContinueError::Postponed { run, cause: Box::new(cause.into()) },
        error => error,
    }
}

fn was_closed(context: &Context, Close { run, state, by, at, .. }: &Close) -> ContinueError {
    let (state, next) = match state {
        QuestionState::Answered | QuestionState::Open => {
            let next = next_of(context, run).ok().flatten();
            let next = next.map_or_else(
                || "; see which run goes on with list_runs".to_owned(),
                |next| format!("; the run {next} goes on with that; continue that one once it is over"),
            );
            ("answered", next)
        }
        QuestionState::Dismissed => {
            ("dismissed", format!("; continue it all the same with continue_run (moadim-mcp answer {run})"))
        }
        QuestionState::Expired => ("closed unanswered", String::new()),
    };
    ContinueError::Closed { run: run.clone(), state, at: *at, by: by.clone(), next }
}

/// Goes on with an answer for which no run was claimed, because a process died before that, or something kept it from it. The launch
/// goes on in the background.
///
/// # Errors
/// Something keeps it from going on still.
pub(super) fn go_on_with_answer(context: &Context, answer: &Close) -> Result<(), ContinueError> {
    match start_with_answer(context, answer) {
        // Another process was faster.
        Err(_) if next_of(context, &answer.run)?.is_some() => Ok(()),
        done => done,
    }
}

fn start_with_answer(context: &Context, answer: &Close) -> Result<(), ContinueError> {
    let run = &answer.run;
    if next_of(context, run)?.is_some() {
        return Ok(());
    }
    let before = match Predecessor::find(context, run) {
        Ok(before) => before,
        // Nothing can ever go on with it.
        Err(NotContinuable::Reaped(_) | NotContinuable::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let plan = match plan(context, before, answer.text.clone().unwrap_or_default()) {
        // Neither here.
        Err(TriggerError::Routine(StoreError::NotFound { .. })) => return Ok(()),
        plan => plan?,
    };
    let claim = claim(context, &plan, run, &Moment::now())?;
    let (context, next) = (context.clone(), claim.entry.id().clone());
    let launch = move || match plan.start(&context, claim, Instant::now() + LOGIN_SHELL_TIMEOUT) {
        Ok(run) => tracing::info!(%run, "an answer is gone on with"),
        // The run is recorded with the reason.
        Err(error) => tracing::warn!(%error, "an answer could not be gone on with"),
    };
    // Without a thread the claim's lock is released, and the next watchdog pass records the run as `launch_failed`.
    if let Err(error) = std::thread::Builder::new().name("answer".into()).spawn(launch) {
        tracing::warn!(run = %next, %error, "no thread left to launch a run");
    }
    Ok(())
}

/// Returns the run that continues another, if one was claimed.
fn next_of(context: &Context, run: &RunId) -> Result<Option<RunId>, RecordError> {
    let next = continuation::after(&context.home, run)?.map(|next| next.run);
    Ok(next.filter(|next| was_claimed(context, next)))
}

fn plan(context: &Context, before: Predecessor, text: String) -> Result<Plan, TriggerError> {
    let routine = before.outcome.id.routine().clone();
    let occasion = Occasion { origin: Origin::Call, text: Some(text), continues: Some(Box::new(before)) };
    Plan::read(context, &routine, occasion, Instant::now())
}

/// Claims the run that goes on. From then on a sweep leaves the workbench alone.
fn claim(context: &Context, plan: &Plan, run: &RunId, triggered: &Moment) -> Result<Claim, ContinueError> {
    let lock = FileLock::acquire(&context.home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT);
    let lock = lock.map_err(TriggerError::from)?;
    plan.check_unchanged(context)?;
    // Somebody may have continued it, or come to work there.
    let before = Predecessor::find(context, run)?;
    let claim = plan.claim_locked(context, triggered)?;
    drop(lock);
    // A sweep may have moved it away right before that, and puts it back if it sees the claim.
    let workbench = before.outcome.workbench(&context.home);
    wait_for(&workbench);
    if workbench.exists() { Ok(claim) } else { Err(take_back(context, &claim, run)?) }
}

/// Undoes a claim that came after a sweep's last look: what it was to go on with is gone.
fn take_back(context: &Context, claim: &Claim, run: &RunId) -> Result<ContinueError, ContinueError> {
    let lock = FileLock::acquire(&context.home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT);
    let _lock = lock.map_err(TriggerError::from)?;
    claim.entry.dispose(&context.home)?;
    continuation::withdraw(&context.home, claim.entry.id(), run)?;
    Ok(NotContinuable::Reaped(run.clone()).into())
}

fn wait_for(workbench: &Workbench) {
    let until = Instant::now() + PUT_BACK_TIMEOUT;
    while !workbench.exists() && Instant::now() < until {
        std::thread::sleep(PUT_BACK_PAUSE);
    }
}
