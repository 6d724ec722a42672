//! A routine's name on disk and in every call.

use std::borrow::Borrow;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use deunicode::deunicode_char;
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::home::Home;
use crate::quote::quote;
use crate::text_type::text_type;

pub const MAX_SLUG_CHARS: usize = 64;

/// A routine's permanent name: lower-case ASCII letters, digits and single dashes, 1 to 64 characters, no dash at
/// either end. It is given or comes from the first title, and never changes. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct Slug(Arc<str>);

/// Transliterates a character. A sign within a word, such as the soft sign that becomes an apostrophe, does not split the word; a
/// symbol, such as an emoji, is a word of its own. What is not known in ASCII is left out like punctuation.
fn to_ascii(c: char) -> impl Iterator<Item = char> {
    let ascii = deunicode_char(c).unwrap_or("-");
    let is_letter = c.is_alphabetic() && !c.is_ascii();
    let is_symbol = !c.is_alphanumeric() && ascii.contains(|c: char| c.is_ascii_alphanumeric());
    let dash = is_symbol.then_some('-');
    let kept = ascii.chars().filter(move |c| !is_letter || c.is_ascii_alphanumeric() || *c == ' ');
    dash.into_iter().chain(kept).chain(dash)
}

#[derive(Debug, thiserror::Error)]
#[error(
    "'{text}' is not a routine's slug; use lower-case letters, digits and single dashes, at most {MAX_SLUG_CHARS} characters"
)]
pub struct NotASlug {
    text: String,
}

impl Slug {
    /// Makes the slug of a title: its letters and digits in lower case, transliterated to ASCII, everything between them one
    /// dash; `None` when nothing is left, as for a title of punctuation alone.
    pub fn from_title(title: &str) -> Option<Self> {
        let mut slug = String::new();
        for c in title.chars().flat_map(to_ascii) {
            if c.is_ascii_alphanumeric() {
                slug.push(c.to_ascii_lowercase());
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
            if slug.len() == MAX_SLUG_CHARS {
                break;
            }
        }
        slug.truncate(slug.trim_end_matches('-').len());
        (!slug.is_empty()).then(|| Self(slug.into()))
    }

    /// Returns whether a text is a slug, without making one.
    pub fn is_one(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_dashed_well = !text.starts_with('-') && !text.ends_with('-') && !text.contains("--");
        (1..=MAX_SLUG_CHARS).contains(&text.len()) && text.bytes().all(is_allowed) && is_dashed_well
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn directory(&self, home: &Home) -> PathBuf {
        home.routines().join(self.as_str())
    }
}

impl FromStr for Slug {
    type Err = NotASlug;

    fn from_str(text: &str) -> Result<Self, NotASlug> {
        if Self::is_one(text) { Ok(Self(text.into())) } else { Err(NotASlug { text: quote(text, MAX_SLUG_CHARS) }) }
    }
}

text_type!(Slug(text));

impl Borrow<str> for Slug {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn titles_become_slugs() {
        let slug = |title| Slug::from_title(title).map(|slug| slug.to_string());
        assert_eq!(slug("Morning  Triage!").as_deref(), Some("morning-triage"));
        assert_eq!(slug("  2026: plan ").as_deref(), Some("2026-plan"));
        assert_eq!(slug("Täglicher Überblick").as_deref(), Some("taglicher-uberblick"));
        assert_eq!(slug("Ta\u{308}glich").as_deref(), Some("taglich"), "the same in two characters");
        assert_eq!(slug("Ελληνικά").as_deref(), Some("ellenika"));
        assert_eq!(slug("日本語").as_deref(), Some("ri-ben-yu"));
        assert_eq!(slug("Отчёт №5").as_deref(), Some("otchiot-no-5"));
        assert_eq!(slug("Статья").as_deref(), Some("statia"));
        assert_eq!(slug("Hawaiʻi").as_deref(), Some("hawaii"));
        assert_eq!(slug("A🎉B").as_deref(), Some("a-tada-b"));
        assert_eq!(slug("été — ça"), slug("ete ca"));
        for nothing in ["---", "", "«»", "\u{200d}\u{fe0f}", "\u{e000}"] {
            assert_eq!(slug(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn what_is_not_a_slug_is_refused() {
        for bad in ["", "-a", "a-", "a--b", "A", "../x", "a/b", "a\0b", &"a".repeat(65), &"x/".repeat(1 << 19)] {
            let error = bad.parse::<Slug>().unwrap_err().to_string();
            assert!(error.len() < 1000);
        }
    }

    proptest! {
        #[test]
        fn a_slug_is_what_a_title_would_become(text in "[a-zA-Z0-9é日-]{0,70}") {
            let becomes_itself = Slug::from_title(&text).is_some_and(|slug| slug.as_str() == text);
            prop_assert_eq!(Slug::is_one(&text), becomes_itself);
        }

        #[test]
        fn every_slug_of_a_title_parses_back(title: String) {
            if let Some(slug) = Slug::from_title(&title) {
                prop_assert_eq!(slug.as_str().parse::<Slug>().unwrap(), slug);
            }
        }
    }
}
