//! `history.jsonl`: one line per ended run; outlives the workbench.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde::Deserialize;

use super::id::RunId;
use super::record::Outcome;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};
use crate::home::lock::{FileLock, LockError, Mode};

/// A line could not be added.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Another process holds the history and does not let go.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whether the run may be in the history already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is not: its outcome was written just now, by us.
    New,
    /// A holder of the run died somewhere between its outcome and its end, so look.
    Perhaps,
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Adds a run's line, exactly once.
///
/// # Errors
/// The lock is not to be had, or the file cannot be written; the caller tries again later.
pub fn append(home: &Home, outcome: &Outcome, known: Known) -> Result<(), HistoryError> {
    let path = home.history_file();
    let line = serde_json::to_string(outcome).map_err(|error| FileError::io("write", &path, error.into()))?;
    let _lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, PATIENCE)?;
    if known == Known::Perhaps && contains(home, &outcome.id)? {
        return Ok(());
    }
    Ok(atomic_file::append_line(&path, &line)?)
}

/// Makes sure that lines can be added: there is no history yet, or it is a regular file.
///
/// # Errors
/// What is wrong with it; the ends of runs wait until that is mended.
pub fn check(home: &Home) -> Result<(), FileError> {
    match atomic_file::open_regular(&home.history_file()) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn contains(home: &Home, id: &RunId) -> Result<bool, FileError> {
    #[derive(Deserialize)]
    struct Line {
        id: RunId,
    }
    let path = home.history_file();
    let file = match atomic_file::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A damaged line may be of any length; read in pieces, none of which is a record.
        let read = reader.by_ref().take(MAX_RECORD_BYTES).read_until(b'\n', &mut line);
        if read.map_err(|source| FileError::io("read", &path, source))? == 0 {
            return Ok(false);
        }
        if serde_json::from_slice::<Line>(&line).is_ok_and(|line| line.id == *id) {
            return Ok(true);
        }
    }
}
