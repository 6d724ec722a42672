//! Where this process is: it can judge only runs that were started on the same machine, in the same process namespace and home.

use super::record::{Machine, Manifest, ProcessesRecord, SupervisorRecord};
use crate::clock::Moment;
use crate::home::Home;
use crate::home::identity::HomeIdentity;
use crate::process_tree::{KnownProcesses, ProcessId, machine_id, pid_namespace};

impl Machine {
    /// Asks the system for this one.
    pub fn this() -> Self {
        Self { machine_id: machine_id(), pid_namespace: pid_namespace() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    pub(super) machine: Machine,
    pub(super) boot_id: String,
    /// `None` if the home's directory cannot be looked at.
    home: Option<HomeIdentity>,
}

impl Here {
    pub fn of(home: &Home) -> Self {
        Self { machine: Machine::this(), boot_id: Moment::now().boot_id, home: home.identity().ok() }
    }

    /// Returns why this process cannot judge a run; `None` if the run was started here.
    pub fn stranger(&self, manifest: &Manifest) -> Option<String> {
        self.another_home(manifest).or_else(|| self.another_machine(manifest))
    }

    pub(super) fn another_home(&self, manifest: &Manifest) -> Option<String> {
        match (&manifest.home, &self.home) {
            // Device numbers hold for one boot, and without a boot id nobody knows which boot this is.
            (Some(theirs), Some(ours)) => {
                theirs.difference(ours, self.is_same_boot(manifest) && !self.boot_id.is_empty())
            }
            (Some(_), None) => Some("the home's directory cannot be looked at".to_owned()),
            (None, _) => None,
        }
    }

    /// A run on Slurm is on the machine that its supervisor wrote down, if any has it.
    pub(super) fn another_machine(&self, manifest: &Manifest) -> Option<String> {
        (!manifest.is_on_slurm() && manifest.machine != self.machine)
            .then(|| "another machine or container started it, and only there can its processes be seen".to_owned())
    }

    pub fn processes_record(&self, processes: KnownProcesses) -> ProcessesRecord {
        ProcessesRecord { machine: self.machine.clone(), boot_id: self.boot_id.clone(), processes }
    }

    pub fn supervisor_record(&self, supervisor: ProcessId, reaper: i32) -> SupervisorRecord {
        let (machine, boot_id) = (self.machine.clone(), self.boot_id.clone());
        SupervisorRecord { supervisor, machine, boot_id, reaper, at: None, job: None }
    }

    /// Whether process start times recorded since this manifest are still comparable: they are within one boot.
    pub(super) fn is_same_boot(&self, manifest: &Manifest) -> bool {
        manifest.machine == self.machine && manifest.triggered.boot_id == self.boot_id
    }

    /// Whether this is where a supervisor was, in the same boot. Nodes may be copies of one image, boots are not.
    pub(super) fn is_where(&self, supervisor: &SupervisorRecord) -> bool {
        supervisor.machine == self.machine && supervisor.boot_id == self.boot_id
    }

    /// Returns since when processes of a run may have been started here: its trigger, or when its supervisor took it on this node.
    /// `None` if none that were are left.
    pub(super) fn run_began(&self, manifest: &Manifest, supervisor: Option<&SupervisorRecord>) -> Option<Moment> {
        match (&manifest.job, supervisor) {
            (None, _) => self.is_same_boot(manifest).then(|| manifest.triggered.clone()),
            (Some(_), Some(taken)) => taken.at.clone().filter(|_| self.is_where(taken)),
            (Some(_), None) => None,
        }
    }
}
