//! Times for people: in their own time zone, and how far away they are.

use chrono::{DateTime, Local, TimeZone};

use crate::clock::{HumanDuration, UnixSeconds};

/// Formats a time as `14:05 (3 min ago)`, with the date if it is not today.
pub(super) fn moment(at: UnixSeconds, now: UnixSeconds) -> String {
    moment_in(at, now, &Local)
}

fn moment_in<Z: TimeZone>(at: UnixSeconds, now: UnixSeconds, zone: &Z) -> String
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
    let largest = |secs| HumanDuration(secs).largest_unit();
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
    fn a_moment_is_said_in_the_zone_of_the_reader() {
        let zone = FixedOffset::east_opt(2 * 3600).unwrap();
        // 2026-05-28T20:26:40Z.
        let now = UnixSeconds(1_780_000_000);
        let said = |at| moment_in(UnixSeconds(at), now, &zone);
        assert_eq!(said(now.0 - 200), "22:23 (3 min ago)");
        assert_eq!(said(now.0 + 7200), "2026-05-29 00:26 (in 2 h)");
        assert_eq!(said(now.0 - 86_400), "2026-05-27 22:26 (1 day ago)");
        assert_eq!(said(u64::MAX), format!("@{} (in {} days)", u64::MAX, (u64::MAX - now.0) / 86_400));
    }
}
