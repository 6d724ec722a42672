//! Folders of a home on file systems of their own, and a home that cannot be written: real mounts, which need root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{Mount, PATIENCE, Server, TestHome, is_body, text, wait_for, with_mounts};
use moadim_mcp::home::Home;
use moadim_mcp::home::lock::{FileLock, Mode};
use serde_json::{Value, json};

fn home() -> TestHome {
    let home = TestHome::detached("watchdog_interval_secs = 1\n");
    home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    home
}

/// Makes a directory as private as the program wants its folders.
fn private(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    path
}

fn reported(problems: &[Value], folder: &Path) -> bool {
    let shown = folder.display().to_string();
    problems.iter().any(|one| text(&one["problem"]).contains(&format!("umount '{shown}'")))
}

#[test]
fn a_folder_on_a_mount_of_its_own_is_refused_at_start_and_trigger() {
    with_mounts("mounts::folders");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn folders() {
    if !is_body() {
        return;
    }
    let home = home();
    let mut server = Server::start(&home);
    server.ok("create_routine", json!({ "title": "First", "agent": "quick", "prompt": "true" }));
    let elsewhere = private(home.scratch().join("elsewhere"));
    let elsewhere = elsewhere.to_str().unwrap();
    for name in ["running", "workbenches", "trash"] {
        let folder = home.root().join(name);
        let tmpfs = ["-t", "tmpfs", "-o", "mode=0700", "none"];
        // Another file system; another directory of the same one; and the folder itself, which looks like nothing at all.
        let itself = folder.to_str().unwrap().to_owned();
        for words in [&tmpfs[..], &["--bind", elsewhere], &["--bind", &itself]] {
            let mount = Mount::new(words, &folder);
            let error = server.error("trigger_routine", json!({ "routine": "first" }));
            assert!(error.contains(&format!("umount '{}'", folder.display())), "{error}");
            assert!(reported(&server.problems(), &folder), "{name} {words:?}");
            let refused = server.error("cleanup_workbenches", json!({}));
            assert!(refused.contains(folder.to_str().unwrap()), "{refused}");
            let mut another = Server::start(&home);
            wait_for(PATIENCE, "the log to tell", || another.stderr().contains(folder.to_str().unwrap()).then_some(()));
            another.close_stdin_and_wait();
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing was written");
            drop(mount);
            assert!(!reported(&server.problems(), &folder));
        }
    }
    let run = server.trigger("first");
    server.wait_for_run(&run, "succeeded");
}

#[test]
fn a_workbench_or_the_routines_on_a_mount_of_their_own_work() {
    with_mounts("mounts::single");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn single() {
    if !is_body() {
        return;
    }
    let home = home();
    let routines = private(home.root().join("routines"));
    let _routines = Mount::new(&["-t", "tmpfs", "-o", "mode=0700", "none"], &routines);
    let mut server = Server::start(&home);
    server.ok(
        "create_routine",
        json!({ "title": "First", "agent": "quick", "prompt": "until [ -e go ]; do sleep 0.05; done", "ttl_secs": 1 }),
    );
    let run = server.trigger("first");
    let workbench = home.workbench(&run);
    let mount = Mount::new(&["-t", "tmpfs", "-o", "mode=0700", "none"], &workbench);
    // Where the outcome belongs is something of the agent's.
    fs::create_dir_all(workbench.join("outcome.json/full")).unwrap();
    let agent = PathBuf::from(format!("/proc/{}/cwd", home.noted(&run, "agent").id.pid));
    fs::write(agent.join("go"), "").unwrap();
    wait_for(PATIENCE, "the end to be recorded", || (!home.entry(&run).exists()).then_some(()));
    assert_eq!(home.outcome(&run).unwrap()["status"], "succeeded");
    assert_eq!(server.run(&run)["status"], "succeeded");
    let report = wait_for(PATIENCE, "its retention to pass", || {
        let report = server.clean_up();
        (report["failed_total"] != 0).then_some(report)
    });
    assert!(text(&report["failed"][0]["error"]).contains("umount"), "{report}");
    drop(mount);
    server.ok("delete_routine", json!({ "routine": "first" }));
    assert!(fs::read_dir(&routines).unwrap().all(|left| left.unwrap().file_name().to_string_lossy().starts_with('.')));
}

#[test]
fn a_home_that_cannot_be_written_can_be_looked_at() {
    with_mounts("mounts::read_only");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn read_only() {
    if !is_body() {
        return;
    }
    let home = home();
    let root = home.root();
    let mut server = Server::start(&home);
    let run = server.start_run("Runs", "sleep 300", json!({}));
    // Over what is open for writing already.
    let mount = Mount::read_only(&root);
    let opened = Home::open(&root).unwrap();
    opened.check_lockable().unwrap();
    let held = FileLock::acquire(&opened.history_lock(), Mode::Exclusive, Duration::ZERO).unwrap();
    assert!(FileLock::try_existing(&opened.history_lock(), Mode::Exclusive).is_err_and(|error| error.is_held()));
    drop(held);
    let mut another = Server::start(&home);
    assert_eq!(another.run(&run)["status"], "running");
    assert_eq!(another.ok("list_routines", json!({}))["total"], 1);
    let problems = another.problems();
    let says = |words: &str| problems.iter().any(|one| text(&one["problem"]).contains(words));
    assert!(!says("locks do not work") && !says("has not registered"), "{problems:?}");
    another.close_stdin_and_wait();
    drop(mount);
    assert_eq!(server.stop(&run)["status"], "stopped");
}

#[test]
fn what_a_person_stops_in_a_home_that_cannot_be_written_is_stopped() {
    with_mounts("mounts::stopped");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn stopped() {
    if !is_body() {
        return;
    }
    let home = home();
    let root = home.root();
    let mut server = Server::start(&home);
    let runs = ["With", "Without"].map(|title| server.start_run(title, "sleep 300 & exec sleep 301", json!({})));
    home.noted(&runs[1], "supervisor").kill();
    let mount = Mount::read_only(&root);
    for run in &runs {
        let answer = server.ok("stop_run", json!({ "run": run, "reason": "enough" }));
        assert!(text(&answer["note"]).contains("Read-only file system"), "{answer}");
    }
    assert!(home.processes_named("sleep").is_empty());
    drop(mount);
    for run in &runs {
        wait_for(PATIENCE, "its end to be recorded", || (!home.entry(run).exists()).then_some(()));
        assert_eq!(home.outcome(run).unwrap()["status"], "stopped");
        assert_eq!(home.history(run).len(), 1);
    }
}
