//! Ends that Slurm brings about: preemption, a start by force, limits, and nodes that are taken out of use.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::scene::{home, lines, start, start_again_by_force, submit, wait_for_line};
use crate::harness::{Cluster, PATIENCE, Server, assert_says, text, wait_for, wait_until};
use serde_json::json;

#[test]
fn a_run_that_is_preempted_is_tried_again_on_another_node() {
    let home = home("slurm_partitions = [\"main\"]\n");
    let Some(cluster) = Cluster::with(|settings| {
        settings.cpus = 1;
        settings.conf("PreemptType=preempt/partition_prio");
        // Which its job refuses.
        settings.conf("PreemptMode=REQUEUE");
        settings.conf("PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF");
    }) else {
        return;
    };
    let mut server = cluster.server(&home);
    let prompt = format!("hostname >> {}/ran; exec sleep 300", home.scratch().display());
    let retry = json!({ "retry": { "max_attempts": 2, "backoff_secs": 0 } });
    let first = start(&mut server, "Yields", &prompt, retry);
    let node = text(&server.run(&first)["job"]["node"]);
    let mut urgent = Command::new("sbatch");
    urgent.args(["--partition=urgent", "--output=/dev/null", "-w", &node, "--wrap", "sleep 300"]);
    cluster.on_login(urgent.current_dir(home.scratch())).output().unwrap();
    let line = wait_for_line(&home, &first);
    assert_eq!(line["status"], "interrupted", "{line}");
    let job = text(&line["job"]["id"]);
    wait_until("Slurm to say so", || cluster.squeue("%i %T").contains(&vec![job.clone(), "PREEMPTED".to_owned()]));
    let second = wait_for(PATIENCE, "another attempt", || {
        let listed = server.ok("list_runs", json!({ "routine": "yields", "status": "running" }));
        let run = listed["runs"].get(0)?.clone();
        (run["id"] != *first).then_some(run)
    });
    let other = if node == "node1" { "node2" } else { "node1" };
    assert_eq!(second["job"]["node"], other, "{second}");
    assert_eq!(std::fs::read_to_string(home.scratch().join("ran")).unwrap(), format!("{node}\n{other}\n"));
    assert_eq!(server.stop(&text(&second["id"]))["status"], "stopped");
}

#[test]
fn a_job_that_slurm_starts_again_does_not_run_its_agent_again() {
    let home = home("");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let prompt = format!("hostname >> {}/ran; exec sleep 300", home.scratch().display());
    let run = start(&mut server, "Once", &prompt, json!({}));
    let job = text(&server.run(&run)["job"]["id"]);
    start_again_by_force(&cluster, &run, &job, "node2");
    let line = wait_for_line(&home, &run);
    assert_eq!(line["status"], "interrupted", "{line}");
    // Its second start finds the run of another, or none any more.
    wait_until("its second end", || {
        let states = cluster.job_states(&format!("moadim-{run}"));
        states == ["COMPLETED"] || states == ["FAILED"]
    });
    assert!(cluster.run("scontrol", ["show", "job", &job]).ok().contains("Restarts=1"));
    assert_eq!((lines(&home, "ran"), home.history(&run).len()), (1, 1));
    assert!(!home.entry(&run).exists());
}

#[test]
fn a_node_that_is_taken_out_of_use_keeps_its_run_and_gets_no_other() {
    let home = home("");
    let Some(cluster) = Cluster::with(|settings| settings.nodes = 1) else { return };
    let mut server = cluster.server(&home);
    let first = start(&mut server, "First", "until [ -e leave ]; do sleep 0.05; done", json!({}));
    cluster.run("scontrol", ["update", "nodename=node1", "state=drain", "reason=test"]).ok();
    let second = submit(&mut server, "Second", "echo ran", json!({}));
    wait_until("Slurm's reason", || {
        let seen = server.run(&second);
        assert_eq!(seen["status"], "queued", "{seen}");
        text(&seen["status_reason"]).contains("down, drained or reserved")
    });
    let seen = server.run(&first);
    assert!(seen["status"] == "running" && seen.get("status_reason").is_none(), "{seen}");
    std::fs::write(home.workbench(&first).join("leave"), "").unwrap();
    server.wait_for_run(&first, "succeeded");
    assert_eq!(server.run(&second)["status"], "queued");
    cluster.run("scontrol", ["update", "nodename=node1", "state=resume"]).ok();
    server.wait_for_run(&second, "succeeded");

    // Slurm ends what runs on a node that a person calls down.
    let third = start(&mut server, "Third", "exec sleep 300", json!({}));
    cluster.run("scontrol", ["update", "nodename=node1", "state=down", "reason=test"]).ok();
    let line = wait_for_line(&home, &third);
    assert_eq!(line["status"], "interrupted", "{line}");
    wait_until("its processes to be gone", || home.processes_named("sleep").is_empty());
}

/// Slurm ends what takes too much memory by the control group `memory`. Where that is not of version 1, Slurm cannot be tried without
/// systemd: there a stand-in says of the job what Slurm would, and the rest is as it is.
#[test]
fn that_a_job_took_too_much_memory_is_noted_beside_its_outcome() {
    let limits = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    let home = home("");
    let Some(cluster) = Cluster::with(|settings| (settings.cgroups, settings.memory_limits) = (limits, limits)) else {
        return;
    };
    let mut command = home.command();
    if !limits {
        let _ =
            writeln!(std::io::stderr(), "no control group 'memory' of version 1: OUT_OF_MEMORY comes from a stand-in");
        home.script(
            "squeue",
            "said=$(/usr/bin/squeue \"$@\") || exit\necho \"$said\" | sed 's/|COMPLETED|/|OUT_OF_MEMORY|/'",
        );
        command.env("PATH", home.path_with_scripts());
    }
    let mut server = Server::start_with(cluster.on_login(&command));
    let prompt =
        if limits { "perl -e '$x = \"x\" x (300 << 20)'; echo it ended with $?" } else { "echo it ended with 137" };
    let run = submit(&mut server, "Hungry", prompt, json!({ "resources": { "memory_mib": 64 } }));
    let line = wait_for_line(&home, &run);
    assert_says(&home.raw_log(&run), &["it ended with 137"]);
    assert_eq!((&line["status"], &line["job"]["state"]), (&json!("succeeded"), &json!("OUT_OF_MEMORY")), "{line}");
}
