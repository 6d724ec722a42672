use super::*;
use crate::agent::output::{FinalEvent, Limit, Summary};
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
fn numbers_that_a_file_has_at_their_end_stay_there() {
    let mut ledger = Ledger { consecutive_failures: u64::MAX, ..Ledger::default() };
    let last = Origin::Retry { of: "a-1".parse().unwrap(), attempt: u32::MAX };
    update(&retrying(), &mut ledger, &outcome(Status::Failed, last.clone()));
    assert_eq!((ledger.consecutive_failures, ledger.waiting), (u64::MAX, None));
    let mut ledger = Ledger { consecutive_limits: u32::MAX, ..Ledger::default() };
    assert!(update(&retrying(), &mut ledger, &limited("a-9", last, None)).gives_up);
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
        let is_reset = matches!(origin, Origin::Reset { .. });
        let mut ledger = Ledger { consecutive_failures: 1, ..Ledger::default() };
        let done = update(&definition, &mut ledger, &limited("a-101", origin, Some(5_000)));
        assert_eq!(done, Update::default());
        assert_eq!((ledger.consecutive_failures, ledger.consecutive_limits), (1, 1), "it counts for no failure");
        let waiting = ledger.waiting.unwrap();
        let (of, attempt, occurrence) = expected;
        let tries = 1 + u32::from(is_reset);
        assert_eq!(waiting.fire, Fire::Reset { of: of.into(), attempt, tries, occurrence });
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
fn a_failure_in_between_makes_no_two_fires_the_same() {
    let (mut ledger, mut fires) = (Ledger::default(), Vec::new());
    let mut origin = Origin::Call;
    for n in 1..=3_u64 {
        update(&Definition::default(), &mut ledger, &limited(&format!("a-{n}00"), origin, None));
        let waiting = ledger.waiting.clone().unwrap();
        update(&Definition::default(), &mut ledger, &outcome(Status::Failed, Origin::Call));
        assert_eq!((ledger.consecutive_limits, ledger.waiting.take()), (0, Some(waiting.clone())));
        let from_end = waiting.not_before.0 - (n * 100 + 1);
        assert!((900..=1020).contains(&from_end), "the pauses begin again: {from_end}");
        origin = origin_of(waiting.fire.clone());
        fires.push(waiting.fire);
    }
    let tries = |tries| Fire::Reset { of: "a-100".into(), attempt: 1, tries, occurrence: None };
    assert_eq!(fires, [1, 2, 3].map(tries));
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
    tell_what_follows(&context, &mut told, None);
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
    for outcome in [other, success("a-900", 1_001), Outcome { status: Status::Failed, ..success("a-2001", 2_001) }] {
        assert_eq!(settle(&context, &outcome, None).unwrap(), Settled::Done);
        assert_eq!(hold(2_000).as_ref(), Some(&held), "{}", outcome.id);
    }
    assert_eq!(settle(&context, &success("a-2002", 2_002), None).unwrap(), Settled::Done);
    let lifted = hold(3_000).unwrap();
    assert_eq!((lifted.held_until, lifted.is_in_force(UnixSeconds(3_000))), (UnixSeconds(3_000), false));
    assert!((3_000..=3_120).contains(&hold::start_at(Some(&lifted), &waiting, &slug).0), "sooner than its ledger says");
    // The first end is recorded once more, as after a crash.
    assert_eq!(settle(&context, &first, None).unwrap(), Settled::Done);
    assert_eq!(hold(3_000), Some(lifted));
    assert_eq!(settle(&context, &limited("a-4000", Origin::Call, Some(9_500)), None).unwrap(), Settled::Done);
    assert_eq!(hold(4_100).unwrap().held_until, UnixSeconds(9_500), "extended");
    // A person's mistake holds nothing, and the next run that meets the limit replaces it.
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
fn a_limited_run_keeps_its_attempt_whatever_the_hold_says_already() {
    let limited = limited("a-1000", Origin::Call, Some(9_000));
    let of_this = hold::after_end(None, &limited, 1).unwrap();
    // Another routine's run met the limit later and was recorded before; or the process that recorded this end died before the ledger was written.
    let of_another = hold::Hold { run: "b-1500".parse().unwrap(), since: UnixSeconds(1_501), ..of_this.clone() };
    for before in [of_another, of_this] {
        let (_dir, context) = home_with_routine();
        let slug = "a".parse().unwrap();
        hold::write(&context.home, &before).unwrap();
        let mut told = limited.clone();
        tell_what_follows(&context, &mut told, None);
        assert_eq!(settle(&context, &limited, None).unwrap(), Settled::Done);
        let waiting = Ledger::read(&context.home, &slug).unwrap().waiting.unwrap();
        assert!(matches!(&waiting.fire, Fire::Reset { of, .. } if of == "a-1000"), "{waiting:?}");
        assert_eq!(told.reason, Some(format!("the next attempt is at {}", waiting.not_before)));
        assert_eq!(hold::read(&context.home, "a", UnixSeconds(2_000)).unwrap(), Some(before));
    }
}

#[test]
fn an_end_that_is_recorded_hours_later_leaves_a_newer_hold_alone() {
    let (_dir, context) = home_with_routine();
    let late = limited("a-1000", Origin::Call, Some(9_000));
    let newer = Hold { since: UnixSeconds(20_000), ..hold::after_end(None, &late, 1).unwrap() };
    let newer = Hold { run: "b-19000".parse().unwrap(), held_until: UnixSeconds(30_000), ..newer };
    hold::write(&context.home, &newer).unwrap();
    assert_eq!(settle(&context, &late, None).unwrap(), Settled::Done);
    assert_eq!(hold::read(&context.home, "a", UnixSeconds(20_000)).unwrap(), Some(newer));
}

#[test]
fn the_reason_knows_that_an_attempt_waits_for_a_snooze_too() {
    let (_dir, context) = home_with_routine();
    let slug = "a".parse().unwrap();
    Ledger { snoozed_until: Some(UnixSeconds(50_000)), ..Ledger::default() }.write(&context.home, &slug).unwrap();
    let mut told = limited("a-1000", Origin::Call, Some(9_000));
    tell_what_follows(&context, &mut told, None);
    assert_eq!(told.reason, Some(format!("the next attempt is at {}", UnixSeconds(50_000))));
}

#[test]
fn a_text_that_no_attempt_will_have_is_promised_none() {
    let occurrence = Fire::Occurrence(UnixSeconds(100));
    let reset = Fire::Reset { of: "a-7".into(), attempt: 1, tries: 1, occurrence: None };
    let limited = limited("a-1000", Origin::Call, Some(9_000));
    for (fire, waits_with, text, dropped) in [
        (&occurrence, None, Some("pr 7"), Some("a fire of the schedule")),
        (&occurrence, None, None, None),
        (&reset, Some("pr 6"), Some("pr 7"), Some("another attempt of a-7")),
        (&reset, Some("pr 6"), None, Some("another attempt of a-7")),
        (&reset, Some("pr 7"), Some("pr 7"), None),
    ] {
        let (_dir, context) = home_with_routine();
        let (home, slug) = (&context.home, "a".parse().unwrap());
        let times = (UnixSeconds(100), UnixSeconds(100));
        let waiting =
            Waiting { fire: fire.clone(), since: times.0, not_before: times.1, text: waits_with.map(str::to_owned) };
        Ledger { waiting: Some(waiting.clone()), ..Ledger::default() }.write(home, &slug).unwrap();
        let mut told = limited.clone();
        tell_what_follows(&context, &mut told, text);
        let mut problems = Vec::new();
        let settled = settle_locked(home, &limited, text.map(str::to_owned), &mut problems).unwrap();
        assert_eq!((settled, Ledger::read(home, &slug).unwrap().waiting), (Settled::Done, Some(waiting)));
        let told = told.reason.unwrap();
        match dropped {
            Some(what) => assert_eq!(told, format!("it is not tried again: {what} waits")),
            None => assert!(told.starts_with("the next attempt is at "), "{told}"),
        }
        let expected = dropped.filter(|_| text.is_some());
        let expected = expected.map(|what| format!("the run is not tried again with its text: {what} waits"));
        assert_eq!(problems, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn giving_up_is_told_once_and_in_words() {
    let (_dir, context) = home_with_routine();
    let slug = "a".parse().unwrap();
    Ledger { consecutive_limits: MAX_TRIES, ..Ledger::default() }.write(&context.home, &slug).unwrap();
    let mut last = limited("a-1000", Origin::Call, None);
    tell_what_follows(&context, &mut last, None);
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
