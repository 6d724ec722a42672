//! A process of a run that is not below its supervisor, such as one that a daemon of somebody else started for it, ends with
//! the run, and is asked first.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use crate::harness::{Scene, TestHome, text, wait_until};
use moadim_mcp::process_tree::COOKIE_VARIABLE;
use serde_json::json;

/// Starts a process with a run's cookie as our child.
fn start_elsewhere(home: &TestHome, run: &str) -> Child {
    let cookie = text(&home.json(format!("running/{run}/run.json")).unwrap()["cookie"]);
    let mut sleep = Command::new("sleep");
    sleep.arg("302").env(COOKIE_VARIABLE, &cookie).current_dir(home.scratch()).stdin(Stdio::null());
    let child = sleep.spawn().unwrap();
    // One that is in the middle of becoming it shows no cookie.
    wait_until("the process elsewhere", || {
        home.processes_named("sleep").iter().any(|one| one.cookie.as_ref() == Some(&cookie))
    });
    child
}

#[test]
fn what_runs_elsewhere_is_asked_and_ends_with_its_run() {
    let (home, mut server) = Scene::unwatched().start();
    for (title, prompt) in [("Alone", "exec sleep 301"), ("Stubborn", "trap '' TERM; while :; do sleep 0.1; done")] {
        let run = server.start_run(title, prompt, json!({}));
        let mut elsewhere = start_elsewhere(&home, &run);
        assert_eq!(server.stop(&run)["status"], "stopped");
        assert_eq!(elsewhere.wait().unwrap().signal(), Some(15), "{title}");
    }
}

#[test]
fn what_runs_elsewhere_is_left_behind_by_an_agent_that_exits() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Leaves", "until [ -e leave ]; do sleep 0.05; done", json!({}));
    let mut elsewhere = start_elsewhere(&home, &run);
    std::fs::write(home.workbench(&run).join("leave"), "").unwrap();
    assert_eq!(elsewhere.wait().unwrap().signal(), Some(15));
    wait_until("the record", || !home.entry(&run).exists());
    let ended = server.run(&run);
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(ended["status_reason"], "its agent left processes behind, which were ended (1)");
}
