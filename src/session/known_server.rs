//! Which process our server is, so that it can be called back after its socket was deleted.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::process::{Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use crate::home::atomic_file::{self, FileError};

/// The variable by which all that we start is recognised.
pub(super) const COOKIE: &str = "MOADIM_COOKIE";

/// Our server's process, as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownServer {
    pub(super) pid: u32,
    started_at: u64,
    cookie: String,
}

impl KnownServer {
    /// Looks at a living process that has just answered as our server.
    ///
    /// # Errors
    /// The system's; `NotFound` where there is no such process, as when the server is in another pid namespace.
    pub(super) fn observe(pid: u32, cookie: &str) -> io::Result<Self> {
        let process = Observed::of(pid)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, started_at: process.started_at, cookie: cookie.to_owned() })
    }

    /// Reads the record; no file, no server.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, FileError> {
        atomic_file::read_json_if_present(path)
    }

    /// Tells whether that very process lives, and is not another one that was given its number.
    ///
    /// # Errors
    /// The system's: then nothing is known.
    pub(super) fn lives(&self) -> io::Result<bool> {
        Ok(Observed::of(self.pid)?.is_some_and(|process| self.is(&process)))
    }

    /// Makes the server create its socket anew (tmux(1), SIGUSR1). The caller has just seen that it lives.
    pub(super) fn call_back(&self) {
        // A server that has ended in this moment is found missing by whoever tries to reach it next.
        let _ = raw(self.pid).map(|process| kill_process(process, Signal::USR1));
    }

    /// The cookie decides where environments can be read: a start time moves when the wall clock is set.
    fn is(&self, process: &Observed) -> bool {
        process.is_tmux
            && match &process.cookie {
                Some(cookie) => *cookie == self.cookie,
                None => process.started_at == self.started_at,
            }
    }
}

/// What the system tells about a process that is not dead.
struct Observed {
    is_tmux: bool,
    started_at: u64,
    /// `None` where the environment is hidden; empty where it holds no cookie.
    cookie: Option<String>,
}

fn raw(pid: u32) -> Option<rustix::process::Pid> {
    i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
}

impl Observed {
    fn of(number: u32) -> io::Result<Option<Self>> {
        let pid = Pid::from_u32(number);
        let mut system = System::new().map_err(|error| io::Error::other(error.to_string()))?;
        let wanted = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, wanted);
        let Some(process) = system.process(pid) else {
            return match raw(number).map(test_kill_process) {
                Some(Ok(())) => Err(io::Error::other(format!("process {number} is there, but cannot be looked at"))),
                _ => Ok(None),
            };
        };
        if matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead) {
            return Ok(None);
        }
        let environment = process.environ();
        let value = |entry: &OsStr| Some(entry.to_str()?.strip_prefix(COOKIE)?.strip_prefix('=')?.to_owned());
        Ok(Some(Self {
            is_tmux: process.name().to_string_lossy().contains("tmux"),
            started_at: process.start_time(),
            cookie: (!environment.is_empty())
                .then(|| environment.iter().find_map(|entry| value(entry)).unwrap_or_default()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(is_tmux: bool, started_at: u64, cookie: Option<&str>) -> Observed {
        Observed { is_tmux, started_at, cookie: cookie.map(str::to_owned) }
    }

    #[test]
    fn only_the_very_process_is_recognised() {
        let server = KnownServer { pid: 7, started_at: 100, cookie: "c".into() };
        assert!(server.is(&process(true, 100, Some("c"))));
        assert!(server.is(&process(true, 160, Some("c"))), "the clock was set");
        assert!(server.is(&process(true, 100, None)), "the environment is hidden");
        assert!(!server.is(&process(true, 160, None)));
        assert!(!server.is(&process(true, 100, Some("other"))), "the number was given to another server");
        assert!(!server.is(&process(true, 100, Some(""))));
        assert!(!server.is(&process(false, 100, Some("c"))), "a program that was started from one of its windows");
    }

    #[test]
    fn the_dead_are_seen_as_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while Observed::of(child.id()).unwrap().is_some() {
            assert!(std::time::Instant::now() < deadline, "a zombie counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(Observed::of(std::process::id()).unwrap().is_some());
    }
}
