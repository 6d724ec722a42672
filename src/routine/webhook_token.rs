//! Tokens by which programs trigger a routine: a record for each in `webhook_tokens/`, with the token's hash and not the token.

use serde::{Deserialize, Serialize};

use super::slug::Slug;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::home::{Home, names};

/// What a token may do, and the hash by which it is recognised. Changed under the routines' lock.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookToken {
    /// Its name, and that of its file; also a part of the token.
    pub id: String,
    /// The routine that it triggers.
    pub routine: Slug,
    /// The SHA-256 hash of the token, in hexadecimal.
    pub sha256: String,
    /// Whether it may say what a run is about.
    #[serde(default)]
    pub allows_text: bool,
    pub created_at: UnixSeconds,
    /// To the minute.
    pub last_used_at: Option<UnixSeconds>,
}

const SUFFIX: &str = ".json";

/// Returns the file of a token with this id.
pub fn file(home: &Home, id: &str) -> std::path::PathBuf {
    home.webhook_tokens().join(format!("{id}{SUFFIX}"))
}

/// Lists the tokens, oldest first. A damaged record opens nothing, and is left out.
pub fn list(home: &Home) -> Result<Vec<WebhookToken>, FileError> {
    let mut ids = Vec::new();
    let listed = names::scan(&home.webhook_tokens(), |name, _| {
        ids.extend(name.strip_suffix(SUFFIX).filter(|id| !id.starts_with('.')).map(str::to_owned));
    });
    atomic_file::if_present(listed)?;
    let mut tokens = Vec::new();
    for id in ids {
        tokens.extend(atomic_file::unless_damaged(atomic_file::read_json_if_present(&file(home, &id)))?);
    }
    tokens.sort_unstable_by(|one: &WebhookToken, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
    Ok(tokens)
}

/// Removes the tokens of a routine, which is about to go. The caller holds the routines' lock.
pub fn remove_of(home: &Home, routine: &Slug) -> Result<(), FileError> {
    for token in list(home)?.into_iter().filter(|token| token.routine == *routine) {
        remove(home, &token.id)?;
    }
    Ok(())
}

/// Removes a token; returns whether there was one. The caller holds the routines' lock.
pub fn remove(home: &Home, id: &str) -> Result<bool, FileError> {
    let was_there = atomic_file::remove_if_present(&file(home, id))?;
    if was_there {
        // A token that was revoked must not come back after a power cut.
        atomic_file::sync_directory(&home.webhook_tokens())?;
    }
    Ok(was_there)
}

#[cfg(test)]
impl WebhookToken {
    /// Returns the record of a token that nobody has.
    pub(crate) fn example(routine: &str, allows_text: bool) -> Self {
        let (id, sha256, routine) = ("0a1b2c3d".to_owned(), String::new(), routine.parse().unwrap());
        Self { id, routine, sha256, allows_text, created_at: UnixSeconds(0), last_used_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_routine_go_with_it_and_a_damaged_one_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let token = |id: &str, routine: &str, at| WebhookToken {
            id: id.to_owned(),
            created_at: UnixSeconds(at),
            ..WebhookToken::example(routine, false)
        };
        let all = [token("3", "a", 1), token("2", "b", 2), token("1", "a", 3)];
        assert_eq!(list(&home).unwrap(), []);
        remove_of(&home, &"a".parse().unwrap()).unwrap();
        std::fs::create_dir(home.webhook_tokens()).unwrap();
        for token in &all {
            atomic_file::write_json(&file(&home, &token.id), token).unwrap();
        }
        std::fs::write(file(&home, "4"), "{").unwrap();
        assert_eq!(list(&home).unwrap(), all);
        remove_of(&home, &"a".parse().unwrap()).unwrap();
        assert_eq!(list(&home).unwrap(), all[1..2]);
        assert!(remove(&home, "2").unwrap() && !remove(&home, "2").unwrap());
    }
}
