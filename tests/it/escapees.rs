//! Every way to escape from an end, all at once, against every way to end a run: nothing of the run is left, and nobody
//! else is hurt. One round each; with `MOADIM_LONG_TESTS=1` five.

use std::collections::BTreeSet;
use std::process::{Child, Command};
use std::time::Duration;

use crate::harness::{Host, PATIENCE, Seen, Server, TestHome, may_take_long, text, wait_for, wait_until};
use moadim_mcp::process_tree::ProcessId;
use serde_json::json;

on_both_hosts! {
    on_request_nothing_escapes,
    at_its_bound_nothing_escapes_the_supervisor,
    without_a_supervisor_nothing_escapes_the_watchdog,
    after_a_normal_exit_nothing_is_left_behind,
    with_its_routine_nothing_escapes,
}

/// How a run comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Supervisor,
    Watchdog,
    Exit,
    Delete,
}

fn on_request_nothing_escapes(home: TestHome, host: Host) {
    fight(home, host, Way::Request);
}

fn at_its_bound_nothing_escapes_the_supervisor(home: TestHome, host: Host) {
    fight(home, host, Way::Supervisor);
}

fn without_a_supervisor_nothing_escapes_the_watchdog(home: TestHome, host: Host) {
    fight(home, host, Way::Watchdog);
}

fn after_a_normal_exit_nothing_is_left_behind(home: TestHome, host: Host) {
    fight(home, host, Way::Exit);
}

fn with_its_routine_nothing_escapes(home: TestHome, host: Host) {
    fight(home, host, Way::Delete);
}

/// The escapees, each with a length of its sleep that tells it from the others.
pub const ESCAPEES: &str = "\
sleep 301 &
nohup sleep 302 >/dev/null 2>&1 &
setsid sleep 303 &
(setsid sh -c 'sleep 304 & sleep 0.01' &)
perl -e 'setpgrp(0, 0); exec qw(sleep 305)' &
(trap '' TERM HUP INT; exec sleep 306) &
timeout 1000 sleep 307 &
env -i sleep 308 &
(setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 309; done' &)
sh -c 'kill -STOP $$; exec sleep 310' &
(setsid sh -c 'trap \"\" TERM; n=0; while [ $n -lt 2000 ]; do n=$((n+1)); sleep 0.31 & sleep 0.03; done' &)
";

/// One that cleared its environment and lost its parent: recognised as long as its supervisor lives (docs/security.md).
pub const ORPHAN: &str = "env -i setsid sh -c 'sleep 311 & sleep 0.01' &\n";

/// What the last of them looks like before it sleeps, and while it spawns.
pub const STOPPED: &str = "sh -c kill -STOP $$; exec sleep 310";
pub const SPAWNED: &str = "sleep 0.31";

/// What `ps` shows once all are there.
fn expected(way: Way) -> BTreeSet<String> {
    let last = if way == Way::Watchdog { 309 } else { 311 };
    let sleepers = (301..=last).filter(|number| *number != 310).map(|number| format!("sleep {number}"));
    sleepers.chain([STOPPED.to_owned(), SPAWNED.to_owned()]).collect()
}

/// The agent's prompt: when reported, it triggers another run as any host would, starts the escapees, and hangs or leaves.
fn prompt(way: Way) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    });
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "_meta": meta, "name": "trigger_routine", "arguments": { "routine": "inner" } },
    });
    let program = env!("CARGO_BIN_EXE_moadim-mcp");
    let orphan = if way == Way::Watchdog { "" } else { ORPHAN };
    format!(
        "wait_for() {{ until [ -e $1 ]; do sleep 0.05; done; }}\nwait_for begin\n(echo '{call}'; sleep 300) | '{program}' &\n\
         {ESCAPEES}{orphan}wait_for leave\n"
    )
}

/// Rounds of each of the ten fights, where there is time: fifty in each pass of CI.
const LONG_ROUNDS: usize = 5;

fn fight(home: TestHome, host: Host, way: Way) {
    rounds(&home, host, way, if may_take_long() { LONG_ROUNDS } else { 1 });
}

fn rounds(home: &TestHome, host: Host, way: Way, count: usize) {
    home.configure(&format!(
        "session_host = \"{}\"\nkill_grace_secs = 1\nwatchdog_interval_secs = {}\n",
        host.name(),
        if way == Way::Watchdog { 1 } else { 600 }
    ));
    let mut server = Server::start(home);
    for (title, prompt) in [("Inner", "exec sleep 350"), ("Other", "exec sleep 351")] {
        server.create(title, prompt, json!({ "max_runtime_secs": 600 }));
    }
    for _ in 0..count {
        if !home.root().join("routines/outer").exists() {
            server.create("Outer", &prompt(way), json!({ "max_runtime_secs": 600 }));
        }
        round(home, host, way, &mut server);
    }
}

fn round(home: &TestHome, host: Host, way: Way, server: &mut Server) {
    home.set_bound("outer", 600);
    let outer = server.trigger("outer");
    if host == Host::Tmux {
        end_our_tmux(home);
    }
    std::fs::write(home.workbench(&outer).join("begin"), "").unwrap();
    let inner = wait_for(PATIENCE, "the inner run", || {
        let listed = server.ok("list_runs", json!({ "routine": "inner", "status": "running" }));
        Some(text(&listed["runs"].get(0)?["id"]))
    });
    let other = server.trigger("other");
    let expected = expected(way);
    wait_until("all escapees", || {
        // A look costs the processor some milliseconds.
        std::thread::sleep(Duration::from_millis(100));
        let there: BTreeSet<String> = home.processes().into_iter().map(|one| one.command).collect();
        expected.is_subset(&there)
    });
    // A person at work in the run's own directory.
    let mut person = Command::new("sleep").arg("352").current_dir(home.workbench(&outer)).spawn().unwrap();
    // Two that are in the middle of becoming what they are for show no cookie.
    let bystanders = wait_for(PATIENCE, "all bystanders", || {
        let found = bystanders(home, host, &[&inner, &other], server, &person)?;
        let is_there = |command: &str| found.iter().any(|one| one.command == command && one.cookie.is_some());
        (found.len() >= 6 && is_there("sleep 350") && is_there("sleep 351")).then_some(found)
    });
    let supervisor = home.noted(&outer, "supervisor");

    end(home, way, server, &outer);
    // The supervisor may still be on its way out.
    let left: Vec<Seen> =
        home.processes().into_iter().filter(|one| one.id != supervisor.id && !is_allowed(one, &bystanders)).collect();
    let hurt: Vec<&Seen> = bystanders.iter().filter(|one| !one.id.is_alive() || is_stopped(one.id)).collect();
    let person_lives = person.try_wait().unwrap().is_none();
    person.kill().unwrap();
    person.wait().unwrap();
    assert_eq!(left, [], "survivors of {way:?}");
    assert!(hurt.is_empty() && person_lives, "{way:?} hurt {hurt:?}");

    assert!(!home.entry(&outer).exists());
    assert_eq!(home.history(&outer).len(), 1);
    for run in [&inner, &other] {
        let seen = server.run(run);
        assert!(seen["status"] == "running" && seen.get("status_reason").is_none(), "{seen}");
        assert_eq!(server.stop(run)["status"], "stopped");
    }
}

fn end(home: &TestHome, way: Way, server: &mut Server, outer: &str) {
    let status = match way {
        Way::Request => {
            server.stop(outer);
            "stopped"
        }
        Way::Supervisor => {
            home.set_bound("outer", 1);
            "timed_out"
        }
        Way::Watchdog => {
            let supervisor = home.noted(outer, "supervisor");
            supervisor.kill();
            wait_until("the supervisor to be gone", || !supervisor.id.is_alive());
            assert_eq!(server.run(outer)["status"], "running");
            home.set_bound("outer", 1);
            "timed_out"
        }
        Way::Delete => {
            let deleted = server.ok("delete_routine", json!({ "routine": "outer", "confirm": true }));
            assert_eq!(deleted["stopped"], json!([outer]), "{deleted}");
            "stopped"
        }
        Way::Exit => {
            std::fs::write(home.workbench(outer).join("leave"), "").unwrap();
            "succeeded"
        }
    };
    // Not asked of the server, which would look through all processes each time.
    wait_until("the record", || !home.entry(outer).exists());
    let ended = server.run(outer);
    assert_eq!(ended["status"], status, "{ended}");
    let reason = text(&ended["status_reason"]);
    let wanted = match way {
        Way::Request => "stopped on request",
        Way::Supervisor | Way::Watchdog => "exceeded max runtime",
        Way::Delete => "was deleted",
        Way::Exit => "its agent left processes behind, which were ended",
    };
    assert!(reason.contains(wanted), "{ended}");
}

/// Ends the home's tmux server, so that the next to need one is a server that an agent has started.
fn end_our_tmux(home: &TestHome) {
    let known = wait_for(PATIENCE, "our tmux", || our_tmux(home));
    crate::harness::tmux(&home.root().join("tmux.sock"), &["kill-server"]);
    wait_until("tmux to be gone", || !known.is_alive());
}

fn our_tmux(home: &TestHome) -> Option<ProcessId> {
    ProcessId::of(asked_of_tmux(home, &["display-message", "-p", "#{pid}"]).parse().ok()?)
}

fn asked_of_tmux(home: &TestHome, words: &[&str]) -> String {
    let output = crate::harness::tmux(&home.root().join("tmux.sock"), words);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Lists who must live on: two runs, our tmux server with its windows, this test's own server, and the person.
fn bystanders(home: &TestHome, host: Host, runs: &[&str], server: &Server, person: &Child) -> Option<Vec<Seen>> {
    let cookie_of = |path: String| Some(text(&home.json(path)?["cookie"]));
    let mut cookies: Vec<String> =
        runs.iter().map(|run| cookie_of(format!("running/{run}/run.json")).expect("a cookie")).collect();
    if host == Host::Tmux {
        let line = asked_of_tmux(home, &["show-environment", "-g", "MOADIM_COOKIE"]);
        cookies.push(line.strip_prefix("MOADIM_COOKIE=")?.to_owned());
    }
    let pids = [server.pid(), person.id()];
    let spared = |one: &Seen| {
        let listed = u32::try_from(one.id.pid).is_ok_and(|pid| pids.contains(&pid));
        listed || one.cookie.as_ref().is_some_and(|cookie| cookies.contains(cookie))
    };
    let found: Vec<Seen> = home.processes().into_iter().filter(spared).collect();
    assert!(pids.iter().all(|pid| found.iter().any(|one| one.id.pid.cast_unsigned() == *pid)), "{found:?}");
    // The command of a tmux server is that of its first window.
    let shows = |one: &&Seen| one.name.starts_with("moadim") && one.command.contains(" follow ");
    let windows = found.iter().filter(shows).count();
    let all_windows = windows == runs.len() && found.iter().any(|one| Some(one.id) == our_tmux(home));
    (host != Host::Tmux || all_windows).then_some(found)
}

/// Whether a process may be there after the end: a bystander, or a tmux client of a moment.
fn is_allowed(process: &Seen, bystanders: &[Seen]) -> bool {
    let of_a_moment = process.name.starts_with("tmux") && process.cookie.is_none();
    of_a_moment || bystanders.iter().any(|one| one.id == process.id)
}

/// Whether a process was stopped and not let go.
fn is_stopped(id: ProcessId) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", &id.pid.to_string()]).output().unwrap().stdout;
    state.starts_with(b"T")
}
