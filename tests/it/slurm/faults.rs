//! Nodes that fail: nothing is called dead while it may be alive, and nothing is started twice.

use super::scene::{
    TICKING, assert_all_is_kept, cookie, home, lines, node_of, processes_of, start, ticks, wait_for_job, wait_for_line,
    wait_for_more_ticks, wait_for_retry, wait_for_unknown,
};
use crate::harness::{Cluster, Settings, assert_says, kept_because, text, wait_until};
use serde_json::json;

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
    let (node, cookie) = (node_of(&mut server, &run), cookie(&home, &run));
    cluster.node(node).freeze();
    wait_for_job(&cluster, &run, "NODE_FAIL");
    wait_for_unknown(&mut server, &run, &["node", "does not answer"]);
    wait_for_more_ticks(&home, &run);
    assert_says(&kept_because(&assert_all_is_kept(&mut server), &run), &["its node failed"]);
    assert_says(&server.error("trigger_routine", json!({ "routine": "frozen" })), &["may be"]);
    assert_eq!(lines(&home, "ran"), 1, "no other attempt");
    let listed = server.ok("list_runs", json!({ "routine": "frozen" }));
    assert_eq!(listed["total"], 1, "{listed}");

    // Once it is back, Slurm ends what is left there, a job of ours looks, and another attempt is made elsewhere.
    cluster.node(node).thaw();
    let second = text(&wait_for_retry(&mut server, "frozen", &run)["id"]);
    assert_eq!(processes_of(&home, &cookie), [], "they ended before");
    assert_ne!(node_of(&mut server, &second), node, "the node that failed is left out");
    let last = ticks(&home, &run);
    wait_for_more_ticks(&home, &second);
    wait_until("the node to be empty", || cluster.node(node).processes(&home).is_empty());
    assert_eq!(ticks(&home, &run), last);
    let history = home.history(&run);
    assert_eq!((history.len(), &history[0]["status"]), (1, &json!("interrupted")), "{history:?}");
    assert_eq!(lines(&home, "ran"), 2);
    server.stop(&second);
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
}

/// Where the site powers failed nodes off, time tells; and a person may know.
#[test]
fn a_run_on_a_node_that_stays_away_ends_by_the_fence_or_by_a_person() {
    let home = home("slurm_fenced_secs = 1\n");
    let Some(cluster) = Cluster::with(Settings::impatient) else { return };
    let mut server = cluster.server(&home);
    let fenced = start(&mut server, "Fenced", TICKING, json!({}));
    let node = node_of(&mut server, &fenced);
    cluster.node(node).crash();
    let line = wait_for_line(&home, &fenced);
    assert_eq!(line["status"], "interrupted", "{line}");
    home.configure_detached("engine = \"slurm\"\nwatchdog_interval_secs = 1\n");
    let forgotten = start(&mut server, "Forgotten", TICKING, json!({}));
    let node = node_of(&mut server, &forgotten);
    cluster.node(node).crash();
    wait_for_unknown(&mut server, &forgotten, &["does not answer"]);
    let mut forget = home.command();
    forget.args(["forget", "--yes", &forgotten]);
    let answer = cluster.on_login(&forget).output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    assert_eq!(server.run(&forgotten)["status"], "lost");
    wait_for_line(&home, &forgotten);
    assert_eq!((lines(&home, "ran"), home.whole_history().len()), (2, 2));
}

#[test]
fn where_locks_do_not_reach_a_run_lives_as_its_job_does() {
    let home = home("default_ttl_secs = 1\n");
    let Some(cluster) = Cluster::with(|settings| settings.locks = false) else { return };
    let mut server = cluster.server(&home);
    let run = start(&mut server, "Unlocked", "echo there; sleep 8; echo well", json!({}));
    for _ in 0..5 {
        assert_all_is_kept(&mut server);
        assert_eq!(server.run(&run)["status"], "running");
    }
    server.wait_for_run(&run, "succeeded");
    assert_eq!(home.raw_log(&run), "there\nwell\n");
    wait_until("its entry to go", || !home.entry(&run).exists());
    assert_eq!(home.history(&run).len(), 1);
    let run = start(&mut server, "Stopped", TICKING, json!({}));
    assert_eq!(server.stop(&run)["status"], "stopped");
    for node in 1..=2 {
        wait_until("nothing to be left on its node", || cluster.node(node).processes(&home).is_empty());
    }
}
