//! A real Slurm cluster of its own for a test: `tests/slurm/cluster` says what it is made of.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tempfile::TempDir;

use super::commands::Answer;
use super::home::TestHome;
use super::processes::{self, Seen};
use super::server::Server;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slurm/cluster");

/// The longest that a cluster may take to end, on a busy machine.
const END: Duration = Duration::from_secs(60);

/// How a cluster is set up.
#[derive(Debug)]
pub struct Settings {
    pub nodes: usize,
    /// Of each node; more than the machine has is fine.
    pub cpus: usize,
    pub memory_mb: usize,
    /// Whether Slurm finds a job's processes by control groups (`proctrack/cgroup`) rather than by their parents (`linuxproc`).
    pub cgroups: bool,
    /// Whether a job that takes more memory than it asked for is killed; needs the control group `memory` of version 1.
    pub memory_limits: bool,
    pub kill_wait_secs: u32,
    /// Whether locks that jobs take on files are seen by other processes, on whichever machine.
    pub locks: bool,
    /// Further lines of slurm.conf.
    conf: String,
}

impl Settings {
    /// Adds a line of slurm.conf.
    pub fn conf(&mut self, line: &str) {
        self.conf.push_str(line);
        self.conf.push('\n');
    }

    /// Makes Slurm give up soon on what does not answer: a node that does not fails within 10 seconds, rather than 15 to 25, and
    /// clients without a controller do within 3, rather than 10 to 20.
    pub fn impatient(&mut self) {
        self.conf("MessageTimeout=2");
        self.conf("SlurmdTimeout=3");
    }
}

/// A running cluster with a login machine and nodes from 1 on, whose jobs start within a second or so. It ends, with all that
/// runs on it, when it is dropped; and also if the test is killed, for it reads from us until then.
#[derive(Debug)]
pub struct Cluster {
    // Of its own, so that a home that goes first does not take the daemons for its own.
    directory: TempDir,
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Cluster {
    /// Starts one with two nodes. `None` where that cannot be, unless `MOADIM_REQUIRE_SLURM` is set.
    pub fn start() -> Option<Self> {
        Self::with(|_| ())
    }

    /// Starts one with other settings.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Option<Self> {
        if let Some(missing) = missing() {
            assert!(std::env::var_os("MOADIM_REQUIRE_SLURM").is_none(), "MOADIM_REQUIRE_SLURM is set, and {missing}");
            let thread = std::thread::current();
            // On the real standard error, which the test harness does not catch.
            let _ = writeln!(std::io::stderr(), "SKIPPED {}: {missing}", thread.name().unwrap_or_default());
            return None;
        }
        let mut settings = Settings {
            nodes: 2,
            cpus: 64,
            memory_mb: 65_536,
            cgroups: false,
            memory_limits: false,
            kill_wait_secs: 30,
            locks: true,
            conf: String::new(),
        };
        change(&mut settings);
        Some(Self::start_as(&settings))
    }

    fn start_as(settings: &Settings) -> Self {
        // Short, for the path of a socket is.
        let directory = tempfile::Builder::new().prefix("moadim-slurm-").tempdir_in("/tmp").unwrap();
        let log = directory.path().join("cluster.log");
        let mut command = Command::new(SCRIPT);
        command.arg("run").arg(directory.path()).args(["sh", "-c", "echo up; exec cat >/dev/null"]);
        command
            .env("NODES", settings.nodes.to_string())
            .env("NODE_CPUS", settings.cpus.to_string())
            .env("NODE_MB", settings.memory_mb.to_string())
            .env("PROCTRACK", if settings.cgroups { "cgroup" } else { "linuxproc" })
            .env("MEMORY_LIMITS", if settings.memory_limits { "1" } else { "" })
            .env("KILL_WAIT", settings.kill_wait_secs.to_string())
            .env("EXTRA", &settings.conf)
            .env("NODE_WRAPPER", if settings.locks { PathBuf::new() } else { compile("noflock.c", directory.path()) });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        // A signal to our group is not for it: it ends in good order after us.
        let mut child = command.process_group(0).spawn().unwrap();
        let lifeline = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let cluster = Self { directory, child, lifeline };
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n", "the cluster does not start: {}", std::fs::read_to_string(&log).unwrap());
        cluster
    }

    /// Returns the value of `SLURM_CONF`.
    pub fn conf(&self) -> PathBuf {
        self.directory.path().join("slurm.conf")
    }

    /// Returns where people work; it runs no jobs.
    pub fn login(&self) -> Machine<'_> {
        Machine { cluster: self, name: "login".to_owned() }
    }

    /// Returns a node, from 1 on.
    pub fn node(&self, number: usize) -> Machine<'_> {
        Machine { cluster: self, name: format!("node{number}") }
    }

    pub fn on_login(&self, command: &Command) -> Command {
        self.login().command(command)
    }

    pub fn on(&self, node: usize, command: &Command) -> Command {
        self.node(node).command(command)
    }

    /// Starts a server of this home on the login machine, and shakes hands.
    pub fn server(&self, home: &TestHome) -> Server {
        Server::start_with(self.on_login(&home.command()))
    }

    pub fn controller(&self) -> Daemon<'_> {
        Daemon { cluster: self, name: "controller" }
    }

    pub fn munge(&self) -> Daemon<'_> {
        Daemon { cluster: self, name: "munge" }
    }

    /// Runs a client of Slurm, or whatever else, on the login machine, with our environment's PATH alone.
    pub fn run(&self, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.directory.path());
        self.on_login(&command).stdin(Stdio::null()).output().unwrap().into()
    }

    /// Lists all jobs that are known, with these fields (as `%i %T`), which hold no spaces, except the last.
    #[track_caller]
    pub fn squeue(&self, format: &str) -> Vec<Vec<String>> {
        let fields = format.split_whitespace().count();
        let answer = self.run("squeue", ["--noheader", "--states=all", "--format", format]).ok();
        let row = |line: &str| line.splitn(fields, ' ').map(|field| field.trim().to_owned()).collect();
        answer.lines().map(row).collect()
    }

    /// Lists the states of the jobs of that name, oldest first.
    #[track_caller]
    pub fn job_states(&self, name: &str) -> Vec<String> {
        let words = ["--noheader", "--states=all", "--sort=i", "--format=%T", "--name", name];
        self.run("squeue", words).ok().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn control(&self, verb: &str, words: &[&str]) {
        let output = Command::new(SCRIPT).arg(verb).arg(self.directory.path()).args(words).output().unwrap();
        assert!(output.status.success(), "{verb} {words:?}: {output:?}");
    }
}

/// A machine of a cluster. Its processes have ids of its own; the file system is everybody's.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Machine<'_> {
    /// Makes of a command one that runs here, with `SLURM_CONF`, and with nothing else of our environment than PATH, unless it says
    /// otherwise. The process that is started is one that waits for it; who kills that kills it.
    pub fn command(&self, command: &Command) -> Command {
        let mut changed = Command::new(SCRIPT);
        changed.arg("on").arg(self.cluster.directory.path()).arg(&self.name).args(["env", "-i"]);
        let mut set = |name: &OsStr, value: &OsStr| {
            let mut word = name.to_owned();
            word.push("=");
            word.push(value);
            changed.arg(word);
        };
        set("PATH".as_ref(), &std::env::var_os("PATH").unwrap_or_default());
        set("SLURM_CONF".as_ref(), self.cluster.conf().as_os_str());
        command.get_envs().filter_map(|(name, value)| Some((name, value?))).for_each(|(name, value)| set(name, value));
        changed.arg(command.get_program()).args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            changed.current_dir(directory);
        }
        changed
    }

    /// Lists the living processes here that have to do with a home, with the ids that they have for the test.
    pub fn processes(&self, home: &TestHome) -> Vec<Seen> {
        let mut words = Command::new("readlink");
        words.arg("/proc/self/ns/pid");
        let here: Answer = self.command(&words).output().unwrap().into();
        let here = here.ok();
        let mut found = home.processes();
        found.retain(|one| {
            let there = std::fs::read_link(format!("/proc/{}/ns/pid", one.id.pid));
            there.is_ok_and(|there| there.as_os_str() == here.trim())
        });
        found
    }

    /// Finds the process of a home that has this id here, as a run's records name it.
    pub fn process(&self, home: &TestHome, pid: i64) -> Option<Seen> {
        self.processes(home).into_iter().find(|one| one.pid_there() == Some(pid))
    }

    /// Ends all its processes at once, as a power cut does.
    #[track_caller]
    pub fn crash(&self) {
        self.node("crash");
    }

    /// Starts it after a crash, and does not wait until it takes jobs.
    #[track_caller]
    pub fn start(&self) {
        self.node("start");
    }

    /// Makes it unreachable for the controller, as a broken network does: its jobs go on.
    #[track_caller]
    pub fn freeze(&self) {
        self.node("freeze");
    }

    #[track_caller]
    pub fn thaw(&self) {
        self.node("thaw");
    }

    #[track_caller]
    pub fn kill_slurmd(&self) {
        self.node("kill-slurmd");
    }

    #[track_caller]
    pub fn start_slurmd(&self) {
        self.node("start-slurmd");
    }

    #[track_caller]
    fn node(&self, verb: &str) {
        let number = self.name.strip_prefix("node").expect("a node");
        self.cluster.control("node", &[number, verb]);
    }
}

impl Seen {
    /// Returns the id that it has on its machine; `None` once it is gone.
    pub fn pid_there(&self) -> Option<i64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id.pid)).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        ids.split_whitespace().last()?.parse().ok()
    }
}

/// A daemon that all machines need.
#[derive(Debug, Clone, Copy)]
pub struct Daemon<'a> {
    cluster: &'a Cluster,
    name: &'static str,
}

impl Daemon<'_> {
    /// Kills the controller, which loses what it has not written down yet.
    #[track_caller]
    pub fn stop(&self) {
        self.cluster.control(self.name, &["stop"]);
    }

    /// Ends the controller in good order.
    #[track_caller]
    pub fn shut_down(&self) {
        self.cluster.control(self.name, &["shutdown"]);
    }

    /// Starts the controller, and waits until it answers.
    #[track_caller]
    pub fn start(&self) {
        self.cluster.control(self.name, &["start"]);
    }

    #[track_caller]
    pub fn freeze(&self) {
        self.cluster.control(self.name, &["freeze"]);
    }

    #[track_caller]
    pub fn thaw(&self) {
        self.cluster.control(self.name, &["thaw"]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.lifeline = None;
        let deadline = Instant::now() + END;
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                result => break result,
            }
        };
        // Harmless for one that has ended. With it goes all else.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            return;
        }
        let log = std::fs::read_to_string(self.directory.path().join("cluster.log")).unwrap_or_default();
        assert!(
            status.is_ok_and(|status| status.is_some_and(|status| status.success())),
            "it does not end well: {log}"
        );
        let left = processes::of(self.directory.path());
        assert!(left.is_empty(), "left behind: {left:?}");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "{mounts}");
    }
}

/// Returns the process that does the work, where a command of [`Machine::command`] was started, once that has answered; else the
/// process itself.
pub fn behind_entrance(process: Pid) -> Pid {
    let pid = process.as_raw_nonzero();
    if std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "nsenter") {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        if let Some(child) = children.split_whitespace().next().and_then(|child| Pid::from_raw(child.parse().ok()?)) {
            return child;
        }
    }
    process
}

/// Compiles a program of `tests/slurm`, and returns its path.
pub fn compile(source: &str, into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm").join(source);
    let program = into.join(source.file_stem().unwrap());
    let mut compile = Command::new("cc");
    assert!(compile.arg("-o").arg(&program).arg(source).status().unwrap().success());
    program
}

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a cluster's machines are namespaces, which needs root".to_owned());
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let there = |name: &&str| path.split(':').any(|directory| Path::new(directory).join(name).is_file());
    let programs = ["slurmctld", "slurmd", "munged", "sbatch", "nsenter", "setpriv", "bash", "pgrep"];
    let missing = programs.iter().find(|name| !there(name))?;
    Some(format!("there is no {missing}"))
}
