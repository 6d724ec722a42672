//! The rules of cleanup, end to end: what goes, what stays, and that both are said beforehand.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::harness::{PATIENCE, Seen, Server, TestHome, text, wait_for};
use moadim_mcp::clock::UnixSeconds;
use moadim_mcp::home::Home;
use moadim_mcp::home::config::Config;
use moadim_mcp::janitor::{sweep, trash};
use moadim_mcp::run::context::{Context, Program};
use moadim_mcp::run::id::RunId;
use serde_json::{Value, json};

/// A home in which nothing is swept but at the start and by a call.
fn home() -> TestHome {
    TestHome::detached("")
}

/// Starts a run and returns it finished.
fn finished(server: &mut Server, title: &str, more: Value) -> String {
    let run = server.start_run(title, "echo output", more);
    server.wait_for_run(&run, "succeeded");
    run
}

/// Writes into an outcome that its run was triggered and ended that long ago.
fn set_times(home: &TestHome, run: &str, secs: u64) {
    let then = UnixSeconds(UnixSeconds::now().0 - secs).to_string();
    home.change_json(format!("workbenches/{run}/outcome.json"), |outcome| {
        for key in ["triggered_at", "started_at", "finished_at", "retain_from"] {
            outcome[key] = json!(then);
        }
    });
}

/// Makes a finished run that much older, in its outcome and by its name; returns its new id.
fn age(home: &TestHome, run: &str, secs: u64) -> String {
    let id: RunId = run.parse().unwrap();
    home.wait_for_the_last_of(run);
    let older = RunId::new(id.routine().clone(), UnixSeconds(id.stamp().0 - secs)).to_string();
    set_times(home, run, secs);
    home.change_json(format!("workbenches/{run}/outcome.json"), |outcome| outcome["id"] = json!(older));
    std::fs::rename(home.workbench(run), home.workbench(&older)).unwrap();
    older
}

/// Makes a workbench as another program leaves it, its log written that long ago.
fn foreign(home: &TestHome, slug: &str, age_secs: u64) -> String {
    let run = format!("{slug}-1000000000");
    home.write(format!("workbenches/{run}/agent.log"), "theirs\n");
    let log = File::options().append(true).open(home.workbench(&run).join("agent.log")).unwrap();
    log.set_modified(SystemTime::now() - Duration::from_secs(age_secs)).unwrap();
    run
}

fn runs(list: &Value) -> BTreeSet<String> {
    list.as_array().expect("a list").iter().map(|one| text(&one["run"])).collect()
}

fn set<const N: usize>(runs: [&String; N]) -> BTreeSet<String> {
    runs.map(Clone::clone).into()
}

fn verdict<'a>(report: &'a Value, list: &str, run: &str) -> &'a Value {
    let found = report[list].as_array().unwrap().iter().find(|one| one["run"] == *run);
    found.unwrap_or_else(|| panic!("{run} is not among {list}: {report}"))
}

fn reason(report: &Value, list: &str, run: &str) -> String {
    text(&verdict(report, list, run)["reason"])
}

/// Checks the code and the numbers of a verdict; its age may have grown meanwhile.
#[track_caller]
fn assert_verdict(verdict: &Value, why: &str, age_secs: u64, retention_secs: Option<u64>) {
    assert_eq!((&verdict["why"], verdict["retention_secs"].as_u64()), (&json!(why), retention_secs), "{verdict}");
    let age = verdict["age_secs"].as_u64().unwrap();
    assert!((age_secs..age_secs + 60).contains(&age), "{verdict}");
}

const DAY: u64 = 24 * 60 * 60;
const DECADE: u64 = 3650 * DAY;

#[test]
fn rule_1_what_is_no_run_is_never_touched() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let workbenches = home.root().join("workbenches");
    let names =
        ["notes", "-1000000000", "notes-", "notes-12x", "UPPER-1000000000", "a--1000000000", "a-007", "é-1", "a_b-1"];
    for name in names {
        home.write(format!("workbenches/{name}/agent.log"), "x");
    }
    home.write("workbenches/file-1000000000", "x");
    home.write("outside/kept", "x");
    std::os::unix::fs::symlink(home.root().join("outside"), workbenches.join("link-1000000000")).unwrap();
    let run = finished(&mut server, "Real 7", json!({}));
    let run = age(&home, &run, DECADE);
    let report = server.clean_up();
    assert_eq!((runs(&report["removed"]), &report["scanned"]), (set([&run]), &json!(1)), "{report}");
    for name in names.iter().chain(&["file-1000000000", "link-1000000000"]) {
        assert!(workbenches.join(name).symlink_metadata().is_ok(), "{name}");
    }
    assert!(home.root().join("outside/kept").exists());
    assert_eq!(server.ok("list_runs", json!({ "status": "reaped" }))["total"], 1);
    assert_eq!(server.ok("list_runs", json!({}))["total"], 1, "only what the history tells of");
}

#[test]
fn rule_9_a_dry_run_says_what_the_real_one_does_and_bytes_add_up() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let expired =
        server.start_run("Expired", "head -c 1000000 /dev/urandom > data; mkdir -p a/b; ln -s / a/root", json!({}));
    server.wait_for_run(&expired, "succeeded");
    let failed = server.start_run("Failed", "exit 1", json!({ "ttl_secs": 100 }));
    server.wait_for_run(&failed, "failed");
    let fresh = finished(&mut server, "Fresh", json!({}));
    let alive = server.start_run("Alive", "sleep 300", json!({ "ttl_secs": 1 }));
    let first_name = expired;
    let expired = age(&home, &first_name, DAY + 1000);
    let failed = age(&home, &failed, 400);
    let fresh = age(&home, &fresh, DAY - 1000);
    let dry = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
    assert!(home.workbench(&expired).exists() && home.workbench(&failed).exists());
    let real = server.clean_up();
    assert_eq!((&dry["dry_run"], &real["dry_run"]), (&json!(true), &json!(false)));
    // Ages go on between the two; all else is the same.
    let without_ages = |report: &Value| {
        let mut lists =
            json!([report["killed"], report["removed"], report["kept"], report["failed"], report["scanned"]]);
        for one in lists.as_array_mut().unwrap().iter_mut().filter_map(Value::as_array_mut).flatten() {
            one["reason"] = json!(text(&one["reason"]).replace(|c: char| c.is_ascii_digit(), "#"));
            one["age_secs"] = json!("#");
            // Only a dry run counts them.
            one.as_object_mut().unwrap().remove("not_archived");
        }
        lists
    };
    assert_eq!(without_ages(&dry), without_ages(&real));
    assert_eq!(runs(&real["removed"]), set([&expired, &failed]));
    assert_eq!(runs(&real["kept"]), set([&fresh, &alive]));
    assert!(reason(&real, "removed", &failed).contains("past its retention of 5 min"), "{real}");
    assert!(reason(&real, "kept", &fresh).ends_with("kept for at least 1 day after its finish"), "{real}");
    for report in [&dry, &real] {
        assert_verdict(verdict(report, "removed", &expired), "expired", DAY + 1000, Some(DAY));
        assert_verdict(verdict(report, "removed", &failed), "expired", 400, Some(300));
        assert_verdict(verdict(report, "kept", &fresh), "young", DAY - 1000, Some(DAY));
        assert_verdict(verdict(report, "kept", &alive), "alive", 0, None);
    }
    let foreseen: u64 = dry["removed"].as_array().unwrap().iter().map(|one| one["bytes"].as_u64().unwrap()).sum();
    assert_eq!((&dry["removable_bytes"], real.get("removable_bytes")), (&json!(foreseen), None));
    let sizes: u64 = real["removed"].as_array().unwrap().iter().map(|one| one["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sizes, real["freed_bytes"].as_u64().unwrap() + real["pending_bytes"].as_u64().unwrap());
    assert!(sizes > 1_000_000, "{sizes}");
    assert_eq!(dry["freed_bytes"], 0, "{dry}");
    assert!(!home.workbench(&expired).exists() && home.workbench(&fresh).exists());
    assert_eq!(std::fs::read_dir(home.root().join("trash")).unwrap().count(), 0);
    assert_eq!(home.history(&first_name).len(), 1, "the history outlives the workbench");
    let kept = real["kept"].as_array().unwrap().iter().find(|one| one["run"] == *fresh).unwrap();
    assert!(text(&kept["until"]) <= text(&server.run(&fresh)["reap_at"]), "not before that, by its name alone");
    server.stop(&alive);
}

#[test]
fn one_routine_can_be_cleaned_up_alone() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let (one, other) = (finished(&mut server, "One", json!({})), finished(&mut server, "Other", json!({})));
    let (one, other) = (age(&home, &one, DECADE), age(&home, &other, DECADE));
    let report = server.ok("cleanup_workbenches", json!({ "routine": "one" }));
    assert_eq!((runs(&report["removed"]), &report["scanned"]), (set([&one]), &json!(1)));
    assert!(home.workbench(&other).exists());
}

#[test]
fn rule_6_orphans_and_unreadable_routines_fall_back_to_the_ceilings() {
    let home = TestHome::detached("ttl_ceiling_secs = 1000\n");
    let mut server = Server::start_swept(&home);
    let ttl = json!({ "ttl_secs": 10 });
    let [orphan, old_orphan, damaged, clamped] =
        ["Orphan", "Old Orphan", "Damaged", "Clamped"].map(|title| finished(&mut server, title, ttl.clone()));
    let [_orphan, old_orphan, damaged, clamped] =
        [(&orphan, 500), (&old_orphan, 1500), (&damaged, 500), (&clamped, 1500)]
            .map(|(run, secs)| age(&home, run, secs));
    for slug in ["orphan", "old-orphan"] {
        std::fs::remove_dir_all(home.root().join("routines").join(slug)).unwrap();
    }
    home.write("routines/damaged/routine.toml", "= nonsense");
    let file = home.root().join("routines/clamped/routine.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    home.write("routines/clamped/routine.toml", &written.replace("ttl_secs = 10", "ttl_secs = 2000"));
    let report = server.clean_up();
    assert_eq!(runs(&report["removed"]), set([&old_orphan, &clamped]), "{report}");
    assert!(reason(&report, "removed", &old_orphan).contains("gone, so the ceilings apply"), "{report}");
    assert!(reason(&report, "removed", &clamped).contains("2000 is above the ceiling"), "{report}");
    assert!(reason(&report, "kept", &damaged).contains("cannot be read"), "{report}");
    let problems = server.problems();
    for file in ["routines/damaged/routine.toml", "routines/clamped/routine.toml"] {
        assert!(problems.iter().any(|one| text(&one["path"]).ends_with(file)), "{file}: {problems:?}");
    }
}

#[test]
fn rule_2_a_workbench_of_another_program_stays_while_its_session_does() {
    if !crate::harness::tmux_is_there() {
        return;
    }
    let home = home();
    let run = foreign(&home, "theirs", DECADE);
    let tmux = |words: &[&str]| {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").env("TMUX_TMPDIR", home.tmux_directory()).args(["-f", "/dev/null"]).args(words);
        assert!(command.output().unwrap().status.success(), "{words:?}");
    };
    // A second one keeps the server; its name begins like the other's.
    tmux(&["new-session", "-d", "-s", &format!("moadim-{run}"), "sleep 300"]);
    tmux(&["new-session", "-d", "-s", &format!("moadim-{run}1"), "sleep 300"]);
    let mut server = Server::start_swept(&home);
    let report = server.clean_up();
    assert!(reason(&report, "kept", &run).contains("alive"), "{report}");
    let seen = server.run(&run);
    assert!(seen["status"] == "unknown" && text(&seen["status_reason"]).contains("another program"), "{seen}");
    assert!(seen["reap_at"].is_string() && seen["kept_because"].is_null(), "its age decides when it goes: {seen}");
    let problem = server.problems().into_iter().find(|one| text(&one["path"]).ends_with(&run)).expect("a problem");
    assert!(text(&problem["fix"]).contains("nothing to do"), "{problem}");
    tmux(&["kill-session", "-t", &format!("=moadim-{run}")]);
    let young = foreign(&home, "young", 60);
    let report = server.clean_up();
    assert_eq!(runs(&report["removed"]), set([&run]), "{report}");
    assert_eq!(runs(&report["kept"]), set([&young]), "its log was written a minute ago");
    assert_eq!(report["kept"][0]["until"], server.run(&young)["reap_at"]);
}

#[test]
fn rule_2_without_tmux_nothing_certain_is_known_of_another_programs_workbench() {
    let usual = ["/usr/local/bin", "/opt/homebrew/bin", "/opt/local/bin", "/home/linuxbrew/.linuxbrew/bin"];
    if usual.iter().any(|directory| Path::new(directory).join("tmux").exists()) {
        // It is found there without any PATH.
        return;
    }
    let home = home();
    let run = foreign(&home, "theirs", DECADE);
    let mut command = home.command();
    command.env("PATH", home.scratch());
    let mut server = Server::start_with(command);
    let report = server.clean_up();
    let reason = reason(&report, "kept", &run);
    assert!(reason.contains("its state is unknown") && reason.contains("tmux was not found"), "{reason}");
    assert!(home.workbench(&run).exists());
}

#[test]
fn rule_2_what_carries_the_cookie_of_a_finished_run_keeps_its_workbench() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let run = finished(&mut server, "Haunted", json!({}));
    let run = age(&home, &run, DECADE);
    let cookie = text(&home.outcome(&run).unwrap()["cookie"]);
    let mut ghost = Command::new("sleep");
    ghost.arg("300").env("MOADIM_COOKIE", &cookie).current_dir(home.user());
    let mut ghost = ghost.spawn().unwrap();
    // In the midst of its exec it shows none.
    let shows_it = |one: &Seen| one.id.pid.cast_unsigned() == ghost.id() && one.cookie.as_ref() == Some(&cookie);
    wait_for(PATIENCE, "the cookie", || home.processes().iter().any(shows_it).then_some(()));
    let report = server.clean_up();
    ghost.kill().unwrap();
    ghost.wait().unwrap();
    assert!(reason(&report, "kept", &run).contains("still alive"), "{report}");
    assert_verdict(verdict(&report, "kept", &run), "alive", DECADE, Some(DAY));
    assert_eq!(runs(&server.clean_up()["removed"]), set([&run]));
}

#[test]
fn rule_2_an_outcome_that_cannot_be_read_keeps_its_workbench() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let [damaged, newer, swapped] =
        ["Damaged", "Newer", "Swapped"].map(|title| age(&home, &finished(&mut server, title, json!({})), DECADE));
    home.write(format!("workbenches/{damaged}/outcome.json"), "{");
    home.change_json(format!("workbenches/{newer}/outcome.json"), |outcome| outcome["version"] = json!(9));
    home.change_json(format!("workbenches/{swapped}/outcome.json"), |outcome| outcome["id"] = json!("other-1"));
    let report = server.clean_up();
    assert_eq!(report["removed"], json!([]));
    for run in [&damaged, &newer, &swapped] {
        assert!(reason(&report, "kept", run).contains("outcome.json"), "{report}");
        assert_verdict(verdict(&report, "kept", run), "unknown", DECADE, None);
        assert_eq!(server.run(run)["status"], "unknown");
    }
}

#[test]
fn rule_5_a_time_in_the_future_has_the_age_0() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let run = age(&home, &finished(&mut server, "Ahead", json!({ "ttl_secs": 1000 })), DECADE);
    home.change_json(format!("workbenches/{run}/outcome.json"), |outcome| {
        outcome["triggered_at"] = json!("2999-01-01T00:00:00Z");
        outcome["retain_from"] = json!("2999-01-01T00:00:00Z");
    });
    home.write("workbenches/ahead-18446744073709551615/agent.log", "");
    let report = server.clean_up();
    assert_eq!(report["removed"], json!([]), "{report}");
    assert!(reason(&report, "kept", &run).contains("finished 0 s ago"), "{report}");
    assert_verdict(verdict(&report, "kept", &run), "young", 0, Some(1000));
}

#[test]
fn what_expires_goes_by_itself() {
    let home = TestHome::detached("cleanup_interval_secs = 1\n");
    let mut server = Server::start_swept(&home);
    // Not seen to succeed: it may be gone by the time of the look.
    let run = server.start_run("Brief", "echo output", json!({ "ttl_secs": 1 }));
    wait_for(PATIENCE, "the workbench to go", || (!home.workbench(&run).exists()).then_some(()));
    let history = home.history(&run);
    assert_eq!((history.len(), &history[0]["status"]), (1, &json!("succeeded")));
    assert_eq!(server.run(&run)["status"], "reaped");
}

#[test]
fn a_server_sweeps_when_it_starts() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let run = finished(&mut server, "Old", json!({}));
    drop(server);
    let run = age(&home, &run, DECADE);
    home.write("trash/left-1.0123456789abcdef/deep/file", "x");
    let mut next = Server::start(&home);
    next.request("ping", json!({})).unwrap();
    wait_for(PATIENCE, "the first sweep", || {
        let trash = std::fs::read_dir(home.root().join("trash")).unwrap().count();
        (!home.workbench(&run).exists() && trash == 0).then_some(())
    });
}

/// A file that cannot be changed or removed, for as long as the value lives.
struct Immovable<'a>(&'a Path);

impl<'a> Immovable<'a> {
    /// `None` where the system does not permit it.
    fn make(path: &'a Path) -> Option<Self> {
        let made = Command::new("chattr").arg("+i").arg(path).output();
        made.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for Immovable<'_> {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(self.0).output();
    }
}

#[test]
fn rule_7_one_that_cannot_be_removed_does_not_stop_the_others() {
    let home = home();
    let mut server = Server::start_swept(&home);
    let [first, stuck, last] =
        ["First", "Stuck", "Zast"].map(|title| age(&home, &finished(&mut server, title, json!({})), DECADE));
    let path = home.workbench(&stuck);
    let Some(immovable) = Immovable::make(&path) else { return };
    let report = server.clean_up();
    assert_eq!(runs(&report["removed"]), set([&first, &last]), "{report}");
    assert_eq!((&report["failed"][0]["run"], &report["failed_total"]), (&json!(stuck), &json!(1)));
    assert_eq!(report["failed"][0]["path"], path.to_str().unwrap());
    drop(immovable);
    assert_eq!(runs(&server.clean_up()["removed"]), set([&stuck]));
}

#[test]
fn long_lists_are_cut_and_counted() {
    let home = home();
    let mut server = Server::start_swept(&home);
    for n in 0..230 {
        let run = foreign(&home, &format!("many{n:03}"), if n < 120 { DECADE } else { 60 });
        let outcome = json!({
            "version": 1, "id": run, "status": "succeeded", "agent": "x", "session_host": "detached",
            "triggered_at": "2001-09-09T01:46:40Z", "finished_at": "2001-09-09T01:46:40Z",
            "retain_from": if n < 120 { "2001-09-09T01:46:40Z".to_owned() } else { UnixSeconds::now().to_string() },
            "cookie": "0123456789abcdef0123456789abcdef",
        });
        home.write(format!("workbenches/{run}/outcome.json"), &outcome.to_string());
    }
    let report = server.ok("cleanup_workbenches", json!({ "confirm": true }));
    let count = |list: &str| report[list].as_array().unwrap().len();
    assert_eq!((count("removed"), count("kept")), (100, 100));
    assert_eq!((&report["removed_total"], &report["kept_total"]), (&json!(120), &json!(110)));
    assert_eq!((&report["failed_total"], &report["scanned"]), (&json!(0), &json!(230)));
    assert_eq!(server.ok("list_runs", json!({ "limit": 200 }))["total"], 110);
}

#[test]
fn rule_8_any_number_of_sweeps_at_the_same_time_are_safe() {
    let home = home();
    let mut servers: Vec<Server> = (0..3).map(|_| Server::start_swept(&home)).collect();
    let kept = finished(&mut servers[0], "Kept", json!({}));
    let all: BTreeSet<String> = (0..40).map(|n| foreign(&home, &format!("gone{n}"), DECADE)).collect();
    for run in &all {
        let mut outcome = home.outcome(&kept).unwrap();
        outcome["id"] = json!(run);
        home.write(format!("workbenches/{run}/outcome.json"), &outcome.to_string());
        set_times(&home, run, DECADE);
    }
    let calls: Vec<u64> = servers.iter_mut().map(|server| server.send_call("cleanup_workbenches", json!({}))).collect();
    let mut removed = Vec::new();
    for (server, call) in servers.iter_mut().zip(calls) {
        let answer = server.tool_answer(call);
        let report = answer.ok();
        assert_eq!(report["failed"], json!([]));
        removed.extend(runs(&report["removed"]));
        if let Some(note) = report["note"].as_str() {
            assert!(note.contains("a sweep is under way in pid"), "{note}");
        }
    }
    assert_eq!(removed.len(), 40, "each by one of them");
    assert_eq!(removed.into_iter().collect::<BTreeSet<_>>(), all);
    assert!(home.workbench(&kept).exists());
}

#[test]
fn settings_and_an_argument_of_0_2_0_have_no_effect_and_health_names_the_settings() {
    let home = TestHome::detached("confirm_over_workbenches = 0\nconfirm_over_bytes = 0\n");
    let mut server = Server::start_swept(&home);
    let problems = server.problems();
    let said: Vec<String> = problems.iter().map(|one| text(&one["problem"])).collect();
    let keys = ["confirm_over_workbenches", "confirm_over_bytes"];
    assert_eq!(said, keys.map(|key| format!("{key} no longer has an effect")), "{problems:?}");
    assert!(problems.iter().all(|one| text(&one["path"]).ends_with("config.toml") && one["fix"] == "remove it"));
    for arguments in [json!({}), json!({ "confirm": false })] {
        let run = age(&home, &finished(&mut server, "Old", json!({})), DECADE);
        assert_eq!(runs(&server.ok("cleanup_workbenches", arguments)["removed"]), set([&run]));
        server.ok("delete_routine", json!({ "routine": "old" }));
    }
}

/// A real tree that takes longer than the patience of a call is too large for a test: the patience is over at once instead.
#[test]
fn what_takes_too_long_to_delete_is_out_of_sight_and_answered_in_time_and_deleted_later() {
    let home = TestHome::detached("");
    let mut server = Server::start_swept(&home);
    let run = server.start_run("Large", "true", json!({ "ttl_secs": 1 }));
    server.wait_for_run(&run, "succeeded");
    home.wait_for_the_last_of(&run);
    (0..200).for_each(|number| std::fs::write(home.workbench(&run).join(format!("f{number}")), [0; 4096]).unwrap());
    wait_for(PATIENCE, "it to be due", || {
        let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
        (foreseen["removed"][0]["run"] == *run).then_some(())
    });
    drop(server);
    let opened = Home::open(home.root()).unwrap();
    let config = Config::load(&opened.config_file()).unwrap();
    let context = Context::of_supervisor(opened, config, Program::current().unwrap());
    let report = sweep::sweep(&context, None, Instant::now(), &mut |_| {}).unwrap();
    assert_eq!((report.removed.len(), report.removed[0].run.to_string()), (1, run.clone()));
    assert!(report.pending_bytes >= 200 * 4096 && report.failed.is_empty(), "{report:?}");
    assert!(!home.workbench(&run).exists());
    let trash = || std::fs::read_dir(home.root().join("trash")).unwrap().count();
    assert_eq!(trash(), 1);
    trash::empty(&context.home).unwrap();
    assert_eq!(trash(), 0);
    assert_eq!(home.history(&run).len(), 1);
}
