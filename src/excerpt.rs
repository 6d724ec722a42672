//! Showing a text that somebody else chose: a hostile one may be a megabyte long, or full of control characters.

/// Returns the first `max_chars` characters of a text with everything unprintable escaped, and a mark if it was cut.
#[must_use]
pub fn excerpt(text: &str, max_chars: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(max_chars) {
        // What Debug would escape, but for the quotes and backslashes of an ordinary text.
        if matches!(c, '\'' | '"' | '\\') {
            shown.push(c);
        } else {
            shown.extend(c.escape_debug());
        }
    }
    if text.chars().nth(max_chars).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_is_short_and_printable_and_an_ordinary_one_is_itself() {
        assert_eq!(excerpt("it's \"fine\" \\ é", 80), "it's \"fine\" \\ é");
        assert_eq!(excerpt("\u{1b}[31m\0", 80), "\\u{1b}[31m\\0");
        assert_eq!(excerpt(&"x".repeat(1 << 20), 3), "xxx…");
    }
}
