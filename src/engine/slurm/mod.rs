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
mod survey;
mod verdict;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::quote::shell_word;

pub use client::ClientError;
pub use job::{Job, JobEnd, JobState};
pub use jobs::{Jobs, check_job_name, probe_job_name, run_job_name};
pub use looks::{Freshness, Look, Looks};
pub use program::remove_unused as remove_unused_programs;
pub use submit::{Placement, Submission, Submitted};
pub use survey::Survey;
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
        if let Submitted::Unconfirmed(cause) = &submitted {
            self.looks.did_not_answer(cause);
        }
        submitted
    }

    /// Looks at all jobs of this user with one command, unless a look is known that is fresh enough.
    ///
    /// # Errors
    /// Nothing was ever seen, and nobody may wait for it.
    pub fn look(&self, freshness: Freshness) -> Result<Look, String> {
        self.look_until(freshness, Instant::now() + ANSWER_TIMEOUT)
    }

    /// Does the same, and waits until the deadline at most.
    ///
    /// # Errors
    /// As of [`Slurm::look`].
    pub fn look_until(&self, freshness: Freshness, deadline: Instant) -> Result<Look, String> {
        let deadline = deadline.min(Instant::now() + ANSWER_TIMEOUT);
        self.looks.get(freshness, deadline.saturating_duration_since(Instant::now()), || ask(deadline))
    }

    /// Says what a look shows of the run whose jobs have this name and token, and that was submitted then.
    pub fn seen(&self, look: &Result<Look, String>, name: &str, token: &str, submitted: UnixSeconds) -> Seen {
        let found = match look {
            Ok(Look { answer: Ok(jobs), .. }) => jobs.of(name, token),
            Ok(Look { answer: Err(cause), .. }) | Err(cause) => return Seen::NoAnswer(cause.clone()),
        };
        match (found, look) {
            ([], Ok(look)) => Seen::Absent { for_secs: self.looks.absent_secs(name, look, submitted) },
            _ => {
                self.looks.was_seen(name);
                Seen::Jobs(found.to_vec())
            }
        }
    }

    /// Asks which of these nodes answer their controller, until the deadline.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn answering(&self, nodes: &[&str], deadline: Instant) -> Result<HashMap<String, bool>, ClientError> {
        let mut command = client::command("sinfo")?;
        command.args(["-h", "-a", "-N", "-o", "%N|%T", "-n", &nodes.join(",")]);
        let printed = client::run("sinfo", &mut command, deadline.min(Instant::now() + ANSWER_TIMEOUT))?;
        let states = printed.lines().filter_map(|line| line.split_once('|'));
        Ok(states.map(|(node, state)| (node.to_owned(), answers(state))).collect())
    }

    /// Returns how the cluster is set up, as this process last saw it or asks for it now.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn survey(&self) -> Result<Survey, ClientError> {
        self.looks.surveys.get(survey::ask)
    }

    /// Returns those programs of Slurm that are needed and not found.
    pub fn missing_programs(&self) -> Vec<&'static str> {
        const NEEDED: [&str; 5] = ["sbatch", "squeue", "scontrol", "scancel", "sinfo"];
        NEEDED.into_iter().filter(|program| client::command(program).is_err()).collect()
    }

    /// Takes the jobs of this name that wait out of the queue.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn withdraw(&self, name: &str) -> Result<(), ClientError> {
        cancel(&["--me", "--state=PENDING", "--name", name])
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

    /// Has Slurm end all jobs of a name that no other job has.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn end_all(&self, name: &str) -> Result<(), ClientError> {
        cancel(&["--name", name])
    }

    /// Makes sure that shells can be opened beside jobs from here.
    ///
    /// # Errors
    /// They cannot.
    pub fn check_srun(&self) -> Result<(), ClientError> {
        client::command("srun").map(drop)
    }

    /// Returns the command that opens a shell beside a job, on its node; for a person's terminal.
    pub fn attach_command(id: &str, directory: &Path, shell: Option<&str>) -> String {
        let shell = shell.filter(|shell| shell.starts_with('/')).unwrap_or("sh");
        let directory = shell_word(&directory.to_string_lossy());
        format!("srun --jobid {id} --overlap --pty --chdir {directory} {}", shell_word(shell))
    }
}

fn cancel(arguments: &[&str]) -> Result<(), ClientError> {
    let mut command = client::command("scancel")?;
    command.args(arguments);
    client::run("scancel", &mut command, Instant::now() + ANSWER_TIMEOUT).map(drop)
}

/// Asks for all jobs of this user, in every state.
fn ask(deadline: Instant) -> Result<Jobs, String> {
    let asked = || {
        let mut command = client::command("squeue")?;
        // Also in partitions that are hidden; the oldest first; and times as seconds since 1970, whatever the zone.
        command.args(["-h", "--me", "-a", "-t", "all", "-S", "i", "-o", job::FORMAT]).env("SLURM_TIME_FORMAT", "%s");
        client::run("squeue", &mut command, deadline)
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
    fn a_shell_beside_a_job_is_the_users_own_and_in_the_workbench() {
        let command = |shell| Slurm::attach_command("17", Path::new("/my home/w"), shell);
        assert_eq!(command(Some("/bin/zsh")), "srun --jobid 17 --overlap --pty --chdir '/my home/w' /bin/zsh");
        for none in [None, Some(""), Some("zsh")] {
            assert!(command(none).ends_with(" sh"), "{none:?}");
        }
    }

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
