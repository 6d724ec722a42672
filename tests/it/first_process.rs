//! The first process of a container: it reaps every orphan, and ends as the program does. It needs root.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Era, PATIENCE, Server, TestHome, can_unshare, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const NAMESPACE: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// A command that runs the program under test as the first process of a namespace.
fn contained(home: &TestHome, arguments: &[&str]) -> Command {
    let mut command = home.command_of(Path::new("unshare"));
    command.args(NAMESPACE).arg(env!("CARGO_BIN_EXE_moadim-mcp")).args(arguments);
    command
}

fn can_be_contained(test: &str) -> bool {
    can_unshare(test, &NAMESPACE, &["true"])
}

/// A home whose agent needs no login shell.
fn home() -> TestHome {
    let home = TestHome::detached("");
    home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    home
}

/// Returns the children of a process, as this namespace numbers them, each with its state and its command line.
fn children(of: u32) -> Vec<(u32, char, String)> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path();
        let Some(pid) = path.file_name().unwrap().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        let after_name = stat.rsplit_once(") ").unwrap().1;
        let mut words = after_name.split(' ');
        let state = words.next().unwrap().chars().next().unwrap();
        if words.next().unwrap().parse() == Ok(of) {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            found.push((pid, state, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// Returns the first process of the namespace that `unshare` has made.
fn first_process(unshare: u32) -> u32 {
    let is_ours = |line: &str| line.contains("moadim-mcp init --");
    let find = || children(unshare).into_iter().find(|(_, _, line)| is_ours(line)).map(|(pid, ..)| pid);
    wait_for(PATIENCE, "the first process", find)
}

/// Waits until no dead child of the first process is left.
fn wait_for_no_zombie(first: u32) {
    wait_for(Duration::from_secs(10), "all dead children to be reaped", || {
        children(first).iter().all(|(_, state, _)| *state != 'Z').then_some(())
    });
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

fn start(home: &TestHome) -> (Server, u32) {
    let mut server = Server::spawn(contained(home, &[]));
    server.introduce(Era::Legacy("2025-11-25"));
    let first = first_process(server.pid());
    (server, first)
}

#[test]
fn as_the_first_process_a_server_leaves_no_zombies_and_ends_with_its_input() {
    if !can_be_contained("as_the_first_process_a_server_leaves_no_zombies_and_ends_with_its_input") {
        return;
    }
    let home = home();
    let (mut server, first) = start(&home);
    server.ok("create_routine", json!({ "title": "Ends", "agent": "quick", "prompt": "exit 3" }));
    // What escapes is ended, and is somebody's child too.
    server.ok(
        "create_routine",
        json!({ "title": "Escapes", "agent": "quick", "prompt": "setsid sleep 300 & sleep 0.1" }),
    );
    for routine in ["ends", "escapes"] {
        let run = server.trigger(routine);
        wait_until("its end", || !home.entry(&run).exists());
        home.wait_for_the_last_of(&run);
    }
    wait_for_no_zombie(first);
    assert_eq!(children(first).len(), 1, "the server alone: {:?}", children(first));
    let (status, took) = server.close_stdin_and_wait();
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
}

#[test]
fn the_first_process_passes_signals_on_and_ends_as_the_server_does() {
    if !can_be_contained("the_first_process_passes_signals_on_and_ends_as_the_server_does") {
        return;
    }
    let home = home();
    for sent in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (mut server, first) = start(&home);
        signal(first, sent);
        let (status, _) = server.wait();
        assert!(status.success(), "{sent:?}: {status}");
    }
    // The server knows nothing of this one.
    for (sent, to_the_server, code) in [(Signal::QUIT, false, 128 + 3), (Signal::KILL, true, 128 + 9)] {
        let (mut server, first) = start(&home);
        signal(if to_the_server { children(first)[0].0 } else { first }, sent);
        let (status, _) = server.wait();
        assert_eq!(status.code(), Some(code), "{sent:?}");
    }
}

#[test]
fn as_the_first_process_a_janitor_leaves_no_zombies_either() {
    if !can_be_contained("as_the_first_process_a_janitor_leaves_no_zombies_either") {
        return;
    }
    let home = home();
    let mut unshare = contained(&home, &["janitor"]).stdin(Stdio::null()).spawn().unwrap();
    let first = first_process(unshare.id());
    wait_until("the janitor", || children(first).iter().any(|(.., line)| line.ends_with("janitor ")));
    // An orphan within the namespace.
    let gone = home.scratch().join("gone");
    let orphan = format!("(sleep 0.2; touch '{}') &", gone.display());
    let target = first.to_string();
    let entered = Command::new("nsenter").args(["--target", &target, "--pid", "--mount", "sh", "-c", &orphan]).status();
    assert!(entered.unwrap().success());
    wait_until("the orphan's end", || gone.exists());
    wait_for(Duration::from_secs(10), "all dead children to be reaped", || (children(first).len() == 1).then_some(()));
    signal(first, Signal::TERM);
    let status = wait_for(PATIENCE, "its end", || unshare.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
