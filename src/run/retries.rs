//! What the end of a run means for its routine: another attempt, or one more failure in a row.

use super::context::Context;
use super::history::UpdateError;
use super::record::{Origin, Outcome};
use super::status::Streak;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::routine::edit;
use crate::routine::ledger::{Fire, Ledger, Waiting};
use crate::routine::model::Definition;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};

/// Updates the routine's ledger after a run ended, once however often it is called.
///
/// A routine or a ledger that cannot be read is left alone: once a person has repaired it, nothing was counted or started.
///
/// # Errors
/// The routines are locked, or the disk is full: the recording of the end must be repeated.
pub fn settle(context: &Context, outcome: &Outcome) -> Result<(), UpdateError> {
    let (home, slug) = (&context.home, outcome.id.routine());
    // Most routines ask for neither, and their runs end without the lock.
    if !store::load(home, slug).is_ok_and(|routine| wants_any(&routine.definition)) {
        return Ok(());
    }
    let lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    let settled = settle_locked(home, outcome);
    drop(lock);
    for problem in settled? {
        tracing::warn!(run = %outcome.id, problem);
    }
    Ok(())
}

/// Returns what went wrong that would go wrong again: the run's end does not wait for it.
fn settle_locked(home: &Home, outcome: &Outcome) -> Result<Vec<String>, FileError> {
    let slug = outcome.id.routine();
    let Ok(routine) = store::load(home, slug) else { return Ok(Vec::new()) };
    let mut ledger = match Ledger::read(home, slug) {
        Ok(ledger) => ledger,
        Err(error) => {
            return Ok(vec![format!("the end counts for nothing: cannot read the routine's ledger: {error}")]);
        }
    };
    if !ledger.count(&outcome.id.to_string()) {
        return Ok(Vec::new());
    }
    let mut problems = Vec::new();
    let mut written = Ok(());
    if update(&routine.definition, &mut ledger, outcome) {
        // The file first: a reason beside an enabled routine would mean that a person has enabled it again.
        match edit::set_enabled(home, slug, false) {
            Err(StoreError::File(error)) => written = Err(error),
            Err(error) => problems.push(format!("cannot disable the routine: {error}")),
            Ok(_) => {}
        }
    }
    match written.and_then(|()| ledger.write(home, slug)) {
        Err(error) if is_lasting(&error) => problems.push(format!("cannot update the routine's ledger: {error}")),
        result => result?,
    }
    Ok(problems)
}

/// Whether trying again would change nothing.
fn is_lasting(error: &FileError) -> bool {
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

/// Updates the ledger; returns whether the routine must be disabled.
fn update(definition: &Definition, ledger: &mut Ledger, outcome: &Outcome) -> bool {
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
        let reason = format!("its failures in a row reached {failures} with {}", outcome.id);
        ledger.disabled_because = Some(format!("{reason} (max_consecutive_failures = {limit})"));
        ledger.waiting = None;
        return true;
    }
    // A fire that waits already does the same work, and sooner.
    if ledger.waiting.is_none() {
        ledger.waiting = retry_of(definition, outcome);
    }
    false
}

/// Returns the attempt that follows a run, if one does.
fn retry_of(definition: &Definition, outcome: &Outcome) -> Option<Waiting> {
    // Without a login or money the next attempt would end in the same way, and one over its budget would cost as much again.
    let is_in_vain = outcome.output.as_ref().is_some_and(|summary| summary.needs.is_some() || summary.over_budget);
    let retry = definition.retry.filter(|_| definition.enabled && outcome.status.is_retried() && !is_in_vain)?;
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
    use crate::agent::output::Summary;
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
        update(&retrying(), &mut ledger, &outcome(Status::Failed, Origin::Call));
        let waiting = ledger.waiting.clone().unwrap();
        assert_eq!(waiting.fire, Fire::Retry { of: "a-9".into(), attempt: 2 });
        assert_eq!(waiting.not_before, UnixSeconds(30));
        let first: RunId = "a-1".parse().unwrap();
        for (attempt, next) in [(2, Some(Fire::Retry { of: "a-1".into(), attempt: 3 })), (3, None)] {
            let mut ledger = Ledger::default();
            update(&retrying(), &mut ledger, &outcome(Status::Failed, Origin::Retry { of: first.clone(), attempt }));
            assert_eq!(ledger.waiting.map(|waiting| waiting.fire), next);
        }
    }

    #[test]
    fn only_a_failed_run_of_an_enabled_routine_is_tried_again() {
        for status in [Status::Succeeded, Status::TimedOut, Status::Stopped, Status::LaunchFailed, Status::Lost] {
            let mut ledger = Ledger::default();
            update(&retrying(), &mut ledger, &outcome(status, Origin::Call));
            assert_eq!(ledger.waiting, None, "{status:?}");
        }
        let mut over_budget = outcome(Status::Failed, Origin::Call);
        over_budget.output = Some(Summary { over_budget: true, ..Summary::default() });
        let mut ledger = Ledger::default();
        update(&retrying(), &mut ledger, &over_budget);
        assert_eq!(ledger.waiting, None, "it would cost as much again");
        let mut ledger = Ledger::default();
        let disabled = Definition { enabled: false, ..retrying() };
        update(&disabled, &mut ledger, &outcome(Status::Failed, Origin::Call));
        assert_eq!(ledger.waiting, None);
    }

    #[test]
    fn failures_in_a_row_disable_and_success_resets_them() {
        let definition = Definition { max_consecutive_failures: Some(2), ..retrying() };
        let mut ledger = Ledger::default();
        let mut after = |status| {
            let disables = update(&definition, &mut ledger, &outcome(status, Origin::Call));
            (disables, ledger.consecutive_failures)
        };
        assert_eq!(after(Status::Failed), (false, 1));
        assert_eq!(after(Status::Succeeded), (false, 0));
        assert_eq!(after(Status::TimedOut), (false, 1));
        assert_eq!(after(Status::Stopped), (false, 1));
        assert_eq!(after(Status::Failed), (true, 2));
        assert!(ledger.waiting.is_none(), "no attempt of a disabled routine");
        assert!(ledger.disabled_because.clone().unwrap().contains("in a row reached 2"));
        assert!(!update(&definition, &mut ledger, &outcome(Status::Failed, Origin::Call)), "enabled again");
        assert_eq!((ledger.consecutive_failures, ledger.disabled_because), (1, None));
    }
}
