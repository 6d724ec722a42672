//! What the terminal of an agent showed last, where it drew on it: the order in which such an agent prints says little.

use std::fs::{File, OpenOptions};
use std::num::NonZeroU16;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use vt100::{Parser, Screen};

use super::text::clean;
use crate::home::atomic_file::{self, FileError};
use crate::run::workbench::Workbench;

/// The largest terminal that is drawn: the agent can write whatever it likes into the file of sizes.
const MAX_ROWS: u16 = 250;
const MAX_COLUMNS: u16 = 500;

/// How many sizes count, the last ones, and how much of their file is read.
const MAX_SIZES: usize = 100;
const READ_SIZES_BYTES: u64 = 4096;

/// How many rows are shown that have scrolled away.
const ROWS_ABOVE: usize = 500;

/// What a program prints last that gives back the screen as it was before.
const LEAVES_ALTERNATE_SCREEN: &[u8] = b"\x1b[?1049l";

/// The size that a terminal had from a byte of the log on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    from: u64,
    rows: NonZeroU16,
    columns: NonZeroU16,
}

/// Makes the file to which the supervisor appends a line for each size: the bytes of the log so far, rows and columns.
///
/// # Errors
/// The system's.
pub fn create_sizes(workbench: &Workbench) -> Result<File, FileError> {
    let path = workbench.sizes_file();
    let made = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
    made.map_err(|source| FileError::io("make", &path, source))
}

/// Reads the last of those lines; there are none of an agent without a terminal.
pub(super) fn read_sizes(file: Option<&Path>) -> Vec<Size> {
    let read = |path: &Path| {
        let file = atomic_file::open_regular(path).ok()?;
        let start = file.metadata().ok()?.len().saturating_sub(READ_SIZES_BYTES);
        let mut bytes = vec![0; READ_SIZES_BYTES as usize];
        let length = file.read_at(&mut bytes, start).ok()?;
        bytes.truncate(length);
        // The first line may be the end of one.
        let from = if start == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n')? };
        Some(String::from_utf8_lossy(&bytes[from..]).into_owned())
    };
    last_sizes(&file.and_then(read).unwrap_or_default())
}

fn last_sizes(text: &str) -> Vec<Size> {
    let mut sizes: Vec<Size> = text.lines().rev().filter_map(size).take(MAX_SIZES).collect();
    sizes.reverse();
    sizes
}

fn size(line: &str) -> Option<Size> {
    let mut words = line.split(' ');
    let from = words.next()?.parse().ok()?;
    let mut side = |max: u16| NonZeroU16::new(words.next()?.parse::<u16>().ok()?.min(max));
    Some(Size { from, rows: side(MAX_ROWS)?, columns: side(MAX_COLUMNS)? })
}

/// Returns what a terminal of these sizes showed in the end of the bytes, which begin at `start` in the log; `None` if nothing
/// was drawn, so that the lines alone say the same.
pub(super) fn shown(bytes: &[u8], start: u64, read_sizes: impl FnOnce() -> Vec<Size>) -> Option<String> {
    let (printed, notes) = split_notes(bytes);
    if !draws(printed) {
        return None;
    }
    let sizes = read_sizes();
    let first = *sizes.iter().rev().find(|size| size.from <= start).or(sizes.first())?;
    let left = printed.windows(LEAVES_ALTERNATE_SCREEN.len()).rposition(|window| window == LEAVES_ALTERNATE_SCREEN);
    // A program that leaves the alternate screen leaves nothing of what it showed there.
    let (drawn, after) = match left {
        Some(left) if !draws(&printed[left..]) => printed.split_at(left),
        _ => (printed, &[][..]),
    };
    let mut terminal = Parser::new(first.rows, first.columns, ROWS_ABOVE);
    let mut done = 0;
    for size in sizes.iter().filter(|size| size.from > start) {
        let until = usize::try_from(size.from - start).unwrap_or(usize::MAX).min(drawn.len());
        terminal.process(&drawn[done..until.max(done)]);
        terminal.screen_mut().set_size(size.rows, size.columns);
        done = until.max(done);
    }
    terminal.process(&drawn[done..]);
    let mut text = picture(terminal.screen_mut());
    for more in [after, notes] {
        text.push_str(&clean(more));
    }
    Some(text)
}

fn picture(screen: &mut Screen) -> String {
    let (rows, columns) = screen.size();
    let mut lines = Vec::new();
    let mut above = screen.scrollback_len();
    while above > 0 {
        screen.set_scrollback(above);
        let shown = above.min(rows.get().into());
        lines.extend(screen.rows(0, columns.get()).take(shown));
        above -= shown;
    }
    screen.set_scrollback(0);
    lines.extend(screen.rows(0, columns.get()));
    let mut text = String::new();
    for line in &lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end_matches('\n').len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Returns whether the bytes move the cursor elsewhere than on and to the next line, clear the screen, or take another one.
fn draws(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|window| window == b"\x1b[") {
        rest = &rest[at + 2..];
        let end = rest.iter().position(|byte| !(0x20..0x40).contains(byte));
        if end.is_some_and(|end| b"ABCDEFGHJLMSTX@`dfr".contains(&rest[end]) || rest[..=end] == *b"?1049h") {
            return true;
        }
    }
    false
}

/// Splits our own notes off the end: nothing that a terminal showed.
fn split_notes(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut end = bytes.len();
    while let Some(body) = bytes[..end].strip_suffix(b"\n") {
        let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        if !body[start..].starts_with(b"[moadim ") {
            break;
        }
        end = start;
    }
    bytes.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn on_80x24(text: &str) -> Option<String> {
        shown(text.as_bytes(), 0, || last_sizes("0 24 80"))
    }

    #[test]
    fn what_draws_nothing_is_not_a_picture() {
        assert_eq!(on_80x24("\x1b[1mone\x1b[0m\r\n10%\r\x1b[K20%\r\n"), None);
        assert_eq!(shown(b"\x1b[H", 0, Vec::new), None, "no terminal");
    }

    #[test]
    fn a_program_that_draws_over_its_lines_is_shown_as_a_person_sees_it() {
        // As claude does: columns are skipped rather than printed, and lines are drawn again from above.
        let printed = "\x1b[?25l\r\n \u{2590}\u{259b}\u{2588} \x1b[1mClaude\x1b[1CCode\x1b[22m\r\n\r\n\x1b[2m> \x1b[22mTry\x1b[1C\"fix\"\r\n\
                       \x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[G> done\r\n\x1b[2mbye\x1b[22m\x1b[?25h";
        assert_eq!(on_80x24(printed).unwrap(), "\n \u{2590}\u{259b}\u{2588} Claude Code\n> done\nbye\n");
    }

    #[test]
    fn a_program_that_left_the_alternate_screen_is_shown_as_it_was_before() {
        let vim = "$ vim\r\n\x1b[?1049h\x1b[H\x1b[2Jtext\r\n~\r\n\x1b[24;1H:wq\x1b[?2004l\x1b[?1049l\x1b[?1lsaved\r\n";
        let picture = on_80x24(vim).unwrap();
        assert!(picture.starts_with("text\n~\n") && picture.ends_with(":wq\nsaved\n"), "{picture}");
        let noted = "\x1b[?1049h\x1b[H\x1b[2Jtext\n[moadim 2026] stopped\n";
        assert_eq!(on_80x24(noted).unwrap(), "text\n[moadim 2026] stopped\n");
        let again = format!("{vim}\x1b[1A\x1b[2Kdone\r\n");
        assert_eq!(on_80x24(&again).unwrap(), "$ vim\ndone\n", "it drew on after that");
    }

    #[test]
    fn every_part_is_drawn_in_its_own_size() {
        let text = "\x1b[H\x1b[2J0123456789\x1b[H\x1b[2Jabcdefghij";
        let at = text.len() - 10;
        let sizes = || last_sizes(&format!("0 2 5\n{} 2 4", at + 7));
        assert_eq!(shown(text.as_bytes(), 7, sizes).unwrap(), "abcd\nefgh\nij\n");
    }

    #[test]
    fn of_a_file_that_the_agent_has_filled_only_a_few_sizes_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.sizes");
        std::fs::write(&file, "9999999 65535 65535\n3 60000 1\n".repeat(200_000) + "4 30 90\n").unwrap();
        let sizes = read_sizes(Some(&file));
        assert!(sizes.len() == MAX_SIZES && sizes.iter().all(|size| size.from == 9_999_999 || size.from <= 4));
        assert!(sizes.iter().all(|size| size.rows.get() <= MAX_ROWS && size.columns.get() <= MAX_COLUMNS));
        let last = sizes.last().unwrap();
        assert_eq!((last.from, last.rows.get(), last.columns.get()), (4, 30, 90));
        std::fs::write(&file, "0 50 200\n7 24 80\n").unwrap();
        assert_eq!(read_sizes(Some(&file)).len(), 2);
        assert!(read_sizes(None).is_empty() && read_sizes(Some(dir.path())).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_printed_a_picture_is_clean_text(
            pieces in prop::collection::vec(prop_oneof!["\x1b\\[[0-9;?]{0,6}[@-~]", "\x1b[ -~]", "[\\x00-\\x7f\u{e9}\u{4e2d}\u{301}]{0,8}"], 0..60),
            side in 1..70u16, other in 1..70u16, at in 0..200u64,
        ) {
            let printed = format!("\x1b[H{}", pieces.concat());
            let sizes = || last_sizes(&format!("0 {side} {other}\n{at} {other} {side}"));
            let text = shown(printed.as_bytes(), 0, sizes).unwrap();
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{:?}", text);
        }
    }
}
