//! An end from outside, as at a shutdown or a logout: `interrupted`, whichever process the signal reaches first.

use crate::harness::{PATIENCE, Scene, assert_has, text, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::json;

/// Agents that end in their own ways when they receive TERM, by what the outcome then says of their exit.
const AGENTS: [(&str, &str); 4] = [
    ("Plain", "exec sleep 300"),
    ("Clean", "trap 'exit 0' TERM; while :; do sleep 0.01; done"),
    ("Odd", "trap 'exit 3' TERM; while :; do sleep 0.01; done"),
    ("Deaf", "trap '' TERM; while :; do sleep 0.01; done"),
];

#[test]
fn a_shutdown_is_interrupted_whoever_gets_its_signal_first() {
    let (home, mut server) = Scene::new().start();
    for (title, prompt) in AGENTS {
        for order in [["supervisor", "agent"], ["agent", "supervisor"]] {
            let run = server.start_run(&format!("{title} {}", order[0]), prompt, json!({}));
            let processes = order.map(|who| home.noted(&run, who));
            // Both have their signal before the supervisor sees either.
            let supervisor = home.noted(&run, "supervisor");
            supervisor.signal(Signal::STOP);
            processes.iter().for_each(|process| process.signal(Signal::TERM));
            supervisor.signal(Signal::CONT);
            wait_until("its end", || !home.entry(&run).exists());
            let outcome = home.outcome(&run).unwrap();
            assert_eq!(outcome["status"], "interrupted", "{title}, {order:?}: {outcome}");
            assert_eq!(outcome["version"], 2, "release 0.1.0 does not know the status");
            assert!(text(&outcome["reason"]).contains("termination signal"), "{outcome}");
            assert_eq!(home.history(&run).len(), 1);
        }
    }
}

#[test]
fn an_agent_that_is_told_to_end_alone_has_failed() {
    let (home, mut server) = Scene::new().start();
    let run = server.start_run("Killed", "exec sleep 300", json!({}));
    home.noted(&run, "agent").signal(Signal::TERM);
    let seen = server.wait_for_run(&run, "failed");
    assert_eq!(seen["signal"], 15, "{seen}");
}

#[test]
fn what_a_person_stopped_is_stopped_also_while_its_supervisor_is_told_to_end() {
    let (home, mut server) = Scene::new().start();
    let run = server.start_run("Stopped", "trap '' TERM; while :; do sleep 0.01; done", json!({}));
    let supervisor = home.noted(&run, "supervisor");
    server.ok("stop_run", json!({ "run": run, "reason": "enough" }));
    supervisor.signal(Signal::TERM);
    let outcome = home.outcome(&run).unwrap();
    assert_has(&outcome, json!({ "status": "stopped", "reason": "enough" }));
}

#[test]
fn an_interrupted_run_is_tried_again_and_is_no_failure_of_its_routine() {
    let (home, mut server) = Scene::new().start();
    let more = json!({ "retry": { "max_attempts": 2, "backoff_secs": 1 }, "max_consecutive_failures": 1 });
    let run = server.start_run("Again", "exec sleep 300", more);
    home.noted(&run, "supervisor").signal(Signal::TERM);
    server.wait_for_run(&run, "interrupted");
    let again = wait_for(PATIENCE, "another attempt", || {
        let runs = server.ok("list_runs", json!({ "routine": "again" }))["runs"].clone();
        runs.as_array().unwrap().iter().find(|one| one["id"] != run).map(|one| text(&one["id"]))
    });
    assert_eq!(server.run(&again)["origin"]["by"], "retry");
    server.ok("stop_run", json!({ "run": again }));
    assert_eq!(server.ok("get_routine", json!({ "routine": "again" }))["routine"]["enabled"], true);
}
