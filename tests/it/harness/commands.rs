//! The commands for people, run to their end.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::home::TestHome;

impl TestHome {
    /// Runs a command of the program under test.
    pub fn moadim(&self, words: &[&str]) -> Answer {
        self.command().args(words).stdin(Stdio::null()).output().unwrap().into()
    }

    /// Returns a command that runs one of the program under test on a terminal of its own, whose output is ours.
    pub fn on_a_terminal(&self, words: &str) -> Command {
        let mut command = Command::new("script");
        let program = env!("CARGO_BIN_EXE_moadim-mcp");
        command.args(["-qefc", &format!("stty cols 70 rows 24; '{program}' {words}"), "/dev/null"]);
        command.env_clear().env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command().get_envs().for_each(|(name, value)| {
            command.env(name, value.unwrap());
        });
        command
    }
}

/// Whether there is a script(1), which makes terminals.
pub fn script_is_there() -> bool {
    let there = cfg!(target_os = "linux") && Command::new("script").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: script(1) of util-linux is not installed, so nothing is tried on a terminal");
    }
    there
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
    }
}

impl Answer {
    /// Returns the output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Returns the one JSON document of a command that must have succeeded.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("one JSON document")
    }

    /// Returns the words of a command that must have failed with this status.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        self.stderr
    }
}
