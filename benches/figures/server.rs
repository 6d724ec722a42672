//! What a host sees of the server: its start, its lists, and its answers beside a sweep.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Era, PATIENCE, Server, TestHome, wait_for};
use crate::population;
use crate::timing::{Times, memory_mib, row, row_of_ratio};

const SETTINGS: &str = "session_host = \"detached\"\n";

/// Waits until a server's first passes are over, which would be measured otherwise.
pub fn at_rest(mut server: Server) -> Server {
    wait_for(PATIENCE, "the first passes", || {
        let health = server.ok("health", json!({}));
        (health["watchdog"]["last"].is_string() && health["sweep"]["last"].is_string()).then_some(())
    });
    server
}

fn fill(root: &Path) {
    population::context(root);
    population::add_routines(root, 1_000);
    population::add_retained(root, 10_000);
}

/// Twenty of 1,000 routines, and of 10,000 runs.
pub fn lists() {
    let home = TestHome::detached("");
    fill(&home.root());
    let mut server = at_rest(Server::start(&home));
    for (tool, must, total) in [("list_routines", "<= 10 ms", 1_000), ("list_runs", "<= 20 ms", 10_000)] {
        let mut times = Times::default();
        for _ in 0..200 {
            let answer = times.measure(|| server.ok(tool, json!({ "limit": 20 })));
            assert_eq!(answer["total"], total, "{answer}");
        }
        let result = format!("{:.2} ms p50, {:.2} ms p99", times.median(), times.percentile(99));
        row(&format!("{tool}, 20 of {total}, over the wire"), &result, "", &result, must);
    }
}

/// Twenty of 100,000 runs that only the history tells of: once it is read, and the first time.
pub fn history() {
    let home = TestHome::detached("");
    population::context(&home.root());
    population::add_history(&home.root(), 100_000);
    let mut server = at_rest(Server::start(&home));
    let mut times = Times::default();
    for _ in 0..200 {
        let answer = times.measure(|| server.ok("list_runs", json!({ "limit": 20 })));
        assert_eq!(answer["total"], 100_000, "{answer}");
    }
    let result = format!("{:.2} ms p50, {:.2} ms p99", times.median(), times.percentile(99));
    row("list_runs, 20 of 100,000 of the history, over the wire", &result, "", &result, "<= 50 ms p50");
}

/// Calls at rest, and while a clean-up removes 100,000 files.
pub fn calls_during_a_sweep() {
    let home = TestHome::detached("");
    population::context(&home.root());
    population::add_routines(&home.root(), 20);
    let mut server = at_rest(Server::start(&home));
    let (mut rest, mut busy) = (Times::default(), Times::default());
    for _ in 0..2_000 {
        rest.measure(|| server.ok("list_routines", json!({ "limit": 20 })));
    }
    population::add_expired(&home.root(), 1_000, 99);
    let sweeping = server.send_call("cleanup_workbenches", json!({ "confirm": true }));
    let trash_is_full = || std::fs::read_dir(home.root().join("trash")).unwrap().next().is_some();
    while !trash_is_full() {
        std::thread::sleep(Duration::from_millis(1));
    }
    while trash_is_full() {
        busy.measure(|| server.ok("list_routines", json!({ "limit": 20 })));
    }
    let report = server.tool_answer(sweeping).ok();
    assert!(report["failed"].as_array().is_none_or(Vec::is_empty), "{report}");
    let shown =
        |times: &Times| format!("{:.2} ms (p50 {:.2}, n {})", times.percentile(99), times.median(), times.count());
    let ratio = format!("{:.2}x", busy.percentile(99) / rest.percentile(99));
    row(
        "p99 of a call while a sweep removes 100,000 files, against at rest",
        &shown(&busy),
        &shown(&rest),
        &ratio,
        "<= 3x",
    );
}

/// From spawn to the first answer, in a full home and in an empty one.
pub fn start() {
    let (full, empty) = (TestHome::with_config(SETTINGS), TestHome::with_config(SETTINGS));
    fill(&full.root());
    for (name, method, era) in
        [("initialize", None, Era::Legacy("2025-11-25")), ("server/discover", Some("server/discover"), Era::Modern)]
    {
        let mut times = [Times::default(), Times::default()];
        let (mut after_answer, mut after_passes) = (f64::NAN, f64::NAN);
        for round in 0..25 {
            for (home, times) in [&full, &empty].into_iter().zip(&mut times) {
                let mut server = times.measure(|| {
                    let mut server = Server::spawn(home.command());
                    server.introduce(era.clone());
                    if let Some(method) = method {
                        server.request(method, json!({})).unwrap();
                    }
                    server
                });
                if round == 0 && home.root() == full.root() {
                    after_answer = memory_mib(server.pid(), "VmRSS").unwrap_or(f64::NAN);
                    std::thread::sleep(Duration::from_secs(1));
                    after_passes = memory_mib(server.pid(), "VmRSS").unwrap_or(f64::NAN);
                }
                server.close_stdin_and_wait();
            }
        }
        let work = format!("spawn to `{name}` answered, full home against empty");
        row_of_ratio(&work, &times[0], &times[1], "<= 2x, <= 10 ms");
        let shown = format!("{after_answer:.1} MiB; {after_passes:.1} MiB a second later");
        row("resident after that, full home", &shown, "", &shown, "<= 12 MiB");
    }
}
