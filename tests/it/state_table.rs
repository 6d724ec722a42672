//! A run on disk: the states that a crash leaves behind, and the way out of each.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    PATIENCE, Scene, Server, TestHome, assert_has, cut_the_power, text, unwatched, wait_for, wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Ends the supervisor alone, and waits until its share of the lock is free.
fn kill_supervisor(home: &TestHome, run: &str) {
    let supervisor = home.noted(run, "supervisor");
    supervisor.kill();
    wait_until("the supervisor to be gone", || !supervisor.id.is_alive());
}

fn copy_entry(home: &TestHome, run: &str, to: &Path) {
    let from = home.entry(run);
    std::fs::create_dir_all(to).unwrap();
    for name in ["lock", "run.json", "started.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Runs a routine to its end, and puts its entry back as it was before.
fn with_entry_left(home: &TestHome, server: &mut Server, title: &str) -> String {
    let run = server.start_run(title, "until [ -e go ]; do sleep 0.05; done; exit 6", json!({}));
    let kept = home.scratch().join("kept").join(&run);
    copy_entry(home, &run, &kept);
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    server.wait_for_run(&run, "failed");
    std::fs::rename(kept, home.entry(&run)).unwrap();
    run
}

#[test]
fn abandoned_a_run_whose_supervisor_was_killed_is_ended_at_its_bound_with_all_children() {
    let (home, mut server) = Scene::new().config("watchdog_interval_secs = 1\n").start();
    let prompt = "(trap '' TERM; exec sleep 300) &\nsetsid sleep 300 &\nenv -i sleep 300 &\necho up\nsleep 300\n";
    let run = server.start_run("Alone", prompt, json!({ "max_runtime_secs": 600 }));
    wait_until("the children", || home.processes_named("sleep").len() == 4);
    kill_supervisor(&home, &run);
    // A pass of the watchdog holds the lock for a moment, and then it looks supervised.
    wait_for(PATIENCE, "what is wrong with it", || {
        let seen = server.run(&run);
        assert_eq!(seen["status"], "running");
        seen["status_reason"].as_str()?.contains("its supervisor is gone; alive: ").then_some(())
    });
    wait_until("the problem", || server.problems().iter().any(|one| text(&one["problem"]).contains(&run)));
    let error = server.error("trigger_routine", json!({ "routine": "alone" }));
    assert!(error.contains(&run), "it is alive: {error}");
    home.set_bound("alone", 1);
    let ended = server.wait_for_run(&run, "timed_out");
    assert!(text(&ended["status_reason"]).contains("exceeded max runtime"), "{ended}");
    assert_eq!(home.processes_named("sleep"), []);
    // Between the last process's end and the record, the run is shown as the record will have it.
    wait_until("the record", || !home.entry(&run).exists());
    assert!(home.raw_log(&run).contains("exceeded max runtime"));
    assert_eq!(home.history(&run).len(), 1);
}

#[test]
fn abandoned_a_run_of_which_nothing_is_alive_is_lost() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Lost", "echo last words\nsleep 300", json!({}));
    server.wait_for_log(&run, "last words");
    cut_the_power(&home, &run);
    let seen = server.run(&run);
    assert_eq!(seen["status"], "lost", "before anybody has judged: {seen}");
    assert!(home.entry(&run).exists());
    server.clean_up();
    assert!(!home.entry(&run).exists());
    assert_eq!(server.run(&run)["status"], "lost");
    assert_eq!(home.history(&run).len(), 1);
    assert!(server.ok("trigger_routine", json!({ "routine": "lost" }))["run"]["id"].is_string());
}

#[test]
fn rule_9_a_dry_run_foresees_what_happens_to_a_run_that_nobody_recorded() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Forgotten", "echo last words\nsleep 300", json!({ "ttl_secs": 1 }));
    server.wait_for_log(&run, "last words");
    cut_the_power(&home, &run);
    let dry = wait_for(PATIENCE, "its retention to pass", || {
        let report = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
        (report["removed"][0]["run"] == *run).then_some(report)
    });
    assert!(home.entry(&run).exists() && home.workbench(&run).exists(), "nothing was touched");
    let real = server.clean_up();
    assert_eq!((&real["removed"][0]["run"], &real["kept"]), (&dry["removed"][0]["run"], &dry["kept"]), "{real}");
    assert_eq!(home.history(&run).len(), 1);
}

#[test]
fn ending_the_first_reason_wins() {
    let home = unwatched();
    let (mut first, mut second) = (Server::start(&home), Server::start(&home));
    let run = first.start_run("Stubborn", "trap '' TERM; while :; do sleep 300; done", json!({}));
    let call = first.send_call("stop_run", json!({ "run": run, "reason": "the first" }));
    wait_until("the request", || home.entry(&run).join("end.json").exists());
    let later = second.ok("stop_run", json!({ "run": run, "reason": "the second" }))["run"].clone();
    let earlier = first.tool_answer(call).ok()["run"].clone();
    assert_eq!((&earlier["status_reason"], &later["status_reason"]), (&json!("the first"), &json!("the first")));
    assert!(!home.raw_log(&run).contains("the second"));
}

/// What `end.json` holds when somebody wrote it and died.
fn end_request(reason: &str) -> String {
    let request = json!({
        "cause": "stopped", "reason": reason, "by": "a test",
        "at": "2026-01-01T00:00:00Z", "last_output": "2026-01-01T00:00:00Z",
    });
    request.to_string()
}

#[test]
fn ending_a_supervisor_obeys_a_request_that_it_was_not_told_of() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Obeys", "sleep 300", json!({}));
    home.write(format!("running/{run}/end.json"), &end_request("by hand"));
    assert_eq!(server.wait_for_run(&run, "stopped")["status_reason"], "by hand");
}

#[test]
fn survivors_of_an_end_are_reported_and_tried_again() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Survives", "sleep 300", json!({}));
    home.noted(&run, "supervisor").signal(Signal::STOP);
    home.write(format!("running/{run}/end.json"), &end_request("asked before"));
    kill_supervisor(&home, &run);
    let seen = server.run(&run);
    let reason = text(&seen["status_reason"]);
    assert_eq!(seen["status"], "running");
    assert!(reason.contains("asked before") && reason.contains("survived") && reason.contains("pid"), "{reason}");
    let dry = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
    assert_eq!((&dry["killed"][0]["run"], &dry["removed"]), (&json!(run), &json!([])), "{dry}");
    let report = server.clean_up();
    assert_eq!(report["killed"], dry["killed"], "{report}");
    assert_eq!(home.processes_named("sleep"), []);
    assert_eq!(server.run(&run)["status_reason"], "asked before");
}

#[test]
fn ending_whoever_was_found_is_still_known_when_the_one_that_ends_it_is_killed_halfway() {
    let home =
        TestHome::with_config("session_host = \"detached\"\nkill_grace_secs = 20\nwatchdog_interval_secs = 600\n");
    home.add_shell();
    let (mut first, mut second) = (Server::start(&home), Server::start_swept(&home));
    // Without its parent nothing tells whose it is.
    let run = first.start_run("Halfway", "(trap '' TERM; exec env -i sleep 308) & exec sleep 309", json!({}));
    let find = |command: &str| home.processes_named("sleep").into_iter().find(|one| one.command == command);
    let stubborn = wait_for(PATIENCE, "both", || find("sleep 309").and(find("sleep 308")));
    kill_supervisor(&home, &run);
    first.send_call("stop_run", json!({ "run": run }));
    wait_until("its parent to be gone", || find("sleep 309").is_none());
    first.signal(Signal::KILL);
    first.wait();
    assert!(stubborn.id.is_alive());
    let seen = second.run(&run);
    let reason = text(&seen["status_reason"]);
    assert_eq!(seen["status"], "running", "{seen}");
    assert!(reason.contains("survived") && reason.contains(&format!("sleep (pid {})", stubborn.id.pid)), "{reason}");
    home.configure("session_host = \"detached\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 600\n");
    assert_eq!(second.stop(&run)["status"], "stopped");
    assert!(!stubborn.id.is_alive() && !home.entry(&run).exists());
    assert_eq!(home.history(&run).len(), 1);
}

#[test]
fn recorded_an_entry_that_was_left_is_put_away_with_one_line_of_history() {
    let (home, mut server) = Scene::unwatched().start();
    let with_line = with_entry_left(&home, &mut server, "With Line");
    let without_line = with_entry_left(&home, &mut server, "Without Line");
    let text = home.read("history.jsonl");
    let line = text.lines().find(|line| line.contains(&with_line)).unwrap();
    // Torn in the middle of a write, and without its newline.
    home.write("history.jsonl", &format!("{line}\n{{\"version\":1,\"id\":\"without"));
    let check = |server: &mut Server, is_left: bool| {
        for run in [&with_line, &without_line] {
            assert_eq!(home.entry(run).exists(), is_left);
            let seen = server.run(run);
            assert_has(&seen, json!({ "status": "failed", "exit_code": 6 }));
            let inspected = server.ok("get_run", json!({ "run": run })).to_string();
            assert_eq!(inspected.contains("removes its entry"), is_left, "{inspected}");
        }
    };
    check(&mut server, true);
    server.clean_up();
    check(&mut server, false);
    let text = home.read("history.jsonl");
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ids: Vec<&Value> = lines.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, [&json!(with_line), &json!(without_line)], "{text}");
}

type Change = fn(&mut Value);

#[test]
fn unknown_runs_are_reported_and_never_touched() {
    let (home, mut server) = Scene::unwatched().start();
    let mut children = Vec::new();
    let changes: [(&str, Change); 4] = [
        ("Elsewhere", |record| record["machine"]["machine_id"] = json!("another")),
        ("Namespace", |record| record["machine"]["pid_namespace"] = json!("pid:[1]")),
        ("Newer", |record| record["version"] = json!(3)),
        ("Damaged", |record| *record = json!("?")),
    ];
    let mut runs = Vec::new();
    for (title, change) in changes {
        let run = with_entry_left(&home, &mut server, title);
        std::fs::remove_file(home.workbench(&run).join("outcome.json")).unwrap();
        let record = format!("running/{run}/run.json");
        // Ended long ago, if it were anybody's to say.
        home.change_json(&record, |record| record["triggered"]["at"] = json!("2020-01-01T00:00:00Z"));
        home.change_json(&record, |record| record["triggered"]["boot_id"] = json!("another"));
        let cookie = text(&home.json(&record).unwrap()["cookie"]);
        children.push(Command::new("sleep").arg("300").env("MOADIM_COOKIE", cookie).spawn().unwrap());
        home.change_json(&record, change);
        runs.push(run);
    }
    let report = server.clean_up();
    let listed: Vec<Value> = runs.iter().map(|run| server.run(run)).collect();
    let problems = server.problems();
    let errors: Vec<String> = runs.iter().map(|run| server.error("stop_run", json!({ "run": run }))).collect();
    let overlap = server.error("trigger_routine", json!({ "routine": "elsewhere" }));
    let alive = children.iter_mut().filter_map(|child| child.try_wait().unwrap()).count();
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(alive, 0, "a process of an unknown run was ended");
    assert_has(&report, json!({ "killed": [], "removed": [] }));
    for ((run, seen), error) in runs.iter().zip(&listed).zip(&errors) {
        assert_eq!(seen["status"], "unknown", "{seen}");
        assert!(text(&seen["kept_because"]).contains("its state is unknown"), "{seen}");
        let kept = report["kept"].as_array().unwrap().iter().find(|kept| kept["run"] == *run).expect("it is kept");
        assert!(text(&kept["reason"]).contains("its state is unknown"), "{kept}");
        assert!(problems.iter().any(|one| text(&one["problem"]).contains(run)), "{run}: {problems:?}");
        assert!(error.contains("its state is unknown") && error.contains(run), "{error}");
        assert!(home.entry(run).exists() && home.workbench(run).exists());
    }
    assert!(text(&listed[2]["status_reason"]).contains("update moadim-mcp"), "{}", listed[2]);
    assert!(overlap.contains("or may be"), "{overlap}");
}

/// Makes a run look as if it had been triggered earlier, to everybody but its supervisor.
fn age(home: &TestHome, run: &str, secs: u64) {
    home.change_json(format!("running/{run}/run.json"), |record| {
        let since_boot = record["triggered"]["since_boot_ms"].as_u64().unwrap();
        record["triggered"]["since_boot_ms"] = json!(since_boot.saturating_sub(secs * 1000));
        // Not this boot's, for the machine may have been up for less than that: then the wall counts.
        record["triggered"]["boot_id"] = json!("");
        let at: moadim_mcp::clock::UnixSeconds = text(&record["triggered"]["at"]).parse().unwrap();
        record["triggered"]["at"] = json!(moadim_mcp::clock::UnixSeconds(at.0 - secs).to_string());
    });
}

#[test]
fn a_stuck_supervisor_gets_its_time_and_is_then_ended_with_its_run() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Stuck", "sleep 300 & sleep 300", json!({ "max_runtime_secs": 100 }));
    wait_until("the children", || home.processes_named("sleep").len() == 2);
    let supervisor = home.noted(&run, "supervisor");
    supervisor.signal(Signal::STOP);
    // The bound, the grace of 1 s and 15 s more are its own.
    age(&home, &run, 105);
    assert_eq!(server.clean_up()["killed"], json!([]));
    assert_eq!(server.run(&run)["status"], "running");
    age(&home, &run, 20);
    let began = Instant::now();
    let report = server.clean_up();
    assert_eq!(report["killed"][0]["run"], run, "{report}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(!supervisor.id.is_alive());
    assert_eq!(home.processes_named("sleep"), []);
    let seen = server.run(&run);
    assert_eq!(seen["status"], "timed_out");
    assert!(text(&seen["status_reason"]).contains("exceeded max runtime"), "{seen}");
    assert_eq!(home.history(&run).len(), 1);
}

#[test]
fn a_stuck_supervisor_does_not_keep_a_run_from_being_stopped() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Stuck", "sleep 300", json!({}));
    let supervisor = home.noted(&run, "supervisor");
    supervisor.signal(Signal::STOP);
    assert_eq!(server.stop(&run)["status"], "stopped");
    assert!(!supervisor.id.is_alive());
    assert_eq!(home.processes_named("sleep"), []);
    assert!(!home.entry(&run).exists());
}
