//! The look for unsaved work, and archives.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use moadim_mcp::janitor::sweep;
use serde_json::json;

use crate::harness::{PATIENCE, Server, TestHome, wait_for};
use crate::population;
use crate::timing::{Times, row, row_of_ratio, run};

const ROUNDS: usize = 7;
const HOUR: Duration = Duration::from_secs(60 * 60);

const GIT: &str = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a \
    GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a";

fn sh(directory: &Path, script: &str) {
    run(Command::new("bash").args(["-c", &format!("set -e; {GIT}; {script}")]).current_dir(directory));
}

/// What the look adds to the end of a run in a repository of 100,000 files, against `git status` there; then a sweep of 1,000
/// expired workbenches of which 100 have unsaved work, against one of 1,000 that have none.
pub fn unsaved() {
    end_of_a_run();
    sweep_of_unsaved();
}

fn end_of_a_run() {
    let home = TestHome::detached("");
    let made = home.scratch().join("made");
    std::fs::create_dir(&made).unwrap();
    let many = "git init -q; for d in $(seq 1000); do mkdir d$d; (cd d$d; seq 100 | split -l 1 -a 2); done; git add .; git commit -qm all; \
        git clone -q --bare . ../remote.git; git remote add origin ../remote.git; git fetch -q; echo x > d1/xaa; git commit -qam one; echo > new";
    sh(&made, many);
    let mut server = Server::start(&home);
    let (mut with, mut without, mut status) = (Times::default(), Times::default(), Times::default());
    for (title, times) in [("Repository", &mut with), ("Plain", &mut without)] {
        // Moving a tree is quick, and the same in both; a directory without .git is none to look at.
        let git = if title == "Plain" { "rm -rf tree/.git" } else { "true" };
        let prompt =
            format!("cp -al '{}' tree; {git}; cd tree; git status >/dev/null 2>&1; exec sleep 100000", made.display());
        let routine = server.create(title, &prompt, json!({ "ttl_secs": 100_000 }));
        for _ in 0..ROUNDS {
            let run = server.trigger(&routine);
            let is_ready = || home.processes_named("sleep").iter().any(|one| one.command.contains("100000"));
            wait_for(PATIENCE, "its agent", || is_ready().then_some(()));
            times.measure(|| server.stop(&run));
        }
    }
    for _ in 0..ROUNDS {
        status.measure(|| {
            run(Command::new("git")
                .args(["status", "--porcelain"])
                .current_dir(&made)
                .stdout(std::process::Stdio::null()))
        });
    }
    let added = with.median() - without.median();
    let shown = |millis: f64| format!("{millis:.0} ms");
    row(
        "the look at the end of a run, 100,000 tracked files, against `git status`",
        &shown(added),
        &shown(status.median()),
        &format!("{:.1}x", added / status.median()),
        "",
    );
}

fn sweep_of_unsaved() {
    let (mut mixed, mut plain) = (Times::default(), Times::default());
    for (with_work, times) in [(100, &mut mixed), (0, &mut plain)] {
        let home = TestHome::with_config("session_host = \"detached\"\n");
        let context = population::context(&home.root());
        population::add_expired(&home.root(), 1_000, 20);
        for workbench in std::fs::read_dir(context.home.workbenches()).unwrap().take(with_work) {
            sh(
                &workbench.unwrap().path(),
                "git init -q repo; cd repo; echo > a; git add a; git commit -qm a; echo > b",
            );
        }
        times.measure(|| sweep::sweep(&context, None, Instant::now() + HOUR, &mut |_| {}).unwrap());
        // What the sweep would have started is this program, and not ours.
        let began = Instant::now();
        run(home.command().arg("archive").arg(home.root()));
        let left = std::fs::read_dir(context.home.workbenches()).unwrap().count();
        assert_eq!(left, 0, "all are archived and gone");
        if with_work > 0 {
            let shown = format!("{:.1} s", began.elapsed().as_secs_f64());
            row("100 workbenches archived and removed in the background", &shown, "", &shown, "");
        }
    }
    row_of_ratio("a sweep of 1,000 expired workbenches, 100 with unsaved work, against none", &mixed, &plain, "");
}
