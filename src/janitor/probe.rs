//! A job that tells `doctor` what a node is like: whether it sees the home, whether locks reach it, which agents it has, and whether
//! it reaches the network.
//!
//! Its files are in a directory below `locks/` whose name is a temporary one, so that a sweep removes what a killed `doctor` left.

mod on_node;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::engine::slurm::{Job, JobState, Placement, Seen, Slurm, Submission, Submitted, probe_job_name};
use crate::home::atomic_file;
use crate::home::lock::FileLock;
use crate::home::{self, Home, random_suffix};
use crate::quote::saying;
use crate::random_token::random_token;
use crate::routine::resources::Resources;
use crate::run::context::Context;

pub(crate) use on_node::report;

/// How long `doctor` waits for the job.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the report of a job that is over is waited for.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// The pauses between two looks at its report, and at its job.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// After how many minutes Slurm ends it.
const PROBE_MINUTES: u64 = 2;

/// Its files.
const REQUEST: &str = "request.json";
const REPORT: &str = "report.json";
const LOCK: &str = "lock";
const SCRIPT: &str = "job.sh";
const OUTPUT: &str = "job.out";

/// What the job is to find out.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// What only a job that sees this file knows.
    token: String,
    agents: Vec<String>,
    /// What it is to connect to, as a host and a port.
    address: Option<String>,
}

/// What the job found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    token: String,
    pub node: String,
    pub locks: Locks,
    /// Where the command of each agent is, or why it is nowhere.
    pub agents: BTreeMap<String, Result<String, String>>,
    /// Whether it could connect, or why not.
    pub network: Option<Result<(), String>>,
}

/// What becomes of a lock there that is held here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Locks {
    Reach,
    DoNotReach,
    /// It could not be tried, and why.
    Unknown(String),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probed {
    Reported(Report),
    /// Slurm does not have it, and why.
    NotSubmitted(String),
    /// It did not start in time, and why.
    Waits(String),
    /// It started, and did not report in time.
    Silent(Job),
    /// It ended without a report. What it printed.
    Ended(Job, String),
    /// Nobody knows what became of it, and why.
    NoAnswer(String),
}

/// Submits the job, waits for its report, and leaves nothing of it behind.
///
/// # Errors
/// It cannot be prepared in the home.
pub(super) fn probe(context: &Context, agents: Vec<String>, address: Option<String>) -> anyhow::Result<Probed> {
    let home = &context.home;
    let files = Files::make(home)?;
    let request = Request { token: random_token()?, agents, address };
    atomic_file::write_json(&files.file(REQUEST), &request)?;
    // A node writes into it: an open file shows what another machine wrote sooner than a missing one appears.
    atomic_file::write_in_place(&files.file(REPORT), b"")?;
    let _held = FileLock::acquire_unsigned(&files.file(LOCK), Duration::ZERO)?;
    let slurm = context.slurm();
    let program = slurm.place_program(context.program.path(), home);
    let program = program.context("cannot copy this program into the home, where the nodes find it")?;
    let words: [OsString; 4] = [program.into(), "probe".into(), home.root().into(), files.directory.clone().into()];
    let name = probe_job_name(&random_suffix());
    let resources = Resources { cpus: Some(1), memory_mib: Some(256), ..Resources::default() };
    let submission = Submission {
        name: name.clone(),
        token: &request.token,
        words: &words,
        variable: None,
        script: &files.file(SCRIPT),
        output: &files.file(OUTPUT),
        directory: home.root(),
        resources: &resources.with_defaults(&context.config),
        arguments: &context.config.slurm_args,
        placement: Placement::Anywhere,
        minutes: PROBE_MINUTES,
    };
    let deadline = Instant::now() + PROBE_TIMEOUT;
    if let Submitted::Refused(reason) | Submitted::NotSent(reason) = slurm.submit(&submission, deadline) {
        return Ok(Probed::NotSubmitted(reason));
    }
    let probed = wait(&slurm, &files, &name, &request.token, deadline);
    if !matches!(probed, Probed::Reported(_) | Probed::Ended(..))
        && let Err(error) = slurm.end_all(&name)
    {
        tracing::warn!(job = name, %error, "it cannot be cancelled; it ends by itself");
    }
    Ok(probed)
}

fn wait(slurm: &Slurm, files: &Files, name: &str, token: &str, deadline: Instant) -> Probed {
    let mut next_look = Instant::now();
    let (mut seen, mut over_since) = (Seen::NoAnswer("Slurm was not asked".to_owned()), None::<Instant>);
    loop {
        if let Some(report) = files.report(token) {
            return Probed::Reported(report);
        }
        let now = Instant::now();
        if now >= next_look {
            let look = slurm.look(PAUSE_BETWEEN_LOOKS);
            seen = slurm.seen(&look, name, token, UnixSeconds(0));
            next_look = Instant::now() + PAUSE_BETWEEN_LOOKS;
        }
        over_since = over(&seen).map(|_| over_since.unwrap_or(now));
        if now >= deadline || over_since.is_some_and(|since| since.elapsed() >= REPORT_TIMEOUT) {
            return judge(seen, || files.said());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the job, if all that Slurm has of it is over.
fn over(seen: &Seen) -> Option<&Job> {
    let Seen::Jobs(jobs) = seen else { return None };
    jobs.last().filter(|_| jobs.iter().all(Job::is_over))
}

/// Says what became of a job that has not reported in time.
fn judge(seen: Seen, said: impl FnOnce() -> String) -> Probed {
    let jobs = match seen {
        Seen::NoAnswer(cause) => return Probed::NoAnswer(cause),
        Seen::Absent { .. } => return Probed::NoAnswer("Slurm does not know its job".to_owned()),
        Seen::Jobs(jobs) => jobs,
    };
    match jobs.last() {
        None => Probed::NoAnswer("Slurm does not know its job".to_owned()),
        Some(job) if job.state == JobState::Waiting => Probed::Waits(job.waits_because()),
        Some(job) if job.is_over() => Probed::Ended(job.clone(), said()),
        Some(job) => Probed::Silent(job.clone()),
    }
}

/// The directory of a probe, which goes with the value.
struct Files {
    directory: PathBuf,
}

impl Files {
    fn make(home: &Home) -> anyhow::Result<Self> {
        let directory = home.locks().join(format!(".{}.tmp", random_suffix()));
        home::make_directory(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { directory })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Returns the report, once all of it is there.
    fn report(&self, token: &str) -> Option<Report> {
        let report: Report = atomic_file::read_json(&self.file(REPORT)).ok()?;
        (report.token == token).then_some(report)
    }

    /// Returns the end of what the job printed.
    fn said(&self) -> String {
        const SHOWN_CHARS: usize = 300;
        let said = atomic_file::read(&self.file(OUTPUT), atomic_file::MAX_RECORD_BYTES);
        saying(String::from_utf8_lossy(&said.unwrap_or_default()).trim(), SHOWN_CHARS)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::debug!(%error, "a sweep removes it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(lines: &[&str]) -> Seen {
        Seen::Jobs(lines.iter().map(|state| Job::example("1", state)).collect())
    }

    #[test]
    fn what_became_of_a_job_without_a_report_follows_from_slurms_answer() {
        let said = || "no such file".to_owned();
        assert!(matches!(judge(jobs(&["PENDING"]), said), Probed::Waits(why) if why.contains("queue")));
        assert!(matches!(judge(jobs(&["RUNNING"]), said), Probed::Silent(job) if job.node == "n1"));
        assert!(matches!(judge(jobs(&["FAILED"]), said), Probed::Ended(_, said) if said == "no such file"));
        assert!(matches!(judge(Seen::NoAnswer("frozen".to_owned()), said), Probed::NoAnswer(why) if why == "frozen"));
        assert!(matches!(judge(Seen::Absent { for_secs: 9 }, said), Probed::NoAnswer(_)));
        assert!(over(&jobs(&["COMPLETED"])).is_some());
        for not_yet in [jobs(&["FAILED", "PENDING"]), jobs(&["COMPLETING"]), jobs(&[]), Seen::Absent { for_secs: 99 }] {
            assert!(over(&not_yet).is_none(), "{not_yet:?}");
        }
    }
}
