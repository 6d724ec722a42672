//! Many runs at once, triggered by many servers, on a cluster with fewer places: each takes place once.
//!
//! 100 of them, or 200 with `MOADIM_LONG_TESTS=1`.

use std::collections::BTreeMap;

use crate::harness::{Cluster, PATIENCE, Server, TestHome, may_take_long, text, wait_for, wait_until};
use serde_json::json;

const SERVERS: usize = 8;

/// Of each of two nodes.
const PLACES: usize = 20;

/// Counts each line of a file of the home's scratch directory.
fn counted(home: &TestHome, file: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(home.scratch().join(file)).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// Triggers a routine, again where the server says so because the others were at it for too long: nothing has begun then.
fn trigger(server: &mut Server, routine: &str) -> String {
    wait_for(PATIENCE, "its turn", || {
        let answer = server.call_tool("trigger_routine", json!({ "routine": routine }));
        let is_late = answer.is_error && answer.text.contains("is held by") && answer.text.contains("try again");
        (!is_late).then(|| text(&answer.ok()["run"]["id"]))
    })
}

#[test]
fn each_of_many_runs_of_many_servers_takes_place_once() {
    let home = TestHome::detached("engine = \"slurm\"\nwatchdog_interval_secs = 5\n");
    let Some(cluster) = Cluster::with(|settings| settings.cpus = PLACES) else { return };
    let runs = if may_take_long() { 200 } else { 100 };
    let prompt = format!("echo $MOADIM_RUN >> {}/ran; sleep 0.2", home.scratch().display());
    let mut servers: Vec<_> = (0..SERVERS).map(|_| cluster.server(&home)).collect();
    // Of one routine, no more runs than seconds can begin.
    let routines: Vec<String> =
        (0..runs).map(|number| servers[0].create(&format!("Many {number}"), &prompt, json!({}))).collect();
    let triggered: Vec<String> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, server) in servers.iter_mut().enumerate() {
            let share = routines.iter().skip(number).step_by(SERVERS);
            threads.push(scope.spawn(move || share.map(|routine| trigger(server, routine)).collect::<Vec<_>>()));
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(triggered.len(), runs);
    wait_until("all ends", || std::fs::read_dir(home.root().join("running")).unwrap().count() == 0);
    let once: BTreeMap<String, usize> = triggered.iter().map(|run| (run.clone(), 1)).collect();
    let history = home.whole_history();
    let mut recorded = BTreeMap::new();
    for line in &history {
        assert_eq!(line["status"], "succeeded", "{line}");
        *recorded.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!((recorded, counted(&home, "ran")), (once.clone(), once));
    // Each was submitted once, and nothing had to be looked for.
    let names = cluster.squeue("%T %j");
    assert_eq!(names.len(), runs, "{names:?}");
    assert!(names.iter().all(|job| job[0] == "COMPLETED"), "{names:?}");
}
