//! Processes as any Unix shows them: through the process table, with start times in seconds and no orphans caught.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::scan::Listed;
use super::{ProcessId, Signalled};

/// Returns the start time of the living process with this pid, in seconds since 1970.
pub(super) fn start_of(pid: i32) -> Option<u64> {
    let pid = sysinfo::Pid::from_u32(u32::try_from(pid).ok()?);
    let mut system = System::new().ok()?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        true,
        ProcessRefreshKind::nothing().without_tasks(),
    );
    system.process(pid).and_then(living_start)
}

fn living_start(process: &sysinfo::Process) -> Option<u64> {
    let dead = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    (!dead).then(|| process.start_time())
}

/// The listing itself holds the start times.
pub(super) struct Starts;

impl Starts {
    pub(super) fn read() -> Self {
        Self
    }

    pub(super) fn to_list(&self) -> ProcessesToUpdate<'_> {
        ProcessesToUpdate::All
    }

    /// Returns the start time of a listed process, unless it is dead.
    pub(super) fn of(&self, _pid: i32, listed: &sysinfo::Process) -> Option<u64> {
        living_start(listed)
    }
}

/// The processes that were born since it was made: not known here.
pub(super) struct Newcomers;

impl Newcomers {
    pub(super) fn from_now() -> Self {
        Self
    }

    pub(super) fn pids(&mut self) -> impl Iterator<Item = i32> + use<> {
        std::iter::empty()
    }
}

/// Looks at one living process.
pub(super) fn glimpse(pid: i32) -> Option<Listed> {
    let pid = sysinfo::Pid::from_u32(u32::try_from(pid).ok()?);
    let mut system = System::new().ok()?;
    let wanted =
        ProcessRefreshKind::nothing().without_tasks().with_user(UpdateKind::Always).with_environ(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, wanted);
    let listed = system.process(pid)?;
    Listed::read(listed, |_| living_start(listed))
}

pub(super) fn signal(id: ProcessId, pid: Pid, signal: Signal) -> io::Result<Signalled> {
    if start_of(id.pid) != Some(id.start) {
        return Ok(Signalled::Gone);
    }
    match kill_process(pid, signal) {
        Ok(()) => Ok(Signalled::Delivered),
        Err(Errno::SRCH) => Ok(Signalled::Gone),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(())
}

pub(super) fn machine_id() -> Option<String> {
    None
}

pub(super) fn pid_namespace() -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_signalled_by_its_start_time_only() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let raw = i32::try_from(child.id()).unwrap();
        let pid = Pid::from_raw(raw).unwrap();
        let id = ProcessId { pid: raw, start: start_of(raw).unwrap() };
        let former = ProcessId { start: id.start - 1, ..id };
        assert_eq!(signal(former, pid, Signal::KILL).unwrap(), Signalled::Gone);
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(signal(id, pid, Signal::KILL).unwrap(), Signalled::Delivered);
        child.wait().unwrap();
        assert_eq!(start_of(raw), None);
        assert_eq!(signal(id, pid, Signal::KILL).unwrap(), Signalled::Gone);
    }

    #[test]
    fn a_listing_holds_the_start_times() {
        let mut system = System::new().unwrap();
        let ours = rustix::process::getpid().as_raw_pid();
        let starts = Starts::read();
        system.refresh_processes_specifics(starts.to_list(), true, ProcessRefreshKind::nothing().without_tasks());
        let us = system.process(sysinfo::Pid::from_u32(std::process::id())).unwrap();
        assert_eq!(starts.of(ours, us), start_of(ours));
    }

    #[test]
    fn a_glimpse_shows_what_a_listing_would() {
        let us = glimpse(rustix::process::getpid().as_raw_pid()).unwrap();
        assert_eq!(Some(us.process.id.start), start_of(us.process.id.pid));
        assert!(us.ours && us.parent.is_some());
        assert!(glimpse(-1).is_none());
    }

    #[test]
    fn there_is_nothing_to_tell_or_to_do() {
        assert_eq!(Newcomers::from_now().pids().count(), 0);
        become_subreaper().unwrap();
        assert_eq!(machine_id(), None);
        assert_eq!(pid_namespace(), "");
    }
}
