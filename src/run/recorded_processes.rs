//! The processes that a run's records name.

use std::collections::HashSet;

use super::entry::Entry;
use super::record::{Machine, Manifest, Started, SupervisorRecord};
use super::this_machine::Here;
use crate::clock::Moment;
use crate::home::atomic_file::{self, FileError};
use crate::process_tree::{KnownProcesses, ProcessId};

/// Process ids from the records that still mean something: of this machine, namespace and boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedProcesses {
    pub supervisor: Option<ProcessId>,
    /// Whether the supervisor handles the signal that announces an unwritten request: that of release 0.1.0 dies of it.
    pub takes_unwritten_request: bool,
    agent: Option<ProcessId>,
    /// Since when its processes may have been started here.
    pub began: Option<Moment>,
    /// The process that becomes the parent of its orphans once the supervisor is gone.
    pub reaper: Option<i32>,
    /// Processes that may lack the cookie, and those that were asked to end.
    pub processes: KnownProcesses,
}

impl RecordedProcesses {
    /// Reads them. A damaged record counts as none, because most processes are also found by the cookie.
    ///
    /// # Errors
    /// A record is there and cannot be read now.
    pub fn read(entry: &Entry, manifest: &Manifest, here: &Here) -> Result<Self, FileError> {
        if !manifest.is_on_slurm() && !here.is_same_boot(manifest) {
            return Ok(Self::default());
        }
        let of_here = |machine: &Machine| *machine == here.machine;
        let taken: Option<SupervisorRecord> = atomic_file::unless_damaged(entry.supervisor())?;
        let taken = taken.filter(|record| here.is_where(record));
        if manifest.is_on_slurm() && taken.is_none() {
            return Ok(Self::default());
        }
        let started: Option<Started> = atomic_file::unless_damaged(entry.started())?;
        let started = started.filter(|started| started.machine.as_ref().is_none_or(of_here));
        let processes = atomic_file::unless_damaged(entry.processes())?;
        let processes = processes.filter(|record| of_here(&record.machine) && record.boot_id == here.boot_id);
        let mut processes = processes.map(|record| record.processes).unwrap_or_default();
        processes.known.extend(atomic_file::unless_damaged(entry.doomed())?.unwrap_or_default());
        let supervisor = started.as_ref().map(|started| started.supervisor);
        Ok(Self {
            takes_unwritten_request: taken.is_some(),
            supervisor: supervisor.or(taken.as_ref().map(|record| record.supervisor)),
            agent: started.map(|started| started.agent),
            began: here.run_began(manifest, taken.as_ref()),
            reaper: taken.map(|record| record.reaper),
            processes,
        })
    }

    /// Returns all that belong to the run, including its supervisor.
    pub fn belonging(&self) -> HashSet<ProcessId> {
        self.processes.known.iter().copied().chain(self.supervisor).collect()
    }

    /// Returns each process with what it is to the run.
    pub fn named(&self) -> impl Iterator<Item = (ProcessId, &'static str)> {
        let known = self.processes.known.iter().map(|id| (*id, "process"));
        self.supervisor.map(|id| (id, "supervisor")).into_iter().chain(self.agent.map(|id| (id, "agent"))).chain(known)
    }
}
