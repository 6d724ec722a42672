//! What a person writes into a routine by hand.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::home::TestHome;
use super::scene::Run;
use super::server::Server;

impl TestHome {
    /// Replaces the trusted part of a routine.
    pub fn trust(&self, routine: &str, lines: &str) {
        let file = format!("routines/{routine}/routine.toml");
        let text = self.read(&file);
        let own = text.split("\n[trusted").next().unwrap();
        self.write(&file, &format!("{own}\n[trusted]\n{lines}\n"));
    }

    /// Runs a new routine of this agent whose runs are checked as these lines say, and waits until it has ended like this.
    #[track_caller]
    pub fn run_checked(
        &self,
        server: &mut Server,
        agent: &str,
        (title, prompt): (&str, &str),
        lines: &str,
        status: &str,
    ) -> Run {
        static ROUTINES: AtomicUsize = AtomicUsize::new(1);
        let title = format!("{title} {}", ROUTINES.fetch_add(1, Ordering::Relaxed));
        let routine = server.routine(&title, prompt).with(json!({ "agent": agent })).create();
        self.trust(&routine, lines);
        server.run_to(&routine, status)
    }
}

/// Writes a command that `sh` executes as a list of TOML.
pub fn sh(key: &str, script: &str) -> String {
    format!("{key} = {}", json!(["sh", "-c", script]))
}

/// Returns the agents that a test of checks is for: one through a login shell, and one without.
pub fn both_shells(home: &TestHome) -> [&'static str; 2] {
    home.add_agent("plain", "command = \"sh\"\nlogin_shell = false\n");
    ["plain", "shell"]
}

/// Whether a document lacks a key.
pub fn lacks(document: &Value, key: &str) -> bool {
    document.get(key).is_none()
}
