//! Sessions on a real tmux, each test in its own home and with its own server.

mod choice;
mod faults;
mod windows;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;

/// Returns tmux, or skips loudly; with `MOADIM_REQUIRE_TMUX=1` its absence is a failure.
pub(super) fn require_tmux() -> Option<PathBuf> {
    let found = client::find("tmux");
    if found.is_none() {
        assert!(std::env::var_os("MOADIM_REQUIRE_TMUX").is_none_or(|value| value != "1"), "tmux is not installed");
        eprintln!("SKIPPED: tmux is not installed");
    }
    found
}

pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A deadline on a busy machine, where the real one is not what is tested.
pub(super) fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// What makes of a program's script a tmux whose clients that list sessions note their pid.
pub(super) fn noting_its_pid(tmux: &Path, pid_file: &Path) -> String {
    let (tmux, pid_file) = (tmux.display(), pid_file.display());
    format!("case \"$*\" in *list-sessions*) echo $$ > '{pid_file}' ;; esac\nexec '{tmux}' \"$@\"")
}

/// Has a client ask a server that is stopped, ends the client as hosts end what they started, and lets the server go on.
pub(super) fn while_its_client_is_ended<T: Send>(server: Pid, pid_file: &Path, ask: impl FnOnce() -> T + Send) -> T {
    kill_process(server, Signal::STOP).unwrap();
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(ask);
        let mut client = None;
        wait_until("the client waits for the server", || {
            client = std::fs::read_to_string(pid_file).ok().and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
            client.is_some_and(is_tmux) || asked.is_finished()
        });
        kill_process(client.unwrap(), Signal::TERM).unwrap();
        asked.join()
    });
    kill_process(server, Signal::CONT).unwrap();
    answer.unwrap()
}

/// Writes a program from another process: a thread that forks while we hold it open would make it "busy".
pub(super) fn write_script(path: &Path, script: &str) {
    let writer = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 700 "$1""#;
    let status = Command::new("sh").args(["-c", writer, "sh"]).arg(path).arg(script).status().unwrap();
    assert!(status.success());
}

/// A home whose server dies with it.
struct Place {
    _dir: TempDir,
    home: Home,
    tmux: PathBuf,
    host: SessionHost,
}

impl Place {
    fn named(name: impl AsRef<Path>) -> Option<Self> {
        let tmux = require_tmux()?;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join(name)).unwrap();
        let host = SessionHost::with_program(&home, SessionHostSetting::Auto, Some(tmux.clone()));
        assert_eq!(host.kind, HostKind::Tmux, "{}", host.why);
        Some(Self { _dir: dir, home, tmux, host })
    }

    fn new() -> Option<Self> {
        Self::named("home")
    }

    /// Opens a window that stays until it is let go.
    fn open(&self, name: &str) -> Result<(), SessionError> {
        let script = "echo begun $1; until [ -e \"$2.go\" ]; do sleep 0.02; done";
        let go = self.home.workbenches().join(name);
        let words = ["sh".into(), "-c".into(), script.into(), "sh".into(), name.into(), go.into_os_string()];
        // Dozens of processes at once.
        self.host.windows.open(name, &words, in_a_minute())
    }

    fn let_go(&self, name: &str) {
        std::fs::write(self.home.workbenches().join(format!("{name}.go")), "").unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.host.windows.place.socket().to_owned()
    }

    fn by_hand(&self, arguments: &[&str]) -> Output {
        Command::new(&self.tmux).arg("-N").arg("-S").arg(self.socket()).args(arguments).output().unwrap()
    }

    fn says(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.by_hand(arguments).stdout).trim().to_owned()
    }

    fn shows(&self, name: &str) -> String {
        self.says(&["capture-pane", "-p", "-J", "-t", &format!("={name}:")])
    }

    fn server(&self) -> Option<Pid> {
        self.says(&["display-message", "-p", "#{pid}"]).parse().ok().and_then(Pid::from_raw)
    }

    fn with_fake(&self, script: &str) -> SessionHost {
        let fake = self.home.root().join("fake-tmux");
        let version = "[ \"$1\" = -V ] && { echo 'tmux 3.3a'; exit; }";
        write_script(&fake, &format!("{version}\n{script}"));
        SessionHost::with_program(&self.home, SessionHostSetting::Auto, Some(fake))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.by_hand(&["kill-server"]).status.success() {
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.server().is_some() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if let Some(refuge) =
            self.socket().parent().filter(|parent| parent.to_string_lossy().starts_with("/tmp/moadim-"))
        {
            let _ = std::fs::remove_dir_all(refuge);
        }
    }
}

fn is_tmux(process: Pid) -> bool {
    let pid = process.as_raw_nonzero().to_string();
    let output = Command::new("ps").args(["-o", "stat=,comm=", "-p", &pid]).output().unwrap().stdout;
    let state = String::from_utf8(output).unwrap();
    !state.starts_with('Z') && state.contains("tmux")
}
