//! Where work cannot be archived, its workbench stays, says why, and nothing of it is lost.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::full_disk::SmallDisk;
use crate::harness::{
    Scene, Server, TestHome, assert_has, is_body, may_take_long, text, wait_for, wait_until, with_mounts,
};
use crate::unsaved::{EVERYTHING, GIT, sh, work};
use serde_json::{Value, json};

/// An agent without a login shell makes a repository with git at its usual place, whatever is on PATH.
fn make_repository(server: &mut Server, more: &str) -> String {
    let prompt = format!("{GIT}; PATH=/usr/bin:/bin; git init -q repo; cd repo; commit a; {more}");
    server.routine("Work", &prompt).with(json!({ "ttl_secs": 1 })).run_to("succeeded").id
}

/// Cleans up until the workbench is kept for other reasons than its age, and returns the report's line of it.
#[track_caller]
fn kept(server: &mut Server) -> Value {
    let mut kept = Value::Null;
    wait_until("its retention to pass", || {
        kept = server.ok("cleanup_workbenches", json!({}))["kept"][0].clone();
        kept.is_object() && kept["why"] != "young"
    });
    kept
}

#[track_caller]
fn recover(home: &TestHome, run: &str, target: &Path) {
    let recovered = home.command().args(["recover", run]).arg(target).output().unwrap();
    assert!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
}

#[test]
fn without_a_git_that_can_be_used_the_workbench_stays() {
    for (version, then, reason) in [("2.30.0", "", "2.30.0"), ("2.47.0", "exec sleep 300", "timed out")] {
        let home = TestHome::detached("");
        home.script("git", &format!("[ \"$1\" = version ] && echo git version {version} && exit\n{then}"));
        let path = home.path_with_scripts();
        let mut server = Server::start_with_env(&home, &[("PATH", path.as_str())]);
        let run = make_repository(&mut server, "");
        let seen = server.ok("get_run", json!({ "run": run }))["run"]["work"][0].clone();
        let why = text(&seen["unreadable"]);
        assert!(why.contains(reason), "{seen}");
        let problems = server.problems();
        assert!(problems.iter().any(|one| text(&one["problem"]).contains(reason)), "from the first day: {problems:?}");
        let kept = kept(&mut server);
        assert_eq!(kept["why"], "not_archived", "{kept}");
        assert!(text(&kept["reason"]).contains(reason), "{kept}");
        fs::remove_file(home.scripts().join("git")).unwrap();
        server.ok("cleanup_workbenches", json!({}));
        wait_until("its workbench to go", || {
            server.ok("cleanup_workbenches", json!({}));
            !home.workbench(&run).exists()
        });
        recover(&home, &run, &home.scratch().join("back"));
        assert_eq!(sh(&home.scratch().join("back/repo"), "git log --format=%s"), "a\n");
    }
}

#[test]
fn work_beyond_the_bound_of_an_archive_stays_and_is_known_from_the_first_day() {
    let (home, mut server) = Scene::unwatched().config("max_run_archive_bytes = 50000\n").start();
    home.configure(&format!(
        "{}on_finish = ['sh', '-c', 'printf %s \"$MOADIM_UNSAVED_WORK\" > {}']\n",
        home.read("config.toml"),
        home.scratch().join("told").display()
    ));
    let run = work(&home, &mut server, "head -c 100000 /dev/urandom > big", json!({}));
    let seen = server.ok("get_run", json!({ "run": run.id }))["run"]["work"][0].clone();
    assert!(text(&seen["not_archivable"]).contains("max_run_archive_bytes"), "{seen}");
    let problems = server.problems();
    assert!(problems.iter().any(|one| text(&one["problem"]).contains("max_run_archive_bytes")), "{problems:?}");
    wait_until("the hook", || fs::read_to_string(home.scratch().join("told")).is_ok_and(|told| !told.is_empty()));
    let told = fs::read_to_string(home.scratch().join("told")).unwrap();
    assert!(told.contains("1 untracked file in remote, which cannot be archived"), "{told}");
    let kept = |server: &mut Server| server.ok("cleanup_workbenches", json!({}))["kept"][0].clone();
    wait_until("the try to archive it", || kept(&mut server)["why"] == "not_archived");
    assert!(home.workbench(&run.id).join("remote/big").exists());
    let target = home.scratch().join("back");
    recover(&home, &run.id, &target);
    assert!(target.join("remote/big").exists());
}

#[test]
fn on_a_full_disk_work_stays_until_its_archive_fits() {
    with_mounts("unsaved_faults::full");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn full() {
    if !is_body() {
        return;
    }
    let disk = SmallDisk::new("size=16m");
    let home = &disk.home;
    let mut server = Server::start_swept(home);
    let run = make_repository(&mut server, "head -c 1000000 /dev/urandom > new");
    let before = sh(&home.workbench(&run).join("repo"), EVERYTHING);
    let filler = disk.fill();
    fs::File::options()
        .write(true)
        .open(&filler)
        .unwrap()
        .set_len(fs::metadata(&filler).unwrap().len() - 2_000_000)
        .unwrap();
    wait_until("the try to archive it", || {
        let kept = server.ok("cleanup_workbenches", json!({}))["kept"][0].clone();
        kept["why"] == "not_archived" && text(&kept["reason"]).contains("bytes of disk")
    });
    assert_eq!(sh(&home.workbench(&run).join("repo"), EVERYTHING), before);
    fs::remove_file(filler).unwrap();
    // What could not be archived is tried again after a day, or once a person says so.
    fs::remove_dir_all(home.root().join("archive/problems")).unwrap();
    wait_until("its workbench to go", || {
        server.ok("cleanup_workbenches", json!({}));
        !home.workbench(&run).exists()
    });
    recover(home, &run, &home.scratch().join("back"));
    assert_eq!(sh(&home.scratch().join("back/repo"), EVERYTHING), before);
}

#[test]
fn the_dry_run_says_what_would_be_archived_and_what_would_not() {
    let (home, mut server) = Scene::unwatched().start();
    let run = work(
        &home,
        &mut server,
        "commit b; echo new > new; echo > ../scratch; echo > ../notes; echo > ../report.md",
        json!({}),
    );
    let dry = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
    assert_has(&dry["removed"][0]["archived"], json!({ "commits": 1, "files": 2 }));
    assert_has(&dry["removed"][0]["not_archived"], json!({ "files": 2 }));
    let workbenches = dry["stores"].as_array().unwrap().iter().find(|store| store["name"] == "workbenches").unwrap();
    assert_eq!(workbenches["goes_next"]["name"], json!(run.id), "{dry}");
    let shown = home.moadim(&["cleanup", "--dry-run"]);
    let lines = shown.ok();
    assert!(lines.contains("1 commit, 2 files") && lines.contains("NOT ARCHIVED"), "{lines}");
    let found = home.moadim(&["doctor"]).ok();
    assert!(found.contains("next to go is"), "{found}");
}

#[test]
fn archives_that_are_full_and_young_make_new_ones_wait() {
    let (home, mut server) = Scene::unwatched().config("max_archive_bytes = 1\n").start();
    let first = work(&home, &mut server, "commit b", json!({}));
    wait_until("its workbench to go", || {
        server.ok("cleanup_workbenches", json!({}));
        !home.workbench(&first.id).exists()
    });
    let second = server.run_to("work", "succeeded");
    wait_until("it to wait", || {
        let kept = server.ok("cleanup_workbenches", json!({}))["kept"][0].clone();
        kept["why"] == "not_archived" && text(&kept["reason"]).contains("max_archive_bytes")
    });
    assert!(home.workbench(&second.id).exists());
    let problems = server.problems();
    assert!(problems.iter().any(|one| text(&one["problem"]).contains("max_archive_bytes")), "{problems:?}");
}

/// With `MOADIM_LONG_TESTS=1` only: it takes a minute, and some GiB of disk.
#[test]
fn very_many_files_and_a_very_large_one_are_archived() {
    if !may_take_long() {
        return;
    }
    let (home, mut server) = Scene::unwatched().config(&format!("max_run_archive_bytes = {}\n", 4_u64 << 30)).start();
    let more = "mkdir many; cd many; seq 100000 | split -l 1 -a 5; cd ..; truncate -s 2G large; echo end >> large";
    let prompt = format!("{GIT}; git init -q repo; cd repo; commit a; {more}");
    let routine = server.routine("Work", &prompt).with(json!({ "ttl_secs": 1 })).create();
    let run = server.trigger(&routine);
    // Other tests want the disk too.
    let patience = Duration::from_secs(20 * 60);
    wait_for(patience, "its end", || home.outcome(&run));
    wait_for(patience, "its workbench to go", || {
        server.ok("cleanup_workbenches", json!({}));
        (!home.workbench(&run).exists()).then_some(())
    });
    // It still removes 100,000 files.
    wait_for(patience, "what archived to end", || {
        let is_archiving = home.processes().iter().any(|one| one.command.contains(" archive "));
        (!is_archiving).then_some(())
    });
    let target = home.scratch().join("back");
    recover(&home, &run, &target);
    assert_eq!(sh(&target.join("repo"), "ls many | wc -l; cat many/* | sha1sum; stat -c %s large; tail -c 4 large"), {
        let sum = sh(home.scratch(), "seq 100000 | sha1sum");
        format!("100000\n{sum}2147483652\nend\n")
    });
}
