//! Supervisors as jobs of Slurm, which places, queues, limits and fences.
//!
//! A job is known by its name and its token, never by its id: after a crash of the controller an id may be given away again, and a job
//! may be started a second time. So a run is submitted once, and taken once on its node.

mod client;
mod job;
mod jobs;
mod looks;
mod node;
mod program;
mod shared;
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
pub use looks::{Look, Looks};
pub use node::Node;
pub use program::remove_unused as remove_unused_programs;
pub use submit::{Placement, Submission, Submitted};
pub use survey::Survey;
pub use verdict::{Check, Facts, OnNode, Seen, Verdict, decide};

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
        let began = Instant::now();
        let deadline = deadline.min(began + ANSWER_TIMEOUT);
        let submitted = submission.submit(deadline);
        if Instant::now() >= deadline {
            self.looks.jobs.failed(ClientError::TimedOut("sbatch"), began);
        }
        submitted
    }

    /// Looks at all jobs of this user with one command, unless the last look is at most this old.
    pub fn look(&self, max_age: Duration) -> Look {
        self.look_until(max_age, Instant::now() + ANSWER_TIMEOUT)
    }

    /// Does the same, and waits until the deadline at most.
    pub fn look_until(&self, max_age: Duration, deadline: Instant) -> Look {
        let deadline = deadline.min(Instant::now() + ANSWER_TIMEOUT);
        self.looks.jobs.get(max_age, deadline, "squeue", || ask(deadline).map(Arc::new))
    }

    /// Returns what was seen last, and asks nothing.
    pub fn last_look(&self) -> Look {
        self.looks.jobs.last().unwrap_or_else(|| Look::missing(ClientError::NotAsked))
    }

    /// Says what a look shows of the run whose jobs have this name and token, and that was submitted then.
    pub fn seen(&self, look: &Look, name: &str, token: &str, submitted: UnixSeconds) -> Seen {
        match &look.result {
            Err(error) => Seen::NoAnswer(error.to_string()),
            Ok(jobs) => {
                let found = jobs.of(name, token);
                if found.is_empty() {
                    return Seen::Absent { for_secs: self.looks.absent_secs(name, look, submitted) };
                }
                self.looks.was_seen(name);
                Seen::Jobs(found)
            }
        }
    }

    /// Asks how these nodes are, until the deadline. Slurm may not know some of them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn nodes(&self, names: &[&str], deadline: Instant) -> Result<HashMap<String, Node>, ClientError> {
        let began = Instant::now();
        let mut command = client::command("sinfo")?;
        command.args(["-h", "-a", "-N", "-o", "%N|%T", "-n", &names.join(",")]);
        let printed = client::run("sinfo", &mut command, deadline.min(began + ANSWER_TIMEOUT));
        if let Err(error @ ClientError::TimedOut(_)) = &printed {
            self.looks.jobs.failed(error.clone(), began);
        }
        let printed = printed?;
        let states = printed.lines().filter_map(|line| line.split_once('|'));
        Ok(states.map(|(node, state)| (node.to_owned(), Node::of_state(state))).collect())
    }

    /// Returns how the cluster is set up, as this process last saw it or asks for it until the deadline.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn survey(&self, deadline: Instant) -> Result<Survey, ClientError> {
        let deadline = deadline.min(Instant::now() + ANSWER_TIMEOUT);
        self.looks.survey.get(survey::HOLDS, deadline, "sinfo or scontrol", || survey::ask(deadline)).result
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

/// What `squeue` is asked for: all jobs of this user in every state, also in partitions that are hidden, the oldest first.
const SQUEUE_ARGUMENTS: [&str; 9] = ["-h", "--me", "-a", "-t", "all", "-S", "i", "-o", job::FORMAT];

fn ask(deadline: Instant) -> Result<Jobs, ClientError> {
    let mut command = client::command("squeue")?;
    // Times as seconds since 1970, whatever the zone.
    command.args(SQUEUE_ARGUMENTS).env("SLURM_TIME_FORMAT", "%s");
    Ok(Jobs::of_output(client::run("squeue", &mut command, deadline)?))
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
}
