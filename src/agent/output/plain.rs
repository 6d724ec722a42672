//! Text as an agent wrote it, without what would act on a terminal or on its reader.

use std::iter::Peekable;
use std::str::Chars;

use crate::quote::turns_direction;

/// Drops terminal sequences, control characters and those that turn the direction of text; `\n` and `\t` stay. A line separator
/// becomes a space, and of what a carriage return wrote over, the last stays.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let (mut line_start, mut returned) = (0, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let put = match c {
            '\n' => {
                shown.push('\n');
                (line_start, returned) = (shown.len(), false);
                continue;
            }
            '\r' => {
                returned = true;
                continue;
            }
            '\u{1b}' => {
                skip_sequence(&mut chars);
                continue;
            }
            '\u{2028}' | '\u{2029}' => ' ',
            c if (c.is_control() && c != '\t') || turns_direction(c) => continue,
            c => c,
        };
        if std::mem::take(&mut returned) {
            shown.truncate(line_start);
        }
        shown.push(put);
    }
    shown
}

/// Skips what belongs to an escape character (ECMA-48). A line's end ends a sequence that lacks its own.
fn skip_sequence(chars: &mut Peekable<Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
            chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        // A string, such as a window's title, up to BEL or ESC and a backslash.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next_if(|&c| c != '\n') {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {
            while chars.next_if(|c| ('\u{20}'..='\u{2f}').contains(c)).is_some() {}
            chars.next_if(|c| ('\u{30}'..='\u{7e}').contains(c));
        }
    }
}

/// Returns a text in one line, with a mark if it had more than `max_chars`.
pub(crate) fn one_line(text: &str, max_chars: usize) -> String {
    let mut line = String::new();
    for word in plain(text).split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    cut(&line, max_chars)
}

/// Returns at most `max_chars` characters, of which the last is a mark if there were more.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.to_owned();
    }
    text.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect()
}

/// Appends as much of a text as fits into `max_bytes` altogether.
pub(super) fn push_bounded(to: &mut String, text: &str, max_bytes: usize) {
    to.push_str(&text[..text.floor_char_boundary(max_bytes.saturating_sub(to.len()))]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_act_on_a_terminal_goes_and_text_stays() {
        let cases = [
            ("\u{1b}[1;31mred\u{1b}[0m\ttab\u{1b}(B", "red\ttab"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;x\u{1b}\\b\u{1b}]unended\nc", "ab\nc"),
            ("10%\r50%\r100%\r\nnext\r", "100%\nnext"),
            ("line\u{2028}sep \u{202e}x\u{2066}\u{200f}", "line sep x"),
            ("Grüße 日本語 🎉 \u{fffd}\0\u{9b}", "Grüße 日本語 🎉 \u{fffd}"),
            ("\u{1b}", ""),
            ("\u{1b}[\u{1b}[31mx", "x"),
        ];
        for (text, shown) in cases {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_cut_is_marked_and_fits() {
        assert_eq!(one_line(" a\n\tb  c ", 5), "a b c");
        assert_eq!(one_line("ab c\u{2028}d", 5), "ab c…");
        assert_eq!(cut("日本語", 2), "日…");
        let mut text = String::from("a");
        push_bounded(&mut text, "éé", 4);
        push_bounded(&mut text, "é", 4);
        assert_eq!(text, "aé");
    }

    proptest! {
        #[test]
        fn nothing_plain_controls_anything(text: String) {
            let shown = plain(&text);
            prop_assert!(!shown.chars().any(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || turns_direction(c)), "{:?}", shown);
            let separators = ['\u{2028}', '\u{2029}'];
            prop_assert!(!shown.contains(separators));
        }
    }
}
