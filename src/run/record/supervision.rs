//! The processes of a run, and how its agent ended.

use serde::{Deserialize, Serialize};

use super::{Machine, SlurmJob};
use crate::clock::{Moment, UnixSeconds};
use crate::process_tree::{KnownProcesses, ProcessId};
use crate::run::status::Status;

/// `supervisor.json`: which supervisor has the run. The first writer has it alone.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorRecord {
    pub supervisor: ProcessId,
    pub machine: Machine,
    /// The boot of the machine: start times mean something within one boot only.
    pub boot_id: String,
    /// The process that took the supervisor in when it was detached: the system's first process, or a subreaper. It takes in
    /// the run's orphans as well, once the supervisor is gone.
    pub reaper: i32,
    /// When it took a run that waited in a queue: its bound counts from then on.
    pub at: Option<Moment>,
    /// The job as which it runs, if it does.
    pub job: Option<SlurmJob>,
}

/// `started.json`: the agent runs.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub supervisor: ProcessId,
    pub agent: ProcessId,
    pub at: UnixSeconds,
    /// Where both are; absent in records of version 1.
    pub machine: Option<Machine>,
}

/// `processes.json`: processes that belong to the run and might not be recognised by its cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessesRecord {
    pub machine: Machine,
    /// The boot within which their start times mean something.
    pub boot_id: String,
    pub processes: KnownProcesses,
}

/// How an agent ended: `verifying.json`; release 0.1.0 wrote `exit.json` for one on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentExit {
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl AgentExit {
    /// Says how it ended, as what follows "the agent".
    pub(crate) fn how(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended in a way that the system does not tell".to_owned(),
        }
    }

    /// Returns the status of a run whose agent ended like this by itself.
    pub(crate) fn status(&self) -> Status {
        if self.code == Some(0) { Status::Succeeded } else { Status::Failed }
    }
}
