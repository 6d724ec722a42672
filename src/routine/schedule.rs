//! When a routine fires by itself: cron expressions, each of five fields or one of a few names, and a single moment, in a time zone.

mod by_day;
mod expressions;
pub(super) mod run_at;

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

pub use expressions::CronExpressions;
use run_at::RunAt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// It fires at each occurrence of any of them.
    crons: Vec<Cron>,
    run_at: Option<RunAt>,
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

/// About how many occurrences of a gap are found: a minute's schedule has as many in a week.
const MOST_PASSED: usize = 10_000;

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
    /// Reads a schedule and a `run_at`, `None` without either; without a zone they are always in the one the machine has at the time.
    pub fn parse(
        expressions: Option<&CronExpressions>,
        run_at: Option<&str>,
        timezone: Option<&str>,
    ) -> Result<Option<Self>, InvalidField> {
        // Also where nothing is in it yet: a mistake should not come up only later.
        let zone = timezone.map(|name| zone::built_in(name).ok_or_else(|| unknown_zone(name))).transpose()?;
        let texts = expressions.map(CronExpressions::texts).unwrap_or_default();
        if expressions.is_some() && !(1..=MAX_EXPRESSIONS).contains(&texts.len()) {
            let rule = format!("a list has 1 to {MAX_EXPRESSIONS}; leave `schedule` out for none");
            return Err(InvalidField::new("schedule", format_args!("a list of {}", texts.len()), rule));
        }
        let crons = texts.iter().map(|text| parse_expression(text)).collect::<Result<_, _>>()?;
        let run_at = run_at.map(RunAt::parse).transpose()?;
        let schedule = Self { crons, run_at, zone };
        Ok((!schedule.is_empty()).then_some(schedule))
    }

    fn is_empty(&self) -> bool {
        self.crons.is_empty() && self.run_at.is_none()
    }

    /// Returns what is left of it once its `run_at` is over.
    pub(super) fn without_run_at(self) -> Option<Self> {
        Some(Self { run_at: None, ..self }).filter(|left| !left.is_empty())
    }

    /// Returns the moment of its `run_at`.
    pub fn run_at(&self) -> Option<UnixSeconds> {
        self.run_at?.moment(&self.zone_now())
    }

    /// Returns whether it fires at other moments once the machine's zone is another.
    pub fn follows_machine_zone(&self) -> bool {
        self.zone.is_none() && (!self.crons.is_empty() || self.run_at.is_some_and(RunAt::depends_on_zone))
    }

    /// Returns the first occurrence after a moment; `None` at the end of the calendar. `machine` is the machine's zone.
    pub(super) fn next_after(&self, machine: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
        self.next_in(self.zone.as_ref().unwrap_or(machine), moment)
    }

    fn zone_now(&self) -> TimeZone {
        self.zone.clone().unwrap_or_else(|| zone::of_machine().zone)
    }

    fn next_in(&self, zone: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
        let of_crons = self.crons.iter().filter_map(|cron| next_of(cron, zone, moment));
        of_crons.chain(self.run_at_after(zone, moment)).min()
    }

    fn run_at_after(&self, zone: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
        self.run_at?.moment(zone).filter(|at| *at > moment)
    }

    /// One that several expressions share comes once.
    fn all_after(&self, moment: UnixSeconds) -> impl Iterator<Item = UnixSeconds> {
        let zone = self.zone_now();
        let mut once = self.run_at_after(&zone, moment);
        let mut next: Vec<_> = self.crons.iter().map(|cron| next_of(cron, &zone, moment)).collect();
        std::iter::from_fn(move || {
            let first = next.iter().copied().flatten().chain(once).min()?;
            for (next, cron) in next.iter_mut().zip(&self.crons).filter(|(next, _)| **next == Some(first)) {
                *next = next_of(cron, &zone, first);
            }
            once = once.filter(|once| *once != first);
            Some(first)
        })
    }

    pub fn upcoming(&self, after: UnixSeconds, count: usize) -> Vec<UnixSeconds> {
        self.all_after(after).take(count).collect()
    }

    /// Returns the occurrences after a moment and before another, at most so many.
    pub fn upcoming_until(&self, after: UnixSeconds, until: UnixSeconds, count: usize) -> Vec<UnixSeconds> {
        self.all_after(after).take_while(|occurrence| *occurrence < until).take(count).collect()
    }

    /// Returns how far back a gap that ends at `until` is looked into: a year at most, and about as many occurrences as take a moment
    /// to find.
    fn longest_gap_secs(&self, until: UnixSeconds) -> u64 {
        const DAY_SECS: u64 = 24 * 60 * 60;
        let day_ago = UnixSeconds(until.0.saturating_sub(DAY_SECS));
        let of_a_day = self.all_after(day_ago).take_while(|occurrence| *occurrence <= until).take(MOST_PASSED).count();
        LONGEST_GAP_SECS.min(DAY_SECS * (MOST_PASSED / of_a_day.max(1)).max(1) as u64)
    }

    /// Returns the occurrences after `after` up to and including `until`; of a gap of more than a year, those of its last year, and of
    /// one with very many, about the last [`MOST_PASSED`]. A `run_at` is among them however long ago it was.
    pub fn passed(&self, after: UnixSeconds, until: UnixSeconds) -> Passed {
        let from = after.max(UnixSeconds(until.0.saturating_sub(self.longest_gap_secs(until))));
        let early = self.run_at_after(&self.zone_now(), after).filter(|at| *at <= from);
        let (mut older, mut newest) = (None, VecDeque::from_iter(early));
        for occurrence in self.all_after(from).take_while(|occurrence| *occurrence <= until) {
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
        let MachineZone { zone, unknown } = match &self.zone {
            Some(zone) => MachineZone { zone: zone.clone(), unknown: None },
            None => zone::of_machine(),
        };
        let of_crons = self.crons.iter().map(|cron| describe(cron.pattern.clone()).trim_end_matches('.').to_owned());
        let once = self.run_at.and_then(|run_at| run_at.moment(&zone)).and_then(|at| once_in_words(at, &zone));
        let words = of_crons.chain(once).collect::<Vec<_>>().join("; ");
        match unknown {
            Some(cause) => format!("{words} (UTC, because the machine's time zone is not known: {cause})"),
            None => format!("{words} ({})", zone.iana_name().unwrap_or("UTC")),
        }
    }
}

fn once_in_words(at: UnixSeconds, zone: &TimeZone) -> Option<String> {
    let at = Timestamp::from_second(i64::try_from(at.0).ok()?).ok()?.to_zoned(zone.clone());
    let seconds = if at.second() == 0 { String::new() } else { format!(":{:02}", at.second()) };
    Some(format!("Once on {} at {:02}:{:02}{seconds}", at.date(), at.hour(), at.minute()))
}

fn next_of(cron: &Cron, zone: &TimeZone, moment: UnixSeconds) -> Option<UnixSeconds> {
    let moment = Timestamp::from_second(i64::try_from(moment.0).ok()?).ok()?;
    let from = moment.to_zoned(zone.clone());
    // A step that does not advance would keep a caller that walks on busy for ever.
    let next = cron.find_next_occurrence(&from, false).ok().filter(|next| *next > from)?;
    u64::try_from(next.timestamp().as_second()).ok().map(UnixSeconds)
}

/// Whether each field names a value: croner takes a comma alone for a list, and L for a weekday.
fn has_values(cron: &Cron) -> bool {
    let CronPattern { minutes, hours, months, days_of_week, .. } = &cron.pattern;
    [minutes, hours, months, days_of_week].iter().all(|field| !field.values().is_empty())
}

fn parse_expression(text: &str) -> Result<Cron, InvalidField> {
    let refuse = |rule: String| InvalidField::new("schedule", format_args!("'{text}'"), rule);
    let fields = fields(text).map_err(refuse)?;
    of_fields(fields).map_err(|rule| {
        // What can be said with a way out is said so.
        refuse(cron_fields::check(fields, works).err().unwrap_or(rule))
    })
}

fn of_fields(fields: &str) -> Result<Cron, String> {
    let cron = parse_cron(fields)?;
    // Elsewhere a date has to be found, in whatever zone.
    if !(is_in_each_month(fields.split_whitespace().nth(2)) && has_values(&cron))
        && next_of(&cron, &TimeZone::UTC, NEAR_THE_END).is_none()
    {
        return Err("no date matches it, so it would never fire; change its day or its month".to_owned());
    }
    Ok(cron)
}

/// The most that a list may have.
const MAX_EXPRESSIONS: usize = 20;

/// The longest expression: five full lists are shorter.
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
pub fn check_as_meant(expressions: &CronExpressions) -> Result<(), InvalidField> {
    let check = |text: &String| {
        let refuse = |rule| InvalidField::new("schedule", format_args!("'{text}'"), rule);
        fields(text).and_then(|fields| cron_fields::check(fields, works)).map_err(refuse)
    };
    expressions.texts().iter().try_for_each(check)
}

fn works(fields: &str) -> bool {
    of_fields(fields).is_ok()
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
