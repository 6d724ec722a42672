//! A wall clock that is set: nothing is ended or removed by it. Time is injected: what is on disk says when it was.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use crate::harness::{ASKS, PATIENCE, Scene, Server, TestHome, text, wait_for};
use moadim_mcp::clock::UnixSeconds;
use serde_json::{Value, json};

/// Makes it look as if the wall clock had been set by so many seconds since the last sweep.
fn set_clock(home: &TestHome, secs: i64) {
    let note = home.json("locks/janitor").expect("a sweep's note");
    home.change_json("locks/janitor", |note| {
        let at = &mut note["last_sweep"]["at"];
        *at = shifted(at, -secs);
    });
    assert_ne!(home.json("locks/janitor"), Some(note));
}

/// Moves a time, as the records have it, by so many seconds.
fn shifted(at: &Value, secs: i64) -> Value {
    let at = chrono::DateTime::parse_from_rfc3339(at.as_str().expect("a time")).unwrap();
    let moved = at.to_utc() + chrono::TimeDelta::seconds(secs);
    json!(moved.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

#[test]
fn a_sweep_that_sees_the_clock_set_removes_nothing_once() {
    for secs in [3_600, -3_600] {
        let home = TestHome::detached("");
        let mut server = Server::start_swept(&home);
        let run = server.start_run("Due", "true", json!({ "ttl_secs": 1 }));
        server.wait_for_run(&run, "succeeded");
        home.wait_for_the_last_of(&run);
        wait_for(PATIENCE, "it to be due", || {
            let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
            (foreseen["removed"][0]["run"] == run).then_some(())
        });
        set_clock(&home, secs);
        let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
        let report = server.clean_up();
        for report in [&foreseen, &report] {
            assert_eq!(report["removed_total"], 0, "{report}");
            assert!(text(&report["kept"][0]["reason"]).contains("clock"), "{report}");
        }
        assert!(home.workbench(&run).exists());
        // A sweep in the background says so in health, and the next one does its work.
        set_clock(&home, secs);
        let mut another = Server::start_swept(&home);
        wait_for(PATIENCE, "a sweep that says so", || {
            Value::from(another.problems()).to_string().contains("clock").then_some(())
        });
        assert!(home.workbench(&run).exists());
        assert_eq!(server.clean_up()["removed"][0]["run"], run);
    }
}

/// Makes it look as if the machine had been started since the last sweep, with a clock that is so many days ahead.
fn start_days_ahead(home: &TestHome, days: i64) {
    home.change_json("locks/janitor", |note| {
        note["last_sweep"]["boot_id"] = json!("of-an-earlier-boot");
        let at = &mut note["last_sweep"]["at"];
        *at = shifted(at, -days * 24 * 60 * 60 - 60);
    });
    let long_ago = UnixSeconds::now().0 - u64::try_from(days).unwrap() * 24 * 60 * 60 - 60;
    for name in ["history.jsonl", "running", "workbenches"] {
        let file = fs::File::open(home.root().join(name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(long_ago)).unwrap();
    }
}

#[test]
fn the_first_sweep_after_a_start_far_ahead_removes_nothing_and_the_next_one_does() {
    for days in [3, 0] {
        let home = TestHome::detached("history_age_secs = 100000\n");
        let mut server = Server::start(&home);
        let run = server.start_run("Due", "true", json!({ "ttl_secs": 1 }));
        server.wait_for_run(&run, "succeeded");
        home.wait_for_the_last_of(&run);
        wait_for(PATIENCE, "it to be due", || {
            let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
            (foreseen["removed"][0]["run"] == run).then_some(())
        });
        let closed = home.root().join("history.1000.jsonl");
        fs::write(&closed, "").unwrap();
        start_days_ahead(&home, days);
        if days > 0 {
            let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
            let report = server.clean_up();
            for report in [&foreseen, &report] {
                assert_eq!(report["removed_total"], 0, "{report}");
                assert!(text(&report["note"]).contains("3 days ahead"), "{report}");
                assert!(text(&report["kept"][0]["reason"]).contains("3 days ahead"), "{report}");
            }
            assert!(text(&report["note"]).contains("nothing was removed this time"), "{report}");
            assert!(home.workbench(&run).exists() && closed.exists());
        }
        let report = server.clean_up();
        assert_eq!((&report["removed"][0]["run"], report.get("note")), (&json!(run), None), "{report}");
        assert!(!closed.exists());
    }
}

#[test]
fn a_clock_that_was_set_does_not_make_a_run_old() {
    let home = TestHome::detached("");
    let mut server = Server::start_swept(&home);
    let run = server.start_run("Young", "exec sleep 300", json!({ "max_runtime_secs": 3_600 }));
    let agent = home.noted(&run, "agent");
    for supervisor_lives in [true, false] {
        if !supervisor_lives {
            home.noted(&run, "supervisor").kill();
        }
        for secs in [-100_000, 200_000] {
            home.change_json(format!("running/{run}/run.json"), |manifest| {
                manifest["triggered"]["at"] = shifted(&manifest["triggered"]["at"], secs);
            });
            let report = server.clean_up();
            assert_eq!(report["killed_total"], 0, "{report}");
            assert!(agent.id.is_alive(), "ended by {secs} s of the wall clock");
        }
    }
    assert_eq!(server.stop(&run)["status"], "stopped");
    assert!(fs::read_dir(home.root().join("running")).unwrap().next().is_none());
}

/// Gives a run that is over another second, as if it had been triggered by a clock that was so far ahead.
fn put_ahead(home: &TestHome, run: &str, secs: u64) -> String {
    let (routine, stamp) = run.rsplit_once('-').unwrap();
    let ahead = format!("{routine}-{}", stamp.parse::<u64>().unwrap() + secs);
    for file in ["history.jsonl".to_owned(), format!("workbenches/{run}/outcome.json")] {
        home.write(&file, &home.read(&file).replace(run, &ahead));
    }
    for (folder, end) in [("workbenches", ""), ("questions/open", ".json")] {
        let path = |run: &str| home.root().join(folder).join(format!("{run}{end}"));
        fs::rename(path(run), path(&ahead)).unwrap();
    }
    ahead
}

#[test]
fn a_run_of_a_clock_that_was_ahead_is_continued_by_a_later_one() {
    let (home, mut server) = Scene::asking("").start();
    let run = server.ask("Asks", ASKS, json!({}));
    server.close_stdin_and_wait();
    home.wait_for_the_last_of(&run);
    let run = put_ahead(&home, &run, 3_600);
    let mut server = Server::start(&home);
    assert_eq!(server.run(&run)["status"], "asked");
    let next = home.go_on(&run, "Postgres");
    assert_eq!(home.ended(&next), "succeeded");
    home.assert_continued_once(&run, &next);
    assert!(next > run, "{next} {run}");
    let last = home.go_on(&next, "More");
    assert_eq!(home.ended(&last), "succeeded");
    assert_eq!(server.whole_run(&run)["continued_by"], next.as_str());
    assert_eq!(server.problems(), Vec::<Value>::new());
}
