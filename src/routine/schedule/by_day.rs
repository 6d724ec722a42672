//! How often a schedule fires on each of the coming days, without a walk through every minute of a month.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::{Schedule, next_of};
use crate::clock::UnixSeconds;
use crate::routine::day::Day;

impl Schedule {
    /// Counts the occurrences after a moment on each of some days that follow one another.
    ///
    /// Days of the schedule's own zone that are equally long and on which the same expressions fire have the same times, so only
    /// the first of them is walked through.
    pub fn count_by_day(&self, after: UnixSeconds, days: &[Day]) -> Vec<u64> {
        let mut counts = vec![0; days.len()];
        let (Some(first), Some(last)) = (days.first(), days.last()) else { return counts };
        let mut count = |at: UnixSeconds| {
            let place = days.partition_point(|day| day.end <= at);
            if let Some(count) = counts.get_mut(place).filter(|_| at > after && at >= first.start) {
                *count += 1;
            }
        };
        let zone = self.zone_now();
        let before = |moment: UnixSeconds| UnixSeconds(moment.0.saturating_sub(1));
        let mut known: HashMap<(Vec<usize>, u64), Vec<u64>> = HashMap::new();
        let mut day = Day::of(&zone, first.start.max(after));
        let mut next: Vec<_> = self.crons.iter().map(|cron| next_of(cron, &zone, before(day.start))).collect();
        while day.start < last.end {
            for (next, cron) in
                next.iter_mut().zip(&self.crons).filter(|(next, _)| next.is_some_and(|at| at < day.start))
            {
                *next = next_of(cron, &zone, before(day.start));
            }
            let firing = (0..next.len()).filter(|cron| next[*cron].is_some_and(|at| at < day.end)).collect::<Vec<_>>();
            let secs = day.end.0 - day.start.0;
            let offsets =
                known.entry((firing, secs)).or_insert_with_key(|(firing, _)| self.offsets(firing, &zone, &day));
            offsets.iter().for_each(|offset| count(day.start.plus_secs(*offset)));
            day = Day::of(&zone, day.end);
        }
        if let Some(once) = self.run_at_after(&zone, after)
            && !self.crons.iter().any(|cron| next_of(cron, &zone, before(once)) == Some(once))
        {
            count(once);
        }
        counts
    }

    /// Walks through a day; returns when some of the expressions fire, in seconds from its begin.
    fn offsets(&self, firing: &[usize], zone: &TimeZone, day: &Day) -> Vec<u64> {
        let mut offsets = Vec::new();
        for cron in firing.iter().filter_map(|cron| self.crons.get(*cron)) {
            let mut at = UnixSeconds(day.start.0.saturating_sub(1));
            while let Some(next) = next_of(cron, zone, at).filter(|next| *next < day.end) {
                offsets.push(next.0 - day.start.0);
                at = next;
            }
        }
        offsets.sort_unstable();
        offsets.dedup();
        offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routine::schedule::CronExpressions;
    use crate::routine::zone;
    use proptest::prelude::*;

    fn days(zone: &TimeZone, from: UnixSeconds, count: usize) -> Vec<Day> {
        std::iter::successors(Some(Day::of(zone, from)), |day| Some(Day::of(zone, day.end))).take(count).collect()
    }

    fn schedule(expressions: &[&str], run_at: Option<&str>, timezone: &str) -> Schedule {
        let expressions = CronExpressions::Several(expressions.iter().map(ToString::to_string).collect());
        Schedule::parse(Some(&expressions), run_at, Some(timezone)).unwrap().unwrap()
    }

    #[test]
    fn each_day_has_its_fires_and_today_those_that_are_left() {
        let zone = zone::built_in("Europe/Berlin").unwrap();
        let now: UnixSeconds = "2026-10-23T10:00:00Z".parse().unwrap();
        let days = days(&zone, now, 5);
        let counts =
            |expressions: &[&str], run_at| schedule(expressions, run_at, "Europe/Berlin").count_by_day(now, &days);
        assert_eq!(counts(&["0 9 * * *"], None), [0, 1, 1, 1, 1]);
        assert_eq!(counts(&["0 9 * * 1-5", "0 18 * * *"], None), [1, 1, 1, 2, 2]);
        // The clocks change on Sunday.
        assert_eq!(counts(&["* * * * *"], None), [719, 1440, 1500, 1440, 1440]);
        assert_eq!(counts(&["0 9 * * *"], Some("2026-10-24T09:00")), [0, 1, 1, 1, 1], "at the same time");
        assert_eq!(counts(&["0 9 * * *"], Some("2026-10-24T09:01")), [0, 2, 1, 1, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn it_counts_what_a_walk_through_all_of_it_finds(
            now in 1_767_225_600..1_830_000_000_u64,
            ahead in 0..200_000_u64,
            expressions in prop::sample::subsequence(
                vec!["*/7 3-5 * * *", "30 2 * * *", "0 0 1 * *", "15 */5 * * 1", "5 1 * * 0,6", "0 12 * 3 *"], 1..4
            ),
            zones in prop::sample::subsequence(vec!["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"], 2),
        ) {
            let now = UnixSeconds(now);
            let schedule = schedule(&expressions, None, zones[0]);
            let days = days(&zone::built_in(zones[1]).unwrap(), now, 28);
            let after = now.plus_secs(ahead);
            let all: Vec<UnixSeconds> = schedule.all_after(after).take_while(|at| *at < days[27].end).collect();
            let expected: Vec<u64> =
                days.iter().map(|day| all.iter().filter(|at| day.contains(**at)).count() as u64).collect();
            prop_assert_eq!(schedule.count_by_day(after, &days), expected);
        }
    }
}
