use super::*;
use crate::home::config::UnsavedWork;
use proptest::prelude::*;

fn item(state: RunState, triggered: u64, retain_from: Option<u64>, log_written: Option<u64>) -> Item {
    Item {
        status: Status::Succeeded,
        retain_from: retain_from.map(UnixSeconds),
        log_written: log_written.map(UnixSeconds),
        ..Item::new(RunId::new("a".parse().unwrap(), UnixSeconds(triggered)), state)
    }
}

fn status(succeeded: bool) -> Status {
    if succeeded { Status::Succeeded } else { Status::Failed }
}

/// A run that finished at its trigger.
fn finished(at: u64, succeeded: bool, bytes: u64) -> Item {
    Item { status: status(succeeded), bytes, ..item(RunState::Finished, at, Some(at), None) }
}

fn bounds(ttl_secs: u64, failed_ttl_secs: u64, keep_last: u64) -> HashMap<Slug, Bounds> {
    let bounds = Bounds {
        ttl_secs,
        failed_ttl_secs,
        keep_last,
        max_runtime_secs: 1,
        max_silence_secs: None,
        answer_within_secs: 1,
        unsaved_work: UnsavedWork::default(),
        archive_files: [].into(),
        may_skip: false,
        orphaned: false,
        note: None,
    };
    HashMap::from([("a".parse().unwrap(), bounds)])
}

fn verdicts(items: Vec<Item>, bounds: &HashMap<Slug, Bounds>, pins: &[u64], disk: Disk, now: u64) -> Vec<Verdict> {
    let pins = pins.iter().map(|at| RunId::new("a".parse().unwrap(), UnixSeconds(*at))).collect();
    let not_archivable = &BTreeSet::new();
    plan(items, &Rules { bounds, pins: &pins, not_archivable, disk, now: UnixSeconds(now), clock_doubt: None })
}

fn decision(item: Item, ttl_secs: u64, now: u64) -> Decision {
    verdicts(vec![item], &bounds(ttl_secs, ttl_secs, 0), &[], Disk::default(), now)[0].decision
}

/// Returns the triggers of those that go.
fn gone(verdicts: &[Verdict]) -> Vec<u64> {
    let reaped = verdicts.iter().filter(|verdict| verdict.decision == Decision::Remove);
    reaped.map(|verdict| verdict.run.stamp().0).collect()
}

#[test]
fn rule_4_a_finished_run_goes_when_its_age_exceeds_its_retention() {
    let finished = || item(RunState::Finished, 10, Some(100), None);
    assert_eq!(decision(finished(), 50, 150), Decision::Keep(Some(UnixSeconds(151))));
    assert_eq!(decision(finished(), 50, 151), Decision::Remove);
}

#[test]
fn rule_4_without_an_outcome_the_last_write_of_the_log_counts() {
    assert_eq!(
        decision(item(RunState::Finished, 10, None, Some(100)), 50, 150),
        Decision::Keep(Some(UnixSeconds(151)))
    );
    assert_eq!(
        decision(item(RunState::Finished, 10, None, Some(5)), 50, 61),
        Decision::Remove,
        "clamped to the trigger"
    );
}

#[test]
fn what_was_skipped_goes_when_it_is_said_to_go() {
    let skipped = |state| Item { status: Status::Skipped, ..item(state, 10, Some(12), None) };
    for (may_skip, goes) in [(true, 13), (false, 63)] {
        let mut bounds = bounds(50, 70, 0);
        bounds.values_mut().for_each(|bounds| bounds.may_skip = may_skip);
        let judge = |state, now| verdicts(vec![skipped(state)], &bounds, &[], Disk::default(), now).remove(0);
        assert_eq!(judge(RunState::Finished, goes - 1).decision, Decision::Keep(Some(UnixSeconds(goes))));
        assert_eq!(judge(RunState::Finished, goes).decision, Decision::Remove);
        for (state, now) in [(RunState::Finished, 12), (RunState::Unread, 10)].into_iter().filter(|_| may_skip) {
            let reason = judge(state, now).reason.to_string();
            assert_eq!(reason, "it was over 0 s ago; the next sweep decides");
        }
    }
}

#[test]
fn a_run_that_waits_for_an_answer_stays_whatever_its_age_and_however_short_the_disk() {
    let asked = |state| Item { status: Status::Asked, bytes: 9, ..item(state, 10, Some(12), None) };
    let short = Disk { used_of_max: Some((99, 1)), free_of_min: None };
    let judge = |state| verdicts(vec![asked(state)], &bounds(1, 1, 0), &[], short, 999).remove(0);
    let open = judge(RunState::Asked);
    assert_eq!((open.decision, open.reason.to_string()), (Decision::Keep(None), "it waits for an answer".to_owned()));
    assert_eq!(judge(RunState::Finished).decision, Decision::Remove, "its question was closed");
    let both = vec![asked(RunState::Asked), finished(20, false, 0)];
    assert_eq!(gone(&verdicts(both, &bounds(1, 1, 1), &[], Disk::default(), 999)), [0; 0], "it takes no other's place");
}

#[test]
fn rule_5_a_timestamp_in_the_future_has_the_age_0() {
    assert_eq!(decision(item(RunState::Finished, 900, None, None), 50, 100), Decision::Keep(Some(UnixSeconds(151))));
}

#[test]
fn rule_6_no_bounds_no_removal() {
    let ancient = vec![item(RunState::Finished, 1, None, None)];
    let verdict = verdicts(ancient, &HashMap::new(), &[], Disk::default(), u64::MAX).remove(0);
    assert!(matches!(verdict.decision, Decision::Keep(_)));
}

#[test]
fn a_clock_in_doubt_removes_nothing_and_says_so() {
    let (bounds, pins, now) = (bounds(1, 1, 0), BTreeSet::new(), UnixSeconds(999_999));
    let set = ClockDoubt::Set { by_secs: 999_000 };
    let ahead = ClockDoubt::AheadAtBoot { last_seen: UnixSeconds(1), by_secs: 999_998 };
    for (doubt, said) in [(set, "11 days 13 h"), (ahead, "11 days ahead")] {
        let not_archivable = &BTreeSet::new();
        let disk = Disk::default();
        let rules = Rules { bounds: &bounds, pins: &pins, not_archivable, disk, now, clock_doubt: Some(doubt) };
        let verdict = plan(vec![item(RunState::Finished, 1, Some(1), None)], &rules).remove(0);
        assert_eq!(verdict.decision, Decision::Keep(None));
        let reason = verdict.reason.to_string();
        assert!(reason.contains(said) && reason.contains("past its retention of 1 s"), "{reason}");
    }
}

#[test]
fn a_run_that_did_not_succeed_has_a_retention_of_its_own() {
    let both = || vec![finished(10, false, 0), finished(11, true, 0)];
    let go = |ttl, failed_ttl, now| gone(&verdicts(both(), &bounds(ttl, failed_ttl, 0), &[], Disk::default(), now));
    assert_eq!(go(50, 150, 100), [11]);
    assert_eq!(go(150, 50, 100), [10]);
    assert_eq!(go(50, 150, 161), [10, 11]);
}

#[test]
fn the_newest_stay_whatever_their_age_and_failures_do_not_push_successes_out() {
    let runs = || vec![finished(1, true, 0), finished(2, true, 0), finished(3, false, 0), finished(4, false, 0)];
    let kept_apart = verdicts(runs(), &bounds(5, 5, 1), &[], Disk::default(), 1000);
    assert_eq!(gone(&kept_apart), [1, 3]);
    assert_eq!((kept_apart[1].decision, &kept_apart[1].reason.why), (Decision::Keep(None), &Why::Newest(1)));
    assert_eq!(gone(&verdicts(runs(), &bounds(5, 5, 0), &[], Disk::default(), 1000)), [1, 2, 3, 4]);
    assert_eq!(gone(&verdicts(runs(), &bounds(5, 5, 9), &[], Disk::default(), 1000)), [] as [u64; 0]);
    let mut young = runs();
    young.push(finished(999, true, 0));
    assert_eq!(gone(&verdicts(young, &bounds(5, 5, 1), &[], Disk::default(), 1000)), [1, 2, 3]);
}

#[test]
fn what_has_no_outcome_is_nobodys_newest() {
    let runs =
        vec![finished(1, false, 0), Item { status: Status::Failed, ..item(RunState::Finished, 2, None, Some(2)) }];
    assert_eq!(gone(&verdicts(runs, &bounds(5, 5, 1), &[], Disk::default(), 1000)), [2]);
}

#[test]
fn a_pin_keeps_whatever_age_and_disk_say() {
    let runs = vec![finished(1, true, 100), finished(2, true, 100)];
    let disk = Disk { used_of_max: Some((200, 0)), free_of_min: Some((0, u64::MAX)) };
    let verdicts = verdicts(runs, &bounds(5, 5, 0), &[1], disk, 1000);
    assert_eq!(gone(&verdicts), [2]);
    assert_eq!((verdicts[0].decision, &verdicts[0].reason.why), (Decision::Keep(None), &Why::Pinned));
}

#[test]
fn over_a_budget_the_oldest_finished_go_first_and_no_more_than_needed() {
    let runs = || vec![finished(10, true, 40), finished(20, false, 40), finished(30, true, 40)];
    let over = Disk { used_of_max: Some((120, 50)), free_of_min: None };
    let verdicts_of = |disk, keep_last| verdicts(runs(), &bounds(1000, 1000, keep_last), &[], disk, 100);
    let plan = verdicts_of(over, 0);
    assert_eq!(gone(&plan), [10, 20]);
    assert!(plan[0].reason.to_string().contains("max_workbench_bytes is 50"), "{}", plan[0].reason);
    assert_eq!(gone(&verdicts_of(Disk { used_of_max: Some((120, 120)), free_of_min: None }, 0)), [] as [u64; 0]);
    let short = Disk { used_of_max: None, free_of_min: Some((10, 50)) };
    let plan = verdicts_of(short, 9);
    assert_eq!(gone(&plan), [10], "a budget goes before keep_last");
    assert!(plan[0].reason.to_string().contains("min_free_bytes is 50"), "{}", plan[0].reason);
}

#[test]
fn nothing_more_goes_for_a_budget_once_it_is_not_known_what_that_gives_back() {
    let disk = Disk { used_of_max: None, free_of_min: Some((0, 1000)) };
    let cut_off = |at, bytes| Item { measured: false, ..finished(at, true, bytes) };
    let runs = vec![finished(10, true, 40), cut_off(20, 1), cut_off(30, 0), cut_off(40, 0)];
    assert_eq!(gone(&verdicts(runs.clone(), &bounds(1000, 1000, 0), &[], disk, 100)), [10, 20]);
    assert_eq!(gone(&verdicts(runs[1..].to_vec(), &bounds(75, 75, 0), &[], disk, 100)), [20], "by its age");
}

#[test]
fn what_goes_by_its_age_counts_for_the_budget() {
    let runs = vec![finished(10, true, 40), finished(90, true, 40)];
    let disk = Disk { used_of_max: Some((80, 40)), free_of_min: None };
    let plan = verdicts(runs, &bounds(50, 50, 0), &[], disk, 100);
    assert_eq!(gone(&plan), [10]);
    assert_eq!(plan[0].reason.why, Why::Expired);
}

#[test]
fn the_oldest_is_the_one_that_finished_first() {
    let runs = vec![Item { bytes: 40, ..item(RunState::Finished, 10, Some(90), None) }, finished(20, true, 40)];
    let disk = Disk { used_of_max: Some((80, 40)), free_of_min: None };
    assert_eq!(gone(&verdicts(runs, &bounds(1000, 1000, 0), &[], disk, 100)), [20]);
}

fn times() -> impl Strategy<Value = (u64, Option<u64>, Option<u64>, u64, u64)> {
    (any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<u64>(), any::<u64>())
}

proptest! {
    #[test]
    fn rule_2_nothing_makes_an_alive_unknown_or_pinned_run_go(
        (t, r, w, ttl, now) in times(), which in 0..4u8, used: u64, max: u64, free: u64, min: u64,
        keep_last: u64, succeeded: bool
    ) {
        let state = match which {
            0 => RunState::Alive,
            1 => RunState::Unsupervised("x".into()),
            2 => RunState::Unknown("x".into()),
            _ => RunState::Finished,
        };
        let disk = Disk { used_of_max: Some((used, max)), free_of_min: Some((free, min)) };
        let pins: &[u64] = if which == 3 { &[t] } else { &[] };
        let one = Item { status: status(succeeded), bytes: used, ..item(state, t, r, w) };
        let verdicts = verdicts(vec![one], &bounds(ttl, ttl, keep_last), pins, disk, now);
        prop_assert_eq!(verdicts[0].decision, Decision::Keep(None));
    }

    #[test]
    fn what_was_not_read_never_goes_and_what_is_young_by_name_would_not_go(
        (t, r, w, ttl, now) in times(), failed_ttl: u64, which in 0..3usize, may_skip: bool
    ) {
        let mut bounds = bounds(ttl, failed_ttl, 0);
        bounds.values_mut().for_each(|bounds| bounds.may_skip = may_skip);
        let decision = |state| {
            // Its routine may have had a precheck when it was skipped, and have none now.
            let status = [Status::Succeeded, Status::Failed, Status::Skipped][which];
            let one = Item { status, ..item(state, t, r, w) };
            verdicts(vec![one], &bounds, &[], Disk::default(), now)[0].decision
        };
        prop_assert_ne!(decision(RunState::Unread), Decision::Remove);
        let run = item(RunState::Unread, t, r, w).run;
        if is_young(&run, &bounds[run.routine()], UnixSeconds(now)) {
            prop_assert_ne!(decision(RunState::Finished), Decision::Remove);
        }
    }

    #[test]
    fn rule_4_nothing_goes_before_its_retention_has_passed_since_its_trigger((t, r, w, ttl, now) in times()) {
        if decision(item(RunState::Finished, t, r, w), ttl, now) == Decision::Remove {
            prop_assert!(now.saturating_sub(t) > ttl);
        }
    }

    #[test]
    fn what_is_kept_until_a_time_goes_at_that_time((t, r, w, ttl, now) in times()) {
        if let Decision::Keep(Some(until)) = decision(item(RunState::Finished, t, r, w), ttl, now) {
            prop_assert!(until.0 > now || until.0 == u64::MAX);
            // At its time the finish that was clamped to now may have moved on; a recorded one has not.
            if r.is_some_and(|r| r.max(t) <= now) && until.0 < u64::MAX {
                prop_assert_eq!(decision(item(RunState::Finished, t, r, w), ttl, until.0), Decision::Remove);
            }
        }
    }

    #[test]
    fn a_budget_takes_whole_generations_and_stops_when_it_is_kept(
        sizes in proptest::collection::vec((0..100u64, any::<bool>()), 0..12), max in 0..600u64, keep_last in 0..4u64
    ) {
        let runs: Vec<Item> =
            sizes.iter().zip(10..).map(|((bytes, succeeded), at)| finished(at, *succeeded, *bytes)).collect();
        let used: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
        let disk = Disk { used_of_max: Some((used, max)), free_of_min: None };
        let verdicts = verdicts(runs, &bounds(1000, 1000, keep_last), &[], disk, 500);
        let count = gone(&verdicts).len();
        prop_assert!(verdicts[..count].iter().all(|verdict| verdict.decision == Decision::Remove), "the oldest, without a gap");
        let left: u64 = sizes[count..].iter().map(|(bytes, _)| bytes).sum();
        prop_assert!(left <= max);
        if count > 0 {
            prop_assert!(left + sizes[count - 1].0 > max, "the last one had to go");
        }
    }
}
