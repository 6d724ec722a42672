use super::*;
use crate::routine::home_snooze;
use proptest::prelude::*;

const HOUR: u64 = 3600;
const WINDOW: u64 = 24 * HOUR;
const START: u64 = 1_767_225_600;

fn at(hours: u64) -> UnixSeconds {
    UnixSeconds(START + hours * HOUR)
}

fn hourly() -> Definition {
    Definition { schedule: Some("@hourly".into()), timezone: Some("UTC".into()), ..Definition::default() }
}

fn begun_with(definition: &Definition) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.follow(definition, at(0));
    ledger
}

fn begun() -> Ledger {
    begun_with(&hourly())
}

fn slug() -> Slug {
    "a".parse().unwrap()
}

/// Makes the hold of an agent that lasts until then.
fn held_until(hours: u64) -> Hold {
    Hold {
        version: 1,
        agent: "claude".into(),
        held_until: at(hours),
        since: at(0),
        run: "b-1".parse().unwrap(),
        kind: "five_hour".into(),
        resets_at: Some(at(hours)),
        lifted_by: None,
    }
}

fn go(definition: &Definition, ledger: &Ledger, now: UnixSeconds) -> Advance {
    go_held(definition, ledger, None, now)
}

fn go_held(definition: &Definition, ledger: &Ledger, hold: Option<&Hold>, now: UnixSeconds) -> Advance {
    let schedule = ledger.left_of(definition, definition.parse_schedule().unwrap());
    let circumstances = Circumstances { hold: hold.cloned(), ..Circumstances::default() };
    advance(&slug(), definition, schedule.as_ref(), ledger, &circumstances, now, WINDOW)
}

fn waits(advance: &Advance) -> Option<UnixSeconds> {
    advance.ledger.waiting.as_ref().map(|waiting| match waiting.fire {
        Fire::Occurrence(occurrence) => occurrence,
        Fire::Retry { .. } | Fire::Reset { .. } => UnixSeconds(0),
    })
}

fn reasons(advance: &Advance) -> Vec<&str> {
    advance.missed.iter().map(|one| one.reason.as_str()).collect()
}

#[test]
fn what_a_routine_needs_is_seen_from_its_plan() {
    let plan = Plan { next: Some(at(2)), fired_until: at(1), ..Plan::default() };
    let waiting =
        |not_before| Some(Arc::new(Waiting { fire: Fire::Occurrence(at(1)), since: at(1), not_before, text: None }));
    let cases = [
        (Plan::default(), at(1), Need::Rest(None)),
        (plan.clone(), at(1), Need::Rest(Some(at(2)))),
        (plan.clone(), at(2), Need::Attention),
        (Plan { is_behind: true, ..plan.clone() }, at(1), Need::Attention),
        (Plan { fired_until: at(1 + 24), next: Some(at(26)), ..plan.clone() }, at(1), Need::Rest(Some(at(26)))),
        (Plan { fired_until: at(2 + 24), next: Some(at(27)), ..plan.clone() }, at(1), Need::Attention),
        (Plan { waiting: waiting(at(1)), ..plan.clone() }, at(1), Need::Start(waiting(at(1)).unwrap())),
        (Plan { waiting: waiting(at(1)), ..plan.clone() }, at(2), Need::Attention),
        (Plan { waiting: waiting(at(3)), ..plan.clone() }, at(1), Need::Rest(Some(at(2)))),
        (Plan { waiting: waiting(at(3)), next: None, ..plan }, at(2), Need::Rest(Some(at(3)))),
    ];
    for (n, (plan, now, expected)) in cases.into_iter().enumerate() {
        let holds = Holds::default();
        assert_eq!(need(&slug(), &plan, &holds, now), expected, "case {n}");
        let known = Known { next: plan.next_need(), fired_until: plan.fired_until, ..Known::default() };
        assert_eq!(is_anything_due(&known, &holds, now), !matches!(expected, Need::Rest(_)), "case {n}");
    }
}

#[test]
fn while_a_run_waits_for_an_answer_its_routine_skips_its_fires_or_does_not() {
    let asked: RunId = "hourly-1".parse().unwrap();
    let retry = Fire::Retry { of: "hourly-2".into(), attempt: 2 };
    let decide = |when_asked, fire: &Fire, asked| decide_while_asked(when_asked, fire, asked);
    let reason = "the run hourly-1 waits for an answer (when_asked = \"skip\")".to_owned();
    let missed = FireDecision::Miss(WhyMissed::Asked, reason);
    assert_eq!(decide(WhenAsked::Skip, &Fire::Occurrence(at(1)), Some(&asked)), Some(missed));
    assert_eq!(decide(WhenAsked::Run, &Fire::Occurrence(at(1)), Some(&asked)), None);
    assert_eq!(decide(WhenAsked::Skip, &Fire::Occurrence(at(1)), None), None);
    assert_eq!(decide(WhenAsked::Skip, &retry, Some(&asked)), None);
}

proptest! {
    #[test]
    fn what_may_rest_would_not_be_changed(fired in 0..60_u64, now in 0..60_u64, enabled: bool, wait in 0..4_u64) {
        let definition = Definition { enabled, ..hourly() };
        let waiting = (wait > 0 && enabled).then(|| {
            let not_before = at(now + wait - 1);
            Waiting { fire: Fire::Retry { of: "a-1".into(), attempt: 2 }, since: at(0), not_before, text: None }
        });
        let ledger = Ledger { fired_until: at(fired), waiting, ..begun_with(&definition) };
        let schedule = hourly().parse_schedule().unwrap().unwrap();
        let plan = Plan {
            next: enabled.then(|| schedule.upcoming(at(fired), 1).first().copied()).flatten(),
            fired_until: at(fired),
            waiting: ledger.waiting.clone().map(Arc::new),
            ..Plan::default()
        };
        if need(&slug(), &plan, &Holds::default(), at(now)) != Need::Attention {
            prop_assert_eq!(go(&definition, &ledger, at(now)), Advance { ledger, missed: vec![] });
        }
    }
}

#[test]
fn a_schedule_that_is_new_changed_or_enabled_again_begins_now() {
    let changed = Definition { schedule: Some("30 * * * *".into()), ..hourly() };
    let disabled = Definition { enabled: false, ..hourly() };
    for (definition, ledger) in [(&hourly(), &Ledger::default()), (&changed, &begun()), (&disabled, &begun())] {
        let advance = go(definition, ledger, at(5));
        assert_eq!((advance.ledger.fired_until, waits(&advance)), (at(5), None));
        assert!(advance.ledger.follows(definition));
        assert!(advance.missed.is_empty());
    }
    let resting = go(&disabled, &begun(), at(5)).ledger;
    assert_eq!(go(&hourly(), &resting, at(9)).ledger.fired_until, at(9), "nothing of the time it was disabled");
}

#[test]
fn an_occurrence_waits_once_its_time_has_come_and_only_then() {
    let early = go(&hourly(), &begun(), UnixSeconds(at(1).0 - 1));
    assert_eq!(early, Advance { ledger: begun(), missed: vec![] });
    let due = go(&hourly(), &begun(), UnixSeconds(at(1).0 + 7));
    assert_eq!((waits(&due), due.ledger.fired_until, due.missed.len()), (Some(at(1)), at(1), 0));
    let started = Ledger { waiting: None, ..due.ledger };
    assert_eq!(go(&hourly(), &started, UnixSeconds(at(1).0 + 8)).ledger, started);
    assert_eq!(go(&hourly(), &started, at(0)).ledger, started, "a clock that was set back fires nothing again");
}

#[test]
fn of_occurrences_that_nobody_fired_the_newest_is_caught_up_and_the_others_are_recorded() {
    let later = UnixSeconds(at(5).0 + 1800);
    let latest = go(&hourly(), &begun(), later);
    assert_eq!((waits(&latest), latest.missed.len()), (Some(at(5)), 4));
    assert_eq!(reasons(&latest)[0], UNATTENDED);
    let none = go(&Definition { catch_up: CatchUp::None, ..hourly() }, &begun(), later);
    assert_eq!((waits(&none), none.missed.len()), (None, 5));
    assert!(reasons(&none)[4].contains("catch_up = \"none\""));
    assert_eq!(none.ledger.last_missed.unwrap().occurrence, at(5));
    let daily = Definition { schedule: Some("@daily".into()), ..hourly() };
    let schedule = daily.parse_schedule().unwrap();
    let freely = Circumstances::default();
    let old = advance(&slug(), &daily, schedule.as_ref(), &begun_with(&daily), &freely, at(26), HOUR);
    assert!(waits(&old).is_none() && reasons(&old)[0].contains("2 h late (catch_up_window_secs = 3600)"));
}

#[test]
fn a_long_gap_is_recorded_in_few_lines() {
    let advance = go(&hourly(), &begun(), at(240));
    assert_eq!((advance.missed.len(), advance.missed[0].count), (101, 240 - 101));
    assert_eq!(advance.missed.iter().map(|one| one.count).sum::<u64>(), 239);
    assert_eq!(waits(&advance), Some(at(240)));
}

#[test]
fn what_is_snoozed_or_skipped_is_missed_for_that_reason() {
    let snoozed = Ledger { snoozed_until: Some(at(2)), ..begun() };
    let advance = go(&hourly(), &snoozed, at(2));
    assert_eq!(reasons(&advance), ["snoozed until 2026-01-01T02:00:00Z"]);
    assert_eq!((waits(&advance), advance.ledger.snoozed_until), (Some(at(2)), None), "it is over at its end");
    let skipping = Ledger { skip_next: true, ..begun() };
    let advance = go(&hourly(), &skipping, at(1));
    assert_eq!(reasons(&advance), ["skipped once, as asked"]);
    assert_eq!(waits(&go(&hourly(), &advance.ledger, at(2))), Some(at(2)));
}

#[test]
fn while_the_home_is_snoozed_nothing_fires_and_nothing_is_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let home = crate::home::Home::open(dir.path().join("home")).unwrap();
    home_snooze::snooze_home(&home, Some(at(4)), UnixSeconds(at(2).0 + 60)).unwrap();
    let snooze = HomeSnooze::read(&home).unwrap();
    let schedule = hourly().parse_schedule().unwrap();
    let snoozed = Circumstances { home_snooze: snooze, ..Circumstances::default() };
    let go = |ledger: &Ledger, now| advance(&slug(), &hourly(), schedule.as_ref(), ledger, &snoozed, now, WINDOW);
    let skipping = Ledger { skip_next: true, ..begun() };
    let within = go(&skipping, at(3));
    assert_eq!(reasons(&within), ["all schedules are snoozed until 2026-01-01T04:00:00Z"; 3]);
    assert!(within.missed.iter().all(|one| one.why == WhyMissed::Snoozed) && waits(&within).is_none());
    assert!(within.ledger.skip_next, "that is for a fire");
    let after = go(&begun(), at(5));
    assert_eq!((waits(&after), after.missed.len()), (Some(at(5)), 4));
    assert_eq!(reasons(&after)[1], UNATTENDED, "it came before the snooze");
    assert!(reasons(&after)[2].contains("snoozed"));
    assert_eq!(reasons(&after)[3], UNATTENDED, "the snooze was over");
}

#[test]
fn a_snooze_keeps_what_waits_already_from_firing() {
    let dir = tempfile::tempdir().unwrap();
    let home = crate::home::Home::open(dir.path().join("home")).unwrap();
    home_snooze::snooze_home(&home, Some(at(4)), at(2)).unwrap();
    let of_home = HomeSnooze::read(&home).unwrap();
    let schedule = hourly().parse_schedule().unwrap();
    let last_second = UnixSeconds(at(4).0 - 1);
    for (own, of_home, reason) in [
        (Some(at(4)), None, "snoozed until 2026-01-01T04:00:00Z"),
        (None, of_home, "all schedules are snoozed until 2026-01-01T04:00:00Z"),
    ] {
        // Its agent is held, so that nothing starts before the snooze either.
        let circumstances = Circumstances { home_snooze: of_home, hold: Some(held_until(3)), asked: None };
        let with = |fire| Ledger {
            waiting: Some(Waiting { fire, since: at(1), not_before: at(1), text: None }),
            fired_until: at(3),
            snoozed_until: own,
            ..begun()
        };
        let go =
            |ledger: &Ledger, now| advance(&slug(), &hourly(), schedule.as_ref(), ledger, &circumstances, now, WINDOW);
        let missed = go(&with(Fire::Occurrence(at(1))), last_second);
        assert_eq!((missed.ledger.waiting.as_ref(), reasons(&missed)), (None, vec![reason]));
        assert_eq!((missed.missed[0].occurrence, missed.missed[0].why), (at(1), WhyMissed::Snoozed));
        let after = Ledger { fired_until: at(4), ..with(Fire::Occurrence(at(1))) };
        assert_eq!(reasons(&go(&after, at(4))), Vec::<&str>::new(), "the snooze is over at its end");
        assert!(may_start(&slug(), &after, &circumstances, at(4)));
        for fire in [
            Fire::Retry { of: "a-1".into(), attempt: 2 },
            Fire::Reset { of: "a-1".into(), attempt: 1, tries: 1, occurrence: Some(at(1)) },
        ] {
            let ledger = with(fire);
            assert_eq!(go(&ledger, last_second), Advance { ledger: ledger.clone(), missed: vec![] });
            assert!(!may_start(&slug(), &ledger, &circumstances, last_second));
            assert!(may_start(&slug(), &ledger, &circumstances, at(4)));
        }
    }
}

#[test]
fn one_fire_waits_at_most_and_an_attempt_gives_way() {
    let waiting = |fire| Some(Waiting { fire, since: at(0), not_before: at(0), text: None });
    let queued = Ledger { waiting: waiting(Fire::Occurrence(at(0))), ..begun() };
    let advance = go(&hourly(), &queued, at(1));
    assert_eq!(reasons(&advance), ["the fire of 2026-01-01T00:00:00Z still waits"]);
    assert_eq!(waits(&advance), Some(at(0)));
    let retrying = Ledger { waiting: waiting(Fire::Retry { of: "a-1".into(), attempt: 2 }), ..begun() };
    assert_eq!(waits(&go(&hourly(), &retrying, at(1))), Some(at(1)));
    let disabled = go(&Definition { enabled: false, ..hourly() }, &queued, at(1));
    assert!(waits(&disabled).is_none() && reasons(&disabled)[0].contains("disabled"));
}

#[test]
fn an_attempt_with_the_text_of_a_trigger_is_not_replaced() {
    let hold = held_until(5);
    let reset = Fire::Reset { of: "a-1".into(), attempt: 1, tries: 1, occurrence: None };
    let retry = Fire::Retry { of: "a-1".into(), attempt: 2 };
    for (fire, hold, why) in [
        (&reset, Some(&hold), WhyMissed::Held),
        (&reset, None, WhyMissed::Overlap),
        (&retry, Some(&hold), WhyMissed::Held),
        (&retry, None, WhyMissed::Overlap),
    ] {
        let waiting = Waiting { fire: fire.clone(), since: at(0), not_before: at(5), text: Some("pr 7".into()) };
        let ledger = Ledger { waiting: Some(waiting.clone()), ..begun() };
        let advance = go_held(&hourly(), &ledger, hold, at(1));
        assert_eq!((advance.ledger.waiting.as_ref(), advance.ledger.fired_until), (Some(&waiting), at(1)));
        assert_eq!(reasons(&advance), ["another attempt of a-1 still waits, with the text of its trigger"]);
        assert_eq!((advance.missed[0].occurrence, advance.missed[0].why), (at(1), why));
        let without = Ledger { waiting: Some(Waiting { text: None, ..waiting }), ..begun() };
        assert_eq!(waits(&go_held(&hourly(), &without, hold, at(1))), Some(at(1)));
    }
}

#[test]
fn while_its_agent_is_held_one_occurrence_waits_and_the_older_ones_are_missed() {
    let hold = held_until(5);
    let hold = Some(&hold);
    let first = go_held(&hourly(), &begun(), hold, at(1));
    assert_eq!((waits(&first), first.missed.len()), (Some(at(1)), 0));
    let second = go_held(&hourly(), &first.ledger, hold, at(2));
    assert_eq!((waits(&second), second.missed.len()), (Some(at(2)), 1));
    let missed = &second.missed[0];
    assert_eq!((missed.occurrence, missed.why), (at(1), WhyMissed::Held));
    assert_eq!(
        missed.reason,
        "the agent 'claude' was held until 2026-01-01T05:00:00Z: its account's 5-hour limit is used up (run b-1)"
    );
    let again = go_held(&hourly(), &second.ledger, hold, UnixSeconds(at(2).0 + 1));
    assert_eq!((&again.ledger, again.missed.len()), (&second.ledger, 0));
    // Once it is over, the one that waits has its turn again.
    let after = go_held(&hourly(), &second.ledger, hold, at(6));
    assert_eq!((waits(&after), after.missed.last().unwrap().why), (Some(at(2)), WhyMissed::Overlap));
    let waiting = Waiting {
        fire: Fire::Reset { of: "a-1".into(), attempt: 1, tries: 1, occurrence: None },
        since: at(0),
        not_before: at(5),
        text: None,
    };
    let own = Ledger { waiting: Some(waiting), ..begun() };
    let replaced = go_held(&hourly(), &own, hold, at(1));
    assert_eq!((waits(&replaced), replaced.missed.len()), (Some(at(1)), 0), "that one had its run");
}

#[test]
fn enabling_absolves() {
    let fallen = Ledger { disabled_because: Some("x".into()), consecutive_failures: 3, ..begun() };
    let advance = go(&hourly(), &fallen, at(0));
    assert_eq!((advance.ledger.disabled_because, advance.ledger.consecutive_failures), (None, 0));
    let disabled = go(&Definition { enabled: false, ..hourly() }, &fallen, at(0));
    assert!(disabled.ledger.disabled_because.is_some());
}

#[test]
fn a_ledger_from_a_wrong_clock_silences_nothing_for_years() {
    let wrong = Ledger { fired_until: at(24 * 400), ..begun() };
    assert_eq!(go(&hourly(), &wrong, at(1)).ledger.fired_until, at(1));
    let ahead = Ledger { fired_until: at(20), ..begun() };
    assert_eq!(go(&hourly(), &ahead, at(1)).ledger, ahead);
}

#[test]
fn each_overlap_does_what_it_says() {
    use Certainty::{Alive, Unknown};
    let slug: Slug = "a".parse().unwrap();
    let run = |id: &str, certainty, ending| AliveRun {
        id: id.parse().unwrap(),
        certainty,
        ending,
        engine: EngineKind::Local,
    };
    let room = |max_runs| Room { engine: EngineKind::Local, max_runs };
    let occurrence = Fire::Occurrence(at(1));
    let retry = Fire::Retry { of: "a-1".into(), attempt: 2 };
    let reset = Fire::Reset { of: "a-1".into(), attempt: 1, tries: 1, occurrence: Some(at(1)) };
    let alive =
        [run("a-1", Alive, false), run("a-2", Alive, true), run("a-3", Unknown, false), run("b-1", Alive, false)];
    let judging = [run("a-1", Certainty::BeingJudged, false)];
    let of = |overlap, fire: &Fire| decide_fire(&slug, overlap, fire, &alive, room(5));
    assert!(
        matches!(of(Overlap::Skip, &occurrence), FireDecision::Miss(WhyMissed::Overlap, reason) if reason.contains("a-1"))
    );
    assert_eq!(of(Overlap::Queue, &occurrence), FireDecision::AfterOwn(vec![]));
    assert_eq!(of(Overlap::Replace, &occurrence), FireDecision::AfterOwn(vec!["a-1".parse().unwrap()]));
    assert_eq!(of(Overlap::Allow, &occurrence), FireDecision::Start);
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Replace] {
        assert_eq!(of(overlap, &retry), FireDecision::AfterOwn(vec![]), "{overlap:?}");
        assert_eq!(of(overlap, &reset), FireDecision::AfterOwn(vec![]), "{overlap:?}");
    }
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Replace] {
        let turn = decide_fire(&slug, overlap, &occurrence, &judging, room(4));
        assert_eq!(turn, FireDecision::AfterOwn(vec![]), "{overlap:?} misses nothing for a run that may be dead");
    }
    assert_eq!(decide_fire(&slug, Overlap::Allow, &occurrence, &alive, room(4)), FireDecision::InLine);
    assert_eq!(
        decide_fire(&slug, Overlap::Skip, &occurrence, &[run("b-1", Unknown, false)], room(1)),
        FireDecision::InLine
    );
    assert_eq!(decide_fire(&slug, Overlap::Skip, &occurrence, &alive[3..], room(1)), FireDecision::InLine);
    assert_eq!(decide_fire(&slug, Overlap::Skip, &occurrence, &alive[3..], room(2)), FireDecision::Start);
    let on_slurm = Room { engine: EngineKind::Slurm, max_runs: 1 };
    assert_eq!(decide_fire(&slug, Overlap::Skip, &occurrence, &alive[3..], on_slurm), FireDecision::Start);
}

fn at_half_past_two(zone: &str) -> Definition {
    Definition { run_at: Some("2026-01-01T02:30".into()), timezone: Some(zone.into()), ..Definition::default() }
}

#[test]
fn a_moment_is_caught_up_missed_and_left_out_like_an_occurrence() {
    let once = at_half_past_two("UTC");
    let moment = UnixSeconds(at(2).0 + 1800);
    let due = go(&once, &begun_with(&once), at(3));
    assert_eq!((waits(&due), due.missed.len()), (Some(moment), 0));
    assert_eq!(due.ledger.run_at_fired, once.run_at);
    let none = Definition { catch_up: CatchUp::None, ..once.clone() };
    assert!(reasons(&go(&none, &begun_with(&none), at(3)))[0].contains("catch_up"));
    let snoozed = Ledger { snoozed_until: Some(at(3)), ..begun_with(&once) };
    assert_eq!(reasons(&go(&once, &snoozed, at(4))), ["snoozed until 2026-01-01T03:00:00Z"]);
    let skipping = Ledger { skip_next: true, ..begun_with(&once) };
    assert_eq!(reasons(&go(&once, &skipping, at(4))), ["skipped once, as asked"]);
    let both = Definition { schedule: hourly().schedule, ..once };
    let late = go(&both, &begun_with(&both), at(3));
    assert_eq!((waits(&late), late.missed.len()), (Some(at(3)), 3), "only the newest is caught up");
    let shared = Definition { run_at: Some("2026-01-01T03:00".into()), ..both };
    let one = go(&shared, &Ledger { fired_until: at(2), ..begun_with(&shared) }, at(3));
    assert_eq!((waits(&one), one.missed.len()), (Some(at(3)), 0), "one that both name fires once");
    assert!(one.ledger.run_at_fired.is_some());
}

#[test]
fn a_moment_that_was_past_when_it_was_set_never_comes() {
    let once = at_half_past_two("UTC");
    let mut late = Ledger::default();
    late.follow(&once, at(3));
    assert_eq!(go(&once, &late, at(30)), Advance { ledger: late, missed: vec![] });
}

proptest! {
    #[test]
    fn a_moment_fires_once_whatever_the_clock_and_the_zone_do(
        steps in proptest::collection::vec((-200_000..200_000_i64, 0..3_usize, any::<bool>()), 1..60)
    ) {
        let zones = ["UTC", "America/New_York", "Asia/Tokyo"];
        let (mut ledger, mut now, mut fires) = (begun_with(&at_half_past_two("UTC")), at(0), 0);
        for (step, zone, enabled) in steps {
            now = UnixSeconds(now.0.checked_add_signed(step).unwrap());
            let definition = Definition { enabled, ..at_half_past_two(zones[zone]) };
            let advance = go(&definition, &ledger, now);
            fires += u64::from(waits(&advance).is_some());
            ledger = Ledger { waiting: None, ..advance.ledger };
        }
        prop_assert!(fires <= 1, "{}", fires);
    }

    #[test]
    fn a_moment_that_is_reached_is_dealt_with_exactly_once(
        steps in proptest::collection::vec(1..7_200_u64, 1..40)
    ) {
        let once = at_half_past_two("UTC");
        let (mut ledger, mut now, mut dealt_with) = (begun_with(&once), at(0), 0);
        for step in steps {
            now = now.plus_secs(step);
            let advance = go(&once, &ledger, now);
            dealt_with += advance.missed.len() + usize::from(waits(&advance).is_some());
            ledger = Ledger { waiting: None, ..advance.ledger };
        }
        prop_assert_eq!(dealt_with, usize::from(now.0 >= at(2).0 + 1800));
    }

    #[test]
    fn what_is_held_is_fired_or_recorded_exactly_once_and_never_before_its_time(
        steps in proptest::collection::vec(1..9_000_u64, 1..40), ends in proptest::collection::vec(0..48_u64, 1..6)
    ) {
        let (mut ledger, mut now) = (begun(), at(0));
        let mut dealt_with = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            now = now.plus_secs(step);
            // Holds come, are extended and go.
            let hold = held_until(ends[n * ends.len() / 40 % ends.len()]);
            let advance = go_held(&hourly(), &ledger, Some(&hold), now);
            dealt_with.extend(advance.missed.iter().flat_map(|one| {
                (0..one.count).map(|back| one.occurrence.0 - back * HOUR)
            }));
            ledger = advance.ledger;
            let plan = Plan {
                next: None,
                fired_until: ledger.fired_until,
                waiting: ledger.waiting.clone().map(Arc::new),
                ..Plan::default()
            };
            if let Some(waiting) = &plan.waiting
                && hold::start_at(Some(&hold), waiting, &slug()) <= now
            {
                prop_assert!(now >= hold.held_until, "started while it was held");
                let Fire::Occurrence(occurrence) = waiting.fire else { panic!("no occurrence") };
                dealt_with.push(occurrence.0);
                ledger.waiting = None;
            }
        }
        if let Some(Waiting { fire: Fire::Occurrence(occurrence), .. }) = ledger.waiting {
            dealt_with.push(occurrence.0);
        }
        dealt_with.sort_unstable();
        let expected: Vec<u64> = (1..=(now.0 - START) / HOUR).map(|hour| START + hour * HOUR).collect();
        prop_assert_eq!(dealt_with, expected);
    }

    #[test]
    fn every_occurrence_fires_or_is_recorded_exactly_once(
        steps in proptest::collection::vec(0..30_000_u64, 1..40), catch_up: bool
    ) {
        let catch_up = if catch_up { CatchUp::Latest } else { CatchUp::None };
        let definition = Definition { catch_up, ..hourly() };
        let (mut ledger, mut now, mut dealt_with) = (begun(), at(0), 0);
        for step in steps {
            now = now.plus_secs(step);
            let advance = go(&definition, &ledger, now);
            dealt_with += advance.missed.iter().map(|one| one.count).sum::<u64>();
            dealt_with += u64::from(waits(&advance).is_some());
            ledger = Ledger { waiting: None, ..advance.ledger };
        }
        prop_assert_eq!(dealt_with, (now.0 - START) / HOUR);
    }
}
