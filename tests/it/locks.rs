//! Locks that are not released: the process that waits for one says who holds it and how to get it back.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Server, TestHome, text, wait_until};
use moadim_mcp::home::lock::{FileLock, Mode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A process that was stopped while it holds the routines' lock.
struct Stopped(Child);

impl Stopped {
    /// Stops a trigger at the right moment: it holds the lock for a few milliseconds, so it may take some of them.
    fn in_a_trigger(home: &TestHome, routine: &str) -> Self {
        let lock = home.root().join("locks/routines");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut command = home.command();
            command.args(["trigger", routine, "--overlap", "allow"]);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut stopped = Self(child);
            let signature = format!("\"pid\":{},", stopped.0.id());
            while stopped.0.try_wait().unwrap().is_none() {
                if std::fs::read_to_string(&lock).is_ok_and(|text| text.contains(&signature)) {
                    stopped.signal(Signal::STOP);
                    std::thread::sleep(Duration::from_millis(20));
                    let held = FileLock::try_existing(&lock, Mode::Exclusive).is_err_and(|error| error.is_held());
                    if held {
                        return stopped;
                    }
                    stopped.signal(Signal::CONT);
                }
            }
        }
        panic!("no trigger could be stopped while it held {}", lock.display());
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::CONT);
        let _ = self.0.wait();
    }
}

fn home() -> TestHome {
    let home = TestHome::detached("");
    home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    home
}

fn problem_of(server: &mut Server, lock: &std::path::Path) -> Option<Value> {
    server.problems().into_iter().find(|one| one["path"] == lock.to_str().unwrap())
}

#[test]
fn a_stopped_holder_is_named_by_errors_and_health_until_it_goes_on() {
    let home = home();
    let mut server = Server::start(&home);
    server.ok("create_routine", json!({ "title": "First", "agent": "quick", "prompt": "true" }));
    let holder = Stopped::in_a_trigger(&home, "first");
    let pid = holder.0.id();
    let lock = home.root().join("locks/routines");
    let error = server.error("trigger_routine", json!({ "routine": "first", "overlap": "allow" }));
    let named = format!("moadim-mcp (pid {pid}, stopped) since 2");
    assert!(error.contains(&named) && error.contains(&format!("kill -CONT {pid}")), "{error}");
    let problem = problem_of(&mut server, &lock).expect("a problem");
    assert!(text(&problem["problem"]).contains(&named), "{problem}");
    assert!(text(&problem["fix"]).contains(&format!("kill -CONT {pid}")), "{problem}");
    let said = home.moadim(&["doctor"]).stdout;
    assert!(said.contains(&named), "{said}");
    drop(holder);
    assert_eq!(problem_of(&mut server, &lock), None);
    server.ok("trigger_routine", json!({ "routine": "first", "overlap": "allow" }));
    wait_until("the end of all runs", || std::fs::read_dir(home.root().join("running")).unwrap().count() == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_holder_that_does_not_sign_is_named_where_the_system_tells() {
    let home = home();
    let mut server = Server::start(&home);
    for name in ["routines", "history", "session"] {
        let lock: PathBuf = home.root().join("locks").join(name);
        // What a process left that held it before, and is alive: it is not the holder.
        let other = json!({ "pid": std::process::id(), "start": 1, "since": null }).to_string();
        std::fs::write(&lock, other).unwrap();
        let mut holder = Command::new("flock").arg(&lock).args(["sleep", "300"]).spawn().unwrap();
        let held = || FileLock::try_existing(&lock, Mode::Exclusive).is_err_and(|error| error.is_held());
        wait_until("the lock to be taken", held);
        let problem = problem_of(&mut server, &lock);
        kill_children_of(&holder);
        holder.kill().unwrap();
        holder.wait().unwrap();
        let problem = problem.unwrap_or_else(|| panic!("{name}: no problem"));
        let said = text(&problem["problem"]);
        assert!(!said.contains(&format!("pid {}", std::process::id())), "{said}");
        assert!(said.contains(&format!("flock (pid {})", holder.id())), "{said}");
        wait_until("the problem to go", || problem_of(&mut server, &lock).is_none());
    }
}

/// The command that flock(1) started has inherited the lock.
#[cfg(target_os = "linux")]
fn kill_children_of(process: &Child) {
    let status = Command::new("pkill").args(["-KILL", "-P", &process.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
#[cfg(target_os = "linux")]
fn a_sweep_that_is_stopped_is_told_of_by_the_next_one() {
    let home = home();
    // Else the first sweep of the server itself might be the one that holds the lock.
    let mut server = Server::start_swept(&home);
    let lock = home.root().join("locks/janitor");
    let mut holder = Command::new("flock").arg(&lock).args(["sleep", "300"]).spawn().unwrap();
    let held = || FileLock::try_existing(&lock, Mode::Exclusive).is_err_and(|error| error.is_held());
    wait_until("the lock to be taken", held);
    let under_way = server.clean_up();
    assert_eq!(problem_of(&mut server, &lock), None, "a sweep may take long");
    kill_process(Pid::from_child(&holder), Signal::STOP).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", holder.id())).unwrap_or_default();
    wait_until("it to be stopped", || cfg!(not(target_os = "linux")) || state().contains(") T "));
    let (stopped, problem) = (server.clean_up(), problem_of(&mut server, &lock));
    kill_children_of(&holder);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(text(&under_way["note"]).contains("a sweep is under way in pid"), "{under_way}");
    assert!(text(&stopped["note"]).contains(&format!("kill -CONT {}", holder.id())), "{stopped}");
    assert!(text(&problem.unwrap()["problem"]).contains("stopped"));
}
