//! Where this process is: it can say something certain only of runs that were started there.

use super::record::{Machine, Manifest, ProcessesRecord, SupervisorRecord};
use crate::clock::Moment;
use crate::home::Home;
use crate::home::identity::HomeIdentity;
use crate::process_tree::{KnownProcesses, ProcessId, machine_id, pid_namespace};

impl Machine {
    /// Returns where we are.
    #[must_use]
    pub fn this() -> Self {
        Self { machine_id: machine_id(), pid_namespace: pid_namespace() }
    }
}

/// Where a judge is: it can tell something only of runs that were started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    pub(super) machine: Machine,
    pub(super) boot_id: String,
    /// Unknown while the home's directory cannot be looked at.
    home: Option<HomeIdentity>,
}

impl Here {
    /// Looks around, from the home.
    #[must_use]
    pub fn of(home: &Home) -> Self {
        Self { machine: Machine::this(), boot_id: Moment::now().boot_id, home: home.identity().ok() }
    }

    /// Returns why nothing certain can be said here of a run; `None` if it was started here.
    #[must_use]
    pub fn stranger(&self, manifest: &Manifest) -> Option<String> {
        self.another_home(manifest).or_else(|| self.another_machine(manifest))
    }

    pub(super) fn another_home(&self, manifest: &Manifest) -> Option<String> {
        match (&manifest.home, &self.home) {
            // Where the system does not tell one boot from another, devices may have been numbered again.
            (Some(theirs), Some(ours)) => {
                theirs.difference(ours, self.is_same_boot(manifest) && !self.boot_id.is_empty())
            }
            (Some(_), None) => Some("the home's directory cannot be looked at".to_owned()),
            (None, _) => None,
        }
    }

    pub(super) fn another_machine(&self, manifest: &Manifest) -> Option<String> {
        (manifest.machine != self.machine).then(|| {
            "it was started on another machine or in another process namespace, and its processes can be seen only there"
                .to_owned()
        })
    }

    /// Makes a record of processes that were seen here and now.
    #[must_use]
    pub fn processes_record(&self, processes: KnownProcesses) -> ProcessesRecord {
        ProcessesRecord { machine: self.machine.clone(), boot_id: self.boot_id.clone(), processes }
    }

    /// Makes the record of a supervisor that is here.
    #[must_use]
    pub fn supervisor_record(&self, supervisor: ProcessId, reaper: i32) -> SupervisorRecord {
        SupervisorRecord { supervisor, machine: self.machine.clone(), boot_id: self.boot_id.clone(), reaper }
    }

    /// Whether start times that were written down with this manifest mean something now: within one boot they do.
    pub(super) fn is_same_boot(&self, manifest: &Manifest) -> bool {
        manifest.machine == self.machine && manifest.triggered.boot_id == self.boot_id
    }
}
