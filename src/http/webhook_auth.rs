//! Webhook tokens, by which programs trigger a routine: making, recognising and revoking them.

use std::sync::Arc;
use std::time::Duration;

use super::token_hash::TokenHash;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::{self, Home};
use crate::random_token::random_token;
use crate::routine::slug::Slug;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};
use crate::routine::webhook_token::{self, WebhookToken};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("cannot make a token: {0}")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Routine(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}; try again")]
    Locked(#[from] LockError),
    #[error("there is no webhook token '{0}'; see: moadim-mcp token list")]
    Unknown(String),
}

/// Shows people and secret scanners what a token is.
const PREFIX: &str = "moadim_webhook_";

const ID_CHARS: usize = 8;

/// Makes a token for a routine; returns its record, and the token, which is nowhere else.
///
/// # Errors
/// There is no such routine, or the system refuses.
pub(crate) fn make(home: &Home, routine: &Slug, allows_text: bool) -> Result<(WebhookToken, String), TokenError> {
    let _lock = lock(home)?;
    store::check_exists(home, routine)?;
    let directory = home.webhook_tokens();
    home::make_directory(&directory).map_err(|source| FileError::io("make", &directory, source))?;
    loop {
        let id = home::random_suffix()[..ID_CHARS].to_owned();
        let token = format!("{PREFIX}{id}_{}", random_token()?);
        let record = WebhookToken {
            id,
            routine: routine.clone(),
            sha256: TokenHash::of(&token).to_string(),
            allows_text,
            created_at: UnixSeconds::now(),
            last_used_at: None,
        };
        // Of those that somebody has, none is replaced.
        if atomic_file::write_json_once(&webhook_token::file(home, &record.id), &record)? {
            return Ok((record, token));
        }
    }
}

/// Revokes a token; returns its record.
///
/// # Errors
/// There is none of that id, or the system refuses.
pub(crate) fn revoke(home: &Home, id: &str) -> Result<WebhookToken, TokenError> {
    let _lock = lock(home)?;
    let found = webhook_token::list(home)?.into_iter().find(|token| token.id == id);
    let token = found.ok_or_else(|| TokenError::Unknown(crate::quote::quote(id, 64)))?;
    webhook_token::remove(home, &token.id)?;
    Ok(token)
}

/// Returns the id that a token names; `None` if it has not the form of ours.
pub(super) fn id(token: &str) -> Option<&str> {
    let id = token.strip_prefix(PREFIX)?.split('_').next()?;
    // It becomes a file's name.
    (id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Finds the record of a token that a request shows; `None` if it is none of ours, or that of a routine that is gone.
pub(super) fn find(home: &Home, token: &str) -> Option<WebhookToken> {
    let id = id(token)?;
    let record: WebhookToken = atomic_file::read_json(&webhook_token::file(home, id)).ok()?;
    let is_it = record.id == id && TokenHash::parse(&record.sha256)? == TokenHash::of(token);
    (is_it && store::check_exists(home, &record.routine).is_ok()).then_some(record)
}

/// How long a use is as good as the next.
const SAME_USE: Duration = Duration::from_secs(60);

/// Notes that a token is used now, on a thread of its own: that may wait for a lock and the disk.
pub(super) fn note_use(home: &Arc<Home>, token: &WebhookToken) {
    let now = UnixSeconds::now();
    if token.last_used_at.is_some_and(|last| last.age_secs_at(now) < SAME_USE.as_secs()) {
        return;
    }
    let (home, id) = (Arc::clone(home), token.id.clone());
    // Without a thread the use is not noted, and the trigger goes on.
    let _ = std::thread::Builder::new().name("token use".into()).spawn(move || {
        if let Err(error) = write_use(&home, &id, now) {
            tracing::warn!(%error, "cannot note the use of a webhook's token");
        }
    });
}

fn write_use(home: &Home, id: &str, now: UnixSeconds) -> Result<(), TokenError> {
    let _lock = lock(home)?;
    let path = webhook_token::file(home, id);
    // It may be revoked by now.
    if let Some(token) = atomic_file::read_json_if_present::<WebhookToken>(&path)? {
        atomic_file::write_json(&path, &WebhookToken { last_used_at: Some(now), ..token })?;
    }
    Ok(())
}

fn lock(home: &Home) -> Result<FileLock, LockError> {
    FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn home_with(routine: &str) -> (tempfile::TempDir, Home, Slug) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::create_dir(home.routines().join(routine)).unwrap();
        (dir, home, routine.parse().unwrap())
    }

    #[test]
    fn a_token_is_recognised_until_it_is_revoked_or_its_routine_is_gone() {
        let (_dir, home, news) = home_with("news");
        let (record, token) = make(&home, &news, true).unwrap();
        assert_eq!(find(&home, &token), Some(record.clone()));
        let file = webhook_token::file(&home, &record.id);
        let text = std::fs::read_to_string(&file).unwrap();
        let secret = token.rsplit('_').next().unwrap();
        assert!(!text.contains(secret), "{text}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let others = [
            token.to_uppercase(),
            token[..token.len() - 1].to_owned(),
            format!("{token}0"),
            secret.to_owned(),
            token.replace(&record.id, "../../ab"),
            format!("{PREFIX}{}_", record.id),
            String::new(),
        ];
        for other in others {
            assert_eq!(find(&home, &other), None, "{other}");
        }
        std::fs::remove_dir(home.routines().join("news")).unwrap();
        assert_eq!(find(&home, &token), None);
        std::fs::create_dir(home.routines().join("news")).unwrap();
        assert_eq!(revoke(&home, &record.id).unwrap(), record);
        assert_eq!(find(&home, &token), None);
        assert!(matches!(revoke(&home, &record.id), Err(TokenError::Unknown(_))));
        assert!(matches!(make(&home, &"old".parse().unwrap(), false), Err(TokenError::Routine(_))));
    }

    #[test]
    fn a_use_is_noted_and_brings_no_revoked_token_back() {
        let (_dir, home, news) = home_with("news");
        let (record, token) = make(&home, &news, false).unwrap();
        write_use(&home, &record.id, UnixSeconds(7)).unwrap();
        let used = WebhookToken { last_used_at: Some(UnixSeconds(7)), ..record.clone() };
        assert_eq!(find(&home, &token), Some(used));
        revoke(&home, &record.id).unwrap();
        write_use(&home, &record.id, UnixSeconds(8)).unwrap();
        assert_eq!(webhook_token::list(&home).unwrap(), []);
    }

    proptest! {
        // Each makes a home.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn nothing_else_is_a_token(text in "(moadim_webhook_)?[0-9a-f./_]{0,70}") {
            let (_dir, home, news) = home_with("news");
            let (_, token) = make(&home, &news, false).unwrap();
            prop_assert_eq!(find(&home, &text), None);
            prop_assert!(find(&home, &token).is_some());
        }
    }
}
