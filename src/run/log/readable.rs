//! The log of an agent that prints for programs, as a person reads it: each line is an event, and offsets are those of the file.

use jiff::tz::TimeZone;

use super::source::Log;
use super::{LogPart, MAX_TEXT_BYTES, last_lines};
use crate::agent::output::{MAX_LINE_BYTES, OutputFormat, Reader};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;

/// How much of the file is read first to return its end, and how much at most: most of it is what nobody wants to read.
const FIRST_WINDOW_BYTES: u64 = 256 * 1024;
const MAX_WINDOW_BYTES: u64 = 2 * MAX_LINE_BYTES as u64;

impl Log {
    /// Reads the last `lines` lines of what a person reads.
    pub(super) fn readable_tail(&self, lines: usize, max_bytes: usize) -> Result<LogPart, FileError> {
        let hole = self.first_hole();
        let mut window = FIRST_WINDOW_BYTES;
        loop {
            let from = self.size.saturating_sub(window).max(hole.end);
            let bytes = self.read(from, window)?;
            let begins = self.begins_line(from)?;
            let start = if begins { 0 } else { after_newline(&bytes).unwrap_or(bytes.len()) };
            let end = end_of_lines(&bytes, self.format).max(start);
            let mut shown = String::new();
            let mut reader = reader_of(self.format);
            reader.read(&bytes[start..], &mut shown);
            // A half line is shown, and not counted as read.
            reader.finish(&mut shown);
            let (text, cut) = last_lines(&shown, lines, max_bytes);
            let is_all = from == hole.end || window >= MAX_WINDOW_BYTES;
            if cut || is_all {
                return Ok(LogPart {
                    text,
                    next_offset: from + end as u64,
                    more: cut || from > 0,
                    dropped_bytes: hole.end - hole.start,
                    restarted: false,
                    log_bytes: self.size,
                });
            }
            window *= 4;
        }
    }

    /// Reads events from a byte on: whole lines.
    pub(super) fn readable_part(&self, offset: u64) -> Result<LogPart, FileError> {
        let restarted = offset > self.size;
        let from = if restarted { 0 } else { offset };
        let data = self.data_from(from);
        let mut window = FIRST_WINDOW_BYTES;
        loop {
            let bytes = self.read(data.start, (data.end - data.start).min(window))?;
            let behind = data.start + bytes.len() as u64;
            let start = if self.begins_line(data.start)? { 0 } else { after_newline(&bytes).unwrap_or(bytes.len()) };
            let is_last = behind == self.size;
            let end = match is_last {
                true => end_of_lines(&bytes, self.format),
                // What comes after a hole is not the rest of what came before it.
                false if behind == data.end => bytes.len(),
                false => bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1),
            };
            let is_stuck = end <= start && start < bytes.len() && !is_last;
            if is_stuck && window < MAX_WINDOW_BYTES {
                window *= 4;
                continue;
            }
            // A line longer than any that is understood is passed over in pieces.
            let end = if is_stuck { bytes.len() } else { end.max(start) };
            let mut text = String::new();
            let mut reader = reader_of(self.format);
            reader.read(&bytes[start..end], &mut text);
            reader.finish(&mut text);
            if text.len() > MAX_TEXT_BYTES && window > 1024 {
                window /= 2;
                continue;
            }
            return Ok(LogPart {
                text,
                next_offset: data.start + end as u64,
                more: data.start + (end as u64) < self.size && !(is_last && end == end_of_lines(&bytes, self.format)),
                dropped_bytes: data.start - from,
                restarted,
                log_bytes: self.size,
            });
        }
    }

    /// Returns a line as a person reads it.
    pub(super) fn readable_line(&self, line: &[u8]) -> String {
        let mut text = String::new();
        let mut reader = reader_of(self.format);
        reader.read(line, &mut text);
        reader.finish(&mut text);
        text
    }

    /// Whether a line begins at a byte.
    pub(super) fn begins_line(&self, offset: u64) -> Result<bool, FileError> {
        Ok(offset == 0 || self.read(offset - 1, 1)? == b"\n")
    }
}

/// Makes a reader whose report nobody wants, so that the zone does not matter.
pub(super) fn reader_of(format: OutputFormat) -> Reader {
    Reader::new(format, UnixSeconds::now(), &TimeZone::UTC)
}

fn after_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1)
}

/// Returns where the whole lines end: what follows is an event of which only a part is written, unless it is plain text, which
/// may wait for its end for ever.
fn end_of_lines(bytes: &[u8], format: OutputFormat) -> usize {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let rest = &bytes[end..];
    let is_half_event = rest.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(rest).is_err();
    if format == OutputFormat::Text || !is_half_event { bytes.len() } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::run::entry::Workbench;
    use crate::run::log::{Pattern, write_format};
    use std::io::Write;

    const START: &str = r#"{"type":"system","subtype":"init","session_id":"s-1","model":"opus"}"#;
    const CALL: &str = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t","name":"Bash","input":{"command":"cargo test"}}]}}"#;
    const TEXT: &str = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"All is well."}]}}"#;

    fn workbench(lines: &[&str]) -> (tempfile::TempDir, Workbench) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        workbench.make().unwrap();
        write_format(&workbench, OutputFormat::ClaudeStreamJson).unwrap();
        std::fs::write(workbench.log(), lines.concat()).unwrap();
        (dir, workbench)
    }

    #[test]
    fn a_tail_shows_events_and_a_part_goes_on_where_it_ended() {
        let half = &TEXT[..30];
        let (_dir, workbench) = workbench(&[START, "\n", CALL, "\nplain words\n", half]);
        let tail = Log::open(&workbench).unwrap().tail(100, MAX_TEXT_BYTES).unwrap();
        assert!(tail.text.contains("→ Bash: cargo test\nplain words\n"), "{}", tail.text);
        assert!(!tail.text.contains("tool_use"), "{}", tail.text);
        assert_eq!(tail.next_offset, (START.len() + CALL.len() + "plain words".len() + 3) as u64);
        let mut log = std::fs::OpenOptions::new().append(true).open(workbench.log()).unwrap();
        writeln!(log, "{}", &TEXT[30..]).unwrap();
        let part = Log::open(&workbench).unwrap().part(tail.next_offset).unwrap();
        assert_eq!((part.text.as_str(), part.more), ("All is well.\n", false));
        assert_eq!(part.next_offset, part.log_bytes);
        let raw = Log::open_raw(&workbench).unwrap().tail(1, MAX_TEXT_BYTES).unwrap();
        assert_eq!(raw.text, format!("{TEXT}\n"));
    }

    #[test]
    fn a_part_from_within_a_line_begins_with_the_next() {
        let (_dir, workbench) = workbench(&[CALL, "\n", TEXT, "\n"]);
        let log = Log::open(&workbench).unwrap();
        assert_eq!(log.part(5).unwrap().text, "All is well.\n");
        assert_eq!(log.part(0).unwrap().text, "→ Bash: cargo test\nAll is well.\n");
        let found = log.search(&Pattern::new("is well").unwrap(), 0).unwrap();
        assert_eq!(found.text, format!("{}:All is well.\n", CALL.len() + 1));
        assert_eq!(log.search(&Pattern::new("tool_use").unwrap(), 0).unwrap().text, "", "it is not what is shown");
    }

    #[test]
    fn a_line_longer_than_any_is_passed_over() {
        let long = format!("{{\"type\":\"{}\"}}\n", "x".repeat(3 * MAX_LINE_BYTES));
        let (_dir, workbench) = workbench(&[CALL, "\n", &long, TEXT, "\n"]);
        let log = Log::open(&workbench).unwrap();
        let (mut offset, mut text) = (0, String::new());
        loop {
            let part = log.part(offset).unwrap();
            text += &part.text;
            assert!(part.next_offset > offset || !part.more);
            offset = part.next_offset;
            if !part.more {
                break;
            }
        }
        assert!(text.starts_with("→ Bash: cargo test\n") && text.ends_with("All is well.\n"), "{}", &text[..200]);
        assert!(text.len() < 2000, "{}", text.len());
        let tail = log.tail(1, MAX_TEXT_BYTES).unwrap();
        assert_eq!(tail.text, "All is well.\n");
    }
}
