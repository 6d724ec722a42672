//! Time as this program sees it: whole seconds on the wall, and a moment that survives a wall clock that jumps.

mod human_duration;

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::text_type::text_type;

pub use human_duration::HumanDuration;

/// Whole seconds since the Unix epoch; written as RFC 3339 in UTC wherever a person or a program reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, SerializeDisplay, DeserializeFromStr)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Returns the wall clock's time. A clock set before 1970 reads as 0, so that ages come out as too large to be
    /// trusted for nothing: every use saturates.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Returns the seconds from `self` to `now`; a time in the future has the age 0 (rule 5).
    pub fn age_secs_at(self, now: Self) -> u64 {
        now.0.saturating_sub(self.0)
    }

    /// Returns the time `secs` later, at most the largest representable one.
    pub fn plus_secs(self, secs: u64) -> Self {
        Self(self.0.saturating_add(secs))
    }
}

impl From<SystemTime> for UnixSeconds {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }
}

impl fmt::Display for UnixSeconds {
    /// Writes RFC 3339; a number of seconds outside chrono's years falls back to `@seconds`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = i64::try_from(self.0).ok().and_then(|secs| DateTime::<Utc>::from_timestamp(secs, 0));
        match date {
            Some(date) => f.write_str(&date.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => write!(f, "@{}", self.0),
        }
    }
}

/// A text that is not a time.
#[derive(Debug, thiserror::Error)]
#[error("'{text}' is not a time: write RFC 3339, such as 2026-01-31T08:00:00Z")]
pub struct NotATime {
    text: String,
}

impl FromStr for UnixSeconds {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let seconds = match text.strip_prefix('@') {
            Some(digits) => digits.parse().ok(),
            None => DateTime::parse_from_rfc3339(text).ok().map(|date| u64::try_from(date.timestamp()).unwrap_or(0)),
        };
        seconds.map(Self).ok_or_else(|| NotATime { text: text.to_owned() })
    }
}

text_type!(UnixSeconds, "date-time");

/// A point in time on two clocks: the wall, and the one that counts from boot through sleep.
///
/// Within one boot the second clock cannot be set, so elapsed time is taken from it when both moments share the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The wall clock.
    pub at: UnixSeconds,
    /// Which boot of the machine this was; empty where the system does not show it.
    pub boot_id: String,
    /// Milliseconds since that boot, sleep included.
    pub since_boot_ms: u64,
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self { at: UnixSeconds::now(), boot_id: boot_id(), since_boot_ms: since_boot_ms() }
    }

    /// Returns the seconds from `self` to `now`, by the boot clock where both moments share a boot, else by the wall;
    /// never negative.
    pub fn elapsed_secs_at(&self, now: &Self) -> u64 {
        if !self.boot_id.is_empty() && self.boot_id == now.boot_id {
            now.since_boot_ms.saturating_sub(self.since_boot_ms) / 1000
        } else {
            self.at.age_secs_at(now.at)
        }
    }
}

/// How far the two clocks may drift apart between two moments before the wall clock counts as set.
const TOLERATED_DRIFT_SECS: u64 = 60;

impl Moment {
    /// Returns by how many seconds the wall clock was set between `self` and `now`, if it was set by more than a minute;
    /// `None` too where the moments share no boot, so nothing is known.
    pub fn clock_jump_secs(&self, now: &Self) -> Option<u64> {
        if self.boot_id.is_empty() || self.boot_id != now.boot_id {
            return None;
        }
        let by_boot = now.since_boot_ms.saturating_sub(self.since_boot_ms) / 1000;
        let jump = self.at.0.saturating_add(by_boot).abs_diff(now.at.0);
        (jump > TOLERATED_DRIFT_SECS).then_some(jump)
    }
}

/// Counts from boot through sleep.
#[cfg(target_os = "linux")]
const BOOT_CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const BOOT_CLOCK: ClockId = ClockId::Monotonic;

/// Other systems than Linux have no id of the boot that can be read without unsafe code, so that the wall clock decides.
fn boot_id() -> String {
    let id = cfg!(target_os = "linux").then(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok());
    id.flatten().map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn since_boot_ms() -> u64 {
    let time = clock_gettime(BOOT_CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_reads_as_rfc_3339() {
        assert_eq!(UnixSeconds(1_780_000_000).to_string(), "2026-05-28T20:26:40Z");
        assert_eq!("2026-05-28T22:26:40+02:00".parse::<UnixSeconds>().unwrap(), UnixSeconds(1_780_000_000));
        assert!("yesterday".parse::<UnixSeconds>().is_err());
        // What models write for ever.
        let last: UnixSeconds = "9999-12-31T23:59:59Z".parse().unwrap();
        assert_eq!(last.to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn elapsed_time_ignores_a_jump_of_the_wall_within_one_boot() {
        let start = Moment { at: UnixSeconds(1000), boot_id: "a".into(), since_boot_ms: 5_000 };
        let later = Moment { at: UnixSeconds(999_999), boot_id: "a".into(), since_boot_ms: 8_500 };
        assert_eq!(start.elapsed_secs_at(&later), 3);
        let rebooted = Moment { boot_id: "b".into(), ..later };
        assert_eq!(start.elapsed_secs_at(&rebooted), 998_999);
    }

    #[test]
    fn a_wall_clock_that_was_set_is_noticed_within_one_boot() {
        let moment = |at, since_boot_ms| Moment { at: UnixSeconds(at), boot_id: "a".into(), since_boot_ms };
        let start = moment(10_000, 5_000);
        assert_eq!(start.clock_jump_secs(&moment(13_600, 3_605_000)), None);
        assert_eq!(start.clock_jump_secs(&moment(13_000, 5_000)), Some(3_000));
        assert_eq!(start.clock_jump_secs(&moment(9_000, 65_000)), Some(1_060), "backwards");
        assert_eq!(start.clock_jump_secs(&Moment { boot_id: "b".into(), ..moment(99_000, 0) }), None);
    }

    proptest! {
        #[test]
        fn ages_saturate(a: u64, b: u64) {
            prop_assert_eq!(UnixSeconds(a).age_secs_at(UnixSeconds(b)), b.saturating_sub(a));
        }

        #[test]
        fn times_print_and_parse_back(secs: u64) {
            let time = UnixSeconds(secs);
            prop_assert_eq!(time.to_string().parse::<UnixSeconds>().unwrap(), time);
        }
    }
}
