//! One process, which a pid alone does not name.

use std::fmt;
use std::io;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

#[cfg(test)]
use super::Cookie;
use super::{ScanError, own_pid, platform};
use crate::quote::quote;

/// A process: its pid, and when it started, so that a later process with the same pid is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Positive.
    pub pid: i32,
    /// When it started: on Linux in clock ticks since boot (field 22 of `/proc/PID/stat`, see proc(5)), which no setting
    /// of the wall clock moves; elsewhere in seconds since 1970.
    pub start: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    Delivered,
    /// The process had ended; nothing was signalled.
    Gone,
}

#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The pid is ours, that of the system's first process, or no pid at all.
    #[error("the {id} is never signalled: it is this program, the system's first process, or none")]
    Protected { id: ProcessId },
    #[error("cannot signal the {id}: {source}; end it by hand")]
    Refused { id: ProcessId, source: io::Error },
}

impl ProcessId {
    /// Returns the living process that has this pid now; `None` where there is none, only a zombie, or a thread that is not
    /// the first of its process, and where it cannot be looked at.
    pub fn of(pid: i32) -> Option<Self> {
        platform::start_of(pid).ok().flatten().map(|start| Self { pid, start })
    }

    /// Returns this process, or `ScanError::WithoutUs` where the system does not show it, such as without `/proc`.
    pub fn current() -> Result<Self, ScanError> {
        let pid = own_pid();
        let start = platform::start_of(pid)?.ok_or(ScanError::WithoutUs { pid })?;
        Ok(Self { pid, start })
    }

    /// Returns whether this very process still runs: a zombie does not, and neither does another one with its pid. One that
    /// cannot be looked at, as without a free descriptor, counts as running.
    pub fn is_alive(self) -> bool {
        platform::start_of(self.pid).map_or(true, |start| start == Some(self.start))
    }

    /// Sends a signal to this process, or to none if it is gone.
    pub fn signal(self, signal: Signal) -> Result<Signalled, SignalError> {
        // First, because a negative pid would mean a whole group of processes.
        let open = self.pid > 1 && self.pid != own_pid();
        let Some(pid) = open.then(|| Pid::from_raw(self.pid)).flatten() else {
            return Err(SignalError::Protected { id: self });
        };
        platform::signal(self, pid, signal).map_err(|source| SignalError::Refused { id: self, source })
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (started at {})", self.pid, self.start)
    }
}

/// A process with the name that the system shows for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    pub id: ProcessId,
    /// Its name, at most 15 bytes on Linux.
    pub name: String,
}

/// Longer than any name on Linux.
const SHOWN_NAME_CHARS: usize = 64;

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", quote(&self.name, SHOWN_NAME_CHARS), self.id.pid)
    }
}

/// A living process, looked at by its pid alone.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub process: Process,
    /// The cookie that it carries; `None` where it carries none, or hides its environment.
    pub cookie: Option<Cookie>,
}

#[cfg(test)]
impl Seen {
    /// Looks at the living process that has this pid now; `None` where there is none, or only a zombie.
    ///
    /// # Errors
    /// [`ScanError::WithoutUs`] where the system does not even show us ourselves, so that nothing follows.
    pub fn at(pid: i32) -> Result<Option<Self>, ScanError> {
        match platform::glimpse(pid)? {
            Some(seen) => Ok(Some(Self { process: seen.process, cookie: seen.mark.cookie() })),
            None => ProcessId::current().map(|_| None),
        }
    }
}

/// Names processes, the first few of them.
pub fn names(processes: &[Process]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = processes.iter().take(SHOWN).map(Process::to_string).collect();
    if processes.len() > SHOWN {
        shown.push(format!("{} more", processes.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_tree::COOKIE_VARIABLE;
    use std::process::{Child, Command};

    fn sleeper() -> (Child, ProcessId) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id().try_into().unwrap()).unwrap();
        (child, id)
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_lives_until_it_ends_and_a_zombie_is_dead() {
        let (mut child, id) = sleeper();
        assert!(id.is_alive());
        assert_eq!(id.signal(Signal::KILL).unwrap(), Signalled::Delivered);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while id.is_alive() {
            assert!(std::time::Instant::now() < deadline, "killed, but not dead");
        }
        assert_eq!(ProcessId::of(id.pid), None, "a zombie");
        assert_eq!(id.signal(Signal::KILL).unwrap(), Signalled::Gone);
        child.wait().unwrap();
        assert_eq!(ProcessId::of(id.pid), None, "gone");
    }

    #[test]
    fn a_recycled_pid_is_another_process_and_is_never_signalled() {
        let (mut child, id) = sleeper();
        let former = ProcessId { start: id.start - 1, ..id };
        assert!(!former.is_alive());
        assert_eq!(former.signal(Signal::KILL).unwrap(), Signalled::Gone);
        assert!(id.is_alive());
        assert!(child.try_wait().unwrap().is_none());
        end(child);
    }

    #[test]
    fn we_and_the_first_process_and_no_process_are_never_signalled() {
        let ours = ProcessId::current().unwrap();
        for pid in [ours.pid, 1, 0, -1, i32::MIN] {
            let id = ProcessId { pid, ..ours };
            assert!(matches!(id.signal(Signal::KILL), Err(SignalError::Protected { .. })), "{pid}");
        }
    }

    #[test]
    fn a_process_is_written_as_json() {
        let id = ProcessId { pid: 7, start: 12345 };
        assert_eq!(serde_json::to_string(&id).unwrap(), r#"{"pid":7,"start":12345}"#);
        assert_eq!(id.to_string(), "process 7 (started at 12345)");
    }

    #[test]
    fn a_living_process_is_seen_with_its_cookie_and_a_dead_one_is_not() {
        let cookie = Cookie::random().unwrap();
        let child = Command::new("sleep").arg("60").env(COOKIE_VARIABLE, cookie.to_string()).spawn().unwrap();
        let pid = child.id().try_into().unwrap();
        let carries = |seen: &Seen| seen.process.id.pid == pid && seen.cookie == Some(cookie);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        // In the middle of exec(2) the environment is empty.
        while !Seen::at(pid).unwrap().as_ref().is_some_and(carries) {
            assert!(std::time::Instant::now() < deadline, "not seen with its cookie");
        }
        end(child);
        assert_eq!(Seen::at(pid).unwrap(), None);
    }
}
