//! When a limit ends, as Codex writes it: a time of today, or a date and a time, in the local zone, which it does not name.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::clock::UnixSeconds;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Returns the time behind "try again at", if a message has one.
pub(super) fn reset_time(message: &str, now: UnixSeconds, zone: &TimeZone) -> Option<UnixSeconds> {
    let (_, said) = message.split_once("try again at ")?;
    let words: Vec<&str> = said.split_whitespace().take(6).map(|word| word.trim_end_matches(['.', ','])).collect();
    let now = Timestamp::from_second(i64::try_from(now.0).ok()?).ok()?;
    let found = match words.as_slice() {
        [month, day, year, time, half, ..] if month.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            seconds(date(month, day, year)?.to_datetime(time_of_day(time, half)?), zone)?
        }
        [time, half, ..] => {
            let time = time_of_day(time, half)?;
            let today = now.to_zoned(zone.clone()).date();
            let candidates = [today, today.checked_add(1.day()).ok()?].into_iter();
            // It is written in whole minutes: one that has just begun is still the next.
            candidates
                .filter_map(|date| seconds(date.to_datetime(time), zone))
                .find(|at| at.saturating_add(60) > now.as_second())?
        }
        _ => return None,
    };
    u64::try_from(found).ok().map(UnixSeconds)
}

fn seconds(at: DateTime, zone: &TimeZone) -> Option<i64> {
    Some(at.to_zoned(zone.clone()).ok()?.timestamp().as_second())
}

/// Reads "Dec", "1st" and "2026".
fn date(month: &str, day: &str, year: &str) -> Option<Date> {
    let month = month.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|&known| known == month)?;
    let day = day.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    Date::new(year.parse().ok()?, i8::try_from(month).ok()? + 1, day.parse().ok()?).ok()
}

/// Reads "5:31" and "AM".
fn time_of_day(time: &str, half: &str) -> Option<Time> {
    let (hour, minute) = time.split_once(':')?;
    let hour: i8 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
    let afternoon = match half.to_ascii_uppercase().as_str() {
        "AM" => 0,
        "PM" => 12,
        _ => return None,
    };
    Time::new(hour % 12 + afternoon, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZoneDatabase;
    use proptest::prelude::*;

    fn in_berlin(message: &str, now: &str) -> Option<String> {
        let zone = TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        reset_time(message, now.parse().unwrap(), &zone).map(|at| at.to_string())
    }

    #[test]
    fn a_time_is_the_next_one_in_the_given_zone() {
        let cases = [
            ("try again at 3:54 PM.", "2026-11-26T14:22:00Z", "2026-11-26T14:54:00Z"),
            ("try again at 3:54 PM.", "2026-11-26T14:54:59Z", "2026-11-26T14:54:00Z"),
            ("try again at 3:54 PM.", "2026-11-26T14:55:00Z", "2026-11-27T14:54:00Z"),
            ("try again at 12:05 AM.", "2026-11-26T22:30:00Z", "2026-11-26T23:05:00Z"),
            ("try again at 12:05 PM.", "2026-11-26T22:30:00Z", "2026-11-27T11:05:00Z"),
            ("or try again at Dec 1st, 2026 5:31 AM.", "2026-11-26T14:22:00Z", "2026-12-01T04:31:00Z"),
            ("or try again at July 22nd, 2027 5:31 PM.", "2026-11-26T14:22:00Z", "2027-07-22T15:31:00Z"),
            // An hour that the clock leaves out.
            ("try again at 2:30 AM.", "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"),
        ];
        for (message, now, expected) in cases {
            assert_eq!(in_berlin(message, now).as_deref(), Some(expected), "{message} {now}");
        }
    }

    #[test]
    fn what_is_no_time_is_absent() {
        for message in [
            "try again later.",
            "try again at",
            "try again at noon.",
            "try again at 15:54 PM.",
            "try again at 3:77 PM.",
            "try again at 3:54 XM.",
            "try again at Foo 1st, 2026 5:31 AM.",
            "try again at Feb 31st, 2026 5:31 AM.",
            "try again at Dec 1st, 99999999 5:31 AM.",
            "try again at éé 1st, 2026 5:31 AM.",
        ] {
            assert_eq!(in_berlin(message, "2026-11-26T14:22:00Z"), None, "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_time_is_too_much(text in "[A-Za-z0-9:,. é]{0,40}", now: u64) {
            reset_time(&format!("try again at {text}"), UnixSeconds(now), &TimeZone::UTC);
        }
    }
}
