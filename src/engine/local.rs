//! Supervisors as processes of this machine.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{anyhow, bail};
use rustix::process::Signal;

use crate::environment;
use crate::process_tree::{
    COOKIE_VARIABLE, Cookie, KnownProcesses, Process, ProcessId, Reach, ScanError, SignalError, end_tree,
};

#[derive(Debug, Clone)]
pub struct Local {
    program: PathBuf,
}

impl Local {
    /// Starts supervisors from this file, which is our own program's.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    /// Starts the supervisor of a run in a session of its own and as nobody's child: hosts kill what descends from them, and wait
    /// for pipes that their children inherited.
    ///
    /// # Errors
    /// It was not started, for certain.
    pub fn submit(&self, home: &Path, run: impl AsRef<OsStr>, cookie: &Cookie) -> anyhow::Result<()> {
        let inherited = environment::inherited(&environment::of_this_process(), &[]);
        let mut launcher = environment::detached(&self.program, &inherited)
            .arg("supervise")
            .arg(home)
            .arg(run)
            .env(COOKIE_VARIABLE, cookie.to_string())
            .current_dir(home)
            .spawn()
            .map_err(|source| anyhow!("its supervisor {} cannot be started: {source}", self.program.display()))?;
        is_possible(launcher.wait())
    }

    /// Returns whether a supervisor is alive.
    #[must_use]
    pub fn look(&self, supervisor: ProcessId) -> bool {
        supervisor.is_alive()
    }

    /// Sends a supervisor a signal, so that it looks at what is asked of it.
    ///
    /// # Errors
    /// The system's.
    pub fn wake(&self, supervisor: ProcessId, signal: Signal) -> Result<(), SignalError> {
        supervisor.signal(signal).map(|_| ())
    }

    /// Ends a supervisor and all processes of its run, and returns those that outlived it, as [`end_tree`] does.
    ///
    /// # Errors
    /// The processes cannot be listed: some may have been signalled, and nothing is known of what is left.
    pub fn end(
        &self,
        cookie: &Cookie,
        supervisor: Option<ProcessId>,
        mut processes: KnownProcesses,
        grace: Duration,
        on_pass: &mut dyn FnMut(&KnownProcesses),
    ) -> Result<Vec<Process>, ScanError> {
        processes.known.extend(supervisor);
        end_tree(cookie, processes, Reach::Everywhere, grace, on_pass)
    }
}

/// Returns whether there may be a supervisor: only a launcher that says that it failed rules that out. The status is lost
/// where the host lets us ignore SIGCHLD, and a launcher that was killed may have done its work before.
fn is_possible(launched: io::Result<ExitStatus>) -> anyhow::Result<()> {
    match launched {
        Ok(status) if status.code().is_some_and(|code| code != 0) => {
            bail!("its supervisor could not be detached ({status}); if moadim-mcp was replaced, restart the host")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn only_a_launcher_that_says_so_has_failed() {
        let exited = |code| Ok(ExitStatus::from_raw(code << 8));
        assert!(is_possible(exited(1)).unwrap_err().to_string().contains("exit status: 1"));
        assert!(is_possible(exited(0)).is_ok());
        assert!(is_possible(Ok(ExitStatus::from_raw(9))).is_ok(), "killed, after its work perhaps");
        assert!(is_possible(Err(io::Error::from_raw_os_error(10))).is_ok(), "nobody knows");
    }
}
