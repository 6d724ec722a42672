//! The days around now in the machine's time zone.
//!
//! Periods begin with a day, so that what is summed up over them changes at midnight and otherwise only with the runs.

use crate::clock::UnixSeconds;
use crate::routine::day::Day;
use crate::routine::zone;

/// How many days back runs are shown, and how many ahead fires are counted.
const DAYS: usize = 28;
const WEEK: usize = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    /// The last 28 days, today the last of them.
    past: Vec<Day>,
    /// The next 28, today the first of them.
    pub(super) coming: Vec<Day>,
    /// The name of the zone, if it has one.
    pub(super) zone: Option<String>,
}

impl Calendar {
    pub(super) fn at(now: UnixSeconds) -> Self {
        let machine = zone::of_machine();
        let zone = machine.zone;
        let today = Day::of(&zone, now);
        let before = |day: &Day| Some(Day::of(&zone, UnixSeconds(day.start.0.saturating_sub(1))));
        let mut past: Vec<Day> = std::iter::successors(Some(today), before).take(DAYS).collect();
        past.reverse();
        let coming = std::iter::successors(Some(today), |day| Some(Day::of(&zone, day.end))).take(DAYS).collect();
        let name = zone.iana_name().filter(|_| machine.unknown.is_none()).map(str::to_owned);
        Self { past, coming, zone: name }
    }

    /// Returns where the last 28 days begin.
    pub(super) fn month(&self) -> UnixSeconds {
        self.past.first().map_or(UnixSeconds(0), |day| day.start)
    }

    /// Returns where the last 7 days begin.
    pub(super) fn week(&self) -> UnixSeconds {
        self.past.get(DAYS - WEEK).map_or(UnixSeconds(0), |day| day.start)
    }

    /// Returns when today ends.
    pub(super) fn midnight(&self) -> UnixSeconds {
        self.past.last().map_or(UnixSeconds(0), |day| day.end)
    }

    /// Returns when the day of a moment begins; for a future moment, when today begins.
    pub(super) fn day_of(&self, moment: UnixSeconds) -> UnixSeconds {
        let after = self.past.partition_point(|day| day.start <= moment);
        after.checked_sub(1).and_then(|place| self.past.get(place)).map_or_else(|| self.month(), |day| day.start)
    }

    /// Returns how many days before today a moment is, at most 27.
    pub(super) fn days_before_today(&self, moment: UnixSeconds) -> usize {
        let after = self.past.partition_point(|day| day.start <= moment).max(1);
        self.past.len() - after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_is_the_last_of_the_past_days_and_the_first_of_the_coming_ones() {
        let now = UnixSeconds(1_796_000_000);
        let calendar = Calendar::at(now);
        assert_eq!((calendar.past.len(), calendar.coming.len()), (28, 28));
        assert_eq!(calendar.past.last(), calendar.coming.first());
        assert!(calendar.coming[0].contains(now) && calendar.midnight() > now);
        assert_eq!(calendar.day_of(now), calendar.coming[0].start);
        assert_eq!(calendar.day_of(calendar.week()), calendar.week());
        assert_eq!(calendar.day_of(UnixSeconds(calendar.week().0 - 1)), calendar.past[20].start);
        assert_eq!(calendar.day_of(UnixSeconds(0)), calendar.month());
        let days = [now, UnixSeconds(u64::MAX), calendar.week(), calendar.month(), UnixSeconds(0)];
        assert_eq!(days.map(|moment| calendar.days_before_today(moment)), [0, 0, 6, 27, 27]);
    }
}
