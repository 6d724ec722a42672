//! From `trigger_routine` to its answer, which comes when the agent has been started, against opening a tmux session.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::{PATIENCE, Server, TestHome, tmux, wait_for};
use crate::server::at_rest;
use crate::timing::{Times, row_of_ratio, run};

const ROUNDS: usize = 40;

/// Both hosts and the baseline in turn.
pub fn triggers() {
    let homes = ["tmux", "detached"].map(|host| TestHome::with_config(&format!("session_host = \"{host}\"\n")));
    let mut servers = homes.each_ref().map(|home| {
        home.add_agent("shell", "command = \"sh\"\nlogin_shell = false\n");
        let mut server = at_rest(Server::start(home));
        server.create("figures", ":", json!({}));
        // The first run reads everything for the first time.
        server.trigger("figures");
        wait_until_over(home);
        server
    });
    let socket = homes[0].scratch().join("bare.sock");
    let log = homes[0].scratch().join("log");
    std::fs::write(&log, "").unwrap();
    let bare = |name: &str| {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").args(["-f", "/dev/null", "-S"]).arg(&socket).args(["new-session", "-d", "-s", name]);
        command.args(["--", "tail", "-n", "+1", "-F", "--"]).arg(&log);
        run(&mut command);
    };
    bare("first");
    let mut ours = [Times::default(), Times::default()];
    let mut theirs = Times::default();
    for round in 0..ROUNDS {
        let name = format!("round-{round}");
        theirs.measure(|| bare(&name));
        tmux(&socket, &["kill-session", "-t", &name]);
        for ((home, server), times) in homes.iter().zip(&mut servers).zip(&mut ours) {
            times.measure(|| server.trigger("figures"));
            wait_until_over(home);
            // Its window leaves, with its server; and each run takes a second of its own as its name.
            std::thread::sleep(Duration::from_millis(400));
        }
    }
    tmux(&socket, &["kill-server"]);
    row_of_ratio("`trigger_routine` to agent started, tmux, against `tmux new-session`", &ours[0], &theirs, "<= 2.2x");
    row_of_ratio("the same, detached, against `tmux new-session`", &ours[1], &theirs, "<= 1.7x");
}

fn wait_until_over(home: &TestHome) {
    let running = home.root().join("running");
    wait_for(PATIENCE, "the run to end", || std::fs::read_dir(&running).unwrap().next().is_none().then_some(()));
}
