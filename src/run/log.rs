//! `agent.log`: everything that the agent printed, and our notes.

mod follower;
mod readable;
mod screen;
mod search;
mod source;
mod text;

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::workbench::Workbench;
use crate::agent::output::OutputFormat;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};

pub use follower::Follower;
pub use screen::create_sizes;
pub use search::{BadPattern, Pattern};
pub use source::{Log, write_format};
use text::{clean, whole_characters};

/// The most text that one reading returns.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// How much of the file is read to return its end, per byte returned and at least: control codes are dropped, and a progress bar
/// is little else.
const READ_PER_BYTE: u64 = 4;
const LEAST_READ_BYTES: u64 = 64 * 1024;

/// A part of a log, as clean text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPart {
    /// The text, without control codes.
    pub text: String,
    /// Where the next part begins.
    pub next_offset: u64,
    /// Whether the log holds more: before its end, behind any other part.
    pub more: bool,
    /// How many bytes before the text were dropped from a log that had grown too large.
    pub dropped_bytes: u64,
    /// Whether the log was shorter than the offset, so that this is its beginning.
    pub restarted: bool,
    /// The size of the whole log.
    pub log_bytes: u64,
}

impl Log {
    /// Reads the last `lines` lines, at most `max_bytes` of text; of an agent that drew on its terminal, what that showed last.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tail(&self, lines: usize, max_bytes: usize) -> Result<LogPart, FileError> {
        if self.format != OutputFormat::Text {
            return self.readable_tail(lines, max_bytes);
        }
        let hole = self.first_hole();
        let window = (READ_PER_BYTE * max_bytes as u64).max(LEAST_READ_BYTES);
        let start = self.size.saturating_sub(window).max(hole.end);
        let bytes = self.read(start, window)?;
        let whole = whole_characters(&bytes);
        let picture = screen::shown(&bytes[..whole], start, || screen::read_sizes(self.sizes_file.as_deref()));
        let shown = picture.unwrap_or_else(|| clean(&bytes[..whole]));
        let (text, cut) = last_lines(&shown, lines, max_bytes);
        Ok(LogPart {
            text,
            more: cut || start > 0,
            restarted: false,
            dropped_bytes: hole.end - hole.start,
            log_bytes: self.size,
            next_offset: start + whole as u64,
        })
    }

    /// Reads from a byte on, at most [`MAX_TEXT_BYTES`]: whole lines, and up to the end what there is of the last, but for a
    /// character of which only a part is written.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn part(&self, offset: u64) -> Result<LogPart, FileError> {
        if self.format != OutputFormat::Text {
            return self.readable_part(offset);
        }
        let restarted = offset > self.size;
        let from = if restarted { 0 } else { offset };
        let data = self.data_from(from);
        let mut limit = MAX_TEXT_BYTES;
        loop {
            let bytes = self.read(data.start, (data.end - data.start).min(limit as u64))?;
            let behind = data.start + bytes.len() as u64;
            let used = match bytes.iter().rposition(|byte| *byte == b'\n') {
                // What comes after a hole is not the rest of what came before it.
                _ if behind == data.end && behind < self.size => bytes.len(),
                Some(newline) if behind < data.end => newline + 1,
                _ => whole_characters(&bytes),
            };
            // An offset of somebody's own choice may lie within a character.
            let within = bytes[..used].iter().take(3).take_while(|byte| *byte & 0xC0 == 0x80).count();
            let text = clean(&bytes[if data.start > 0 { within } else { 0 }..used]);
            if text.len() > MAX_TEXT_BYTES {
                // A byte that is no text became three.
                limit /= 2;
                continue;
            }
            let next_offset = data.start + used as u64;
            let dropped_bytes = data.start - from;
            return Ok(LogPart {
                text,
                next_offset,
                more: behind < self.size,
                dropped_bytes,
                restarted,
                log_bytes: self.size,
            });
        }
    }

    /// Reads what was printed from a byte on as it is, at most [`MAX_TEXT_BYTES`], without what was dropped; returns where the
    /// next part begins, too. Begins again where the log is shorter.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn raw(&self, offset: u64) -> Result<(Vec<u8>, u64), FileError> {
        let data = self.data_from(if offset > self.size { 0 } else { offset });
        let bytes = self.read(data.start, (data.end - data.start).min(MAX_TEXT_BYTES as u64))?;
        let next = data.start + bytes.len() as u64;
        Ok((bytes, next))
    }
}

/// Reads the end of what an agent printed on stderr, as clean text; empty where its stderr is in its log.
pub fn stderr_end(workbench: &Workbench, max_bytes: u64) -> String {
    let read = || {
        let file = atomic_file::open_regular(&workbench.stderr_log())?;
        let path = workbench.stderr_log();
        let size = file.metadata().map_err(|source| FileError::io("read", &path, source))?.len();
        let mut bytes = vec![0; usize::try_from(size.min(max_bytes)).unwrap_or(0)];
        let count = file.read_at(&mut bytes, size.saturating_sub(max_bytes));
        bytes.truncate(count.map_err(|source| FileError::io("read", &path, source))?);
        Ok::<_, FileError>(clean(&bytes))
    };
    read().unwrap_or_default()
}

/// Appends a line of our own, unless the agent made the log another name of a file elsewhere. A failure is only logged: the outcome
/// says the same.
pub fn append_note(workbench: &Workbench, text: &str) {
    append(&workbench.log(), text);
}

/// Appends the same line to what an agent printed on stderr, where that is a log of its own.
pub fn append_note_to_stderr(workbench: &Workbench, text: &str) {
    let log = workbench.stderr_log();
    if log.symlink_metadata().is_ok() {
        append(&log, text);
    }
}

fn append(log: &Path, text: &str) {
    let line = format!("[moadim {}] {text}", UnixSeconds::now());
    if let Err(error) = atomic_file::append_line_to_sole_name(log, &line) {
        tracing::warn!(%error, "the note was not added");
    }
}

fn last_lines(text: &str, lines: usize, max_bytes: usize) -> (String, bool) {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let by_lines = match lines {
        0 => text.len(),
        _ => body.rmatch_indices('\n').nth(lines - 1).map_or(0, |(at, _)| at + 1),
    };
    let by_bytes = text.ceil_char_boundary(text.len().saturating_sub(max_bytes));
    let start = by_lines.max(by_bytes);
    (text[start..].to_owned(), start > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2, 99), ("b\nc\n".into(), true));
        assert_eq!(last_lines("a\nb\nc", 2, 99), ("b\nc".into(), true));
        assert_eq!(last_lines("a\nb\n", 2, 99), ("a\nb\n".into(), false));
        assert_eq!(last_lines("ééé", 9, 3), ("é".into(), true));
        assert_eq!(last_lines("a\n", 0, 99), (String::new(), true));
    }

    #[test]
    fn what_the_history_kept_is_read_like_a_log() {
        let log = Log::kept("één\ntwo\nthree".to_owned(), 0);
        let tail = log.tail(2, MAX_TEXT_BYTES).unwrap();
        assert_eq!((tail.text.as_str(), tail.more, tail.next_offset, tail.log_bytes), ("two\nthree", true, 15, 15));
        assert_eq!(log.tail(9, 6).unwrap().text, "\nthree");
        let part = log.part(6).unwrap();
        assert_eq!((part.text.as_str(), part.next_offset, part.more, part.restarted), ("two\nthree", 15, false, false));
        let end = log.part(15).unwrap();
        assert_eq!((end.text.as_str(), end.next_offset, end.more, end.restarted), ("", 15, false, false));
        let beyond = log.part(u64::MAX).unwrap();
        assert_eq!((beyond.text.as_str(), beyond.restarted), ("één\ntwo\nthree", true));
        let found = log.search(&Pattern::new("T").unwrap(), 0).unwrap();
        assert_eq!((found.text.as_str(), found.next_offset, found.more), ("6:two\n10:three\n", 15, false));
        assert_eq!(log.search(&Pattern::new("T").unwrap(), 10).unwrap().text, "10:three\n");
        let end = Log::kept("two\nthree".to_owned(), 1000);
        let tail = end.tail(9, MAX_TEXT_BYTES).unwrap();
        assert_eq!(
            (tail.text.as_str(), tail.more, tail.next_offset, tail.dropped_bytes),
            ("two\nthree", true, 1000, 991)
        );
        let part = end.part(10).unwrap();
        assert_eq!((part.text.as_str(), part.next_offset, part.dropped_bytes), ("two\nthree", 1000, 981));
        assert_eq!(end.part(995).unwrap().text, "three");
        assert_eq!(end.part(1000).unwrap().text, "");
        assert_eq!(end.search(&Pattern::new("three").unwrap(), 0).unwrap().text, "995:three\n");
        assert!(end.search(&Pattern::new("three").unwrap(), 1001).unwrap().restarted);
        let empty = Log::kept(String::new(), 0);
        assert_eq!(empty.tail(2, 9).unwrap(), LogPart::default());
        assert_eq!(empty.part(1).unwrap(), LogPart { restarted: true, ..LogPart::default() });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_dropped_middle_is_told_and_not_read() {
        use rustix::fs::{FallocateFlags, fallocate};
        let dir = tempfile::tempdir().unwrap();
        let home = crate::home::Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        std::fs::create_dir(workbench.directory()).unwrap();
        std::fs::write(workbench.log(), "first\n".repeat(100_000) + "last\n").unwrap();
        let tail = |lines| Log::open(&workbench).unwrap().tail(lines, MAX_TEXT_BYTES).unwrap();
        let whole = tail(2);
        assert_eq!((whole.text.as_str(), whole.more, whole.dropped_bytes), ("first\nlast\n", true, 0));
        let log = std::fs::OpenOptions::new().write(true).open(workbench.log()).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&log, hole, 65_536, 8 * 65_536).unwrap();
        let holed = tail(1_000_000);
        assert_eq!((holed.dropped_bytes, holed.more), (8 * 65_536, true));
        assert!(holed.text.ends_with("last\n") && !holed.text.contains('\0'));
        assert!(holed.text.len() < 100_000);
    }
}
