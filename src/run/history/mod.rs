//! `history.jsonl`: one line for each run that ended; it outlives the workbench.
//!
//! When the file has grown large or old it is closed under another name. Lines are added to the new one only, and read from
//! all.

mod archives;
mod costs;
mod files;
mod holes;
mod index;
mod indexed_file;
mod line;
mod missed;
mod questions;
mod recent;
mod slugs;
mod tally;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::id::RunId;
use super::record::Outcome;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};
use crate::home::config::Config;
use crate::home::lock::{FileLock, LockError, Mode};
use files::HistoryFile;
use line::RunLine;

pub(crate) use archives::append_archive_removed;
pub(crate) use costs::RunCost;
pub use holes::{Incomplete, complete};
pub use index::HistoryIndex;
pub(crate) use index::{Line, Lines, Position, UnreadLine};
pub(crate) use line::Past;
pub use missed::{Missed, WhyMissed, append_missed};
pub(crate) use questions::append_question;

/// A file that is updated under a lock could not be.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whether the run may be in the history already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is not: we wrote its outcome just now.
    New,
    /// It may be: its outcome was there already.
    Perhaps,
}

const HISTORY_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Adds a run's line, exactly once, and returns once it is on disk: true if it was added now.
///
/// # Errors
/// The lock was not free in time, or the file cannot be written; the caller tries again later.
pub fn append(home: &Home, config: &Config, outcome: &Outcome, known: Known) -> Result<bool, UpdateError> {
    let path = home.history_file();
    let line = RunLine::of(home, outcome);
    let lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, HISTORY_LOCK_TIMEOUT)?;
    let there = match known {
        Known::New => None,
        Known::Perhaps => {
            let is_it = |run: RunId| if run == outcome.id { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            search(&files::list(home)?, outcome.id.stamp(), is_it)?
        }
    };
    let is_new = there.is_none();
    let mut no_room = None;
    let file = match there {
        Some(file) => file,
        None => {
            if files::is_full(home, config) {
                // By size alone: the process that adds a line cannot know whether the wall clock was just set.
                no_room = files::keep_within(home, config, u64::MAX, UnixSeconds::now()).err();
            }
            atomic_file::append_record(&path, &line)?
        }
    };
    drop(lock);
    if let Some(error) = no_room {
        // A line in a file that is too large is better than none.
        tracing::warn!(%error, "no room was made in the history");
    }
    // Also a line that was there: its writer may have died before this.
    sync(&file, &path)?;
    Ok(is_new)
}

/// Puts the lines of a file on disk. Called without the history's lock, so that the file system can do it for many runs at
/// once; on the descriptor that was written, because the file may have been closed under another name by now.
fn sync(file: &File, path: &Path) -> Result<(), FileError> {
    file.sync_data().map_err(|source| FileError::io("sync", path, source))
}

/// Closes the history's file if it is old or large enough, and removes what is beyond the limits of the home.
pub fn tidy(home: &Home, config: &Config) -> Result<(), UpdateError> {
    let _lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, HISTORY_LOCK_TIMEOUT)?;
    Ok(files::keep_within(home, config, config.history_age_secs, UnixSeconds::now())?)
}

/// Makes sure that lines can be added and read: there is no history yet, or each of its files is a regular one.
///
/// # Errors
/// A file of another kind. If it is the one that is written, the ends of runs wait until a person repairs it.
pub fn check(home: &Home) -> Result<(), FileError> {
    files::list(home)?.iter().try_for_each(|file| open_if_there(file).map(|_| ()))
}

fn open_if_there(file: &HistoryFile) -> Result<Option<File>, FileError> {
    atomic_file::if_present(atomic_file::open_regular(&file.path))
}

/// A file that was closed so long before a run's second holds no line of it, however the clock was set meanwhile.
const CLOCK_MARGIN_SECS: u64 = 24 * 60 * 60;

/// Calls `see` with the run of each line, newest file first, until it has seen enough: then returns the file of that line. Only
/// files that may have lines of runs triggered at `since` or later are read.
fn search(
    files: &[HistoryFile],
    since: UnixSeconds,
    mut see: impl FnMut(RunId) -> ControlFlow<()>,
) -> Result<Option<File>, FileError> {
    #[derive(Deserialize)]
    struct Line {
        id: RunId,
    }
    let may_have = |file: &&HistoryFile| file.closed_at.is_none_or(|at| at.plus_secs(CLOCK_MARGIN_SECS) >= since);
    for file in files.iter().take_while(may_have) {
        let Some(opened) = open_if_there(file)? else { continue };
        let mut reader = BufReader::new(&opened);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A damaged line may be of any length; read in pieces, none of which is a record.
            let read = reader.by_ref().take(MAX_RECORD_BYTES).read_until(b'\n', &mut line);
            if read.map_err(|source| FileError::io("read", &file.path, source))? == 0 {
                break;
            }
            if let Ok(Line { id }) = serde_json::from_slice(&line)
                && see(id).is_break()
            {
                return Ok(Some(opened));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
