//! Which process our server is, so that it can be called back after its socket was deleted.

use std::path::Path;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::home::atomic_file::{self, FileError};
use crate::process_tree::{Cookie, ProcessId, ScanError, Seen};

/// Our server's process, as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownServer {
    pub(super) process: ProcessId,
    /// `None` for a server that a person started by hand.
    cookie: Option<Cookie>,
}

impl KnownServer {
    /// Looks at a process that has just answered as our server; `None` where it is not to be seen, as when the server is
    /// in another pid namespace.
    ///
    /// # Errors
    /// The system does not show processes.
    pub(super) fn observe(pid: i32, cookie: Option<Cookie>) -> Result<Option<Self>, ScanError> {
        let seen = Seen::at(pid)?;
        let known = seen.as_ref().map(|seen| Self { process: seen.process.id, cookie });
        Ok(known.filter(|known| known.is(seen.as_ref())))
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
    /// The system does not show processes: then nothing is known.
    pub(super) fn lives(&self) -> Result<bool, ScanError> {
        Ok(self.is(Seen::at(self.process.pid)?.as_ref()))
    }

    /// Makes the server create its socket anew (tmux(1), SIGUSR1). The caller has just seen that it lives.
    pub(super) fn call_back(&self) {
        // A server that has ended in this moment is found missing by whoever tries to reach it next.
        let _ = self.process.signal(Signal::USR1);
    }

    /// After a reboot another process may have both the number and the start time. One of tmux takes no harm from being
    /// called back, so a hidden environment is no reason to give our server up.
    fn is(&self, seen: Option<&Seen>) -> bool {
        seen.is_some_and(|seen| {
            seen.process.id == self.process
                && seen.process.name.contains("tmux")
                && (seen.cookie.is_none() || seen.cookie == self.cookie)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_tree::Process;

    #[test]
    fn only_the_very_process_is_recognised() {
        let (ours, other) = (Cookie::random().unwrap(), Cookie::random().unwrap());
        let process = ProcessId { pid: 7, start: 100 };
        let server = KnownServer { process, cookie: Some(ours) };
        let seen = |id, name: &str, cookie| Some(Seen { process: Process { id, name: name.into() }, cookie });
        let is = |seen: Option<Seen>| server.is(seen.as_ref());
        assert!(is(seen(process, "tmux: server", Some(ours))));
        assert!(is(seen(process, "tmux: server", None)), "the environment is hidden");
        assert!(!is(None));
        assert!(!is(seen(process, "tmux: server", Some(other))), "another server");
        assert!(!is(seen(process, "sh", Some(ours))), "a program that was started from one of its windows");
        assert!(!is(seen(ProcessId { start: 101, ..process }, "tmux", Some(ours))), "the number was given anew");
    }

    #[test]
    fn a_process_that_is_not_tmux_is_not_noted() {
        let ours = ProcessId::current().unwrap();
        assert_eq!(KnownServer::observe(ours.pid, Cookie::random().ok()).unwrap(), None);
        assert_eq!(KnownServer::observe(i32::MAX, Cookie::random().ok()).unwrap(), None);
    }
}
