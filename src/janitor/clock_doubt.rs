//! Whether the wall clock is right: ages that are computed from a wrong one would remove what is young.

use std::fmt;

use crate::clock::{HumanDuration, Moment, UnixSeconds};
use crate::home::Home;

/// Why a sweep does not trust the wall clock: it then removes nothing. The sweep after it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDoubt {
    /// It was set since the last sweep.
    Set { by_secs: u64 },
    /// This is the first sweep since the machine was started, and the clock is far ahead of the last use of the home.
    AheadAtBoot {
        /// When the home was last in use.
        last_seen: UnixSeconds,
        /// How many seconds ago that would be.
        by_secs: u64,
    },
}

impl fmt::Display for ClockDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { by_secs } => {
                write!(f, "the wall clock was set by {} since the last sweep", HumanDuration(*by_secs))
            }
            Self::AheadAtBoot { last_seen, by_secs } => {
                let gap = HumanDuration(*by_secs).largest_unit();
                write!(f, "the machine was started with a clock {gap} ahead of the last use of this home ({last_seen})")
            }
        }
    }
}

const DAY_SECS: u64 = 24 * 60 * 60;

/// How far ahead a machine's clock may be: more than a weekday's break, and less than a clock whose battery is empty.
const TRUSTED_GAP_SECS: u64 = DAY_SECS;

/// When this home was last in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LastUse {
    pub(super) last_sweep: Option<Moment>,
    /// Whether that sweep doubted the clock that the machine was started with.
    pub(super) doubted: bool,
    /// When files that every run changes were last changed.
    pub(super) changed: Vec<UnixSeconds>,
}

/// Decides whether a sweep may trust the clock.
pub(super) fn doubt(last_use: &LastUse, now: &Moment) -> Option<ClockDoubt> {
    let LastUse { last_sweep, doubted, changed } = last_use;
    let same_boot = |last: &&Moment| !last.boot_id.is_empty() && last.boot_id == now.boot_id;
    if let Some(last) = last_sweep.as_ref().filter(same_boot) {
        return last.clock_jump_secs(now).map(|by_secs| ClockDoubt::Set { by_secs });
    }
    // Where boots have no name, every sweep might be the first: one doubt is enough.
    if *doubted && now.boot_id.is_empty() {
        return None;
    }
    // What was changed since the start bears the time of the clock that is in doubt.
    let started = UnixSeconds(now.at.0.saturating_sub(now.since_boot_ms / 1000));
    let before = changed.iter().copied().filter(|&at| at < started);
    let swept = last_sweep.iter().map(|last| last.at).filter(|&at| at <= now.at);
    let last_seen = before.chain(swept).max()?;
    let by_secs = last_seen.age_secs_at(now.at);
    (by_secs > TRUSTED_GAP_SECS).then_some(ClockDoubt::AheadAtBoot { last_seen, by_secs })
}

/// Returns when files that every run changes were last changed.
pub(super) fn last_changes(home: &Home) -> Vec<UnixSeconds> {
    let changed = [home.history_file(), home.running(), home.workbenches()];
    changed.iter().filter_map(|path| Some(path.symlink_metadata().ok()?.modified().ok()?.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn moment(boot: &str, at: u64, since_boot_secs: u64) -> Moment {
        Moment { at: UnixSeconds(at), boot_id: boot.into(), since_boot_ms: since_boot_secs * 1000 }
    }

    fn used(last_sweep: Option<Moment>, changed: &[u64]) -> LastUse {
        LastUse { last_sweep, doubted: false, changed: changed.iter().map(|&at| UnixSeconds(at)).collect() }
    }

    #[test]
    fn the_first_sweep_after_a_start_far_ahead_is_in_doubt_and_the_next_is_not() {
        let now = moment("b", NOW, 60);
        let before = |secs| Some(moment("a", NOW - secs, 5_000));
        let ahead = |secs| Some(ClockDoubt::AheadAtBoot { last_seen: UnixSeconds(NOW - secs), by_secs: secs });
        assert_eq!(doubt(&used(before(DAY_SECS), &[]), &now), None);
        assert_eq!(doubt(&used(before(DAY_SECS + 1), &[]), &now), ahead(DAY_SECS + 1));
        assert_eq!(doubt(&used(None, &[NOW - 3 * DAY_SECS]), &now), ahead(3 * DAY_SECS), "no sweep is known");
        assert_eq!(doubt(&used(Some(now.clone()), &[NOW - 9 * DAY_SECS]), &moment("b", NOW + 10, 70)), None);
        let said = doubt(&used(before(3 * DAY_SECS), &[]), &now).unwrap().to_string();
        assert!(said.contains("3 days ahead") && said.contains("2027-01-12"), "{said}");
    }

    #[test]
    fn what_was_changed_before_the_start_was_seen_and_what_came_after_it_proves_nothing() {
        let now = moment("b", NOW, 60);
        let swept = Some(moment("a", NOW - 9 * DAY_SECS, 5_000));
        let at = |changed| doubt(&used(swept.clone(), &[changed]), &now);
        assert_eq!(at(NOW - 3600), None, "an hour ago, by another program perhaps");
        assert!(at(NOW - 30).is_some(), "since the start, with the clock in doubt");
        assert!(at(NOW + 30).is_some(), "in the future");
    }

    #[test]
    fn nothing_seen_is_nothing_to_doubt() {
        assert_eq!(doubt(&LastUse::default(), &moment("b", NOW, 60)), None);
        assert_eq!(doubt(&used(Some(moment("a", NOW + 99, 1)), &[NOW + 7]), &moment("b", NOW, 60)), None);
    }

    #[test]
    fn where_boots_have_no_name_every_other_sweep_at_least_is_made() {
        let now = moment("", NOW, 60);
        let mut used = used(Some(moment("", NOW - 2 * DAY_SECS, 60)), &[]);
        assert!(doubt(&used, &now).is_some());
        used.doubted = true;
        assert_eq!(doubt(&used, &now), None);
    }

    proptest! {
        #[test]
        fn a_later_sign_of_life_never_makes_a_doubt(
            swept in 0..NOW, seen in 0..NOW, later in 0..NOW, since_boot in 0..DAY_SECS
        ) {
            let now = moment("b", NOW, since_boot);
            let less = used(Some(moment("a", swept, 0)), &[seen]);
            let more = used(Some(moment("a", swept, 0)), &[seen, later]);
            prop_assert!(doubt(&less, &now).is_some() || doubt(&more, &now).is_none());
        }
    }
}
