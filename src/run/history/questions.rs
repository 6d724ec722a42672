//! The lines of questions that were closed.

use serde::{Deserialize, Serialize};

use super::recent::each_recent_line;
use super::{HISTORY_LOCK_TIMEOUT, UpdateError, sync};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file;
use crate::home::lock::{FileLock, Mode};
use crate::routine::slug::Slug;
use crate::run::id::RunId;
use crate::run::question::state::{Close, QuestionState};
use crate::run::record::RECORD_VERSION;

/// The line of a question that was closed.
#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct QuestionLine<'a> {
    kind: &'static str,
    version: u32,
    routine: &'a Slug,
    run: &'a RunId,
    state: QuestionState,
    at: UnixSeconds,
    by: &'a str,
    text: Option<&'a str>,
}

/// Adds the line of a question that was closed, unless the end of the history has it, and returns once it is on disk.
///
/// # Errors
/// The lock was not free in time, or the file cannot be read or written; the caller tries again later.
pub(crate) fn append_question(home: &Home, close: &Close) -> Result<(), UpdateError> {
    #[derive(Deserialize)]
    struct Line {
        kind: String,
        run: RunId,
    }
    let path = home.history_file();
    let lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, HISTORY_LOCK_TIMEOUT)?;
    let mut is_there = false;
    let mut files = each_recent_line(home, |line| {
        let is_it = |line: Line| line.kind == "question" && line.run == close.run;
        is_there |= serde_json::from_slice(line).is_ok_and(is_it);
    })?;
    if !is_there {
        let Close { run, state, text, by, at, .. } = close;
        let (version, text) = (RECORD_VERSION, text.as_deref());
        let line =
            QuestionLine { kind: "question", version, routine: run.routine(), run, state: *state, at: *at, by, text };
        files = vec![atomic_file::append_record(&path, &line)?];
    }
    drop(lock);
    // Also a line that was there: its writer may have died before this.
    Ok(files.iter().try_for_each(|file| sync(file, &path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_has_one_line_however_often_it_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let close = |run: &str, text: Option<&str>| Close {
            at: UnixSeconds(10),
            ..Close::now(&run.parse().unwrap(), QuestionState::Answered, text.map(str::to_owned), "answer")
        };
        append_question(&home, &close("a-1", Some("yes\nplease"))).unwrap();
        append_question(&home, &close("a-1", None)).unwrap();
        std::fs::rename(home.history_file(), home.root().join("history.100.jsonl")).unwrap();
        append_question(&home, &close("a-1", None)).unwrap();
        append_question(&home, &close("b-1", None)).unwrap();
        assert_eq!(
            std::fs::read_to_string(home.root().join("history.100.jsonl")).unwrap(),
            "{\"kind\":\"question\",\"version\":2,\"routine\":\"a\",\"run\":\"a-1\",\"state\":\"answered\",\
             \"at\":\"1970-01-01T00:00:10Z\",\"by\":\"answer\",\"text\":\"yes\\nplease\"}\n"
        );
        assert_eq!(std::fs::read_to_string(home.history_file()).unwrap().lines().count(), 1);
    }
}
