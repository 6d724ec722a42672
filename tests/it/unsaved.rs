//! Work that only a workbench has outlives it: archived before it goes, and brought back by one command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PATIENCE, Run, Scene, Server, TestHome, assert_has, text, wait_for, wait_until};
use serde_json::{Value, json};

/// Runs a script that may use git, in a directory.
#[track_caller]
fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", &format!("set -eu\n{GIT}\n{script}")])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Git as nobody in particular.
const GIT: &str = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a \
    GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a; commit() { echo $1 > $1; git add $1; git commit -q -m $1; }";

/// Makes a remote of one commit; returns its path.
fn remote(home: &TestHome) -> PathBuf {
    let path = home.scratch().canonicalize().unwrap().join("remote.git");
    sh(
        home.scratch(),
        "git init -q --bare -b main remote.git; git clone -q remote.git seed 2>/dev/null; cd seed; git checkout -q -b main; commit a; git push -q origin main",
    );
    path
}

/// Runs an agent in a clone of a remote, whose work expires at once.
#[track_caller]
fn work(home: &TestHome, server: &mut Server, prompt: &str, more: Value) -> Run {
    let url = remote(home).to_str().unwrap().to_owned();
    let prompt = format!("{GIT}; cd remote; {prompt}");
    let settings = json!({ "repositories": [{ "url": url }], "ttl_secs": 1 });
    let run = server.routine("Work", &prompt).with(settings).with(more).run_to("succeeded");
    wait_until("its retention to pass", || {
        let report = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
        report["removed"].as_array().is_some_and(|removed| !removed.is_empty())
            || report["kept"].as_array().unwrap().iter().any(|kept| kept["why"] != "young")
    });
    run
}

#[test]
fn a_commit_that_was_not_pushed_outlives_its_workbench() {
    let (home, mut server) = Scene::unwatched().start();
    let run = work(&home, &mut server, "commit b; echo x >> a; echo new > new; echo done > ../report.md", json!({}));
    let seen = server.ok("get_run", json!({ "run": run.id }));
    assert_has(
        &seen["run"]["work"][0],
        json!({ "path": "remote", "branch": "main", "unpushed_commits": 1, "changed_files": 1, "untracked_files": 1 }),
    );
    let dry = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
    assert_has(&dry["removed"][0]["archived"], json!({ "commits": 1, "files": 3 }));
    let report = server.ok("cleanup_workbenches", json!({}));
    assert_has(&report["kept"][0], json!({ "why": "archiving" }));
    wait_until("its workbench to go", || !home.workbench(&run.id).exists());
    let archive = home.json(home.root().join("archive").join(&run.id).join("archive.json")).unwrap();
    assert_eq!(archive["run"], run.id);
    fs::rename(home.scratch().join("remote.git"), home.scratch().join("gone.git")).unwrap();
    let target = home.scratch().join("back");
    let recovered = home.command().args(["recover", &run.id]).arg(&target).output().unwrap();
    assert!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
    assert_eq!(
        sh(&target.join("remote"), "git log --format=%s; cat a new ../report.md; git status --porcelain"),
        "b\na\na\nx\nnew\ndone\n M a\n?? new\n"
    );
}

#[test]
fn a_clean_clone_goes_at_once() {
    let (home, mut server) = Scene::unwatched().start();
    let run = work(&home, &mut server, "commit b; git push -q origin main", json!({}));
    let report = server.ok("cleanup_workbenches", json!({}));
    assert_eq!(text(&report["removed"][0]["run"]), run.id, "{report}");
    assert!(report["removed"][0].get("archived").is_none() && !home.workbench(&run.id).exists());
}

#[test]
fn a_workbench_stays_if_its_routine_says_so_or_its_work_cannot_be_archived() {
    let (home, mut server) = Scene::unwatched().start();
    let run = work(&home, &mut server, "commit b", json!({ "unsaved_work": "keep" }));
    let report = server.ok("cleanup_workbenches", json!({}));
    assert_has(&report["kept"][0], json!({ "why": "unsaved_work" }));
    server.ok("update_routine", json!({ "routine": "work", "unsaved_work": "archive" }));
    let head = home.workbench(&run.id).join("remote/.git/HEAD");
    fs::remove_file(&head).unwrap();
    sh(head.parent().unwrap(), "mkfifo HEAD");
    let report = server.ok("cleanup_workbenches", json!({}));
    assert_has(&report["kept"][0], json!({ "why": "not_archived" }));
    let problems = server.problems();
    assert!(problems.iter().any(|one| text(&one["problem"]).contains("HEAD")), "{problems:?}");
    let discarded = home.command().args(["cleanup", "--discard", &run.id]).output().unwrap();
    assert!(discarded.status.success() && !home.workbench(&run.id).exists());
    wait_for(PATIENCE, "health to be well", || server.problems().is_empty().then_some(()));
}
