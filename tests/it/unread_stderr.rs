//! A stderr that nobody reads, as some hosts leave it: nothing waits for it, and nothing is lost but words.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::harness::{Era, PATIENCE, Server, TestHome, text, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// How soon a process has to leave; a host kills it after about so long.
const EXIT: Duration = Duration::from_secs(2);

/// Makes a pipe that takes nothing more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    for block in [&[b'.'; 4096][..], b"."] {
        while writer.write_all(block).is_ok() {}
    }
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// A home that gives a server something to warn of, and its watchdog something to do.
fn noisy_home() -> TestHome {
    let home = TestHome::detached("watchdog_interval_secs = 1\n");
    home.write("routines/broken/routine.toml", "this is no TOML");
    home
}

/// Logs as much as `level` makes it, to nobody.
fn start_unheard(home: &TestHome, level: Option<&str>) -> (Server, PipeReader) {
    let (reader, writer) = full_pipe();
    let mut command = home.command();
    command.envs(level.map(|level| ("RUST_LOG", level)));
    let mut server = Server::spawn_with_stderr(command, writer.into());
    server.introduce(Era::Legacy("2025-11-25"));
    (server, reader)
}

/// Has a run that nobody but the watchdog can end, and waits until it did.
fn make_the_watchdog_end_one(home: &TestHome, server: &mut Server) {
    let run = server.start_run("Hangs", "exec sleep 300", json!({ "max_runtime_secs": 3600 }));
    home.noted(&run, "supervisor").kill();
    home.set_bound("hangs", 1);
    wait_until("the watchdog to end it", || !home.entry(&run).exists());
    assert_eq!(home.outcome(&run).unwrap()["status"], "timed_out");
}

fn call_often(server: &mut Server, count: usize) {
    for n in 0..count {
        server.ok(["health", "list_runs", "list_routines"][n % 3], json!({}));
    }
}

/// Has a server work and leave though nobody reads its stderr.
fn works_unheard(level: Option<&str>) {
    let home = noisy_home();
    let (mut server, _unread) = start_unheard(&home, level);
    call_often(&mut server, 300);
    make_the_watchdog_end_one(&home, &mut server);
    server.routine("Ends", "true").run_to("succeeded");
    let (status, took) = server.close_stdin_and_wait();
    assert!(status.success() && took < EXIT, "{level:?}: {status} after {took:?}");
}

#[test]
fn a_server_works_and_leaves_though_nobody_reads_its_stderr() {
    works_unheard(None);
}

#[test]
fn a_server_that_says_a_lot_works_and_leaves_though_nobody_reads_it() {
    works_unheard(Some("trace"));
}

#[test]
fn what_was_dropped_is_a_problem_until_the_log_says_so() {
    let home = noisy_home();
    let (mut server, mut unread) = start_unheard(&home, Some("trace"));
    let about_the_log = |server: &mut Server| {
        let problems = server.problems();
        problems.into_iter().find(|one| text(&one["problem"]).contains("log messages were dropped"))
    };
    let problem = wait_for(PATIENCE, "messages to be dropped", || about_the_log(&mut server));
    assert!(text(&problem["fix"]).contains("RUST_LOG"), "{problem}");
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        unread.read_to_end(&mut all).unwrap();
        String::from_utf8_lossy(&all).into_owned()
    });
    wait_until("the log to account for them", || about_the_log(&mut server).is_none());
    server.close_stdin_and_wait();
    let log = reading.join().unwrap();
    let accounts = log.lines().filter(|line| line.contains("log messages were dropped here: nobody read stderr"));
    assert!(accounts.count() >= 1 && log.contains("broken"), "{} bytes", log.len());
}

#[test]
fn a_server_that_cannot_start_says_so_to_nobody_and_leaves() {
    let home = TestHome::new();
    std::fs::write(home.root(), "no directory").unwrap();
    let (mut unread, writer) = full_pipe();
    let mut server = Server::spawn_with_stderr(home.command(), writer.into());
    let (status, took) = server.wait();
    assert!(!status.success() && took < EXIT, "{status} after {took:?}");
    // Where somebody reads, that is what is read.
    let mut heard = Server::spawn(home.command());
    heard.wait();
    assert!(heard.stderr().starts_with("moadim-mcp: "), "{}", heard.stderr());
    let mut rest = Vec::new();
    unread.read_to_end(&mut rest).unwrap();
    assert!(rest.iter().all(|byte| *byte == b'.'));
}

#[test]
fn a_janitor_works_and_leaves_too() {
    let home = noisy_home();
    let mut server = Server::start(&home);
    let run = server.start_run("Hangs", "exec sleep 300", json!({ "max_runtime_secs": 3600 }));
    drop(server);
    let (_unread, writer) = full_pipe();
    let mut command: Command = home.command();
    command.arg("janitor").env("RUST_LOG", "trace").stdin(std::process::Stdio::null()).stderr(writer);
    let mut janitor = command.spawn().unwrap();
    home.noted(&run, "supervisor").kill();
    home.set_bound("hangs", 1);
    wait_until("the watchdog to end it", || !home.entry(&run).exists());
    kill_process(Pid::from_child(&janitor), Signal::TERM).unwrap();
    let (status, took) = wait(&mut janitor);
    assert!(status.success() && took < EXIT, "{status} after {took:?}");
}

fn wait(child: &mut Child) -> (ExitStatus, Duration) {
    let began = Instant::now();
    let status = wait_for(PATIENCE, "its end", || child.try_wait().unwrap());
    (status, began.elapsed())
}
