//! A trigger that is suspended at any moment of its launch, for longer than its caller waits, while its run is stopped: the run
//! ends once, with one outcome and one line of history.
//!
//! 6 moments by default, 24 with `MOADIM_LONG_TESTS=1`, spread over a launch.

use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, TestHome, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// About what a launch takes after its claim.
const LAUNCH: Duration = Duration::from_millis(12);

fn routine(home: &TestHome, slug: &str) {
    home.write(format!("routines/{slug}/prompt.md"), "exec sleep 300");
    let text = format!("title = \"{slug}\"\nagent = \"quick\"\n");
    home.write(format!("routines/{slug}/routine.toml"), &text);
}

fn trigger(home: &TestHome, slug: &str) -> std::process::Child {
    let mut command = home.command();
    command.args(["trigger", slug]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn stop(home: &TestHome, run: &str) -> String {
    let mut command = home.command();
    let output = command.args(["stop", run, "--reason", "enough"]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Returns the unfinished run of a routine.
fn run_of(home: &TestHome, slug: &str) -> Option<String> {
    let entries = std::fs::read_dir(home.root().join("running")).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.find(|name| !name.starts_with('.') && name.rsplit_once('-').is_some_and(|(of, _)| of == slug))
}

/// Suspends a trigger so long after its claim, has its run stopped meanwhile, and returns the run.
fn suspended(home: &TestHome, slug: &str, after_claim: Duration, alone: &Mutex<()>) -> String {
    let (child, run) = {
        // One at a time, so that the moment is met.
        let _alone = alone.lock().unwrap();
        let child = trigger(home, slug);
        let run = wait_for(PATIENCE, "its claim", || run_of(home, slug));
        let claimed = Instant::now();
        // A spin: the steps of a launch take parts of a millisecond.
        while claimed.elapsed() < after_claim {}
        kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        (child, run)
    };
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| stop(home, &run));
        // Longer than a trigger waits, and shorter than its run is waited for.
        let resumed = Instant::now() + Duration::from_secs(5);
        while Instant::now() < resumed {
            std::thread::sleep(Duration::from_millis(50));
        }
        kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        eprintln!("suspended {after_claim:?} after its claim: {said}; stop: {}", stopped.join().unwrap());
        assert!(!said.contains("File exists"), "{said}");
    });
    run
}

#[test]
fn a_trigger_that_is_suspended_while_its_run_is_stopped_ends_in_one_outcome() {
    let long = std::env::var("MOADIM_LONG_TESTS").is_ok_and(|value| value == "1");
    let moments: u32 = if long { 24 } else { 6 };
    let alone = Mutex::new(());
    std::thread::scope(|scope| {
        for moment in 0..moments {
            let alone = &alone;
            // A home of its own: one that is suspended may hold the routines' lock.
            scope.spawn(move || suspended_in_a_home_of_its_own(LAUNCH * moment / moments, alone));
        }
    });
}

fn suspended_in_a_home_of_its_own(after_claim: Duration, alone: &Mutex<()>) {
    let home = TestHome::detached("watchdog_interval_secs = 1\n");
    home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    routine(&home, "slow");
    let run = suspended(&home, "slow", after_claim, alone);
    let _server = crate::harness::Server::start(&home);
    let line = wait_for(PATIENCE, &format!("a line about {run}"), || home.history(&run).pop());
    wait_for(PATIENCE, "the end of its entry", || (!home.entry(&run).exists()).then_some(()));
    assert_eq!(home.history(&run).len(), 1, "{run}");
    assert!(["stopped", "launch_failed"].contains(&line["status"].as_str().unwrap()), "{line}");
    let outcome = home.outcome(&run).unwrap();
    assert_eq!(outcome["status"], line["status"], "{outcome} {line}");
    assert_eq!(home.processes_named("sleep"), [], "an agent stayed");
}
