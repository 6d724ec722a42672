//! Times as people type them: `2h`, `yesterday`, `2026-01-31`.

use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};

use crate::clock::UnixSeconds;

/// Which end of a range a time is: a date means the beginning or the end of that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Since,
    Until,
}

/// Reads when a range begins. The error shows examples.
pub(super) fn since(text: &str) -> Result<UnixSeconds, String> {
    read(text, Edge::Since, &Local::now())
}

/// Reads the last second of a range. The error shows examples.
pub(super) fn until(text: &str) -> Result<UnixSeconds, String> {
    read(text, Edge::Until, &Local::now())
}

/// Reads a time that is still to come: a length of time counts from now, a date means its beginning, and a time of day that is past
/// means tomorrow's. The error shows examples.
pub(super) fn ahead(text: &str) -> Result<UnixSeconds, String> {
    read_ahead(text, &Local::now())
}

fn read_ahead<Z: TimeZone>(text: &str, now: &DateTime<Z>) -> Result<UnixSeconds, String> {
    let words = text.trim().to_lowercase();
    let exact = text.trim().parse().ok();
    let in_length = || Some(seconds(now).plus_secs(humantime::parse_duration(&words).ok()?.as_secs()));
    let time_of_day = || {
        let time = NaiveTime::parse_from_str(&words, "%H:%M").ok()?;
        let day = if time > now.time() { "today" } else { "tomorrow" };
        on_the_calendar(&format!("{day} {words}"), Edge::Since, now)
    };
    let read = exact.or_else(in_length).or_else(time_of_day).or_else(|| on_the_calendar(&words, Edge::Since, now));
    read.ok_or_else(|| {
        "write for example 2h, 3d, tomorrow, 08:00, 2026-12-01, '2026-12-01 08:00' or 2026-12-01T08:00:00Z".to_owned()
    })
}

fn read<Z: TimeZone>(text: &str, edge: Edge, now: &DateTime<Z>) -> Result<UnixSeconds, String> {
    let words = text.trim().to_lowercase();
    let exact = text.trim().parse().ok();
    exact.or_else(|| ago(&words, now)).or_else(|| on_the_calendar(&words, edge, now)).ok_or_else(|| {
        "write for example 2h, 3d, yesterday, 2026-01-31, '2026-01-31 08:00' or 2026-01-31T08:00:00Z".to_owned()
    })
}

fn seconds<Z: TimeZone>(time: &DateTime<Z>) -> UnixSeconds {
    UnixSeconds(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// Reads a length of time before now, such as `90min`, `1d12h` or `2 hours ago`.
fn ago<Z: TimeZone>(words: &str, now: &DateTime<Z>) -> Option<UnixSeconds> {
    let length = humantime::parse_duration(words.strip_suffix("ago").unwrap_or(words)).ok()?;
    Some(UnixSeconds(seconds(now).0.saturating_sub(length.as_secs())))
}

/// Reads a date, a date and time, or a time of today, in the zone of `now`.
fn on_the_calendar<Z: TimeZone>(words: &str, edge: Edge, now: &DateTime<Z>) -> Option<UnixSeconds> {
    let zone = now.timezone();
    let today = now.date_naive();
    let at = |time: NaiveDateTime| {
        // A time that the clock skips becomes the one after the gap.
        let local = zone.from_local_datetime(&time).earliest();
        let later = || zone.from_local_datetime(&time.checked_add_signed(TimeDelta::hours(1))?).earliest();
        local.or_else(later).map(|time| seconds(&time))
    };
    let whole_day = |day: NaiveDate| match edge {
        Edge::Since => at(day.and_time(NaiveTime::MIN)),
        Edge::Until => at(day.checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN))
            .map(|end| UnixSeconds(end.0.saturating_sub(1))),
    };
    if words == "now" {
        return Some(seconds(now));
    }
    for (name, day) in [("yesterday", today.pred_opt()?), ("today", today), ("tomorrow", today.succ_opt()?)] {
        match words.strip_prefix(name).map(str::trim_start) {
            None => {}
            Some("") => return whole_day(day),
            Some(time) => return at(day.and_time(NaiveTime::parse_from_str(time, "%H:%M").ok()?)),
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(words, "%Y-%m-%d") {
        return whole_day(day);
    }
    let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%dt%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dt%H:%M:%S"];
    let of_some_day = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(words, form).ok());
    of_some_day.or_else(|| Some(today.and_time(NaiveTime::parse_from_str(words, "%H:%M").ok()?))).and_then(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    #[test]
    fn times_are_read_as_people_type_them() {
        let now = DateTime::parse_from_rfc3339("2026-03-01T09:30:00+02:00").unwrap();
        let cases = [
            ("2h", "2026-03-01T05:30:00Z", "2026-03-01T05:30:00Z"),
            ("2 hours ago", "2026-03-01T05:30:00Z", "2026-03-01T05:30:00Z"),
            ("1d12h", "2026-02-27T19:30:00Z", "2026-02-27T19:30:00Z"),
            ("90 min", "2026-03-01T06:00:00Z", "2026-03-01T06:00:00Z"),
            ("1w", "2026-02-22T07:30:00Z", "2026-02-22T07:30:00Z"),
            ("99999999w", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("today", "2026-02-28T22:00:00Z", "2026-03-01T21:59:59Z"),
            (" Yesterday ", "2026-02-27T22:00:00Z", "2026-02-28T21:59:59Z"),
            ("yesterday 08:15", "2026-02-28T06:15:00Z", "2026-02-28T06:15:00Z"),
            ("2026-01-31", "2026-01-30T22:00:00Z", "2026-01-31T21:59:59Z"),
            ("2026-01-31 08:00", "2026-01-31T06:00:00Z", "2026-01-31T06:00:00Z"),
            ("2026-01-31T08:00:05", "2026-01-31T06:00:05Z", "2026-01-31T06:00:05Z"),
            ("08:15", "2026-03-01T06:15:00Z", "2026-03-01T06:15:00Z"),
            ("now", "2026-03-01T07:30:00Z", "2026-03-01T07:30:00Z"),
            ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
        ];
        for (text, since, until) in cases {
            let read = |edge| read(text, edge, &now).unwrap().to_string();
            assert_eq!((read(Edge::Since), read(Edge::Until)), (since.to_owned(), until.to_owned()), "{text}");
        }
        for text in ["", "ago", "h", "2x", "2", "tomorrow-ish", "2026-02-30", "25:00", "2h3", "99999999999999999999h"] {
            let error = read(text, Edge::Since, &now).unwrap_err();
            assert!(error.contains("yesterday") && error.contains("2h"), "{text}: {error}");
        }
    }

    #[test]
    fn a_time_to_come_is_read_as_people_type_it() {
        let now = DateTime::parse_from_rfc3339("2026-03-01T09:30:00+02:00").unwrap();
        for (text, expected) in [
            ("2h", "2026-03-01T09:30:00Z"),
            ("1d12h", "2026-03-02T19:30:00Z"),
            ("tomorrow", "2026-03-01T22:00:00Z"),
            ("Tomorrow 08:15", "2026-03-02T06:15:00Z"),
            ("10:00", "2026-03-01T08:00:00Z"),
            ("08:15", "2026-03-02T06:15:00Z"),
            ("2026-12-01", "2026-11-30T22:00:00Z"),
            ("2026-12-01 08:00", "2026-12-01T06:00:00Z"),
            ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z"),
        ] {
            assert_eq!(read_ahead(text, &now).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "2x", "soon", "2 hours ago"] {
            let error = read_ahead(text, &now).unwrap_err();
            assert!(error.contains("tomorrow") && !error.contains("yesterday"), "{text}: {error}");
        }
    }

    #[test]
    fn the_calendar_ends_nowhere_near_a_panic() {
        let now = FixedOffset::east_opt(0).unwrap().with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap();
        for text in
            ["+262142-12-31 23:30", "+262142-12-31", "262142-12-31", "0001-01-01", "-5-01-01", "9999-12-31 23:59"]
        {
            for edge in [Edge::Since, Edge::Until] {
                let _ = read(text, edge, &now);
            }
            let _ = read_ahead(text, &now);
        }
    }
}
