//! One tmux client process: its environment, and what its answer means.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::SessionError;
use crate::bounded_command::{Finished, run};
use crate::home::atomic_file::FileError;

/// Where programs are that the short PATH of a desktop application leaves out.
const USUAL_PLACES: [&str; 4] =
    ["/usr/local/bin", "/opt/homebrew/bin", "/opt/local/bin", "/home/linuxbrew/.linuxbrew/bin"];

/// What a server prints last. A client ended by TERM or HUP exits with 0 after part of its output (seen on tmux 3.3a), so nothing
/// else distinguishes "no sessions" from no answer. No session's name has a colon.
const LAST_WORDS: &str = "moadim: that is all\n";

/// Runs a client until a deadline.
pub(super) fn run_within(
    command: &mut Command,
    action: &'static str,
    by_hand: impl FnOnce() -> String,
    deadline: Instant,
) -> Result<Finished, SessionError> {
    run(command, deadline).map_err(|source| match source.kind() {
        io::ErrorKind::TimedOut => SessionError::TimedOut { action, by_hand: by_hand() },
        _ => FileError::io("run", command.get_program().as_ref(), source).into(),
    })
}

/// Returns the words to append to a command so that [`Finished::whole_answer`] can see whether its answer is whole.
pub(super) fn last_words() -> [OsString; 4] {
    [";", "display-message", "-p", LAST_WORDS.trim_end()].map(OsString::from)
}

/// Finds an executable file on PATH, then in the usual places.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(USUAL_PLACES.iter().map(PathBuf::from));
    // "/" makes relative directories harmless.
    which::which_in(name, std::env::join_paths(places).ok(), "/").ok()
}

/// Returns the whole environment of what we start. A window inherits its server's, so nothing secret may be in it;
/// TMUX is left out because we may ourselves have been started inside a session.
pub(super) fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    const KEPT: [&str; 7] = ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TMPDIR"];
    let is_kept = |name: &OsString| name.to_str().is_some_and(|name| KEPT.contains(&name) || name.starts_with("LC_"));
    std::env::vars_os()
        .filter(move |(name, _)| is_kept(name))
        .chain(std::iter::once(("TERM".into(), "screen-256color".into())))
}

/// Returns what a program prints for `-V`.
///
/// # Errors
/// `TimedOut`, a failure of the program, and the system's.
pub(super) fn version(program: &Path, deadline: Instant) -> io::Result<String> {
    let finished = run(Command::new(program).arg("-V").env_clear().envs(environment()), deadline)?;
    match finished.meaning() {
        Ok(Reply::Said(text)) => Ok(text),
        Ok(_) => Err(io::Error::other(finished.complaint())),
        Err(said) => Err(io::Error::other(said)),
    }
}

/// What a client's answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It succeeded and printed this.
    Said(String),
    /// Nothing answers at this socket.
    NoServer(PathBuf),
    /// The server answered: there is no such session.
    NoSession,
}

impl Finished {
    /// Interprets the answer. The exit status is 1 for everything, so only the words (English in every locale) tell
    /// "gone" from "unknown"; whatever is not known for certain to mean the first is the second.
    ///
    /// # Errors
    /// What was said, when its meaning is unknown.
    pub(super) fn meaning(&self) -> Result<Reply, String> {
        let complaint = self.complaint();
        let succeeded = self.succeeded.unwrap_or(self.stderr.is_empty());
        if succeeded {
            return Ok(Reply::Said(String::from_utf8_lossy(&self.stdout).into_owned()));
        }
        let connecting = complaint.strip_prefix("error connecting to ");
        if let Some(socket) = complaint.strip_prefix("no server running on ") {
            Ok(Reply::NoServer(socket.into()))
        } else if let Some(socket) = connecting.and_then(|rest| rest.strip_suffix(" (No such file or directory)")) {
            Ok(Reply::NoServer(socket.into()))
        } else if complaint.starts_with("can't find session: ") || complaint == "no current target" {
            // The second is what a server says that has no session at all (seen on tmux 3.3a).
            Ok(Reply::NoSession)
        } else {
            Err(complaint)
        }
    }

    /// Interprets the answer to words that ended with the [last words](last_words).
    ///
    /// # Errors
    /// What was said, when its meaning is unknown, and an answer that was cut off.
    pub(super) fn whole_answer(&self) -> Result<Reply, String> {
        match self.meaning()? {
            Reply::Said(text) => match text.strip_suffix(LAST_WORDS) {
                Some(text) => Ok(Reply::Said(text.to_owned())),
                None => Err("its client was ended before it had the whole answer".to_owned()),
            },
            gone => Ok(gone),
        }
    }

    fn complaint(&self) -> String {
        match String::from_utf8_lossy(&self.stderr).trim() {
            "" => "it failed and said nothing".to_owned(),
            said => said.chars().take(500).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(succeeded: bool, stdout: &str, stderr: &str) -> Finished {
        Finished { succeeded: Some(succeeded), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn only_known_words_mean_gone() {
        let meaning = |stderr| finished(false, "", stderr).meaning();
        assert_eq!(meaning("no server running on /tmp/a b\n"), Ok(Reply::NoServer("/tmp/a b".into())));
        assert_eq!(meaning("error connecting to /x (No such file or directory)\n"), Ok(Reply::NoServer("/x".into())));
        assert_eq!(meaning("can't find session: job-1\n"), Ok(Reply::NoSession));
        assert_eq!(meaning("no current target\n"), Ok(Reply::NoSession));
        for unknown in [
            "",
            "error connecting to /x (Permission denied)",
            "error connecting to /x (Not a directory)",
            "protocol version mismatch (client 8, server 7)",
            "server exited unexpectedly",
            "lost server",
            "the job-1 session: can't find session: job-1",
        ] {
            assert!(meaning(unknown).is_err(), "{unknown}");
        }
        assert_eq!(finished(true, "a\n", "a warning").meaning(), Ok(Reply::Said("a\n".into())));
    }

    #[test]
    fn an_answer_is_whole_with_its_last_words_alone() {
        let answer = |stdout: &str| finished(true, stdout, "").whole_answer();
        assert_eq!(answer("job-1\nmoadim: that is all\n"), Ok(Reply::Said("job-1\n".into())));
        assert_eq!(answer("moadim: that is all\n"), Ok(Reply::Said(String::new())));
        for cut in ["", "job-1\n", "moadim: that is all"] {
            assert!(answer(cut).is_err(), "{cut}");
        }
        assert_eq!(finished(false, "", "can't find session: a").whole_answer(), Ok(Reply::NoSession));
    }

    #[test]
    fn without_an_exit_status_the_words_decide() {
        let lost = |stderr: &str| Finished { succeeded: None, ..finished(true, "out", stderr) }.meaning();
        assert_eq!(lost(""), Ok(Reply::Said("out".into())));
        assert!(lost("lost server").is_err());
    }
}
