//! Where a run can be watched: a window that follows its log, or none.
//!
//! A window is never the truth about a run: most only follow `agent.log`, so that losing one harms nothing. An agent that
//! needs a terminal has the window itself as one, and ends with it. That the windows are made by tmux is known in this module alone.

mod client;
mod known_server;
mod listening;
mod place;
mod server;
#[cfg(test)]
mod tests;
mod users;
mod words;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::config::SessionHostSetting;
use crate::home::lock::LockError;
use crate::process_tree::{NoCookie, ScanError};

use server::Server;
pub use users::users_sessions;

/// The longest that any operation here takes, the wait for another process's included.
/// A trigger answers within 5 s, this included.
const PATIENCE: Duration = Duration::from_secs(4);

/// The longest that asking for the version takes: a program that is there answers at once.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// The oldest version that can be told never to start a server by itself (`-N`, from tmux's list of changes).
const OLDEST_VERSION: (u32, u32) = (3, 2);

/// What shows a run while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostKind {
    /// A tmux session that can be attached to.
    Tmux,
    /// No window; the run is the same.
    Detached,
}

impl HostKind {
    /// Tells whether a run of this host has a window.
    #[must_use]
    pub fn has_windows(self) -> bool {
        self != Self::Detached
    }
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tmux => "tmux",
            Self::Detached => "detached",
        })
    }
}

/// The words that are put before a command so that it is started as nobody's child: in a session of its own, with null
/// streams, inheriting the environment and nothing else. The launcher itself exits at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments before the command.
    pub arguments: Vec<OsString>,
}

/// A session could not be opened, closed or listed. What a failed list leaves is "unknown", never "gone".
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no usable tmux.
    #[error(
        "no session host: {why}; install tmux 3.2 or newer, or set session_host = \"auto\" in config.toml, and restart"
    )]
    NoTmux {
        /// What is missing.
        why: String,
    },
    /// A name that would mean something else as a target.
    #[error("'{name}' cannot be a session's name: it takes lower-case letters, digits and dashes")]
    Name {
        /// The name.
        name: String,
    },
    /// tmux said no, or something that cannot be interpreted.
    #[error("tmux did not {action}: {said}; try it by hand: {by_hand}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Its words.
        said: String,
        /// A command that shows the state to a person.
        by_hand: String,
    },
    /// No answer in time.
    #[error("tmux did not {action} in time; try it by hand: {by_hand}")]
    TimedOut {
        /// What was tried.
        action: &'static str,
        /// A command that shows the state to a person.
        by_hand: String,
    },
    /// A server of ours lives, but does not answer on its socket.
    #[error("the tmux server of {socket} lives, but cannot be reached there; end it to make room for a new one{pid}",
        pid = .pid.map(|pid| format!(": kill {pid}")).unwrap_or_default())]
    Unreachable {
        /// Where it should answer.
        socket: PathBuf,
        /// Its process, where that is known.
        pid: Option<i32>,
    },
    /// What lies at the socket's place is not ours to use.
    #[error("{path} {problem}; move it away")]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or program.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// One of our own files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process is at it for too long.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Nothing can be said about processes.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// No cookie for the server.
    #[error(transparent)]
    Cookie(#[from] NoCookie),
}

/// The host of a home's sessions, chosen once at start. Cheap to clone; it holds nothing open.
#[derive(Debug, Clone)]
pub struct SessionHost {
    kind: HostKind,
    why: String,
    /// The version in use, or why there is none.
    version: Result<String, String>,
    is_certain: bool,
    server: Server,
}

impl SessionHost {
    /// Chooses the host: for `auto` tmux if one is found and works, else none. `launcher` starts its server.
    ///
    /// This asks the program for its version, so it may take up to 2 s where that hangs. With the setting `tmux` and no
    /// usable tmux the host refuses to open anything.
    #[must_use]
    pub fn choose(home: &Home, setting: SessionHostSetting, launcher: Launcher) -> Self {
        Self::with_program(home, setting, launcher, client::find("tmux"))
    }

    fn with_program(home: &Home, setting: SessionHostSetting, launcher: Launcher, program: Option<PathBuf>) -> Self {
        let (version, is_certain) = match setting {
            SessionHostSetting::Detached => (Err("it was not asked for".to_owned()), true),
            SessionHostSetting::Auto | SessionHostSetting::Tmux => probe(program.as_deref()),
        };
        let (kind, why) = decide(setting, &version);
        Self { kind, why, version, is_certain, server: Server::new(home, program, launcher) }
    }

    /// Tells whether asking again would tell the same: not where the program did not answer this time.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.is_certain
    }

    /// Returns what shows the runs.
    #[must_use]
    pub fn kind(&self) -> HostKind {
        self.kind
    }

    /// Returns why it is this one, as a sentence for people.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Returns the version of the tmux in use.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.version.as_ref().ok().cloned()
    }

    /// Opens the session `name`, by `deadline` and within 4 s: a window that shows `log` from its beginning and as it grows.
    /// Further windows that a person opens there start in `directory`. Does nothing where the host has no windows.
    ///
    /// # Errors
    /// No usable tmux, a name that is taken, a missing directory, or whatever kept the window from being made.
    pub fn open(&self, name: &str, log: &Path, directory: &Path, deadline: Instant) -> Result<(), SessionError> {
        match (self.kind, &self.version) {
            (HostKind::Detached, _) => Ok(()),
            (HostKind::Tmux, Err(why)) => Err(SessionError::NoTmux { why: why.clone() }),
            (HostKind::Tmux, Ok(_)) => self.server.open(name, log, directory, deadline.min(patience())),
        }
    }

    /// Opens the session `name`, by `deadline` and within 4 s, with a terminal for the command `words`, which works in
    /// `directory`; everything that is printed there goes to the stdin of the command `sink` as well, from the first byte on.
    ///
    /// # Errors
    /// No usable tmux, a name that is taken, a missing directory, or whatever kept the window from being made.
    pub fn open_terminal(
        &self,
        name: &str,
        words: &[OsString],
        sink: &[OsString],
        directory: &Path,
        deadline: Instant,
    ) -> Result<(), SessionError> {
        match (self.kind, &self.version) {
            (HostKind::Tmux, Ok(_)) => {
                self.server.open_terminal(name, words, sink, directory, deadline.min(patience()))
            }
            (_, Err(why)) => Err(SessionError::NoTmux { why: why.clone() }),
            (HostKind::Detached, Ok(_)) => Err(SessionError::NoTmux { why: self.why.clone() }),
        }
    }

    /// Lists the home's sessions, those included that were opened before the setting was changed.
    ///
    /// That a session exists does not mean that its run is alive, nor the reverse.
    ///
    /// # Errors
    /// Anything but a list or the certainty that no server of this home runs.
    pub fn list(&self) -> Result<BTreeSet<String>, SessionError> {
        self.server.list(patience())
    }

    /// Closes the session of exactly this name; one that is gone already is fine.
    ///
    /// # Errors
    /// Whenever it is not certain that the session is gone.
    pub fn close(&self, name: &str) -> Result<(), SessionError> {
        self.server.close(name, patience())
    }

    /// Returns the command line that shows the session in a terminal, quoted for any shell; `None` without windows.
    #[must_use]
    pub fn attach_command(&self, name: &str) -> Option<String> {
        match (self.kind, &self.version) {
            (HostKind::Tmux, Ok(_)) => self.server.attach_command(name),
            _ => None,
        }
    }

    /// Makes sure that the record of our server can be read, or is not there: without it no session is opened or listed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_record(&self) -> Result<(), FileError> {
        self.server.check_record()
    }

    /// Ends our server if it has no session, and removes what it leaves on disk.
    ///
    /// # Errors
    /// As [`SessionHost::list`], and when it does not go.
    pub fn shut_down_if_idle(&self) -> Result<(), SessionError> {
        self.server.shut_down_if_idle(patience())
    }
}

fn patience() -> Instant {
    Instant::now() + PATIENCE
}

fn decide(setting: SessionHostSetting, version: &Result<String, String>) -> (HostKind, String) {
    match (setting, version) {
        (SessionHostSetting::Auto, Ok(version)) => (HostKind::Tmux, format!("tmux {version} is installed")),
        (SessionHostSetting::Tmux, Ok(version)) => {
            (HostKind::Tmux, format!("the setting session_host is \"tmux\", and tmux {version} is installed"))
        }
        (SessionHostSetting::Tmux, Err(why)) => {
            (HostKind::Tmux, format!("the setting session_host is \"tmux\", but no session can be opened: {why}"))
        }
        (SessionHostSetting::Auto, Err(why)) => (HostKind::Detached, why.clone()),
        (SessionHostSetting::Detached, _) => (HostKind::Detached, "the setting session_host is \"detached\"".into()),
    }
}

/// Returns the version, or why there is none, and whether that is certain.
fn probe(program: Option<&Path>) -> (Result<String, String>, bool) {
    let Some(program) = program else { return (Err("tmux was not found on PATH".to_owned()), true) };
    let shown = program.display();
    let answer = match client::version(program, Instant::now() + PROBE_PATIENCE) {
        Ok(answer) => answer,
        Err(error) => return (Err(format!("{shown} does not tell its version: {error}")), false),
    };
    let Some(version) = answer.trim().strip_prefix("tmux ") else { return (Err(format!("{shown} is not tmux")), true) };
    match major_and_minor(version) {
        Some(found) if found < OLDEST_VERSION => (Err(format!("{shown} is version {version}, older than 3.2")), true),
        // A build from its repository calls itself "master", and is newer than that.
        _ => (Ok(version.to_owned()), true),
    }
}

/// Reads the numbers of `3.3a` and of `next-3.5`.
fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let numbers = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let (major, rest) = numbers.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}
