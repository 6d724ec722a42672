//! What was decided when a run was claimed.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FIRST_RECORD_VERSION, JobOrder, RECORD_VERSION, Started};
use crate::agent::AgentCommand;
use crate::clock::{Moment, UnixSeconds};
use crate::environment::{EnvName, Variables, absolute_directories};
use crate::home::Home;
use crate::home::identity::HomeIdentity;
use crate::process_tree::Cookie;
use crate::routine::repository::Repository;
use crate::run::id::RunId;
use crate::run::workbench::Workbench;
use crate::session::HostKind;

/// `run.json`: what was decided when the run was claimed.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`super::RECORD_VERSION`] when it was written.
    pub version: u32,
    pub id: RunId,
    pub triggered: Moment,
    pub cookie: Cookie,
    pub machine: Machine,
    /// The home that it was started in; absent in records of version 1.
    pub home: Option<HomeIdentity>,
    /// The bound that its routine had at the trigger, which holds once the routine is gone; absent in records of version 1.
    pub max_runtime_secs: Option<u64>,
    pub command: AgentCommand,
    /// Where it can be watched.
    pub session_host: HostKind,
    #[serde(default)]
    pub origin: Origin,
    /// What this one run is about, as its trigger said; another attempt is about the same.
    pub text: Option<String>,
    /// The run that it goes on from.
    pub continues: Option<RunId>,
    /// The name of its workbench, if that was made for another run.
    pub workbench: Option<RunId>,
    /// Whether its prompt asks for a report.
    #[serde(default)]
    pub asks_for_report: bool,
    /// What is cloned into its workbench first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository>,
    /// What its agent should inherit and the process that started it did not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_env: Vec<EnvName>,
    /// What decides whether it is started at all.
    pub precheck: Option<Precheck>,
    /// What has to pass before it has succeeded.
    pub verify: Option<Verify>,
    /// What it is submitted to Slurm with; absent if it runs on the machine that triggered it.
    pub job: Option<JobOrder>,
}

/// A command of a person that decides whether an agent is started.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precheck {
    /// The program and its arguments, placeholders filled in.
    pub command: Vec<String>,
    /// The text of the prompt, found nowhere else, in whose place its output goes; absent if the prompt has no place for it.
    pub slot: Option<String>,
}

/// A command of a person that decides whether a run whose agent ended well has succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// The program and its arguments, placeholders filled in.
    pub command: Vec<String>,
    /// How long it may take.
    pub max_secs: u64,
}

impl Manifest {
    /// Returns the workbench in which it takes place.
    pub(crate) fn workbench(&self, home: &Home) -> Workbench {
        Workbench::named(home, self.workbench_name())
    }

    /// Returns the name of that workbench.
    pub(crate) fn workbench_name(&self) -> &RunId {
        self.workbench.as_ref().unwrap_or(&self.id)
    }

    /// Whether the run takes place on a node, as a job of Slurm.
    pub fn is_on_slurm(&self) -> bool {
        self.job.is_some()
    }

    /// Returns whether the agent has started, as far as can be known: `started.json` does not outlive a power cut, so in an
    /// entry of an earlier boot its absence says nothing. That of a run on Slurm outlives a power cut here.
    pub(crate) fn may_have_started(&self, started: Option<&Started>) -> bool {
        started.is_some() || !self.is_on_slurm() && self.triggered.boot_id != Moment::now().boot_id
    }

    /// Whether there is something to do before the agent can start.
    pub(crate) fn needs_preparation(&self) -> bool {
        !self.repositories.is_empty() || !self.command.setup.is_empty() || self.precheck.is_some()
    }

    /// Whether a person's commands decide about it.
    pub(crate) fn has_checks(&self) -> bool {
        self.precheck.is_some() || self.verify.is_some()
    }
}

/// What started a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Origin {
    /// A tool call or a command.
    #[default]
    Call,
    /// Its routine's schedule.
    Schedule {
        /// The time in the schedule.
        occurrence: UnixSeconds,
    },
    /// The failure of an earlier run.
    Retry {
        /// The first of the attempts.
        of: RunId,
        /// Which attempt this is; the first run is 1.
        attempt: u32,
    },
    /// The reset of the usage limit that ended an earlier run.
    Reset {
        /// The first of the attempts.
        of: RunId,
        /// Which attempt this is still: waiting for a limit does not raise it.
        attempt: u32,
        /// How many times the attempt had met the limit, or more: no two runs of an attempt have the same.
        tries: u32,
        /// The time in the schedule that the first of the attempts was started for, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurrence: Option<UnixSeconds>,
    },
}

impl Origin {
    /// Returns the first of the attempts that a run of this origin belongs to, which attempt it is, and the occurrence that they
    /// are made for.
    pub(crate) fn attempt_of<'a>(&'a self, run: &'a RunId) -> (&'a RunId, u32, Option<UnixSeconds>) {
        match self {
            Self::Call => (run, 1, None),
            Self::Schedule { occurrence } => (run, 1, Some(*occurrence)),
            Self::Retry { of, attempt } => (of, *attempt, None),
            Self::Reset { of, attempt, occurrence, .. } => (of, *attempt, *occurrence),
        }
    }

    /// Returns the oldest version of records whose readers know it.
    pub(crate) fn record_version(&self) -> u32 {
        match self {
            Self::Call | Self::Schedule { .. } | Self::Retry { .. } => FIRST_RECORD_VERSION,
            Self::Reset { .. } => RECORD_VERSION,
        }
    }
}

/// Where processes can be seen from; elsewhere nothing is known about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub machine_id: String,
    /// The process namespace; empty where there is no such thing.
    pub pid_namespace: String,
}

/// `env.json`: the run's environment, there only until its agent has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// What it inherits; a login shell may change these.
    pub inherited: Variables,
    /// What its agent and routine set; nothing overrides these.
    pub set: Variables,
    /// Those of them that only the agent gets: what runs beside it may execute what it wrote.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secret: BTreeSet<EnvName>,
}

impl Environment {
    /// Returns that of a precheck and a verification. `secret` are then the names that a login shell's start-up files may not
    /// bring back.
    pub(crate) fn for_checks(&self) -> Self {
        let mut secret = self.secret.clone();
        let mut set = self.set.clone();
        set.retain(|name, _| !secret.contains(name));
        // What every run inherits is no secret, even where it is named once more.
        secret.retain(|name| !name.is_inherited());
        let mut inherited = self.inherited.clone();
        inherited.retain(|name, _| !secret.contains(name));
        // An agent writes in the directory that a check works in.
        keep_absolute_directories(&mut set);
        keep_absolute_directories(&mut inherited);
        Self { inherited, set, secret }
    }
}

/// Leaves of PATH what is the same wherever one is.
fn keep_absolute_directories(variables: &mut Variables) {
    variables.retain(|name, value| {
        if name.to_string() != "PATH" {
            return true;
        }
        let kept = absolute_directories(OsStr::new(value)).and_then(|kept| kept.into_string().ok());
        kept.map(|kept| *value = kept).is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_gets_what_every_run_inherits_and_no_secret() {
        let variables = |pairs: &[(&str, &str)]| -> Variables {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), (*value).to_owned())).collect()
        };
        let environment = Environment {
            inherited: variables(&[("PATH", ":/bin:.:bin"), ("HOME", "/h"), ("API_KEY", "hush")]),
            set: variables(&[("PATH", "/trusted"), ("TOKEN", "hush"), ("CI", "1"), ("API_KEY", "hush")]),
            secret: ["PATH", "API_KEY", "TOKEN"].map(|name| name.parse().unwrap()).into(),
        };
        let checks = environment.for_checks();
        assert_eq!(checks.inherited, variables(&[("PATH", "/bin"), ("HOME", "/h")]));
        assert_eq!(checks.set, variables(&[("CI", "1")]));
        assert_eq!(checks.secret, ["API_KEY", "TOKEN"].map(|name| name.parse().unwrap()).into());
        assert_eq!(checks.for_checks(), checks);
        let relative = Environment { inherited: variables(&[("PATH", ".")]), secret: BTreeSet::new(), ..environment };
        assert_eq!(relative.for_checks().inherited, variables(&[]));
        assert_eq!(relative.for_checks().set.get("PATH").map(String::as_str), Some("/trusted"));
    }
}
