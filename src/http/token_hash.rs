//! Hashes of tokens: what is kept of a token that is shown once, and what is compared.

use std::fmt;
use std::hint::black_box;

use sha2::{Digest, Sha256};

/// The SHA-256 hash of a token. Comparing two takes the same time whatever they are.
#[derive(Clone, Copy)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads a hash as it is displayed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() || !text.is_ascii() {
            return None;
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(other.0).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
        difference == 0
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_published_one_and_equals_only_itself() {
        let hash = TokenHash::of("abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(hash == TokenHash::of("abc"));
        assert!(hash != TokenHash::of("abd") && hash != TokenHash::of(""));
        assert!(TokenHash::parse(&hash.to_string()).is_some_and(|parsed| parsed == hash));
        for other in ["", "ba78", &"g".repeat(64), &"é".repeat(32)] {
            assert!(TokenHash::parse(other).is_none(), "{other}");
        }
    }
}
