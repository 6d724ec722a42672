//! What is kept and for how long: retention by outcome, the newest runs, pins, budgets; and that a dry run says what the real
//! one does, whatever lies in a home.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Server, TestHome, text};
use moadim_mcp::clock::{Moment, UnixSeconds};
use moadim_mcp::home::Home;
use moadim_mcp::home::config::{Config, SessionHostSetting};
use moadim_mcp::janitor::cleanup::{clean_up, dry_run};
use moadim_mcp::janitor::reason::Reason;
use moadim_mcp::janitor::report::CleanupReport;
use moadim_mcp::run::context::{Context, Program};
use moadim_mcp::run::pin;
use moadim_mcp::run::record::Machine;
use moadim_mcp::run::workbench::Workbench;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Adds a routine with these further lines.
fn add_routine(root: &Path, slug: &str, lines: &str) {
    let directory = root.join("routines").join(slug);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).unwrap();
    let text = format!(
        "title = \"{slug}\"\nagent = \"shell\"\ncreated_at = \"2026-01-01T00:00:00Z\"\n\
         updated_at = \"2026-01-01T00:00:00Z\"\n{lines}"
    );
    fs::write(directory.join("routine.toml"), text).unwrap();
    fs::write(directory.join("prompt.md"), "true").unwrap();
}

/// Adds a run that was triggered and finished so many seconds ago, with a file of that size; returns its id.
fn add_finished(root: &Path, slug: &str, age_secs: u64, status: &str, bytes: usize) -> String {
    add_finished_at(root, slug, UnixSeconds(UnixSeconds::now().0 - age_secs), status, bytes)
}

/// The same of one that was triggered and finished then.
fn add_finished_at(root: &Path, slug: &str, stamp: UnixSeconds, status: &str, bytes: usize) -> String {
    let run = format!("{slug}-{}", stamp.0);
    let workbench = root.join("workbenches").join(&run);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&workbench).unwrap();
    let outcome = json!({
        "version": 1, "id": run, "status": status, "agent": "shell", "session_host": "detached", "triggered_at": stamp,
        "started_at": stamp, "finished_at": stamp, "retain_from": stamp, "cookie": "0".repeat(32),
    });
    fs::write(workbench.join("outcome.json"), outcome.to_string()).unwrap();
    fs::write(workbench.join("data"), vec![b'x'; bytes]).unwrap();
    run
}

/// Adds a run that was triggered then, and whose owner vanished before its agent had started; returns its id.
fn add_abandoned_at(home: &Home, slug: &str, stamp: UnixSeconds) -> String {
    let triggered = Moment { at: stamp, boot_id: String::new(), ..Moment::now() };
    let run = format!("{slug}-{}", stamp.0);
    for directory in [home.running().join(&run), home.workbenches().join(&run)] {
        fs::DirBuilder::new().mode(0o700).create(directory).unwrap();
    }
    let manifest = json!({
        "version": 1, "id": run, "triggered": triggered, "cookie": "1".repeat(32), "machine": Machine::this(),
        "session_host": "detached",
        "command": { "agent": "shell", "command": "sh", "args": [], "stdin": "prompt", "login_shell": false },
    });
    fs::write(home.running().join(&run).join("run.json"), manifest.to_string()).unwrap();
    fs::write(home.running().join(&run).join("lock"), "").unwrap();
    run
}

fn verdict<'a>(report: &'a Value, list: &str, run: &str) -> &'a Value {
    let found = report[list].as_array().unwrap().iter().find(|one| one["run"] == *run);
    found.unwrap_or_else(|| panic!("{run} is not among {list}: {report}"))
}

fn reason(report: &Value, list: &str, run: &str) -> String {
    text(&verdict(report, list, run)["reason"])
}

fn removed(report: &Value) -> Vec<String> {
    report["removed"].as_array().unwrap().iter().map(|one| text(&one["run"])).collect()
}

#[test]
fn failures_stay_longer_and_the_newest_of_both_kinds_stay() {
    let home = TestHome::detached("default_ttl_secs = 100\n");
    let mut server = Server::start_swept(&home);
    add_routine(&home.root(), "plain", "");
    add_routine(&home.root(), "keeps", "failed_ttl_secs = 100\nkeep_last = 1\n");
    let add = |slug: &str, age, status: &str| add_finished(&home.root(), slug, age, status, 1);
    let [good, bad, worst] =
        [("succeeded", 200), ("failed", 201), ("timed_out", 400)].map(|(status, age)| add("plain", age, status));
    let [old_good, new_good, old_bad, new_bad] =
        [("succeeded", 5000), ("succeeded", 4000), ("lost", 9000), ("stopped", 8000)]
            .map(|(status, age)| add("keeps", age, status));
    let shown = server.run(&new_bad);
    assert!(shown.get("reap_at").is_none() && text(&shown["kept_because"]).contains("newest 1"), "{shown}");
    let shown = server.run(&old_bad);
    assert!(shown.get("kept_because").is_none() && shown["reap_at"].is_string(), "{shown}");
    let report = server.clean_up();
    assert_eq!(removed(&report), [old_bad, old_good, worst, good], "{report}");
    assert!(reason(&report, "kept", &bad).contains("kept for 5 min"), "{report}");
    assert!(report["removed"].as_array().unwrap().iter().all(|one| one["why"] == "expired"), "{report}");
    for run in [&new_good, &new_bad] {
        assert!(reason(&report, "kept", run).contains("newest 1"), "{report}");
        let verdict = verdict(&report, "kept", run);
        assert_eq!((&verdict["why"], &verdict["retention_secs"]), (&json!("newest"), &json!(100)), "{verdict}");
        assert!(verdict["age_secs"].as_u64().unwrap() >= 4000, "{verdict}");
    }
    // A younger success takes the place of the one that was kept, and no failure's.
    add("keeps", 10, "succeeded");
    assert_eq!(removed(&server.clean_up()), [new_good]);
    assert!(home.workbench(&new_bad).exists());
}

#[test]
fn a_pin_keeps_a_run_until_it_is_unpinned() {
    let home = TestHome::detached("max_workbench_bytes = 1\n");
    let mut server = Server::start_swept(&home);
    let old = add_finished(&home.root(), "gone", 100_000_000, "succeeded", 1);
    let live = server.start_run("Lives", "exec sleep 300", json!({}));
    for run in [&old, &live] {
        assert_eq!(server.ok("pin_run", json!({ "run": run, "pinned": true }))["run"]["pinned"], true);
    }
    let shown = server.run(&old);
    assert!(shown.get("reap_at").is_none() && text(&shown["kept_because"]).contains("pinned"), "{shown}");
    let report = server.clean_up();
    assert_eq!((removed(&report), reason(&report, "kept", &old)), (vec![], "it is pinned".to_owned()));
    let pinned = verdict(&report, "kept", &old);
    assert_eq!(pinned["why"], "pinned", "{pinned}");
    assert!(pinned["age_secs"].as_u64().unwrap() > pinned["retention_secs"].as_u64().unwrap(), "{pinned}");
    server.stop(&live);
    assert_eq!(removed(&server.clean_up()), [] as [&str; 0]);
    for run in [&old, &live] {
        let shown = server.ok("pin_run", json!({ "run": run, "pinned": false }))["run"].clone();
        assert!(shown.get("pinned").is_none(), "{shown}");
    }
    let mut gone = removed(&server.clean_up());
    // Its supervisor may still be on its way out, and keeps it then until the next time.
    crate::harness::wait_for(crate::harness::PATIENCE, "both to be removed", || {
        gone.extend(removed(&server.clean_up()));
        (gone.len() >= 2).then_some(())
    });
    assert_eq!(gone, [old.clone(), live]);
    let error = server.error("pin_run", json!({ "run": "never-1", "pinned": true }));
    assert!(error.contains("never-1") && error.contains("list_runs"), "{error}");
    assert_eq!(fs::read_dir(home.root().join("pins")).unwrap().count(), 0);
}

#[test]
fn the_pin_of_a_run_that_is_gone_goes_with_the_next_sweep() {
    let home = TestHome::detached("");
    let mut server = Server::start_swept(&home);
    let run = add_finished(&home.root(), "brief", 10, "succeeded", 1);
    server.ok("pin_run", json!({ "run": run, "pinned": true }));
    server.clean_up();
    assert!(home.root().join("pins").join(&run).exists());
    fs::remove_dir_all(home.workbench(&run)).unwrap();
    server.ok("cleanup_workbenches", json!({ "dry_run": true }));
    assert!(home.root().join("pins").join(&run).exists(), "a dry run changes nothing");
    server.clean_up();
    assert!(!home.root().join("pins").join(&run).exists());
}

#[test]
fn over_a_budget_the_oldest_finished_go_and_nothing_alive() {
    let home = TestHome::detached("max_workbench_bytes = 2500000\n");
    let mut server = Server::start_swept(&home);
    let live = server.start_run("Lives", "head -c 2000000 /dev/zero > data; exec sleep 300", json!({}));
    crate::harness::wait_for(crate::harness::PATIENCE, "its data", || {
        (home.workbench(&live).join("data").metadata().ok()?.len() == 2_000_000).then_some(())
    });
    let [first, second, third] = [30, 20, 10].map(|age| add_finished(&home.root(), "made", age, "succeeded", 200_000));
    // About 2.6 MB: one has to go.
    let dry = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
    assert_eq!(removed(&dry), std::slice::from_ref(&first), "{dry}");
    assert!(reason(&dry, "removed", &first).contains("max_workbench_bytes is 2500000"), "{dry}");
    let short = verdict(&dry, "removed", &first);
    assert_eq!((&short["why"], &short["bytes"]), (&json!("short_of_disk"), &dry["removable_bytes"]), "{dry}");
    assert!((30..90).contains(&short["age_secs"].as_u64().unwrap()), "{short}");
    assert_eq!(removed(&server.ok("cleanup_workbenches", json!({ "routine": "made" }))), [] as [&str; 0]);
    assert_eq!(removed(&server.clean_up()), [first]);
    home.configure("session_host = \"detached\"\nkill_grace_secs = 1\nmin_free_bytes = 9000000000000000\n");
    let report = server.clean_up();
    assert_eq!(removed(&report), [second, third.clone()]);
    assert!(reason(&report, "removed", &third).contains("min_free_bytes is 9000000000000000"), "{report}");
    assert!(home.workbench(&live).exists());
    server.stop(&live);
}

/// One run of a generated home.
#[derive(Debug, Clone)]
struct Made {
    routine: usize,
    age_secs: u64,
    status: Option<&'static str>,
    bytes: usize,
    pinned: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let status =
        prop::sample::select(vec![Some("succeeded"), Some("failed"), Some("stopped"), Some("timed_out"), None]);
    // Ages well away from all bounds, for time goes on between the two.
    let age_secs = (0..12u64).prop_map(|step| 50 + 100 * step);
    let bytes = prop::sample::select(vec![1usize, 30_000, 100_000]);
    (0..3usize, age_secs, status, bytes, prop::bool::weighted(0.2))
        .prop_map(|(routine, age_secs, status, bytes, pinned)| Made { routine, age_secs, status, bytes, pinned })
}

/// Returns a reason without what changes from one second to the next.
fn settled(reason: &Reason) -> Reason {
    Reason { age_secs: 0, ..reason.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rule_9_a_dry_run_says_what_the_real_one_does(
        runs in prop::collection::vec(made(), 1..10),
        keep_last in 0..3u64,
        ttl in 1..6u64,
        failed_ttl in 1..6u64,
        max in prop::option::of(0..400_000u64),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let lines = [
            format!("ttl_secs = {}\nfailed_ttl_secs = {}\nkeep_last = {keep_last}\n", 100 * ttl, 100 * failed_ttl),
            format!("ttl_secs = {}\n", 100 * ttl),
        ];
        for (n, lines) in lines.iter().enumerate() {
            add_routine(home.root(), &format!("r{n}"), lines);
        }
        // Recording an end takes room, and a dry run cannot know how much.
        let max = max.filter(|_| runs.iter().all(|one| one.status.is_some()));
        let config = Config {
            session_host: SessionHostSetting::Detached, ttl_ceiling_secs: 900, max_workbench_bytes: max,
            ..Config::default()
        };
        let context = Context::of_supervisor(home, config, Program::current().unwrap());
        let home = &context.home;
        let now = UnixSeconds::now();
        for (n, one) in runs.iter().enumerate() {
            // Each with a second of its own.
            let (slug, stamp) = (format!("r{}", one.routine), UnixSeconds(now.0 - one.age_secs - n as u64));
            let run = match one.status {
                Some(status) => add_finished_at(home.root(), &slug, stamp, status, one.bytes),
                None => add_abandoned_at(home, &slug, stamp),
            };
            if one.pinned {
                pin::pin(home, &run.parse().unwrap()).unwrap();
            }
        }
        let dry = dry_run(&context, None).unwrap();
        let real = clean_up(&context, None, Duration::from_secs(30), &mut |_| {}).unwrap();
        prop_assert!(real.note.is_none() && real.failed.is_empty(), "{:?}", real);
        let by_run = |report: &CleanupReport| {
            let removed = report.removed.iter().map(|one| (one.run.to_string(), (true, false, settled(&one.reason))));
            let kept = report.kept.iter().map(|one| (one.run.to_string(), (false, one.until.is_some(), settled(&one.reason))));
            removed.chain(kept).collect::<BTreeMap<_, _>>()
        };
        let (said, done) = (by_run(&dry), by_run(&real));
        prop_assert_eq!(said, done.clone());
        prop_assert_eq!(done.len(), fs::read_dir(home.workbenches()).unwrap().count() + real.removed.len());
        for (run, (gone, ..)) in &done {
            let workbench = Workbench::named(home, &run.parse().unwrap());
            prop_assert!(!(*gone && pin::is_pinned(home, &workbench)), "{} was pinned", run);
        }
    }
}
