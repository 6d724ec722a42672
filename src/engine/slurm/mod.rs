//! Supervisors as jobs of Slurm, which places, queues, limits and fences.
//!
//! A job is known by its name and its token, never by its id: after a crash of the controller an id may be given away again, and a job
//! may be started a second time. So a run is submitted once, and taken once on its node.

mod client;
mod job;
mod jobs;
mod looks;
mod program;
mod submit;
mod verdict;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::home::Home;

pub use client::ClientError;
pub use job::{Job, JobEnd, JobState};
pub use jobs::{Jobs, check_job_name, run_job_name};
pub use looks::{Freshness, Look, Looks};
pub use program::remove_unused as remove_unused_programs;
pub use submit::{Submission, Submitted};
pub(crate) use verdict::exceeded_max_queue;
pub use verdict::{Check, Facts, Node, Seen, Verdict, decide};

/// How long one command may take: calls of tools answer within 5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Slurm, as this process sees it.
#[derive(Debug, Clone)]
pub struct Slurm {
    looks: Arc<Looks>,
}

impl Slurm {
    pub fn new(looks: Arc<Looks>) -> Self {
        Self { looks }
    }

    /// Returns the copy of `program` in the home that every node finds.
    ///
    /// # Errors
    /// The system's.
    pub fn place_program(&self, program: &Path, home: &Home) -> std::io::Result<PathBuf> {
        program::copy(program, &home.bin())
    }

    /// Submits a job, once.
    pub fn submit(&self, submission: &Submission<'_>, deadline: Instant) -> Submitted {
        let submitted = submission.submit(deadline.min(Instant::now() + ANSWER_TIMEOUT));
        if let Submitted::Unsure(cause) = &submitted {
            self.looks.did_not_answer(cause);
        }
        submitted
    }

    /// Looks at all jobs of this user with one command, unless a look is known that is fresh enough.
    ///
    /// # Errors
    /// Nothing was ever seen, and nobody may wait for it.
    pub fn look(&self, freshness: Freshness) -> Result<Look, String> {
        self.looks.get(freshness, ANSWER_TIMEOUT, ask)
    }

    /// Says what a look shows of the run whose jobs have this name and token.
    pub fn seen(&self, look: &Result<Look, String>, name: &str, token: &str) -> Seen {
        let found = match look {
            Ok(Look { answer: Ok(jobs), .. }) => jobs.of(name, token),
            Ok(Look { answer: Err(cause), .. }) | Err(cause) => return Seen::NoAnswer(cause.clone()),
        };
        match (found, look) {
            ([], Ok(look)) => Seen::Absent { for_secs: self.looks.absent_secs(name, look) },
            _ => {
                self.looks.was_seen(name);
                Seen::Jobs(found.to_vec())
            }
        }
    }

    /// Asks which of these nodes answer their controller.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn answering(&self, nodes: &[&str]) -> Result<HashMap<String, bool>, ClientError> {
        if nodes.is_empty() {
            return Ok(HashMap::new());
        }
        let mut command = client::command("sinfo")?;
        command.args(["-h", "-N", "-o", "%N|%T", "-n", &nodes.join(",")]);
        let printed = client::run("sinfo", &mut command, Instant::now() + ANSWER_TIMEOUT)?;
        let states = printed.lines().filter_map(|line| line.split_once('|'));
        Ok(states.map(|(node, state)| (node.to_owned(), answers(state))).collect())
    }

    /// Returns whether Slurm finds every process of a job, however it tries to escape.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn tracks_by_cgroup(&self) -> Result<bool, ClientError> {
        Ok(self.setting("ProctrackType")?.is_some_and(|value| value == "proctrack/cgroup"))
    }

    /// Returns a setting of the cluster.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn setting(&self, name: &str) -> Result<Option<String>, ClientError> {
        let mut command = client::command("scontrol")?;
        command.args(["show", "config"]);
        let printed = client::run("scontrol", &mut command, Instant::now() + ANSWER_TIMEOUT)?;
        let value = |line: &str| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        };
        Ok(printed.lines().find_map(value))
    }

    /// Sends TERM to the supervisor of a job alone.
    ///
    /// # Errors
    /// Slurm does not answer, or the job is over.
    pub fn wake(&self, name: &str, id: &str) -> Result<(), ClientError> {
        cancel(&["--batch", "--signal=TERM", "--name", name, id])
    }

    /// Has Slurm end a job and everything in it, which it does in its own time.
    ///
    /// # Errors
    /// Slurm does not answer, or the job is over.
    pub fn end(&self, name: &str, id: &str) -> Result<(), ClientError> {
        cancel(&["--name", name, id])
    }
}

fn cancel(arguments: &[&str]) -> Result<(), ClientError> {
    let mut command = client::command("scancel")?;
    command.args(arguments);
    client::run("scancel", &mut command, Instant::now() + ANSWER_TIMEOUT).map(drop)
}

/// Asks for all jobs of this user, in every state.
fn ask() -> Result<Jobs, String> {
    let asked = || {
        let mut command = client::command("squeue")?;
        command.args(["-h", "--me", "-t", "all", "-o", job::FORMAT]);
        client::run("squeue", &mut command, Instant::now() + ANSWER_TIMEOUT)
    };
    asked().map(|printed| Jobs::of_output(&printed)).map_err(|error| error.to_string())
}

/// Whether a node in this state answers: a mark behind the state, and some states, say that it does not.
fn answers(state: &str) -> bool {
    const SILENT: [&str; 6] = ["down", "fail", "unknown", "future", "power", "reboot"];
    !state.ends_with('*') && !SILENT.iter().any(|silent| state.starts_with(silent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_answers_only_in_states_that_say_so() {
        for state in ["idle", "mixed", "allocated", "drained", "draining", "completing"] {
            assert!(answers(state), "{state}");
        }
        for state in ["down", "down*", "idle*", "allocated*", "unknown", "failing", "powering_down", "powered_down"] {
            assert!(!answers(state), "{state}");
        }
    }
}
