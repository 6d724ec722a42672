//! What a sweep does, decided in one pure function: a dry run prints this plan, and a real run carries it out (rule 9).

use std::collections::HashMap;

use crate::clock::UnixSeconds;
use crate::routine::bounds::Bounds;
use crate::routine::slug::Slug;
use crate::run::id::RunId;
use crate::run::retention::{finish, reap_at};

/// What is known of one workbench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// The run.
    pub run: RunId,
    /// Whether it lives.
    pub life: Life,
    /// What its outcome says, if it has one.
    pub retain_from: Option<UnixSeconds>,
    /// The last write of its log.
    pub log_written: Option<UnixSeconds>,
}

/// Whether a run lives (rule 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Alive,
    /// It does without its supervisor: these processes are left of it.
    Unsupervised(String),
    /// It does not, for certain.
    Finished,
    /// Nothing was read of it, for its name alone tells that it is too young to be due.
    Unread,
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// What becomes of one workbench, always with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The run.
    pub run: RunId,
    /// What becomes of it.
    pub fate: Fate,
    /// Why.
    pub reason: String,
}

/// What becomes of a workbench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is removed.
    Reap,
    /// It stays, until then if that can be told.
    Keep(Option<UnixSeconds>),
}

/// Tells whether a run without an entry is too young to be due, by its name alone: it cannot have finished before its
/// stamp. Such a workbench costs no system call of its own.
#[must_use]
pub fn is_young(run: &RunId, bounds: &Bounds, now: UnixSeconds) -> bool {
    run.stamp().age_secs_at(now) <= bounds.ttl_secs
}

/// Decides what becomes of each workbench. `bounds` holds those of every routine that is named; `clock_jump_secs` tells by
/// how much the wall clock was set since the last sweep, if it was.
#[must_use]
pub fn plan<'a>(
    benches: impl IntoIterator<Item = &'a Bench>,
    bounds: &HashMap<Slug, Bounds>,
    now: UnixSeconds,
    clock_jump_secs: Option<u64>,
) -> Vec<Verdict> {
    let judge = |bench: &Bench| judge(bench, bounds.get(bench.run.routine()), now);
    benches.into_iter().map(judge).map(|verdict| defer(verdict, clock_jump_secs)).collect()
}

/// Puts off what a clock that was just set would have removed.
fn defer(verdict: Verdict, clock_jump_secs: Option<u64>) -> Verdict {
    match (verdict.fate, clock_jump_secs) {
        (Fate::Reap, Some(secs)) => {
            let reason = format!(
                "{}; but the wall clock was set by {secs} s since the last sweep, so that is left to the next",
                verdict.reason
            );
            Verdict { fate: Fate::Keep(None), reason, ..verdict }
        }
        _ => verdict,
    }
}

fn judge(bench: &Bench, bounds: Option<&Bounds>, now: UnixSeconds) -> Verdict {
    let (fate, reason) = match (&bench.life, bounds) {
        (Life::Alive, _) => (Fate::Keep(None), "it is alive".to_owned()),
        (Life::Unsupervised(left), _) => {
            (Fate::Keep(None), format!("it is alive, though its supervisor is gone: {left}"))
        }
        (Life::Unknown(cause), _) => (Fate::Keep(None), format!("nothing certain is known of it: {cause}")),
        (Life::Finished | Life::Unread, None) => {
            (Fate::Keep(None), "the bounds of its routine are not known".to_owned())
        }
        (Life::Unread, Some(bounds)) if is_young(&bench.run, bounds, now) => young(&bench.run, bounds, now),
        (Life::Unread, Some(_)) => {
            (Fate::Keep(None), "it has only just come of age; the next sweep reads it".to_owned())
        }
        (Life::Finished, Some(bounds)) => retain(bench, bounds, now),
    };
    Verdict { run: bench.run.clone(), fate, reason }
}

fn young(run: &RunId, bounds: &Bounds, now: UnixSeconds) -> (Fate, String) {
    let (age, ttl) = (run.stamp().age_secs_at(now), bounds.ttl_secs);
    let reason = format!("it was triggered {age} s ago, and is kept for {ttl} s from its finish on{}", note(bounds));
    (Fate::Keep(Some(reap_at(run.stamp().min(now), ttl))), reason)
}

fn note(bounds: &Bounds) -> String {
    bounds.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default()
}

fn retain(bench: &Bench, bounds: &Bounds, now: UnixSeconds) -> (Fate, String) {
    let finished = finish(bench.run.stamp(), bench.retain_from, bench.log_written, now);
    let (age, ttl) = (finished.age_secs_at(now), bounds.ttl_secs);
    let reason = format!("it finished {age} s ago, and is kept for {ttl} s{}", note(bounds));
    let fate = if age > ttl { Fate::Reap } else { Fate::Keep(Some(reap_at(finished, ttl))) };
    (fate, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bench(life: Life, triggered: u64, retain_from: Option<u64>, log_written: Option<u64>) -> Bench {
        Bench {
            run: RunId::new("a".parse().unwrap(), UnixSeconds(triggered)),
            life,
            retain_from: retain_from.map(UnixSeconds),
            log_written: log_written.map(UnixSeconds),
        }
    }

    fn fate(bench: Bench, ttl_secs: u64, now: u64) -> Fate {
        let bounds = Bounds { ttl_secs, max_runtime_secs: 1, max_silence_secs: None, note: None };
        let bounds = HashMap::from([("a".parse().unwrap(), bounds)]);
        plan(&[bench], &bounds, UnixSeconds(now), None)[0].fate
    }

    #[test]
    fn rule_4_a_finished_run_goes_when_its_age_exceeds_its_retention() {
        let finished = || bench(Life::Finished, 10, Some(100), None);
        assert_eq!(fate(finished(), 50, 150), Fate::Keep(Some(UnixSeconds(151))));
        assert_eq!(fate(finished(), 50, 151), Fate::Reap);
    }

    #[test]
    fn rule_4_without_an_outcome_the_last_write_of_the_log_counts() {
        assert_eq!(fate(bench(Life::Finished, 10, None, Some(100)), 50, 150), Fate::Keep(Some(UnixSeconds(151))));
        assert_eq!(fate(bench(Life::Finished, 10, None, Some(5)), 50, 61), Fate::Reap, "clamped to the trigger");
    }

    #[test]
    fn rule_5_a_timestamp_in_the_future_has_the_age_0() {
        assert_eq!(fate(bench(Life::Finished, 900, None, None), 50, 100), Fate::Keep(Some(UnixSeconds(151))));
    }

    #[test]
    fn rule_6_no_bounds_no_removal() {
        let verdicts = plan(&[bench(Life::Finished, 1, None, None)], &HashMap::new(), UnixSeconds(u64::MAX), None);
        assert!(matches!(verdicts[0].fate, Fate::Keep(_)));
    }

    #[test]
    fn a_clock_that_was_set_removes_nothing_and_says_so() {
        let bounds = Bounds { ttl_secs: 1, max_runtime_secs: 1, max_silence_secs: None, note: None };
        let bounds = HashMap::from([("a".parse().unwrap(), bounds)]);
        let due = [bench(Life::Finished, 1, Some(1), None)];
        let verdict = plan(&due, &bounds, UnixSeconds(999_999), Some(999_000)).remove(0);
        assert_eq!(verdict.fate, Fate::Keep(None));
        assert!(verdict.reason.contains("999000"), "{}", verdict.reason);
    }

    fn times() -> impl Strategy<Value = (u64, Option<u64>, Option<u64>, u64, u64)> {
        (any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<u64>(), any::<u64>())
    }

    proptest! {
        #[test]
        fn rule_2_no_time_makes_an_alive_or_unknown_run_go((t, r, w, ttl, now) in times(), which in 0..3u8) {
            let life = match which {
                0 => Life::Alive,
                1 => Life::Unsupervised("x".into()),
                _ => Life::Unknown("x".into()),
            };
            prop_assert_eq!(fate(bench(life, t, r, w), ttl, now), Fate::Keep(None));
        }

        #[test]
        fn what_was_not_read_never_goes_and_what_is_young_by_name_would_not_go((t, r, w, ttl, now) in times()) {
            prop_assert_ne!(fate(bench(Life::Unread, t, r, w), ttl, now), Fate::Reap);
            let bounds = Bounds { ttl_secs: ttl, max_runtime_secs: 1, max_silence_secs: None, note: None };
            if is_young(&bench(Life::Unread, t, r, w).run, &bounds, UnixSeconds(now)) {
                prop_assert_ne!(fate(bench(Life::Finished, t, r, w), ttl, now), Fate::Reap);
            }
        }

        #[test]
        fn rule_4_nothing_goes_before_its_retention_has_passed_since_its_trigger((t, r, w, ttl, now) in times()) {
            if fate(bench(Life::Finished, t, r, w), ttl, now) == Fate::Reap {
                prop_assert!(now.saturating_sub(t) > ttl);
            }
        }

        #[test]
        fn what_is_kept_until_a_time_goes_at_that_time((t, r, w, ttl, now) in times()) {
            if let Fate::Keep(Some(until)) = fate(bench(Life::Finished, t, r, w), ttl, now) {
                prop_assert!(until.0 > now || until.0 == u64::MAX);
                // At its time the finish that was clamped to now may have moved on; a recorded one has not.
                if r.is_some_and(|r| r.max(t) <= now) && until.0 < u64::MAX {
                    prop_assert_eq!(fate(bench(Life::Finished, t, r, w), ttl, until.0), Fate::Reap);
                }
            }
        }
    }
}
