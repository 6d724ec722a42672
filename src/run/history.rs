//! `history.jsonl`: one line per ended run; outlives the workbench.
//!
//! When it has grown large or old it is closed under another name; lines are written to the new one only, and read in all.

mod files;
mod holes;
mod index;
mod missed;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::Workbench;
use super::id::RunId;
use super::log::{Log, LogTail};
use super::record::Outcome;
use super::status::Status;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};
use crate::home::config::Config;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::routine::slug::Slug;

pub use holes::{Incomplete, complete};
pub use index::{HistoryIndex, Line, Lines};
pub use missed::{Missed, append_missed};

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

/// How much of a run's output its line keeps.
pub const TAIL_BYTES: usize = 2 * 1024;

/// What the history tells of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// How it ended.
    pub outcome: Outcome,
    /// The end of its output as clean text, at most [`TAIL_BYTES`].
    pub tail: Option<String>,
    /// Whether it printed more before that.
    pub tail_cut: bool,
    /// How many bytes its log had, where that is known.
    pub log_bytes: Option<u64>,
}

impl From<PastLine> for Past {
    fn from(line: PastLine) -> Self {
        let PastLine { outcome, tail, tail_cut, log_bytes } = line;
        // Older versions did not say. A text that was cut is as long as it may be, but for a character.
        let tail_cut = tail_cut.unwrap_or_else(|| tail.as_ref().is_some_and(|tail| tail.len() + 4 > TAIL_BYTES));
        Self { outcome, tail, tail_cut, log_bytes }
    }
}

/// A run's line as it is written. Who reads it may know nothing but this line.
#[derive(Serialize)]
struct RunLine<'a> {
    kind: &'static str,
    routine: &'a Slug,
    #[serde(flatten)]
    outcome: &'a Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tail_cut: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bytes: Option<u64>,
}

/// A run's line as it is read: those of older versions say less.
#[derive(Deserialize)]
struct PastLine {
    #[serde(flatten)]
    outcome: Outcome,
    #[serde(default)]
    tail: Option<String>,
    #[serde(default)]
    tail_cut: Option<bool>,
    #[serde(default)]
    log_bytes: Option<u64>,
}

impl PastLine {
    /// Reads a line. A status that a newer version wrote is shown as it is written, in the reason.
    fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().or_else(|| {
            let mut line: serde_json::Value = serde_json::from_slice(text).ok()?;
            let newer = format!("it is '{}', a status of a newer version; update moadim-mcp", line["status"].as_str()?);
            line["status"] = serde_json::to_value(Status::Unknown).ok()?;
            line["reason"] = newer.into();
            serde_json::from_value(line).ok()
        })
    }
}

/// Adds a run's line, exactly once, and returns once it is on disk: true if it was added now.
///
/// # Errors
/// The lock is not to be had, or the file cannot be written; the caller tries again later.
pub fn append(home: &Home, config: &Config, outcome: &Outcome, known: Known) -> Result<bool, HistoryError> {
    let path = home.history_file();
    let line = encode(home, outcome)?;
    let lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, PATIENCE)?;
    let there = match known {
        Known::New => None,
        Known::Perhaps => find(home, &outcome.id)?,
    };
    let is_new = there.is_none();
    let mut no_room = None;
    let file = match there {
        Some(file) => file,
        None => {
            if files::is_full(home, config) {
                no_room = files::make_room(home, config, UnixSeconds::now()).err();
            }
            atomic_file::append_line(&path, &line)?
        }
    };
    drop(lock);
    if let Some(error) = no_room {
        // A line in a file that is too large is better than none.
        tracing::warn!(%error, "no room was made in the history");
    }
    // Also one that is there already: its writer may have died before this.
    sync(&file, &path)?;
    Ok(is_new)
}

fn encode(home: &Home, outcome: &Outcome) -> Result<String, FileError> {
    let tail = tail(&Workbench::of(home, &outcome.id));
    let line = RunLine {
        kind: "run",
        routine: outcome.id.routine(),
        outcome,
        duration_secs: outcome.started_at.map(|from| from.age_secs_at(outcome.finished_at)),
        tail_cut: tail.as_ref().map(|tail| tail.cut),
        log_bytes: tail.as_ref().map(|tail| tail.log_bytes),
        tail: tail.map(|tail| tail.text),
    };
    serde_json::to_string(&line).map_err(|error| FileError::io("write", &home.history_file(), error.into()))
}

/// Puts the lines of a file on disk. Called without the history's lock, so that the file system can do it for many runs at
/// once; on the descriptor that was written, because the file may have been closed under another name by now.
fn sync(file: &File, path: &Path) -> Result<(), FileError> {
    file.sync_data().map_err(|source| FileError::io("sync", path, source))
}

/// Returns the end of a run's output; `None` where there is none or it cannot be read, which is no reason not to record the
/// run.
fn tail(workbench: &Workbench) -> Option<LogTail> {
    let tail = Log::open(workbench).and_then(|log| log.tail(usize::MAX, TAIL_BYTES)).ok()?;
    (!tail.text.is_empty()).then_some(tail)
}

/// Closes the history's file if it is old or large enough, and removes what exceeds what the home keeps.
///
/// # Errors
/// The lock is not to be had, or the system refuses.
pub fn tidy(home: &Home, config: &Config) -> Result<(), HistoryError> {
    let _lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, PATIENCE)?;
    Ok(files::tidy(home, config, UnixSeconds::now())?)
}

/// Makes sure that lines can be added and read: there is no history yet, or each of its files is a regular one.
///
/// # Errors
/// What is wrong with it; if that is the file that is written, the ends of runs wait until it is mended.
pub fn check(home: &Home) -> Result<(), FileError> {
    for file in files::list(home)? {
        match atomic_file::open_regular(&file.path) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A file that was closed so long before a run's second holds no line of it, however the clock was set meanwhile.
const CLOCK_MARGIN_SECS: u64 = 24 * 60 * 60;

/// Returns the file that holds a run's line.
fn find(home: &Home, id: &RunId) -> Result<Option<File>, FileError> {
    for file in files::list(home)? {
        if file.closed_at.is_some_and(|at| at.plus_secs(CLOCK_MARGIN_SECS) < id.stamp()) {
            break;
        }
        let opened = match atomic_file::open_regular(&file.path) {
            Err(error) if error.is_not_found() => continue,
            opened => opened?,
        };
        let of_it = |run: RunId| if run == *id { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        if each_run(&opened, &file.path, of_it)?.is_break() {
            return Ok(Some(opened));
        }
    }
    Ok(None)
}

/// Calls `see` with the run of each line, until it has seen enough.
fn each_run(
    file: &File,
    path: &Path,
    mut see: impl FnMut(RunId) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, FileError> {
    #[derive(Deserialize)]
    struct Line {
        id: RunId,
    }
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A damaged line may be of any length; read in pieces, none of which is a record.
        let read = reader.by_ref().take(MAX_RECORD_BYTES).read_until(b'\n', &mut line);
        if read.map_err(|source| FileError::io("read", path, source))? == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        if let Ok(Line { id }) = serde_json::from_slice(&line)
            && see(id).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
}

#[cfg(test)]
mod tests;
