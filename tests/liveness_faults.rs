//! What goes wrong around a run that is alive underneath: in no case is its workbench removed, or the run called finished,
//! not even with a retention of a second that has passed. And what is dead is not kept alive by what it left open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod harness;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Host, PATIENCE, Seen, Server, TestHome, text, wait_for};
use moadim_mcp::clock::UnixSeconds;
use moadim_mcp::process_tree::ProcessId;
use moadim_mcp::run::id::RunId;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A run that hangs, and its agent; its retention is over as soon as it is.
struct Live {
    run: String,
    agent: Seen,
}

impl Live {
    fn start(home: &TestHome, server: &mut Server, title: &str) -> Self {
        Self::start_with(home, server, title, "sleep 300 & exec sleep 301")
    }

    fn start_with(home: &TestHome, server: &mut Server, title: &str, prompt: &str) -> Self {
        let run = server.start_run(title, prompt, json!({ "ttl_secs": 1 }));
        let agent = home.noted(&run, "agent");
        Self { run, agent }
    }

    /// Waits until nothing but its life keeps its workbench.
    fn outlive_its_retention(&self) {
        let id: RunId = self.run.parse().unwrap();
        wait_for(PATIENCE, "the retention to pass", || (id.stamp().age_secs_at(UnixSeconds::now()) > 1).then_some(()));
    }

    /// Cleans up, and makes sure that the run is shown as wanted, with the reason if there is one, and was not touched.
    #[track_caller]
    fn assert_spared(&self, home: &TestHome, server: &mut Server, status: &str, reason: Option<&str>) -> Value {
        self.outlive_its_retention();
        let report = server.clean_up();
        let seen = server.run(&self.run);
        assert_eq!(report["killed"], json!([]), "{report}");
        assert_eq!(seen["status"], status, "{seen}");
        let kept = kept_because(&report, &self.run);
        match reason {
            None => assert!(seen.get("status_reason").is_none() && kept.contains("alive"), "{seen} {kept}"),
            Some(reason) => {
                assert!(text(&seen["status_reason"]).contains(reason), "{seen}");
                assert!(kept.contains(reason), "{kept}");
                let problems = server.problems();
                let says = |one: &Value| text(&one["problem"]).contains(&self.run);
                let problem = problems.iter().find(|one| says(one)).unwrap_or_else(|| panic!("{problems:?}"));
                assert!(text(&problem["problem"]).contains(reason), "{problem}");
            }
        }
        assert!(self.agent.id.is_alive());
        assert!(home.entry(&self.run).exists() && home.workbench(&self.run).exists());
        assert_eq!((home.history(&self.run).len(), home.outcome(&self.run)), (0, None));
        report
    }
}

#[track_caller]
fn kept_because(report: &Value, run: &str) -> String {
    let kept = report["kept"].as_array().unwrap().iter().find(|one| one["run"] == *run);
    text(&kept.unwrap_or_else(|| panic!("{run} is not kept: {report}"))["reason"])
}

/// A home in which only a call cleans up, after the passes that are made at the start.
fn unwatched() -> TestHome {
    TestHome::detached("watchdog_interval_secs = 600\n")
}

/// A home with windows and a server that finds its tmux in the scripts of the test, and hardly anything else.
struct Windowed {
    server: Server,
    // Dropped last: it looks whether anything is left.
    home: TestHome,
}

impl Windowed {
    fn start() -> Option<Self> {
        let home = Host::Tmux.home()?;
        home.configure("session_host = \"tmux\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 600\n");
        for name in ["sh", "sleep", "tail", "tmux"] {
            use_real(&home, name);
        }
        let mut command = home.command();
        command.env("PATH", home.scripts());
        Some(Self { server: Server::start_with(command), home })
    }

    fn replace_tmux(&self, script: Option<&str>) {
        let _ = std::fs::remove_file(self.home.scripts().join("tmux"));
        if let Some(script) = script {
            self.home.script("tmux", script);
        }
    }

    /// Runs a client of our own server with the real tmux.
    fn tmux(&self, words: &[&str]) -> bool {
        harness::tmux(&self.home.root().join("tmux.sock"), words).status.success()
    }

    /// Tells whether a run can be watched.
    fn can_be_attached(&self, run: &str) -> bool {
        self.tmux(&["has-session", "-t", &format!("=moadim-{run}")])
    }

    /// Makes an old workbench as another program leaves it, with a session on the user's own server.
    fn start_foreign(&self) -> String {
        let run = "theirs-1000000000".to_owned();
        self.home.write(format!("workbenches/{run}/agent.log"), "theirs\n");
        let log = File::options().append(true).open(self.home.workbench(&run).join("agent.log")).unwrap();
        log.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
        self.users_tmux(&["new-session", "-d", "-s", &format!("moadim-{run}"), "sleep 300"]);
        run
    }

    fn users_tmux(&self, words: &[&str]) {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").env("TMUX_TMPDIR", self.home.tmux_directory()).args(["-f", "/dev/null"]).args(words);
        assert!(command.output().unwrap().status.success(), "{words:?}");
    }
}

/// Puts a real program among the scripts of the test.
fn use_real(home: &TestHome, name: &str) {
    let path = std::env::var("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.exists()).unwrap();
    std::fs::create_dir_all(home.scripts()).unwrap();
    let _ = std::fs::remove_file(home.scripts().join(name));
    std::os::unix::fs::symlink(real, home.scripts().join(name)).unwrap();
}

/// Longer than any of tmux's answers is waited for, and shorter than two of them.
const BOUND: Duration = Duration::from_millis(7_500);

#[test]
fn a_tmux_that_is_gone_strange_forbidden_or_hung_is_no_evidence() {
    let Some(mut windowed) = Windowed::start() else { return };
    let live = Live::start(&windowed.home, &mut windowed.server, "Live");
    let theirs = windowed.start_foreign();
    windowed.server.create("Next", "sleep 300", json!({}));
    let faults = [
        (None, "cannot run"),
        (Some("echo 'the moon is full' >&2; exit 1"), "the moon is full"),
        (Some("echo 'error connecting to /x (Permission denied)' >&2; exit 1"), "Permission denied"),
        (Some("exec sleep 60"), "within"),
    ];
    for (script, words) in faults {
        windowed.replace_tmux(script);
        let Windowed { home, server } = &mut windowed;
        let began = Instant::now();
        let report = live.assert_spared(home, server, "running", None);
        assert!(began.elapsed() < BOUND, "{words}: {:?}", began.elapsed());
        let kept = kept_because(&report, &theirs);
        assert!(kept.contains("nothing certain") && kept.contains(words), "{kept}");
        let began = Instant::now();
        let error = server.error("trigger_routine", json!({ "routine": "next" }));
        assert!(began.elapsed() < BOUND && error.contains(words), "{:?}: {error}", began.elapsed());
    }
    // A run ends all the same, whatever becomes of its window.
    let began = Instant::now();
    assert_eq!(windowed.server.stop(&live.run)["status"], "stopped");
    assert!(began.elapsed() < BOUND + BOUND, "{:?}", began.elapsed());
    use_real(&windowed.home, "tmux");
    assert!(kept_because(&windowed.server.clean_up(), &theirs).contains("alive"));
}

#[test]
fn a_socket_that_was_deleted_or_replaced_is_no_evidence_and_comes_back() {
    let Some(mut windowed) = Windowed::start() else { return };
    let live = Live::start(&windowed.home, &mut windowed.server, "Live");
    let theirs = windowed.start_foreign();
    let socket = windowed.home.root().join("tmux.sock");
    windowed.server.create("Next", "sleep 300", json!({}));

    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "").unwrap();
    let report = live.assert_spared(&windowed.home, &mut windowed.server, "running", None);
    assert!(kept_because(&report, &theirs).contains("tmux.sock"), "{report}");
    let error = windowed.server.error("trigger_routine", json!({ "routine": "next" }));
    assert!(error.contains("tmux.sock") && error.contains("move it away"), "{error}");

    std::fs::remove_file(&socket).unwrap();
    let next = windowed.server.trigger("next");
    assert!(windowed.can_be_attached(&next) && windowed.can_be_attached(&live.run));
    std::fs::remove_file(&socket).unwrap();
    live.assert_spared(&windowed.home, &mut windowed.server, "running", None);
    assert!(windowed.can_be_attached(&live.run), "a clean-up that had to know called the server back");
    for run in [&next, &live.run] {
        assert_eq!(windowed.server.stop(run)["status"], "stopped");
        assert!(!windowed.can_be_attached(run));
    }
}

#[test]
fn other_sessions_and_a_persons_windows_say_nothing() {
    let Some(mut windowed) = Windowed::start() else { return };
    let live = Live::start_with(
        &windowed.home,
        &mut windowed.server,
        "Live",
        "until [ -e \"$HOME/go\" ]; do sleep 0.05; done",
    );
    let name = format!("moadim-{}", live.run);
    windowed.users_tmux(&["new-session", "-d", "-s", &name, "sleep 300"]);
    let crowd = (0..60).map(|number| format!("moadim-{}{number}", live.run)).collect::<Vec<_>>();
    let words: Vec<&str> =
        crowd.iter().flat_map(|name| ["new-session", "-d", "-s", name.as_str(), "sleep 300", ";"]).collect();
    windowed.users_tmux(&words[..words.len() - 1]);
    live.assert_spared(&windowed.home, &mut windowed.server, "running", None);
    assert!(windowed.tmux(&["new-window", "-d", "-t", &format!("={name}:"), "sleep 300"]));
    live.assert_spared(&windowed.home, &mut windowed.server, "running", None);

    std::fs::write(windowed.home.user().join("go"), "").unwrap();
    windowed.server.wait_for_run(&live.run, "succeeded");
    assert!(!windowed.home.entry(&live.run).exists() && !windowed.can_be_attached(&live.run));
    windowed.users_tmux(&["has-session", "-t", &format!("={name}")]);
    // Its own window is gone, and those that remain keep nothing.
    let removed = wait_for(PATIENCE, "the retention to pass", || {
        let report = windowed.server.clean_up();
        (report["removed"] != json!([])).then_some(report)
    });
    assert_eq!(removed["removed"][0]["run"], live.run);
    assert!(!windowed.home.workbench(&live.run).exists());
}

#[test]
fn a_supervisor_that_was_killed_or_stopped_takes_no_run_along() {
    let home = unwatched();
    let mut server = Server::start_settled(&home);
    let [killed, stopped] = ["Killed", "Stopped"].map(|title| Live::start(&home, &mut server, title));
    let supervisor = home.noted(&killed.run, "supervisor");
    supervisor.kill();
    let stuck = home.noted(&stopped.run, "supervisor");
    stuck.signal(Signal::STOP);
    wait_for(PATIENCE, "the supervisor to be gone", || (!supervisor.id.is_alive()).then_some(()));
    killed.assert_spared(&home, &mut server, "running", Some("its supervisor is gone"));
    stopped.assert_spared(&home, &mut server, "running", None);
    stuck.signal(Signal::CONT);
    for live in [&killed, &stopped] {
        assert_eq!(server.stop(&live.run)["status"], "stopped");
        assert!(!live.agent.id.is_alive());
    }
}

#[test]
fn an_agent_that_empties_or_removes_its_workbench_lives_and_its_end_is_recorded() {
    let home = unwatched();
    let mut server = Server::start_settled(&home);
    let attacks =
        [("Clean", "git init -q . && git clean -fdxq"), ("Empty", "rm -rf ./* ./.*"), ("Gone", "rm -rf \"$PWD\"")];
    let lives = attacks.map(|(title, attack)| {
        let prompt = format!(
            "( {attack} ) >/dev/null 2>&1\n: > \"$HOME/{title}\"\nuntil [ -e \"$HOME/go\" ]; do sleep 0.05; done\nexit 7"
        );
        let live = Live::start_with(&home, &mut server, title, &prompt);
        wait_for(PATIENCE, "the attack", || home.user().join(title).exists().then_some(()));
        assert!(!home.workbench(&live.run).join("prompt.md").exists(), "{title}");
        live
    });
    let [clean, empty, gone] = &lives;
    clean.assert_spared(&home, &mut server, "running", None);
    empty.assert_spared(&home, &mut server, "running", None);
    assert!(!home.workbench(&gone.run).exists());
    assert_eq!(server.run(&gone.run)["status"], "running");

    std::fs::write(home.user().join("go"), "").unwrap();
    for live in &lives {
        let seen = server.wait_for_run(&live.run, "failed");
        assert_eq!(seen["exit_code"], 7, "{seen}");
        let (outcome, history) = (home.outcome(&live.run).unwrap(), home.history(&live.run));
        assert_eq!((&outcome["exit_code"], history.len()), (&json!(7), 1), "{outcome}");
        assert!(!home.entry(&live.run).exists());
    }
}

type Change = fn(&mut Value);

#[test]
fn an_entry_from_elsewhere_or_from_a_newer_version_is_not_judged() {
    let home = unwatched();
    let mut server = Server::start_settled(&home);
    let changes: [(&str, &str, &str, Change); 5] = [
        ("Machine", "unknown", "another machine", |record| record["machine"]["machine_id"] = json!("another")),
        ("Namespace", "unknown", "process namespace", |record| record["machine"]["pid_namespace"] = json!("pid:[1]")),
        ("Newer", "unknown", "update moadim-mcp", |record| record["version"] = json!(2)),
        ("Damaged", "unknown", "run.json", |record| *record = json!("?")),
        ("Boot", "running", "its supervisor is gone", |record| record["triggered"]["boot_id"] = json!("another")),
    ];
    let lives = changes.map(|(title, status, reason, change)| {
        let live = Live::start(&home, &mut server, title);
        let file = home.entry(&live.run).join("run.json");
        let before = std::fs::read(&file).unwrap();
        home.change_json(&file, change);
        (live, status, reason, file, before)
    });
    for (live, ..) in &lives {
        // Its lock is held, which proves its life whatever its record says; that the record is odd is said as well.
        live.outlive_its_retention();
        let kept = kept_because(&server.clean_up(), &live.run);
        assert!(kept.contains("alive") && server.run(&live.run)["status"] == "running", "{kept}");
        assert!(live.agent.id.is_alive() && home.workbench(&live.run).exists());
        home.noted(&live.run, "supervisor").kill();
    }
    wait_for(PATIENCE, "the supervisors to be gone", || {
        let supervised = home.processes().iter().any(|one| one.command.contains(" supervise "));
        (!supervised).then_some(())
    });
    for (live, status, reason, file, before) in lives {
        live.assert_spared(&home, &mut server, status, Some(reason));
        std::fs::write(file, before).unwrap();
        assert_eq!(server.stop(&live.run)["status"], "stopped");
    }
    assert_eq!(home.processes_named("sleep"), []);
}

#[test]
fn a_launch_that_was_cut_short_at_any_step_is_alive_while_its_trigger_is_and_failed_after_it() {
    let home = unwatched();
    let mut server = Server::start_settled(&home);
    let model = Live::start(&home, &mut server, "Model");
    let record = home.json(format!("running/{}/run.json", model.run)).unwrap();
    server.stop(&model.run);
    server.clean_up();
    // What is on disk after each step: the claim, the workbench, its prompt, its log.
    let steps: [&[&str]; 4] = [&[], &[""], &["", "prompt.md"], &["", "prompt.md", "agent.log"]];
    let runs: Vec<_> = steps
        .iter()
        .enumerate()
        .map(|(step, made)| {
            let run = format!("model-{}", 1_700_000_000 + step);
            let mut record = record.clone();
            record["id"] = json!(run);
            record["cookie"] = json!(format!("{step:032x}"));
            home.write(format!("running/{run}/run.json"), &record.to_string());
            home.write(format!("running/{run}/env.json"), "{}");
            let lock = File::create(home.entry(&run).join("lock")).unwrap();
            lock.lock_shared().unwrap();
            for name in *made {
                match name.is_empty() {
                    true => std::fs::create_dir(home.workbench(&run)).unwrap(),
                    false => std::fs::write(home.workbench(&run).join(name), "").unwrap(),
                }
            }
            (run, lock)
        })
        .collect();
    let report = server.clean_up();
    assert_eq!((&report["removed"], &report["killed"]), (&json!([]), &json!([])), "{report}");
    for (run, lock) in runs {
        assert_eq!(server.run(&run)["status"], "preparing");
        assert!(home.entry(&run).exists());
        // Its trigger dies.
        drop(lock);
        assert_eq!(server.run(&run)["status"], "launch_failed");
    }
    server.clean_up();
    for step in 0..steps.len() {
        let run = format!("model-{}", 1_700_000_000 + step);
        assert!(!home.entry(&run).exists());
        assert_eq!(home.history(&run)[0]["status"], "launch_failed");
    }
}

/// A home whose locks are granted to everybody: what some network file systems do.
const GRANT_ALL: &str = "int flock(int fd, int how) { (void)fd; (void)how; return 0; }\n";

/// One that knows no locks at all.
const GRANT_NONE: &str =
    "#include <errno.h>\nint flock(int fd, int how) { (void)fd; (void)how; errno = ENOLCK; return -1; }\n";

#[cfg(target_os = "linux")]
#[test]
fn where_locks_do_not_work_nothing_is_triggered_and_nothing_removed() {
    let home = unwatched();
    let mut sound = Server::start_settled(&home);
    let live = Live::start(&home, &mut sound, "Live");
    let over = sound.start_run("Over", "true", json!({ "ttl_secs": 1 }));
    sound.wait_for_run(&over, "succeeded");
    live.outlive_its_retention();
    for (name, source, status) in [("all", GRANT_ALL, "running"), ("none", GRANT_NONE, "unknown")] {
        let Some(shim) = compile(home.scratch(), name, source) else { return };
        let mut command = home.command();
        command.env("LD_PRELOAD", shim);
        let mut broken = Server::start_with(command);
        for (tool, arguments) in [("trigger_routine", json!({ "routine": "over" })), ("cleanup_workbenches", json!({}))]
        {
            let error = broken.error(tool, arguments);
            assert!(error.contains("locks do not work") && error.contains("MOADIM_HOME"), "{tool}: {error}");
        }
        let problems = broken.problems();
        assert!(problems.iter().any(|one| text(&one["problem"]).contains("locks do not work")), "{problems:?}");
        assert_eq!(broken.run(&live.run)["status"], status);
        assert!(live.agent.id.is_alive() && home.entry(&live.run).exists() && home.workbench(&over).exists());
        assert_eq!((home.history(&live.run).len(), home.outcome(&live.run)), (0, None));
    }
    wait_for(PATIENCE, "a sound server to remove what is over", || {
        sound.clean_up();
        (!home.workbench(&over).exists()).then_some(())
    });
    assert_eq!(sound.stop(&live.run)["status"], "stopped");
}

/// Compiles a library that takes the place of flock(2) in a program that loads it; `None`, loudly, without a compiler.
fn compile(directory: &Path, name: &str, source: &str) -> Option<std::path::PathBuf> {
    let (file, library) = (directory.join(format!("{name}.c")), directory.join(format!("{name}.so")));
    std::fs::write(&file, source).unwrap();
    match Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&file).output() {
        Ok(output) if output.status.success() => Some(library),
        failed => {
            eprintln!("SKIPPED: locks that do not work cannot be injected without a C compiler: {failed:?}");
            None
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_agent_and_its_children_inherit_no_lock() {
    for host in [Host::Tmux, Host::Detached] {
        let Some(home) = host.home() else { continue };
        let mut server = Server::start_settled(&home);
        let live = Live::start(&home, &mut server, "Live");
        wait_for(PATIENCE, "the child", || (home.processes_named("sleep").len() == 2).then_some(()));
        let supervisor = home.noted(&live.run, "supervisor");
        let mut looked_at = 0;
        for process in home.processes() {
            if process.id == supervisor.id || process.id.pid.cast_unsigned() == server.pid() {
                continue;
            }
            looked_at += usize::from(process.name == "sleep");
            // It may be gone by now.
            for descriptor in std::fs::read_dir(format!("/proc/{}/fd", process.id.pid)).into_iter().flatten().flatten()
            {
                let (number, file) =
                    (descriptor.file_name(), std::fs::read_link(descriptor.path()).unwrap_or_default());
                let number: i32 = number.to_str().unwrap().parse().unwrap();
                let is_lock = file.ends_with("lock") || file.starts_with(home.root().join("locks"));
                assert!(!is_lock, "{process:?} holds {file:?}");
                assert!(number <= 2 || process.name != "sleep", "{process:?} inherited {number}: {file:?}");
            }
        }
        assert_eq!(looked_at, 2);
        server.stop(&live.run);
    }
}

/// Ends all processes of a run at once, as far as anybody can tell.
fn cut_the_power(home: &TestHome, run: &str) {
    let supervisor = home.noted(run, "supervisor");
    supervisor.signal(Signal::STOP);
    for process in home.processes().into_iter().filter(|one| one.cookie == supervisor.cookie) {
        process.kill();
    }
    wait_for(PATIENCE, "the supervisor to be gone", || (!supervisor.id.is_alive()).then_some(()));
}

#[test]
fn neither_what_an_agent_left_open_nor_a_recycled_pid_keeps_a_dead_run_alive() {
    let home = unwatched();
    let mut server = Server::start_settled(&home);
    let prompt = "exec 9<\"$MOADIM_HOME/running/$MOADIM_RUN/lock\"\nenv -i setsid sleep 302 &\nsleep 301";
    let live = Live::start_with(&home, &mut server, "Dead", prompt);
    let orphan = wait_for(PATIENCE, "the orphan", || {
        home.processes_named("sleep").into_iter().find(|one| one.command == "sleep 302")
    });
    cut_the_power(&home, &live.run);
    assert!(orphan.id.is_alive(), "it holds the file of the lock, which is not the lock");
    let recycled = ProcessId { start: orphan.id.start + 1, ..orphan.id };
    home.change_json(format!("running/{}/started.json", live.run), |started| {
        started["supervisor"] = json!(recycled);
        started["agent"] = json!(recycled);
    });
    assert_eq!(server.run(&live.run)["status"], "lost");
    server.clean_up();
    let left = orphan.id.is_alive();
    orphan.kill();
    assert!(left, "what is not recognised is not touched");
    assert!(!home.entry(&live.run).exists());
    assert_eq!(home.history(&live.run)[0]["status"], "lost");
}

#[test]
fn a_run_whose_entry_was_deleted_by_hand_is_kept_for_its_processes() {
    let home = unwatched();
    let mut server = Server::start_settled(&home);
    let live = Live::start(&home, &mut server, "Live");
    std::fs::remove_dir_all(home.entry(&live.run)).unwrap();
    live.outlive_its_retention();
    let report = server.clean_up();
    assert_eq!((&report["removed"], &report["killed"]), (&json!([]), &json!([])), "{report}");
    assert!(kept_because(&report, &live.run).contains("alive"), "{report}");
    assert_eq!(server.run(&live.run)["status"], "unknown");
    assert!(live.agent.id.is_alive() && home.workbench(&live.run).exists());
    live.agent.kill();
    let removed = wait_for(PATIENCE, "the workbench to go", || {
        let report = server.clean_up();
        (report["removed"] != json!([])).then_some(report)
    });
    assert_eq!(removed["removed"][0]["run"], live.run);
}
