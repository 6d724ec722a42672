//! The words of tmux commands, and how a text is kept from meaning something else in them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The commands that open a terminal and copy what is printed there. They are one for the server, which looks at no output
/// between them. `pipe-pane` expands formats in its command, for which there is no escape that holds for every text; what
/// an option holds is put in as it is.
pub(super) fn terminal(name: &str, words: &[OsString], sink: &[OsString]) -> Vec<OsString> {
    let target = format!("={name}:");
    let mut command = self::words(["new-session", "-d", "-s", name, "-n", "agent", "-x", "120", "-y", "40", "--"]);
    command.extend(words.iter().map(|word| literal(word)));
    command.extend(self::words([";", "set-option", "-t", &target, "status-right", TERMINAL_HINT]));
    command.extend(self::words([";", "set-option", "-p", "-t", &target, "@moadim_sink"]));
    command.push(literal(&shell_line(sink)));
    command.extend(self::words([";", "pipe-pane", "-t", &target, "#{@moadim_sink}"]));
    command
}

/// What the status line of a terminal's window says.
const TERMINAL_HINT: &str = " the agent's own terminal; leave with C-b d ";

/// Writes words as a line that sh becomes.
fn shell_line(words: &[OsString]) -> OsString {
    let mut line = b"exec".to_vec();
    for word in words {
        line.extend_from_slice(b" '");
        line.extend(word.as_bytes().split_inclusive(|byte| *byte == b'\'').flat_map(|piece| match piece {
            [start @ .., b'\''] => [start, br"'\''"].concat(),
            piece => piece.to_vec(),
        }));
        line.push(b'\'');
    }
    OsString::from_vec(line)
}

/// The command that opens a window on a log. Several words are executed as they are; only
/// one alone would go through a shell. The window's directory is the client's own, for `-c` expands formats.
pub(super) fn follow(name: &str, tail: &Path, log: &Path) -> Vec<OsString> {
    let mut command = words(["new-session", "-d", "-s", name, "-n", "log", "--"]);
    command.push(literal(tail.as_os_str()));
    command.extend(words(["-n", "+1", "-F", "--"]));
    command.push(literal(log.as_os_str()));
    command
}

/// A word that ends with a semicolon ends a command, unless that is escaped.
fn literal(word: &OsStr) -> OsString {
    match word.as_bytes().strip_suffix(b";") {
        Some(rest) => OsString::from_vec([rest, b"\\;"].concat()),
        None => word.to_owned(),
    }
}

pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

/// Quotes a word for sh, bash, zsh and fish. An unquoted `=name` would be a path to zsh.
pub(super) fn quoted(word: &str) -> String {
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
    use std::process::Command;

    #[test]
    fn a_target_is_always_quoted() {
        assert_eq!(quoted("/usr/bin/tmux"), "/usr/bin/tmux");
        assert_eq!(quoted("=moadim-a-1"), "'=moadim-a-1'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_line_for_a_shell_holds_each_word_as_it_was() {
        let words = ["printf", "[%s]", "a b", "it's", "", "$(x) `y`\n;"].map(OsString::from);
        let output = Command::new("sh").arg("-c").arg(shell_line(&words)).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "[a b][it's][][$(x) `y`\n;]");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_reads_a_quoted_word_as_it_was(word in "[ -~äß\n]{0,40}") {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(&word))).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
