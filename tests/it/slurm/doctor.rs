//! What `doctor` and `health` say of a cluster, and which of several machines works for a home.

use std::process::Stdio;

use crate::harness::{Answer, Cluster, TestHome, text, wait_until};
use serde_json::{Value, json};

/// A home whose runs take place on Slurm, with a routine.
fn home_with_routine(settings: &str) -> TestHome {
    let home = TestHome::detached(&format!("engine = \"slurm\"\n{settings}"));
    home.write("routines/r/routine.toml", "title = \"R\"\nagent = \"shell\"\n");
    home.write("routines/r/prompt.md", "true");
    home
}

/// Runs a command of ours on the login machine.
fn on_login(cluster: &Cluster, home: &TestHome, words: &[&str]) -> Answer {
    let mut command = home.command();
    command.args(words);
    cluster.on_login(&command).stdin(Stdio::null()).output().unwrap().into()
}

fn doctor(cluster: &Cluster, home: &TestHome) -> Vec<Value> {
    let answer = on_login(cluster, home, &["doctor", "--json"]);
    let said: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
    said["checks"].as_array().unwrap().clone()
}

/// Finds what was said of something with these words.
#[track_caller]
fn finding<'a>(findings: &'a [Value], what: &str, words: &str) -> &'a Value {
    let is_it = |one: &&Value| one["what"] == what && text(&one["found"]).contains(words);
    findings.iter().find(is_it).unwrap_or_else(|| panic!("no '{what}' with '{words}': {findings:#?}"))
}

/// Makes sure that a probe left no file and no job.
fn assert_nothing_is_left(cluster: &Cluster, home: &TestHome) {
    let hidden = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    assert!(!std::fs::read_dir(home.root().join("locks")).unwrap().any(|entry| hidden(entry.unwrap())));
    wait_until("the end of its job", || {
        cluster.squeue("%T").iter().all(|job| ["COMPLETED", "CANCELLED"].contains(&job[0].as_str()))
    });
    wait_until("its processes' end", || home.processes().is_empty());
}

#[test]
fn doctor_says_what_a_node_is_like() {
    let home = home_with_routine("slurm_partitions = [\"main\"]\n");
    let Some(cluster) = Cluster::with(|settings| settings.cgroups = true) else { return };
    // On no node is it what it is called.
    home.add_agent("nowhere", "command = \"no-such-agent\"\nlogin_shell = false\n");
    home.write("routines/n/routine.toml", "title = \"N\"\nagent = \"nowhere\"\n");
    home.write("routines/n/prompt.md", "true");
    let findings = doctor(&cluster, &home);
    for (what, words) in [
        ("Slurm", "partitions: main"),
        ("Slurm", "proctrack/cgroup"),
        ("probe job", "sees the home"),
        ("locks across machines", "respects a lock held here"),
    ] {
        assert_eq!(finding(&findings, what, words)["well"], true);
    }
    let of_agent = |name: &str| {
        let names = format!("agent {name} on node");
        findings.iter().find(|one| text(&one["what"]).starts_with(&names)).expect("it was looked for").clone()
    };
    assert_eq!(of_agent("shell")["well"], true);
    let nowhere = of_agent("nowhere");
    assert!(nowhere["well"] == false && text(&nowhere["found"]).contains("on the nodes: n"), "{nowhere}");
    // Whether there is a network is not ours to say.
    assert_eq!(finding(&findings, "network", "api.anthropic.com:443")["well"], true);
    assert_nothing_is_left(&cluster, &home);
}

#[test]
fn health_names_what_makes_a_cluster_weaker() {
    let home = home_with_routine("slurm_partitions = [\"gpu\"]\n");
    let Some(cluster) = Cluster::with(|settings| settings.kill_wait_secs = 2) else { return };
    let mut server = cluster.server(&home);
    let problems = server.problems();
    let of = |words: &str| {
        let is_it = |one: &&Value| text(&one["problem"]).contains(words);
        problems.iter().find(is_it).unwrap_or_else(|| panic!("{words}: {problems:#?}"))
    };
    of("there is no partition 'gpu'");
    of("proctrack/linuxproc");
    of("KillWait is 2 s");
    assert!(!problems.iter().any(|one| text(&one["problem"]).contains("machine")), "{problems:#?}");
    // As long as it hangs, too.
    cluster.munge().freeze();
    let began = std::time::Instant::now();
    server.problems();
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    cluster.munge().thaw();
}

#[test]
fn doctor_says_that_slurm_is_missing_or_does_not_answer() {
    let home = home_with_routine("");
    let answer = home.command().args(["doctor", "--json"]).env("PATH", "/nowhere").output().unwrap();
    let said: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let is_there = ["/usr/bin/sbatch", "/usr/local/bin/sbatch"].iter().any(|path| std::path::Path::new(path).exists());
    let words = if is_there { "does not answer" } else { "not found: sbatch" };
    assert_eq!(finding(said["checks"].as_array().unwrap(), "Slurm", words)["well"], false);
    let local = TestHome::detached("");
    let said = local.moadim(&["doctor", "--json"]);
    assert!(!said.stdout.contains("Slurm"), "{said:?}");
}

#[test]
fn doctor_cancels_a_probe_that_waits_too_long() {
    let home = home_with_routine("");
    let Some(cluster) = Cluster::with(|settings| (settings.nodes, settings.cpus) = (1, 1)) else { return };
    let blocker = home.script("blocker", "exec sleep 300");
    let options = ["--output=/dev/null", "--job-name=blocker"].map(str::to_owned);
    cluster.run("sbatch", options.into_iter().chain([blocker.display().to_string()])).ok();
    wait_until("the blocker", || cluster.job_states("blocker") == ["RUNNING"]);
    let findings = doctor(&cluster, &home);
    let probe = finding(&findings, "probe job", "Slurm's queue");
    assert!(probe["well"] == true && text(&probe["found"]).contains("after 30 s"), "{probe}");
    cluster.run("scancel", ["--name", "blocker"]).ok();
    assert_nothing_is_left(&cluster, &home);
}

#[test]
fn doctor_says_that_a_node_does_not_see_the_home() {
    let home = home_with_routine("");
    let Some(cluster) = Cluster::with(|settings| settings.nodes = 1) else { return };
    // Where the home is, that node has something else.
    let mut hide = std::process::Command::new("mount");
    hide.args(["-t", "tmpfs", "tmpfs"]).arg(home.root());
    let hidden: Answer = cluster.on(1, hide.current_dir("/")).output().unwrap().into();
    hidden.ok();
    let findings = doctor(&cluster, &home);
    assert_eq!(finding(&findings, "probe job", "without a report")["well"], false);
}

/// Makes the home one that another machine works for.
fn give_away(home: &TestHome) {
    home.write(
        "locks/machine.json",
        r#"{"machine_id":"another","boot_id":"another","host":"login9","since":"2026-01-01T00:00:00Z"}"#,
    );
}

#[test]
fn the_first_machine_works_for_a_home_and_another_leaves_that_to_it() {
    let home = home_with_routine("watchdog_interval_secs = 1\n");
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    wait_until("the machine's claim", || home.json("locks/machine.json").is_some());
    assert_eq!(home.json("locks/machine.json").unwrap()["host"], "login");
    let problem = "schedules, cleans up and records";
    assert!(!server.problems().iter().any(|one| text(&one["problem"]).contains(problem)));
    server.close_stdin_and_wait();
    give_away(&home);
    home.write("routines/s/routine.toml", "title = \"S\"\nagent = \"shell\"\nschedule = \"@yearly\"\n");
    home.write("routines/s/prompt.md", "true");
    let mut server = cluster.server(&home);
    let problems = server.problems();
    let theirs = problems.iter().find(|one| text(&one["problem"]).contains(problem)).expect("it says so");
    assert!(
        text(&theirs["problem"]).starts_with("login9") && text(&theirs["fix"]).contains("machine.json"),
        "{theirs}"
    );
    let refused = server.error("cleanup_workbenches", json!({}));
    assert!(refused.contains("login9"), "{refused}");
    // It triggers, reads and stops all the same; what it triggered ends, and is recorded where that is done.
    let run = server.trigger("r");
    wait_until("the run's end on its node", || home.entry(&run).join("gone.json").exists());
    let run_to_stop = server.start_run("Long", "sleep 300", json!({}));
    let stopped = server.stop(&run_to_stop);
    assert_eq!(stopped["status"], "stopped", "{stopped}");
    assert!(home.entry(&run).exists(), "nobody here records");
    let ledger = home.root().join("routines/s/ledger.json");
    assert!(!ledger.exists(), "nobody here schedules");
    std::fs::remove_file(home.root().join("locks/machine.json")).unwrap();
    // Without it, the next machine that looks works for the home.
    wait_until("the record", || !home.entry(&run).exists());
    assert_eq!(home.history(&run).len(), 1);
    wait_until("the schedule to be followed", || ledger.exists());
    server.close_stdin_and_wait();
}

#[test]
fn doctor_notes_whether_locks_reach() {
    for locks in [true, false] {
        let home = home_with_routine("");
        let Some(cluster) = Cluster::with(|settings| settings.locks = locks) else { return };
        let findings = doctor(&cluster, &home);
        let words = if locks { "respects a lock" } else { "only one machine schedules" };
        assert_eq!(finding(&findings, "locks across machines", words)["well"], true);
        let noted = std::fs::read_dir(home.root().join("locks/reach")).map_or(0, Iterator::count);
        assert_eq!(noted, usize::from(locks));
        assert_nothing_is_left(&cluster, &home);
    }
}
