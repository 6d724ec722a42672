//! The supervisor under faults: whatever cannot be read or written, no agent outlives it unwatched.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Era, Server, wait_until};
use moadim_mcp::agent::{AgentCommand, StdinSource};
use moadim_mcp::clock::{Moment, UnixSeconds};
use moadim_mcp::environment::Variables;
use moadim_mcp::home::Home;
use moadim_mcp::home::config::Config;
use moadim_mcp::process_tree::{COOKIE_VARIABLE, Cookie, KnownProcesses, ProcessId, Reach, end_tree};
use moadim_mcp::run::claim::{Claim, Wanted, claim};
use moadim_mcp::run::context::{Context, Program};
use moadim_mcp::run::outcome_file::read_outcome;
use moadim_mcp::run::record::{Environment, Machine, Manifest, Origin, Outcome, RECORD_VERSION};
use moadim_mcp::run::status::Status;
use moadim_mcp::run::workbench::Workbench;
use moadim_mcp::session::HostKind;
use rustix::process::Signal;
use serde_json::json;

/// A run whose agent works for ever, with its supervisor as our child and no server anywhere.
struct Scene {
    _directory: tempfile::TempDir,
    home: Home,
    claim: Claim,
    supervisor: Child,
}

const CONFIG: &str = "session_host = 'detached'\nkill_grace_secs = 1\ndefault_max_runtime_secs = 7200\n";

impl Scene {
    /// Starts it as if it had been triggered `age_secs` ago.
    fn start(age_secs: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path().join("home")).unwrap();
        std::fs::write(home.config_file(), CONFIG).unwrap();
        let routine = home.routines().join("hang");
        std::fs::create_dir(&routine).unwrap();
        let text = "title = 'Hang'\nagent = 'hang'\nenabled = true\ntags = []\n\
                    created_at = '2026-01-01T00:00:00Z'\nupdated_at = '2026-01-01T00:00:00Z'\n";
        std::fs::write(routine.join("routine.toml"), text).unwrap();
        std::fs::write(routine.join("prompt.md"), "hang").unwrap();

        let cookie = Cookie::random().unwrap();
        let now = Moment::now();
        let triggered = Moment {
            at: UnixSeconds(now.at.0 - age_secs),
            since_boot_ms: now.since_boot_ms.saturating_sub(age_secs * 1000),
            // A machine that booted after that is told apart by the wall clock.
            boot_id: if now.since_boot_ms < age_secs * 1000 { String::new() } else { now.boot_id },
        };
        let environment =
            Environment { inherited: Variables::new(), set: Variables::new(), secret: Default::default() };
        let config = Config::load(&home.config_file()).unwrap();
        let context = Context::of_supervisor(home.clone(), config, Program::current().unwrap());
        let routine = "hang".parse().unwrap();
        let wanted = Wanted { routine: &routine, from: now.at, environment: &environment, continues: None };
        let claim = claim(&context, &wanted, |id| {
            Ok(Manifest {
                job: None,
                precheck: None,
                verify: None,
                version: RECORD_VERSION,
                id: id.clone(),
                triggered: triggered.clone(),
                cookie,
                machine: Machine::this(),
                home: Some(home.identity().unwrap()),
                max_runtime_secs: None,
                command: AgentCommand {
                    agent: "hang".into(),
                    command: "/bin/sh".into(),
                    args: ["-c", "echo at work; while :; do sleep 1; done"].map(str::to_owned).to_vec(),
                    stdin: StdinSource::None,
                    ..AgentCommand::default()
                },
                session_host: HostKind::Detached,
                origin: Origin::Call,
                text: None,
                continues: None,
                workbench: None,
                asks_for_report: false,
                repositories: vec![],
                missing_env: vec![],
            })
        })
        .unwrap();
        std::fs::create_dir(Workbench::of(&home, claim.entry.id()).directory()).unwrap();
        // SIGXFSZ is ignored, so that a file size limit is an error like that of a full disk.
        let supervisor = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_moadim-mcp"), "supervise"])
            .arg(home.root())
            .arg(claim.entry.id().to_string())
            .env(COOKIE_VARIABLE, cookie.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let scene = Self { _directory: directory, home, claim, supervisor };
        wait_until("the agent works", || {
            scene.claim.entry.started().is_ok_and(|started| started.is_some())
                && std::fs::read_to_string(scene.workbench().log()).is_ok_and(|log| log.contains("at work"))
        });
        scene
    }

    fn workbench(&self) -> Workbench {
        Workbench::of(&self.home, self.claim.entry.id())
    }

    fn agent(&self) -> ProcessId {
        self.claim.entry.started().unwrap().unwrap().agent
    }

    fn supervisor(&self) -> ProcessId {
        self.claim.entry.started().unwrap().unwrap().supervisor
    }

    fn end_file(&self) -> PathBuf {
        self.claim.entry.directory().join("end.json")
    }

    fn outcome(&self) -> Option<Outcome> {
        read_outcome(&self.workbench(), self.claim.entry.id()).ok()
    }

    fn set_max_runtime(&self, secs: u64) {
        let file = self.home.config_file();
        std::fs::write(&file, format!("{CONFIG}max_runtime_ceiling_secs = {secs}\n")).unwrap();
    }

    /// Starts a server on this home; a file size limit is an error for it, too.
    fn server(&self) -> Server {
        self.server_ignoring("XFSZ")
    }

    fn server_ignoring(&self, signal: &str) -> Server {
        // Not every sh can ignore SIGCHLD.
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("trap '' {signal}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_moadim-mcp")])
            .env("MOADIM_HOME", self.home.root());
        let mut server = Server::spawn(command);
        server.introduce(Era::Legacy("2025-11-25"));
        server
    }

    fn history_lines(&self) -> usize {
        std::fs::read_to_string(self.home.history_file()).unwrap_or_default().lines().count()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let none = KnownProcesses::default();
        let _ = end_tree(&self.claim.manifest.cookie, none, Reach::Everywhere, Duration::ZERO, &mut |_| {
            let _ = self.supervisor.try_wait();
        });
        let _ = self.supervisor.wait();
    }
}

#[test]
fn a_damaged_request_does_not_leave_a_hung_agent_alive() {
    let scene = Scene::start(0);
    let agent = scene.agent();
    std::fs::write(scene.end_file(), "{").unwrap();
    scene.set_max_runtime(1);
    wait_until("the hung agent is dead", || !agent.is_alive());
    wait_until("its end is recorded", || scene.outcome().is_some_and(|outcome| outcome.status == Status::TimedOut));
}

#[test]
fn settings_that_cannot_be_read_any_more_end_no_run() {
    // Older than the default runtime, and within that of this home.
    let scene = Scene::start(4000);
    let (agent, supervisor) = (scene.agent(), scene.supervisor());
    let half_written = scene.home.root().join("half");
    std::fs::write(&half_written, "default_max_runtime_").unwrap();
    std::fs::rename(half_written, scene.home.config_file()).unwrap();
    // Two looks at the bound.
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        assert!(agent.is_alive() && supervisor.is_alive() && !scene.end_file().exists(), "{:?}", scene.outcome());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_home_that_is_gone_is_no_reason_to_leave_the_agent() {
    let scene = Scene::start(0);
    let (agent, supervisor) = (scene.agent(), scene.supervisor());
    std::fs::rename(scene.home.root(), scene.home.root().with_extension("gone")).unwrap();
    supervisor.signal(Signal::TERM).unwrap();
    wait_until("both are gone", || !agent.is_alive() && !supervisor.is_alive());
    assert!(!scene.home.root().exists(), "it was not made again");
}

#[test]
fn a_host_that_ignores_its_children_gets_its_runs() {
    let scene = Scene::start(0);
    let agent = "command = '/bin/sh'\nargs = ['-c', 'sleep 60']\nstdin = 'none'\nlogin_shell = false\n";
    std::fs::write(scene.home.agents().join("hang.toml"), agent).unwrap();
    let mut server = scene.server_ignoring("CHLD");
    let answer = server.call_tool("trigger_routine", json!({ "routine": "hang", "overlap": "allow" })).ok();
    assert_eq!(answer["run"]["status"], "running", "{answer}");
    server.call_tool("stop_run", json!({ "run": answer["run"]["id"] })).ok();
}

#[test]
fn a_run_whose_start_cannot_be_read_is_ended_by_its_cookie() {
    let mut scene = Scene::start(0);
    let agent = scene.agent();
    scene.supervisor().signal(Signal::KILL).unwrap();
    scene.supervisor.wait().unwrap();
    std::fs::write(scene.claim.entry.directory().join("started.json"), "{").unwrap();
    let answer = scene.server().call_tool("stop_run", json!({ "run": scene.claim.entry.id() }));
    assert!(!agent.is_alive(), "{answer:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_a_run_can_be_stopped() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let scene = Scene::start(0);
    let agent = scene.agent();
    let mut server = scene.server();
    let pid = Pid::from_raw(server.pid().try_into().unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: Some(0), maximum: None }).unwrap();
    let answer = server.call_tool("stop_run", json!({ "run": scene.claim.entry.id() }));
    assert!(!agent.is_alive(), "{answer:?}");
    assert_eq!(scene.outcome().unwrap().status, Status::Stopped);
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_the_agent_is_ended_and_its_end_is_recorded_once_there_is_room() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let scene = Scene::start(0);
    let (agent, supervisor) = (scene.agent(), scene.supervisor());
    let limit = |bytes| {
        let pid = Pid::from_raw(supervisor.pid);
        prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap()
    };
    limit(Some(0));
    supervisor.signal(Signal::TERM).unwrap();
    wait_until("the agent is dead", || !agent.is_alive());
    assert!(scene.outcome().is_none() && supervisor.is_alive());
    limit(None);
    wait_until("its end is recorded", || !scene.claim.entry.exists());
    assert_eq!(scene.outcome().unwrap().status, Status::Interrupted);
    assert_eq!(scene.history_lines(), 1);
}
