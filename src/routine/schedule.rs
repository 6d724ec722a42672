//! When a routine fires by itself: five cron fields, or one of a few names, in a time zone.

use std::collections::VecDeque;
use std::sync::LazyLock;

use croner::errors::CronError;
use croner::parser::CronParser;
use croner::{Cron, CronComponent, CronPattern};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::invalid_field::InvalidField;
use super::zone::MachineZone;
use super::{cron_fields, zone};
use crate::clock::UnixSeconds;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    cron: Cron,
    /// The machine's if absent. That may change, so each question to the schedule reads it again.
    zone: Option<TimeZone>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many there were before those in `newest`, and the last of them.
    pub older: Option<(u64, UnixSeconds)>,
    pub newest: Vec<UnixSeconds>,
}

/// How many occurrences of a gap are listed one by one, the one that may be made up for included.
const LISTED: usize = 101;

/// How far back a gap is looked into: a clock that was centuries off must not keep a tick busy for minutes.
const LONGEST_GAP_SECS: u64 = 366 * 24 * 60 * 60;

/// 4950-01-01: half a century before the end of croner's calendar. The dates that fields without a year can name all come within
/// 40 years, and where none does, croner looks on until that end.
const NEAR_THE_END: UnixSeconds = UnixSeconds(94_039_747_200);

/// The names of schedules, with the fields that they stand for.
const NAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

impl Schedule {
    /// Reads a schedule; without a zone it is always in the one the machine has at the time.
    pub fn parse(text: &str, timezone: Option<&str>) -> Result<Self, InvalidField> {
        let zone = timezone.map(|name| zone::built_in(name).ok_or_else(|| unknown_zone(name))).transpose()?;
        let refuse = |rule: String| InvalidField::new("schedule", format_args!("'{text}'"), rule);
        let fields = fields(text).map_err(refuse)?;
        Self::of_fields(fields, zone).map_err(|rule| {
            // What can be said with a way out is said so.
            refuse(cron_fields::check(fields, works).err().unwrap_or(rule))
        })
    }

    fn of_fields(fields: &str, zone: Option<TimeZone>) -> Result<Self, String> {
        let schedule = Self { cron: parse_cron(fields)?, zone };
        // Elsewhere a date has to be found, in whatever zone.
        if !(is_in_each_month(fields.split_whitespace().nth(2)) && schedule.has_values())
            && schedule.next_in(&TimeZone::UTC, NEAR_THE_END).is_none()
        {
            return Err("no date matches it, so it would never fire; change its day or its month".to_owned());
        }
        Ok(schedule)
    }

    /// Returns whether it fires at other moments once the machine's zone is another.
    pub fn follows_machine_zone(&self) -> bool {
        self.zone.is_none()
    }

    /// Returns the first occurrence after a moment; `None` at the end of the calendar. `machine` is the machine's zone.
    pub(super) fn next_after(&self, machine: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
        self.next_in(self.zone.as_ref().unwrap_or(machine), moment)
    }

    /// Whether each of its fields names a value: croner takes a comma alone for a list, and L for a weekday.
    fn has_values(&self) -> bool {
        let CronPattern { minutes, hours, months, days_of_week, .. } = &self.cron.pattern;
        [minutes, hours, months, days_of_week].iter().all(|field| !field.values().is_empty())
    }

    fn zone_now(&self) -> TimeZone {
        self.zone.clone().unwrap_or_else(|| zone::of_machine().zone)
    }

    fn next_in(&self, zone: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
        let moment = Timestamp::from_second(i64::try_from(moment.0).ok()?).ok()?;
        let from = moment.to_zoned(zone.clone());
        // A step that does not advance would keep a caller that walks on busy for ever.
        let next = self.cron.find_next_occurrence(&from, false).ok().filter(|next| *next > from)?;
        u64::try_from(next.timestamp().as_second()).ok().map(UnixSeconds)
    }

    fn all_after(&self, moment: UnixSeconds) -> impl Iterator<Item = UnixSeconds> {
        let zone = self.zone_now();
        let next = move |moment| self.next_in(&zone, moment);
        std::iter::successors(next(moment), move |last| next(*last))
    }

    pub fn upcoming(&self, after: UnixSeconds, count: usize) -> Vec<UnixSeconds> {
        self.all_after(after).take(count).collect()
    }

    /// Returns the occurrences after `after` up to and including `until`; of a gap of more than a year, those of its last year.
    pub fn passed(&self, after: UnixSeconds, until: UnixSeconds) -> Passed {
        let after = after.max(UnixSeconds(until.0.saturating_sub(LONGEST_GAP_SECS)));
        let (mut older, mut newest) = (None, VecDeque::new());
        for occurrence in self.all_after(after).take_while(|occurrence| *occurrence <= until) {
            newest.push_back(occurrence);
            if newest.len() > LISTED
                && let Some(last) = newest.pop_front()
            {
                older = Some((older.map_or(1, |(count, _)| count + 1), last));
            }
        }
        Passed { older, newest: newest.into() }
    }

    pub fn description(&self) -> String {
        let words = describe(self.cron.pattern.clone());
        let words = words.trim_end_matches('.');
        let MachineZone { zone, unknown } = match &self.zone {
            Some(zone) => MachineZone { zone: zone.clone(), unknown: None },
            None => zone::of_machine(),
        };
        match unknown {
            Some(cause) => format!("{words} (UTC, because the machine's time zone is not known: {cause})"),
            None => format!("{words} ({})", zone.iana_name().unwrap_or("UTC")),
        }
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
    let text = text.trim();
    if text.starts_with('@') {
        let named = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, fields)| *fields);
        return named.ok_or_else(|| format!("the names are {}; write one of them, or five cron fields", names()));
    }
    if text.split_whitespace().count() != 5 {
        return Err(format!(
            "write five fields (minute, hour, day, month, weekday), such as 0 9 * * 1-5, or one of {}",
            names()
        ));
    }
    Ok(text)
}

/// Checks a schedule that is about to be set for what is not meant as it is written, such as a step of 90 minutes. One that was
/// set before this was checked fires on as it does; [`Schedule::description`] says when.
///
/// # Errors
/// The field `schedule`, with a schedule that works.
pub fn check_as_meant(text: &str) -> Result<(), InvalidField> {
    let refuse = |rule| InvalidField::new("schedule", format_args!("'{text}'"), rule);
    fields(text).and_then(|fields| cron_fields::check(fields, works)).map_err(refuse)
}

fn works(fields: &str) -> bool {
    Schedule::of_fields(fields, None).is_ok()
}

/// Returns a schedule as it is kept: what a person types around a name, and how, says nothing.
pub fn tidied(text: &str) -> String {
    let text = text.trim();
    if text.starts_with('@') { text.to_lowercase() } else { text.to_owned() }
}

/// Says in words when a pattern fires. Croner takes the last step that was written in a field for the rhythm of all of it, and the
/// last weekday (`LW`) for the last day.
fn describe(mut pattern: CronPattern) -> String {
    pattern.months.step = 1;
    if pattern.minutes.values().len() == 60 {
        // It would say "every minute past of every 2 hours".
        pattern.hours.step = 1;
    }
    for field in [&mut pattern.minutes, &mut pattern.hours] {
        let CronComponent { min, max, step, .. } = *field;
        let is_steady = (max - min + 1) % step == 0;
        if !is_steady || !field.values().into_iter().eq((min..=max).step_by(step.into())) {
            field.step = 1;
        }
    }
    let of_last_weekday = pattern.as_str().to_uppercase().contains("LW");
    let words = pattern.describe();
    let words = words.trim_end_matches('.').trim_end_matches(" or ").to_owned();
    if of_last_weekday { words.replace("the last day of", "the last weekday (Monday to Friday) of") } else { words }
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

/// Returns whether a field for the day of the month is one that each month has: any day, or a single one up to the 28th.
fn is_in_each_month(day: Option<&str>) -> bool {
    day.is_some_and(|day| matches!(day, "*" | "?") || day.parse().is_ok_and(|day: u8| (1..=28).contains(&day)))
}

fn unknown_zone(name: &str) -> InvalidField {
    let closest = zone::closest(name).map_or_else(String::new, |zone| format!(" (did you mean '{zone}'?)"));
    let rule = format!(
        "there is no such time zone{closest}; give an IANA name such as Europe/Berlin, or leave it out for the machine's"
    );
    InvalidField::new("timezone", format_args!("'{name}'"), rule)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod words_tests;
