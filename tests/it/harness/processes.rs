//! The processes of a test's home: those whose environment, command line or working directory names it.

use std::path::Path;

use moadim_mcp::process_tree::ProcessId;
use rustix::process::Signal;
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: ProcessId,
    pub name: String,
    pub command: String,
    /// The value of `MOADIM_COOKIE`.
    pub cookie: Option<String>,
}

impl Seen {
    /// Sends it a signal; one that is gone by now is fine.
    pub fn signal(&self, signal: Signal) {
        self.id.signal(signal).expect("a process of our own");
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }
}

/// Lists the processes that have to do with `directory`.
pub fn of(directory: &Path) -> Vec<Seen> {
    let wanted = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_environ(UpdateKind::Always)
        .with_cmd(UpdateKind::Always)
        .with_cwd(UpdateKind::Always);
    let mut system = System::new().expect("processes can be listed");
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let own = std::process::id();
    system.processes().values().filter(|p| p.pid().as_u32() != own).filter_map(|p| see(p, directory)).collect()
}

fn see(process: &sysinfo::Process, directory: &Path) -> Option<Seen> {
    let text = directory.to_str()?;
    let names_it = |words: &[std::ffi::OsString]| words.iter().any(|word| word.to_string_lossy().contains(text));
    let inside = || process.cwd().is_some_and(|cwd| cwd.starts_with(directory));
    let dead = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    if dead || !(names_it(process.environ()) || names_it(process.cmd()) || inside()) {
        return None;
    }
    let cookie = |entry: &std::ffi::OsString| Some(entry.to_str()?.strip_prefix("MOADIM_COOKIE=")?.to_owned());
    let words: Vec<_> = process.cmd().iter().map(|word| word.to_string_lossy()).collect();
    Some(Seen {
        id: ProcessId::of(process.pid().as_u32().try_into().ok()?)?,
        name: process.name().to_string_lossy().into_owned(),
        command: words.join(" "),
        cookie: process.environ().iter().find_map(cookie),
    })
}
