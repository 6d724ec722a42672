//! Processes as Linux shows them: `/proc` (proc(5)) and pidfds.

mod newcomers;
mod proc_dir;
mod stat;

use std::io;

use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal, set_child_subreaper,
};

pub(super) use newcomers::Newcomers;
use proc_dir::{ProcDir, all_pids};

use super::listed::Listed;
use super::{ProcessId, Signalled, Whereabouts};

/// How often a process in the middle of exec(2) is looked at again: it is certain that it is, and it may have to wait for a
/// processor.
pub(super) const EXEC_LOOKS: usize = 50;

/// Returns the start time of the living process with this pid, in clock ticks since boot.
pub(super) fn start_of(pid: i32) -> io::Result<Option<u64>> {
    let Some(directory) = ProcDir::open(pid)? else { return Ok(None) };
    let Some(stat) = directory.stat()? else { return Ok(None) };
    Ok(directory.is_a_process()?.then_some(stat.start))
}

/// Returns the start time of whatever starts this long after the boot.
pub(super) fn start_at(since_boot_ms: u64) -> u64 {
    since_boot_ms.saturating_mul(clock_ticks_per_second()) / 1000
}

/// Lists all living processes, but for those of the kernel.
pub(super) fn list(note: &mut dyn FnMut(Listed)) -> io::Result<()> {
    for pid in all_pids()? {
        if let Some(directory) = ProcDir::open(pid)?
            && let Some(listed) = directory.look()?
        {
            note(listed);
        }
    }
    Ok(())
}

/// Lists the whereabouts of all living processes, by their pids.
pub(super) fn whereabouts() -> io::Result<Vec<(i32, Whereabouts)>> {
    let mut all = Vec::new();
    for pid in all_pids()? {
        if let Some(directory) = ProcDir::open(pid)?
            && let Some(whereabouts) = directory.whereabouts()?
        {
            all.push((pid, whereabouts));
        }
    }
    Ok(all)
}

pub(super) fn glimpse(pid: i32) -> io::Result<Option<Listed>> {
    let Some(directory) = ProcDir::open(pid)? else { return Ok(None) };
    // Most newcomers are gone by now, so that comes first.
    if directory.stat()?.is_none() || !directory.is_a_process()? {
        return Ok(None);
    }
    directory.look()
}

/// Returns whether [`look_with_children`] works: the kernel may lack it (`CONFIG_PROC_CHILDREN`).
pub(super) fn shows_children() -> bool {
    std::fs::exists("/proc/thread-self/children").unwrap_or(false)
}

/// Looks at one living process and at who its children are, dead ones included.
pub(super) fn look_with_children(pid: i32) -> io::Result<Option<(Listed, Vec<i32>)>> {
    ProcDir::open(pid)?.map_or(Ok(None), |directory| directory.look_with_children())
}

pub(super) fn signal(id: ProcessId, pid: Pid, signal: Signal) -> io::Result<Signalled> {
    // Opened before the look at the start time: what was looked at is then what is signalled.
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Ok(Signalled::Gone),
        // An old kernel, a sandbox, no descriptor left: the time from the look to the signal is then a small gap.
        Err(_) => None,
    };
    if start_of(id.pid)? != Some(id.start) {
        return Ok(Signalled::Gone);
    }
    let sent = match pidfd {
        Some(pidfd) => pidfd_send_signal(pidfd, signal),
        None => kill_process(pid, signal),
    };
    match sent {
        Ok(()) => Ok(Signalled::Delivered),
        Err(Errno::SRCH) => Ok(Signalled::Gone),
        Err(error) => Err(error.into()),
    }
}

/// Makes this process the parent of all orphans below it (Linux; elsewhere nothing happens).
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Returns the machine's id; container images often ship an empty one, which is none.
pub(super) fn machine_id() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// Returns the name of the pid namespace, within which alone pids mean something; empty outside Linux.
pub(crate) fn pid_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::time::{ClockId, clock_gettime};

    #[test]
    fn this_process_lives_in_a_pid_namespace() {
        assert!(pid_namespace().starts_with("pid:["));
        assert!(start_of(getpid().as_raw_pid()).unwrap().is_some());
    }

    #[test]
    fn a_start_is_told_on_the_clock_that_counts_from_the_boot() {
        let child = std::process::Command::new("true").spawn();
        let now = clock_gettime(ClockId::Boottime);
        let mut child = child.unwrap();
        // Dead or alive, it has a start.
        let text = std::fs::read(format!("/proc/{}/stat", child.id())).unwrap();
        let start = stat::Stat::parse(&text).unwrap().start;
        child.wait().unwrap();
        let expected = start_at(u64::try_from(now.tv_sec).unwrap() * 1000);
        assert!(start.abs_diff(expected) < 20 * clock_ticks_per_second(), "{start} {expected}");
    }
}
