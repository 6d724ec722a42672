//! What the end of a run means for its routine: another attempt, or one more failure in a row; and for its agent, which waits
//! while its account is at its usage limit.

use super::context::Context;
use super::history::UpdateError;
use super::hold;
use super::limit::{self, MAX_TRIES};
use super::record::{Origin, Outcome};
use super::status::{Status, Streak};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::routine::edit;
use crate::routine::ledger::{Fire, Ledger, Waiting};
use crate::routine::model::Definition;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};

/// What became of a run's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    Done,
    /// So many runs in a row met the usage limit that nothing is tried any more. It is returned once for each time.
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
    // Most routines ask for neither, and their runs end without the lock.
    if !changes_hold(home, outcome)
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
    if let Some(waiting) = ledger.waiting.as_mut().filter(|waiting| waited.as_ref() != Some(waiting)) {
        waiting.text = text;
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
    let before = hold::read(home, &outcome.agent, outcome.finished_at).ok().flatten();
    hold::after_end(before.as_ref(), outcome, 1).is_some()
}

/// Updates the hold of the agent. One that cannot be read is written anew by a run that meets the limit.
fn settle_hold(home: &Home, outcome: &Outcome, limits: u32) -> Result<(), FileError> {
    let before = hold::read(home, &outcome.agent, outcome.finished_at).ok().flatten();
    match hold::after_end(before.as_ref(), outcome, limits.saturating_add(1)) {
        Some(hold) => hold::write(home, &hold),
        None => Ok(()),
    }
}

/// Completes the reason of a run that met the usage limit with what its routine does then, as far as can be seen without the lock.
pub(super) fn tell_what_follows(context: &Context, outcome: &mut Outcome) {
    if outcome.status == Status::Limited
        && let Some(follows) = what_follows(&context.home, outcome)
    {
        outcome.reason =
            Some(outcome.reason.take().map_or_else(|| follows.clone(), |reason| format!("{reason}; {follows}")));
    }
}

fn what_follows(home: &Home, outcome: &Outcome) -> Option<String> {
    let slug = outcome.id.routine();
    let definition = store::load(home, slug).ok()?.definition;
    let mut ledger = Ledger::read(home, slug).ok()?;
    let before = hold::read(home, &outcome.agent, outcome.finished_at).ok().flatten();
    let hold = hold::after_end(before.as_ref(), outcome, ledger.consecutive_limits.saturating_add(1)).or(before);
    if update(&definition, &mut ledger, outcome).gives_up {
        return Some(format!("gave up after {MAX_TRIES} attempts"));
    }
    let waiting = ledger.waiting.filter(|_| definition.enabled)?;
    Some(format!("the next attempt is at {}", hold::start_at(hold.as_ref(), &waiting, slug)))
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
    /// So many runs in a row met the usage limit that nothing is tried any more.
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
        Streak::Extend => ledger.consecutive_failures += 1,
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
    ledger.consecutive_limits += 1;
    // A fire of the schedule that waits already does the same work.
    if ledger.waiting.is_none() {
        ledger.waiting = Some(reset_of(outcome, ledger.consecutive_limits));
    }
    true
}

/// Returns the attempt of a run that met the usage limit, once more.
fn reset_of(outcome: &Outcome, tries: u32) -> Waiting {
    let (of, attempt, occurrence) = outcome.origin.attempt_of(&outcome.id);
    let limit = outcome.output.as_ref().and_then(|summary| summary.limit.as_ref());
    let held_until = limit::held_until(limit, outcome.finished_at, tries);
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
    let fire = Fire::Retry { of: of.to_string(), attempt: attempt + 1 };
    (attempt < retry.max_attempts).then_some(Waiting { fire, since: due, not_before: due, text: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::output::{FinalEvent, Limit, Summary};
    use crate::clock::UnixSeconds;
    use crate::routine::model::Retry;
    use crate::run::id::RunId;

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

    fn limited(id: &str, origin: Origin, resets_at: Option<u64>) -> Outcome {
        let limit = Limit { kind: "five_hour".into(), resets_at: resets_at.map(UnixSeconds) };
        let output = Some(Summary { limit: Some(limit), ended: Some(FinalEvent::Failed), ..Summary::default() });
        Outcome { origin, output, ..Outcome::example(id, Status::Limited) }
    }

    fn origin_of(fire: Fire) -> Origin {
        match fire {
            Fire::Occurrence(occurrence) => Origin::Schedule { occurrence },
            Fire::Retry { of, attempt } => Origin::Retry { of: of.parse().unwrap(), attempt },
            Fire::Reset { of, attempt, tries, occurrence } => {
                Origin::Reset { of: of.parse().unwrap(), attempt, tries, occurrence }
            }
        }
    }

    #[test]
    fn a_run_that_met_the_limit_is_tried_again_at_the_reset_as_the_same_attempt() {
        let occurrence = Some(UnixSeconds(100));
        for (definition, origin, expected) in [
            (Definition::default(), Origin::Call, ("a-101", 1, None)),
            (retrying(), Origin::Schedule { occurrence: UnixSeconds(100) }, ("a-101", 1, occurrence)),
            (retrying(), Origin::Retry { of: "a-7".parse().unwrap(), attempt: 2 }, ("a-7", 2, None)),
            (
                Definition::default(),
                Origin::Reset { of: "a-7".parse().unwrap(), attempt: 2, tries: 1, occurrence },
                ("a-7", 2, occurrence),
            ),
        ] {
            let mut ledger = Ledger { consecutive_failures: 1, ..Ledger::default() };
            let done = update(&definition, &mut ledger, &limited("a-101", origin, Some(5_000)));
            assert_eq!(done, Update::default());
            assert_eq!((ledger.consecutive_failures, ledger.consecutive_limits), (1, 1), "it counts for no failure");
            let waiting = ledger.waiting.unwrap();
            let (of, attempt, occurrence) = expected;
            assert_eq!(waiting.fire, Fire::Reset { of: of.into(), attempt, tries: 1, occurrence });
            assert!((5_000..=5_120).contains(&waiting.not_before.0), "{waiting:?}");
        }
        let disabled = Definition { enabled: false, ..retrying() };
        let mut ledger = Ledger::default();
        assert_eq!(update(&disabled, &mut ledger, &limited("a-101", Origin::Call, None)), Update::default());
        assert_eq!(ledger.waiting, None);
    }

    #[test]
    fn after_the_reset_a_failure_is_the_next_attempt() {
        let mut ledger = Ledger { consecutive_limits: 3, ..Ledger::default() };
        let origin = Origin::Reset { of: "a-7".parse().unwrap(), attempt: 2, tries: 3, occurrence: None };
        update(&retrying(), &mut ledger, &outcome(Status::Failed, origin));
        assert_eq!(ledger.waiting.unwrap().fire, Fire::Retry { of: "a-7".into(), attempt: 3 });
        assert_eq!(ledger.consecutive_limits, 0);
    }

    #[test]
    fn eight_attempts_that_meet_the_limit_are_enough() {
        let (mut ledger, mut origin, mut pauses) = (Ledger::default(), Origin::Call, Vec::new());
        for n in 0..=MAX_TRIES {
            let run = limited(&format!("a-{}", 100_000 * (u64::from(n) + 1)), origin.clone(), None);
            let update = update(&Definition::default(), &mut ledger, &run);
            assert_eq!(update.gives_up, n == MAX_TRIES, "{n}");
            match ledger.waiting.take() {
                Some(waiting) => {
                    pauses.push((waiting.not_before.0 - run.finished_at.0) / 60 / 5 * 5);
                    origin = origin_of(waiting.fire);
                }
                None => assert!(update.gives_up),
            }
        }
        assert_eq!(pauses, [15, 30, 60, 60, 60, 60, 60, 60]);
        assert_eq!((ledger.waiting, ledger.consecutive_limits), (None, 0), "the schedule's next fire begins again");
    }

    #[test]
    fn an_attempt_is_not_lost_if_the_one_that_started_it_died_at_once() {
        let occurrence = Some(UnixSeconds(100));
        for fire in [
            Fire::Occurrence(UnixSeconds(100)),
            Fire::Retry { of: "a-7".into(), attempt: 2 },
            Fire::Reset { of: "a-7".into(), attempt: 1, tries: 2, occurrence },
        ] {
            let waiting = Waiting { fire: fire.clone(), since: UnixSeconds(7), not_before: UnixSeconds(7), text: None };
            let mut ledger = Ledger { waiting: Some(waiting), consecutive_limits: 2, ..Ledger::default() };
            update(&Definition::default(), &mut ledger, &limited("a-101", origin_of(fire.clone()), Some(5_000)));
            let next = ledger.waiting.unwrap().fire;
            assert!(matches!(next, Fire::Reset { tries: 3, .. }), "{fire:?} is followed by {next:?}");
        }
    }

    #[test]
    fn a_fire_that_waits_stays_and_a_probe_counts_for_nothing() {
        let waiting = Waiting {
            fire: Fire::Occurrence(UnixSeconds(7)),
            since: UnixSeconds(7),
            not_before: UnixSeconds(7),
            text: None,
        };
        for (origin, limits) in [(Origin::Call, 2), (Origin::Schedule { occurrence: UnixSeconds(1) }, 3)] {
            let mut ledger = Ledger { waiting: Some(waiting.clone()), consecutive_limits: 2, ..Ledger::default() };
            update(&Definition::default(), &mut ledger, &limited("a-9", origin, None));
            assert_eq!((ledger.waiting.as_ref(), ledger.consecutive_limits), (Some(&waiting), limits));
        }
    }

    fn home_with_routine() -> (tempfile::TempDir, Context) {
        use crate::home::config::Config;
        use crate::run::context::Program;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::create_dir(home.routines().join("a")).unwrap();
        let time = "2026-01-01T00:00:00Z";
        let text = format!("title = 'a'\nagent = 'a'\ncreated_at = '{time}'\nupdated_at = '{time}'\n");
        std::fs::write(home.routines().join("a/routine.toml"), text).unwrap();
        std::fs::write(home.routines().join("a/prompt.md"), "x").unwrap();
        let context = Context::of_supervisor(home, Config::default(), Program::current().unwrap());
        (dir, context)
    }

    #[test]
    fn the_end_of_a_run_holds_its_agent_and_a_success_lifts_that_however_often_it_is_recorded() {
        let (_dir, context) = home_with_routine();
        let (home, slug) = (&context.home, "a".parse().unwrap());
        let hold = |now| hold::read(home, "a", UnixSeconds(now)).unwrap();
        let first = limited("a-1000", Origin::Call, Some(9_000));
        let mut told = first.clone();
        told.reason = Some("the limit".into());
        tell_what_follows(&context, &mut told);
        assert_eq!(settle(&context, &first, None).unwrap(), Settled::Done);
        let waiting = Ledger::read(home, &slug).unwrap().waiting.unwrap();
        assert_eq!(told.reason, Some(format!("the limit; the next attempt is at {}", waiting.not_before)));
        let held = hold(2_000).unwrap();
        assert_eq!(
            (held.held_until, held.since, held.run.to_string()),
            (UnixSeconds(9_000), UnixSeconds(1_001), "a-1000".into())
        );
        assert!(held.is_in_force(UnixSeconds(8_999)) && !held.is_in_force(UnixSeconds(9_000)));
        // Of another agent, begun before, and one that failed.
        let success = |id: &str, began: u64| Outcome {
            started_at: Some(UnixSeconds(began)),
            finished_at: UnixSeconds(3_000),
            ..Outcome::example(id, Status::Succeeded)
        };
        let other = Outcome { agent: "b".into(), ..success("a-2000", 2_000) };
        for outcome in [other, success("a-900", 1_001), Outcome { status: Status::Failed, ..success("a-2001", 2_001) }]
        {
            assert_eq!(settle(&context, &outcome, None).unwrap(), Settled::Done);
            assert_eq!(hold(2_000).as_ref(), Some(&held), "{}", outcome.id);
        }
        assert_eq!(settle(&context, &success("a-2002", 2_002), None).unwrap(), Settled::Done);
        let lifted = hold(3_000).unwrap();
        assert_eq!((lifted.held_until, lifted.is_in_force(UnixSeconds(3_000))), (UnixSeconds(3_000), false));
        assert!(
            (3_000..=3_120).contains(&hold::start_at(Some(&lifted), &waiting, &slug).0),
            "sooner than its ledger says"
        );
        // The first end is recorded once more, as after a crash.
        assert_eq!(settle(&context, &first, None).unwrap(), Settled::Done);
        assert_eq!(hold(3_000), Some(lifted));
        assert_eq!(settle(&context, &limited("a-4000", Origin::Call, Some(9_500)), None).unwrap(), Settled::Done);
        assert_eq!(hold(4_100).unwrap().held_until, UnixSeconds(9_500), "extended");
        // A person's mistake holds nothing, and the next run that meets the limit writes it anew.
        std::fs::write(home.holds().join("a.json"), "{").unwrap();
        assert!(hold::read(home, "a", UnixSeconds(5_000)).is_err());
        assert_eq!(settle(&context, &limited("a-5000", Origin::Call, None), None).unwrap(), Settled::Done);
        assert!(hold(5_100).unwrap().held_until > UnixSeconds(5_001));
        // A deleted routine's run says as much of the account.
        std::fs::remove_dir_all(home.routines().join("a")).unwrap();
        assert_eq!(settle(&context, &limited("a-6000", Origin::Call, Some(20_000)), None).unwrap(), Settled::Done);
        assert_eq!(hold(6_100).unwrap().held_until, UnixSeconds(20_000));
        assert!(hold::remove_old(home, UnixSeconds(20_000 + 86_400)).is_empty());
        assert!(hold(20_000).is_some(), "what waited may wait for its turn");
        assert!(hold::remove_old(home, UnixSeconds(20_000 + 86_401)).is_empty());
        assert_eq!(hold(20_000), None);
    }

    #[test]
    fn giving_up_is_told_once_and_in_words() {
        let (_dir, context) = home_with_routine();
        let slug = "a".parse().unwrap();
        Ledger { consecutive_limits: MAX_TRIES, ..Ledger::default() }.write(&context.home, &slug).unwrap();
        let mut last = limited("a-1000", Origin::Call, None);
        tell_what_follows(&context, &mut last);
        assert_eq!(last.reason.as_deref(), Some("gave up after 8 attempts"));
        assert_eq!(settle(&context, &last, None).unwrap(), Settled::GaveUp);
        assert_eq!(settle(&context, &last, None).unwrap(), Settled::Done, "counted already");
        assert_eq!(Ledger::read(&context.home, &slug).unwrap().waiting, None);
    }

    #[test]
    fn failures_in_a_row_disable_and_success_resets_them() {
        let definition = Definition { max_consecutive_failures: Some(2), ..retrying() };
        let mut ledger = Ledger::default();
        let mut after = |status| {
            let disables = update(&definition, &mut ledger, &outcome(status, Origin::Call)).disables;
            (disables, ledger.consecutive_failures)
        };
        assert_eq!(after(Status::Failed), (false, 1));
        assert_eq!(after(Status::Succeeded), (false, 0));
        assert_eq!(after(Status::TimedOut), (false, 1));
        assert_eq!(after(Status::Stopped), (false, 1));
        assert_eq!(after(Status::Failed), (true, 2));
        assert!(ledger.waiting.is_none(), "no attempt of a disabled routine");
        assert!(ledger.disabled_because.clone().unwrap().contains("in a row reached 2"));
        let again = update(&definition, &mut ledger, &outcome(Status::Failed, Origin::Call));
        assert!(!again.disables, "enabled again");
        assert_eq!((ledger.consecutive_failures, ledger.disabled_because), (1, None));
    }
}
