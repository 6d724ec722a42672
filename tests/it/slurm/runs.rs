//! A run on a cluster from its trigger to its outcome, and all that may come in between.

use std::process::Command;

use super::scene::{home, lines, start, submit, wait_for_job};
use crate::harness::{Cluster, PATIENCE, Server, assert_says, text, wait_for, wait_until};
use moadim_mcp::home::lock::{FileLock, Mode};
use serde_json::json;

#[test]
fn a_run_takes_place_on_a_node_and_is_recorded_at_home() {
    let home = home("");
    let hook = home.script("hook", &format!("hostname >> {}", home.scratch().join("hooked").display()));
    home.configure_detached(&format!(
        "engine = \"slurm\"\nwatchdog_interval_secs = 600\nslurm_max_cpus = 4\nslurm_partitions = [\"main\"]\non_failure = [\"{}\"]\n",
        hook.display()
    ));
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let prompt = "hostname; echo cpus=$SLURM_CPUS_PER_TASK run=$MOADIM_RUN; pwd; exit 3";
    let run = submit(&mut server, "Far Away", prompt, json!({ "resources": { "cpus": 2, "partition": "main" } }));
    // Long before the watchdog's next pass.
    let seen = wait_for(PATIENCE, "the end", || {
        let seen = server.run(&run);
        (seen["status"] == "failed" && !home.entry(&run).exists()).then_some(seen)
    });
    assert_eq!((&seen["exit_code"], &seen["job"]["partition"]), (&json!(3), &json!("main")), "{seen}");
    let node = text(&seen["job"]["node"]);
    assert!(node.starts_with("node") && seen["job"].get("state").is_none(), "{seen}");
    let log = home.raw_log(&run);
    assert_eq!(log, format!("{node}\ncpus=2 run={run}\n{}\n", home.workbench(&run).display()));
    let history = home.history(&run);
    assert_eq!((history.len(), &history[0]["job"]["node"]), (1, &json!(node)));
    assert_eq!(home.outcome(&run).unwrap()["job"]["id"], seen["job"]["id"]);
    wait_until("the hook", || lines(&home, "hooked") == 1);
    assert_eq!(std::fs::read_to_string(home.scratch().join("hooked")).unwrap(), "login\n");
}

#[test]
fn a_run_waits_in_the_queue_and_says_why_and_its_bound_does_not_count() {
    let home = home("");
    let Some(cluster) = Cluster::with(|settings| (settings.nodes, settings.cpus) = (1, 1)) else { return };
    let mut server = cluster.server(&home);
    let first = start(&mut server, "First", "echo running; exec sleep 300", json!({}));
    let second = submit(&mut server, "Second", "echo ran; sleep 2; echo well", json!({ "max_runtime_secs": 8 }));
    let queued = wait_for(PATIENCE, "Slurm's reason", || {
        let queued = server.run(&second);
        assert_eq!(queued["status"], "queued");
        text(&queued["status_reason"]).contains("free resources").then_some(queued)
    });
    assert!(queued["job"]["id"].is_string() && queued.get("started_at").is_none(), "{queued}");
    let error = server.error("trigger_routine", json!({ "routine": "second" }));
    assert_says(&error, &["is alive", &second]);
    assert_eq!(server.clean_up()["killed"], json!([]));
    // Longer than its bound, which begins on the node.
    let stamp: u64 = second.rsplit('-').next().unwrap().parse().unwrap();
    wait_until("it to be older than its bound", || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() > stamp + 9);
    assert_eq!(server.stop(&first)["status"], "stopped");
    let done = server.wait_for_run(&second, "succeeded");
    assert_eq!(home.raw_log(&second), "ran\nwell\n", "{done}");

    // One that waits is stopped without ever having run, and one that waits too long has failed.
    let first = start(&mut server, "Third", "exec sleep 300", json!({}));
    let stopped = submit(&mut server, "Stopped", "echo never", json!({}));
    server.wait_for_run(&stopped, "queued");
    let seen = server.stop(&stopped);
    assert_eq!((&seen["status"], seen.get("started_at")), (&json!("stopped"), None), "{seen}");
    home.configure_detached("engine = \"slurm\"\nwatchdog_interval_secs = 1\nmax_queue_secs = 2\n");
    let late = submit(&mut server, "Late", "echo never", json!({}));
    let seen = server.wait_for_run(&late, "launch_failed");
    assert_says(&text(&seen["status_reason"]), &["max_queue_secs", "2 s allowed"]);
    for run in [&stopped, &late] {
        wait_for_job(&cluster, run, "CANCELLED");
        // It is shown as ended a moment before that is recorded.
        wait_until("the entry to go", || !home.entry(run).exists());
        assert_eq!((home.raw_log(run).contains("never"), home.history(run).len()), (false, 1));
    }
    server.stop(&first);
}

#[test]
fn what_slurm_refuses_is_a_failed_launch_that_says_why() {
    let home = home("slurm_partitions = [\"elsewhere\"]\n");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let routine = server.create("Refused", "echo never", json!({}));
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert_says(&error, &["cannot submit its job", "invalid partition specified: elsewhere"]);
    let listed = server.ok("list_runs", json!({ "routine": routine }));
    assert_eq!(listed["runs"][0]["status"], "launch_failed", "{listed}");
    let arguments = json!({ "title": "X", "agent": "shell", "prompt": "x", "resources": { "gpus": 1 } });
    assert_says(&server.error("create_routine", arguments), &["slurm_max_gpus"]);
}

#[test]
fn two_jobs_of_one_run_start_its_agent_once() {
    let home = home("");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let prompt = "hostname >> ../../../ran; sleep 3";
    let run = start(&mut server, "Twice", prompt, json!({}));
    let script = home.entry(&run).join("job.sh");
    let order = home.json(format!("running/{run}/run.json")).unwrap()["job"].clone();
    let name = format!("--job-name=moadim-{run}");
    let comment = format!("--comment={}", text(&order["token"]));
    for node in ["node1", "node2"] {
        let mut again = Command::new("sbatch");
        again.args(["--output=/dev/null", "-w", node, &name, &comment]).arg(&script);
        assert!(cluster.on_login(&again).output().unwrap().status.success());
    }
    wait_until("both to be over", || {
        let states = cluster.job_states(&format!("moadim-{run}"));
        states.len() == 3 && states[1..].iter().all(|state| state == "COMPLETED")
    });
    assert_eq!(server.run(&run)["status"], "running");
    server.wait_for_run(&run, "succeeded");
    wait_until("the entry to go", || !home.entry(&run).exists());
    assert_eq!((lines(&home, "ran"), home.history(&run).len()), (1, 1));
}

#[test]
fn a_server_that_dies_between_the_submission_and_its_record_loses_nothing() {
    let home = home("");
    let Some(cluster) = Cluster::start() else { return };
    // It hands the job over, and kills the server before that hears of it.
    let sbatch = format!(
        "/usr/bin/sbatch \"$@\" > {}/submitted || exit 1\nkill -KILL $PPID\nsleep 30",
        home.scratch().display()
    );
    home.script("sbatch", &sbatch);
    let path = home.path_with_scripts();
    let mut server = Server::start_with(cluster.on_login(home.command().env("PATH", &path)));
    let routine = server.create("Cut", "hostname >> ../../../ran; sleep 2", json!({}));
    server.send_call("trigger_routine", json!({ "routine": routine }));
    server.wait();
    let mut next = cluster.server(&home);
    let run = wait_for(PATIENCE, "the run", || {
        let listed = next.ok("list_runs", json!({ "routine": routine }));
        Some(text(&listed["runs"].get(0)?["id"]))
    });
    assert!(home.json(format!("running/{run}/job.json")).is_none(), "the server never heard of it");
    let seen = next.wait_for_run(&run, "succeeded");
    assert!(seen["job"]["id"].is_string(), "{seen}");
    wait_until("the entry to go", || !home.entry(&run).exists());
    assert_eq!((lines(&home, "ran"), home.history(&run).len()), (1, 1));
}

#[test]
fn a_supervisor_waits_for_those_who_look_at_its_run() {
    let home = home("slurm_args = [\"--hold\"]\n");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let run = submit(&mut server, "Looked At", "echo well", json!({}));
    let job = wait_for_job(&cluster, &run, "PENDING");
    let path = home.entry(&run).join("lock");
    let look = wait_for(PATIENCE, "the lock", || FileLock::try_existing(&path, Mode::Exclusive).ok());
    cluster.run("scontrol", ["release", &job]).ok();
    wait_until("the supervisor", || home.processes().iter().any(|one| one.command.contains("supervise")));
    assert_eq!(cluster.job_states(&format!("moadim-{run}")), ["RUNNING"]);
    drop(look);
    server.wait_for_run(&run, "succeeded");
}

#[test]
fn a_trigger_that_waits_records_the_end_where_nothing_else_is_there_to_do_it() {
    let home = home("slurm_max_gpus = 1\n");
    let Some(cluster) = Cluster::start() else { return };
    let on_login = |words: &[&str]| {
        let mut command = home.command();
        command.args(words);
        cluster.on_login(&command).output().unwrap()
    };
    let create = ["create", "Alone", "--agent", "shell", "--engine", "slurm", "--resource", "cpus=2", "--prompt"];
    assert!(on_login(&[&create[..], &["echo $SLURM_CPUS_PER_TASK; exit 4"]].concat()).status.success());
    let waited = on_login(&["trigger", "--wait", "alone"]);
    assert_eq!(waited.status.code(), Some(4), "{waited:?}");
    let run = String::from_utf8(waited.stdout).unwrap().trim().to_owned();
    assert_eq!((home.raw_log(&run).as_str(), home.history(&run).len()), ("2\n", 1));
    assert!(!home.entry(&run).exists());
}
