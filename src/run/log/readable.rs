//! The log of an agent that prints for programs, as a person reads it: each line is an event, and offsets are those of the file.

use jiff::tz::TimeZone;

use super::source::Log;
use super::{LogPart, MAX_TEXT_BYTES, last_lines};
use crate::agent::output::{MAX_LINE_BYTES, OutputFormat, Reader};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;

/// How much of the file is read first to return its end, and how much at most: most of it is what nobody wants to read.
const FIRST_WINDOW_BYTES: u64 = 256 * 1024;
const MAX_WINDOW_BYTES: u64 = 4 * MAX_LINE_BYTES as u64;

/// How much of a line is read at once that is not shown.
const SKIPPED_AT_ONCE_BYTES: u64 = 64 * 1024;

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
            let end = if self.is_over { bytes.len() } else { end_of_lines(&bytes).max(start) };
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

    /// Reads events from a byte on: whole lines, and the rest of a last line without an end once the run is over.
    pub(super) fn readable_part(&self, offset: u64) -> Result<LogPart, FileError> {
        let restarted = offset > self.size;
        let from = if restarted { 0 } else { offset };
        let mut at = self.data_from(from).start;
        let dropped_bytes = at - from;
        if !self.begins_line(at)? {
            at = self.after_line(at)?;
        }
        let mut text = String::new();
        let mut reader = reader_of(self.format);
        while at < self.size && text.is_empty() {
            let data = self.data_from(at);
            if data.start > at {
                // What comes after a hole is not the rest of what came before it.
                at = self.after_line(data.start)?;
                continue;
            }
            let bytes = self.read(at, (data.end - at).min(2 * MAX_LINE_BYTES as u64))?;
            let mut read = 0;
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let is_whole = line.ends_with(b"\n") || (self.is_over && at + (read + line.len()) as u64 == self.size);
                if !is_whole {
                    break;
                }
                let before = text.len();
                reader.read(line, &mut text);
                if before > 0 && text.len() > MAX_TEXT_BYTES {
                    text.truncate(before);
                    return Ok(self.part_to(text, at + read as u64, dropped_bytes, restarted));
                }
                read += line.len();
                if text.len() > MAX_TEXT_BYTES {
                    break;
                }
            }
            at += read as u64;
            if read == 0 {
                if bytes.len() <= MAX_LINE_BYTES && data.end == self.size {
                    // An event of which only a part is written.
                    break;
                }
                // Longer than any that is understood: its beginning is shown, and its length.
                at = self.pass_line(at, |piece| reader.read(piece, &mut text))?;
            }
        }
        reader.finish(&mut text);
        if text.len() > MAX_TEXT_BYTES {
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
            text.push_str("…\n");
        }
        Ok(self.part_to(text, at, dropped_bytes, restarted))
    }

    fn part_to(&self, text: String, next_offset: u64, dropped_bytes: u64, restarted: bool) -> LogPart {
        // What is left of an event that is being written is not more yet.
        let more = next_offset < self.size && !text.is_empty();
        LogPart { text, next_offset, more, dropped_bytes, restarted, log_bytes: self.size }
    }

    /// Returns where the line that goes on at a byte ends; the end of the log if it does not.
    fn after_line(&self, offset: u64) -> Result<u64, FileError> {
        self.pass_line(offset, |_| ())
    }

    /// The same, and shows the line piece by piece.
    fn pass_line(&self, offset: u64, mut see: impl FnMut(&[u8])) -> Result<u64, FileError> {
        let mut at = offset;
        while at < self.size {
            let data = self.data_from(at);
            let bytes = self.read(data.start, (data.end - data.start).min(SKIPPED_AT_ONCE_BYTES))?;
            if bytes.is_empty() {
                break;
            }
            let end = after_newline(&bytes);
            see(&bytes[..end.unwrap_or(bytes.len())]);
            if let Some(end) = end {
                return Ok(data.start + end as u64);
            }
            at = data.start + bytes.len() as u64;
        }
        Ok(self.size)
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

/// Returns where the whole lines end.
fn end_of_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::run::log::{Pattern, write_format};
    use crate::run::workbench::Workbench;
    use proptest::prelude::*;
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

    /// Reads the log part by part, as a caller does, and checks that each leads on.
    fn read_all(log: &Log) -> String {
        let (mut offset, mut text) = (0, String::new());
        loop {
            let part = log.part(offset).unwrap();
            assert!(part.text.len() <= MAX_TEXT_BYTES + 8);
            text += &part.text;
            if !part.more {
                return text;
            }
            assert!(part.next_offset > offset, "it stays at {offset}");
            offset = part.next_offset;
        }
    }

    #[test]
    fn a_line_longer_than_any_is_passed_over() {
        let long = format!("{{\"type\":\"{}\"}}\n", "x".repeat(9 * MAX_LINE_BYTES));
        let (_dir, workbench) = workbench(&[CALL, "\n", &long, TEXT, "\n"]);
        let log = Log::open(&workbench).unwrap();
        let text = read_all(&log);
        assert!(text.starts_with("→ Bash: cargo test\n") && text.ends_with("All is well.\n"), "{}", &text[..200]);
        assert!(text.len() < 2000 && text.contains("a line of 9 MB"), "{}", text.len());
        let tail = log.tail(1, MAX_TEXT_BYTES).unwrap();
        assert_eq!(tail.text, "All is well.\n");
    }

    #[test]
    fn a_text_longer_than_a_part_is_cut_and_the_next_part_goes_on_behind_it() {
        let long = TEXT.replace("All is well.", &"é".repeat(300_000));
        let noise = "\u{fffd}".repeat(100_000);
        let (_dir, workbench) = workbench(&[CALL, "\n", &long, "\n", &noise, "\n", TEXT, "\n"]);
        let text = read_all(&Log::open(&workbench).unwrap());
        assert!(text.starts_with("→ Bash: cargo test\né") && text.ends_with("All is well.\n"));
        assert!(text.contains("é…\n"));
    }

    #[test]
    fn a_half_line_of_plain_text_is_read_whole_once_it_has_an_end_or_the_run_is_over() {
        let (_dir, workbench) = workbench(&[CALL, "\nplain half"]);
        let log = Log::open(&workbench).unwrap();
        assert!(log.tail(9, MAX_TEXT_BYTES).unwrap().text.ends_with("plain half\n"), "a tail shows it");
        let part = log.part(0).unwrap();
        assert_eq!((part.text.as_str(), part.more), ("→ Bash: cargo test\n", true));
        let rest = log.part(part.next_offset).unwrap();
        assert_eq!((rest.text.as_str(), rest.more, rest.next_offset), ("", false, part.next_offset));
        std::fs::write(workbench.outcome_file(), "{}").unwrap();
        let rest = Log::open(&workbench).unwrap().part(part.next_offset).unwrap();
        assert_eq!((rest.text.as_str(), rest.more), ("plain half\n", false));
    }

    proptest! {
        #[test]
        fn every_log_is_read_to_its_end(lines in prop::collection::vec("\\PC{0,40}|\\{.{0,30}|[a-z\n]{0,9}", 0..20), is_over: bool) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let (_dir, workbench) = workbench(&lines);
            if is_over {
                std::fs::write(workbench.outcome_file(), "{}").unwrap();
            }
            read_all(&Log::open(&workbench).unwrap());
        }
    }
}
