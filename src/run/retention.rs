//! When a finished run's workbench may go.

use super::status::Status;
use crate::clock::UnixSeconds;

/// Returns when a run finished, for its retention (rule 4): as recorded, else the last write of its log, else its
/// trigger; never before the trigger, never in the future.
pub fn finish(
    triggered: UnixSeconds,
    retain_from: Option<UnixSeconds>,
    log_written: Option<UnixSeconds>,
    now: UnixSeconds,
) -> UnixSeconds {
    retain_from.or(log_written).unwrap_or(triggered).max(triggered).min(now)
}

/// Returns the first second in which the workbench's age exceeds its retention.
pub fn reap_at(finish: UnixSeconds, ttl_secs: u64) -> UnixSeconds {
    finish.plus_secs(ttl_secs).plus_secs(1)
}

/// Among which of a routine's runs `keep_last` counts one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Those that succeeded.
    Succeeded,
    /// Those that did not.
    Other,
}

/// Counts the newest finished runs of a routine, which stay whatever their age: `keep_last` that succeeded, and as many that did
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    succeeded_left: u64,
    other_left: u64,
}

impl Newest {
    pub fn of(keep_last: u64) -> Self {
        Self { succeeded_left: keep_last, other_left: keep_last }
    }

    /// Counts the next run, from the newest to the oldest, and returns whether it stays.
    pub fn takes(&mut self, group: Group) -> bool {
        let left = match group {
            Group::Succeeded => &mut self.succeeded_left,
            Group::Other => &mut self.other_left,
        };
        let takes = *left > 0;
        *left = left.saturating_sub(1);
        takes
    }

    /// Does the same by how the run ended; one that is counted nowhere does not stay.
    pub fn takes_status(&mut self, status: Status) -> bool {
        status.keep_last_group().is_some_and(|group| self.takes(group))
    }

    /// Whether no further run can stay.
    pub fn is_full(&self) -> bool {
        self.succeeded_left == 0 && self.other_left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(secs: u64) -> UnixSeconds {
        UnixSeconds(secs)
    }

    #[test]
    fn rule_4_the_finish_is_what_was_recorded_else_the_last_output() {
        assert_eq!(finish(at(10), Some(at(20)), Some(at(30)), at(99)), at(20));
        assert_eq!(finish(at(10), None, Some(at(30)), at(99)), at(30));
        assert_eq!(finish(at(10), None, None, at(99)), at(10));
    }

    #[test]
    fn succeeded_and_other_runs_are_counted_apart() {
        let mut newest = Newest::of(2);
        let [good, bad] = [Group::Succeeded, Group::Other];
        let given = [good, bad, good, good, bad];
        assert_eq!(given.map(|group| newest.takes(group)), [true, true, true, false, true]);
        assert!(newest.is_full() && !newest.takes(bad) && Newest::of(0).is_full());
    }

    proptest! {
        #[test]
        fn rule_4_the_finish_is_clamped(trigger in 0..1000u64, r: Option<u64>, w: Option<u64>, now in 0..2000u64) {
            let finish = finish(at(trigger), r.map(at), w.map(at), at(now));
            prop_assert!(finish <= at(now));
            prop_assert!(finish >= at(trigger.min(now)));
        }

        #[test]
        fn rule_5_a_finish_in_the_future_is_not_due(finish: u64, ttl: u64, before: u64) {
            let now = at(finish.saturating_sub(before));
            prop_assert!(reap_at(at(finish), ttl) > now || finish == u64::MAX);
        }
    }
}
