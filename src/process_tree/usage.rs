//! What the process table says about processes, and what these use.

use std::collections::HashMap;
use std::io;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::{ProcessId, ScanError};

/// What one process has used so far, and uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since its start, in milliseconds.
    pub cpu_ms: u64,
    /// Memory that it occupies (its resident set), in bytes.
    pub memory_bytes: u64,
}

/// Looks at these processes, or at all, but not at their threads.
pub(crate) fn look_at(pids: Option<&[sysinfo::Pid]>, wanted: ProcessRefreshKind) -> io::Result<System> {
    let mut system = System::new().map_err(io::Error::other)?;
    let processes = pids.map_or(ProcessesToUpdate::All, ProcessesToUpdate::Some);
    system.refresh_processes_specifics(processes, true, wanted.without_tasks());
    Ok(system)
}

/// Looks what these processes use; those that have ended are left out.
pub fn usage(processes: &[ProcessId]) -> Result<HashMap<ProcessId, Usage>, ScanError> {
    let pid_of = |id: &ProcessId| Some(sysinfo::Pid::from_u32(u32::try_from(id.pid).ok()?));
    let pids: Vec<_> = processes.iter().filter_map(pid_of).collect();
    let system = look_at(Some(&pids), ProcessRefreshKind::nothing().with_cpu().with_memory())?;
    let of = |id: &ProcessId| {
        let process = system.process(pid_of(id)?)?;
        let usage = Usage { cpu_ms: process.accumulated_cpu_time(), memory_bytes: process.memory() };
        // Asked last: what was read is then of this very process.
        id.is_alive().then_some((*id, usage))
    };
    Ok(processes.iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_use_something_and_the_dead_do_not() {
        let us = ProcessId::current().unwrap();
        let former = ProcessId { start: us.start + 1, ..us };
        assert!(usage(&[us]).unwrap()[&us].memory_bytes > 100_000);
        assert!(usage(&[former]).unwrap().is_empty());
    }
}
