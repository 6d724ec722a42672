//! The first process of a container, or of any process namespace.
//!
//! Every orphan of the namespace becomes its child: supervisors, and processes that escape from runs. Nothing else reaps those,
//! because a server waits only for the children that it started. So the first process does nothing else: it starts the program
//! again as its child, passes signals on to it, reaps everything that ends, and exits as that child did.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// The hidden command, so that the first process does not look like a server in a list of processes.
pub(super) const COMMAND: &str = "init";

/// Becomes `init` if this is the first process, with the same arguments for its child. Returns if it is not, or if that fails:
/// zombies are better than no server.
pub(super) fn become_init_if_first() {
    let is_init = std::env::args_os().nth(1).is_some_and(|argument| argument == COMMAND);
    if std::process::id() != 1 || is_init {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let _ = Command::new(program).args([COMMAND, "--"]).args(std::env::args_os().skip(1)).exec();
    }
}

/// Runs this program with these arguments until it ends, and returns its exit status, or 128 + N if signal N ended it.
pub(super) fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    // The system ignores these for the first process unless it handles them.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD])?;
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let child = Command::new(&program)
        .args(arguments)
        .spawn()
        .with_context(|| format!("cannot start {} again", program.display()))?;
    let child = Pid::from_child(&child);
    loop {
        // Before signals are passed on: once the child is reaped, its pid may belong to another process.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == child {
                return Ok(exit_code(status));
            }
        }
        for signal in signals.wait().filter(|signal| *signal != SIGCHLD).filter_map(Signal::from_named_raw) {
            let _ = kill_process(child, signal);
        }
    }
}

fn exit_code(status: WaitStatus) -> ExitCode {
    let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
