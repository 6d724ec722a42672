//! How an agent on a terminal ended is known, also where it cannot be written down at once or its supervisor is gone.

use std::fs;

use crate::harness::{Host, PATIENCE, Server, TestHome, text, wait_for};
use serde_json::{Value, json};

/// A home whose agent `tty` executes its prompt's file on a terminal.
fn home() -> Option<TestHome> {
    let home = Host::Tmux.home()?;
    home.add_agent("tty", "command = \"sh\"\nargs = [\"{prompt_file}\"]\nterminal = true\n");
    home.configure("session_host = \"tmux\"\nwatchdog_interval_secs = 1\n");
    Some(home)
}

/// Starts a run that waits for the file `go`, and then exits so.
fn start(server: &mut Server, title: &str, code: u8) -> String {
    let prompt = format!("echo at work; until test -e go; do sleep 0.02; done; exit {code}");
    let run = server.start_run(title, &prompt, json!({ "agent": "tty" }));
    server.wait_for_log(&run, "at work");
    run
}

/// Lets a run's agent end, and waits until it has.
fn let_go(home: &TestHome, run: &str) {
    let agent = home.noted(run, "agent");
    fs::write(home.workbench(run).join("go"), "").unwrap();
    wait_for(PATIENCE, "the agent's end", || (!agent.id.is_alive()).then_some(()));
}

#[test]
fn an_exit_that_cannot_be_written_is_written_when_that_is_possible() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    let run = start(&mut server, "Later", 0);
    // As on a full disk, but for this file alone.
    let in_its_way = home.entry(&run).join("exit.json");
    fs::create_dir_all(in_its_way.join("x")).unwrap();
    let_go(&home, &run);
    // Longer than it waits before it tries again.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(home.outcome(&run), None);
    fs::remove_dir_all(in_its_way).unwrap();
    let ended = server.wait_for_run(&run, "succeeded");
    assert_eq!(ended["exit_code"], 0, "{ended}");
}

#[test]
fn what_the_holder_wrote_counts_where_the_supervisor_is_gone() {
    let Some(home) = home() else { return };
    let mut server = Server::start(&home);
    for (title, code, status) in [("Good", 0, "succeeded"), ("Bad", 3, "failed")] {
        let run = start(&mut server, title, code);
        home.noted(&run, "supervisor").kill();
        let_go(&home, &run);
        let outcome = wait_for(PATIENCE, "its end to be recorded", || home.outcome(&run));
        assert_eq!((&outcome["status"], &outcome["exit_code"]), (&json!(status), &json!(code)), "{outcome}");
        assert!(text(&outcome["reason"]).contains("supervisor was gone"), "{outcome}");
        assert_eq!(outcome.get("ended_by"), None::<&Value>);
    }
}
