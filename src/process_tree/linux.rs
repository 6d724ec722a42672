//! Processes as Linux shows them: `/proc/PID/stat` (proc(5)) and pidfds.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, geteuid, getpid, kill_process, pidfd_open, pidfd_send_signal, set_child_subreaper,
};
use sysinfo::{ProcessStatus, ProcessesToUpdate};

use super::scan::Listed;
use super::{Cookie, Process, ProcessId, Signalled};

/// Returns the start time of the living process with this pid, in clock ticks since boot.
pub(super) fn start_of(pid: i32) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.start)
}

/// What `/proc/PID/stat` tells of a living process.
#[derive(Debug, PartialEq)]
struct Stat {
    name: String,
    parent: i32,
    start: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name, in parentheses, may hold any byte.
        let name = stat.iter().position(|&byte| byte == b'(')?..stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = std::str::from_utf8(stat.get(name.end + 1..)?).ok()?.split_ascii_whitespace();
        // Fields 3, 4, 20 and 22.
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        let threads: u64 = fields.nth(15)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        // A process whose first thread has ended shows as a zombie while its other threads work on.
        let dead = matches!(state, "Z" | "X" | "x") && threads <= 1;
        let name = String::from_utf8_lossy(stat.get(name.start + 1..name.end)?).into_owned();
        (!dead).then_some(Self { name, parent, start })
    }
}

/// The start times of all living processes, read before they are listed with all else.
///
/// What is listed under a pid that was recycled in between then goes by the name of the dead process, which gets no
/// signal; read afterwards, it would be the new process that goes by what its predecessor was.
pub(super) struct Starts {
    by_pid: HashMap<i32, u64>,
    pids: Vec<sysinfo::Pid>,
}

impl Starts {
    pub(super) fn read() -> Self {
        let names = std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
        let pids = names.filter_map(|name| name.to_str()?.parse().ok());
        let by_pid: HashMap<i32, u64> = pids.filter_map(|pid| Some((pid, start_of(pid)?))).collect();
        let pids = by_pid.keys().filter_map(|&pid| Some(sysinfo::Pid::from_u32(u32::try_from(pid).ok()?))).collect();
        Self { by_pid, pids }
    }

    /// Returns what is worth listing: zombies, which pile up by the thousand behind a fork loop, are not.
    pub(super) fn to_list(&self) -> ProcessesToUpdate<'_> {
        ProcessesToUpdate::Some(&self.pids)
    }

    /// Returns the start time of a listed process, unless it is dead.
    pub(super) fn of(&self, pid: i32, listed: &sysinfo::Process) -> Option<u64> {
        match listed.status() {
            ProcessStatus::Zombie | ProcessStatus::Dead => start_of(pid),
            _ => self.by_pid.get(&pid).copied(),
        }
    }
}

/// The processes that were born since it was made.
///
/// A chain of processes that each fork and end at once is always younger than any listing of them.
pub(super) struct Newcomers {
    last: i32,
}

impl Newcomers {
    pub(super) fn from_now() -> Self {
        Self { last: newest_pid().unwrap_or(i32::MAX) }
    }

    /// Returns the pids that were given out since the last call, the newest first, and no more than the newest 256.
    pub(super) fn pids(&mut self) -> impl Iterator<Item = i32> + use<> {
        let newest = newest_pid().unwrap_or(self.last);
        // Pids come round: smaller than the last one is newer, too.
        let known = if newest < self.last { 0 } else { self.last };
        self.last = newest;
        (known.max(newest.saturating_sub(256)) + 1..=newest).rev()
    }
}

/// Returns the pid that was given out last: the fifth field of `/proc/loadavg`, see proc(5).
fn newest_pid() -> Option<i32> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().nth(4)?.parse().ok()
}

/// Looks at one living process, as fast as possible.
pub(super) fn glimpse(pid: i32) -> Option<Listed> {
    // The start time is read first: if the pid is recycled in between, the environment goes by a dead process's name.
    let stat = Stat::of(pid)?;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let ours = std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == geteuid().as_raw());
    Some(Listed {
        process: Process { id: ProcessId { pid, start: stat.start }, name: stat.name },
        parent: Some(stat.parent),
        cookie: Cookie::in_environment(environment.split(|&byte| byte == 0).map(OsStr::from_bytes)),
        ours,
    })
}

pub(super) fn signal(id: ProcessId, pid: Pid, signal: Signal) -> io::Result<Signalled> {
    // Opened before the look at the start time: what was looked at is then what is signalled.
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Ok(Signalled::Gone),
        // An old kernel, a sandbox, no descriptor left: the time from the look to the signal is then a small gap.
        Err(_) => None,
    };
    if !id.is_alive() {
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

pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Returns the machine's id; container images often ship an empty one, which is none.
pub(super) fn machine_id() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

pub(super) fn pid_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, state: char, threads: u32) -> String {
        format!("42 ({name}) {state} 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 9876 1 2 3")
    }

    #[test]
    fn the_start_is_the_22nd_field_whatever_the_name() {
        for name in ["sh", "a b", ") R 1 (", "x)\n"] {
            let expected = Stat { name: name.into(), parent: 7, start: 9876 };
            assert_eq!(Stat::parse(stat(name, 'S', 1).as_bytes()), Some(expected));
        }
        for damaged in ["", "42 (sh) R 1", ")(", "42 ) R ("] {
            assert_eq!(Stat::parse(damaged.as_bytes()), None);
        }
    }

    #[test]
    fn a_zombie_is_dead_unless_other_threads_live_on() {
        assert_eq!(Stat::parse(stat("sh", 'Z', 1).as_bytes()), None);
        assert_eq!(Stat::parse(stat("sh", 'X', 1).as_bytes()), None);
        assert!(Stat::parse(stat("sh", 'Z', 2).as_bytes()).is_some());
    }

    #[test]
    fn this_process_lives_in_a_pid_namespace() {
        assert!(pid_namespace().starts_with("pid:["));
        assert!(start_of(getpid().as_raw_pid()).is_some());
    }
}
