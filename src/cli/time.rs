//! How people are told times: as their own clock shows them, and how far away they are.

use chrono::{DateTime, Local, TimeZone};

use crate::clock::UnixSeconds;

/// Says a length of time in its two largest units.
pub(super) fn span(secs: u64) -> String {
    let two = |large: u64, of: &str, rest: u64, rest_of: &str| match rest {
        0 => format!("{large} {of}"),
        rest => format!("{large} {of} {rest} {rest_of}"),
    };
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => two(secs / 60, "min", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs % 3600 / 60, "min"),
        _ => two(secs / 86_400, "d", secs % 86_400 / 3600, "h"),
    }
}

/// Says a moment, as `14:05 (3 min ago)`; with its date if that is not today's.
pub(super) fn moment(at: UnixSeconds, now: UnixSeconds) -> String {
    said(at, now, &Local)
}

fn said<Z: TimeZone>(at: UnixSeconds, now: UnixSeconds, zone: &Z) -> String
where
    Z::Offset: std::fmt::Display,
{
    let local = |time: UnixSeconds| -> Option<DateTime<Z>> {
        let date = DateTime::from_timestamp(i64::try_from(time.0).ok()?, 0)?;
        Some(date.with_timezone(zone))
    };
    let shown = match (local(at), local(now)) {
        (Some(at), Some(now)) if at.date_naive() == now.date_naive() => at.format("%H:%M").to_string(),
        (Some(at), _) => at.format("%Y-%m-%d %H:%M").to_string(),
        (None, _) => at.to_string(),
    };
    // One unit is enough beside the time itself.
    let largest = |secs| span(secs).split(' ').take(2).collect::<Vec<_>>().join(" ");
    if at > now {
        format!("{shown} (in {})", largest(now.age_secs_at(at)))
    } else {
        format!("{shown} ({} ago)", largest(at.age_secs_at(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    #[test]
    fn a_length_of_time_has_two_units_at_most() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (75, "1 min 15 s"),
            (3600, "1 h"),
            (12_345, "3 h 25 min"),
            (86_400, "1 d"),
            (200_000, "2 d 7 h"),
        ];
        for (secs, expected) in cases {
            assert_eq!(span(secs), expected);
        }
    }

    #[test]
    fn a_moment_is_said_in_the_zone_of_the_reader() {
        let zone = FixedOffset::east_opt(2 * 3600).unwrap();
        // 2026-05-28T20:26:40Z.
        let now = UnixSeconds(1_780_000_000);
        let said = |at| said(UnixSeconds(at), now, &zone);
        assert_eq!(said(now.0 - 200), "22:23 (3 min ago)");
        assert_eq!(said(now.0 + 7200), "2026-05-29 00:26 (in 2 h)");
        assert_eq!(said(now.0 - 86_400), "2026-05-27 22:26 (1 d ago)");
        assert_eq!(said(u64::MAX), format!("@{} (in {} d)", u64::MAX, (u64::MAX - now.0) / 86_400));
    }
}
