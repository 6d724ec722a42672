//! Which ids of sessions are put into command lines.

pub(crate) const MAX_SESSION_ID_CHARS: usize = 64;

/// Whether an id, which an agent prints, stays one word of a command line that is no option.
pub(crate) fn is_session_id(id: &str) -> bool {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_plain && (1..=MAX_SESSION_ID_CHARS).contains(&id.len()) && !id.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_an_option_or_several_words_is_no_id() {
        for id in ["", "-", "--help", "a b", "a\nb", "$(x)", "{uuid}", "../x", "é", "a\0", &"x".repeat(65)] {
            assert!(!is_session_id(id), "{id}");
        }
        for id in ["0192f0c1-9a3b-7c6d-8e5f-000000000000", "ses_4f2a", "x", &"x".repeat(64)] {
            assert!(is_session_id(id), "{id}");
        }
    }
}
