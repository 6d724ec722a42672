//! What the end of a run means for its routine: another attempt, or one more failure in a row; and for its agent, which waits
//! while its account is at its usage limit.

use super::context::Context;
use super::history::UpdateError;
use super::hold::{self, Hold};
use super::limit::{self, MAX_TRIES};
use super::record::{Origin, Outcome};
use super::status::{Status, Streak};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::routine::edit;
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::ledger::{Fire, Ledger, Waiting};
use crate::routine::model::Definition;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};

/// What became of a run's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    Done,
    /// So many runs in a row met the usage limit that no further attempt is made. It is returned once for each time.
    GaveUp,
}

/// Updates the routine's ledger and its agent's hold after a run ended, once however often it is called. Another attempt gets the
/// `text` that the run was given.
///
/// A routine or a ledger that cannot be read is left alone: once a person has repaired it, nothing was counted or started.
///
/// # Errors
/// The routines are locked, or the disk is full: the recording of the end must be repeated.
pub fn settle(context: &Context, outcome: &Outcome, text: Option<String>) -> Result<Settled, UpdateError> {
    let (home, slug) = (&context.home, outcome.id.routine());
    // Most routines ask for neither, and their runs end without the lock. One that met the limit is promised an attempt, whatever
    // the hold says of it by now.
    if outcome.status != Status::Limited
        && !changes_hold(home, outcome)
        && !store::load(home, slug).is_ok_and(|routine| wants_any(&routine.definition))
        && !Ledger::read_for_looking(home, slug).is_ok_and(|ledger| ledger.consecutive_limits > 0)
    {
        return Ok(Settled::Done);
    }
    let lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    let mut problems = Vec::new();
    let settled = settle_locked(home, outcome, text, &mut problems);
    drop(lock);
    for problem in problems {
        tracing::warn!(run = %outcome.id, problem);
    }
    Ok(settled?)
}

/// Adds to `problems` what would go wrong again: the run's end does not wait for it.
fn settle_locked(
    home: &Home,
    outcome: &Outcome,
    text: Option<String>,
    problems: &mut Vec<String>,
) -> Result<Settled, FileError> {
    let slug = outcome.id.routine();
    let routine = store::load(home, slug).ok();
    let ledger = routine.as_ref().map(|_| Ledger::read(home, slug));
    // Before the ledger, which then counts the run: what is repeated after a crash in between finds the hold as it is.
    let limits = ledger.iter().flatten().next().map_or(0, |ledger| ledger.consecutive_limits);
    match settle_hold(home, outcome, limits) {
        Err(error) if is_lasting(&error) => problems.push(format!("cannot update the hold of its agent: {error}")),
        result => result?,
    }
    let Some(routine) = routine else { return Ok(Settled::Done) };
    let mut ledger = match ledger {
        Some(Ok(ledger)) => ledger,
        Some(Err(error)) => {
            problems.push(format!("the end counts for nothing: cannot read the routine's ledger: {error}"));
            return Ok(Settled::Done);
        }
        None => return Ok(Settled::Done),
    };
    if !ledger.count(&outcome.id.to_string()) {
        return Ok(Settled::Done);
    }
    let mut written = Ok(());
    let waited = ledger.waiting.clone();
    let update = update(&routine.definition, &mut ledger, outcome);
    if let Some(waiting) = ledger.waiting.as_mut() {
        if waited.as_ref() != Some(waiting) {
            waiting.text = text;
        } else if text.is_some()
            && waiting.text != text
            && (outcome.status == Status::Limited || retry_of(&routine.definition, outcome).is_some())
        {
            problems.push(format!("the run is not tried again with its text: {} waits", in_words(&waiting.fire)));
        }
    }
    if update.disables {
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
    Ok(if update.gives_up { Settled::GaveUp } else { Settled::Done })
}

/// Whether the end of a run begins, extends or lifts a hold, as far as can be seen without the lock.
fn changes_hold(home: &Home, outcome: &Outcome) -> bool {
    let before = hold_of(home, outcome);
    hold::after_end(before.as_ref(), outcome, 1).is_some()
}

/// Reads the hold of the agent as it is now: an end may be recorded long after it.
fn hold_of(home: &Home, outcome: &Outcome) -> Option<Hold> {
    hold::read(home, &outcome.agent, UnixSeconds::now()).ok().flatten()
}

/// Updates the hold of the agent. A run that meets the limit replaces one that cannot be read.
fn settle_hold(home: &Home, outcome: &Outcome, limits: u32) -> Result<(), FileError> {
    let before = hold_of(home, outcome);
    match hold::after_end(before.as_ref(), outcome, limits.saturating_add(1)) {
        Some(hold) => hold::write(home, &hold),
        None => Ok(()),
    }
}

/// Completes the reason of a run that met the usage limit with what its routine does then, as far as can be seen without the lock.
/// It was given the `text`.
pub(super) fn tell_what_follows(context: &Context, outcome: &mut Outcome, text: Option<&str>) {
    if outcome.status == Status::Limited
        && let Some(follows) = what_follows(&context.home, outcome, text)
    {
        outcome.reason =
            Some(outcome.reason.take().map_or_else(|| follows.clone(), |reason| format!("{reason}; {follows}")));
    }
}

fn what_follows(home: &Home, outcome: &Outcome, text: Option<&str>) -> Option<String> {
    let slug = outcome.id.routine();
    let definition = store::load(home, slug).ok()?.definition;
    let mut ledger = Ledger::read(home, slug).ok()?;
    let before = hold_of(home, outcome);
    let hold = hold::after_end(before.as_ref(), outcome, ledger.consecutive_limits.saturating_add(1)).or(before);
    let waited = ledger.waiting.clone();
    if update(&definition, &mut ledger, outcome).gives_up {
        return Some(format!("gave up after {MAX_TRIES} attempts"));
    }
    let waiting = ledger.waiting.filter(|_| definition.enabled)?;
    if waited.as_ref() == Some(&waiting) && waiting.text.as_deref() != text {
        return Some(format!("it is not tried again: {} waits", in_words(&waiting.fire)));
    }
    let snoozes = [ledger.snoozed_until, HomeSnooze::until(home, outcome.finished_at)];
    let start_at = hold::start_at(hold.as_ref(), &waiting, slug);
    let start_at = snoozes.into_iter().flatten().fold(start_at, UnixSeconds::max);
    Some(format!("the next attempt is at {start_at}"))
}

/// Names a fire that waits.
fn in_words(fire: &Fire) -> String {
    match fire {
        Fire::Occurrence(_) => "a fire of the schedule".to_owned(),
        Fire::Retry { of, .. } | Fire::Reset { of, .. } => format!("another attempt of {of}"),
    }
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

/// What the update of a ledger asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Update {
    /// The routine must be disabled.
    disables: bool,
    /// So many runs in a row met the usage limit that no further attempt is made.
    gives_up: bool,
}

/// Updates the ledger.
fn update(definition: &Definition, ledger: &mut Ledger, outcome: &Outcome) -> Update {
    if definition.enabled && ledger.disabled_because.is_some() {
        ledger.reset_failures();
    }
    // Whoever started this run died before the ledger said so.
    ledger.waiting.take_if(|waiting| is_its_start(&waiting.fire, &outcome.origin));
    match outcome.status.streak() {
        Streak::Reset => ledger.consecutive_failures = 0,
        Streak::Extend => ledger.consecutive_failures = ledger.consecutive_failures.saturating_add(1),
        Streak::Keep => {}
    }
    if outcome.status.streak() != Streak::Keep {
        ledger.consecutive_limits = 0;
    }
    let failures = ledger.consecutive_failures;
    let limit = definition.max_consecutive_failures.filter(|limit| failures >= *limit && definition.enabled);
    if let Some(limit) = limit {
        let reason = format!("its failures in a row reached {failures} with {}", outcome.id);
        ledger.disabled_because = Some(format!("{reason} (max_consecutive_failures = {limit})"));
        ledger.waiting = None;
        return Update { disables: true, ..Update::default() };
    }
    if outcome.status == Status::Limited {
        return Update { gives_up: definition.enabled && !waits_for_reset(ledger, outcome), ..Update::default() };
    }
    // A fire that waits already does the same work, and sooner.
    if ledger.waiting.is_none() {
        ledger.waiting = retry_of(definition, outcome);
    }
    Update::default()
}

/// Whether a run of this origin was started by that fire.
fn is_its_start(fire: &Fire, origin: &Origin) -> bool {
    match (fire, origin) {
        (Fire::Occurrence(fired), Origin::Schedule { occurrence }) => fired == occurrence,
        (Fire::Retry { of, attempt }, Origin::Retry { of: run, attempt: began }) => {
            (of.as_str(), attempt) == (run.to_string().as_str(), began)
        }
        (Fire::Reset { of, attempt, tries, .. }, Origin::Reset { of: run, attempt: began, tries: nth, .. }) => {
            (of.as_str(), attempt, tries) == (run.to_string().as_str(), began, nth)
        }
        _ => false,
    }
}

/// Has the attempt that met the usage limit wait for its reset; false once too many in a row have met it. A run that somebody asked
/// for while a fire waits is a probe, and counts for nothing.
fn waits_for_reset(ledger: &mut Ledger, outcome: &Outcome) -> bool {
    if ledger.waiting.is_some() && outcome.origin == Origin::Call {
        return true;
    }
    if ledger.consecutive_limits >= MAX_TRIES {
        ledger.consecutive_limits = 0;
        return false;
    }
    ledger.consecutive_limits = ledger.consecutive_limits.saturating_add(1);
    // A fire of the schedule that waits already does the same work.
    if ledger.waiting.is_none() {
        ledger.waiting = Some(reset_of(outcome, ledger.consecutive_limits));
    }
    true
}

/// Returns the attempt of a run that met the usage limit, once more. So many runs in a row have met it.
fn reset_of(outcome: &Outcome, limits: u32) -> Waiting {
    let (of, attempt, occurrence) = outcome.origin.attempt_of(&outcome.id);
    // No two fires may be the same: a run of this origin would count as already started. Other runs may have reset the count.
    let tries = match outcome.origin {
        Origin::Reset { tries, .. } => limits.max(tries.saturating_add(1)),
        _ => limits,
    };
    let limit = outcome.output.as_ref().and_then(|summary| summary.limit.as_ref());
    let held_until = limit::held_until(limit, outcome.finished_at, limits);
    Waiting {
        fire: Fire::Reset { of: of.to_string(), attempt, tries, occurrence },
        since: outcome.finished_at,
        not_before: hold::after(held_until, outcome.id.routine()),
        text: None,
    }
}

/// Returns the attempt that follows a run, if one does.
fn retry_of(definition: &Definition, outcome: &Outcome) -> Option<Waiting> {
    // Without a login or money the next attempt would end in the same way, and one over its budget would cost as much again.
    let is_in_vain = outcome.output.as_ref().is_some_and(|summary| summary.needs.is_some() || summary.over_budget);
    let retry = definition.retry.filter(|_| definition.enabled && outcome.status.is_retried() && !is_in_vain)?;
    let (of, attempt, _) = outcome.origin.attempt_of(&outcome.id);
    let due = outcome.finished_at.plus_secs(retry.backoff_secs);
    let fire = Fire::Retry { of: of.to_string(), attempt: attempt.saturating_add(1) };
    (attempt < retry.max_attempts).then_some(Waiting { fire, since: due, not_before: due, text: None })
}

#[cfg(test)]
mod tests;
