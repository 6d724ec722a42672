//! Work that only a workbench has outlives it: archived before it goes, and brought back by one command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{PATIENCE, Run, Scene, Server, TestHome, assert_has, may_take_long, text, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Runs a script that may use git, in a directory.
#[track_caller]
pub fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", &format!("set -eu\n{GIT}\n{script}")])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Git as nobody in particular.
pub const GIT: &str = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a \
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
pub fn work(home: &TestHome, server: &mut Server, prompt: &str, more: Value) -> Run {
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

/// What an agent leaves in each round of the test below: a commit, staged and unstaged changes, a stash, odd names.
pub const MUCH_WORK: &str = "commit b; echo s > a; git stash -q; echo 1 > b; git add b; echo 2 >> b; echo u > ' odd '; mkdir d; echo x > d/x; \
    chmod 600 d/x; ln -s nowhere link; git checkout -q -b other; commit c";

/// Everything of it that has to come back.
pub const EVERYTHING: &str = "git log --all --format=%H | sort; git for-each-ref refs/heads refs/tags --format='%(refname) %(objectname)'; git ls-files -s; \
    git status --porcelain; git stash list --format=%gs; git symbolic-ref HEAD; find . -mindepth 1 -path ./.git -prune -o -printf '%p %m %y %l\\n' | sort; \
    find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha1sum";

/// 3 rounds, or 20 with `MOADIM_LONG_TESTS=1`: in each, sweeps of several processes and those that archive are killed at some moments.
#[test]
fn killing_whoever_archives_at_any_moment_loses_nothing() {
    let (home, mut server) = Scene::unwatched().start();
    let url = remote(&home).to_str().unwrap().to_owned();
    let prompt = format!("{GIT}; cd remote; {MUCH_WORK}");
    let settings = json!({ "repositories": [{ "url": url }], "ttl_secs": 1 });
    server.routine("Work", &prompt).with(settings).create();
    let rounds = if may_take_long() { 20 } else { 3 };
    let mut delay_ms = 0;
    for round in 0..rounds {
        let run = server.run_to("work", "succeeded");
        let workbench = home.workbench(&run.id);
        let before = sh(&workbench.join("remote"), EVERYTHING);
        let whole = || home.root().join("archive").join(&run.id).join("archive.json").exists();
        let mut kills = 0;
        while workbench.exists() && kills < 6 {
            let start = |word: &str| {
                let mut command = home.command();
                command
                    .arg(word)
                    .args((word == "archive").then(|| home.root()))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                command.spawn().unwrap()
            };
            let mut all: Vec<_> =
                (0..8).map(|number| start(if number % 2 == 0 { "archive" } else { "cleanup" })).collect();
            delay_ms = (delay_ms + 37) % 400;
            std::thread::sleep(Duration::from_millis(delay_ms));
            // Those that they started go on, or were started too late to be seen: both are part of it.
            all.iter_mut().for_each(|one| drop((one.kill(), one.wait())));
            home.processes()
                .iter()
                .filter(|one| one.command.contains(" archive "))
                .for_each(|one| one.signal(Signal::KILL));
            kills += 1;
            assert!(workbench.exists() || whole(), "round {round}: neither is there");
        }
        // A sweep that meets another leaves the rest to the next.
        wait_until("its workbench to go", || {
            server.ok("cleanup_workbenches", json!({}));
            !workbench.exists()
        });
        let target = home.scratch().join(format!("back-{round}"));
        let recovered = home.command().args(["recover", &run.id]).arg(&target).output().unwrap();
        assert!(recovered.status.success(), "round {round}: {}", String::from_utf8_lossy(&recovered.stderr));
        assert_eq!(sh(&target.join("remote"), EVERYTHING), before, "round {round}");
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn whoever_is_at_work_in_a_workbench_keeps_it() {
    let (home, mut server) = Scene::unwatched().start();
    let run = server.routine("Plain", "echo > file").with(json!({ "ttl_secs": 1 })).run_to("succeeded");
    let mut visitor = Command::new("sleep").arg("300").current_dir(home.workbench(&run.id)).spawn().unwrap();
    wait_until("its retention to pass", || {
        let kept = server.ok("cleanup_workbenches", json!({ "dry_run": true }))["kept"].clone();
        kept[0]["why"] == "in_use"
    });
    let report = server.ok("cleanup_workbenches", json!({}));
    assert!(text(&report["kept"][0]["reason"]).contains("sleep ("), "{report}");
    visitor.kill().unwrap();
    visitor.wait().unwrap();
    server.ok("cleanup_workbenches", json!({}));
    assert!(!home.workbench(&run.id).exists());
}

#[test]
fn a_deleted_routine_comes_back() {
    let (home, mut server) = Scene::unwatched().start();
    server.routine("Back again", "true").create();
    server.ok("delete_routine", json!({ "routine": "back-again" }));
    let recover = || home.command().args(["recover", "--routine", "back-again"]).output().unwrap();
    assert!(recover().status.success());
    assert_eq!(server.ok("get_routine", json!({ "routine": "back-again" }))["prompt"], "true");
    assert!(!recover().status.success(), "it is there already");
}
