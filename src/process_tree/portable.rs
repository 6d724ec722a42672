//! Processes as any Unix shows them: through the process table, with start times in seconds and no orphans caught.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::time::{ClockId, clock_gettime};
use sysinfo::{ProcessRefreshKind, ProcessStatus, System, ThreadKind, UpdateKind};

use super::listed::{Listed, Mark};
use super::{Process, ProcessId, Signalled, Whereabouts, look_at};

/// How often a process that may be in the middle of exec(2) is looked at again: it may as well have no environment, or hide it.
pub(super) const EXEC_LOOKS: usize = 1;

/// Returns the start time of the living process with this pid, in seconds since 1970.
pub(super) fn start_of(pid: i32) -> io::Result<Option<u64>> {
    let system = look_at_one(pid, ProcessRefreshKind::nothing())?;
    Ok(system.processes().values().next().and_then(living_start))
}

/// Returns the start time of whatever starts this long after the boot.
pub(super) fn start_at(since_boot_ms: u64) -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let up = Duration::from_secs(now.tv_sec.try_into().unwrap_or_default());
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (wall.saturating_sub(up) + Duration::from_millis(since_boot_ms)).as_secs()
}

pub(super) fn list(note: &mut dyn FnMut(Listed)) -> io::Result<()> {
    let wanted = ProcessRefreshKind::nothing().with_user(UpdateKind::Always).with_environ(UpdateKind::Always);
    look_at(None, wanted)?.processes().values().filter_map(listed).for_each(note);
    Ok(())
}

/// Lists the whereabouts of all living processes, by their pids.
pub(super) fn whereabouts() -> io::Result<Vec<(i32, Whereabouts)>> {
    let wanted = ProcessRefreshKind::nothing().with_cwd(UpdateKind::Always).with_environ(UpdateKind::Always);
    let see = |process: &sysinfo::Process| {
        living_start(process)?;
        let run = Whereabouts::run_in(process.environ().iter().map(AsRef::as_ref));
        Some((signed(process.pid())?, Whereabouts { directory: process.cwd().map(Into::into), run }))
    };
    Ok(look_at(None, wanted)?.processes().values().filter_map(see).collect())
}

pub(super) fn glimpse(pid: i32) -> io::Result<Option<Listed>> {
    let wanted = ProcessRefreshKind::nothing().with_user(UpdateKind::Always).with_environ(UpdateKind::Always);
    let system = look_at_one(pid, wanted)?;
    Ok(system.processes().values().next().and_then(listed))
}

pub(super) fn shows_children() -> bool {
    false
}

/// Looks at one living process; its children are not known here.
pub(super) fn look_with_children(pid: i32) -> io::Result<Option<(Listed, Vec<i32>)>> {
    Ok(glimpse(pid)?.map(|listed| (listed, Vec::new())))
}

fn look_at_one(pid: i32, wanted: ProcessRefreshKind) -> io::Result<System> {
    let pid = u32::try_from(pid).ok().map(sysinfo::Pid::from_u32);
    look_at(Some(pid.as_slice()), wanted)
}

fn listed(process: &sysinfo::Process) -> Option<Listed> {
    let pid = signed(process.pid())?;
    let start = living_start(process)?;
    let ours = process.effective_user_id().is_some_and(|uid| **uid == geteuid().as_raw());
    let may_be_in_exec = process.environ().is_empty() && ours && process.thread_kind() != Some(ThreadKind::Kernel);
    let mark = match Mark::in_environment(process.environ().iter().map(AsRef::as_ref)) {
        Mark::Missing if may_be_in_exec => Mark::Unsettled,
        mark => mark,
    };
    Some(Listed {
        process: Process { id: ProcessId { pid, start }, name: process.name().to_string_lossy().into_owned() },
        parent: process.parent().and_then(signed),
        mark,
        ours,
    })
}

fn signed(pid: sysinfo::Pid) -> Option<i32> {
    i32::try_from(pid.as_u32()).ok()
}

fn living_start(process: &sysinfo::Process) -> Option<u64> {
    let dead = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    (!dead).then(|| process.start_time())
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

pub(super) fn signal(id: ProcessId, pid: Pid, signal: Signal) -> io::Result<Signalled> {
    if start_of(id.pid)? != Some(id.start) {
        return Ok(Signalled::Gone);
    }
    match kill_process(pid, signal) {
        Ok(()) => Ok(Signalled::Delivered),
        Err(Errno::SRCH) => Ok(Signalled::Gone),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(())
}

pub(super) fn machine_id() -> Option<String> {
    None
}

pub(crate) fn pid_namespace() -> String {
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
        let id = ProcessId { pid: raw, start: start_of(raw).unwrap().unwrap() };
        let former = ProcessId { start: id.start - 1, ..id };
        assert_eq!(signal(former, pid, Signal::KILL).unwrap(), Signalled::Gone);
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(signal(id, pid, Signal::KILL).unwrap(), Signalled::Delivered);
        child.wait().unwrap();
        assert_eq!(start_of(raw).unwrap(), None);
        assert_eq!(signal(id, pid, Signal::KILL).unwrap(), Signalled::Gone);
    }

    #[test]
    fn a_listing_holds_the_start_times() {
        let ours = rustix::process::getpid().as_raw_pid();
        let mut starts = Vec::new();
        list(&mut |listed| starts.extend((listed.process.id.pid == ours).then_some(listed.process.id.start))).unwrap();
        assert_eq!(starts, [start_of(ours).unwrap().unwrap()]);
    }

    #[test]
    fn a_start_is_told_from_the_time_since_the_boot() {
        let now = clock_gettime(ClockId::Monotonic).tv_sec;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(start_at(u64::try_from(now).unwrap() * 1000).abs_diff(wall) <= 2);
    }

    #[test]
    fn we_are_somewhere() {
        let ours = rustix::process::getpid().as_raw_pid();
        let all = whereabouts().unwrap();
        let (_, us) = all.iter().find(|(pid, _)| *pid == ours).unwrap();
        assert_eq!(us.directory, std::env::current_dir().ok());
    }

    #[test]
    fn a_glimpse_shows_what_a_listing_would() {
        let us = glimpse(rustix::process::getpid().as_raw_pid()).unwrap().unwrap();
        assert_eq!(Some(us.process.id.start), start_of(us.process.id.pid).unwrap());
        assert!(us.ours && us.parent.is_some());
        assert!(glimpse(-1).unwrap().is_none());
    }

    #[test]
    fn there_is_nothing_to_tell_or_to_do() {
        assert_eq!(Newcomers::from_now().pids().count(), 0);
        assert_eq!(EXEC_LOOKS, 1);
        assert!(!shows_children());
        let (_, children) = look_with_children(rustix::process::getpid().as_raw_pid()).unwrap().unwrap();
        assert!(children.is_empty());
        become_subreaper().unwrap();
        assert_eq!(machine_id(), None);
        assert_eq!(pid_namespace(), "");
    }
}
