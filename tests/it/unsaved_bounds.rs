//! Work that is archived and shown, in the face of bounds, deaths and visitors.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::{Scene, Server, TestHome, assert_has, text, wait_until};
use crate::unsaved::{GIT, sh, work};
use serde_json::{Value, json};

/// Cleans up until a workbench is gone.
fn clean_away(home: &TestHome, server: &mut Server, run: &str) {
    wait_until("its workbench to go", || {
        server.ok("cleanup_workbenches", json!({}));
        !home.workbench(run).exists()
    });
}

#[test]
fn what_is_archived_is_shown_everywhere() {
    let (home, mut server) = Scene::unwatched().start();
    let prompt = format!("{GIT}; git init -q remote; cd remote; commit b; echo > new; exit 3");
    let run = server.routine("Work", &prompt).with(json!({ "failed_ttl_secs": 1 })).run_to("failed");
    let report = server.request("prompts/get", json!({ "name": "morning_report" })).unwrap();
    let texts = report["messages"].as_array().unwrap().iter().filter_map(|message| message["content"]["text"].as_str());
    let digest = texts.filter_map(|text| serde_json::from_str::<Value>(&text[text.find('{')?..]).ok()).next().unwrap();
    for list in ["unsaved", "bad"] {
        assert_eq!(digest[list][0]["id"], json!(run.id), "it failed, and left work: {digest}");
    }
    clean_away(&home, &mut server, &run.id);
    let shown = server.ok("get_run", json!({ "run": run.id }));
    assert_has(&shown["archive"], json!({ "repositories": ["remote"] }));
    assert_eq!(text(&shown["recover_command"]), format!("moadim-mcp recover {}", run.id));
    let listed = home.moadim(&["recover", "--list"]).ok();
    assert!(listed.contains(&run.id) && listed.contains("remote"), "{listed}");
    fs::write(home.root().join("archive").join(&run.id).join("archive.json"), "{").unwrap();
    let listed = home.moadim(&["recover", "--list"]);
    assert!(listed.stderr.contains("archive.json"), "one that is damaged stops no list");
}

#[test]
fn a_person_may_have_work_discarded() {
    let (home, mut server) = Scene::unwatched().config("unsaved_work = \"discard\"\n").start();
    let run = work(&home, &mut server, "commit b", json!({}));
    let report = server.ok("cleanup_workbenches", json!({}));
    assert_eq!(report["removed"][0]["run"], json!(run.id), "{report}");
    assert!(!home.workbench(&run.id).exists() && !home.root().join("archive").join(&run.id).exists());
}

#[test]
fn a_run_that_is_stopped_or_ended_at_its_bound_is_examined() {
    let (_home, mut server) = Scene::unwatched().start();
    let prompt = format!("{GIT}; git init -q repo; cd repo; commit a; echo ready; exec sleep 300");
    for (title, more, status) in
        [("Stop", json!({}), "stopped"), ("Bound", json!({ "max_runtime_secs": 5 }), "timed_out")]
    {
        let run = server.start_run(title, &prompt, more);
        server.wait_for_log(&run, "ready");
        if status == "stopped" {
            server.stop(&run);
        }
        server.wait_for_run(&run, status);
        let shown = server.ok("get_run", json!({ "run": run }))["run"].clone();
        assert_has(&shown["work"][0], json!({ "path": "repo", "unpushed_commits": 1, "unreadable": null }));
    }
}

#[test]
fn a_run_whose_supervisor_died_is_examined_before_its_end_is_recorded() {
    let (home, mut server) = Scene::unwatched().start();
    let prompt = format!("{GIT}; git init -q repo; cd repo; commit a; echo ready; exec sleep 300");
    server.routine("Work", &prompt).create();
    let run = server.trigger("work");
    server.wait_for_log(&run, "ready");
    home.noted(&run, "supervisor").kill();
    server.ok("stop_run", json!({ "run": run }));
    let shown = server.ok("get_run", json!({ "run": run }))["run"].clone();
    assert_has(&shown["work"][0], json!({ "path": "repo", "unpushed_commits": 1 }));
}

#[test]
fn a_budget_archives_first_and_names_whom_it_disturbs() {
    let (home, mut server) = Scene::unwatched().config("max_workbench_bytes = 1\n").start();
    let run = server.routine("Plain", "echo > file").run_to("succeeded").id;
    let mut visitor = Command::new("sleep").arg("300").current_dir(home.workbench(&run)).spawn().unwrap();
    let report = server.ok("cleanup_workbenches", json!({}));
    let reason = text(&report["removed"][0]["reason"]);
    assert!(reason.contains("max_workbench_bytes") && reason.contains("sleep ("), "{report}");
    visitor.kill().unwrap();
    visitor.wait().unwrap();
    let prompt = format!("{GIT}; git init -q repo; cd repo; commit a");
    let run = server.routine("Work", &prompt).run_to("succeeded").id;
    clean_away(&home, &mut server, &run);
    assert!(home.root().join("archive").join(&run).join("archive.json").exists());
}

#[test]
fn what_cannot_be_archived_stands_in_for_nothing_that_could_go() {
    let (home, mut server) = Scene::unwatched().start();
    let stuck = format!(
        "{GIT}; git init -q repo; cd repo; commit a; rm .git/HEAD; mkfifo .git/HEAD; head -c 4000000 /dev/zero > big"
    );
    let stuck = server.routine("Stuck", &stuck).run_to("succeeded").id;
    let ended = SystemTime::now();
    wait_until("it to be older than the next", || ended.elapsed().is_ok_and(|age| age > Duration::from_secs(2)));
    let next = server.routine("Next", "head -c 1000000 /dev/zero > big").run_to("succeeded").id;
    home.configure("session_host = \"detached\"\nmax_workbench_bytes = 4500000\n");
    let first = server.ok("cleanup_workbenches", json!({}));
    let kept = first["kept"].as_array().unwrap().iter().find(|kept| kept["run"] == json!(stuck)).unwrap();
    assert_eq!(kept["why"], "not_archived", "{first}");
    clean_away(&home, &mut server, &next);
    assert!(home.workbench(&stuck).exists());
}

#[test]
fn what_is_too_old_goes_and_is_a_line_of_the_history() {
    let (home, mut server) = Scene::unwatched().config("archive_age_secs = 604801\ncache_age_secs = 1\n").start();
    let run = work(&home, &mut server, "commit b", json!({}));
    clean_away(&home, &mut server, &run.id);
    let archive = home.root().join("archive").join(&run.id);
    let record = archive.join("archive.json");
    let mut value = home.json(&record).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(700_000);
    value["made_at"] = json!("2020-01-01T00:00:00Z");
    fs::write(&record, value.to_string()).unwrap();
    let cache = home.root().join("cache");
    for mirror in fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_dir()) {
        for path in [mirror.join("FETCH_HEAD"), mirror] {
            if let Ok(file) = File::open(path) {
                file.set_modified(long_ago).unwrap();
            }
        }
    }
    // Both are looked at once a day.
    let _ = fs::remove_file(home.root().join("locks/tidied"));
    drop(server);
    let mut server = Server::start(&home);
    wait_until("the archive to go", || !archive.exists());
    let is_mirror = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "git");
    wait_until("the mirror to go", || !fs::read_dir(&cache).unwrap().any(|file| is_mirror(&file.unwrap().path())));
    wait_until("the base to go", || fs::read_dir(home.root().join("archive/bases")).unwrap().next().is_none());
    let history = fs::read_to_string(home.root().join("history.jsonl")).unwrap();
    assert!(history.lines().any(|line| line.contains("archive_removed") && line.contains(&run.id)), "{history}");
    let shown = server.ok("get_run", json!({ "run": run.id }));
    assert!(shown.get("archive").is_none() && shown.get("recover_command").is_none(), "{shown}");
}

#[test]
fn a_workbench_that_was_copied_by_hand_may_go_until_it_changes() {
    let (home, mut server) = Scene::unwatched().start();
    let prompt = format!("{GIT}; git init -q repo; cd repo; commit a; rm .git/HEAD; mkfifo .git/HEAD");
    let run = server.routine("Work", &prompt).with(json!({ "ttl_secs": 1 })).run_to("succeeded").id;
    wait_until("it to be kept", || server.ok("cleanup_workbenches", json!({}))["kept"][0]["why"] == "not_archived");
    let target = home.scratch().join("back");
    let recover = || home.command().args(["recover", &run]).arg(&target).output().unwrap();
    let recovered = recover();
    let notes = String::from_utf8_lossy(&recovered.stderr).into_owned();
    assert!(recovered.status.success() && notes.contains("may remove the workbench now"), "{notes}");
    assert_eq!(sh(&target, "ls repo/a"), "repo/a\n");
    fs::write(home.workbench(&run).join("repo/later"), "").unwrap();
    let report = server.ok("cleanup_workbenches", json!({}));
    assert_has(&report["kept"][0], json!({ "why": "not_archived" }));
    fs::remove_dir_all(&target).unwrap();
    recover();
    clean_away(&home, &mut server, &run);
}
