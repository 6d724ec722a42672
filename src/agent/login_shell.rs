//! Starting a program through the user's login shell, so that it finds what it finds in a terminal.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

/// How a shell is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ShellMode {
    /// As for a login.
    Login,
    /// As for a login in a terminal, which reads more start-up files.
    Interactive,
}

impl ShellMode {
    /// Returns its name for files and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Interactive => "interactive",
        }
    }
}

impl fmt::Display for ShellMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "login shell",
            Self::Interactive => "interactive login shell",
        })
    }
}

/// Says that a login shell could not be started, with what to do.
pub fn not_started(shell: &OsStr, error: &io::Error) -> String {
    let shown = shell.display();
    let advice = match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            "SHELL names it: set SHELL to an installed shell where the server is started (`env` in the host's configuration)"
        }
        _ => "start it by hand to see what is wrong",
    };
    format!("cannot start the login shell {shown}: {error}; {advice}, or set login_shell = false in the agent's file")
}

/// How long a login shell may take before it is held to hang.
pub const LOGIN_SHELL_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the argument vector that makes `shell` (the value of SHELL) read its login files and then become `program`.
///
/// Nothing is quoted: the program and its arguments travel as positional parameters. Shells that cannot do this (csh
/// takes `-l` alone, others have their own language) are replaced by `/bin/sh`.
pub fn through_shell(mode: ShellMode, shell: Option<&OsStr>, program: &Path, args: &[OsString]) -> Vec<OsString> {
    let shell = shell.map(Path::new).filter(|shell| shell.is_absolute()).unwrap_or(Path::new("/bin/sh"));
    let name = shell.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let (shell, script) = match name {
        "fish" => (shell, "exec $argv"),
        "sh" | "bash" | "zsh" | "dash" | "ksh" | "mksh" | "ash" | "yash" => (shell, r#"exec "$0" "$@""#),
        _ => (Path::new("/bin/sh"), r#"exec "$0" "$@""#),
    };
    let mut words: Vec<OsString> = vec![shell.into(), "-l".into()];
    words.extend((mode == ShellMode::Interactive).then(|| "-i".into()));
    words.extend(["-c".into(), script.into(), program.into()]);
    words.extend_from_slice(args);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn arguments_reach_the_program_untouched() {
        let args: Vec<OsString> = ["[%s]", "a b", "$HOME", "'\"`", "-n", ""].map(OsString::from).to_vec();
        for shell in ["/bin/sh", "/bin/bash", "/bin/tcsh"] {
            let words = through_shell(ShellMode::Login, Some(OsStr::new(shell)), Path::new("/usr/bin/printf"), &args);
            let output = Command::new(&words[0]).args(&words[1..]).env("HOME", "/nowhere").output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "[a b][$HOME]['\"`][-n][]", "{shell}");
        }
    }

    #[test]
    fn a_shell_that_is_not_there_is_told_with_what_to_do() {
        let told = not_started(OsStr::new("/nope/zsh"), &ErrorKind::NotFound.into());
        assert!(told.starts_with("cannot start the login shell /nope/zsh") && told.contains("set SHELL to"), "{told}");
        assert!(!not_started(OsStr::new("/bin/sh"), &ErrorKind::OutOfMemory.into()).contains("SHELL"));
    }

    #[test]
    fn fish_has_a_language_of_its_own() {
        let words = through_shell(ShellMode::Login, Some(OsStr::new("/usr/bin/fish")), Path::new("/x"), &[]);
        assert_eq!(words, ["/usr/bin/fish", "-l", "-c", "exec $argv", "/x"].map(OsString::from).to_vec());
    }
}
