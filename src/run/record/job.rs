//! The job of a run on Slurm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, UnixSeconds};
use crate::routine::resources::Resources;
use crate::run::record::Machine;

/// What a run on Slurm was submitted with, decided at its trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOrder {
    /// With the run's id it identifies its jobs; everybody who may list jobs sees it.
    pub token: String,
    #[serde(default)]
    pub resources: Resources,
    /// Nodes that it must not run on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<String>,
    /// How long Slurm lets its job go on.
    pub limit_secs: u64,
}

/// `job.json`: what became of the submission.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedJob {
    /// The job's id; absent if Slurm gave no clear answer.
    pub job: Option<String>,
    pub at: UnixSeconds,
    /// Why there was no clear answer.
    pub problem: Option<String>,
}

/// The job as which a run takes place, or took place.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlurmJob {
    /// Its number.
    pub id: String,
    /// Where it runs, or ran; absent before.
    pub node: Option<String>,
    /// Its partition.
    pub partition: Option<String>,
    /// Its state, as Slurm writes it; absent of one that ended well.
    pub state: Option<String>,
}

impl SlurmJob {
    /// Says on which node it is; `None` before it is on any.
    pub(crate) fn on_node(&self) -> Option<String> {
        self.node.as_ref().map(|node| format!("on {node} (job {})", self.id))
    }

    /// Says all that is known of it.
    pub(crate) fn in_words(&self) -> String {
        let Self { id, node, partition, state } = self;
        let node = node.as_ref().map(|node| format!(" on {node}"));
        let partition = partition.as_ref().map(|partition| format!(", partition {partition}"));
        let state = state.as_ref().map(|state| format!(", {state}"));
        let words: String = [node, partition, state].into_iter().flatten().collect();
        format!("{id}{words}")
    }
}

/// `gone.json`: its writer looked on the machine of a run, and found nothing of it left there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    pub machine: Machine,
    pub at: Moment,
    /// Whether its writer also wrote the outcome, which another machine may see later.
    pub has_outcome: bool,
}
