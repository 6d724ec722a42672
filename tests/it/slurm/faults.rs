//! Machines and daemons that fail: nothing is called dead while it may be alive, and nothing is started twice.

use std::time::{Duration, Instant};

use super::scene::{home, lines, start, submit, wait_for_job};
use crate::harness::{
    Cluster, PATIENCE, Server, Settings, TestHome, assert_says, kept_because, text, wait_for, wait_until,
};
use serde_json::{Value, json};

/// How long a tool may take, whatever Slurm does.
const ANSWER: Duration = Duration::from_secs(5);

/// An agent that says on which node it runs, and goes on.
const TICKING: &str = "hostname >> ../../../ran; while :; do echo >> ../../../ticks; sleep 0.1; done";

fn ticks(home: &TestHome) -> usize {
    lines(home, "ticks")
}

/// Returns the number of the node that a run is on.
fn node_of(server: &mut Server, run: &str) -> usize {
    text(&server.run(run)["job"]["node"]).strip_prefix("node").unwrap().parse().unwrap()
}

#[track_caller]
fn wait_for_unknown(server: &mut Server, run: &str, words: &[&str]) -> Value {
    wait_for(PATIENCE, "its state to be unknown", || {
        let seen = server.run(run);
        let reason = seen["status_reason"].as_str().unwrap_or_default();
        (seen["status"] == "unknown" && words.iter().all(|word| reason.contains(word))).then_some(seen.clone())
    })
}

#[test]
fn on_a_frozen_node_a_run_is_unknown_and_kept_until_the_node_is_back() {
    // The node's lock must not be what saves it.
    let home = home("default_ttl_secs = 1\ndefault_failed_ttl_secs = 1\n");
    let Some(cluster) = Cluster::with(|settings| {
        settings.impatient();
        settings.locks = false;
    }) else {
        return;
    };
    let mut server = cluster.server(&home);
    let retry = json!({ "retry": { "max_attempts": 3, "backoff_secs": 1 } });
    let run = start(&mut server, "Frozen", TICKING, retry);
    let node = node_of(&mut server, &run);
    cluster.node(node).freeze();
    wait_for_job(&cluster, &run, "NODE_FAIL");
    wait_for_unknown(&mut server, &run, &["node", "does not answer"]);
    let before = ticks(&home);
    wait_until("it to go on", || ticks(&home) > before);
    let report = server.clean_up();
    assert_eq!((&report["killed"], &report["removed"]), (&json!([]), &json!([])), "{report}");
    assert_says(&kept_because(&report, &run), &["its node failed"]);
    assert_says(&server.error("trigger_routine", json!({ "routine": "frozen" })), &["may be"]);
    assert_eq!(lines(&home, "ran"), 1, "no other attempt");
    let listed = server.ok("list_runs", json!({ "routine": "frozen" }));
    assert_eq!(listed["total"], 1, "{listed}");

    // Once it is back, Slurm ends what is left there, a job of ours looks, and another attempt is made elsewhere.
    cluster.node(node).thaw();
    let second = wait_for(2 * PATIENCE, "another attempt", || {
        let listed = server.ok("list_runs", json!({ "routine": "frozen", "status": "running" }));
        Some(listed["runs"].get(0)?.clone()).filter(|other| other["id"] != json!(run))
    });
    assert_eq!(second["origin"], json!({ "by": "retry", "of": run, "attempt": 2 }));
    assert_ne!(node_of(&mut server, &text(&second["id"])), node, "the node that failed is left out");
    let history = home.history(&run);
    assert_eq!((history.len(), &history[0]["status"]), (1, &json!("interrupted")), "{history:?}");
    assert_eq!(lines(&home, "ran"), 2);
    server.stop(&text(&second["id"]));
}

#[test]
fn a_run_whose_node_crashed_is_interrupted_once_the_node_is_back() {
    let home = home("");
    let Some(cluster) = Cluster::with(Settings::impatient) else { return };
    let mut server = cluster.server(&home);
    let run = start(&mut server, "Crashed", TICKING, json!({}));
    let node = node_of(&mut server, &run);
    cluster.node(node).crash();
    wait_for_unknown(&mut server, &run, &["does not answer"]);
    assert_eq!(home.history(&run).len(), 0);
    cluster.node(node).start();
    let seen = server.wait_for_run(&run, "interrupted");
    assert_says(&text(&seen["status_reason"]), &["failed"]);
    assert_eq!(seen["job"]["state"], "NODE_FAIL", "{seen}");
    wait_until("its entry to go", || !home.entry(&run).exists());
    assert_eq!((home.history(&run).len(), lines(&home, "ran")), (1, 1));

    // Where the site powers failed nodes off, time tells; and a person may know.
    home.configure_detached("engine = \"slurm\"\nwatchdog_interval_secs = 1\nslurm_fenced_secs = 1\n");
    let run = start(&mut server, "Fenced", TICKING, json!({}));
    let node = node_of(&mut server, &run);
    cluster.node(node).crash();
    server.wait_for_run(&run, "interrupted");
    home.configure_detached("engine = \"slurm\"\nwatchdog_interval_secs = 1\n");
    let run = start(&mut server, "Forgotten", TICKING, json!({}));
    let node = node_of(&mut server, &run);
    cluster.node(node).crash();
    wait_for_unknown(&mut server, &run, &["does not answer"]);
    let mut forget = home.command();
    forget.args(["forget", "--yes", &run]);
    let forgotten = cluster.on_login(&forget).output().unwrap();
    assert!(forgotten.status.success(), "{forgotten:?}");
    assert_eq!(server.run(&run)["status"], "lost");
}

#[test]
fn a_controller_that_crashes_after_submissions_doubles_and_forgets_nothing() {
    const RUNS: usize = 20;
    let home = home("slurm_max_jobs = 100\n");
    let Some(cluster) = Cluster::with(Settings::impatient) else { return };
    let mut server = cluster.server(&home);
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let prompt = format!("echo >> ../../../ran.{number}; sleep 4; echo well");
        runs.push(submit(&mut server, &format!("Run {number}"), &prompt, json!({})));
        if number == RUNS / 2 {
            cluster.controller().stop();
            cluster.controller().start();
        }
    }
    cluster.controller().stop();
    cluster.controller().start();
    let ended = wait_for(4 * PATIENCE, "all to be recorded", || {
        let ended: Vec<Value> = runs.iter().flat_map(|run| home.history(run)).collect();
        let left = runs.iter().filter(|run| home.entry(run).exists()).count();
        (left == 0).then_some(ended)
    });
    assert_eq!(ended.len(), RUNS, "each once");
    for (number, run) in runs.iter().enumerate() {
        let ran = lines(&home, &format!("ran.{number}"));
        let line = ended.iter().find(|line| line["id"] == json!(run)).unwrap();
        assert!(ran <= 1, "{run} ran {ran} times: {line}");
        let status = text(&line["status"]);
        // A job that the controller forgot before it started never ran; one that it forgot afterwards was ended by its node.
        match ran {
            1 => assert!(["succeeded", "interrupted", "lost"].contains(&status.as_str()), "{line}"),
            _ => assert!(["launch_failed", "interrupted"].contains(&status.as_str()), "{line}"),
        }
    }
}

/// Calls all that people and agents call while Slurm hangs.
#[track_caller]
fn assert_answers(server: &mut Server, run: &str) {
    for (tool, arguments) in [
        ("list_runs", json!({})),
        ("get_run", json!({ "run": run })),
        ("list_routines", json!({})),
        ("read_log", json!({ "run": run })),
        ("health", json!({})),
        ("cleanup_workbenches", json!({ "dry_run": true })),
        ("trigger_routine", json!({ "routine": "meanwhile" })),
    ] {
        let began = Instant::now();
        let answer = server.ok(tool, arguments);
        assert!(began.elapsed() < ANSWER, "{tool} took {:?}: {answer}", began.elapsed());
    }
}

fn is_unaffected_by(freeze: fn(&Cluster), thaw: fn(&Cluster)) {
    let home = home("");
    // Nodes are not given up meanwhile.
    let Some(cluster) = Cluster::with(|settings| settings.conf("SlurmdTimeout=300")) else { return };
    let mut server = cluster.server(&home);
    let run = start(&mut server, "Goes On", TICKING, json!({}));
    server.create("Meanwhile", "echo >> ../../../meanwhile; sleep 1", json!({}));
    freeze(&cluster);
    assert_answers(&mut server, &run);
    let seen = server.run(&run);
    assert!(["running", "unknown"].contains(&text(&seen["status"]).as_str()), "{seen}");
    let report = server.clean_up();
    assert_eq!((&report["killed"], &report["removed"]), (&json!([]), &json!([])), "{report}");
    let before = ticks(&home);
    wait_until("it to go on", || ticks(&home) > before);
    thaw(&cluster);
    server.wait_for_run(&run, "running");
    let meanwhile = text(&server.ok("list_runs", json!({ "routine": "meanwhile" }))["runs"][0]["id"]);
    // It was submitted once, whether Slurm heard of it or not.
    wait_for(2 * PATIENCE, "the other to end", || {
        let seen = server.run(&meanwhile);
        seen.get("finished_at")
            .map(|_| assert!(["succeeded", "launch_failed"].contains(&text(&seen["status"]).as_str()), "{seen}"))
    });
    assert!(lines(&home, "meanwhile") <= 1);
    assert_eq!(server.stop(&run)["status"], "stopped");
}

#[test]
fn while_the_controller_hangs_tools_answer_and_nothing_is_ended() {
    is_unaffected_by(|cluster| cluster.controller().freeze(), |cluster| cluster.controller().thaw());
}

#[test]
fn while_munge_hangs_tools_answer_and_nothing_is_ended() {
    is_unaffected_by(|cluster| cluster.munge().freeze(), |cluster| cluster.munge().thaw());
}

#[test]
fn where_locks_do_not_reach_a_run_lives_as_its_job_does() {
    let home = home("default_ttl_secs = 1\n");
    let Some(cluster) = Cluster::with(|settings| settings.locks = false) else { return };
    let mut server = cluster.server(&home);
    let run = start(&mut server, "Unlocked", "echo there; sleep 8; echo well", json!({}));
    for _ in 0..5 {
        let report = server.clean_up();
        assert_eq!((&report["killed"], &report["removed"]), (&json!([]), &json!([])), "{report}");
        assert_eq!(server.run(&run)["status"], "running");
    }
    server.wait_for_run(&run, "succeeded");
    assert_eq!(home.raw_log(&run), "there\nwell\n");
    wait_until("its entry to go", || !home.entry(&run).exists());
    assert_eq!(home.history(&run).len(), 1);
    let run = start(&mut server, "Stopped", TICKING, json!({}));
    assert_eq!(server.stop(&run)["status"], "stopped");
    let before = ticks(&home);
    assert_eq!(ticks(&home), before, "nothing is left of it");
}

#[test]
fn records_that_arrive_late_are_waited_for() {
    let home = home("");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let gate = home.scratch().join("gate");
    let prompt = format!("until [ -e {} ]; do sleep 0.05; done; echo well", gate.display());
    let run = submit(&mut server, "Late Records", &prompt, json!({}));
    server.wait_for_run(&run, "running");
    // The login machine sees its directory as it was before, as a file system does that caches listings.
    let entry = home.entry(&run);
    let old = home.scratch().join("old");
    std::fs::create_dir(&old).unwrap();
    for name in ["run.json", "env.json", "lock", "judge", "job.json", "job.sh"] {
        if entry.join(name).exists() {
            std::fs::copy(entry.join(name), old.join(name)).unwrap();
        }
    }
    let show_old = cluster.run("mount", ["--bind", old.to_str().unwrap(), entry.to_str().unwrap()]);
    show_old.ok();
    std::fs::write(&gate, "").unwrap();
    wait_for_job(&cluster, &run, "COMPLETED");
    for _ in 0..5 {
        let report = server.clean_up();
        assert_eq!((&report["killed"], &report["removed"]), (&json!([]), &json!([])), "{report}");
        let seen = server.run(&run);
        assert!(seen.get("finished_at").is_none(), "{seen}");
    }
    cluster.run("umount", [entry.to_str().unwrap()]).ok();
    let seen = server.wait_for_run(&run, "succeeded");
    assert_eq!(seen.get("status_reason"), None, "{seen}");
    wait_until("its entry to go", || !home.entry(&run).exists());
    assert_eq!(home.history(&run).len(), 1);
}
