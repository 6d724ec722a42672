//! From what an agent printed to what a person reads.

use unicode_width::UnicodeWidthChar;
use vte::{Parser, Perform};

use crate::quote::turns_direction;

/// Returns what a terminal would show of each line at the end: control sequences dropped, what a backspace took back gone, and of
/// what a carriage return wrote over, the last.
pub(super) fn clean(bytes: &[u8]) -> String {
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

    /// Takes the last character back, with the marks on it.
    fn erase(&mut self) {
        while !self.returned && self.line.pop().is_some_and(|c| c.width() == Some(0)) {}
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        // DEL and the C1 codes arrive here too.
        if !c.is_control() && !turns_direction(c) {
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
            0x08 => self.erase(),
            _ => {}
        }
    }
}

/// Returns the length of `bytes` without a character at the end of which only a part is there.
pub(super) fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        return if length > back { bytes.len() - back } else { bytes.len() };
    }
    bytes.len()
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
    fn a_backspace_erases_what_is_before_it_in_its_line() {
        let cases: [(&str, &str); 8] = [
            ("abc\x08\x08d", "ad"),
            ("typo\x08\x08\x08\x08fix", "fix"),
            ("|\x08/\x08-\x08done", "done"),
            ("ne\u{301}\x08t", "nt"),
            ("b\x08bo\x08ol\x08ld", "bold"),
            ("a\n\x08b", "a\nb"),
            ("\x08\x08x", "x"),
            ("50%\r\x08", "50%"),
        ];
        for (raw, shown) in cases {
            assert_eq!(clean(raw.as_bytes()), shown, "{raw:?}");
        }
    }

    #[test]
    fn a_character_is_never_split() {
        for text in ["é", "€", "🦀"] {
            for cut in 0..text.len() {
                let bytes = [b"a", &text.as_bytes()[..cut]].concat();
                assert_eq!(whole_characters(&bytes), 1, "{text} {cut}");
            }
            assert_eq!(whole_characters(text.as_bytes()), text.len());
        }
        assert_eq!(whole_characters(b"\x80\x80\x80\x80"), 4);
        assert_eq!(whole_characters(b"\xff"), 1);
    }

    proptest! {
        #[test]
        fn clean_text_holds_no_control_codes(bytes: Vec<u8>) {
            let text = clean(&bytes);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{:?}", text);
        }
    }
}
