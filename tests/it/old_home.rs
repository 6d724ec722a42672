//! A home that 0.1.0 wrote loads: every record is read as what it is, and nothing goes that should stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Server, TestHome, assert_has, text};
use moadim_mcp::clock::Moment;
use moadim_mcp::run::record::Machine;
use serde_json::{Value, json};

/// Runs that had ended, with how they did.
const ENDED: [(&str, &str); 13] = [
    ("breaker-1795708690", "failed"),
    ("due-1795708698", "succeeded"),
    ("failed-1795708681", "failed"),
    ("flaky-1795708690", "failed"),
    ("lost-1795708689", "lost"),
    ("never-1795708689", "launch_failed"),
    ("newest-1795708698", "succeeded"),
    ("newest-1795708700", "succeeded"),
    ("pinned-1795708681", "succeeded"),
    ("signalled-1795708682", "failed"),
    ("silent-1795708686", "silent"),
    ("slow-1795708682", "timed_out"),
    ("stopped-1795708689", "stopped"),
];
const SUCCEEDED: (&str, &str) = ("succeeded-1795708681", "succeeded");

/// One of which only the history tells.
const REAPED: &str = "reaped-1795708678";

/// Runs that had not, with how they end where it is known that nothing is left of them.
const UNFINISHED: [(&str, &str); 6] = [
    ("abandoned-1795708697", "lost"),
    ("ending-1795708697", "stopped"),
    ("exited-1795708697", "failed"),
    ("preparing-1795708692", "launch_failed"),
    ("running-1795708696", "lost"),
    ("terminal-1795708697", "lost"),
];

/// What another program left, without entry and outcome.
const FOREIGN: &str = "foreign-1767225600";

/// What a sweep removes.
const DUE: [&str; 2] = ["due-1795708698", "newest-1795708698"];

/// Copies the home that is checked in, and makes what git does not keep.
pub(crate) fn old_home() -> TestHome {
    let home = TestHome::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/homes/0.1.0");
    copy(&source, &home.root());
    fs::create_dir(home.root().join("trash")).unwrap();
    // As if the last sweep had been a moment ago, so that no clock is in doubt.
    home.change_json("locks/janitor", |note| note["last_sweep"] = serde_json::to_value(Moment::now()).unwrap());
    home
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::write(&target, fs::read(file.path()).unwrap()).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// Starts a server whose scheduler has the time at which the home was written: what is due later is no part of it.
fn start_at_that_time(home: &TestHome) -> Server {
    let clock = home.scratch().join("clock");
    fs::write(&clock, "1795708701").unwrap();
    Server::start_with_env(home, &[("MOADIM_TEST_CLOCK", clock)])
}

/// Makes the unfinished runs runs of this machine, of which nothing is left.
fn move_here(home: &TestHome) {
    for (run, _) in UNFINISHED {
        home.change_json(format!("running/{run}/run.json"), |manifest| {
            manifest["machine"] = serde_json::to_value(Machine::this()).unwrap();
            manifest["triggered"]["boot_id"] = json!(Moment::now().boot_id);
        });
    }
}

/// Runs a command whose answer is JSON.
fn json_of(home: &TestHome, words: &[&str]) -> Value {
    let answer = home.moadim(words);
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {answer:?}"))
}

fn runs(home: &TestHome) -> BTreeMap<String, Value> {
    let listed = json_of(home, &["runs", "--json", "--limit", "200"]);
    listed["runs"].as_array().unwrap().iter().map(|run| (text(&run["id"]), run.clone())).collect()
}

fn ids(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|one| text(&one["run"])).collect()
}

fn ended() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENDED.into_iter().chain([SUCCEEDED])
}

#[test]
fn every_run_is_listed_as_what_it_is() {
    let home = old_home();
    let runs = runs(&home);
    let statuses: BTreeMap<&str, &str> =
        runs.iter().map(|(run, view)| (run.as_str(), view["status"].as_str().unwrap())).collect();
    let elsewhere = UNFINISHED.iter().map(|(run, _)| (*run, "unknown"));
    let expected: BTreeMap<&str, &str> =
        ended().chain(elsewhere).chain([(REAPED, "reaped"), (FOREIGN, "unknown")]).collect();
    assert_eq!(statuses, expected);
    for (run, _) in UNFINISHED {
        assert!(text(&runs[run]["status_reason"]).contains("another machine"), "{}", runs[run]);
    }
    assert_eq!(runs[REAPED]["outcome"], "succeeded");
    assert_eq!(
        (&runs["failed-1795708681"]["exit_code"], &runs["signalled-1795708682"]["signal"]),
        (&json!(3), &json!(10))
    );
    assert_eq!(runs["pinned-1795708681"]["pinned"], true);
    assert!(text(&runs["silent-1795708686"]["status_reason"]).contains("printed nothing"));
}

#[test]
fn the_history_is_whole_and_the_ledgers_are_read() {
    let home = old_home();
    let mut server = start_at_that_time(&home);
    for (run, status) in ended().chain([(REAPED, "reaped")]) {
        let shown = server.ok("get_run", json!({ "run": run }))["run"].clone();
        // The server has made its first sweep, or has not.
        let reaped = shown["status"] == "reaped" && (run == REAPED || DUE.contains(&run));
        assert!(reaped || shown["status"] == status, "{shown}");
    }
    let lines = home.whole_history();
    let reported: BTreeSet<&str> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
    assert!(ended().all(|(run, _)| reported.contains(run)) && reported.contains(REAPED), "{reported:?}");
    assert_eq!(lines.iter().filter(|line| line["kind"] == "missed").count(), 10);
    let listed = json_of(&home, &["routines", "--json"]);
    let of = |slug: &str| {
        let routines = listed["routines"].as_array().unwrap();
        routines.iter().find(|one| one["slug"] == slug).unwrap_or_else(|| panic!("{slug}: {listed}")).clone()
    };
    assert_eq!(listed["total"], fs::read_dir(home.root().join("routines")).unwrap().count());
    assert!(text(&of("breaker")["disabled_because"]).contains("breaker-1795708690"));
    assert_eq!(of("snoozed")["snoozed_until"], "2100-01-01T00:00:00Z");
    assert_eq!(of("hourly")["last_missed"]["at"], "2026-01-01T05:00:00Z");
    let ledger = home.json("routines/flaky/ledger.json").unwrap();
    // The server may have fired it by now.
    assert!(ledger["waiting"].is_null() || !of("flaky")["waiting"].is_null(), "{}", of("flaky"));
    let whole = server.ok("get_routine", json!({ "routine": "every-key" }))["routine"].clone();
    assert_has(&whole, json!({ "timezone": "America/New_York", "tags": ["nightly", "code"] }));
}

#[test]
fn nothing_is_wrong_with_it_but_what_cannot_be_judged_here() {
    let home = old_home();
    let report = json_of(&home, &["doctor", "--json"]);
    let wrong = report["checks"].as_array().unwrap().iter().filter(|check| check["well"] == false);
    let mut unjudged = BTreeSet::new();
    for check in wrong {
        let (what, found) = (text(&check["what"]), text(&check["found"]));
        let run = UNFINISHED.iter().find(|(run, _)| found.contains(&format!("run {run}: ")));
        match run {
            Some((run, _)) => assert!(unjudged.insert(*run) && found.contains("another machine"), "{check}"),
            // Its command is on no machine, a variable that nobody says who set, and nobody fires its schedules.
            None => assert!(
                what == "agent broken"
                    || what == "background"
                    || found.contains(FOREIGN)
                    || found.contains("does not accept LANG in `env`"),
                "{check}"
            ),
        }
    }
    assert_eq!(unjudged, UNFINISHED.map(|(run, _)| run).into());
}

#[test]
fn a_sweep_removes_what_is_due_and_nothing_that_is_pinned_or_unknown() {
    let home = old_home();
    let due: BTreeSet<String> = DUE.map(str::to_owned).into();
    let foreseen = json_of(&home, &["cleanup", "--dry-run", "--json"]);
    assert_eq!(ids(&foreseen["removed"]), due, "{foreseen}");
    assert_eq!(foreseen["killed"], json!([]));
    let kept: BTreeMap<String, String> =
        foreseen["kept"].as_array().unwrap().iter().map(|one| (text(&one["run"]), text(&one["reason"]))).collect();
    for (run, words) in [("pinned-1795708681", "pinned"), ("newest-1795708700", "newest"), (FOREIGN, "kept for")] {
        assert!(kept[run].contains(words), "{run}: {}", kept[run]);
    }
    assert!(UNFINISHED.iter().all(|(run, _)| kept[*run].contains("another machine")), "{kept:?}");
    let report = json_of(&home, &["cleanup", "--json"]);
    assert_eq!((ids(&report["removed"]), &report["failed"]), (due.clone(), &json!([])), "{report}");
    let left = runs(&home);
    for (run, view) in &left {
        let gone = due.contains(run) || run == REAPED;
        assert_eq!(view["status"] == "reaped", gone, "{view}");
        assert_eq!(home.workbench(run).exists(), !gone, "{run}");
    }
    assert_eq!(left.len(), ENDED.len() + 1 + UNFINISHED.len() + 2);
}

#[test]
fn runs_of_this_machine_that_are_dead_are_recorded_as_they_ended() {
    let home = old_home();
    move_here(&home);
    let report = json_of(&home, &["cleanup", "--json"]);
    assert_has(&report, json!({ "killed": [], "failed": [] }));
    let runs = runs(&home);
    for (run, status) in UNFINISHED {
        assert_eq!(runs[run]["status"], status, "{}", runs[run]);
        assert!(!home.entry(run).exists());
        let lines = home.history(run);
        assert_eq!((lines.len(), &lines[0]["status"]), (1, &json!(status)));
        assert_eq!(home.outcome(run).unwrap()["status"], status);
    }
    assert_eq!(runs["exited-1795708697"]["exit_code"], 6);
}
