//! The lines of removed archives.

use serde::Serialize;

use super::{HISTORY_LOCK_TIMEOUT, UpdateError, sync};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file;
use crate::home::lock::{FileLock, Mode};
use crate::run::id::RunId;
use crate::run::record::FIRST_RECORD_VERSION;

/// The line of an archive that was removed.
#[derive(Serialize)]
struct ArchiveLine<'a> {
    kind: &'static str,
    version: u32,
    run: &'a RunId,
    at: UnixSeconds,
    bytes: u64,
    reason: &'a str,
}

/// Adds a line for an archive that was removed.
///
/// # Errors
/// The lock was not free in time, or the file cannot be written.
pub(crate) fn append_archive_removed(
    home: &Home,
    run: &RunId,
    bytes: u64,
    reason: &str,
    at: UnixSeconds,
) -> Result<(), UpdateError> {
    let path = home.history_file();
    let line = ArchiveLine { kind: "archive_removed", version: FIRST_RECORD_VERSION, run, at, bytes, reason };
    let _lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, HISTORY_LOCK_TIMEOUT)?;
    let file = atomic_file::append_record(&path, &line)?;
    Ok(sync(&file, &path)?)
}
