//! Recognising the processes of a run, and ending them.
//!
//! Everything that a run starts inherits its [`Cookie`] in the environment. A process belongs to the run whose cookie is
//! the nearest at or above it in the tree of parents: a child that cleared its environment belongs to the run of its
//! parent, and a run that another run's agent triggered stands for itself. [`Scan`] is one listing of the
//! processes, who belongs is a pure function over it, and [`end_tree`] acts on that until nothing is left.
//!
//! A pid alone does not name a process, because pids are recycled: [`ProcessId`] adds the start time, and every signal checks it. Only
//! processes of our own effective user are ever signalled (one that became another user's is reported as a survivor), never
//! the process with pid 1, never ourselves. A zombie is dead.
//!
//! A process is alive as long as one of its threads is: once the first one has ended, its environment shows through another
//! one only. Threads are never processes, although `/proc` answers for them.
//!
//! What this cannot see: a process that neither carries the cookie nor has a living parent that belongs. On Linux the
//! supervisor is a subreaper, so orphans stay below it; elsewhere, and once the supervisor is gone, a process escapes if it
//! cleared its environment *and* lost its parent. Some environments cannot be read at all (a process that made itself
//! undumpable, system binaries on macOS): only its parents show whose such a process is. `unmarked_descendants` names
//! these while their supervisor lives, `Scan::hidden_orphans` those that may be anybody's.
//!
//! A listing of all processes costs tens of milliseconds where there are thousands, so a subreaper walks down its own tree instead
//! ([`Reach::Below`]).

mod cookie;
mod descendants;
mod end;
mod known;
mod listed;
mod membership;
mod process;
mod scan;
mod usage;
mod visitors;
mod whereabouts;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod escape_tests;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod unusual_tests;

#[cfg_attr(target_os = "linux", path = "linux/mod.rs")]
#[cfg_attr(not(target_os = "linux"), path = "portable.rs")]
mod platform;

/// The fallback is compiled into Linux's tests too, so that it cannot rot unseen.
#[cfg(test)]
#[cfg(target_os = "linux")]
mod portable;

pub(crate) use cookie::NoCookie;
pub use cookie::{COOKIE_VARIABLE, Cookie};
pub(crate) use descendants::{descendants, members_below, unmarked_descendants};
pub use end::{Reach, end_tree};
pub use known::KnownProcesses;
pub(crate) use platform::{become_subreaper, pid_namespace};
pub use process::ProcessId;
pub(crate) use process::{Process, SignalError, Signalled, names};
pub use scan::Scan;
pub(crate) use scan::ScanError;
pub(crate) use usage::{Usage, look_at, usage};
pub(crate) use visitors::{Visitor, visitors};
pub(crate) use whereabouts::{RUN_VARIABLE, Whereabouts, whereabouts};

/// How much earlier than it was noted a process may have started: the two clocks are read at different moments, and rounded.
const START_MARGIN_MS: u64 = 1000;

/// Returns a bound for the start ([`ProcessId::start`]) of what started at this moment or later, given in milliseconds since
/// the boot, with a second of margin.
pub(crate) fn start_at(since_boot_ms: u64) -> u64 {
    platform::start_at(since_boot_ms.saturating_sub(START_MARGIN_MS))
}

/// Returns by what this machine differs from others that may share the home: the machine's id (Linux, machine-id(5)), else
/// the host's name, else nothing.
pub(crate) fn machine_id() -> String {
    platform::machine_id().unwrap_or_else(host_name)
}

/// Returns what this machine calls itself; empty where it does not say.
pub(crate) fn host_name() -> String {
    sysinfo::System::host_name().ok().unwrap_or_default()
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name() {
        assert!(!machine_id().is_empty());
        assert_eq!(machine_id(), machine_id());
    }
}
