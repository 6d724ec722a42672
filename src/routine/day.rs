//! The calendar day of a moment in a time zone, by which daily ceilings count.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

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
        // By the date: a clock change may skip this time of day tomorrow.
        let start_of = |date: Date| {
            let start = date.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
            Some(UnixSeconds(u64::try_from(start.timestamp().as_second()).unwrap_or(0)))
        };
        let (today, tomorrow) = (now.date(), now.date().tomorrow().ok()?);
        let midnight = start_of(tomorrow)?;
        let day = if moment < midnight {
            Self { start: start_of(today)?, end: midnight }
        } else {
            // The clock went back over midnight, and it is the end of today again.
            Self { start: midnight, end: start_of(tomorrow.tomorrow().ok()?)? }
        };
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
            // Up to midnight: this time of day does not exist tomorrow, which has 23 hours.
            ("America/Nuuk", "2084-03-25T01:59:59Z", "2084-03-24T02:00:00Z", 24),
            ("America/Nuuk", "2084-03-26T00:59:59Z", "2084-03-25T02:00:00Z", 23),
            // Back over midnight by two hours: the end of a day comes again, in the next one.
            ("America/St_Johns", "1988-10-30T02:59:59Z", "1988-10-30T01:30:00Z", 26),
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

    /// Before these, a day may begin before the epoch.
    const FIRST_WHOLE_DAYS: u64 = 4 * DAY_SECS;

    proptest! {
        #[test]
        fn days_follow_one_another_without_a_gap(
            pick: prop::sample::Index,
            moment in FIRST_WHOLE_DAYS..4_102_444_800_u64,
            secs_off in -50 * 3600..50 * 3600_i64,
        ) {
            let database = TimeZoneDatabase::bundled();
            let zones: Vec<_> = database.available().collect();
            let zone = database.get(zones[pick.index(zones.len())].as_str()).unwrap();
            // Any moment, and one near a change of the clocks.
            let somewhere = Timestamp::from_second(i64::try_from(moment).unwrap()).unwrap();
            let change = zone.following(somewhere).next().map_or(somewhere, |change| change.timestamp());
            let about_it = u64::try_from(change.as_second() + secs_off).unwrap();
            for moment in [moment, about_it] {
                let day = Day::of(&zone, UnixSeconds(moment));
                prop_assert!(day.contains(UnixSeconds(moment)));
                prop_assert_eq!(Day::of(&zone, UnixSeconds(day.end.0 - 1)), day);
                prop_assert_eq!(Day::of(&zone, day.start), day);
                prop_assert_eq!(Day::of(&zone, day.end).start, day.end);
                // Vostok moved its clocks by seven hours.
                prop_assert!((17..=31).contains(&((day.end.0 - day.start.0) / 3600)));
            }
        }
    }
}
