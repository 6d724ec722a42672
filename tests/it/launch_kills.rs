//! Killed at any moment of a launch, the server or the supervisor: the run ends once, with one outcome and one line of history,
//! and no agent stays.
//!
//! 6 moments on each host by default, 48 with `MOADIM_LONG_TESTS=1`, spread evenly over a launch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{Host, PATIENCE, Server, TestHome, text, wait_for};
use rustix::process::Signal;
use serde_json::json;

on_both_hosts! {
    killed_at_any_moment_of_its_launch_a_run_ends_once_and_leaves_no_agent,
}

fn killed_at_any_moment_of_its_launch_a_run_ends_once_and_leaves_no_agent(home: TestHome, host: Host) {
    let long = std::env::var("MOADIM_LONG_TESTS").is_ok_and(|value| value == "1");
    let rounds = if long { 48 } else { 6 };
    home.configure(&format!("session_host = \"{}\"\nkill_grace_secs = 1\nwatchdog_interval_secs = 1\n", host.name()));
    let mut server = Server::start(&home);
    server.create("Launched", "exec sleep 300", json!({ "max_runtime_secs": 2 }));
    let began = Instant::now();
    let whole = server.trigger("launched");
    let launch = began.elapsed();
    server.stop(&whole);

    let mut seen = BTreeSet::from([whole]);
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..rounds {
        let call = server.send_call("trigger_routine", json!({ "routine": "launched", "overlap": "allow" }));
        // A little beyond the whole of it, so that the last steps are met too.
        std::thread::sleep(launch * 5 / 4 * round / rounds);
        let supervisor = home.processes().into_iter().find(|one| {
            let of_another = seen.iter().any(|run| one.command.contains(run));
            one.command.contains(" supervise ") && !of_another
        });
        let victim = match supervisor {
            // The answer tells what became of it; the server lives on.
            Some(supervisor) if round % 2 == 0 => {
                supervisor.kill();
                server.tool_answer(call);
                "supervisor"
            }
            _ => {
                server.signal(Signal::KILL);
                server.wait();
                server = Server::start(&home);
                "server"
            }
        };
        let names = runs(&home);
        let made: Vec<&String> = names.difference(&seen).collect();
        let stage = match made.first() {
            None => "before the claim",
            Some(run) if home.entry(run).join("started.json").exists() => "running",
            Some(_) => "launching",
        };
        eprintln!("{victim} killed at {:?} of {launch:?}: {stage}", launch * 5 / 4 * round / rounds);
        *stages.entry(stage).or_default() += 1;
        seen.extend(names);
    }
    eprintln!("{stages:?}");
    settle(&home, &mut server, &seen);
}

/// Lists every run that has a name.
fn runs(home: &TestHome) -> BTreeSet<String> {
    let names = ["running", "workbenches"].into_iter().flat_map(|directory| {
        fs::read_dir(home.root().join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
    });
    names.filter(|name| !name.starts_with('.')).collect()
}

fn settle(home: &TestHome, server: &mut Server, runs: &BTreeSet<String>) {
    // Time is injected: what was staged counts as old.
    let staged = || fs::read_dir(home.root().join("running")).unwrap().flatten().map(|entry| entry.path());
    for path in staged().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.')) {
        File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
    }
    wait_for(PATIENCE, "every run to end", || {
        server.clean_up();
        staged().next().is_none().then_some(())
    });
    assert_eq!(home.processes_named("sleep"), [], "an agent stayed");
    for run in runs {
        let history = home.history(run);
        assert_eq!(history.len(), 1, "{run}: {history:?}");
        let outcome = home.outcome(run);
        let said = |(key, value): (&String, &serde_json::Value)| history[0][key] == *value;
        let reported = outcome.as_ref().is_some_and(|outcome| outcome.as_object().unwrap().iter().all(said));
        assert!(reported || !home.workbench(run).exists(), "{run}: {outcome:?} {history:?}");
        let status = text(&history[0]["status"]);
        assert!(["launch_failed", "timed_out", "stopped"].contains(&&*status), "{run}: {history:?}");
    }
    assert_eq!(server.problems(), Vec::<serde_json::Value>::new());
}
