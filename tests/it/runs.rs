//! Looking at one run, waiting for it, following its log, and ending it when it falls silent.

use std::time::{Duration, Instant};

use crate::harness::{Era, PATIENCE, Scene, Server, TestHome, assert_has, text, wait_for, wait_until};
use serde_json::{Value, json};

/// A prompt that works until the test says that it may end.
const UNTIL_GO: &str = "echo at work; until test -e go; do sleep 0.02; done; exit 3";

fn tell_to_end(home: &TestHome, run: &str) {
    std::fs::write(home.workbench(run).join("go"), "").unwrap();
}

#[test]
fn all_is_told_of_a_run_at_work_and_of_one_that_ended() {
    let (home, mut server) = Scene::new().agent("sleeper", "args = [\"-c\", \"sleep 60 & echo $SECRET; wait\", \"{run}\"]\nstdin = \"none\"\naccept_env = [\"SECRET\"]").start();
    let more = json!({ "agent": "sleeper", "env": { "SECRET": "hush-hush" } });
    let run = server.start_run("Look", "x", more);
    server.wait_for_log(&run, "hush-hush");
    // A child is a copy of its shell for a moment.
    wait_until("the child", || !home.processes_named("sleep").is_empty());
    let all = server.ok("get_run", json!({ "run": run }));
    assert_eq!(all["run"]["status"], "running");
    assert_eq!(all["liveness"], "alive");
    assert!(text(&all["liveness_reason"]).contains("lock"));
    assert_eq!((&all["agent"], &all["origin"]["by"]), (&json!("sleeper"), &json!("call")));
    assert_eq!(all["command"], json!(["sh", "-c", "sleep 60 & echo $SECRET; wait", run]));
    let processes = all["processes"].as_array().unwrap();
    let names: Vec<_> = processes.iter().map(|process| text(&process["name"])).collect();
    assert!(["sleep", "sh", "moadim-mcp"].iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
    assert!(processes.iter().all(|process| process["memory_bytes"].as_u64().unwrap() > 0), "{processes:?}");
    assert_eq!(all["processes_total"], processes.len());
    let agent = home.noted(&run, "agent").id.pid;
    assert!(processes.iter().any(|process| process["pid"] == agent), "{processes:?}");
    assert_eq!(all["log_tail"], "hush-hush\n");
    let last_output_at = text(&all["last_output_at"]);
    assert_eq!(all["retention"], "its workbench stays: it is alive");
    let mut but_for_the_log = all.clone();
    but_for_the_log["log_tail"].take();
    assert!(!but_for_the_log.to_string().contains("hush-hush"), "no variable's value is shown");

    server.stop(&run);
    let all = server.ok("get_run", json!({ "run": run }));
    assert_eq!((&all["run"]["status"], &all["liveness"]), (&json!("stopped"), &json!("finished")));
    assert_has(&all, json!({ "agent": "sleeper", "processes_total": 0 }));
    assert!(text(&all["retention"]).contains("kept for 3 days"), "{all}");
    assert_eq!(all["last_output_at"], last_output_at, "what we write into the log is no output");

    let error = server.error("get_run", json!({ "run": "look-1" }));
    assert!(error.contains("there is no run 'look-1'"), "{error}");
}

#[test]
fn an_abandoned_run_shows_what_is_left_of_it() {
    let (home, mut server) = Scene::new().config("watchdog_interval_secs = 3600\n").start();
    let run = server.start_run("Alone", "echo at work; sleep 60", json!({}));
    server.wait_for_log(&run, "at work");
    wait_until("the child", || !home.processes_named("sleep").is_empty());
    home.noted(&run, "supervisor").kill();
    wait_for(PATIENCE, "the supervisor to be gone", || {
        let all = server.ok("get_run", json!({ "run": run }));
        text(&all["liveness_reason"]).contains("nobody holds its lock").then(|| {
            assert_eq!(all["liveness"], "alive");
            assert!(all["processes"].as_array().unwrap().iter().any(|process| process["name"] == "sleep"));
        })
    });
    assert!(server.ok("wait_run", json!({ "run": run, "timeout_secs": 0 }))["finished"] == false);
    // What ends with nobody to write it down is noticed, too.
    for left in home.processes_named("sh").into_iter().chain(home.processes_named("sleep")) {
        left.kill();
    }
    let waited = server.ok("wait_run", json!({ "run": run, "timeout_secs": 50 }));
    assert_eq!((&waited["finished"], &waited["run"]["status"]), (&json!(true), &json!("lost")));
}

#[test]
fn a_wait_ends_with_the_run() {
    let (home, mut server) = Scene::new().start();
    let mut other = Server::start(&home);
    let run = server.start_run("Wait", UNTIL_GO, json!({}));
    let early = server.ok("wait_run", json!({ "run": run, "timeout_secs": 0 }));
    assert_eq!((&early["finished"], &early["run"]["status"]), (&json!(false), &json!("running")));
    let waits: Vec<u64> =
        (0..5).map(|_| server.send_call("wait_run", json!({ "run": run, "timeout_secs": 50 }))).collect();
    let elsewhere = other.send_call("wait_run", json!({ "run": run, "timeout_secs": 50 }));
    server.wait_for_log(&run, "at work");
    tell_to_end(&home, &run);
    for wait in waits {
        let waited = server.tool_answer(wait).ok();
        assert_eq!((&waited["finished"], &waited["run"]["status"]), (&json!(true), &json!("failed")));
        assert_eq!(waited["run"]["exit_code"], 3);
    }
    assert_eq!(other.tool_answer(elsewhere).ok()["finished"], true);
    let began = Instant::now();
    assert_eq!(server.ok("wait_run", json!({ "run": run, "timeout_secs": 50 }))["finished"], true);
    assert!(began.elapsed() < Duration::from_secs(5), "one that is over is not waited for");
    let error = server.error("wait_run", json!({ "run": run, "timeout_secs": 51 }));
    assert!(error.contains("at most 50"), "{error}");
    let error = server.error("wait_run", json!({ "run": "wait-1" }));
    assert!(error.contains("there is no run"), "{error}");
}

/// It looks at the run itself only once a second.
#[test]
fn a_wait_notices_the_end_within_a_second() {
    let (home, mut server) = Scene::new().start();
    let mut latencies = Vec::new();
    for number in 0..8 {
        // One that fails is recorded up to a second later, see docs/decisions/ending-a-run.md.
        let run = server.start_run(&format!("Fast {number}"), &UNTIL_GO.replace("exit 3", "exit 0"), json!({}));
        let began = Instant::now();
        let wait = server.send_call("wait_run", json!({ "run": run, "timeout_secs": 50 }));
        server.wait_for_log(&run, "at work");
        tell_to_end(&home, &run);
        server.tool_answer(wait).ok();
        latencies.push(began.elapsed());
    }
    latencies.sort();
    assert!(latencies[1] < Duration::from_secs(1), "{latencies:?}");
}

fn send_wait_with_progress(server: &mut Server, run: &str, token: Value) -> u64 {
    let arguments = json!({ "run": run, "timeout_secs": 50 });
    server
        .send("tools/call", json!({ "name": "wait_run", "arguments": arguments, "_meta": { "progressToken": token } }))
}

#[test]
fn progress_is_told_to_who_asks_in_both_eras() {
    let home = TestHome::detached("");
    for (era, token) in [(Era::Legacy("2025-06-18"), json!("t-1")), (Era::Modern, json!(7))] {
        let mut server = Server::start_in(&home, era);
        let run = server.start_run(&format!("Tell {token}"), UNTIL_GO, json!({}));
        let wait = send_wait_with_progress(&mut server, &run, token.clone());
        let mut last = 0.0;
        for _ in 0..2 {
            let reported = server.next_unasked();
            assert_eq!(reported["method"], "notifications/progress", "{reported}");
            assert_eq!((&reported["params"]["progressToken"], &reported["params"]["total"]), (&token, &json!(50.0)));
            let progress = reported["params"]["progress"].as_f64().unwrap();
            assert!(progress > last && progress < 50.0, "{reported}");
            assert!(text(&reported["params"]["message"]).contains("running"));
            last = progress;
        }
        tell_to_end(&home, &run);
        assert_eq!(server.tool_answer(wait).ok()["finished"], true);
        server.ok("health", json!({}));
        while !server.nothing_unasked() {
            let reported = server.next_unasked();
            assert!(reported["params"]["progress"].as_f64() > Some(last), "{reported}");
        }
        let unfinished = server.start_run(&format!("Tell {token} no more"), UNTIL_GO, json!({}));
        assert_eq!(server.ok("wait_run", json!({ "run": unfinished, "timeout_secs": 2 }))["finished"], false);
        assert!(server.nothing_unasked(), "nobody asked");
        tell_to_end(&home, &unfinished);
        server.wait_for_run(&unfinished, "failed");
    }
}

#[test]
fn a_wait_ends_when_it_is_cancelled_and_when_the_client_goes() {
    let (home, mut server) = Scene::new().start();
    let run = server.start_run("Cancel", UNTIL_GO, json!({}));
    // Each call has a thread of this name, and one of them stays for the next.
    let calls = |server: &Server| {
        let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).into_iter().flatten();
        let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        threads.flatten().map(name).filter(|name| name == "call\n").count()
    };
    let waits: Vec<u64> =
        (0..8).map(|_| server.send_call("wait_run", json!({ "run": run, "timeout_secs": 50 }))).collect();
    if cfg!(target_os = "linux") {
        wait_until("the waits to begin", || calls(&server) == 8);
    }
    for wait in &waits {
        server.notify("notifications/cancelled", json!({ "requestId": wait }));
    }
    if cfg!(target_os = "linux") {
        wait_for(Duration::from_secs(20), "the waits to end", || (calls(&server) == 1).then_some(()));
    }
    server.send_call("wait_run", json!({ "run": run, "timeout_secs": 50 }));
    server.ok("health", json!({}));
    server.close_stdin();
    server.assert_leaves();
    tell_to_end(&home, &run);
    wait_for(PATIENCE, "the end", || home.outcome(&run));
}

#[test]
fn a_log_is_followed_to_its_last_byte() {
    let (home, mut server) = Scene::new().start();
    let prompt = "i=0; while [ $i -lt 300 ]; do printf 'zeile %s: äöü€\\n' $i; i=$((i+1)); done; printf '\\303'; \
                  until test -e go; do sleep 0.02; done; printf '\\251 end'";
    let run = server.start_run("Follow", prompt, json!({}));
    let (mut offset, mut followed) = (0, String::new());
    let mut read_on = |server: &mut Server, followed: &mut String| {
        let part = server.ok("read_log", json!({ "run": run, "offset": offset }));
        offset = part["next_offset"].as_u64().unwrap();
        followed.push_str(part["text"].as_str().unwrap());
        part
    };
    wait_until("the lines", || {
        read_on(&mut server, &mut followed);
        followed.ends_with("zeile 299: äöü€\n")
    });
    tell_to_end(&home, &run);
    server.wait_for_run(&run, "succeeded");
    let part = read_on(&mut server, &mut followed);
    assert_eq!(part["cut"], false);
    assert_eq!(followed, server.log(&run));
    assert!(followed.ends_with("é end") && !followed.contains('\u{fffd}'), "{followed}");
    assert_eq!(read_on(&mut server, &mut followed)["text"], "");
    let beyond = server.ok("read_log", json!({ "run": run, "offset": 1_000_000 }));
    assert!(text(&beyond["note"]).contains("shorter") && text(&beyond["text"]).starts_with("zeile 0"), "{beyond}");

    let found = server.ok("read_log", json!({ "run": run, "grep": "ZEILE 29\\d" }));
    let lines: Vec<String> = text(&found["text"]).lines().map(str::to_owned).collect();
    assert_eq!((lines.len(), &found["cut"]), (10, &json!(false)));
    let (at, line) = lines[3].split_once(':').unwrap();
    assert_eq!(line, "zeile 293: äöü€");
    let there = server.ok("read_log", json!({ "run": run, "offset": at.parse::<u64>().unwrap() }));
    assert!(text(&there["text"]).starts_with(line));
    let error = server.error("read_log", json!({ "run": run, "grep": "(" }));
    assert!(error.contains("`grep`") && error.contains("unclosed"), "{error}");
    let error = server.error("read_log", json!({ "run": run, "offset": 0, "tail_lines": 3 }));
    assert!(error.contains("`tail_lines`"), "{error}");
    // The end of the log tells where to go on.
    let tail = server.ok("read_log", json!({ "run": run, "tail_lines": 1 }));
    assert_eq!(tail["next_offset"], tail["log_bytes"]);
}

#[test]
fn a_long_log_is_read_in_parts() {
    let (home, mut server) = Scene::new().start();
    let run = server.routine("Long", "seq -f 'line %.0f €' 60000").run_to("succeeded");
    let (mut offset, mut parts, mut followed) = (0, 0, String::new());
    loop {
        let part = server.ok("read_log", json!({ "run": run, "offset": offset }));
        let piece = text(&part["text"]);
        assert!(piece.len() <= 256 * 1024 && piece.ends_with('\n'));
        followed.push_str(&piece);
        (offset, parts) = (part["next_offset"].as_u64().unwrap(), parts + 1);
        if part["cut"] == false {
            break;
        }
    }
    assert!(parts > 2);
    assert_eq!(followed, home.raw_log(&run));
}

#[test]
fn an_agent_that_falls_silent_is_ended() {
    let (home, mut server) = Scene::new().agent("quiet", "max_silence_secs = 2").start();
    let prompt = "until test -e go; do echo at work; sleep 0.1; done; echo done; trap '' TERM; sleep 60 & sleep 60";
    // The agent's own word counts once it is silent: a busy machine may make it so before.
    let run = server.start_run("Quiet", prompt, json!({ "agent": "quiet", "max_silence_secs": 600 }));
    std::thread::sleep(Duration::from_secs(5));
    tell_to_end(&home, &run);
    server.wait_for_log(&run, "done");
    let file = home.root().join("routines/quiet/routine.toml");
    let routine = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, routine.replace("max_silence_secs = 600", "")).unwrap();
    let shown = server.wait_for_run(&run, "silent");
    let reason = text(&shown["status_reason"]);
    let (_, silence) = reason.split_once("printed nothing for ").unwrap();
    let (secs, rest) = silence.split_once(' ').unwrap();
    assert!(rest.contains("s, 2 s allowed"), "{reason}");
    let secs: u64 = secs.parse().unwrap();
    assert!(secs > 2 && secs + 4 <= shown["duration_secs"].as_u64().unwrap(), "it was not silent before: {shown}");
    assert!(server.log(&run).contains("printed nothing"));
    assert!(home.processes_named("sleep").is_empty());
    assert_eq!(home.history(&run)[0]["status"], "silent");
    // The routine's own word counts, also while the run is under way.
    let run = server.start_run("Patient", UNTIL_GO, json!({ "agent": "quiet" }));
    let file = home.root().join("routines/patient/routine.toml");
    let routine = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("max_silence_secs = 600\n{routine}")).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(server.run(&run)["status"], "running");
    std::fs::write(&file, format!("max_silence_secs = 1\n{routine}")).unwrap();
    server.wait_for_run(&run, "silent");
}

#[test]
#[cfg(target_os = "linux")]
fn without_its_supervisor_the_watchdog_ends_a_silent_agent() {
    let (home, mut server) = Scene::new().config("watchdog_interval_secs = 1\n").start();
    let run = server.start_run("Hush", "echo at work; sleep 600", json!({}));
    server.wait_for_log(&run, "at work");
    home.noted(&run, "supervisor").kill();
    let file = home.root().join("routines/hush/routine.toml");
    let routine = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("max_silence_secs = 100\n{routine}")).unwrap();
    // As if it had been at work for a while.
    let age = |path: std::path::PathBuf, secs| {
        let file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(secs)).unwrap();
    };
    let started = format!("running/{run}/started.json");
    home.change_json(&started, |started| started["at"] = json!("2026-01-01T00:00:00Z"));
    age(home.workbench(&run).join("agent.log"), 120);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.run(&run)["status"], "running", "the wall clock may be a minute off");
    age(home.workbench(&run).join("agent.log"), 170);
    let shown = server.wait_for_run(&run, "silent");
    assert!(text(&shown["status_reason"]).contains("1 min 40 s allowed"), "{shown}");
    assert!(home.processes_named("sleep").is_empty());
}
