//! What became of a question: open until one file says otherwise, which is made once.
//!
//! `questions/<run>.json` closes it: of any number of people and processes that answer, dismiss or expire it at the same time, one
//! makes that file. `questions/open/<run>.json` is there from before the run's line in the history until all that follows from the
//! close has been done, so that little is looked at to find what is open, and nothing is forgotten where a process dies in between.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::{self, FileError};
use crate::home::names::{self, Kind};
use crate::home::{Home, make_parent};
use crate::run::id::RunId;
use crate::run::record::{self, RECORD_VERSION, RecordError};

/// How a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuestionState {
    /// It waits for an answer.
    Open,
    /// It was answered, and another run goes on with that.
    Answered,
    /// Somebody decided that nothing follows.
    Dismissed,
    /// Nobody answered in time.
    Expired,
}

impl fmt::Display for QuestionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// `questions/<run>.json`: how a question was closed.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// [`RECORD_VERSION`] when it was written.
    pub version: u32,
    /// The run that asked.
    pub run: RunId,
    /// Never [`QuestionState::Open`].
    pub state: QuestionState,
    /// The answer.
    pub text: Option<String>,
    /// Who closed it, and how.
    pub by: String,
    /// When.
    pub at: UnixSeconds,
}

impl Close {
    /// Describes a close that happens now.
    pub(crate) fn now(run: &RunId, state: QuestionState, text: Option<String>, by: &str) -> Self {
        Self { version: RECORD_VERSION, run: run.clone(), state, text, by: by.to_owned(), at: UnixSeconds::now() }
    }
}

/// A question of which not all has been done that follows from it: one that is open, or was closed just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsettled {
    pub(crate) run: RunId,
    /// `None` where its mark cannot be read.
    pub(crate) asked: Option<Moment>,
}

/// What `questions/open/<run>.json` says.
#[derive(Serialize, Deserialize)]
struct Mark {
    asked: Moment,
    /// Whether the history has the line of its close.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_recorded: bool,
}

fn close_file(home: &Home, run: &RunId) -> PathBuf {
    home.questions().join(format!("{run}.json"))
}

fn mark_file(home: &Home, run: &RunId) -> PathBuf {
    home.open_questions().join(format!("{run}.json"))
}

/// Marks a question as open that was asked now. Marking it twice is fine.
///
/// # Errors
/// The system's.
pub(crate) fn open(home: &Home, run: &RunId) -> Result<(), FileError> {
    let file = mark_file(home, run);
    make_parent(&file)?;
    atomic_file::write_json_once(&file, &Mark { asked: Moment::now(), is_recorded: false }).map(drop)
}

/// Closes a question; returns whether this was the first time.
///
/// # Errors
/// The system's.
pub(crate) fn close(home: &Home, close: &Close) -> Result<bool, FileError> {
    let file = close_file(home, &close.run);
    make_parent(&file)?;
    atomic_file::write_json_once(&file, close)
}

/// Reads how a question was closed; `None` while it is open.
///
/// # Errors
/// That is not known: its record is unreadable, damaged, about another run or newer than this program.
pub fn read_close(home: &Home, run: &RunId) -> Result<Option<Close>, RecordError> {
    let file = close_file(home, run);
    match record::read::<Close>(&file) {
        Ok(close) if close.run == *run => Ok(Some(close)),
        Ok(close) => Err(FileError::damaged(&file, format_args!("it is about the run {}", close.run)).into()),
        Err(RecordError::File(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the history is known to have the line of a close.
pub(crate) fn is_recorded(home: &Home, run: &RunId) -> bool {
    atomic_file::read_json(&mark_file(home, run)).is_ok_and(|mark: Mark| mark.is_recorded)
}

/// Notes that the history has the line of a close, if something still follows from it.
///
/// # Errors
/// The system's.
pub(crate) fn note_recorded(home: &Home, run: &RunId) -> Result<(), FileError> {
    let file = mark_file(home, run);
    let mark = atomic_file::unless_damaged(atomic_file::read_json_if_present::<Mark>(&file))?;
    mark.map_or(Ok(()), |mark| atomic_file::write_json(&file, &Mark { is_recorded: true, ..mark }))
}

/// Whether something still has to follow from a question. A mark that cannot be looked at counts as there.
pub(crate) fn is_unsettled(home: &Home, run: &RunId) -> bool {
    match mark_file(home, run).symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Lists the questions that are open or were closed just now, oldest run first.
///
/// # Errors
/// The folder is there and cannot be listed.
pub(crate) fn unsettled(home: &Home) -> Result<Vec<Unsettled>, FileError> {
    let mut runs: Vec<RunId> = runs_in(&home.open_questions())?;
    runs.sort_unstable();
    let read = |run: RunId| {
        let asked = atomic_file::read_json(&mark_file(home, &run)).ok().map(|mark: Mark| mark.asked);
        Unsettled { run, asked }
    };
    Ok(runs.into_iter().map(read).collect())
}

/// Lists the runs of which a question is open, oldest first. One of which that is not known counts.
///
/// # Errors
/// The folder is there and cannot be listed.
pub(crate) fn open_runs(home: &Home) -> Result<Vec<RunId>, FileError> {
    let mut runs = runs_in(&home.open_questions())?;
    runs.retain(|run| !read_close(home, run).is_ok_and(|close| close.is_some()));
    runs.sort_unstable();
    Ok(runs)
}

/// Takes the mark of a question away, once all has been done that follows from it. Doing so twice is fine.
///
/// # Errors
/// The system's.
pub(crate) fn settled(home: &Home, run: &RunId) -> Result<(), FileError> {
    atomic_file::remove_if_present(&mark_file(home, run)).map(drop)
}

/// Forgets the closes of runs that are gone, and returns what could not be removed or listed.
pub(crate) fn tidy(home: &Home, is_gone: impl Fn(&RunId) -> bool) -> Vec<FileError> {
    let runs = match runs_in(&home.questions()) {
        Ok(runs) => runs,
        Err(error) => return vec![error],
    };
    let goes = |run: &&RunId| !is_unsettled(home, run) && is_gone(run);
    runs.iter().filter(goes).filter_map(|run| atomic_file::remove_if_present(&close_file(home, run)).err()).collect()
}

fn runs_in(directory: &std::path::Path) -> Result<Vec<RunId>, FileError> {
    let mut runs = Vec::new();
    let listed = names::scan(directory, |name, kind| {
        if kind == Kind::Other {
            runs.extend(name.strip_suffix(".json").and_then(|name| name.parse::<RunId>().ok()));
        }
    });
    atomic_file::if_present(listed)?;
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_closed_once_and_forgotten_with_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let run: RunId = "a-1".parse().unwrap();
        assert_eq!((open_runs(&home).unwrap(), unsettled(&home).unwrap()), (vec![], vec![]));
        open(&home, &run).unwrap();
        let first = unsettled(&home).unwrap();
        open(&home, &run).unwrap();
        assert_eq!(unsettled(&home).unwrap(), first, "it is as old as it was");
        assert_eq!((open_runs(&home).unwrap(), read_close(&home, &run).unwrap()), (vec![run.clone()], None));
        let answer = Close::now(&run, QuestionState::Answered, Some("yes".into()), "answer");
        assert!(close(&home, &answer).unwrap());
        assert!(!close(&home, &Close::now(&run, QuestionState::Dismissed, None, "answer")).unwrap());
        assert_eq!((open_runs(&home).unwrap(), read_close(&home, &run).unwrap()), (vec![], Some(answer)));
        assert!(tidy(&home, |_| true).is_empty());
        assert!(read_close(&home, &run).unwrap().is_some(), "it is not settled yet");
        settled(&home, &run).unwrap();
        settled(&home, &run).unwrap();
        assert!(!is_unsettled(&home, &run) && tidy(&home, |_| false).is_empty());
        assert!(read_close(&home, &run).unwrap().is_some());
        assert!(tidy(&home, |gone| *gone == run).is_empty());
        assert_eq!(read_close(&home, &run).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_neither_open_for_an_answer_nor_closed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let run: RunId = "a-1".parse().unwrap();
        open(&home, &run).unwrap();
        for text in ["{", r#"{"version": 99}"#, r#"{"version":2,"run":"a-2","state":"expired","by":"","at":1}"#] {
            std::fs::write(close_file(&home, &run), text).unwrap();
            assert!(read_close(&home, &run).is_err(), "{text}");
            assert_eq!(open_runs(&home).unwrap(), std::slice::from_ref(&run), "no fire takes its place");
            assert!(!close(&home, &Close::now(&run, QuestionState::Expired, None, "janitor")).unwrap());
        }
    }
}
