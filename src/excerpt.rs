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

/// Quotes the last `max_chars` characters of what somebody said, ready to be appended to a sentence; nothing for nothing.
#[must_use]
pub fn saying(text: &str, max_chars: usize) -> String {
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(max_chars);
    let last: String = text.chars().skip(skipped).collect();
    if last.is_empty() { String::new() } else { format!(", saying: {}", excerpt(&last, max_chars)) }
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

    #[test]
    fn of_what_was_said_the_end_is_quoted() {
        assert_eq!(saying("well, no\n", 2), ", saying: no");
        assert_eq!(saying(" \n", 2), "");
    }
}
