//! Controllers that crash, and daemons that hang: calls answer, nothing is ended, and nothing is started twice.

use std::time::{Duration, Instant};

use super::scene::{
    TICKING, assert_all_is_kept, at_once, home, lines, start, submit, wait_for_line, wait_for_more_ticks,
};
use crate::harness::{Cluster, Daemon, Server, Settings, ToolAnswer, assert_says, text, wait_until};
use serde_json::{Value, json};

/// A crash loses what the controller knew of the last 5 s at most: jobs that wait, that were just started, and that have run for a
/// while. So it comes so long after the last submission.
#[test]
fn a_controller_that_crashes_after_submissions_doubles_and_forgets_nothing() {
    let after = [0, 1_000, 2_500, 4_000].map(Duration::from_millis);
    at_once(after, crash_the_controller);
}

fn crash_the_controller(after: Duration) {
    const RUNS: usize = 8;
    let home = home("slurm_max_jobs = 100\n");
    let Some(cluster) = Cluster::with(Settings::impatient) else { return };
    let mut server = cluster.server(&home);
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let prompt = "echo >> ../../../ran-$MOADIM_RUN; sleep 6; echo well";
        runs.push(submit(&mut server, &format!("Run {number}"), prompt, json!({})));
        if after.is_zero() && number == RUNS / 2 {
            cluster.controller().stop();
            cluster.controller().start();
        }
    }
    let submitted = Instant::now();
    wait_until("the crash", || submitted.elapsed() >= after);
    cluster.controller().stop();
    cluster.controller().start();
    give_away_numbers(&cluster, RUNS);
    let mut looked = Instant::now();
    wait_until(&format!("all to be recorded, {after:?}"), || {
        if looked.elapsed() > Duration::from_secs(1) {
            put_back_into_use(&cluster);
            looked = Instant::now();
        }
        runs.iter().all(|run| !home.entry(run).exists())
    });
    for run in &runs {
        let history = home.history(run);
        assert_eq!(history.len(), 1, "{after:?}: {run} {history:?}");
        let (line, ran) = (&history[0], lines(&home, &format!("ran-{run}")));
        assert!(ran <= 1, "{after:?}: it ran {ran} times: {line}");
        // A job that the controller forgot before it started never ran; one that it forgot afterwards was ended by its node.
        let expected: &[&str] =
            if ran == 1 { &["succeeded", "interrupted", "lost"] } else { &["launch_failed", "interrupted"] };
        assert!(expected.contains(&text(&line["status"]).as_str()), "{after:?}: {line}");
    }
    wait_until("nothing to be left", || (1..=2).all(|node| cluster.node(node).processes(&home).is_empty()));
    assert_eq!(home.whole_history().len(), RUNS, "{after:?}");
}

/// A controller gives the numbers of the jobs that it forgot a second time, and a node that knows such a number refuses the job. Here
/// they go to jobs that wait: each check that got one would be repeated only after a pause twice as long as the one before.
fn give_away_numbers(cluster: &Cluster, count: usize) {
    for _ in 0..count {
        wait_until("a job that waits", || cluster.run("sbatch", ["--hold", "--wrap=true"]).code == Some(0));
    }
}

/// Slurm takes a node out of use to which it gave one job twice. Until an administrator says that all is well, no check can run there.
fn put_back_into_use(cluster: &Cluster) {
    let drained = cluster.run("sinfo", ["--noheader", "--states=drain", "--format=%N"]);
    for nodes in drained.stdout.lines().filter(|nodes| !nodes.is_empty()) {
        cluster.run("scontrol", ["update", &format!("nodename={nodes}"), "state=resume"]);
    }
}

#[test]
fn while_slurm_hangs_tools_answer_and_nothing_is_ended() {
    at_once([Hanging::Controller, Hanging::Munge], is_unaffected_by);
}

/// Which daemon hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hanging {
    Controller,
    Munge,
}

impl Hanging {
    fn of(self, cluster: &Cluster) -> Daemon<'_> {
        match self {
            Self::Controller => cluster.controller(),
            Self::Munge => cluster.munge(),
        }
    }
}

/// How long a tool may take, whatever Slurm does.
const ANSWER: Duration = Duration::from_secs(5);

/// How long those may take that end runs: the grace, 1 s here, and ten seconds, after which they look once more.
const END: Duration = Duration::from_secs(12);

/// Calls a tool, which must answer in time.
#[track_caller]
fn ask(server: &mut Server, tool: &str, arguments: Value, within: Duration) -> ToolAnswer {
    let began = Instant::now();
    let answer = server.call_tool(tool, arguments);
    let took = began.elapsed();
    assert!(took < within, "{tool} took {took:?}: {}", answer.text);
    answer
}

/// Calls all that people and agents call while Slurm hangs, but for what ends runs.
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
        ask(server, tool, arguments, ANSWER).ok();
    }
    let report = ask(server, "cleanup_workbenches", json!({}), ANSWER).ok();
    assert_eq!((&report["killed"], &report["removed"]), (&json!([]), &json!([])), "{report}");
    let waited = ask(server, "wait_run", json!({ "run": run, "timeout_secs": 1 }), ANSWER).ok();
    assert_eq!(waited["finished"], false, "{waited}");
}

fn is_unaffected_by(hanging: Hanging) {
    let home = home("");
    // Nodes are not given up meanwhile.
    let Some(cluster) = Cluster::with(|settings| settings.conf("SlurmdTimeout=300")) else { return };
    let mut server = cluster.server(&home);
    let run = start(&mut server, "Goes On", TICKING, json!({}));
    let stopped = start(&mut server, "Stopped", TICKING, json!({}));
    let deleted = start(&mut server, "Deleted", TICKING, json!({}));
    server.create("Meanwhile", "echo >> ../../../meanwhile; sleep 1", json!({}));
    server.create("Unused", "echo >> ../../../unused", json!({}));
    hanging.of(&cluster).freeze();
    assert_answers(&mut server, &run);
    ask(&mut server, "delete_routine", json!({ "routine": "unused", "confirm": true }), ANSWER).ok();
    // Their supervisors hear of it without Slurm.
    let seen = ask(&mut server, "stop_run", json!({ "run": stopped }), END).ok();
    assert_eq!(seen["run"]["status"], "stopped", "{seen}");
    let seen = ask(&mut server, "delete_routine", json!({ "routine": "deleted", "confirm": true }), END).ok();
    assert_eq!(seen["stopped"], json!([deleted]), "{seen}");
    let meanwhile = text(&server.ok("list_runs", json!({ "routine": "meanwhile" }))["runs"][0]["id"]);
    let is_stopped_too = hanging == Hanging::Controller;
    if is_stopped_too {
        // Whether it has a job is not known, so it may not be called over.
        let error = ask(&mut server, "stop_run", json!({ "run": meanwhile }), END).error();
        assert_says(&error, &["was asked to end, and it is not known whether it has"]);
    }
    let seen = server.run(&run);
    assert!(["running", "unknown"].contains(&text(&seen["status"]).as_str()), "{seen}");
    assert_all_is_kept(&mut server);
    wait_for_more_ticks(&home, &run);

    hanging.of(&cluster).thaw();
    server.wait_for_run(&run, "running");
    // It was submitted once, whether Slurm heard of it or not.
    let line = wait_for_line(&home, &meanwhile);
    let expected: &[&str] = if is_stopped_too { &["stopped"] } else { &["succeeded", "launch_failed"] };
    assert!(expected.contains(&text(&line["status"]).as_str()), "{line}");
    for over in [&stopped, &deleted] {
        let line = wait_for_line(&home, over);
        assert_eq!(line["status"], "stopped", "{line}");
    }
    assert!(lines(&home, "meanwhile") <= 1);
    wait_for_more_ticks(&home, &run);
    assert_eq!(server.stop(&run)["status"], "stopped");
    assert_eq!((lines(&home, "ran"), home.whole_history().len()), (3, 4));
}
