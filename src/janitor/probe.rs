//! A job that tells `doctor` what a node is like: whether it sees the home, whether locks reach it, which agents it has, and whether
//! it reaches the network.
//!
//! Its files are in a directory below `locks/` whose name is a temporary one, so that a sweep removes what a killed `doctor` left.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::agent::{Registry, ShellMode, Source, env_file, find_command, through_shell};
use crate::bounded_command;
use crate::engine::slurm::{Freshness, Job, JobState, Seen, Slurm, Submission, Submitted, probe_job_name};
use crate::environment::{self, Variables};
use crate::home::atomic_file;
use crate::home::lock::{FileLock, Mode};
use crate::home::{self, Home, random_suffix};
use crate::quote::saying;
use crate::random_token::random_token;
use crate::routine::resources::Resources;
use crate::run::context::Context;

/// How long `doctor` waits for the job.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the report of a job that is over is waited for.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// The pauses between two looks at its report, and at its job.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// After how many minutes Slurm ends it.
const PROBE_MINUTES: u64 = 2;

/// How long each shell of a node may take to say its PATH.
const SHELL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node may take to reach the network.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(3);

/// Its files.
const ORDER: &str = "order.json";
const REPORT: &str = "report.json";
const LOCK: &str = "lock";
const SCRIPT: &str = "job.sh";
const OUTPUT: &str = "job.out";

/// What the job is to find out.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
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
    /// Slurm has it not, and why.
    Refused(String),
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
    let order = Order { token: random_token()?, agents, address };
    atomic_file::write_json(&files.file(ORDER), &order)?;
    // A node writes into it: an open file shows what another machine wrote sooner than a missing one appears.
    atomic_file::write_in_place(&files.file(REPORT), b"")?;
    let _held = FileLock::acquire_unsigned(&files.file(LOCK), Duration::ZERO)?;
    let slurm = context.slurm();
    let program = slurm.place_program(context.program.path(), home.root());
    let program = program.context("cannot copy this program into the home, where the nodes find it")?;
    let words: [OsString; 4] = [program.into(), "probe".into(), home.root().into(), files.directory.clone().into()];
    let name = probe_job_name(&random_suffix());
    let resources = Resources { cpus: Some(1), memory_mib: Some(256), ..Resources::default() };
    let submission = Submission {
        name: name.clone(),
        token: &order.token,
        words: &words,
        variable: None,
        script: &files.file(SCRIPT),
        output: &files.file(OUTPUT),
        directory: home.root(),
        resources: &resources.with_defaults(&context.config),
        arguments: &context.config.slurm_args,
        node: None,
        excluded: &[],
        minutes: PROBE_MINUTES,
    };
    let deadline = Instant::now() + PROBE_TIMEOUT;
    if let Submitted::Refused(reason) = slurm.submit(&submission, deadline) {
        return Ok(Probed::Refused(reason));
    }
    let probed = wait(&slurm, &files, &name, &order.token, deadline);
    if !matches!(probed, Probed::Reported(_) | Probed::Ended(..))
        && let Err(error) = slurm.end_all(&name)
    {
        tracing::warn!(job = name, %error, "it cannot be cancelled; it ends by itself");
    }
    Ok(probed)
}

fn wait(slurm: &Slurm, files: &Files, name: &str, token: &str, deadline: Instant) -> Probed {
    let mut next_look = Instant::now();
    let (mut seen, mut over_since) = (Seen::NoAnswer("Slurm was not asked".to_owned()), None);
    loop {
        if let Some(report) = files.report(token) {
            return Probed::Reported(report);
        }
        let now = Instant::now();
        if now >= next_look {
            let look = slurm.look(Freshness::Within(PAUSE_BETWEEN_LOOKS));
            seen = slurm.seen(&look, name, token);
            next_look = Instant::now() + PAUSE_BETWEEN_LOOKS;
        }
        let over = over(&seen);
        let waited_since = *over_since.get_or_insert(now);
        if over.is_none() {
            over_since = None;
        }
        let is_late = now >= deadline || (over.is_some() && waited_since.elapsed() >= REPORT_TIMEOUT);
        if is_late {
            return judge(seen, || files.said());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the job, if all that Slurm has of it is over.
fn over(seen: &Seen) -> Option<&Job> {
    let Seen::Jobs(jobs) = seen else { return None };
    let is_over = |job: &Job| matches!(job.state, JobState::Over(_));
    jobs.last().filter(|_| jobs.iter().all(is_over))
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
        Some(job) if matches!(job.state, JobState::Over(_)) => Probed::Ended(job.clone(), said()),
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

/// What the job executes on its node.
///
/// # Errors
/// Its order cannot be read, or the report not written.
pub(crate) fn report(root: PathBuf, directory: &Path) -> anyhow::Result<()> {
    // Where the home is another one, it is not made.
    let order: Order = atomic_file::read_json(&directory.join(ORDER))?;
    ensure!(directory.starts_with(&root), "{} is not in the home", directory.display());
    let home = Home::open(root)?;
    let locks = match FileLock::try_existing(&directory.join(LOCK), Mode::Exclusive) {
        Err(error) if error.is_held() => Locks::Reach,
        Err(error) => Locks::Unknown(error.to_string()),
        Ok(_) => Locks::DoNotReach,
    };
    let network = order.address.map(|address| connect(&address));
    let report = Report {
        token: order.token,
        node: std::env::var("SLURMD_NODENAME").unwrap_or_else(|_| crate::process_tree::host_name()),
        locks,
        agents: find_agents(&home, directory, order.agents)?,
        network,
    };
    atomic_file::write_json_in_place(&directory.join(REPORT), &report)?;
    Ok(())
}

/// Looks for the agents' commands as a run would: on the PATH that is set for it, else on that of the login shell, on our own, and on
/// that of an interactive shell. These are asked, because what is noted in the home is what they say on another machine.
fn find_agents(
    home: &Home,
    directory: &Path,
    agents: Vec<String>,
) -> anyhow::Result<BTreeMap<String, Result<String, String>>> {
    let registry = Registry::load(home)?;
    let program = std::env::current_exe()?;
    let environment = environment::inherited(&environment::of_this_process(), &[]);
    let ask = |mode| path_of_shell(mode, &program, &environment, directory);
    let (mut login, mut interactive) = (None, None);
    let mut find = |name: &str| -> Result<String, String> {
        let agent = registry.get(&name.parse().map_err(|_| "its name is none".to_owned())?);
        let agent = agent.map_err(|error| error.to_string())?;
        let definition = &agent.definition;
        let given = env_file::read(home, &agent.name).map_err(|error| error.to_string())?;
        if let Some(path) = definition.env.get("PATH").or(given.get("PATH")) {
            let found = find_command(&definition.command, vec![(Source::Set, path.into())]);
            return found.map(|found| found.to_string()).map_err(|error| error.to_string());
        }
        let mut paths = Vec::new();
        if definition.login_shell {
            let path = login.get_or_insert_with(|| ask(ShellMode::Login));
            paths.extend(path.clone().map(|path| (Source::LoginShell, path)));
        }
        paths.extend(std::env::var_os("PATH").map(|path| (Source::Own, path)));
        let mut found = find_command(&definition.command, paths.clone());
        if found.is_err() && definition.login_shell && !definition.command.starts_with('/') {
            let path = interactive.get_or_insert_with(|| ask(ShellMode::Interactive));
            paths.extend(path.clone().map(|path| (Source::InteractiveShell, path)));
            found = find_command(&definition.command, paths);
        }
        found.map(|found| found.to_string()).map_err(|error| error.to_string())
    };
    Ok(agents.into_iter().map(|name| (name.clone(), find(&name))).collect())
}

/// Asks a shell of this node for its PATH; `None` if it gives no answer.
fn path_of_shell(mode: ShellMode, program: &Path, environment: &Variables, directory: &Path) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let answer = directory.join(mode.name());
    let words = through_shell(
        mode,
        std::env::var_os("SHELL").as_deref(),
        program,
        &["print-path".into(), answer.clone().into()],
    );
    let mut command = Command::new(&words[0]);
    let started_in = std::env::home_dir().filter(|directory| directory.is_dir()).unwrap_or_else(|| "/".into());
    command.args(&words[1..]).env_clear().envs(environment).current_dir(started_in);
    if let Err(error) = bounded_command::run(&mut command, Instant::now() + SHELL_TIMEOUT) {
        tracing::debug!(%error, %mode, "it was asked for its PATH");
    }
    atomic_file::read(&answer, atomic_file::MAX_RECORD_BYTES).ok().map(OsString::from_vec)
}

/// Connects to an address and hangs up.
fn connect(address: &str) -> Result<(), String> {
    let deadline = Instant::now() + NETWORK_TIMEOUT;
    let (sender, answer) = mpsc::channel();
    let to = address.to_owned();
    // Whoever resolves a name has no deadline. The thread ends with the process.
    let attempt = move || -> Result<(), String> {
        let mut last = "its name has no address".to_owned();
        for one in to.to_socket_addrs().map_err(|error| error.to_string())? {
            let rest = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&one, rest) {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    };
    std::thread::Builder::new().spawn(move || drop(sender.send(attempt()))).map_err(|error| error.to_string())?;
    let no_answer = |_| Err(format!("no answer within {} s", NETWORK_TIMEOUT.as_secs()));
    answer.recv_timeout(NETWORK_TIMEOUT).unwrap_or_else(no_answer)
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

    #[test]
    fn a_node_reports_what_it_sees_and_the_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::write(home.agents().join("there.toml"), "command = 'sh'\nlogin_shell = false\n").unwrap();
        std::fs::write(home.agents().join("not.toml"), "command = 'not-there'\nlogin_shell = false\n").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Some(listener.local_addr().unwrap().to_string());
        let files = Files::make(&home).unwrap();
        let agents = ["there", "not"].map(str::to_owned).into();
        let order = Order { token: "t".to_owned(), agents, address };
        atomic_file::write_json(&files.file(ORDER), &order).unwrap();
        let held = FileLock::acquire_unsigned(&files.file(LOCK), Duration::ZERO).unwrap();
        report(home.root().to_owned(), &files.directory).unwrap();
        assert_eq!(files.report("another"), None);
        let seen = files.report("t").unwrap();
        assert_eq!((seen.locks, seen.network), (Locks::Reach, Some(Ok(()))));
        assert!(seen.agents["there"].is_ok(), "{:?}", seen.agents);
        assert!(seen.agents["not"].as_ref().unwrap_err().contains("not-there"));
        drop(held);
        report(home.root().to_owned(), &files.directory).unwrap();
        assert_eq!(files.report("t").unwrap().locks, Locks::DoNotReach);
        assert!(report(dir.path().join("another"), &files.directory).is_err());
        let directory = files.directory.clone();
        drop(files);
        assert!(!directory.exists());
        assert!(report(dir.path().join("another"), &directory).is_err());
        assert!(!dir.path().join("another").exists(), "no home is made");
    }

    #[test]
    fn a_port_that_nobody_listens_at_is_not_reached() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        connect(&address).unwrap_err();
        connect("no port").unwrap_err();
    }
}
