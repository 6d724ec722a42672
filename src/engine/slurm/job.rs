//! What Slurm says of a job.

use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;

/// One job, as `squeue` showed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// A hint for commands: after a crash of the controller, another job may have it.
    pub id: String,
    pub state: JobState,
    /// The state as Slurm writes it.
    pub state_name: String,
    /// Where it runs, or ran; empty before.
    pub node: String,
    pub partition: String,
    /// Why it waits, or failed, in Slurm's word.
    pub reason: String,
    /// When it ended; only of one that is over.
    pub ended_at: Option<UnixSeconds>,
}

/// What follows from a job's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Nothing of it has started, or Slurm will start it again.
    Waiting,
    /// Processes of it may be alive.
    Alive,
    /// Slurm ended it, or saw it end.
    Over(JobEnd),
    /// A state that this program does not know.
    Unclear,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEnd {
    Completed,
    Failed,
    TimedOut,
    Cancelled,
    Preempted,
    OutOfMemory,
    /// Its node stopped answering; the job itself may go on.
    NodeFailed,
}

impl JobState {
    /// Reads the state in a line of `squeue`.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        line.split('|').nth(3).map(Self::of)
    }

    /// Reads a state as `squeue` prints it with `%T`.
    fn of(name: &str) -> Self {
        match name {
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" => Self::Waiting,
            "CONFIGURING" | "RUNNING" | "SUSPENDED" | "COMPLETING" | "STAGE_OUT" | "SIGNALING" | "STOPPED"
            | "RESIZING" => Self::Alive,
            "COMPLETED" => Self::Over(JobEnd::Completed),
            "FAILED" | "BOOT_FAIL" | "LAUNCH_FAILED" | "REVOKED" => Self::Over(JobEnd::Failed),
            "TIMEOUT" | "DEADLINE" => Self::Over(JobEnd::TimedOut),
            "CANCELLED" => Self::Over(JobEnd::Cancelled),
            "PREEMPTED" => Self::Over(JobEnd::Preempted),
            "OUT_OF_MEMORY" => Self::Over(JobEnd::OutOfMemory),
            "NODE_FAIL" => Self::Over(JobEnd::NodeFailed),
            _ => Self::Unclear,
        }
    }
}

/// The fields of a line that [`Job::of_line`] reads. Name and comment are the owner's, and ours hold no bar; the reason may hold anything.
pub(super) const FORMAT: &str = "%j|%k|%i|%T|%N|%P|%e|%r";

impl Job {
    /// Reads a line of `squeue`, and returns the job with its comment and its name; `None` if it is not of that form, as
    /// where a name of the user's contains a line break.
    pub(super) fn of_line(line: &str) -> Option<(Self, &str, &str)> {
        let mut fields = line.splitn(8, '|');
        let mut next = || fields.next();
        let (name, comment, id, state) = (next()?, next()?, next()?, next()?);
        let (node, partition, ended, reason) = (next()?, next()?, next()?, next()?);
        let over = JobState::of(state);
        let ended_at = ended.parse().ok().map(UnixSeconds).filter(|_| matches!(over, JobState::Over(_)));
        let job = Self {
            id: id.to_owned(),
            state: over,
            state_name: state.to_owned(),
            node: node.to_owned(),
            partition: partition.to_owned(),
            reason: reason.to_owned(),
            ended_at,
        };
        Some((job, comment, name))
    }

    /// Whether Slurm ended it, or saw it end.
    pub fn is_over(&self) -> bool {
        matches!(self.state, JobState::Over(_))
    }

    /// Says why it waits, as what follows "it".
    pub fn waits_because(&self) -> String {
        let words = match self.reason.as_str() {
            "None" | "" => "waits in Slurm's queue",
            "Priority" => "waits in Slurm's queue behind jobs of a higher priority",
            "Resources" => "waits in Slurm's queue for free resources",
            "Dependency" => "waits in Slurm's queue for another job",
            "BeginTime" => "waits in Slurm's queue until its begin time",
            "JobHeldUser" | "JobHeldAdmin" => {
                return format!("is held in Slurm's queue; release it with scontrol release {}", self.id);
            }
            "PartitionDown" | "PartitionInactive" => "waits in Slurm's queue: its partition is down",
            "PartitionTimeLimit" => {
                "waits in Slurm's queue and will not start: max_runtime_secs, kill_grace_secs and 4 min together exceed the time \
                 limit of its partition"
            }
            "PartitionConfig" | "PartitionNodeLimit" => {
                "waits in Slurm's queue and will not start: no node of its partition has what it asks for"
            }
            "BadConstraints" => "waits in Slurm's queue and will not start: no node meets its constraint",
            // Which ones may follow.
            nodes if nodes.starts_with("ReqNodeNotAvail") || nodes.starts_with("Nodes required for job are DOWN") => {
                "waits in Slurm's queue: the nodes that it needs are down, drained or reserved"
            }
            limit if limit.starts_with("QOS") || limit.starts_with("Assoc") => {
                return format!("waits in Slurm's queue: your account or its QOS is at a limit ({limit})");
            }
            other => return format!("waits in Slurm's queue ({other})"),
        };
        words.to_owned()
    }
}

#[cfg(test)]
impl Job {
    /// Makes a job on the node `n1`.
    pub(crate) fn example(id: &str, state: &str) -> Self {
        let line = format!("moadim-a-1|token|{id}|{state}|n1|main|100|None");
        Self::of_line(&line).unwrap().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_its_owner_wrote() {
        let line = "moadim-x-1|t|12|PENDING||main|N/A|Resources";
        let (job, comment, name) = Job::of_line(line).unwrap();
        assert_eq!((job.id.as_str(), job.state, job.ended_at), ("12", JobState::Waiting, None));
        assert_eq!((comment, name), ("t", "moadim-x-1"));
        assert!(job.waits_because().contains("free resources"));
        let (job, ..) = Job::of_line("n|t|7|TIMEOUT|node1|gpu|1795844444|of a | plugin").unwrap();
        assert_eq!((job.state, job.ended_at), (JobState::Over(JobEnd::TimedOut), Some(UnixSeconds(1_795_844_444))));
        assert_eq!((job.node.as_str(), job.partition.as_str(), job.reason.as_str()), ("node1", "gpu", "of a | plugin"));
        for broken in ["", "12", "n|t|12|RUNNING|n", "rest of a name"] {
            assert_eq!(Job::of_line(broken), None, "{broken}");
        }
    }

    #[test]
    fn whatever_slurm_says_of_nodes_out_of_use_is_said_in_one_way() {
        for reason in [
            "ReqNodeNotAvail",
            "ReqNodeNotAvail, UnavailableNodes:node1",
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
        ] {
            let line = format!("n|t|12|PENDING||main|N/A|{reason}");
            let (job, ..) = Job::of_line(&line).unwrap();
            assert!(job.waits_because().contains("are down, drained or reserved"), "{reason}");
        }
    }

    #[test]
    fn a_state_of_a_later_release_is_unclear() {
        assert_eq!(JobState::of("HIBERNATING"), JobState::Unclear);
        assert_eq!(JobState::of("COMPLETING"), JobState::Alive, "its processes are being ended");
        assert_eq!(JobState::of("NODE_FAIL"), JobState::Over(JobEnd::NodeFailed));
    }
}
