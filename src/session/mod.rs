//! Where a run can be watched: a window in tmux, or none.
//!
//! A window only shows a run and passes on what a person types: a run is the same without one. This module alone knows tmux.

mod client;
mod place;
#[cfg(test)]
mod tests;
mod users;
mod window;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::config::SessionHostSetting;
use crate::process_tree::NoCookie;

pub(crate) use users::users_sessions;
use window::Windows;

const TMUX_ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// A working tmux prints its version at once.
const TMUX_VERSION_TIMEOUT: Duration = Duration::from_secs(2);

/// The oldest version with `-N`, which keeps a client from starting a server (tmux's CHANGES).
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
    /// Returns whether a run of this host has a window.
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

/// A window could not be opened, or sessions not be listed. What a failed list leaves is "unknown", never "gone".
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(
        "no session host: {why}; install tmux 3.2 or newer, or set session_host = \"auto\" in config.toml, and restart"
    )]
    NoTmux { why: String },
    /// tmux said no, or something that cannot be interpreted.
    #[error("tmux did not {action}: {said}; try it by hand: {by_hand}")]
    Refused { action: &'static str, said: String, by_hand: String },
    #[error("tmux did not {action} in time; try it by hand: {by_hand}")]
    TimedOut { action: &'static str, by_hand: String },
    /// A server lives, but does not answer on its socket.
    #[error(
        "the tmux server of {socket} runs, but does not answer there; send it USR1 to make its socket again, or end it"
    )]
    Unreachable { socket: PathBuf },
    /// What lies at the socket's place is not ours to use.
    #[error("{path} {problem}; move it away")]
    InTheWay { path: PathBuf, problem: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Cookie(#[from] NoCookie),
}

/// The host of a home's sessions, chosen once at start. Cheap to clone; it holds nothing open.
#[derive(Debug, Clone)]
pub struct SessionHost {
    /// What shows the runs.
    pub(crate) kind: HostKind,
    /// Why it is this one, as a sentence for people.
    pub(crate) why: String,
    /// The version in use, or why there is none.
    version: Result<String, String>,
    /// Whether asking again would give the same answer: not if the program did not answer this time.
    pub(crate) is_certain: bool,
    windows: Windows,
    opening: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl SessionHost {
    /// Chooses the host: for `auto` tmux if one is found and works, else none.
    ///
    /// This asks the program for its version, so it may take up to 2 s where that hangs. With the setting `tmux` and no
    /// usable tmux the host refuses to open anything.
    #[must_use]
    pub fn choose(home: &Home, setting: SessionHostSetting) -> Self {
        let program = if setting == SessionHostSetting::Detached { None } else { client::find("tmux") };
        Self::with_program(home, setting, program)
    }

    fn with_program(home: &Home, setting: SessionHostSetting, program: Option<PathBuf>) -> Self {
        let (version, is_certain) = match setting {
            SessionHostSetting::Detached => (Err("it was not asked for".to_owned()), true),
            SessionHostSetting::Auto | SessionHostSetting::Tmux => probe(program.as_deref()),
        };
        let (kind, why) = decide(setting, &version);
        Self { kind, why, version, is_certain, windows: Windows::new(home, program), opening: Arc::default() }
    }

    /// Returns the version of the tmux in use.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.version.as_ref().ok().cloned()
    }

    /// Opens a window of this name that executes `words`; does nothing where the host has none. Not to be
    /// called from a supervisor: what it starts, and so perhaps the server of all windows, ends with its run.
    ///
    /// # Errors
    /// No usable tmux, a name that is taken, or whatever kept the window from being made.
    pub(crate) fn open(&self, name: &str, words: &[OsString]) -> Result<(), SessionError> {
        match (self.kind, &self.version) {
            (HostKind::Detached, _) => Ok(()),
            (HostKind::Tmux, Err(why)) => Err(SessionError::NoTmux { why: why.clone() }),
            (HostKind::Tmux, Ok(_)) => self.windows.open(name, words, answer_deadline()),
        }
    }

    /// Opens a window in a thread of its own, which passes an error to `failed`. A process that ends before that may open none.
    pub(crate) fn open_soon(
        &self,
        name: String,
        words: Vec<OsString>,
        failed: impl FnOnce(SessionError) + Send + 'static,
    ) {
        if !self.kind.has_windows() {
            return;
        }
        let host = self.clone();
        let open = move || {
            if let Err(error) = host.open(&name, &words) {
                failed(error);
            }
        };
        match std::thread::Builder::new().name("window".into()).spawn(open) {
            Ok(thread) => {
                let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
                opening.retain(|thread| !thread.is_finished());
                opening.push(thread);
            }
            Err(error) => tracing::warn!(%error, "no window is opened"),
        }
    }

    /// Waits until all windows are open that this process has begun to open.
    pub fn finish_opening(&self) {
        let opening = std::mem::take(&mut *self.opening.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in opening {
            let _ = thread.join();
        }
    }

    /// Returns whether the window of this name can be attached to.
    #[must_use]
    pub fn has_window(&self, name: &str) -> bool {
        self.windows.exists(name, answer_deadline())
    }

    /// Checks that the server of the windows answers, if there is one.
    ///
    /// # Errors
    /// It does not, for 4 s.
    pub(crate) fn check(&self) -> Result<(), SessionError> {
        self.windows.check(answer_deadline())
    }

    /// Returns the command line that shows the session in a terminal, quoted for any shell; `None` without windows.
    #[must_use]
    pub fn attach_command(&self, name: &str) -> Option<String> {
        match (self.kind, &self.version) {
            (HostKind::Tmux, Ok(_)) => self.windows.attach_command(name),
            _ => None,
        }
    }
}

fn answer_deadline() -> Instant {
    Instant::now() + TMUX_ANSWER_TIMEOUT
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
    let answer = match client::version(program, Instant::now() + TMUX_VERSION_TIMEOUT) {
        Ok(answer) => answer,
        Err(error) => return (Err(format!("{shown} does not print its version: {error}")), false),
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
