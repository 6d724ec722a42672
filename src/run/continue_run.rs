//! Going on where a run ended: the run that does is planned, claimed and started like any other, in the workbench of the run before.

#![allow(missing_docs, reason = "a field without a comment is what its name says")]

use std::time::Instant;

use super::claim::{Claim, ClaimError};
use super::context::Context;
use super::continuation::predecessor::{NotContinuable, Predecessor};
use super::id::RunId;
use super::launch::LaunchError;
use super::prompt::Occasion;
use super::record::{Origin, RecordError};
use super::trigger::{LEAST_LAUNCH, Plan, TriggerError};
use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::routine::store::ROUTINES_LOCK_TIMEOUT;

/// A run was not continued.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// It cannot be.
    #[error(transparent)]
    NotContinuable(#[from] NotContinuable),
    /// It could not be started.
    #[error(transparent)]
    Trigger(TriggerError),
    /// What became of its question cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<TriggerError> for ContinueError {
    fn from(error: TriggerError) -> Self {
        match error {
            TriggerError::NotContinuable(error) | TriggerError::Claim(ClaimError::NotContinuable(error)) => {
                error.into()
            }
            error => Self::Trigger(error),
        }
    }
}

/// A run that goes on, claimed and not started yet.
#[derive(Debug)]
pub(super) struct Claimed {
    plan: Plan,
    claim: Claim,
}

/// Reads what the run is made of that goes on from another; nothing is written.
///
/// # Errors
/// As of a trigger.
pub(super) fn plan(context: &Context, before: Predecessor, text: String) -> Result<Plan, ContinueError> {
    let routine = before.outcome.id.routine().clone();
    let occasion = Occasion { origin: Origin::Call, text: Some(text), continues: Some(Box::new(before)) };
    Ok(Plan::read(context, &routine, occasion, Instant::now())?)
}

/// Makes sure that a run which was planned is within its day's budget.
pub(super) fn check_budget(context: &Context, plan: &Plan, now: UnixSeconds) -> Result<(), ContinueError> {
    Ok(plan.check_budget(context, now)?)
}

/// Claims the run that goes on from `run`, so that it can be started until `deadline`. From then on a sweep leaves the workbench alone.
///
/// # Errors
/// Nothing was claimed: somebody else continues it, works there, or has removed it.
pub(super) fn claim(
    context: &Context,
    plan: Plan,
    run: &RunId,
    triggered: &Moment,
    deadline: Instant,
) -> Result<Claimed, ContinueError> {
    let lock = FileLock::acquire(&context.home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT);
    let lock = lock.map_err(TriggerError::from)?;
    plan.check_unchanged(context)?;
    // Somebody may have continued it, or come to work there.
    Predecessor::find(context, run)?;
    if Instant::now() + LEAST_LAUNCH > deadline {
        return Err(ContinueError::Trigger(TriggerError::HeldUp { secs: triggered.elapsed_secs_at(&Moment::now()) }));
    }
    let claim = plan.claim_locked(context, triggered)?;
    drop(lock);
    Ok(Claimed { plan, claim })
}

impl Claimed {
    pub(super) fn run(&self) -> &RunId {
        self.claim.entry.id()
    }

    /// Starts it, and returns when its agent has really been started.
    ///
    /// # Errors
    /// Why it was not, until `deadline`. The run is then recorded with the reason.
    pub(super) fn start(self, context: &Context, deadline: Instant) -> Result<RunId, TriggerError> {
        self.plan.start(context, self.claim, deadline)
    }

    /// Starts it without anybody waiting for it.
    pub(super) fn start_in_background(self, context: &Context, deadline: Instant) {
        let (context, run) = (context.clone(), self.run().clone());
        let start = move || match self.start(&context, deadline) {
            Ok(run) => tracing::info!(%run, "it goes on with an answer"),
            Err(TriggerError::Launch(LaunchError { run, reason, .. })) => {
                tracing::warn!(%run, reason, "it did not start")
            }
            Err(error) => tracing::warn!(%error, "a run does not go on with its answer yet"),
        };
        // Without a thread the claim's lock is released, and the next watchdog pass records the run as `launch_failed`.
        if let Err(error) = std::thread::Builder::new().name("answer".into()).spawn(start) {
            tracing::warn!(%run, %error, "no thread left to launch a run");
        }
    }
}
