//! What a sweep does, decided in one pure function: a dry run prints this plan, and a real run carries it out (rule 9).

use std::collections::BTreeMap;

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
    /// When it was triggered.
    pub triggered: UnixSeconds,
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
    /// It does not, for certain.
    Finished,
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

/// Decides what becomes of each workbench. `bounds` holds those of every routine that is named.
#[must_use]
pub fn plan(benches: &[Bench], bounds: &BTreeMap<Slug, Bounds>, now: UnixSeconds) -> Vec<Verdict> {
    benches.iter().map(|bench| judge(bench, bounds.get(bench.run.routine()), now)).collect()
}

fn judge(bench: &Bench, bounds: Option<&Bounds>, now: UnixSeconds) -> Verdict {
    let (fate, reason) = match (&bench.life, bounds) {
        (Life::Alive, _) => (Fate::Keep(None), "it is alive".to_owned()),
        (Life::Unknown(cause), _) => (Fate::Keep(None), format!("nothing certain is known of it: {cause}")),
        (Life::Finished, None) => (Fate::Keep(None), "the bounds of its routine are not known".to_owned()),
        (Life::Finished, Some(bounds)) => retain(bench, bounds, now),
    };
    Verdict { run: bench.run.clone(), fate, reason }
}

fn retain(bench: &Bench, bounds: &Bounds, now: UnixSeconds) -> (Fate, String) {
    let finished = finish(bench.triggered, bench.retain_from, bench.log_written, now);
    let (age, ttl) = (finished.age_secs_at(now), bounds.ttl_secs);
    let note = bounds.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    if age > ttl {
        (Fate::Reap, format!("it finished {age} s ago, and is kept for {ttl} s{note}"))
    } else {
        let reason = format!("it finished {age} s ago, and is kept for {ttl} s{note}");
        (Fate::Keep(Some(reap_at(finished, ttl))), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bench(life: Life, triggered: u64, retain_from: Option<u64>, log_written: Option<u64>) -> Bench {
        Bench {
            run: RunId::new("a".parse().unwrap(), UnixSeconds(triggered)),
            life,
            triggered: UnixSeconds(triggered),
            retain_from: retain_from.map(UnixSeconds),
            log_written: log_written.map(UnixSeconds),
        }
    }

    fn fate(bench: Bench, ttl_secs: u64, now: u64) -> Fate {
        let bounds = Bounds { ttl_secs, max_runtime_secs: 1, note: None };
        let bounds = BTreeMap::from([("a".parse().unwrap(), bounds)]);
        plan(&[bench], &bounds, UnixSeconds(now))[0].fate
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
        let verdicts = plan(&[bench(Life::Finished, 1, None, None)], &BTreeMap::new(), UnixSeconds(u64::MAX));
        assert!(matches!(verdicts[0].fate, Fate::Keep(_)));
    }

    fn times() -> impl Strategy<Value = (u64, Option<u64>, Option<u64>, u64, u64)> {
        (any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<u64>(), any::<u64>())
    }

    proptest! {
        #[test]
        fn rule_2_no_time_makes_an_alive_or_unknown_run_go((t, r, w, ttl, now) in times(), alive: bool) {
            let life = if alive { Life::Alive } else { Life::Unknown("x".into()) };
            prop_assert_eq!(fate(bench(life, t, r, w), ttl, now), Fate::Keep(None));
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
