//! Ends that Slurm brings about: preemption, a start by force, limits, nodes that are taken out of use, and what is missing on a node.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::scene::{home, lines, start, submit, supervisor, wait_for_job, wait_for_line};
use crate::harness::{Cluster, PATIENCE, Seen, TestHome, assert_says, text, wait_for, wait_until};
use crate::unsaved::{GIT, sh};
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

/// Compiles the program that does that.
fn holder(home: &TestHome) -> PathBuf {
    let program = home.scratch().join("hold");
    let mut compile = Command::new("cc");
    compile.arg("-o").arg(&program).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slurm/hold.c"));
    assert!(compile.status().unwrap().success());
    program
}

/// Has Slurm start a job once more, on this node, although it was submitted with `--no-requeue`.
#[track_caller]
fn start_again_by_force(cluster: &Cluster, run: &str, job: &str, node: &str) {
    let refused = cluster.run("scontrol", ["requeue", job]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_says(&refused.stderr, &["disabled"]);
    cluster.run("scontrol", ["update", &format!("jobid={job}"), "requeue=1"]).ok();
    cluster.run("scontrol", ["requeue", job]).ok();
    wait_for_job(cluster, run, "PENDING");
    let node = format!("ReqNodeList={node}");
    cluster.run("scontrol", ["update", &format!("jobid={job}"), "StartTime=now", &node]).ok();
}

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

/// A minute passes, in which their records may still arrive, after up to half of one in which Slurm finds out about a time limit.
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
    let program = holder(&home);
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

#[test]
fn that_a_job_took_too_much_memory_is_noted_beside_its_outcome() {
    if let Err(error) = std::fs::metadata("/sys/fs/cgroup/memory/memory.limit_in_bytes") {
        // Where the second version has it, Slurm could not be tried without systemd.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no control group 'memory' of version 1: {error}");
        return;
    }
    let home = home("");
    let Some(cluster) = Cluster::with(|settings| (settings.cgroups, settings.memory_limits) = (true, true)) else {
        return;
    };
    let mut server = cluster.server(&home);
    let prompt = "perl -e '$x = \"x\" x (300 << 20)'; echo it ended with $?";
    let run = submit(&mut server, "Hungry", prompt, json!({ "resources": { "memory_mib": 64 } }));
    let line = wait_for_line(&home, &run);
    assert_says(&home.raw_log(&run), &["it ended with 137"]);
    assert_eq!((&line["status"], &line["job"]["state"]), (&json!("succeeded"), &json!("OUT_OF_MEMORY")), "{line}");
}

#[test]
fn work_that_was_not_saved_on_a_node_is_archived_and_comes_back() {
    let home = home("");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let url = home.scratch().join("remote.git");
    sh(
        home.scratch(),
        "git init -q --bare -b main remote.git; git clone -q remote.git seed 2>/dev/null; cd seed; git checkout -q -b main; \
         commit a; git push -q origin main",
    );
    let prompt = format!("{GIT}; cd remote; commit b; echo more >> a; hostname > new");
    let more = json!({ "repositories": [{ "url": url }], "ttl_secs": 1 });
    let run = submit(&mut server, "Work", &prompt, more);
    let line = wait_for_line(&home, &run);
    assert_eq!(line["status"], "succeeded", "{line} {}", home.raw_log(&run));
    wait_until("its workbench to go", || {
        server.clean_up();
        !home.workbench(&run).exists()
    });
    std::fs::rename(url, home.scratch().join("gone.git")).unwrap();
    let target = home.scratch().join("back");
    let recovered = home.command().args(["recover", &run]).arg(&target).output().unwrap();
    assert!(recovered.status.success(), "{recovered:?}");
    let seen = sh(&target.join("remote"), "git log --format=%s; cat a; git status --porcelain");
    assert_eq!(seen, "b\na\na\nmore\n M a\n?? new\n");
    assert_says(&sh(&target.join("remote"), "cat new"), &["node"]);
}
