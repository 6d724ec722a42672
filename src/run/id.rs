//! A run's name: `{slug}-{unix_secs}`, the name of its workbench and of its entry in `running/`.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::fmt;
use std::str::FromStr;

use crate::clock::UnixSeconds;
use crate::quote::quote;
use crate::routine::slug::Slug;
use crate::text_type::text_type;

/// The longest timestamp in a run id: the digits of the largest 64-bit number.
const MAX_TIMESTAMP_DIGITS: usize = 20;

/// A run's id. Ordered by its timestamp, then by its slug.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct RunId {
    stamp: UnixSeconds,
    routine: Slug,
}

/// A text that is not a run's id.
#[derive(Debug, thiserror::Error)]
#[error("'{text}' is not a run id: it is the routine's name, a dash and a Unix time, such as triage-1780000000")]
pub struct NotARunId {
    text: String,
}

impl RunId {
    /// Makes the id of the run of `routine` that claimed the second `stamp`.
    pub fn new(routine: Slug, stamp: UnixSeconds) -> Self {
        Self { routine, stamp }
    }

    /// The routine that this is a run of.
    pub fn routine(&self) -> &Slug {
        &self.routine
    }

    /// The second that the run claimed: that of its trigger, or one of the 60 after it if that was taken.
    pub fn stamp(&self) -> UnixSeconds {
        self.stamp
    }

    pub(crate) fn session_name(&self) -> String {
        format!("moadim-{self}")
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.routine, self.stamp.0)
    }
}

impl FromStr for RunId {
    type Err = NotARunId;

    fn from_str(text: &str) -> Result<Self, NotARunId> {
        parse(text).ok_or_else(|| NotARunId { text: quote(text, 96) })
    }
}

fn parse(text: &str) -> Option<RunId> {
    let (slug, stamp) = parts(text)?;
    Some(RunId { routine: slug.parse().ok()?, stamp })
}

/// Splits a run's name into the routine's name and the second, without allocating; `None` if it is not a run's name.
pub(super) fn parts(text: &str) -> Option<(&str, UnixSeconds)> {
    let (slug, digits) = text.rsplit_once('-')?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // A leading zero would make two names of one id.
    let canonical = digits == "0" || !digits.starts_with('0');
    if !all_digits || !canonical || digits.len() > MAX_TIMESTAMP_DIGITS {
        return None;
    }
    Slug::is_one(slug).then_some((slug, UnixSeconds(digits.parse().ok()?)))
}

text_type!(RunId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stamp_is_the_digits_after_the_last_dash() {
        let id: RunId = "release-2-1780000000".parse().unwrap();
        assert_eq!((id.routine().as_str(), id.stamp().0), ("release-2", 1_780_000_000));
    }

    #[test]
    fn rule_1_anything_else_is_no_run() {
        for name in [
            "",
            "-",
            "-5",
            "a",
            "a-",
            "a-b",
            "a-1_2",
            "a-01",
            "A-1",
            "a--1",
            "../a-1",
            "a/b-1",
            "a-1\n",
            ".a-1",
            "a-99999999999999999999999",
            "a-18446744073709551616",
        ] {
            assert!(name.parse::<RunId>().is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn ids_print_and_parse_back(slug in "[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,4}", stamp: u64) {
            let id = RunId::new(slug.parse().unwrap(), UnixSeconds(stamp));
            prop_assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        }

        #[test]
        fn what_parses_prints_as_it_was(text in "[a-z0-9-]{0,24}") {
            if let Ok(id) = text.parse::<RunId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
