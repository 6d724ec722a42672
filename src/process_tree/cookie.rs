//! The mark by which the processes of a run are recognised.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use crate::text_type::text_type;

pub use crate::env_vars::COOKIE as COOKIE_VARIABLE;

/// 128 random bits, written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct Cookie(u128);

#[derive(Debug, thiserror::Error)]
#[error("no cookie: the system gives no random numbers ({0}); see that /dev/urandom is there")]
pub struct NoCookie(getrandom::Error);

#[derive(Debug, thiserror::Error)]
#[error("not a cookie: it is 32 lower-case hexadecimal digits")]
pub struct NotACookie;

impl Cookie {
    /// Makes a cookie that no other run has.
    pub fn random() -> Result<Self, NoCookie> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(NoCookie)?;
        Ok(Self(u128::from_ne_bytes(bytes)))
    }

    /// Returns the cookie of an environment, written as `NAME=value` each; like getenv(3) it looks at the first entry.
    pub(super) fn in_environment<'a>(entries: impl IntoIterator<Item = &'a OsStr>) -> Option<Self> {
        let value = entries
            .into_iter()
            .find_map(|entry| entry.as_bytes().strip_prefix(COOKIE_VARIABLE.as_bytes())?.strip_prefix(b"="))?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Cookie {
    type Err = NotACookie;

    fn from_str(text: &str) -> Result<Self, NotACookie> {
        let digits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(NotACookie);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NotACookie)
    }
}

text_type!(Cookie);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cookie_is_found_in_an_environment() {
        let text = "0123456789abcdef0123456789abcdef";
        let found = |entries: &[&str]| Cookie::in_environment(entries.iter().map(OsStr::new)).map(|c| c.to_string());
        assert_eq!(found(&["A=1", &format!("MOADIM_COOKIE={text}"), "B="]).as_deref(), Some(text));
        assert_eq!(found(&[&format!("XMOADIM_COOKIE={text}"), &format!("MOADIM_COOKIES={text}")]), None);
        assert_eq!(found(&["MOADIM_COOKIE", "MOADIM_COOKIE=", "MOADIM_COOKIE=short"]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn two_cookies_differ() {
        assert_ne!(Cookie::random().unwrap(), Cookie::random().unwrap());
    }

    proptest! {
        #[test]
        fn cookies_print_and_parse_back(bits: u128) {
            let cookie = Cookie(bits);
            let json = serde_json::to_string(&cookie).unwrap();
            prop_assert_eq!(json.len(), 34);
            prop_assert_eq!(serde_json::from_str::<Cookie>(&json).unwrap(), cookie);
        }

        #[test]
        fn what_parses_prints_as_it_was(text in "[0-9a-fA-F+]{31,33}") {
            if let Ok(cookie) = text.parse::<Cookie>() {
                prop_assert_eq!(cookie.to_string(), text);
            }
        }
    }
}
