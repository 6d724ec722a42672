//! A home whose runs take place on a cluster.

use crate::harness::{Cluster, PATIENCE, Seen, Server, TestHome, text, wait_for, wait_until};
use serde_json::{Value, json};

/// Makes a home with the engine Slurm and an impatient watchdog.
pub fn home(settings: &str) -> TestHome {
    TestHome::detached(&format!("engine = \"slurm\"\nwatchdog_interval_secs = 1\n{settings}"))
}

/// Creates a routine and triggers it; returns its run once it is accepted, as it is then.
#[track_caller]
pub fn submit(server: &mut Server, title: &str, prompt: &str, more: Value) -> String {
    let routine = server.create(title, prompt, more);
    let run = server.ok("trigger_routine", json!({ "routine": routine }))["run"].clone();
    text(&run["id"])
}

/// Does the same, and waits until its agent runs.
#[track_caller]
pub fn start(server: &mut Server, title: &str, prompt: &str, more: Value) -> String {
    let run = submit(server, title, prompt, more);
    server.wait_for_run(&run, "running");
    run
}

/// Waits until Slurm shows the newest job of a run in this state, and returns its number.
#[track_caller]
pub fn wait_for_job(cluster: &Cluster, run: &str, state: &str) -> String {
    let name = format!("moadim-{run}");
    let mut last = Vec::new();
    wait_for(PATIENCE, &format!("the job of {run} to be {state}"), || {
        last = cluster.squeue("%i %T %j");
        let job = last.iter().filter(|job| job[2] == name).max_by_key(|job| job[0].parse::<u64>().ok())?;
        (job[1] == state).then(|| job[0].clone())
    })
}

/// Returns how many lines of a file of the home's scratch directory were written: one by each agent that ran.
pub fn lines(home: &TestHome, file: &str) -> usize {
    std::fs::read_to_string(home.scratch().join(file)).unwrap_or_default().lines().count()
}

/// Finds the supervisor of a run on its node.
#[track_caller]
pub fn supervisor(cluster: &Cluster, home: &TestHome, run: &str) -> Seen {
    let record = home.json(format!("running/{run}/supervisor.json")).expect("a supervisor");
    let node = text(&record["job"]["node"]);
    let number = node.strip_prefix("node").unwrap().parse().unwrap();
    let pid = record["supervisor"]["pid"].as_i64().unwrap();
    cluster.node(number).process(home, pid).expect("its supervisor is alive")
}

/// Waits until a run is in the history, and returns its line.
#[track_caller]
pub fn wait_for_line(home: &TestHome, run: &str) -> Value {
    wait_until(&format!("the end of {run}"), || !home.entry(run).exists());
    let lines = home.history(run);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}
