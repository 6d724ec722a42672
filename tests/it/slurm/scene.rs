//! A home whose runs take place on a cluster.

use std::fmt::Debug;
use std::thread::Builder;

use crate::harness::{Cluster, PATIENCE, Seen, Server, TestHome, assert_says, text, wait_for, wait_until};
use serde_json::{Value, json};

/// Makes a home with the engine Slurm and an impatient watchdog.
pub fn home(settings: &str) -> TestHome {
    TestHome::detached(&format!("engine = \"slurm\"\nwatchdog_interval_secs = 1\n{settings}"))
}

/// Tries all cases at once, where most of each is waiting.
pub fn at_once<T: Copy + Debug + Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Copy + Send) {
    std::thread::scope(|scope| {
        let start = |case: T| {
            let name = format!("{} {case:?}", std::thread::current().name().unwrap_or_default());
            (case, Builder::new().name(name).spawn_scoped(scope, move || test(case)).unwrap())
        };
        let begun: Vec<_> = cases.into_iter().map(start).collect();
        let failed: Vec<T> = begun.into_iter().filter_map(|(case, one)| one.join().is_err().then_some(case)).collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
    });
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

/// An agent that says that it ran, and then that it goes on.
pub const TICKING: &str = "hostname >> ../../../ran; while :; do echo >> ../../../ticks-$MOADIM_RUN; sleep 0.1; done";

/// Returns how often the agent of a run has said so.
pub fn ticks(home: &TestHome, run: &str) -> usize {
    lines(home, &format!("ticks-{run}"))
}

#[track_caller]
pub fn wait_for_more_ticks(home: &TestHome, run: &str) {
    let before = ticks(home, run);
    wait_until(&format!("{run} to go on"), || ticks(home, run) > before);
}

/// Lists what is alive of an unfinished run, on whichever machine.
pub fn processes_of(home: &TestHome, cookie: &str) -> Vec<Seen> {
    let mut found = home.processes();
    found.retain(|one| one.cookie.as_deref() == Some(cookie));
    found
}

/// Returns what marks the processes of an unfinished run.
#[track_caller]
pub fn cookie(home: &TestHome, run: &str) -> String {
    text(&home.json(format!("running/{run}/run.json")).expect("its record")["cookie"])
}

/// Returns the number of the node that a run is on.
#[track_caller]
pub fn node_of(server: &mut Server, run: &str) -> usize {
    text(&server.run(run)["job"]["node"]).strip_prefix("node").unwrap().parse().unwrap()
}

#[track_caller]
pub fn wait_for_unknown(server: &mut Server, run: &str, words: &[&str]) -> Value {
    wait_for(PATIENCE, "its state to be unknown", || {
        let seen = server.run(run);
        let reason = seen["status_reason"].as_str().unwrap_or_default();
        (seen["status"] == "unknown" && words.iter().all(|word| reason.contains(word))).then_some(seen.clone())
    })
}

/// Cleans up, and makes sure that nothing was ended or removed.
#[track_caller]
pub fn assert_all_is_kept(server: &mut Server) -> Value {
    let report = server.clean_up();
    assert_eq!((&report["killed"], &report["removed"]), (&json!([]), &json!([])), "{report}");
    report
}

/// Waits until another run of the routine runs, as an attempt after this one.
#[track_caller]
pub fn wait_for_retry(server: &mut Server, routine: &str, run: &str) -> Value {
    let second = wait_for(PATIENCE, "another attempt", || {
        let listed = server.ok("list_runs", json!({ "routine": routine, "status": "running" }));
        Some(listed["runs"].get(0)?.clone()).filter(|other| other["id"] != json!(run))
    });
    assert_eq!(second["origin"], json!({ "by": "retry", "of": run, "attempt": 2 }));
    second
}

/// Has Slurm start a job once more, on this node, although it was submitted with `--no-requeue`.
#[track_caller]
pub fn start_again_by_force(cluster: &Cluster, run: &str, job: &str, node: &str) {
    let refused = cluster.run("scontrol", ["requeue", job]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_says(&refused.stderr, &["disabled"]);
    cluster.run("scontrol", ["update", &format!("jobid={job}"), "requeue=1"]).ok();
    cluster.run("scontrol", ["requeue", job]).ok();
    wait_for_job(cluster, run, "PENDING");
    let node = format!("ReqNodeList={node}");
    cluster.run("scontrol", ["update", &format!("jobid={job}"), "StartTime=now", &node]).ok();
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
