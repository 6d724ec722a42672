//! The jobs of this user, as of one look: one command for all runs.

use std::collections::HashMap;

use super::job::Job;

/// The jobs that `squeue` listed, by name and comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs(HashMap<(String, String), Vec<Job>>);

impl Jobs {
    /// Reads what `squeue` printed. Lines of other jobs of the user may be of any form.
    pub(super) fn of_output(output: &str) -> Self {
        let mut jobs: HashMap<_, Vec<Job>> = HashMap::new();
        for (job, comment, name) in output.lines().filter_map(Job::of_line) {
            if name.starts_with(NAME_PREFIX) && !comment.is_empty() {
                jobs.entry((name.to_owned(), comment.to_owned())).or_default().push(job);
            }
        }
        Self(jobs)
    }

    /// Returns the jobs of this name with this token, as they were listed.
    pub fn of(&self, name: &str, token: &str) -> &[Job] {
        self.0.get(&(name.to_owned(), token.to_owned())).map_or(&[], Vec::as_slice)
    }
}

/// How the name of each of our jobs begins.
const NAME_PREFIX: &str = "moadim-";

/// Returns the name of the job of a run.
pub fn run_job_name(run: &str) -> String {
    format!("{NAME_PREFIX}{run}")
}

/// Returns the name of the job that checks what is left of a run on its node.
pub fn check_job_name(run: &str) -> String {
    format!("{NAME_PREFIX}check.{run}")
}

/// Returns the name of the job that tells `doctor` what a node is like.
pub fn probe_job_name(random: &str) -> String {
    format!("{NAME_PREFIX}probe.{random}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_name_and_token_together() {
        let listed = "moadim-a-1|secret|1|RUNNING|n1|main|N/A|None\n\
                      moadim-a-1|secret|2|PENDING||main|N/A|Priority\n\
                      moadim-a-1|other|3|RUNNING|n1|main|N/A|None\n\
                      broken\n\
                      moadim-a-1||4|RUNNING|n1|main|N/A|None\n\
                      somebody|else|secret|5|RUNNING|n1|main|N/A|None\n";
        let jobs = Jobs::of_output(listed);
        let ids = |name: &str, token| jobs.of(name, token).iter().map(|job| job.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids("moadim-a-1", "secret"), ["1", "2"]);
        assert_eq!(ids("moadim-a-1", "wrong"), [""; 0]);
        assert_eq!(ids("moadim-a-1", ""), [""; 0], "an empty comment is no token");
        assert_ne!(run_job_name("check.a-1"), check_job_name("check.a-1"));
    }
}
