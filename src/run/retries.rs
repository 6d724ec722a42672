//! What the end of a run means for its routine: another attempt, or one failure more in a row.

use super::context::Context;
use super::record::{Origin, Outcome};
use super::status::Streak;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::routine::edit;
use crate::routine::ledger::{Fire, Ledger, Waiting};
use crate::routine::model::Definition;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};

/// The routine's ledger could not be kept; the recording of the end is repeated.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// Another process holds the routines and does not let go.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Draws the consequences of a run's end, once however often it is called for it.
///
/// A routine or a ledger that cannot be read is left alone: whoever mends it finds nothing counted, and nothing started.
///
/// # Errors
/// The routines are locked, or the disk is full: the recording is to be repeated.
pub fn settle(context: &Context, outcome: &Outcome) -> Result<(), RetryError> {
    let (home, slug) = (&context.home, outcome.id.routine());
    // Most routines want nothing to follow, and their runs' ends need no lock.
    if !store::load(home, slug).is_ok_and(|routine| wants_any(&routine.definition)) {
        return Ok(());
    }
    let lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    let mut given_up = Vec::new();
    let settled = settle_locked(home, outcome, &mut given_up);
    drop(lock);
    for error in given_up {
        tracing::warn!(run = %outcome.id, %error);
    }
    Ok(settled?)
}

/// What is left out, because trying again would not help.
#[derive(Debug, thiserror::Error)]
enum GivenUp {
    #[error("nothing follows from its end, because its routine's ledger cannot be read: {0}")]
    Ledger(FileError),
    #[error("its routine could not be disabled: {0}")]
    Disabling(StoreError),
    #[error("what follows from its end is not on disk: {0}")]
    Keeping(FileError),
}

fn settle_locked(home: &Home, outcome: &Outcome, given_up: &mut Vec<GivenUp>) -> Result<(), FileError> {
    let slug = outcome.id.routine();
    let Ok(routine) = store::load(home, slug) else { return Ok(()) };
    let mut ledger = match Ledger::read(home, slug) {
        Ok(ledger) => ledger,
        Err(error) => {
            given_up.push(GivenUp::Ledger(error));
            return Ok(());
        }
    };
    if !ledger.count(&outcome.id.to_string()) {
        return Ok(());
    }
    let verdict = draw(&routine.definition, &mut ledger, outcome);
    // First the file: a reason beside an enabled routine would be taken for one that somebody has enabled again.
    let disabled = match verdict {
        Verdict::Keep => Ok(()),
        Verdict::Disable => match edit::set_enabled(home, slug, false) {
            Err(StoreError::File(error)) => Err(error),
            Err(error) => {
                given_up.push(GivenUp::Disabling(error));
                Ok(())
            }
            Ok(_) => Ok(()),
        },
    };
    match disabled.and_then(|()| ledger.write(home, slug)) {
        Err(error) if will_last(&error) => {
            given_up.push(GivenUp::Keeping(error));
            Ok(())
        }
        result => result,
    }
}

/// Tells whether trying again would change nothing, so that the run's end is not to wait for it.
fn will_last(error: &FileError) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    match error {
        FileError::Io { source, .. } => {
            matches!(source.kind(), NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
        }
        FileError::Damaged { .. } => true,
    }
}

fn wants_any(definition: &Definition) -> bool {
    definition.retry.is_some() || definition.max_consecutive_failures.is_some()
}

/// What is to become of the routine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Disable,
}

/// Changes the ledger as the end of a run demands.
fn draw(definition: &Definition, ledger: &mut Ledger, outcome: &Outcome) -> Verdict {
    if definition.enabled && ledger.disabled_because.is_some() {
        ledger.reset_failures();
    }
    match outcome.status.streak() {
        Streak::Reset => ledger.consecutive_failures = 0,
        Streak::Extend => ledger.consecutive_failures += 1,
        Streak::Keep => {}
    }
    let failures = ledger.consecutive_failures;
    let limit = definition.max_consecutive_failures.filter(|limit| failures >= *limit && definition.enabled);
    if let Some(limit) = limit {
        let reason = format!("{failures} runs in a row did not succeed, the last of them {}", outcome.id);
        ledger.disabled_because = Some(format!("{reason} (max_consecutive_failures = {limit})"));
        ledger.waiting = None;
        return Verdict::Disable;
    }
    // What waits already does the same work, and sooner.
    if ledger.waiting.is_none() {
        ledger.waiting = retry_of(definition, outcome);
    }
    Verdict::Keep
}

/// Returns the attempt that follows a run, if one does.
fn retry_of(definition: &Definition, outcome: &Outcome) -> Option<Waiting> {
    let retry = definition.retry.filter(|_| definition.enabled && outcome.status.is_retried())?;
    let (of, attempt) = match &outcome.origin {
        Origin::Retry { of, attempt } => (of, *attempt),
        Origin::Call | Origin::Schedule { .. } => (&outcome.id, 1),
    };
    let due = outcome.finished_at.plus_secs(retry.backoff_secs);
    let fire = Fire::Retry { of: of.to_string(), attempt: attempt + 1 };
    (attempt < retry.max_attempts).then_some(Waiting { fire, since: due, not_before: due })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;
    use crate::routine::model::Retry;
    use crate::run::id::RunId;
    use crate::run::status::Status;

    fn outcome(status: Status, origin: Origin) -> Outcome {
        Outcome { origin, finished_at: UnixSeconds(20), ..Outcome::example("a-9", status) }
    }

    fn retrying() -> Definition {
        Definition { retry: Some(Retry { max_attempts: 3, backoff_secs: 10 }), ..Definition::default() }
    }

    #[test]
    fn a_failed_run_is_followed_by_another_attempt_until_there_were_enough() {
        let mut ledger = Ledger::default();
        draw(&retrying(), &mut ledger, &outcome(Status::Failed, Origin::Call));
        let waiting = ledger.waiting.clone().unwrap();
        assert_eq!(waiting.fire, Fire::Retry { of: "a-9".into(), attempt: 2 });
        assert_eq!(waiting.not_before, UnixSeconds(30));
        let first: RunId = "a-1".parse().unwrap();
        for (attempt, next) in [(2, Some(Fire::Retry { of: "a-1".into(), attempt: 3 })), (3, None)] {
            let mut ledger = Ledger::default();
            draw(&retrying(), &mut ledger, &outcome(Status::Failed, Origin::Retry { of: first.clone(), attempt }));
            assert_eq!(ledger.waiting.map(|waiting| waiting.fire), next);
        }
    }

    #[test]
    fn only_a_failed_run_of_an_enabled_routine_is_tried_again() {
        for status in [Status::Succeeded, Status::TimedOut, Status::Stopped, Status::LaunchFailed, Status::Lost] {
            let mut ledger = Ledger::default();
            draw(&retrying(), &mut ledger, &outcome(status, Origin::Call));
            assert_eq!(ledger.waiting, None, "{status:?}");
        }
        let mut ledger = Ledger::default();
        let disabled = Definition { enabled: false, ..retrying() };
        draw(&disabled, &mut ledger, &outcome(Status::Failed, Origin::Call));
        assert_eq!(ledger.waiting, None);
    }

    #[test]
    fn failures_in_a_row_disable_and_success_begins_anew() {
        let definition = Definition { max_consecutive_failures: Some(2), ..retrying() };
        let mut ledger = Ledger::default();
        let mut after = |status| {
            let verdict = draw(&definition, &mut ledger, &outcome(status, Origin::Call));
            (verdict, ledger.consecutive_failures)
        };
        assert_eq!(after(Status::Failed), (Verdict::Keep, 1));
        assert_eq!(after(Status::Succeeded), (Verdict::Keep, 0));
        assert_eq!(after(Status::TimedOut), (Verdict::Keep, 1));
        assert_eq!(after(Status::Stopped), (Verdict::Keep, 1));
        assert_eq!(after(Status::Failed), (Verdict::Disable, 2));
        assert!(ledger.waiting.is_none(), "no attempt of a disabled routine");
        assert!(ledger.disabled_because.clone().unwrap().contains("2 runs in a row"));
        assert_eq!(
            draw(&definition, &mut ledger, &outcome(Status::Failed, Origin::Call)),
            Verdict::Keep,
            "enabled again"
        );
        assert_eq!((ledger.consecutive_failures, ledger.disabled_because), (1, None));
    }
}
