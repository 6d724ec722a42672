//! A process of a run that became another user's is not ours to signal: it is reported by pid and name, and as long as it lives
//! its run is neither called finished nor removed. Only root can become somebody else, so these tests need root.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    Host, Live, PATIENCE, Seen, Server, TestHome, assert_has, kept_because, root_may_become_another_user, text,
    wait_for, wait_until,
};
use serde_json::json;

on_both_hosts! {
    what_became_another_users_is_reported_and_its_run_is_kept,
    what_became_another_users_after_a_normal_exit_keeps_the_run_too,
}

/// Becomes somebody else, keeping the cookie; and, with a parent that is gone, without it.
const CHANGED: &str = "\
setpriv --reuid=65534 --clear-groups sleep 308 &
(setpriv --reuid=65534 --clear-groups env -i sleep 309 &)
";

fn changed(home: &TestHome) -> Vec<Seen> {
    let found = wait_for(PATIENCE, "both", || {
        let found: Vec<Seen> = home
            .processes_named("sleep")
            .into_iter()
            .filter(|one| ["sleep 308", "sleep 309"].contains(&&*one.command))
            .collect();
        (found.len() == 2).then_some(found)
    });
    for one in &found {
        let user = Command::new("ps").args(["-o", "uid=", "-p", &one.id.pid.to_string()]).output().unwrap().stdout;
        assert_eq!(String::from_utf8(user).unwrap().trim(), "65534", "{one:?}");
    }
    found
}

/// Makes sure that both are named as survivors, wherever a person would look, and that nothing was touched.
#[track_caller]
fn assert_reported(home: &TestHome, server: &mut Server, run: &str, changed: &[Seen]) {
    let began = Instant::now();
    let report = server.clean_up();
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_has(&report, json!({ "removed": [], "killed": [] }));
    let kept = kept_because(&report, run);
    let seen = server.run(run);
    assert_eq!(seen["status"], "running", "{seen}");
    let problems = server.problems();
    let problem = problems.iter().map(|one| text(&one["problem"])).find(|one| one.contains(run));
    let problem = problem.unwrap_or_else(|| panic!("{problems:?}"));
    let failed = report["failed"].to_string();
    for one in changed {
        let name = format!("sleep (pid {})", one.id.pid);
        for said in [&text(&seen["status_reason"]), &problem, &failed, &kept] {
            assert!(said.contains(&name), "{name}: {said}");
        }
        assert!(one.id.is_alive());
    }
    assert!(home.entry(run).exists() && home.workbench(run).exists());
    assert_eq!((home.history(run).len(), home.outcome(run)), (0, None));
}

/// Ends them, as the administrator would: then the run is over, and can go.
fn let_go(home: &TestHome, server: &mut Server, run: &str, changed: &[Seen]) {
    changed.iter().for_each(Seen::kill);
    wait_until("the workbench to go", || {
        server.clean_up();
        !home.workbench(run).exists()
    });
    assert_eq!(home.history(run).len(), 1);
    assert_eq!(home.history(run)[0]["status"], "stopped");
}

fn what_became_another_users_is_reported_and_its_run_is_kept(home: TestHome, _: Host) {
    if !root_may_become_another_user() {
        return;
    }
    let mut server = Server::start(&home);
    let live = Live::start_with(&home, &mut server, "Changed", &format!("{CHANGED}exec sleep 301"));
    let changed = changed(&home);
    let began = Instant::now();
    let error = server.error("stop_run", json!({ "run": live.run }));
    // The grace of a second and ten more, and what a busy machine adds.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    for one in &changed {
        assert!(error.contains(&format!("sleep (pid {})", one.id.pid)), "{error}");
    }
    assert!(!live.agent.id.is_alive(), "what can be ended is");
    live.outlive_its_retention();
    assert_reported(&home, &mut server, &live.run, &changed);
    let_go(&home, &mut server, &live.run, &changed);
}

fn what_became_another_users_after_a_normal_exit_keeps_the_run_too(home: TestHome, _: Host) {
    if !root_may_become_another_user() {
        return;
    }
    let mut server = Server::start(&home);
    let prompt = format!("{CHANGED}until [ -e \"$HOME/go\" ]; do sleep 0.05; done");
    let live = Live::start_with(&home, &mut server, "Changed", &prompt);
    let changed = changed(&home);
    let supervisor = home.noted(&live.run, "supervisor");
    std::fs::write(home.user().join("go"), "").unwrap();
    wait_until("the supervisor to give up", || !supervisor.id.is_alive());
    live.outlive_its_retention();
    assert_reported(&home, &mut server, &live.run, &changed);
    let_go(&home, &mut server, &live.run, &changed);
}
