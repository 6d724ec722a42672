//! The two session hosts, and the tmux servers of a test's home: our own, and the person's.

use std::path::Path;
use std::process::{Command, Output};

use super::home::TestHome;

/// Where runs can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Tmux,
    Detached,
}

impl Host {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmux => "tmux",
            Self::Detached => "detached",
        }
    }

    /// Makes a home whose runs are watched there, with the agent `shell` and a short grace; `None` where that cannot be.
    pub fn home(self) -> Option<TestHome> {
        if self == Self::Tmux && !tmux_is_there() {
            return None;
        }
        let home = TestHome::with_config(&format!("session_host = \"{}\"\nkill_grace_secs = 1\n", self.name()));
        home.add_shell();
        Some(home)
    }
}

/// Whether there is a tmux. With `MOADIM_REQUIRE_TMUX=1` a test that needs one fails where there is none.
pub fn tmux_is_there() -> bool {
    let there = Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
    let required = std::env::var("MOADIM_REQUIRE_TMUX").is_ok_and(|value| value == "1");
    assert!(there || !required, "MOADIM_REQUIRE_TMUX=1, and there is no tmux");
    there
}

/// Runs a tmux client on the server of `socket`, never starting one.
pub fn tmux(socket: &Path, words: &[&str]) -> Output {
    Command::new("tmux").env_remove("TMUX").arg("-N").arg("-S").arg(socket).args(words).output().expect("tmux")
}

pub fn end_servers(home: &TestHome) {
    let mut sockets = vec![home.root().join("tmux.sock")];
    let below = std::fs::read_dir(home.tmux_directory()).into_iter().flatten().flatten();
    sockets.extend(below.map(|directory| directory.path().join("default")));
    for socket in sockets.iter().filter(|socket| socket.exists()) {
        tmux(socket, &["kill-server"]);
    }
}
