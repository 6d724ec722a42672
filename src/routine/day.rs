//! The calendar day of a moment in a time zone, by which daily ceilings count.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::zone;
use crate::clock::UnixSeconds;

/// A calendar day: 24 hours, or 23 or 25 where the clocks change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Its first second.
    pub start: UnixSeconds,
    /// The first second of the next day.
    pub end: UnixSeconds,
}

const DAY_SECS: u64 = 24 * 60 * 60;

impl Day {
    /// Returns the day of a moment in a zone.
    pub fn of(zone: &TimeZone, moment: UnixSeconds) -> Self {
        Self::on_the_calendar(zone, moment).unwrap_or_else(|| {
            // Outside of the calendar: a clock that is centuries off.
            let start = UnixSeconds(moment.0 - moment.0 % DAY_SECS);
            Self { start, end: start.plus_secs(DAY_SECS) }
        })
    }

    /// Returns the day of a moment in a routine's zone: the one it names, else the machine's.
    pub fn of_routine(timezone: Option<&str>, moment: UnixSeconds) -> Self {
        let named = timezone.and_then(zone::built_in);
        Self::of(&named.unwrap_or_else(|| zone::of_machine().zone), moment)
    }

    fn on_the_calendar(zone: &TimeZone, moment: UnixSeconds) -> Option<Self> {
        let now = Timestamp::from_second(i64::try_from(moment.0).ok()?).ok()?.to_zoned(zone.clone());
        let today = now.start_of_day().ok()?;
        let tomorrow = now.tomorrow().ok()?.start_of_day().ok()?;
        let secs = |moment: &Zoned| u64::try_from(moment.timestamp().as_second()).ok().map(UnixSeconds);
        let day = Self { start: secs(&today)?, end: secs(&tomorrow)? };
        day.contains(moment).then_some(day)
    }

    /// Whether a moment is in the day.
    pub fn contains(&self, moment: UnixSeconds) -> bool {
        (self.start..self.end).contains(&moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZoneDatabase;
    use proptest::prelude::*;

    fn at(text: &str) -> UnixSeconds {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_begins_and_ends_at_midnight_of_its_zone() {
        let cases = [
            ("UTC", "2026-01-01T23:59:59Z", "2026-01-01T00:00:00Z", 24),
            ("UTC", "2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z", 24),
            ("Asia/Tokyo", "2026-01-01T15:00:00Z", "2026-01-01T15:00:00Z", 24),
            ("America/New_York", "2026-01-01T04:59:59Z", "2025-12-31T05:00:00Z", 24),
            ("Asia/Kathmandu", "2026-06-01T12:00:00Z", "2026-05-31T18:15:00Z", 24),
            // The clocks change.
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", 23),
            ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", 25),
            // At midnight: the day begins at 1 o'clock.
            ("America/Asuncion", "2023-10-01T12:00:00Z", "2023-10-01T04:00:00Z", 23),
        ];
        for (zone, moment, start, hours) in cases {
            let day = Day::of_routine(Some(zone), at(moment));
            assert_eq!(day, Day { start: at(start), end: at(start).plus_secs(hours * 3600) }, "{zone} {moment}");
        }
    }

    #[test]
    fn a_routine_without_a_zone_has_the_days_of_the_machine() {
        let now = UnixSeconds::now();
        assert_eq!(Day::of_routine(None, now), Day::of(&zone::of_machine().zone, now));
        let far = Day::of(&TimeZone::UTC, UnixSeconds(u64::MAX / 2));
        assert!(far.contains(UnixSeconds(u64::MAX / 2)));
    }

    proptest! {
        #[test]
        fn days_follow_one_another_without_a_gap(pick: prop::sample::Index, moment in 0..4_102_444_800_u64) {
            let database = TimeZoneDatabase::bundled();
            let zones: Vec<_> = database.available().collect();
            let zone = database.get(zones[pick.index(zones.len())].as_str()).unwrap();
            let day = Day::of(&zone, UnixSeconds(moment));
            prop_assert!(day.contains(UnixSeconds(moment)));
            prop_assert_eq!(Day::of(&zone, UnixSeconds(day.end.0 - 1)), day);
            prop_assert_eq!(Day::of(&zone, day.start), day);
            prop_assert_eq!(Day::of(&zone, day.end).start, day.end);
            prop_assert!((20..=28).contains(&((day.end.0 - day.start.0) / 3600)));
        }
    }
}
