//! What goes wrong around a run that is alive underneath, but for its window: in no case is its workbench removed, or the run
//! called finished, not even with a retention of a second that has passed. And what is dead is not kept alive by what it
//! left open.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::harness::{
    Host, Live, PATIENCE, Scene, Server, assert_has, cut_the_power, kept_because, text, wait_for, wait_until,
};
use moadim_mcp::process_tree::ProcessId;
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_supervisor_that_was_killed_or_stopped_takes_no_run_along() {
    let (home, mut server) = Scene::unwatched().start();
    let [killed, stopped] = ["Killed", "Stopped"].map(|title| Live::start(&home, &mut server, title));
    let supervisor = home.noted(&killed.run, "supervisor");
    supervisor.kill();
    let stuck = home.noted(&stopped.run, "supervisor");
    stuck.signal(Signal::STOP);
    wait_until("the supervisor to be gone", || !supervisor.id.is_alive());
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
    let (home, mut server) = Scene::unwatched().start();
    let attacks =
        [("Clean", "git init -q . && git clean -fdxq"), ("Empty", "rm -rf ./* ./.*"), ("Gone", "rm -rf \"$PWD\"")];
    let lives = attacks.map(|(title, attack)| {
        let prompt = format!(
            "( {attack} ) >/dev/null 2>&1\n: > \"$HOME/{title}\"\nuntil [ -e \"$HOME/go\" ]; do sleep 0.05; done\nexit 7"
        );
        let live = Live::start_with(&home, &mut server, title, &prompt);
        wait_until("the attack", || home.user().join(title).exists());
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
    let (home, mut server) = Scene::unwatched().start();
    let changes: [(&str, &str, &str, Change); 5] = [
        ("Machine", "unknown", "another machine", |record| record["machine"]["machine_id"] = json!("another")),
        ("Namespace", "unknown", "another machine or container", |record| {
            record["machine"]["pid_namespace"] = json!("pid:[1]")
        }),
        ("Newer", "unknown", "update moadim-mcp", |record| record["version"] = json!(3)),
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
    wait_until("the supervisors to be gone", || {
        let supervised = home.processes().iter().any(|one| one.command.contains(" supervise "));
        !supervised
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
    let (home, mut server) = Scene::unwatched().start();
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
    assert_has(&report, json!({ "removed": [], "killed": [] }));
    for (run, lock) in runs {
        assert_eq!(server.run(&run)["status"], "preparing");
        assert!(home.entry(&run).exists());
        // Its trigger dies. A child that another thread starts may hold the file open for a moment.
        lock.unlock().unwrap();
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
    let (home, mut sound) = Scene::unwatched().start();
    let live = Live::start(&home, &mut sound, "Live");
    let over = sound.routine("Over", "true").with(json!({ "ttl_secs": 1 })).run_to("succeeded");
    live.outlive_its_retention();
    for (name, source, reason) in [("all", GRANT_ALL, "locks do not work"), ("none", GRANT_NONE, "cannot lock")] {
        let Some(shim) = compile(home.scratch(), name, source) else { return };
        let mut broken = Server::start_with_env(&home, &[("LD_PRELOAD", shim)]);
        for (tool, arguments) in [("trigger_routine", json!({ "routine": "over" })), ("cleanup_workbenches", json!({}))]
        {
            let error = broken.error(tool, arguments);
            assert!(error.contains("locks do not work") && error.contains("MOADIM_HOME"), "{tool}: {error}");
        }
        let problems = broken.problems();
        assert!(problems.iter().any(|one| text(&one["problem"]).contains("locks do not work")), "{problems:?}");
        let seen = broken.run(&live.run);
        assert!(seen["status"] == "unknown" && text(&seen["status_reason"]).contains(reason), "{seen}");
        let says = |one: &&Value| text(&one["problem"]).contains(&live.run);
        let problem = problems.iter().find(says).unwrap_or_else(|| panic!("{problems:?}"));
        assert!(text(&problem["problem"]).contains(reason), "{problem}");
        let foreseen = broken.call_tool("cleanup_workbenches", json!({ "dry_run": true }));
        assert!(foreseen.is_error || kept_because(&foreseen.structured, &live.run).contains(reason), "{foreseen:?}");
        assert!(live.agent.id.is_alive() && home.entry(&live.run).exists() && home.workbench(&over).exists());
        assert_eq!((home.history(&live.run).len(), home.outcome(&live.run)), (0, None));
    }
    wait_until("a sound server to remove what is over", || {
        sound.clean_up();
        !home.workbench(&over).exists()
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
        let mut server = Server::start(&home);
        let live = Live::start(&home, &mut server, "Live");
        wait_until("the child", || home.processes_named("sleep").len() == 2);
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
                if number > 2 && process.name == "sleep" {
                    // Its loader may still have a library open.
                    wait_until(&format!("{process:?} to close {number}: {file:?}"), || {
                        std::fs::read_link(descriptor.path()).is_err()
                    });
                }
            }
        }
        assert_eq!(looked_at, 2);
        server.stop(&live.run);
    }
}

#[test]
fn neither_what_an_agent_left_open_nor_a_recycled_pid_keeps_a_dead_run_alive() {
    let (home, mut server) = Scene::unwatched().start();
    let prompt = "exec 9<\"$MOADIM_HOME/running/$MOADIM_RUN/lock\"\nenv -i setsid sleep 302 &\nsleep 301";
    let live = Live::start_with(&home, &mut server, "Dead", prompt);
    let orphan = wait_for(PATIENCE, "the orphan", || {
        home.processes_named("sleep").into_iter().find(|one| one.command == "sleep 302")
    });
    let processes = format!("running/{}/processes.json", live.run);
    wait_for(PATIENCE, "it to be written down", || home.json(&processes));
    cut_the_power(&home, &live.run);
    assert!(orphan.id.is_alive(), "it holds the file of the lock, which is not the lock");
    let recycled = ProcessId { start: orphan.id.start + 1, ..orphan.id };
    home.change_json(&processes, |record| record["processes"]["known"] = json!([recycled]));
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
    let (home, mut server) = Scene::unwatched().start();
    let live = Live::start(&home, &mut server, "Live");
    std::fs::remove_dir_all(home.entry(&live.run)).unwrap();
    live.outlive_its_retention();
    let report = server.clean_up();
    assert_has(&report, json!({ "removed": [], "killed": [] }));
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
