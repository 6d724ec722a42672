//! Windows on a tmux server of our own, one server a home, deaf to the user's configuration.
//!
//! The process in a window leaves with its run, and the server with its last window: nobody closes or ends either.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bounded_command::Finished;
use crate::home::Home;
use crate::home::atomic_file;
use crate::process_tree::{COOKIE_VARIABLE, Cookie};
use crate::quote::shell_word;

use super::SessionError;
use super::client::{self, Reply};
use super::place::Place;

/// The server's configuration: all that it ever reads.
const CONFIGURATION: &str = include_str!("tmux.conf");

/// A server that is just leaving with its last window takes a client along; the next attempt meets none, and starts one.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(5);

/// The size of a window to which nobody is attached, as the terminal of an agent.
const COLUMNS: &str = "200";
const ROWS: &str = "50";

/// The windows of a home.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    program: Option<PathBuf>,
    home: Home,
    pub(super) place: Place,
}

impl Windows {
    pub(super) fn new(home: &Home, program: Option<PathBuf>) -> Self {
        Self { program, place: Place::of(home.root()), home: home.clone() }
    }

    /// Opens a window in the home. Not in the workbench: a process that works there counts as using it. The name needs no escaping,
    /// because a run's has neither `.` nor `:`, which part a target, nor a pattern's characters.
    pub(super) fn open(&self, name: &str, words: &[OsString], deadline: Instant) -> Result<(), SessionError> {
        let program = self.program()?;
        self.place.prepare()?;
        let configuration = self.configuration()?;
        // A server that we start below another run's supervisor is not one of that run's processes.
        let cookie = Cookie::random()?.to_string();
        let mut attempt = 1;
        loop {
            // Several words are executed as they are; only one alone would go through a shell. The window's directory is the
            // client's own, because `-c` expands formats.
            let mut command = Command::new(program);
            command.arg("-f").arg(&configuration).arg("-u").arg("-S").arg(self.place.socket());
            // A server that an older build started would stay after its last window.
            command.args(["set-option", "-s", "exit-empty", "on", ";"]);
            command.args(["new-session", "-d", "-s", name, "-n", "run", "-x", COLUMNS, "-y", ROWS, "--"]);
            command.args(words.iter().map(|word| literal(word)));
            command.env_clear().envs(client::environment()).env(COOKIE_VARIABLE, &cookie).current_dir(self.home.root());
            let finished = self.run(&mut command, "open a window", deadline)?;
            let said = match finished.meaning() {
                Ok(Reply::Said(_)) => return Ok(()),
                Ok(Reply::NoServer(_)) => "no server running".to_owned(),
                Ok(Reply::NoSession) => return Err(self.refused("open a window", "it looked for a session".into())),
                Err(said) if said.contains("server exited unexpectedly") => said,
                Err(said) => return Err(self.refused("open a window", said)),
            };
            if attempt == ATTEMPTS {
                return Err(self.refused("open a window", said));
            }
            attempt += 1;
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns whether the window of this name is there.
    pub(super) fn exists(&self, name: &str, deadline: Instant) -> bool {
        let answer = self.ask(&["has-session", "-t", &format!("={name}")], "look for a window", deadline);
        matches!(answer, Ok(Reply::Said(_)))
    }

    /// Checks that the server answers, if there is one.
    pub(super) fn check(&self, deadline: Instant) -> Result<(), SessionError> {
        self.place.prepare()?;
        self.ask(&["list-sessions"], "answer", deadline).map(drop)
    }

    /// Asks the server, and starts none.
    fn ask(&self, words: &[&str], action: &'static str, deadline: Instant) -> Result<Reply, SessionError> {
        let mut command = Command::new(self.program()?);
        command.arg("-N").arg("-S").arg(self.place.socket()).args(words);
        command.env_clear().envs(client::environment());
        self.run(&mut command, action, deadline)?.meaning().map_err(|said| self.refused(action, said))
    }

    pub(super) fn attach_command(&self, name: &str) -> Option<String> {
        let program = shell_word(self.program.as_ref()?.to_str()?);
        let socket = shell_word(self.place.socket().to_str()?);
        Some(format!("{program} -N -S {socket} attach -t {}", shell_word(&format!("={name}"))))
    }

    fn program(&self) -> Result<&Path, SessionError> {
        self.program.as_deref().ok_or(SessionError::NoTmux { why: "tmux was not found on PATH".into() })
    }

    /// Writes the configuration, unless it is there.
    fn configuration(&self) -> Result<PathBuf, SessionError> {
        let path = self.home.root().join("tmux.conf");
        if atomic_file::read_text(&path).is_ok_and(|text| text == CONFIGURATION) {
            return Ok(path);
        }
        atomic_file::write(&path, CONFIGURATION.as_bytes())?;
        Ok(path)
    }

    fn run(&self, command: &mut Command, action: &'static str, deadline: Instant) -> Result<Finished, SessionError> {
        client::run_within(command, action, || self.by_hand(), deadline)
    }

    fn refused(&self, action: &'static str, said: String) -> SessionError {
        SessionError::Refused { action, said, by_hand: self.by_hand() }
    }

    fn by_hand(&self) -> String {
        format!("tmux -N -S {} list-sessions", shell_word(&self.place.socket().to_string_lossy()))
    }
}

/// A word that ends with a semicolon ends a command, unless that is escaped.
fn literal(word: &OsStr) -> OsString {
    match word.as_bytes().strip_suffix(b";") {
        Some(rest) => OsString::from_vec([rest, b"\\;"].concat()),
        None => word.to_owned(),
    }
}
