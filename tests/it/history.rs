//! What is known of runs whose workbench is gone, and what is done when a run ends.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Scene, Server, TestHome, assert_has, may_take_long, text, wait_until};
use serde_json::{Value, json};

const AGED: &str = "default_ttl_secs = 1\ndefault_failed_ttl_secs = 1\n";

/// Cleans up until a run has no workbench any more.
fn reap(home: &TestHome, server: &mut Server, run: &str) {
    wait_until("the workbench to go", || {
        server.clean_up();
        !home.workbench(run).exists()
    });
}

fn ids(page: &Value) -> Vec<String> {
    page["runs"].as_array().unwrap().iter().map(|run| text(&run["id"])).collect()
}

#[test]
fn a_reaped_run_is_listed_with_how_it_ended() {
    let (home, mut server) = Scene::new().config(AGED).start_swept();
    let run = server.start_run("Fails", "printf '\\033[1mlast\\033[0m words\\n'; exit 7", json!({}));
    let before = server.wait_for_run(&run, "failed");
    reap(&home, &mut server, &run);
    let after = server.run(&run);
    assert_has(&after, json!({ "status": "reaped", "outcome": "failed" }));
    for key in ["exit_code", "status_reason", "triggered_at", "started_at", "finished_at", "duration_secs"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert!(after.get("reap_at").is_none() && after.get("last_output").is_none(), "{after}");
    let log = server.ok("read_log", json!({ "run": run }));
    assert!(log["text"] == "last words\n" && text(&log["note"]).contains("gone"), "{log}");
    for (status, total) in [("reaped", 1), ("failed", 1), ("succeeded", 0)] {
        assert_eq!(server.ok("list_runs", json!({ "status": status }))["total"], total, "{status}");
    }
    assert_eq!(server.stop(&run)["status"], "reaped", "stopping what is over changes nothing");
    assert!(server.error("pin_run", json!({ "run": run, "pinned": true })).contains("no workbench"));
    let line = &home.history(&run)[0];
    assert_has(line, json!({ "kind": "run", "routine": "fails", "tail": "last words\n", "tail_cut": false }));
}

#[test]
fn what_the_history_kept_of_a_log_is_searched_and_read_on_like_a_log() {
    let (home, mut server) = Scene::new().config(AGED).start_swept();
    let run = server.routine("Talks", "echo start: one; echo other; echo end: two").run_to("succeeded");
    let long = server.routine("Chats", "seq 1 2000").run_to("succeeded");
    reap(&home, &mut server, &run);
    reap(&home, &mut server, &long);
    let mut read = |more: Value| {
        let mut arguments = json!({ "run": run });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let log = server.ok("read_log", arguments);
        assert!(text(&log["note"]).contains("workbench is gone") && log["log_bytes"] == 26, "{log}");
        (text(&log["text"]), log["cut"] == true, log["next_offset"].as_u64().unwrap())
    };
    assert_eq!(read(json!({})), ("start: one\nother\nend: two\n".into(), false, 26));
    assert_eq!(read(json!({ "tail_lines": 1 })), ("end: two\n".into(), true, 26));
    assert_eq!(read(json!({ "offset": 11 })), ("other\nend: two\n".into(), false, 26));
    assert_eq!(read(json!({ "offset": 26 })), (String::new(), false, 26));
    assert_eq!(read(json!({ "offset": 9999 })), (String::new(), false, 26), "nothing came after that");
    assert_eq!(read(json!({ "grep": ": " })), ("0:start: one\n17:end: two\n".into(), false, 26));
    assert_eq!(read(json!({ "grep": "START|other", "offset": 11 })), ("11:other\n".into(), false, 26));
    let end = server.ok("read_log", json!({ "run": long }));
    assert!(end["cut"] == true && text(&end["note"]).contains("only this end"), "{end}");
    assert!(text(&end["text"]).ends_with("\n1999\n2000\n") && end["next_offset"] == end["log_bytes"], "{end}");
    // What was counted in the whole log is where it was.
    let whole = (1..=2000).map(|n| format!("{n}\n")).collect::<String>();
    assert_eq!(end["log_bytes"].as_u64().unwrap(), whole.len() as u64);
    let on = server.ok("read_log", json!({ "run": long, "offset": whole.len() - 10 }));
    assert_has(&on, json!({ "text": "1999\n2000\n", "cut": false }));
    let found = server.ok("read_log", json!({ "run": long, "grep": "^1999$" }));
    assert_eq!(found["text"], format!("{}:1999\n", whole.len() - 10));
    let grep = |pattern: &str| home.moadim(&["logs", &run, "--grep", pattern]).ok();
    assert_eq!(grep("start|end"), "start: one\nend: two\n");
    assert_eq!(grep("nothing"), "");
    assert_eq!(home.moadim(&["logs", "-f", &run]).ok(), "start: one\nother\nend: two\n");
}

#[test]
fn the_last_run_of_a_routine_is_told_from_the_history_once_its_workbench_is_gone() {
    let (home, mut server) = Scene::new().config("default_ttl_secs = 1\n").start_swept();
    let last_run = |server: &mut Server| server.ok("list_routines", json!({}))["routines"][0]["last_run"].clone();
    let failed =
        server.routine("Works", "test -e ../../fixed").with(json!({ "failed_ttl_secs": 1000 })).run_to("failed");
    assert_eq!(last_run(&mut server)["run"], failed);
    home.write("fixed", "");
    let run = server.trigger("works");
    let ended = server.wait_for_run(&run, "succeeded");
    reap(&home, &mut server, &run);
    // The older one still has its workbench.
    assert!(home.workbench(&failed).exists());
    let last = last_run(&mut server);
    let reported = json!({
        "run": run, "status": "succeeded", "triggered_at": ended["triggered_at"], "finished_at": ended["finished_at"],
    });
    assert_eq!(last, reported);
    let table = home.moadim(&["routines"]).ok();
    assert!(table.contains("succeeded") && !table.contains("never"), "{table}");
    drop(server);
    let mut fresh = Server::start_swept(&home);
    assert_eq!(last_run(&mut fresh), reported, "in a new process too");
}

#[test]
fn a_history_that_was_edited_in_place_is_read_again() {
    let (home, mut server) = Scene::new().config(AGED).start_swept();
    let line = |slug: &str, stamp: u64, status: &str| {
        let time = moadim_mcp::clock::UnixSeconds(stamp);
        let line = json!({
            "version": 1, "id": format!("{slug}-{stamp}"), "status": status, "agent": "x", "session_host": "detached",
            "triggered_at": time, "finished_at": time, "retain_from": time, "cookie": format!("{stamp:032}"),
        });
        format!("{line}\n")
    };
    let path = home.root().join("history.jsonl");
    let write = |lines: &[String]| fs::write(&path, lines.concat()).unwrap();
    let lines: Vec<String> = (1..5).map(|stamp| line("a", stamp, "failed")).collect();
    write(&lines);
    let mut list = |more: Value| {
        let page = server.ok("list_runs", more.clone());
        let shown = more.get("limit").map_or_else(|| page["total"].clone(), Clone::clone);
        assert_eq!(ids(&page).len() as u64, shown.as_u64().unwrap(), "{page}");
        ids(&page)
    };
    assert_eq!(list(json!({})), ["a-4", "a-3", "a-2", "a-1"]);
    // A line is taken out and others are added, so that the file is larger than before.
    let more: Vec<String> = (5..8).map(|stamp| line("a", stamp, "failed")).collect();
    write(&[&lines[..1], &lines[2..], &more].concat());
    assert_eq!(list(json!({})), ["a-7", "a-6", "a-5", "a-4", "a-3", "a-1"]);
    // A line is changed to one of the same length, and another is added.
    let mut changed = [&lines[..1], &lines[2..], &more].concat();
    changed[1] = line("b", 3, "failed");
    changed.push(line("a", 9, "failed"));
    write(&changed);
    assert_eq!(list(json!({})), ["a-9", "a-7", "a-6", "a-5", "a-4", "b-3", "a-1"]);
    // A line in front, so that all others move.
    changed.insert(0, line("c", 1, "succeeded"));
    write(&changed);
    assert_eq!(list(json!({ "status": "succeeded" })), ["c-1"]);
    // A line that begins like one and is none takes the place of no run.
    changed.push("{\"id\":\"a-20\",\"status\":\"failed\"}\n".to_owned());
    write(&changed);
    assert_eq!(list(json!({ "limit": 1 }))[0], "a-9");
    assert!(!list(json!({})).contains(&"a-20".to_owned()));
    write(&[]);
    assert_eq!(list(json!({})), [] as [&str; 0]);
}

#[test]
fn a_kill_is_told_with_who_did_it_and_why() {
    let (home, mut server) = Scene::new().start_swept();
    let run = server.start_run("Lives", "exec sleep 300", json!({}));
    server.ok("stop_run", json!({ "run": run, "reason": "enough" }));
    let line = &home.history(&run)[0];
    assert_has(line, json!({ "status": "stopped", "ended_by": "stop_run", "reason": "enough" }));
}

#[test]
fn pages_cross_from_workbenches_into_the_history() {
    let (home, mut server) = Scene::new().start_swept();
    let line = |slug: &str, stamp: u64| {
        let time = moadim_mcp::clock::UnixSeconds(stamp);
        json!({
            "version": 1, "id": format!("{slug}-{stamp}"), "status": "succeeded", "agent": "x", "session_host": "detached",
            "triggered_at": time, "finished_at": time, "retain_from": time, "cookie": "0".repeat(32),
        })
    };
    let mut lines = String::new();
    for n in 0..7 {
        lines.push_str(&format!("{}\n", line("old", 1_500_000_000 + n)));
    }
    lines.push_str("{damaged\n");
    lines.push_str(&format!("{}\n", line("kept", 1_500_000_003)));
    home.write("history.jsonl", &lines);
    for (slug, stamp) in [("kept", 1_500_000_003), ("new", 1_600_000_000)] {
        home.write(format!("workbenches/{slug}-{stamp}/outcome.json"), &line(slug, stamp).to_string());
    }
    let mut seen = Vec::new();
    let mut arguments = json!({ "limit": 2 });
    loop {
        let page = server.ok("list_runs", arguments.clone());
        assert_eq!(page["total"], 9, "{page}");
        seen.extend(ids(&page));
        let Some(next) = page.get("next_cursor") else { break };
        arguments["cursor"] = next.clone();
    }
    let old = |n: u64| format!("old-{}", 1_500_000_000 + n);
    let expected = ["new-1600000000".to_owned(), old(6), old(5), old(4), old(3), "kept-1500000003".to_owned()];
    assert_eq!(seen, [&expected[..], &[old(2), old(1), old(0)]].concat());
    let between = json!({ "since": "2017-07-14T02:40:02Z", "until": "2017-07-14T02:40:04Z" });
    assert_eq!(ids(&server.ok("list_runs", between)), [old(4), old(3), "kept-1500000003".to_owned(), old(2)]);
    assert_eq!(server.ok("list_runs", json!({ "routine": "kept" }))["total"], 1, "once, as what it is now");
    assert_eq!(server.ok("list_runs", json!({ "status": "succeeded" }))["total"], 9);
    assert!(server.error("list_runs", json!({ "since": "yesterday" })).contains("RFC 3339"));
    let problems = server.problems();
    assert!(problems.iter().any(|one| text(&one["problem"]).contains("1 lines of the history")), "{problems:?}");
}

#[test]
fn hooks_run_once_with_the_facts_and_failures_have_their_own() {
    let home = TestHome::new();
    let out = home.scratch().join("said");
    fs::create_dir(&out).unwrap();
    let hook = home.script(
        "hook",
        &format!("env > {}/$1-$MOADIM_ROUTINE.new; echo x >> {0}/$1-$MOADIM_ROUTINE.count; mv {0}/$1-$MOADIM_ROUTINE.new {0}/$1-$MOADIM_ROUTINE", out.display()),
    );
    home.configure(&format!(
        "session_host = \"detached\"\nkill_grace_secs = 1\non_finish = [\"{0}\", \"finish\"]\non_failure = [\"{0}\", \"failure\"]\n",
        hook.display()
    ));
    home.add_shell();
    let mut server = Server::start_swept(&home);
    let bad = server.start_run("Bad", "exit 7", json!({}));
    let good = server.start_run("Good", "true", json!({}));
    server.wait_for_run(&bad, "failed");
    server.wait_for_run(&good, "succeeded");
    for name in ["finish-bad", "failure-bad", "finish-good"] {
        wait_until(name, || out.join(name).exists());
    }
    // Here a judge records the end.
    let lost = server.start_run("Lost", "exec sleep 300", json!({}));
    let processes = ["supervisor", "agent"].map(|who| home.noted(&lost, who));
    processes.iter().for_each(crate::harness::Seen::kill);
    for name in ["finish-lost", "failure-lost"] {
        wait_until(name, || {
            server.clean_up();
            out.join(name).exists()
        });
    }
    assert!(fs::read_to_string(out.join("failure-lost")).unwrap().contains("MOADIM_STATUS=lost\n"));
    let facts = fs::read_to_string(out.join("failure-bad")).unwrap();
    let run = home.outcome(&bad).unwrap();
    for fact in [
        format!("MOADIM_RUN={bad}"),
        "MOADIM_STATUS=failed".to_owned(),
        "MOADIM_EXIT_CODE=7".to_owned(),
        format!("MOADIM_REASON={}", text(&run["reason"])),
        format!("MOADIM_WORKBENCH={}", home.workbench(&bad).display()),
        format!("MOADIM_LOG={}", home.workbench(&bad).join("agent.log").display()),
    ] {
        assert!(facts.lines().any(|line| line == fact), "{fact} is not in {facts}");
    }
    assert!(!facts.contains(&text(&run["cookie"])), "it is no process of the run");
    server.clean_up();
    assert!(!out.join("failure-good").exists());
    assert_eq!(fs::read_to_string(out.join("finish-bad.count")).unwrap(), "x\n");
}

#[test]
fn a_hook_that_fails_or_hangs_keeps_nothing_waiting() {
    let home = TestHome::new();
    home.configure(
        "session_host = \"detached\"\nkill_grace_secs = 1\non_finish = [\"sleep\", \"300\"]\n\
         on_failure = [\"sh\", \"-c\", \"echo no such channel; exit 3\"]\n",
    );
    home.add_shell();
    let mut server = Server::start_swept(&home);
    let began = Instant::now();
    let run = server.routine("Bad", "exit 1").run_to("failed");
    assert!(began.elapsed() < Duration::from_secs(25), "it did not wait for the hook");
    wait_until("the failure to be noted", || {
        home.raw_log(&run).contains("on_failure failed: it exited with status 3; it said: no such channel")
    });
    if may_take_long() {
        wait_until("the hanging one to be ended", || {
            home.raw_log(&run).contains("on_finish failed: it took more than 30 s")
        });
        assert!(home.processes_named("sleep").is_empty());
    }
    assert_eq!(server.clean_up()["failed"], json!([]));
    // The rest of it is ended with the test.
    home.processes_named("sleep").iter().for_each(crate::harness::Seen::kill);
    wait_until("its runner to end", || home.processes().iter().all(|one| !one.command.contains(" hook ")));
}

#[test]
fn a_start_gives_a_run_that_ended_the_line_that_a_power_cut_took() {
    let marks = "touch \"$MOADIM_HOME/hook.$MOADIM_RUN\"";
    let (home, mut server) = Scene::new().config(&format!("on_finish = [\"sh\", \"-c\", '{marks}']\n")).start();
    server.create("Ends", "echo the end; exit 3", json!({}));
    let [first, second, third] = [(); 3].map(|()| server.run_to("ends", "failed"));
    server.close_stdin_and_wait();
    let marked = |run: &str| home.root().join(format!("hook.{run}")).exists();
    wait_until("the hooks", || [&first, &second, &third].iter().all(|run| marked(run)));
    let lost = home.history(&second);
    let left: String = [&first, &third].map(|run| format!("{}\n", home.history(run)[0])).concat();
    home.write("history.jsonl", &left);
    fs::remove_file(home.root().join(format!("hook.{second}"))).unwrap();
    let _server = Server::start(&home);
    wait_until("its line", || !home.history(&second).is_empty());
    assert_eq!(home.history(&second), lost, "the same line, once");
    assert_eq!(home.whole_history().len(), 3);
    assert!(!marked(&second), "no hook runs again");
}
