//! `agent.log`: everything that the agent printed, and our notes.

use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use vte::{Parser, Perform};

use super::entry::Workbench;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};

/// The most text that one reading returns.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// The most of the file that one reading looks at: control codes are dropped, so more is read than returned.
const MAX_READ_BYTES: u64 = 1024 * 1024;

/// The end of a log, as clean text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTail {
    /// The text, without control codes.
    pub text: String,
    /// Whether the log holds more before it.
    pub cut: bool,
    /// How many bytes of the log were dropped from its middle, for it had grown too large.
    pub dropped_bytes: u64,
    /// The size of the whole log.
    pub log_bytes: u64,
}

/// Reads the last `lines` lines of a run's log, at most [`MAX_TEXT_BYTES`]. A log that is not there is empty.
///
/// # Errors
/// The file is unreadable, or something else than a regular file has taken its place.
pub fn tail(workbench: &Workbench, lines: usize) -> Result<LogTail, FileError> {
    let path = workbench.log();
    let file = match atomic_file::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(LogTail::default()),
        Err(error) => return Err(error),
    };
    let fail = |source| FileError::io("read", &path, source);
    let log_bytes = file.metadata().map_err(fail)?.len();
    let hole = hole(&file, log_bytes);
    let start = log_bytes.saturating_sub(MAX_READ_BYTES).max(hole.end);
    let mut bytes = vec![0; usize::try_from(log_bytes - start).unwrap_or(0)];
    let count = read_at_most(&file, &mut bytes, start).map_err(fail)?;
    let (text, cut) = last_lines(&clean(&bytes[..count]), lines, MAX_TEXT_BYTES);
    Ok(LogTail { text, cut: cut || start > 0, dropped_bytes: hole.end - hole.start, log_bytes })
}

/// Returns the part of the log that was dropped; an empty range where nothing was, or where that cannot be told.
fn hole(file: &std::fs::File, log_bytes: u64) -> std::ops::Range<u64> {
    let start = seek(file, SeekFrom::Hole(0)).ok().filter(|start| *start < log_bytes);
    let end = start.and_then(|start| seek(file, SeekFrom::Data(start)).ok());
    start.zip(end).map_or(0..0, |(start, end)| start..end)
}

/// Appends a line of our own, unless the agent made the log another name of a file elsewhere. A log that cannot be written
/// is no reason not to go on: the outcome says the same.
pub fn append_note(workbench: &Workbench, text: &str) {
    let line = format!("[moadim {}] {text}", UnixSeconds::now());
    if let Err(error) = atomic_file::append_line_to_sole_name(&workbench.log(), &line) {
        tracing::warn!(%error, "the note was not added");
    }
}

fn read_at_most(file: &std::fs::File, buffer: &mut [u8], start: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Returns what a terminal would show of each line at the end: control sequences dropped, and of what a carriage
/// return wrote over, the last.
fn clean(bytes: &[u8]) -> String {
    let mut screen = Screen::default();
    Parser::new().advance(&mut screen, bytes);
    screen.done.push_str(&screen.line);
    screen.done
}

#[derive(Default)]
struct Screen {
    done: String,
    line: String,
    returned: bool,
}

impl Screen {
    fn put(&mut self, c: char) {
        if std::mem::take(&mut self.returned) {
            self.line.clear();
        }
        self.line.push(c);
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        // DEL and the C1 codes arrive here too.
        if !c.is_control() {
            self.put(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.returned = false;
                self.done.push_str(&self.line);
                self.done.push('\n');
                self.line.clear();
            }
            b'\t' => self.put('\t'),
            b'\r' => self.returned = true,
            _ => {}
        }
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
    use proptest::prelude::*;

    #[test]
    fn control_codes_go_and_text_stays() {
        let raw = b"\x1b[1;31mred\x1b[0m\ttab\r\n\x1b]0;title\x07 10%\r 50%\r100%\nd\xc3\xa9j\xc3\xa0 \xff\n";
        assert_eq!(clean(raw), "red\ttab\n100%\ndéjà \u{fffd}\n");
    }

    #[test]
    fn the_last_lines_are_the_last_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2, 99), ("b\nc\n".into(), true));
        assert_eq!(last_lines("a\nb\nc", 2, 99), ("b\nc".into(), true));
        assert_eq!(last_lines("a\nb\n", 2, 99), ("a\nb\n".into(), false));
        assert_eq!(last_lines("ééé", 9, 3), ("é".into(), true));
        assert_eq!(last_lines("a\n", 0, 99), (String::new(), true));
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
        let whole = tail(&workbench, 2).unwrap();
        assert_eq!((whole.text.as_str(), whole.cut, whole.dropped_bytes), ("first\nlast\n", true, 0));
        let log = std::fs::OpenOptions::new().write(true).open(workbench.log()).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&log, hole, 65_536, 8 * 65_536).unwrap();
        let holed = tail(&workbench, 1_000_000).unwrap();
        assert_eq!((holed.dropped_bytes, holed.cut), (8 * 65_536, true));
        assert!(holed.text.ends_with("last\n") && !holed.text.contains('\0'));
        assert!(holed.text.len() < 100_000);
    }

    proptest! {
        #[test]
        fn clean_text_holds_no_control_codes(bytes: Vec<u8>) {
            let text = clean(&bytes);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{:?}", text);
        }
    }
}
