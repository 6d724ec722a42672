//! Looking at a run tells the truth and changes nothing, however many look at the same time.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::harness::{
    HOUR, PATIENCE, Scene, Server, SetOnDrop, Stage, TestHome, cut_the_power, text, unwatched, wait_for, wait_until,
};
use serde_json::json;

/// Makes a run of which nothing is alive and whose end nobody recorded; no server is left.
fn dead_run(home: &TestHome) -> String {
    let mut server = Server::start(home);
    let run = server.start_run("Gone", "sleep 300", json!({}));
    drop(server);
    cut_the_power(home, &run);
    run
}

fn status_by_command(home: &TestHome, run: &str) -> String {
    let listed = home.moadim(&["runs", "--json"]).json();
    let found = listed["runs"].as_array().unwrap().iter().find(|one| one["id"] == run).unwrap();
    text(&found["status"])
}

#[test]
fn a_dead_run_is_lost_to_all_who_look_at_the_same_time() {
    let home = unwatched();
    let run = dead_run(&home);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    while !over.load(Ordering::Relaxed) || seen.is_empty() {
                        let began = Instant::now();
                        seen.push(status_by_command(&home, &run));
                        // A trigger waits 3 s for a judge: it shall find the lock free, however slow the machine is.
                        std::thread::sleep(began.elapsed());
                    }
                    seen
                })
            })
            .collect();
        let until_then = SetOnDrop(&over);
        // Beside them it is no reason to refuse a trigger.
        for _ in 0..4 {
            let started = home.moadim(&["trigger", "gone", "--json"]).json();
            home.moadim(&["stop", &text(&started["run"]["id"])]).ok();
        }
        drop(until_then);
        for look in looks {
            let seen = look.join().unwrap();
            assert!(seen.iter().all(|status| status == "lost"), "{seen:?}");
        }
    });
}

#[test]
fn a_catch_up_is_not_missed_for_a_run_that_is_dead() {
    let stage = Stage::new("watchdog_interval_secs = 1\n");
    stage.routine("hourly", "sleep 300", "schedule = \"@hourly\"");
    let server = stage.server();
    stage.wait_until_followed("hourly", "@hourly");
    stage.set_clock(HOUR + 1);
    let run = stage.wait_for_alive("hourly", 1).remove(0);
    wait_for(PATIENCE, "its agent", || stage.home.json(format!("running/{run}/started.json")));
    drop(server);
    cut_the_power(&stage.home, &run);
    stage.routine("hourly", "true", "schedule = \"@hourly\"");
    stage.set_clock(3 * HOUR + 1);
    // All three loops of a server look at the dead run as it starts, and so do those of others.
    let _servers = [(); 4].map(|()| stage.server());
    let ended = stage.wait_for_ended("hourly", 2);
    let statuses: Vec<String> = ended.iter().map(|line| text(&line["status"])).collect();
    assert!(statuses.contains(&"lost".to_owned()) && statuses.contains(&"succeeded".to_owned()), "{statuses:?}");
    let missed = stage.missed("hourly");
    let reasons: Vec<String> = missed.iter().map(|line| text(&line["reason"])).collect();
    assert!(missed.len() == 1 && !reasons[0].contains("alive"), "{reasons:?}");
}

/// Copies a home as `cp -a` does, while it is in use.
fn copied(home: &TestHome) -> TestHome {
    let copy = TestHome::new();
    let copying = Command::new("cp").arg("-a").arg(home.root()).arg(copy.root()).status().unwrap();
    assert!(copying.success());
    copy
}

#[test]
fn on_a_copy_of_a_home_the_runs_of_the_original_are_unknown_and_left_alone() {
    let (home, mut server) = Scene::unwatched().start();
    let run =
        server.start_run("Works", "sleep 300 & exec sleep 301", json!({ "ttl_secs": 1, "max_runtime_secs": 3600 }));
    let agent = home.noted(&run, "agent");
    for supervised in [true, false] {
        if !supervised {
            home.noted(&run, "supervisor").kill();
        }
        let copy = copied(&home);
        copy.write("routines/works/prompt.md", "true");
        copy.set_bound("works", 1);
        let mut on_copy = Server::start(&copy);
        let report = on_copy.clean_up();
        assert_eq!(report["killed"], json!([]), "{report}");
        let seen = on_copy.run(&run);
        assert_eq!(seen["status"], "unknown", "{seen}");
        assert!(text(&seen["status_reason"]).contains(home.root().to_str().unwrap()), "{seen}");
        assert!(on_copy.problems().iter().any(|one| text(&one["problem"]).contains(&run)));
        let error = on_copy.error("stop_run", json!({ "run": run }));
        assert!(error.contains("belongs to the home"), "{error}");
        let error = on_copy.error("delete_routine", json!({ "routine": "works", "confirm": true }));
        assert!(error.contains("belongs to the home"), "{error}");
        assert!(agent.id.is_alive() && copy.entry(&run).exists());
        // What the copy starts is its own.
        let own = text(&on_copy.ok("trigger_routine", json!({ "routine": "works", "overlap": "allow" }))["run"]["id"]);
        on_copy.wait_for_run(&own, "succeeded");
    }
    let seen = server.run(&run);
    assert_eq!(seen["status"], "running", "{seen}");
    server.ok("stop_run", json!({ "run": run }));
}

#[test]
fn of_two_supervisors_of_a_run_one_has_it_and_the_other_touches_nothing() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.start_run("Works", "echo at work; exec sleep 300", json!({}));
    wait_until("its output", || home.raw_log(&run).contains("at work"));
    let taken = home.json(format!("running/{run}/supervisor.json")).unwrap();
    assert_eq!(taken["supervisor"]["pid"], home.noted(&run, "supervisor").id.pid);
    let mut second = home.command();
    second.arg("supervise").arg(home.root()).arg(&run);
    let output = second.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("another supervisor has it"), "{said}");
    assert_eq!(home.json(format!("running/{run}/supervisor.json")).unwrap(), taken);
    assert_eq!(home.raw_log(&run), "at work\n");
    assert_eq!(server.run(&run)["status"], "running");
    server.ok("stop_run", json!({ "run": run }));
    assert_eq!(home.history(&run).len(), 1);
}

#[test]
fn an_unknown_run_is_forgotten_when_a_person_says_so_and_no_other_is() {
    let (home, mut server) = Scene::unwatched().start();
    let unknown = server.start_run("Elsewhere", "sleep 300", json!({}));
    let alive = server.start_run("Here", "sleep 300", json!({}));
    cut_the_power(&home, &unknown);
    home.change_json(format!("running/{unknown}/run.json"), |record| record["machine"]["machine_id"] = json!("x"));
    let damaged = format!("damaged-{}", 1_780_000_000);
    home.write(format!("workbenches/{damaged}/outcome.json"), "{");
    let forget = |run: &str, more: &[&str]| {
        let answer = home.moadim(&[&["forget", run], more].concat());
        (answer.code == Some(0), answer.stdout + &answer.stderr)
    };
    let (done, said) = forget(&unknown, &[]);
    assert!(!done && said.contains("--yes"), "{said}");
    assert_eq!(server.run(&unknown)["status"], "unknown");
    for run in [&unknown, &damaged] {
        let (done, said) = forget(run, &["--yes"]);
        assert!(done && said.contains("lost"), "{said}");
        let outcome = home.outcome(run).unwrap();
        assert!(text(&outcome["reason"]).starts_with("forgotten by a person"), "{outcome}");
        assert_eq!((&outcome["status"], home.history(run).len()), (&json!("lost"), 1));
        assert!(!home.entry(run).exists());
        assert_eq!(server.run(run)["status"], "lost");
        let (done, said) = forget(run, &["--yes"]);
        assert!(!done && said.contains("it is lost"), "{said}");
    }
    let (done, said) = forget(&alive, &["--yes"]);
    assert!(!done && said.contains("it is running"), "{said}");
    assert_eq!(server.run(&alive)["status"], "running");
    server.ok("stop_run", json!({ "run": alive }));
}
