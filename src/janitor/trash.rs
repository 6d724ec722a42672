//! The trash: what was renamed out of sight, and is deleted at leisure.

use std::ffi::OsString;

use super::remove;
use super::turn::{Turn, TurnError};
use crate::home::Home;
use crate::home::atomic_file::FileError;

/// The trash was not emptied.
#[derive(Debug, thiserror::Error)]
pub enum TrashError {
    /// Another process is sweeping, and does it after that.
    #[error(transparent)]
    Turn(#[from] TurnError),
    /// The trash cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Deletes what lies in the trash; what cannot be deleted stays for the next time.
///
/// # Errors
/// Another process is sweeping, or the trash cannot be listed.
pub fn empty(home: &Home) -> Result<(), TrashError> {
    let trash = home.trash();
    // Listed within a turn: a sweep may still want to put back what it has just put there.
    let turn = Turn::take(home)?;
    let names: Vec<OsString> = std::fs::read_dir(&trash)
        .and_then(|files| files.map(|file| file.map(|file| file.file_name())).collect())
        .map_err(|source| FileError::io("list", &trash, source))?;
    drop(turn);
    for name in names {
        let removal = remove::remove(&trash, &name, &|| false);
        if let Some(failure) = removal.failures.first() {
            tracing::warn!(%failure, failures = removal.failure_count, "the trash could not be emptied");
        }
    }
    Ok(())
}
