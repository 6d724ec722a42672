//! Runs whose end nobody on their nodes wrote down. A minute passes, in which their records may still arrive, before they are decided
//! about: these tests take longest, and tests are started by their names.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::scene::{
    assert_all_is_kept, cookie, home, lines, node_of, processes_of, start, start_again_by_force, submit, supervisor,
    wait_for_job, wait_for_line, wait_for_more_ticks, wait_for_retry, wait_for_unknown,
};
use crate::harness::{
    Cluster, PATIENCE, Seen, Settings, assert_says, compile, kept_because, text, wait_for, wait_until,
};
use serde_json::json;

/// A process that does nothing any more, until it is killed.
struct Held(Child);

impl Held {
    fn hold(program: &Path, process: &Seen) -> Self {
        let mut held =
            Self(Command::new(program).arg(process.id.pid.to_string()).stdout(Stdio::piped()).spawn().unwrap());
        let mut said = String::new();
        BufReader::new(held.0.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n", "{process:?}");
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Up to half a minute more, in which Slurm finds out about a time limit.
#[test]
fn what_ends_without_a_record_is_decided_a_minute_later() {
    const CONFIG: &str = "engine = \"slurm\"\nwatchdog_interval_secs = 1\n";
    let home = home("");
    let Some(cluster) = Cluster::with(|settings| settings.kill_wait_secs = 3) else { return };
    let mut server = cluster.server(&home);
    // Our own program was there when it was submitted, and so was an agent's.
    let agent = home.script("agent", "echo");
    home.add_agent("gone", &format!("command = \"{}\"\n", agent.display()));
    home.configure_detached(&format!("{CONFIG}slurm_args = [\"--hold\"]\n"));
    let without_us = submit(&mut server, "Without Us", "echo never", json!({}));
    let arguments = json!({ "title": "Without Agent", "agent": "gone", "prompt": "x" });
    let routine = text(&server.ok("create_routine", arguments)["routine"]["slug"]);
    let without_agent = server.trigger(&routine);
    home.configure_detached(CONFIG);
    let held = [&without_agent, &without_us].map(|run| {
        let seen = wait_for(PATIENCE, "Slurm's reason", || {
            let seen = server.run(run);
            assert_eq!(seen["status"], "queued", "{seen}");
            text(&seen["status_reason"]).contains("scontrol release").then_some(seen)
        });
        text(&seen["job"]["id"])
    });
    std::fs::remove_file(agent).unwrap();
    cluster.run("scontrol", ["release", &held[0]]).ok();
    let line = wait_for_line(&home, &without_agent);
    assert_eq!(line["status"], "launch_failed", "{line}");
    assert_says(&text(&line["reason"]), &["bin/agent' was not found"]);
    std::fs::remove_dir_all(home.root().join("bin")).unwrap();
    cluster.run("scontrol", ["release", &held[1]]).ok();
    wait_for_job(&cluster, &without_us, "FAILED");
    wait_until("that to be said", || {
        let seen = server.run(&without_us);
        seen["status"] == "preparing" && text(&seen["status_reason"]).contains("waiting for its records")
    });

    let titles = ["limit", "cancel", "same", "other"];
    let runs = titles.map(|title| {
        let prompt = format!("hostname >> {}/ran-{title}; exec sleep 300", home.scratch().display());
        start(&mut server, title, &prompt, json!({ "resources": { "cpus": 1 } }))
    });
    let node = |run: &str| text(&home.json(format!("running/{run}/supervisor.json")).unwrap()["job"]["node"]);
    let [limit, cancel, same, other] = runs.each_ref().map(|run| text(&server.run(run)["job"]["id"]));
    // Those that could end them in good order, or write down how they end.
    let program = compile("hold.c", home.scratch());
    let _held = runs.each_ref().map(|run| Held::hold(&program, &supervisor(&cluster, &home, run)));
    cluster.run("scontrol", ["update", &format!("jobid={limit}"), "EndTime=now"]).ok();
    cluster.run("scancel", [&cancel]).ok();
    start_again_by_force(&cluster, &runs[2], &same, &node(&runs[2]));
    let elsewhere = if node(&runs[3]) == "node1" { "node2" } else { "node1" };
    start_again_by_force(&cluster, &runs[3], &other, elsewhere);
    // The second start of each finds that another has the run.
    for run in &runs[2..] {
        wait_for_job(&cluster, run, "COMPLETED");
    }

    let lost = "vanished without recording an end";
    let ends = [
        (&runs[0], "timed_out", "at the time limit", Some("TIMEOUT")),
        (&runs[1], "interrupted", "its job was cancelled", Some("CANCELLED")),
        (&runs[2], "lost", lost, None),
        (&runs[3], "lost", lost, None),
        (&without_us, "launch_failed", "home/bin/moadim-mcp-", Some("FAILED")),
    ];
    for (run, status, reason, state) in ends {
        let line = wait_for_line(&home, run);
        assert_eq!((&line["status"], line["job"]["state"].as_str()), (&json!(status), state), "{line}");
        assert_says(&text(&line["reason"]), &[reason]);
        // Nobody knows what is left where nothing was started, and nobody needs to.
        let checks: &[&str] = if run == &without_us { &[] } else { &["COMPLETED"] };
        assert_eq!(cluster.job_states(&format!("moadim-check.{run}")), checks, "{line}");
    }
    for title in titles {
        assert_eq!(lines(&home, &format!("ran-{title}")), 1, "{title}");
    }
    assert!(home.processes_named("sleep").is_empty());
}

/// Had the supervisor lived, Slurm would end all of it once the node is back, and had it gone before the node failed, Slurm would call
/// its job FAILED. So a check has to do it, where Slurm knows processes by their parents.
#[test]
fn what_is_left_on_a_node_that_failed_is_ended_by_a_check() {
    let home = home("default_ttl_secs = 1\ndefault_failed_ttl_secs = 1\n");
    let Some(cluster) = Cluster::with(Settings::impatient) else { return };
    let mut server = cluster.server(&home);
    let prompt = "hostname >> ../../../ran; (trap '' TERM HUP; exec setsid sleep 301) & \
                  setsid sh -c 'while :; do echo >> ../../../ticks-$MOADIM_RUN; sleep 0.1; done' & exec sleep 302";
    let retry = json!({ "retry": { "max_attempts": 3, "backoff_secs": 0 } });
    let run = start(&mut server, "Left", prompt, retry);
    wait_for_more_ticks(&home, &run);
    let (node, cookie) = (node_of(&mut server, &run), cookie(&home, &run));
    let supervisor = supervisor(&cluster, &home, &run);
    cluster.node(node).freeze();
    wait_for_job(&cluster, &run, "NODE_FAIL");
    supervisor.kill();
    wait_until("its end", || !supervisor.id.is_alive());

    wait_for_unknown(&mut server, &run, &["its node", "failed", "does not answer"]);
    wait_for_more_ticks(&home, &run);
    assert_says(&kept_because(&assert_all_is_kept(&mut server), &run), &["its node failed"]);
    assert!(home.workbench(&run).exists() && home.history(&run).is_empty());
    assert_says(&server.error("trigger_routine", json!({ "routine": "left" })), &["may be"]);
    let listed = server.ok("list_runs", json!({ "routine": "left" }));
    assert_eq!((&listed["total"], lines(&home, "ran")), (&json!(1), 1), "no other attempt: {listed}");
    let left = processes_of(&home, &cookie);
    for command in ["sleep 301", "sleep 302"] {
        assert!(left.iter().any(|one| one.command == command), "{left:?}");
    }

    cluster.node(node).thaw();
    let line = wait_for_line(&home, &run);
    assert_eq!(processes_of(&home, &cookie), []);
    assert_eq!((&line["status"], &line["job"]["state"]), (&json!("interrupted"), &json!("NODE_FAIL")), "{line}");
    assert_says(&text(&line["reason"]), &["its node failed"]);
    wait_until("the check's end", || cluster.job_states(&format!("moadim-check.{run}")) == ["COMPLETED"]);
    wait_until("the node to be empty", || cluster.node(node).processes(&home).is_empty());
    let second = text(&wait_for_retry(&mut server, "left", &run)["id"]);
    assert_ne!(node_of(&mut server, &second), node, "the node that failed is left out");
    assert_eq!(server.stop(&second)["status"], "stopped");
    assert_eq!((home.history(&run).len(), lines(&home, "ran")), (1, 2));
}
