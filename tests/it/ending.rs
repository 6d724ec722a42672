//! Ending runs, on both session hosts: by request, and at their bound; with a server, and with none. Always all of it.

use std::time::{Duration, Instant};

use crate::harness::{Host, PATIENCE, Server, TestHome, assert_has, text, wait_for, wait_until};
use serde_json::json;

on_both_hosts! {
    stopping_ends_the_whole_tree_and_can_be_repeated,
    a_hung_run_is_ended_at_its_bound_with_no_server_alive,
    a_bound_that_is_changed_while_the_run_works_counts,
    within_its_bound_no_run_is_touched_by_a_clean_up,
    two_servers_stop_the_same_run_at_once,
    a_run_that_a_run_triggered_is_spared_when_that_is_ended,
}

/// Starts children in every way that escapes from something, and then hangs: [`CHILDREN`] and the shell itself.
const HANG: &str = "\
sleep 300 &
setsid sleep 300 &
nohup sleep 300 >/dev/null 2>&1 &
(trap '' TERM HUP INT; exec sleep 300) &
(setsid sh -c 'sleep 300 & sleep 0.01' &)
env -i sleep 300 &
setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 300; done' &
echo up
trap 'echo asked' TERM
while :; do sleep 300; done
";

/// How many `sleep`s that makes.
const CHILDREN: usize = 8;

fn wait_until_it_hangs(home: &TestHome) {
    wait_until("all children to be there", || home.processes_named("sleep").len() == CHILDREN);
}

/// Makes sure that the run is gone with all that it started.
fn assert_nothing_is_left(home: &TestHome, run: &str) {
    let cookie = text(&home.history(run)[0]["cookie"]);
    let left: Vec<_> = home.processes().into_iter().filter(|one| one.cookie.as_deref() == Some(&cookie)).collect();
    // The supervisor itself may still be on its way out.
    assert!(left.iter().all(|one| one.command.contains(" supervise ")), "{left:?}");
    assert_eq!(home.processes_named("sleep"), []);
    assert!(!home.entry(run).exists());
    assert_eq!(home.history(run).len(), 1);
}

fn stopping_ends_the_whole_tree_and_can_be_repeated(home: TestHome, host: Host) {
    // Time for the shell to say that it was asked.
    home.configure(&format!("session_host = \"{}\"\nkill_grace_secs = 5\n", host.name()));
    let mut server = Server::start(&home);
    let other = server.start_run("Other", "echo $$ > pid; sleep 301", json!({}));
    let run = server.start_run("Hang", HANG, json!({}));
    wait_until("all children to be there", || home.processes_named("sleep").len() == CHILDREN + 1);
    let stopped = server.ok("stop_run", json!({ "run": run, "reason": "enough of it" }))["run"].clone();
    assert_has(&stopped, json!({ "status": "stopped", "status_reason": "enough of it" }));
    let left = home.processes_named("sleep");
    assert!(left.len() == 1 && left[0].command == "sleep 301", "the other run is not touched: {left:?}");
    let log = server.log(&run);
    assert!(log.contains("asked") && log.contains("enough of it"), "{log}");
    assert_eq!(server.run(&other)["status"], "running");

    assert_eq!(server.stop(&run), stopped, "again");
    assert_eq!(server.log(&run), log);
    server.stop(&other);
    assert_nothing_is_left(&home, &run);
    let error = server.error("stop_run", json!({ "run": "hang-1" }));
    assert!(error.contains("hang-1") && error.contains("list_runs"), "{error}");
}

fn a_hung_run_is_ended_at_its_bound_with_no_server_alive(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let run = server.start_run("Hang", HANG, json!({ "max_runtime_secs": 600 }));
    assert!(server.close_stdin_and_wait().0.success());
    wait_until_it_hangs(&home);
    home.set_bound("hang", 2);
    let began = Instant::now();
    wait_until("the run to be ended", || !home.entry(&run).exists());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_nothing_is_left(&home, &run);
    let log = home.raw_log(&run);
    let note = log.lines().find(|line| line.contains("exceeded max runtime")).expect("a note in the log");
    let secs = note.split_once("runtime: ").and_then(|(_, rest)| rest.split_once(" s, ")).expect("a number").0;
    assert!(secs.parse::<u64>().unwrap() > 2 && note.contains(" 2 s allowed"), "both numbers: {note}");
    assert_eq!(log.matches("exceeded max runtime").count(), 1, "{log}");
    assert_eq!(home.history(&run)[0]["status"], "timed_out");

    let mut next = Server::start(&home);
    let seen = next.run(&run);
    assert_eq!(seen["status"], "timed_out");
    assert!(text(&seen["status_reason"]).contains("exceeded max runtime"), "{seen}");
    next.clean_up();
    assert_eq!(home.history(&run).len(), 1);
}

fn a_bound_that_is_changed_while_the_run_works_counts(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let shorter = server.create("Shorter", "sleep 300", json!({ "max_runtime_secs": 600 }));
    let longer = server.create("Longer", "sleep 300", json!({ "max_runtime_secs": 8 }));
    // It counts from the trigger, which takes 5 s at most.
    let long = server.trigger(&longer);
    home.set_bound(&longer, 600);
    let short = server.trigger(&shorter);
    home.set_bound(&shorter, 1);
    server.wait_for_run(&short, "timed_out");
    assert!(home.raw_log(&short).contains(" 1 s allowed"), "{}", home.raw_log(&short));
    wait_until("the first bound to pass", || {
        let started = text(&server.run(&long)["started_at"]);
        let age = age_secs(&started);
        age > 10
    });
    assert_eq!(server.run(&long)["status"], "running");
    server.stop(&long);
}

fn age_secs(time: &str) -> u64 {
    let time: moadim_mcp::clock::UnixSeconds = time.parse().unwrap();
    time.age_secs_at(moadim_mcp::clock::UnixSeconds::now())
}

fn within_its_bound_no_run_is_touched_by_a_clean_up(home: TestHome, _: Host) {
    let mut server = Server::start(&home);
    let run = server.start_run("Calm", "sleep 300", json!({ "ttl_secs": 1 }));
    let report = server.clean_up();
    assert_has(&report, json!({ "killed": [], "removed": [] }));
    assert_eq!(report["kept"][0]["run"], run);
    assert!(text(&report["kept"][0]["reason"]).contains("alive"), "{report}");
    assert_eq!(server.run(&run)["status"], "running");
    server.stop(&run);
}

fn two_servers_stop_the_same_run_at_once(home: TestHome, _: Host) {
    let mut servers: Vec<Server> = (0..3).map(|_| Server::start(&home)).collect();
    let run = servers[0].start_run("Shared", "trap '' TERM; while :; do sleep 300; done", json!({}));
    let calls: Vec<u64> =
        servers.iter_mut().map(|server| server.send_call("stop_run", json!({ "run": run }))).collect();
    for (server, call) in servers.iter_mut().zip(calls) {
        assert_eq!(server.tool_answer(call).ok()["run"]["status"], "stopped");
    }
    assert_nothing_is_left(&home, &run);
    assert_eq!(home.raw_log(&run).matches("stopped on request").count(), 1, "{}", home.raw_log(&run));
}

fn a_run_that_a_run_triggered_is_spared_when_that_is_ended(home: TestHome, host: Host) {
    let program = env!("CARGO_BIN_EXE_moadim-mcp");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    });
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "_meta": meta, "name": "trigger_routine", "arguments": { "routine": "inner" } },
    });
    // The agent is a host itself; its server may be the one that starts the session host.
    let prompt = format!("(echo '{call}'; sleep 300) | '{program}'");
    let mut server = Server::start(&home);
    server.create("Inner", "sleep 301", json!({}));
    let outer = server.start_run("Outer", &prompt, json!({}));
    let inner = wait_for(PATIENCE, "the inner run", || {
        let listed = server.ok("list_runs", json!({ "routine": "inner", "status": "running" }));
        Some(text(&listed["runs"].get(0)?["id"]))
    });
    let windows = || crate::harness::tmux(&home.root().join("tmux.sock"), &["list-sessions"]).stdout;
    if host == Host::Tmux {
        let is_shown = || String::from_utf8_lossy(&windows()).contains(&inner).then_some(());
        wait_for(PATIENCE, "its window, which the outer run's server opens", is_shown);
    }
    assert_eq!(server.stop(&outer)["status"], "stopped");
    let left = home.processes_named("sleep");
    assert!(left.len() == 1 && left[0].command == "sleep 301", "{left:?}");
    let seen = server.run(&inner);
    assert!(seen["status"] == "running" && seen.get("status_reason").is_none(), "{seen}");
    if let Some(attach) = seen.get("attach_command") {
        assert!(String::from_utf8_lossy(&windows()).contains(&inner), "{attach}");
    }
    assert_eq!(server.stop(&inner)["status"], "stopped");
}
