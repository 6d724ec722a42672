//! Showing a text that others chose: a hostile one may be a megabyte long, or full of control characters.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// The most characters that are taken for one: a flag or a family of emoji has up to ten, a letter in any script fewer.
const MAX_CLUSTER_CHARS: usize = 16;

/// Returns as much of the beginning of a text as fits into `max_columns` of a terminal, with everything unprintable escaped, and
/// a mark if it was cut.
pub fn quote(text: &str, max_columns: usize) -> String {
    let (mut shown, mut columns) = (String::new(), 0);
    // A letter with its marks, or an emoji of several, is one.
    for cluster in text.graphemes(true) {
        let pieces: &mut dyn Iterator<Item = String> = if is_printable(cluster) {
            &mut std::iter::once(cluster.to_owned())
        } else {
            &mut cluster.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_debug().to_string() })
        };
        for piece in pieces {
            columns += piece.width().max(1);
            if columns > max_columns {
                shown.push('…');
                return shown;
            }
            shown.push_str(&piece);
        }
    }
    shown
}

/// Whether a terminal shows what the user of a text sees as one character as such.
fn is_printable(cluster: &str) -> bool {
    // Marks and joiners mean something behind a character only.
    let mut chars = cluster.chars();
    let first = chars.next();
    // Invisible tags mean something behind the black flag only, as in the flag of Wales.
    let is_tag = |c: char| ('\u{e0000}'..='\u{e007f}').contains(&c);
    let is_well_tagged = first == Some('\u{1f3f4}') || !chars.any(is_tag);
    first.is_some_and(is_plain)
        && is_well_tagged
        && cluster.width() > 0
        && cluster.chars().nth(MAX_CLUSTER_CHARS).is_none()
}

/// Whether a character can stand alone: what Debug would not escape, the quotes and backslashes of an ordinary text, and the
/// spaces of any script.
fn is_plain(c: char) -> bool {
    let is_space = c.is_whitespace() && !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    is_space || matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

/// Returns as much of the end of a text as fits into `max_columns` of a terminal.
pub fn end(text: &str, max_columns: usize) -> &str {
    let mut columns = 0;
    let fits = |cluster: &&str| {
        columns += cluster.width().max(1);
        columns <= max_columns
    };
    let bytes: usize = text.graphemes(true).rev().take_while(fits).map(str::len).sum();
    &text[text.len() - bytes..]
}

/// Quotes a text with its middle cut out, if it does not fit into `max_columns`.
pub fn shortened(text: &str, max_columns: usize) -> String {
    let whole = quote(text, max_columns);
    if !whole.ends_with('…') || text.ends_with('…') {
        return whole;
    }
    let (head, tail) = (max_columns * 2 / 3, max_columns / 3);
    format!("{}{}", quote(text, head), quote(end(text, tail), max_columns))
}

/// Quotes the end of an output, ready to be appended to a sentence; nothing if it is empty.
pub fn saying(text: &str, max_columns: usize) -> String {
    let last = end(text.trim(), max_columns);
    if last.is_empty() { String::new() } else { format!(", saying: {}", quote(last, max_columns)) }
}

/// Whether a character turns the direction of what follows, so that a text shows as something else than it is.
pub fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Quotes a word for sh, bash, zsh and fish. An unquoted `=name` would be a path to zsh.
pub fn shell_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_needs_it() {
        assert_eq!(shell_word("/usr/bin/tmux"), "/usr/bin/tmux");
        assert_eq!(shell_word("=moadim-a-1"), "'=moadim-a-1'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_reads_a_quoted_word_as_it_was(word in "[ -~äß\n]{0,40}") {
            let script = format!("printf %s {}", shell_word(&word));
            let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn a_hostile_text_is_short_and_printable_and_an_ordinary_one_is_itself() {
        for ordinary in [
            "it's \"fine\" \\ é",
            "e\u{301} in two characters",
            "हिन्दी और தமிழ் และไทย",
            "👨‍👩‍👧‍👦 👍🏽 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪",
            "日本語 한국어 العربية עברית",
            "全角\u{3000}空白 Résumé\u{a0}: fin",
        ] {
            assert_eq!(quote(ordinary, 80), ordinary);
        }
        assert_eq!(quote("\u{1b}[31m\0", 80), "\\u{1b}[31m\\0");
        assert_eq!(quote("\r\n\u{202e}\u{301}\u{200b}", 80), "\\r\\n\\u{202e}\\u{301}\\u{200b}");
        assert_eq!(quote("x\u{e0041}\u{2028}", 80), "x\\u{e0041}\\u{2028}");
        assert_eq!(quote(&"x".repeat(1 << 20), 3), "xxx…");
        let marks = format!("x{}", "\u{301}".repeat(1 << 20));
        assert_eq!(quote(&marks, 20), "x\\u{301}\\u{301}…", "more marks than any letter has");
    }

    #[test]
    fn what_is_cut_is_cut_by_its_width_and_between_characters() {
        assert_eq!(quote("日本語", 6), "日本語");
        assert_eq!(quote("日本語", 5), "日本…");
        assert_eq!(quote("👨‍👩‍👧‍👦!", 2), "👨‍👩‍👧‍👦…");
        assert_eq!(end("日本語", 5), "本語");
        assert_eq!(end("xe\u{301}", 1), "e\u{301}");
        assert_eq!(end("x", 0), "");
    }

    #[test]
    fn of_what_was_said_the_end_is_quoted() {
        assert_eq!(saying("well, no\n", 2), ", saying: no");
        assert_eq!(saying(" \n", 2), "");
    }

    proptest! {
        #[test]
        fn what_is_shown_fits_and_controls_nothing(text: String, max in 0..40usize) {
            let shown = quote(&text, max);
            prop_assert!(shown.strip_suffix('…').unwrap_or(&shown).width() <= max, "{:?}", shown);
            prop_assert!(!shown.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{:?}", shown);
        }
    }
}
