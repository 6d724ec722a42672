//! The files of the history: the one that is written, and the closed ones, each named after the second in which it was closed.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde::Deserialize;

use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::config::Config;
use crate::home::file_cache::Stamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HistoryFile {
    pub(super) path: PathBuf,
    /// When it was closed; `None` for the one that is written.
    pub(super) closed_at: Option<UnixSeconds>,
    pub(super) stamp: Stamp,
}

/// A file is closed when it reaches this fraction of the history's limits, in size or in age.
const PARTS: u64 = 16;

/// Lists the files, newest first.
pub(super) fn list(home: &Home) -> Result<Vec<HistoryFile>, FileError> {
    let fail = |source| FileError::io("list", home.root(), source);
    let mut files = Vec::new();
    for file in std::fs::read_dir(home.root()).map_err(fail)? {
        let file = file.map_err(fail)?;
        let closed_at = match file.file_name().to_str().and_then(|name| name.strip_prefix("history.")) {
            Some("jsonl") => None,
            Some(rest) => match rest.strip_suffix(".jsonl").and_then(|digits| digits.parse().ok()) {
                Some(secs) => Some(UnixSeconds(secs)),
                None => continue,
            },
            None => continue,
        };
        match file.metadata() {
            Ok(metadata) => files.push(HistoryFile { path: file.path(), closed_at, stamp: Stamp::from(&metadata) }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
    }
    files.sort_unstable_by_key(|file| std::cmp::Reverse(file.closed_at.map_or(u64::MAX, |at| at.0)));
    Ok(files)
}

/// Closes the current file if it is large or old enough, and removes closed files beyond the limit of the home in size, or
/// older than `max_age_secs`. The caller holds the history's lock.
pub(super) fn keep_within(home: &Home, config: &Config, max_age_secs: u64, now: UnixSeconds) -> Result<(), FileError> {
    let path = home.history_file();
    let bytes = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        // Appending refuses anything else.
        _ => return Ok(()),
    };
    let is_old = || first_time(home).is_some_and(|at| at.age_secs_at(now) > max_age_secs / PARTS);
    if bytes >= config.max_history_bytes / PARTS || (bytes > 0 && is_old()) {
        close(home, now)?;
    }
    let mut kept_bytes = 0;
    for file in list(home)? {
        kept_bytes += file.stamp.size();
        let Some(closed_at) = file.closed_at else { continue };
        if kept_bytes > config.max_history_bytes || closed_at.age_secs_at(now) > max_age_secs {
            std::fs::remove_file(&file.path).map_err(|source| FileError::io("remove", &file.path, source))?;
        }
    }
    Ok(())
}

/// Whether the current file is large enough to be closed.
pub(super) fn is_full(home: &Home, config: &Config) -> bool {
    home.history_file().symlink_metadata().is_ok_and(|metadata| metadata.len() >= config.max_history_bytes / PARTS)
}

fn close(home: &Home, now: UnixSeconds) -> Result<(), FileError> {
    let path = home.history_file();
    // Nothing is ever overwritten: if a second is taken, the next one is used.
    let free = (0..).map(|later| home.root().join(format!("history.{}.jsonl", now.plus_secs(later).0)));
    let closed = free.into_iter().find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| path.clone());
    std::fs::rename(&path, &closed).map_err(|source| FileError::io("close", &path, source))?;
    atomic_file::sync_directory(home.root())
}

/// Returns the time in the first readable line.
fn first_time(home: &Home) -> Option<UnixSeconds> {
    use std::io::{BufRead, BufReader, Read};
    #[derive(Deserialize)]
    struct Line {
        finished_at: Option<UnixSeconds>,
        at: Option<UnixSeconds>,
    }
    let file = atomic_file::open_regular(&home.history_file()).ok()?;
    let lines = BufReader::new(file.take(atomic_file::MAX_RECORD_BYTES)).split(b'\n');
    // The first few may be damaged.
    let times = lines.take(16).filter_map(|line| serde_json::from_slice::<Line>(&line.ok()?).ok());
    times.filter_map(|line| line.finished_at.or(line.at)).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(home: &Home) -> Vec<String> {
        let name = |file: &HistoryFile| file.path.file_name().unwrap().to_str().unwrap().to_owned();
        list(home).unwrap().iter().map(name).collect()
    }

    #[test]
    fn a_full_file_is_closed_and_the_oldest_go_when_there_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let config = Config { max_history_bytes: 16 * 100, ..Config::default() };
        for at in 0..20 {
            std::fs::write(home.history_file(), "x".repeat(120)).unwrap();
            keep_within(&home, &config, config.history_age_secs, UnixSeconds(1000 + at)).unwrap();
        }
        let names = names(&home);
        assert_eq!((names.len(), names[0].as_str()), (13, "history.1019.jsonl"), "{names:?}");
        std::fs::write(home.history_file(), "x").unwrap();
        keep_within(&home, &config, config.history_age_secs, UnixSeconds(1019)).unwrap();
        assert!(home.history_file().exists(), "far from full");
    }

    #[test]
    fn what_is_old_is_closed_and_what_is_older_goes() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let config = Config { history_age_secs: 1600, ..Config::default() };
        std::fs::write(home.history_file(), "{broken\n{\"finished_at\":\"1970-01-01T00:16:40Z\"}\n").unwrap();
        keep_within(&home, &config, config.history_age_secs, UnixSeconds(1100)).unwrap();
        assert_eq!(names(&home), ["history.jsonl"]);
        keep_within(&home, &config, config.history_age_secs, UnixSeconds(1101)).unwrap();
        assert_eq!(names(&home), ["history.1101.jsonl"]);
        std::fs::write(home.history_file(), "").unwrap();
        keep_within(&home, &config, config.history_age_secs, UnixSeconds(2701)).unwrap();
        assert_eq!(names(&home), ["history.jsonl", "history.1101.jsonl"]);
        keep_within(&home, &config, config.history_age_secs, UnixSeconds(2702)).unwrap();
        assert_eq!(names(&home), ["history.jsonl"]);
    }

    #[test]
    fn room_is_made_by_size_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let config = Config { max_history_bytes: 16 * 100, ..Config::default() };
        for name in ["history.1000.jsonl", "history.jsonl"] {
            std::fs::write(home.root().join(name), "x".repeat(800)).unwrap();
        }
        let far = 1_000_000_000;
        keep_within(&home, &config, u64::MAX, UnixSeconds(far)).unwrap();
        assert_eq!(names(&home), ["history.1000000000.jsonl", "history.1000.jsonl"]);
        std::fs::write(home.history_file(), "x").unwrap();
        keep_within(&home, &config, u64::MAX, UnixSeconds(far)).unwrap();
        assert_eq!(names(&home), ["history.jsonl", "history.1000000000.jsonl"], "one byte too many");
    }
}
