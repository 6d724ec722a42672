//! A run on disk before its agent runs: staged, launching, preparing. Whoever dies meanwhile, the way out is certain.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{PATIENCE, Scene, Seen, Server, TestHome, copy_program, text, unwatched, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn staged_an_old_directory_without_an_owner_is_removed_and_no_other() {
    let (home, mut server) = Scene::unwatched().start();
    let stage = |name: &str, age: u64| {
        let directory = home.root().join("running").join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("run.json"), "{}").unwrap();
        let lock = File::create(directory.join("lock")).unwrap();
        let made = SystemTime::now() - Duration::from_secs(age);
        File::open(&directory).unwrap().set_modified(made).unwrap();
        (directory, lock)
    };
    let (old, _) = stage(".0123456789abcdef", 90);
    let (young, _) = stage(".1123456789abcdef", 30);
    let (owned, lock) = stage(".2123456789abcdef", 90);
    lock.try_lock_shared().unwrap();
    server.clean_up();
    assert!(!old.exists() && young.exists() && owned.exists());
    assert_eq!(server.ok("list_runs", json!({}))["total"], 0, "none of them is a run");
    // A child that another thread starts may hold the file open for a moment.
    lock.unlock().unwrap();
    server.clean_up();
    assert!(!owned.exists());
}

#[test]
fn launching_a_trigger_that_is_killed_before_its_supervisor_leaves_a_failed_launch() {
    let home = TestHome::detached("");
    let program = home.scratch().join("moadim-mcp");
    copy_program(env!("CARGO_BIN_EXE_moadim-mcp"), &program);
    let mut server = Server::start_with(home.command_of(&program));
    let routine = server.create("Cut Short", "echo never", json!({}));
    // What would start the supervisor never does, so that the trigger waits for it, the run claimed.
    std::fs::rename(home.script("launcher", "exec sleep 300"), &program).unwrap();
    server.send_call("trigger_routine", json!({ "routine": routine }));
    let launcher = wait_for(PATIENCE, "the launcher", || home.processes_named("sleep").pop());
    let run = std::fs::read_dir(home.root().join("workbenches")).unwrap().next().unwrap().unwrap().file_name();
    let run = run.into_string().unwrap();
    server.signal(Signal::KILL);
    server.wait();
    launcher.kill();
    assert!(home.entry(&run).exists() && !home.entry(&run).join("started.json").exists());

    let mut next = Server::start(&home);
    let seen = next.wait_for_run(&run, "launch_failed");
    assert!(text(&seen["status_reason"]).contains("vanished before its agent had started"), "{seen}");
    // The first pass of the watchdog may have it in hand.
    wait_until("its entry to go", || {
        next.clean_up();
        !home.entry(&run).exists()
    });
    assert_eq!(home.history(&run).len(), 1);
    next.run_to(&routine, "succeeded");
}

/// Starts a server whose agents do not start before the file `gate` is there.
fn slow_to_start(home: &TestHome) -> Server {
    let gate = home.scratch().join("gate");
    // A run alone has a cookie: the server itself asks the shell for PATH.
    let wait = format!("[ -z \"$MOADIM_COOKIE\" ] || until [ -e {} ]; do sleep 0.05; done", gate.display());
    let shell = home.script("bash", &format!("{wait}\nexec /bin/sh \"$@\""));
    Server::start_with_env(home, &[("SHELL", shell)])
}

fn wait_for_preparing(server: &mut Server) -> String {
    wait_for(PATIENCE, "the run to prepare", || {
        let listed = server.ok("list_runs", json!({ "status": "preparing" }));
        Some(text(&listed["runs"].get(0)?["id"]))
    })
}

#[test]
fn preparing_a_supervisor_goes_on_when_its_trigger_is_killed() {
    let home = unwatched();
    let mut server = slow_to_start(&home);
    let mut other = Server::start(&home);
    let routine = server.create("Slow", "sleep 300", json!({}));
    server.send_call("trigger_routine", json!({ "routine": routine }));
    let run = wait_for_preparing(&mut other);
    // Once there is a supervisor; until then the trigger's end is the run's.
    wait_until("the supervisor", || home.entry(&run).join("shell.log").exists());
    server.signal(Signal::KILL);
    server.wait();
    assert!(home.entry(&run).join("env.json").exists());
    std::fs::write(home.scratch().join("gate"), "").unwrap();
    other.wait_for_run(&run, "running");
    wait_until("its environment to go", || !home.entry(&run).join("env.json").exists());
    assert_eq!(other.stop(&run)["status"], "stopped");
}

#[test]
fn preparing_a_supervisor_that_is_killed_is_a_failed_launch_and_nothing_of_it_stays() {
    let home = unwatched();
    let shell = home.script("bash", "sleep 300");
    let mut server = Server::start(&home);
    let mut patient = Server::start_with_env(&home, &[("SHELL", shell)]);
    let routine = server.create("Cut Short", "echo never", json!({}));
    let began = Instant::now();
    let call = patient.send_call("trigger_routine", json!({ "routine": routine }));
    let run = wait_for_preparing(&mut server);
    wait_until("the supervisor", || home.entry(&run).join("shell.log").exists());
    let all = home.processes();
    all.iter().find(|one| one.command.contains(" supervise ")).expect("a supervisor").kill();
    let error = patient.tool_answer(call).error();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}: {error}", began.elapsed());
    assert!(error.contains(&run) && error.contains("supervisor"), "{error}");
    server.clean_up();
    let seen = server.wait_for_run(&run, "launch_failed");
    assert!(text(&seen["status_reason"]).contains("supervisor"), "{seen}");
    wait_until("the shell to be ended", || home.processes_named("sleep").is_empty());
    assert!(!home.entry(&run).exists());
    assert_eq!(home.history(&run).len(), 1);
}

#[test]
fn preparing_a_run_can_be_stopped_and_its_trigger_says_so() {
    let home = unwatched();
    let mut server = slow_to_start(&home);
    let mut other = Server::start(&home);
    let routine = server.create("Slow", "echo never", json!({}));
    let call = server.send_call("trigger_routine", json!({ "routine": routine }));
    let run = wait_for_preparing(&mut other);
    let stopped = other.ok("stop_run", json!({ "run": run, "reason": "not this one" }))["run"].clone();
    assert_eq!((&stopped["status"], stopped.get("started_at")), (&json!("stopped"), None), "{stopped}");
    let error = server.tool_answer(call).error();
    assert!(error.contains("not this one"), "{error}");
    assert!(!home.raw_log(&run).contains("never"));
}

#[test]
fn a_supervisor_leaves_a_run_alone_that_is_not_its_to_start() {
    let (home, mut server) = Scene::unwatched().start();
    let finished = server.routine("Finished", "true").run_to("succeeded");
    let judged = server.start_run("Judged", "exec sleep 300", json!({}));
    let both = ["supervisor", "agent"].map(|who| home.noted(&judged, who));
    both.iter().for_each(Seen::kill);
    wait_until("both to be gone", || both.iter().all(|one| !one.id.is_alive()));
    let supervise = |run: &str| {
        let mut command = home.command();
        command.arg("supervise").arg(home.root()).arg(run);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let lock = File::open(home.entry(&judged).join("lock")).unwrap();
    lock.try_lock().unwrap();
    for run in [&finished.id, &judged] {
        let output = supervise(run);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{output:?}");
    }
    assert!(!home.entry(&finished).exists());
    assert_eq!((home.history(&finished).len(), home.history(&judged).len()), (1, 0));
    lock.unlock().unwrap();
    server.clean_up();
    assert_eq!(server.run(&judged)["status"], "lost");
}
