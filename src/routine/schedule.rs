//! When a routine fires by itself: five cron fields, or one of a few names, in a time zone.

use std::collections::VecDeque;
use std::sync::LazyLock;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::CronParser;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::invalid_field::InvalidField;
use super::zone;
use crate::clock::UnixSeconds;

/// A schedule that fires at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    cron: Cron,
    /// The machine's if absent. That may change, so each question to the schedule reads it again.
    zone: Option<TimeZone>,
}

/// Occurrences that have passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many there were before those in `newest`, and the last of them.
    pub older: Option<(u64, UnixSeconds)>,
    /// The newest, in order.
    pub newest: Vec<UnixSeconds>,
}

/// How many occurrences of a gap are told one by one, the one that may be made up for included.
const TOLD: usize = 101;

/// How far back a gap is looked into: a clock that was centuries off must not keep a tick busy for minutes.
const LONGEST_GAP_SECS: u64 = 366 * 24 * 60 * 60;

/// 4950-01-01: half a century before the end of croner's calendar. The dates that fields without a year can name all come within
/// 40 years, and where none does, croner looks on until that end.
const NEAR_THE_END: UnixSeconds = UnixSeconds(94_039_747_200);

/// The names of schedules, with the fields that they stand for.
const NAMES: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

impl Schedule {
    /// Reads a schedule; without a zone it is always in the one the machine has at the time.
    ///
    /// # Errors
    /// The field `schedule` is no schedule or never fires, or `timezone` is no IANA time zone.
    pub fn parse(text: &str, timezone: Option<&str>) -> Result<Self, InvalidField> {
        let zone = timezone.map(|name| zone::built_in(name).ok_or_else(|| unknown_zone(name))).transpose()?;
        let refuse = |rule: String| InvalidField::new("schedule", format_args!("'{text}'"), rule);
        let fields = fields(text).map_err(refuse)?;
        let schedule = Self { cron: parse_cron(fields).map_err(refuse)?, zone };
        // Elsewhere a date has to be found, in whatever zone.
        if !is_in_each_month(fields.split_whitespace().nth(2))
            && schedule.next_in(&TimeZone::UTC, NEAR_THE_END).is_none()
        {
            return Err(refuse("no date matches it, so it would never fire; mend its day or its month".to_owned()));
        }
        Ok(schedule)
    }

    /// Says whether it fires at other moments once the machine's zone is another.
    #[must_use]
    pub fn follows_machine_zone(&self) -> bool {
        self.zone.is_none()
    }

    /// Returns the first occurrence after a moment; `None` at the end of the calendar.
    #[must_use]
    pub fn next_after(&self, moment: UnixSeconds) -> Option<UnixSeconds> {
        self.next_in(&self.zone_now(), moment)
    }

    /// Returns the first occurrence after a moment like [`Self::next_after`], for a caller that has just read the machine's zone.
    pub(super) fn next_after_on(&self, machine: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
        self.next_in(self.zone.as_ref().unwrap_or(machine), moment)
    }

    fn zone_now(&self) -> TimeZone {
        self.zone.clone().unwrap_or_else(zone::of_machine)
    }

    fn next_in(&self, zone: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
        let moment = Timestamp::from_second(i64::try_from(moment.0).ok()?).ok()?;
        let from = moment.to_zoned(zone.clone());
        // A step that is none would keep whoever walks on from here busy for ever.
        let next = self.cron.find_next_occurrence(&from, false).ok().filter(|next| *next > from)?;
        u64::try_from(next.timestamp().as_second()).ok().map(UnixSeconds)
    }

    /// Returns all occurrences after a moment, in one zone.
    fn all_after(&self, moment: UnixSeconds) -> impl Iterator<Item = UnixSeconds> {
        let zone = self.zone_now();
        let next = move |moment| self.next_in(&zone, moment);
        std::iter::successors(next(moment), move |last| next(*last))
    }

    /// Returns the next `count` occurrences after a moment.
    #[must_use]
    pub fn upcoming(&self, after: UnixSeconds, count: usize) -> Vec<UnixSeconds> {
        self.all_after(after).take(count).collect()
    }

    /// Returns the occurrences after `after` up to and including `until`; of a gap of more than a year, those of its last year.
    #[must_use]
    pub fn passed(&self, after: UnixSeconds, until: UnixSeconds) -> Passed {
        let after = after.max(UnixSeconds(until.0.saturating_sub(LONGEST_GAP_SECS)));
        let (mut older, mut newest) = (None, VecDeque::new());
        for occurrence in self.all_after(after).take_while(|occurrence| *occurrence <= until) {
            newest.push_back(occurrence);
            if newest.len() > TOLD
                && let Some(last) = newest.pop_front()
            {
                older = Some((older.map_or(1, |(count, _)| count + 1), last));
            }
        }
        Passed { older, newest: newest.into() }
    }

    /// Says in words when it fires, with the zone.
    #[must_use]
    pub fn description(&self) -> String {
        let words = self.cron.describe();
        format!("{} ({})", words.trim_end_matches('.'), self.zone_now().iana_name().unwrap_or("UTC"))
    }
}

/// The longest schedule: five full lists are shorter.
const MAX_CRON_BYTES: usize = 1024;

/// Returns the five fields that a schedule consists of or stands for.
fn fields(text: &str) -> Result<&str, String> {
    let names = || NAMES.map(|(name, _)| name).join(", ");
    if text.len() > MAX_CRON_BYTES {
        return Err(format!(
            "it has {} bytes, and {MAX_CRON_BYTES} are enough for any; write five cron fields",
            text.len()
        ));
    }
    if text.trim_start().starts_with('@') {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, fields)| *fields);
        return named.ok_or_else(|| format!("the names are {}; write one of them, or five cron fields", names()));
    }
    if text.split_whitespace().count() != 5 {
        return Err(format!(
            "it has five fields, minute, hour, day, month and weekday, such as 0 9 * * 1-5, or is one of {}",
            names()
        ));
    }
    Ok(text)
}

fn parse_cron(fields: &str) -> Result<Cron, String> {
    parse_fields(fields)
        .map_err(|error| format!("{error}; write minute, hour, day, month and weekday, such as 0 9 * * 1-5"))
}

/// Parses five fields. Those of croner have a year too, and setting thousands of these one by one is most of its work; so it gets
/// one year, and all of them are put in its place.
fn parse_fields(fields: &str) -> Result<Cron, CronError> {
    static EVERY_MINUTE: LazyLock<Option<Cron>> = LazyLock::new(|| CronParser::new().parse("* * * * *").ok());
    let Some(every_minute) = &*EVERY_MINUTE else { return CronParser::new().parse(fields) };
    let mut cron = CronParser::new().parse(&format!("0 {fields} 2000"))?;
    cron.pattern.years.clone_from(&every_minute.pattern.years);
    Ok(cron)
}

/// Says whether a field for the day of the month is one that each month has: any day, or a single one up to the 28th.
fn is_in_each_month(day: Option<&str>) -> bool {
    day.is_some_and(|day| matches!(day, "*" | "?") || day.parse().is_ok_and(|day: u8| (1..=28).contains(&day)))
}

fn unknown_zone(name: &str) -> InvalidField {
    let wanted = name.to_lowercase();
    // Longer than any zone, and not worth being compared with all of them.
    const MOST_LIKE_BYTES: usize = 64;
    let wanted = if wanted.len() > MOST_LIKE_BYTES { String::new() } else { wanted };
    let database = TimeZoneDatabase::bundled();
    let likenesses =
        database.available().map(|name| (strsim::jaro_winkler(&wanted, &name.as_str().to_lowercase()), name));
    let closest = likenesses
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map_or_else(String::new, |(_, name)| format!(" (did you mean '{name}'?)"));
    let rule = format!(
        "there is no such time zone{closest}; give an IANA name such as Europe/Berlin, or leave it out for \
                        the machine's"
    );
    InvalidField::new("timezone", format_args!("'{name}'"), rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use croner::parser::{Seconds, Year};
    use proptest::prelude::*;

    fn at(text: &str) -> UnixSeconds {
        text.parse().unwrap()
    }

    fn in_berlin(text: &str) -> Schedule {
        Schedule::parse(text, Some("Europe/Berlin")).unwrap()
    }

    #[track_caller]
    fn fires(schedule: &str, after: &str, expected: &[&str]) {
        let found = in_berlin(schedule).upcoming(at(after), expected.len());
        assert_eq!(found, expected.iter().map(|text| at(text)).collect::<Vec<_>>(), "{schedule}");
    }

    #[test]
    fn a_schedule_is_in_its_zone() {
        fires("30 9 * * 1-5", "2026-01-02T12:00:00Z", &["2026-01-05T08:30:00Z", "2026-01-06T08:30:00Z"]);
        fires("@daily", "2026-07-01T00:00:00Z", &["2026-07-01T22:00:00Z"]);
        assert_eq!(in_berlin("30 9 * * 1-5").next_after(at("2026-01-05T08:30:00Z")), Some(at("2026-01-06T08:30:00Z")));
    }

    #[test]
    fn a_time_that_the_clock_skips_fires_right_after_the_gap_if_it_is_one_time_a_day() {
        // On 2026-03-29 at 02:00 the clock goes to 03:00, which is 01:00 UTC.
        fires("30 2 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn an_interval_leaves_out_what_the_clock_skips() {
        let expected = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
        fires("*/30 * * * *", "2026-03-29T00:00:00Z", &expected);
    }

    #[test]
    fn a_time_that_comes_twice_fires_the_first_time_only_if_it_is_one_time_a_day() {
        // On 2026-10-25 at 03:00 the clock goes back to 02:00, which is 01:00 UTC.
        fires("30 2 * * *", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn an_interval_fires_in_both_of_the_hours_that_the_clock_repeats() {
        let expected = [
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
        ];
        fires("*/30 * * * *", "2026-10-24T23:30:00Z", &expected);
    }

    #[test]
    fn nonsense_names_the_field_and_what_would_do() {
        let bad = [
            "",
            "* * * *",
            "* * * * * *",
            "61 * * * *",
            "0 9 * * blue",
            "@reboot",
            "@DAILY x",
            "@midnight",
            "a b c d e",
            "0 0 30 2 *",
            "0 0 31 4 *",
            "*/0 * * * *",
        ];
        for text in bad {
            let error = Schedule::parse(text, None).unwrap_err().to_string();
            assert!(error.starts_with("`schedule` is '"), "{text}: {error}");
        }
        let never = Schedule::parse("0 0 30 2 *", None).unwrap_err().to_string();
        assert!(never.contains("never fire"), "{never}");
        for every_day in ["* * * * *", "0 0 * 2 0", "0 0 * * +mon#5", "59 23 ? 12 7L"] {
            let schedule = Schedule::parse(every_day, Some("UTC")).unwrap();
            assert!(schedule.next_after(NEAR_THE_END).is_some(), "{every_day}");
        }
        for weekday in 0..7 {
            let leap_day = format!("0 0 29 2 +{weekday}");
            assert!(Schedule::parse(&leap_day, None).is_ok(), "a leap year will come");
        }
    }

    #[test]
    fn an_unknown_zone_names_the_closest() {
        let error = Schedule::parse("@daily", Some("Europe/Berln")).unwrap_err().to_string();
        assert!(error.contains("`timezone`") && error.contains("'Europe/Berlin'"), "{error}");
        assert!(Schedule::parse("@daily", Some("")).is_err());
        assert!(Schedule::parse("@daily", Some(&"x".repeat(1 << 20))).is_err(), "and soon");
        assert!(Schedule::parse(&"1,".repeat(1 << 20), None).is_err(), "and soon");
    }

    #[test]
    fn it_is_described_with_its_zone() {
        let words = in_berlin("0 9 * * 1-5").description();
        assert_eq!(words, "At 09:00, on Monday, Tuesday, Wednesday, Thursday, and Friday (Europe/Berlin)");
    }

    #[test]
    fn of_a_long_gap_the_newest_are_told_and_the_others_counted() {
        let hourly = in_berlin("@hourly");
        let passed = hourly.passed(at("2026-01-01T00:00:00Z"), at("2026-01-11T00:00:00Z"));
        assert_eq!((passed.older, passed.newest.len()), (Some((240 - 101, at("2026-01-06T19:00:00Z"))), 101));
        assert_eq!(passed.newest.last(), Some(&at("2026-01-11T00:00:00Z")));
        let older = hourly.passed(UnixSeconds(0), at("2026-01-11T00:00:00Z")).older;
        assert_eq!(older.unwrap().0, 366 * 24 - 101, "a year at most");
        assert_eq!(hourly.passed(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:59:59Z")), Passed::default());
    }

    #[test]
    fn fields_are_parsed_as_they_would_be_with_every_year() {
        let whole = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let texts = NAMES.into_iter().map(|(_, fields)| fields);
        for text in texts.chain(["0 9 * * 1-5", "*/7 0-5/2 L * *", "0 0 ? jan-mar mon#2", "5 5 13W * +fri"]) {
            let (ours, theirs) = (parse_fields(text).unwrap(), whole.parse(text).unwrap());
            assert_eq!((&ours, ours.describe()), (&theirs, theirs.describe()));
        }
        for (name, fields) in NAMES {
            assert_eq!(whole.parse(name).unwrap(), whole.parse(fields).unwrap(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn each_occurrence_is_later_than_the_one_before_in_whatever_zone(
            minute in "(\\*/15|\\*/7|[1-5]?[0-9])", hour in "(\\*|\\*/[2-9]|[0-4]|1,2,3)", zone in 0..5_usize,
            from in 1_767_225_600..1_830_000_000_u64,
        ) {
            let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"][zone];
            let schedule = Schedule::parse(&format!("{minute} {hour} * * *"), Some(zone)).unwrap();
            let mut last = UnixSeconds(from);
            let upcoming = schedule.upcoming(last, 200);
            prop_assert_eq!(upcoming.len(), 200);
            for next in upcoming {
                prop_assert!(next > last && next.0 % 60 == 0);
                last = next;
            }
        }

        #[test]
        fn no_text_does_worse_than_an_error(text in "[ -~]{0,30}", zone in "[ -~]{0,20}") {
            let _ = Schedule::parse(&text, Some(&zone));
            let _ = Schedule::parse(&text, None);
        }
    }
}
