//! `run_at`: a single moment, exact or by the clock on the wall.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

use crate::clock::UnixSeconds;
use crate::routine::invalid_field::InvalidField;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAt {
    Exact(UnixSeconds),
    /// In the schedule's zone.
    Local(DateTime),
}

impl RunAt {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidField> {
        let exact = text.parse::<Timestamp>().ok().and_then(|at| u64::try_from(at.as_second()).ok());
        // Anything else, such as a zone's name, would be read and left out.
        let is_plain = || text.bytes().all(|byte| byte.is_ascii_digit() || b"-:Tt ".contains(&byte));
        let has_time = || text.contains(':');
        let local = || text.parse::<DateTime>().ok().filter(|_| is_plain() && has_time());
        exact.map(|secs| Self::Exact(UnixSeconds(secs))).or_else(|| local().map(Self::Local)).ok_or_else(|| {
            let rule = "write a date and a time, such as 2026-12-01T09:00 (in `timezone`, else the machine's zone) or \
                        2026-12-01T09:00:00+01:00";
            InvalidField::new("run_at", format_args!("'{text}'"), rule)
        })
    }

    /// Returns the moment: right after the gap if the clock skips it, the first one if it comes twice. So does a schedule with one
    /// time a day.
    pub(super) fn moment(self, zone: &TimeZone) -> Option<UnixSeconds> {
        let local = match self {
            Self::Exact(moment) => return Some(moment),
            Self::Local(local) => zone.to_ambiguous_timestamp(local),
        };
        let in_gap = matches!(local.offset(), jiff::tz::AmbiguousOffset::Gap { .. });
        let earlier = local.earlier().ok()?;
        let at = if in_gap { zone.following(earlier).next()?.timestamp() } else { earlier };
        u64::try_from(at.as_second()).ok().map(UnixSeconds)
    }

    pub(super) fn depends_on_zone(self) -> bool {
        matches!(self, Self::Local(_))
    }
}

/// Reads the text, or a date and time of TOML, which a person may write without quotes.
pub(in crate::routine) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a date and a time, such as \"2026-12-01T09:00\"")]
    enum Written {
        Text(String),
        Time(toml::value::Datetime),
    }
    let written = Option::<Written>::deserialize(deserializer)?;
    Ok(written.map(|written| match written {
        Written::Text(text) => text,
        Written::Time(time) => time.to_string(),
    }))
}
