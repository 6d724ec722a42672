//! Whether what a description says is what happens: its words are read again, by their grammar alone, and compared with the next
//! fires.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use proptest::prelude::*;
use regex::Regex;

use super::*;

fn parse(fields: &str) -> Result<Schedule, InvalidField> {
    Schedule::parse(Some(&fields.into()), None, Some("UTC")).map(Option::unwrap)
}

type Numbers = BTreeSet<i8>;

#[derive(Debug)]
struct Said {
    minutes: Numbers,
    hours: Numbers,
    months: Numbers,
    day: SaidDay,
}

#[derive(Debug)]
enum SaidDay {
    Any,
    Of(Days),
    On(Weekdays),
    Either(Days, Weekdays),
    Both(Days, Weekdays),
}

#[derive(Debug)]
enum Days {
    Numbered(Numbers),
    Last,
    LastWeekday,
    Nearest(i8),
}

/// Weekdays, 0 is Sunday: each one, the nth one of the month, or the last one.
#[derive(Debug)]
struct Weekdays {
    days: Numbers,
    nth: Option<Nth>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Nth {
    Number(i8),
    Last,
}

fn captures<'t>(pattern: &str, text: &'t str) -> Option<Vec<Option<&'t str>>> {
    let found = Regex::new(&format!("^(?i:{pattern})$")).unwrap().captures(text)?;
    Some(found.iter().map(|group| Some(group?.as_str())).collect())
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(", ").flat_map(|item| item.split(" and ")).map(|item| item.trim_start_matches("and ").trim())
}

fn numbers(list: &str) -> Numbers {
    let number = |text: &str| text.parse::<i8>().unwrap_or_else(|_| panic!("no number: '{text}' of '{list}'"));
    items(list)
        .flat_map(|item| match item.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(item)..=number(item),
        })
        .collect()
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn named(list: &str, names: &[&str]) -> Numbers {
    let number = |item: &str| {
        let at = names.iter().position(|name| *name == item).unwrap_or_else(|| panic!("no name: '{item}' of '{list}'"));
        i8::try_from(at).unwrap()
    };
    items(list).map(number).collect()
}

/// "Every 7 minutes" would be a rhythm that goes on over the hour.
fn each(step: &str, end: i8) -> Numbers {
    let step: usize = step.parse().unwrap();
    assert_eq!(usize::try_from(end).unwrap() % step, 0, "every {step}");
    (0..end).step_by(step).collect()
}

fn all(end: i8) -> Numbers {
    (0..end).collect()
}

impl Said {
    fn read(words: &str) -> Self {
        let parts =
            captures(r"(.+?)(?:, on (.+?))?(?:, in (.+?))? \(UTC\)", words).unwrap_or_else(|| panic!("{words}"));
        let (minutes, hours) = Self::time(parts[1].unwrap()).unwrap_or_else(|| panic!("no time: {words}"));
        let months =
            parts[3].map_or_else(|| all(12), |list| named(list, &MONTHS)).iter().map(|month| month + 1).collect();
        Self { minutes, hours, months, day: parts[2].map_or(SaidDay::Any, SaidDay::read) }
    }

    fn time(words: &str) -> Option<(Numbers, Numbers)> {
        if words == "Every minute" {
            return Some((all(60), all(24)));
        }
        if let Some(at) = captures(r"At (\d\d):(\d\d)", words) {
            return Some((numbers(at[2]?), numbers(at[1]?)));
        }
        if let Some(past) = captures(r"Every minute past hour (.+)", words) {
            return Some((all(60), numbers(past[1]?)));
        }
        if let Some(past) = captures(r"At minute (.+) past every hour", words) {
            return Some((numbers(past[1]?), all(24)));
        }
        let minutes = r"minute ([\d, and-]+?)|every (\d+) minutes";
        let hours = r"of hour (.+)|of every (\d+) hours";
        let at = captures(&format!("At (?:{minutes})(?:, (?:{hours}))?"), words)?;
        let hours = match (at[3], at[4]) {
            (Some(list), _) => numbers(list),
            (None, Some(step)) => each(step, 24),
            // "At minute 5" alone would leave the hour open.
            (None, None) if at[1].is_some() => return None,
            (None, None) => all(24),
        };
        Some((at[1].map_or_else(|| each(at[2].unwrap(), 60), numbers), hours))
    }

    fn holds_on(&self, date: Date) -> bool {
        self.months.contains(&date.month())
            && match &self.day {
                SaidDay::Any => true,
                SaidDay::Of(days) => days.hold(date),
                SaidDay::On(weekdays) => weekdays.hold(date),
                SaidDay::Either(days, weekdays) => days.hold(date) || weekdays.hold(date),
                SaidDay::Both(days, weekdays) => days.hold(date) && weekdays.hold(date),
            }
    }

    /// Returns what it says of the days from `first` on.
    fn fires(&self, first: Date, days: usize) -> Vec<UnixSeconds> {
        let dates = first.series(jiff::Span::new().days(1)).take(days).filter(|date| self.holds_on(*date));
        let times = dates.flat_map(|date| {
            let hours = self.hours.iter().flat_map(|hour| self.minutes.iter().map(move |minute| (*hour, *minute)));
            hours.map(move |(hour, minute)| date.at(hour, minute, 0, 0))
        });
        let seconds = times.map(|time| time.to_zoned(TimeZone::UTC).unwrap().timestamp().as_second());
        seconds.map(|seconds| UnixSeconds(u64::try_from(seconds).unwrap())).collect()
    }
}

impl SaidDay {
    fn read(words: &str) -> Self {
        if let Some(both) = captures(r"(.+) \(if it is also (?:one of: )?(.+)\)", words) {
            return Self::Both(Days::read(both[1].unwrap()).unwrap(), Weekdays::read(both[2].unwrap()).unwrap());
        }
        if let Some((days, weekdays)) = words.split_once(" or ") {
            return Self::Either(Days::read(days).unwrap(), Weekdays::read(weekdays).unwrap());
        }
        let weekdays = || Weekdays::read(words).unwrap_or_else(|| panic!("no day: {words}"));
        Days::read(words).map_or_else(|| Self::On(weekdays()), Self::Of)
    }
}

impl Days {
    fn read(words: &str) -> Option<Self> {
        if words == "the last day of the month" {
            return Some(Self::Last);
        }
        if words == "the last weekday (Monday to Friday) of the month" {
            return Some(Self::LastWeekday);
        }
        if let Some(nearest) = words.strip_prefix("the weekday nearest day ") {
            return Some(Self::Nearest(nearest.parse().unwrap()));
        }
        words.strip_prefix("day ").map(|list| Self::Numbered(numbers(list)))
    }

    fn hold(&self, date: Date) -> bool {
        let is_workday = |date: Date| !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        let on = |day: i8| Date::new(date.year(), date.month(), day).ok();
        match self {
            Self::Numbered(days) => days.contains(&date.day()),
            Self::Last => date == date.last_of_month(),
            Self::LastWeekday => {
                let last = (1..=date.days_in_month()).rev().filter_map(on).find(|day| is_workday(*day));
                last == Some(date)
            }
            Self::Nearest(wanted) => {
                let mut by_distance: Vec<Date> =
                    (1..=date.days_in_month()).filter_map(on).filter(|day| is_workday(*day)).collect();
                by_distance.sort_by_key(|day| (day.day() - wanted).abs());
                on(*wanted).is_some() && by_distance.first() == Some(&date)
            }
        }
    }
}

impl Weekdays {
    fn read(words: &str) -> Option<Self> {
        if let Some(of_month) = captures(r"the (?:(\d)(?:st|nd|rd|th)|last) (.+) of the month", words) {
            let nth = of_month[1].map_or(Nth::Last, |number| Nth::Number(number.parse().unwrap()));
            return Some(Self { days: named(of_month[2]?, &WEEKDAYS), nth: Some(nth) });
        }
        WEEKDAYS.iter().any(|name| words.starts_with(name)).then(|| Self { days: named(words, &WEEKDAYS), nth: None })
    }

    fn hold(&self, date: Date) -> bool {
        self.days.contains(&date.weekday().to_sunday_zero_offset())
            && match self.nth {
                None => true,
                Some(Nth::Number(number)) => (date.day() - 1) / 7 + 1 == number,
                Some(Nth::Last) => date.day() + 7 > date.days_in_month(),
            }
    }
}

/// How many days are compared: more than a year, so that each month and leap day comes, would take too long for each case.
const DAYS: usize = 100;

/// Compares a description with what happens.
fn check(fields: &str, first: Date) -> Result<(), TestCaseError> {
    let schedule = parse(fields).map_err(|error| TestCaseError::reject(error.to_string()))?;
    let words = schedule.description();
    let said = Said::read(&words).fires(first, DAYS);
    let start = first.to_zoned(TimeZone::UTC).unwrap().timestamp().as_second();
    let start = UnixSeconds(u64::try_from(start).unwrap() - 1);
    let end = start.plus_secs(DAYS as u64 * 24 * 60 * 60);
    let real: Vec<UnixSeconds> = schedule.all_after(start).take_while(|at| *at <= end).take(20_000).collect();
    prop_assert_eq!(&said[..said.len().min(20_000)], &real[..], "'{}' is described as '{}'", fields, words);
    Ok(())
}

/// Fields of numbers from `min` to `max`, as people write them.
fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    let number = min..=max;
    let range = (number.clone(), number.clone()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let item = prop_oneof![
        number.prop_map(|n| n.to_string()),
        range.clone().prop_map(|(a, b)| format!("{a}-{b}")),
        (range, 1..=10u8).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
        (1..=max - min).prop_map(|step| format!("*/{step}")),
    ];
    prop_oneof![
        2 => Just("*".to_owned()),
        2 => Just(min.to_string()),
        4 => item.clone(),
        2 => prop::collection::vec(item, 2..4).prop_map(|items| items.join(",")),
    ]
}

fn day() -> impl Strategy<Value = String> {
    let special =
        prop_oneof![Just("L".to_owned()), Just("LW".to_owned()), (1..=31u8).prop_map(|day| format!("{day}W"))];
    prop_oneof![4 => Just("*".to_owned()), 3 => field(1, 31), 2 => special]
}

fn weekday() -> impl Strategy<Value = String> {
    let nth = (0..=6u8, 1..=5u8).prop_map(|(day, nth)| format!("{day}#{nth}"));
    let last = (0..=6u8).prop_map(|day| format!("{day}L"));
    let plain =
        prop_oneof![4 => Just("*".to_owned()), 3 => field(0, 6), 1 => Just("6-7,0".to_owned()), 1 => nth, 1 => last];
    (plain, prop::bool::weighted(0.3)).prop_map(|(field, both)| if both { format!("+{field}") } else { field })
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 20_000, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn each_description_says_what_happens(
        minute in field(0, 59), hour in field(0, 23), day in day(), month in field(1, 12), weekday in weekday(),
        first in (2024..2032i16, 1..=12i8, 1..=28i8),
    ) {
        let first = Date::new(first.0, first.1, first.2).unwrap();
        check(&format!("{minute} {hour} {day} {month} {weekday}"), first)?;
    }
}

#[test]
fn what_was_once_described_wrongly_is_described_as_it_happens() {
    let first = Date::new(2026, 1, 1).unwrap();
    for fields in [
        "*/7 * * * *",
        "*/45 * * * *",
        "0,5-20/5 * * * *",
        "0 */5 * * *",
        "0 */7 * */5 *",
        "*/15 9-17 * * 1-5",
        "0 0 LW * *",
        "0 0 */2 * 1",
        "0 0 1-31 * 1",
        "0 9 13 * +5",
        "30 2 L * mon#2",
        "* */2 * * *",
        "* 9-17 * * *",
        "0 12 * jan,jul sun",
        "0 0 31W * *",
        "0 9 * * sat-sun",
    ] {
        check(fields, first).unwrap();
    }
    let words = |fields| parse(fields).unwrap().description();
    assert_eq!(words("*/15 * * * *"), "At every 15 minutes (UTC)");
    assert_eq!(words("@hourly"), "At minute 0 past every hour (UTC)");
    assert_eq!(words("*/45 * * * *"), "At minute 0 and 45 past every hour (UTC)");
}
