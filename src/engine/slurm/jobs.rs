//! The jobs of this user, as of one look: one command for all runs.

use super::job::{Job, JobState};

/// What `squeue` printed of our jobs. A line is read only when somebody asks about its job: there may be thousands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    text: String,
    /// By name and comment; those of one job name and comment in the order in which they were printed.
    lines: Vec<Line>,
}

/// Where a line is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    start: usize,
    /// Behind the bar that follows name and comment.
    key_end: usize,
    end: usize,
}

impl Jobs {
    /// Keeps what `squeue` printed. Lines of other jobs of the user may be of any form.
    pub(crate) fn of_output(text: String) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split('\n') {
            let bars = line.starts_with(NAME_PREFIX).then(|| line.match_indices('|').map(|(at, _)| at));
            if let Some(mut bars) = bars
                && let (Some(name_end), Some(comment_end)) = (bars.next(), bars.next())
                && comment_end > name_end + 1
            {
                lines.push(Line { start, key_end: start + comment_end + 1, end: start + line.len() });
            }
            start += line.len() + 1;
        }
        lines.sort_by(|one, other| text[one.start..one.key_end].cmp(&text[other.start..other.key_end]));
        Self { text, lines }
    }

    /// Returns the jobs of this name with this token, as they were listed.
    pub fn of(&self, name: &str, token: &str) -> Vec<Job> {
        self.lines_of(name, token).filter_map(|line| Job::of_line(line).map(|(job, ..)| job)).collect()
    }

    /// Whether there are jobs of this name with this token, and all of them wait.
    pub fn all_wait(&self, name: &str, token: &str) -> bool {
        let mut states = self.lines_of(name, token).map(JobState::of_line).peekable();
        states.peek().is_some() && states.all(|state| state == Some(JobState::Waiting))
    }

    fn lines_of(&self, name: &str, token: &str) -> impl Iterator<Item = &str> {
        let key = format!("{name}|{token}|");
        let key_of = |line: &Line| &self.text[line.start..line.key_end];
        let from = self.lines.partition_point(|line| key_of(line) < key.as_str());
        let of_key = self.lines[from..].iter().take_while(move |line| key_of(line) == key);
        of_key.map(|line| &self.text[line.start..line.end])
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
        let jobs = Jobs::of_output(listed.to_owned());
        let ids = |name: &str, token| jobs.of(name, token).iter().map(|job| job.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids("moadim-a-1", "secret"), ["1", "2"]);
        assert_eq!(ids("moadim-a-1", "wrong"), [""; 0]);
        assert_eq!(ids("moadim-a-1", ""), [""; 0], "an empty comment is no token");
        assert_ne!(run_job_name("check.a-1"), check_job_name("check.a-1"));
    }

    #[test]
    fn all_wait_only_where_there_are_some_and_each_says_so() {
        let listed = "moadim-b-1|t|1|PENDING||main|N/A|Priority\n\
                      moadim-a-1|t|2|PENDING||main|N/A|Priority\n\
                      moadim-a-2|t|3|PENDING||main|N/A|Priority\n\
                      moadim-a-2|t|4|RUNNING|n1|main|N/A|None\n\
                      moadim-a-3|t|5";
        let jobs = Jobs::of_output(listed.to_owned());
        let waits = ["a-1", "b-1", "a-2", "a-3", "c-1"].map(|run| jobs.all_wait(&run_job_name(run), "t"));
        assert_eq!(waits, [true, true, false, false, false]);
    }
}
