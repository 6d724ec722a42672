//! The cluster of the tests itself: what happens to its machines happens to what runs there, and to nothing else.

use std::path::Path;
use std::process::Command;

use crate::harness::{Answer, Cluster, PATIENCE, Settings, TestHome, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::json;

/// Submits a job of this name that executes a script in the home's scratch directory; returns its id.
fn submit(cluster: &Cluster, home: &TestHome, name: &str, options: &[&str], script: &str) -> String {
    let script = home.script(name, script);
    let mut sbatch = Command::new("sbatch");
    sbatch.args(["--parsable", "--output=job.out", "--job-name", name]).args(options).arg(script);
    let answer: Answer = cluster.on_login(sbatch.current_dir(home.scratch())).output().unwrap().into();
    answer.ok().trim().to_owned()
}

fn read(home: &TestHome, name: &str) -> String {
    std::fs::read_to_string(home.scratch().join(name)).unwrap_or_default()
}

#[track_caller]
fn wait_for_state(cluster: &Cluster, name: &str, state: &str) {
    let mut last = Vec::new();
    wait_until(&format!("{name} to be {state}"), || {
        last = cluster.job_states(name);
        last == [state]
    });
}

/// Grows while it runs.
const TICKS: &str = "hostname >> started; while :; do echo >> ticks; sleep 0.05; done";

fn ticks(home: &TestHome) -> usize {
    read(home, "ticks").len()
}

#[track_caller]
fn wait_for_more_ticks(home: &TestHome) {
    let before = ticks(home);
    wait_until("the job to go on", || ticks(home) > before);
}

#[test]
fn a_job_and_the_login_machine_do_not_see_each_others_processes() {
    let home = TestHome::new();
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let seen = cluster.login().processes(&home);
    assert!(seen.iter().any(|one| one.name == "moadim-mcp"), "{seen:?}");
    let script = "hostname > host; ps -eo args= > processes; echo $$ > pid; exec sleep 300";
    let job = submit(&cluster, &home, "looks", &["-w", "node2"], script);
    let pid = wait_for(PATIENCE, "the job", || read(&home, "pid").trim().parse().ok());
    assert_eq!(read(&home, "host"), "node2\n");
    let processes = read(&home, "processes");
    assert!(processes.contains("slurmd -D -N node2") && !processes.contains("moadim-mcp"), "{processes}");
    let process = wait_for(PATIENCE, "its process", || cluster.node(2).process(&home, pid));
    assert_ne!(i64::from(process.id.pid), pid);
    let there = cluster.run("ps", ["-eo", "args="]).ok();
    assert!(there.contains("moadim-mcp") && !there.contains("sleep 300"), "{there}");
    assert_eq!(cluster.squeue("%i %T %N"), [[job.as_str(), "RUNNING", "node2"]]);
    assert_eq!(server.ok("list_routines", json!({}))["total"], 0);
    // To the server itself, which then leaves in order.
    server.signal(Signal::TERM);
    server.assert_leaves();
}

#[test]
fn a_job_goes_on_without_the_controller_and_on_a_node_that_does_not_answer() {
    let home = TestHome::new();
    let Some(cluster) = Cluster::with(Settings::impatient) else { return };
    submit(&cluster, &home, "ticks", &["-w", "node1"], TICKS);
    wait_for_state(&cluster, "ticks", "RUNNING");
    cluster.controller().freeze();
    wait_for_more_ticks(&home);
    cluster.controller().thaw();
    // A crash may lose a job that is so young.
    cluster.controller().shut_down();
    wait_for_more_ticks(&home);
    cluster.controller().start();
    wait_for_state(&cluster, "ticks", "RUNNING");
    cluster.node(1).kill_slurmd();
    wait_for_more_ticks(&home);
    cluster.node(1).start_slurmd();
    cluster.node(1).freeze();
    wait_for_state(&cluster, "ticks", "NODE_FAIL");
    wait_for_more_ticks(&home);
    // The node ends what nobody wants any more.
    cluster.node(1).thaw();
    wait_until("the job's end", || cluster.node(1).processes(&home).is_empty());
    assert_eq!(read(&home, "started"), "node1\n");
}

#[test]
fn nothing_is_left_of_a_node_that_crashed_and_the_other_works_on() {
    let home = TestHome::new();
    let Some(cluster) = Cluster::start() else { return };
    submit(&cluster, &home, "ticks", &["-w", "node1"], TICKS);
    wait_for_more_ticks(&home);
    cluster.node(1).crash();
    assert_eq!(home.processes().len(), 0);
    submit(&cluster, &home, "other", &["-w", "node2"], "hostname > other");
    wait_for_state(&cluster, "other", "COMPLETED");
    assert_eq!(read(&home, "other"), "node2\n");
    cluster.node(1).start();
    submit(&cluster, &home, "again", &["-w", "node1"], "hostname > again");
    wait_for_state(&cluster, "again", "COMPLETED");
}

#[test]
fn what_all_machines_need_can_fail_and_come_back() {
    let Some(cluster) = Cluster::start() else { return };
    let ask = |words: [&str; 3]| cluster.run("timeout", words).code;
    cluster.munge().freeze();
    assert_eq!(ask(["--kill-after=1", "1", "squeue"]), Some(124));
    cluster.munge().thaw();
    assert_eq!(ask(["5", "scontrol", "ping"]), Some(0));
    cluster.controller().stop();
    assert_ne!(ask(["5", "scontrol", "ping"]), Some(0));
    cluster.controller().start();
    assert_eq!(ask(["5", "scontrol", "ping"]), Some(0));
    assert_eq!(cluster.squeue("%i"), Vec::<Vec<String>>::new());
    let name: Answer = cluster.on(2, &Command::new("hostname")).output().unwrap().into();
    assert_eq!(name.ok(), "node2\n");
}

#[test]
fn two_clusters_know_nothing_of_each_other() {
    for cgroups in [false, true] {
        let homes = [TestHome::new(), TestHome::new()];
        let clusters = [(); 2].map(|()| Cluster::with(|settings| settings.cgroups = cgroups));
        let [Some(first), Some(second)] = &clusters else { return };
        assert_eq!(submit(first, &homes[0], "ticks", &["-w", "node1"], TICKS), "1");
        assert_eq!(submit(second, &homes[1], "ticks", &["-w", "node1"], TICKS), "1");
        homes.iter().for_each(wait_for_more_ticks);
        first.run("scancel", ["1"]).ok();
        wait_until("the first job's end", || first.node(1).processes(&homes[0]).is_empty());
        wait_for_more_ticks(&homes[1]);
        assert_eq!(second.job_states("ticks"), ["RUNNING"]);
    }
}

#[test]
fn only_control_groups_find_a_process_that_left_its_session() {
    for cgroups in [false, true] {
        let home = TestHome::new();
        let Some(cluster) = Cluster::with(|settings| settings.cgroups = cgroups) else { return };
        let script =
            "setsid sh -c 'echo > there; exec sleep 300' > /dev/null 2>&1 & until [ -e there ]; do sleep 0.01; done";
        submit(&cluster, &home, "leaves", &[], script);
        wait_for_state(&cluster, "leaves", "COMPLETED");
        let left = || home.processes_named("sleep").len();
        if cgroups {
            wait_until("its end", || left() == 0);
        } else {
            assert_eq!(left(), 1);
        }
    }
}

#[test]
fn locks_of_jobs_reach_other_machines_unless_told_not_to() {
    for locks in [true, false] {
        let home = TestHome::new();
        let Some(cluster) = Cluster::with(|settings| settings.locks = locks) else { return };
        // As a job script may, with an environment of its own.
        submit(
            &cluster,
            &home,
            "locks",
            &[],
            "exec env -i PATH=\"$PATH\" flock lock sh -c 'echo > held; exec sleep 300'",
        );
        let held = home.scratch().join("held");
        wait_until("the lock", || held.exists());
        let answer = cluster.run("flock", [Path::new("--nonblock"), &home.scratch().join("lock"), Path::new("true")]);
        assert_eq!(answer.code, Some(i32::from(locks)), "{answer:?}");
    }
}

#[test]
fn a_more_urgent_job_takes_the_place_of_another() {
    let home = TestHome::new();
    let Some(cluster) = Cluster::with(|settings| {
        (settings.nodes, settings.cpus, settings.kill_wait_secs) = (1, 1, 1);
        settings.conf("PreemptType=preempt/partition_prio");
        settings.conf("PreemptMode=CANCEL");
        settings.conf("PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF");
    }) else {
        return;
    };
    submit(&cluster, &home, "ticks", &[], TICKS);
    wait_for_more_ticks(&home);
    submit(&cluster, &home, "urgent", &["--partition=urgent"], "true");
    wait_for_state(&cluster, "urgent", "COMPLETED");
    wait_for_state(&cluster, "ticks", "PREEMPTED");
}
