//! Searching a log, with a bound on the work that one call does.

use regex::{Regex, RegexBuilder};

use super::LogPart;
use super::MAX_TEXT_BYTES;
use super::source::Log;
use super::text::clean;
use crate::agent::output::{MAX_LINE_BYTES, OutputFormat};
use crate::home::atomic_file::FileError;
use crate::quote::quote;

/// The most of a log that one search looks at, the holes not counted.
const MAX_SEARCHED_BYTES: u64 = 64 * 1024 * 1024;
/// How much is read at once.
const BLOCK_BYTES: u64 = 256 * 1024;
/// A line of more blocks than one is searched in pieces of at least this length.
const MIN_PIECE_BYTES: usize = 64 * 1024;
/// The most lines that are returned, and how much of each: so much before what matches, and in all.
const MAX_LINES: usize = 200;
const CHARS_BEFORE: usize = 200;
const MAX_SHOWN_CHARS: usize = 1000;

/// The most memory that a pattern may take up, in bytes.
const MAX_PATTERN_MEMORY: usize = 1 << 20;
const MAX_PATTERN_CHARS: usize = 1000;

/// What is searched for: a regular expression, in which case does not matter.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

/// A text that is no pattern.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is not a valid regular expression ({why}); to match one of .+*?()[]{{}}|^$\\ literally, put a backslash before it"
)]
pub struct BadPattern {
    why: String,
}

impl Pattern {
    /// Reads a regular expression (the syntax of the crate `regex`).
    ///
    /// # Errors
    /// It does not make sense, or would take too much memory.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let bad = |why: String| BadPattern { why };
        if text.is_empty() || text.chars().count() > MAX_PATTERN_CHARS {
            return Err(bad(format!("it must have 1 to {MAX_PATTERN_CHARS} characters")));
        }
        let built = RegexBuilder::new(text).case_insensitive(true).size_limit(MAX_PATTERN_MEMORY).build();
        // The last line says what is wrong, those before it where.
        built.map(Self).map_err(|error| bad(quote(error.to_string().lines().last().unwrap_or_default(), 200)))
    }
}

impl Log {
    /// Searches from a byte on for the first 200 lines that match. Each is a line of the text, after its place in the log, in
    /// bytes, and a colon.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn search(&self, pattern: &Pattern, offset: u64) -> Result<LogPart, FileError> {
        let restarted = offset > self.size;
        let mut found = LogPart { log_bytes: self.size, restarted, ..LogPart::default() };
        let mut at = if restarted { 0 } else { offset };
        let mut line = Line { offset: at, bytes: Vec::new(), is_rest: false };
        let max_piece_bytes = if self.format == OutputFormat::Text { MIN_PIECE_BYTES } else { MAX_LINE_BYTES };
        let (mut searched, mut lines) = (0, 0);
        while searched < MAX_SEARCHED_BYTES {
            let data = self.data_from(at);
            if data.start > at {
                lines += line.search(self, pattern, &mut found.text);
                found.dropped_bytes += data.start - at;
                line.offset = data.start;
            }
            // Of an event there is no sense in a rest.
            line.is_rest |=
                line.bytes.is_empty() && self.format != OutputFormat::Text && !self.begins_line(data.start)?;
            let block = self.read(data.start, (data.end - data.start).min(BLOCK_BYTES))?;
            at = data.start + block.len() as u64;
            if block.is_empty() {
                break;
            }
            searched += block.len() as u64;
            for piece in block.split_inclusive(|byte| *byte == b'\n') {
                line.bytes.extend_from_slice(piece);
                if piece.ends_with(b"\n") || line.bytes.len() >= max_piece_bytes {
                    lines += line.search(self, pattern, &mut found.text);
                }
                if lines >= MAX_LINES || found.text.len() > MAX_TEXT_BYTES {
                    found.next_offset = line.offset;
                    found.more = line.offset < self.size;
                    return Ok(found);
                }
            }
        }
        let is_event = self.format != OutputFormat::Text;
        // The rest of an event is still to come, or to be read.
        if is_event && !line.bytes.is_empty() && line.offset > offset && !(self.is_over && at == self.size) {
            at = line.offset;
        } else {
            line.search(self, pattern, &mut found.text);
        }
        found.next_offset = at;
        found.more = at < self.size && (searched >= MAX_SEARCHED_BYTES || !is_event);
        Ok(found)
    }
}

/// A line, as far as it is read.
struct Line {
    offset: u64,
    bytes: Vec<u8>,
    /// Whether its beginning is missing.
    is_rest: bool,
}

impl Line {
    /// Adds the line to what was `found` if it matches, as a person reads it, and makes room for the next; returns how many lines
    /// were added.
    fn search(&mut self, log: &Log, pattern: &Pattern, found: &mut String) -> usize {
        let is_rest =
            std::mem::replace(&mut self.is_rest, log.format != OutputFormat::Text && !self.bytes.ends_with(b"\n"));
        let added = match log.format {
            _ if self.bytes.is_empty() => {
                self.is_rest = is_rest;
                return 0;
            }
            OutputFormat::Text => {
                let bytes = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
                let plain = bytes.iter().all(|byte| (0x20..0x7F).contains(byte) || *byte == b'\t');
                let text = if plain { String::from_utf8_lossy(bytes).into_owned() } else { clean(bytes) };
                self.add(&text, pattern, found)
            }
            _ if is_rest => 0,
            _ => {
                let text = log.readable_line(&self.bytes);
                let mut lines = text.lines().map(|line| self.add(line, pattern, found)).filter(|added| *added > 0);
                let added = lines.by_ref().take(MAX_LINES).count();
                if lines.next().is_some() {
                    found.truncate(found.trim_end_matches('\n').rfind('\n').map_or(0, |end| end + 1));
                    *found += &format!("{}:… (more lines of this event match)\n", self.offset);
                }
                added
            }
        };
        self.offset += self.bytes.len() as u64;
        self.bytes.clear();
        added
    }

    fn add(&self, text: &str, pattern: &Pattern, found: &mut String) -> usize {
        let Some(matching) = pattern.0.find(text) else { return 0 };
        *found += &format!("{}:{}\n", self.offset, shown(text, matching.start()));
        1
    }
}

/// Cuts a line that is too long to show: around `at`, where it matches.
fn shown(line: &str, at: usize) -> String {
    let before = line[..at].char_indices().rev().nth(CHARS_BEFORE - 1).map_or(0, |(start, _)| start);
    let start = if line.chars().nth(MAX_SHOWN_CHARS).is_some() { before } else { 0 };
    let end = line[start..].char_indices().nth(MAX_SHOWN_CHARS).map_or(line.len(), |(length, _)| start + length);
    let mark = |cut| if cut { "…" } else { "" };
    format!("{}{}{}", mark(start > 0), &line[start..end], mark(end < line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::run::workbench::Workbench;

    fn workbench(text: impl AsRef<[u8]>) -> (tempfile::TempDir, Workbench) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &"a-1".parse().unwrap());
        workbench.make().unwrap();
        std::fs::write(workbench.log(), text).unwrap();
        (dir, workbench)
    }

    fn lines(found: &LogPart) -> Vec<(u64, &str)> {
        found
            .text
            .lines()
            .map(|line| line.split_once(':').unwrap())
            .map(|(at, line)| (at.parse().unwrap(), line))
            .collect()
    }

    #[test]
    fn lines_are_found_with_their_place_whatever_their_case_and_colour() {
        let (_dir, workbench) = workbench("one Error\n\x1b[31mer\x1b[0mror two\nnothing\nlast ERROR");
        let found = Log::open(&workbench).unwrap().search(&Pattern::new("error( two)?$").unwrap(), 0).unwrap();
        assert_eq!(lines(&found), [(0, "one Error"), (10, "error two"), (37, "last ERROR")]);
        assert_eq!((found.next_offset, found.more), (47, false));
        let found = Log::open(&workbench).unwrap().search(&Pattern::new("error").unwrap(), 10).unwrap();
        assert_eq!(lines(&found).len(), 2);
    }

    #[test]
    fn a_long_line_is_searched_in_pieces_and_shown_where_it_matches() {
        let block = usize::try_from(BLOCK_BYTES).unwrap();
        let (_dir, workbench) = workbench("é".repeat(block) + "needle" + &"y".repeat(9999) + "\nneedle\n");
        let found = Log::open(&workbench).unwrap().search(&Pattern::new("needle").unwrap(), 0).unwrap();
        let at = BLOCK_BYTES * 2;
        assert_eq!(lines(&found).iter().map(|line| line.0).collect::<Vec<_>>(), [at, at + 6 + 9999 + 1]);
        assert!(lines(&found)[0].1.starts_with("needley") && lines(&found)[0].1.ends_with("y…"));
        assert_eq!(shown(&("x".repeat(5000) + "needle"), 5000), format!("…{}needle", "x".repeat(CHARS_BEFORE)));
        assert_eq!(shown(&("é".repeat(300) + "needle"), 600).chars().count(), 306);
        let long = shown(&("é".repeat(300) + "needle" + &"é".repeat(3000)), 600);
        assert!(long.starts_with("…é") && long.ends_with("é…") && long.contains("needle"));
    }

    #[test]
    fn the_first_lines_are_returned_and_the_search_goes_on_behind_them() {
        let (_dir, workbench) = workbench("hit\n".repeat(MAX_LINES + 5));
        let pattern = Pattern::new("hit").unwrap();
        let first = Log::open(&workbench).unwrap().search(&pattern, 0).unwrap();
        assert_eq!((lines(&first).len(), first.more), (MAX_LINES, true));
        let rest = Log::open(&workbench).unwrap().search(&pattern, first.next_offset).unwrap();
        assert_eq!((lines(&rest).len(), rest.more), (5, false));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_log_that_is_mostly_a_hole_costs_nothing() {
        let (_dir, workbench) = workbench("first\n");
        let log = std::fs::OpenOptions::new().write(true).open(workbench.log()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&log, b"last\n", 1 << 40).unwrap();
        let found = Log::open(&workbench).unwrap().search(&Pattern::new("last|first").unwrap(), 0).unwrap();
        assert_eq!(lines(&found).first().unwrap().0, 0);
        assert!(lines(&found).last().unwrap().1.ends_with("last"));
        assert!(found.dropped_bytes > 1 << 39 && !found.more);
    }

    #[test]
    fn a_bad_pattern_is_explained() {
        let error = Pattern::new("foo(").unwrap_err().to_string();
        assert!(error.contains("unclosed") && error.contains("backslash"), "{error}");
        for bad in ["", &"x".repeat(1001), "(a{1000}){1000}"] {
            assert!(Pattern::new(bad).is_err());
        }
        Pattern::new(r"\bpanicked at \d+").unwrap();
    }
}
