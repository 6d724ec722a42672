//! This program on another machine: ssh starts it there, and passes on what it reads and writes.

use std::fmt;
use std::io;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bounded_command::{self, Reply};
use crate::quote::{quote, saying};

/// On the PATH of a host's process, too: systems have it in `/usr/bin`.
pub(super) const SSH: &str = "ssh";

/// How long a machine has to be reached, and its server to answer.
const REMOTE_ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Some models refuse a tool's name of more than 64 characters, and a host makes it of the entry's name and the tool's:
/// `mcp__moadim-<host>__cleanup_workbenches`.
const MAX_HOST_CHARS: usize = 30;

const SHOWN_COLUMNS: usize = 300;

/// A machine by the name that ssh knows it by, such as `build` or `me@build.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshHost(String);

/// A host's name that ssh or a configuration could take for something else.
#[derive(Debug, thiserror::Error)]
#[error(
    "it must have 1 to {MAX_HOST_CHARS} letters, digits and '.', '_', '@' or '-', and begin with a letter or digit; for any \
     other, add a Host with a short name to ~/.ssh/config"
)]
pub(crate) struct InvalidSshHost;

impl FromStr for SshHost {
    type Err = InvalidSshHost;

    fn from_str(text: &str) -> Result<Self, InvalidSshHost> {
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
        let is_valid = begins_well && text.len() <= MAX_HOST_CHARS && text.chars().all(is_allowed);
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidSshHost)
    }
}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SshHost {
    /// Returns the name in the characters that every host takes in a server's name.
    pub(super) fn as_key(&self) -> String {
        self.0.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    }

    /// Returns ssh's arguments. It must never ask: the terminal, if there is one, belongs to the host.
    pub(super) fn arguments(&self, program: &RemoteProgram) -> Vec<String> {
        ["-T", "-o", "BatchMode=yes", &self.0, &program.0].map(str::to_owned).into()
    }
}

/// This program as the shell of another machine finds it: a name on its PATH, or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteProgram(String);

/// A program that the shell of the other machine could take for something else.
#[derive(Debug, thiserror::Error)]
#[error(
    "it may have letters, digits and '/', '.', '_', '+', '@', '~' or '-', and cannot begin with '-'; make a link to it there that has"
)]
pub(crate) struct InvalidRemoteProgram;

impl FromStr for RemoteProgram {
    type Err = InvalidRemoteProgram;

    fn from_str(text: &str) -> Result<Self, InvalidRemoteProgram> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/._+@~-".contains(c);
        let is_valid = !text.is_empty() && !text.starts_with('-') && text.chars().all(is_allowed);
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidRemoteProgram)
    }
}

/// Why no server of ours answers on another machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoServer {
    #[error("ssh is not installed here; install OpenSSH's client, and try again")]
    NoSsh,
    #[error("cannot run ssh: {0}")]
    Ssh(#[source] io::Error),
    #[error(
        "ssh does not connect to {host}{said}\nA host starts it where nobody can answer a question. Make this work first: \
         ssh -o BatchMode=yes {host} true"
    )]
    NotConnected { host: String, said: String },
    #[error(
        "{host} does not find {program}{said}\nInstall {NAME} there. If it is installed, give its path, such as \
         --remote-program '~/.cargo/bin/{NAME}': commands over ssh often have a shorter PATH than a terminal"
    )]
    NotFound { host: String, program: String, said: String },
    #[error(
        "{host} prints something else before {program} answers{said}\nA host takes it for a broken message. Keep the shell's \
         start-up files silent there when no terminal is attached"
    )]
    Noise { host: String, program: String, said: String },
    #[error("{program} on {host} {what}{said}\nTry it by hand: {by_hand}")]
    NoAnswer { host: String, program: String, what: String, said: String, by_hand: String },
}

const NAME: &str = env!("CARGO_PKG_NAME");

/// Starts the server of another machine as a host would, and returns its version.
pub(crate) fn check(host: &SshHost, program: &RemoteProgram) -> Result<String, NoServer> {
    let mut command = Command::new(SSH);
    command.args(host.arguments(program));
    match bounded_command::ask(&mut command, &introduction(), Instant::now() + REMOTE_ANSWER_TIMEOUT) {
        Ok(reply) => judge(host, program, &reply),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NoServer::NoSsh),
        Err(error) => Err(NoServer::Ssh(error)),
    }
}

/// Returns the line with which a host begins.
fn introduction() -> Vec<u8> {
    let client = json!({ "name": "moadim-mcp setup", "version": env!("CARGO_PKG_VERSION") });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })).into_bytes()
}

/// Tells from what ssh printed, and from how it ended, whether our server answered.
fn judge(host: &SshHost, program: &RemoteProgram, reply: &Reply) -> Result<String, NoServer> {
    let stdout = String::from_utf8_lossy(&reply.stdout);
    let (host, program) = (host.0.clone(), program.0.clone());
    let by_hand = format!("ssh -T -o BatchMode=yes {host} {program}");
    let said = last_lines(&String::from_utf8_lossy(&reply.stderr));
    let no_answer = |what: String, said| NoServer::NoAnswer {
        host: host.clone(),
        program: program.clone(),
        what,
        said,
        by_hand: by_hand.clone(),
    };
    let server = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["result"]["serverInfo"].clone());
    let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next();
    match first.and_then(server).filter(Value::is_object) {
        Some(server) if server["name"] == NAME => Ok(quote(server["version"].as_str().unwrap_or_default(), 40)),
        Some(server) => {
            let other = quote(server["name"].as_str().unwrap_or_default(), 40);
            Err(no_answer(format!("is another server, '{other}'"), String::new()))
        }
        None if lines.filter_map(server).any(|server| server["name"] == NAME) => {
            Err(NoServer::Noise { host, program, said: saying(first.unwrap_or_default(), SHOWN_COLUMNS) })
        }
        None => Err(match reply.status {
            None => no_answer(format!("did not answer within {} s", REMOTE_ANSWER_TIMEOUT.as_secs()), said),
            // ssh's own status, and a shell's for a command that it does not find.
            Some(status) if status.code() == Some(255) => NoServer::NotConnected { host, said },
            Some(status) if status.code() == Some(127) => NoServer::NotFound { host, program, said },
            Some(status) => no_answer(format!("ended without an answer ({status})"), said),
        }),
    }
}

fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    saying(&lines.join("; "), SHOWN_COLUMNS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use proptest::prelude::*;

    use super::*;

    const OURS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"serverInfo":{"name":"moadim-mcp","version":"7.8.9"}}}"#;

    fn judged(code: Option<i32>, stdout: &str, stderr: &str) -> Result<String, String> {
        let status = code.map(|code| ExitStatus::from_raw(code << 8));
        let reply = Reply { status, stdout: stdout.into(), stderr: stderr.into() };
        let (host, program) = ("me@box".parse().unwrap(), "bin/moadim-mcp".parse().unwrap());
        judge(&host, &program, &reply).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_of_ours_is_recognised_however_ssh_ended() {
        for code in [Some(0), Some(255), None] {
            assert_eq!(judged(code, &format!("{OURS}\n"), "Warning: added").unwrap(), "7.8.9");
        }
    }

    #[test]
    fn whatever_else_happens_is_named_with_what_to_do() {
        let foreign = OURS.replace("moadim-mcp", "other");
        for (code, stdout, stderr, expected) in [
            (
                Some(255),
                "",
                "Warning: x\r\nme@box: Permission denied (publickey).\r\n",
                "Permission denied (publickey).",
            ),
            (Some(255), "", "ssh: connect: refused", "ssh -o BatchMode=yes me@box true"),
            (Some(127), "", "sh: 1: bin/moadim-mcp: not found", "--remote-program '~/.cargo/bin/moadim-mcp'"),
            (
                Some(1),
                "",
                "damaged home",
                "saying: damaged home\nTry it by hand: ssh -T -o BatchMode=yes me@box bin/moadim-mcp",
            ),
            (Some(0), "Welcome\n", "", "ended without an answer (exit status: 0)"),
            (Some(0), "{}\n", "", "ended without an answer"),
            (None, "", "", "did not answer within 20 s"),
            (Some(0), &foreign, "", "is another server, 'other'"),
            (Some(0), &format!("Welcome \u{1b}[1m\n{OURS}\n"), "", "saying: Welcome \\u{1b}[1m\nA host takes"),
        ] {
            let error = judged(code, stdout, stderr).unwrap_err();
            assert!(error.contains(expected) && error.contains("me@box"), "{error}");
        }
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for good in ["box", "me@box.example", "10.0.0.2", "a_b-c"] {
            assert!(good.parse::<SshHost>().is_ok(), "{good}");
        }
        let long = "x".repeat(MAX_HOST_CHARS + 1);
        for bad in ["", "-oProxyCommand=x", "a b", "a;b", "a\nb", "@box", "ssh://box", "box:22", "bøx", &long] {
            assert!(bad.parse::<SshHost>().is_err(), "{bad}");
        }
        for good in ["moadim-mcp", "~/.cargo/bin/moadim-mcp", "/opt/c++/moadim-mcp", ".cargo/bin/moadim-mcp"] {
            assert!(good.parse::<RemoteProgram>().is_ok(), "{good}");
        }
        for bad in ["", "-x", "a b", "a;b", "$(x)", "a\nb", "a'b"] {
            assert!(bad.parse::<RemoteProgram>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_output_is_taken_for_our_server_unless_it_says_so(code: Option<u8>, stdout: String, stderr: String) {
            let error = judged(code.map(i32::from), &stdout, &stderr).unwrap_err();
            prop_assert!(error.chars().all(|c| c == '\n' || !c.is_control()), "{error:?}");
        }

        #[test]
        fn an_entrys_name_is_one_that_every_host_takes(name in "[A-Za-z0-9][A-Za-z0-9._@-]{0,29}") {
            let key = name.parse::<SshHost>().unwrap().as_key();
            prop_assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{key}");
            prop_assert!("mcp__moadim-__cleanup_workbenches".len() + key.len() <= 64);
        }
    }
}
