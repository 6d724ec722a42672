//! The demo: it tells the whole story, with tmux and without, and leaves nothing behind, however it ends.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::TestHome;
use rustix::process::{Pid, Signal, kill_process};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// What the demo promises where the machine is busy.
const LIMIT: Duration = Duration::from_secs(75);

/// What it says when all went well.
const VERDICT: &str = "Left behind: no process, no tmux server, no directory.";

/// A place for one demo: its directory for temporary files, which must be empty in the end.
struct Theatre {
    home: TestHome,
}

impl Theatre {
    fn new() -> Self {
        let home = TestHome::new();
        std::fs::create_dir(home.scratch().join("tmp")).unwrap();
        Self { home }
    }

    fn demo(&self) -> Command {
        let mut command = self.home.command();
        command.arg("demo").env("TMPDIR", self.home.scratch().join("tmp")).stdin(Stdio::null());
        command
    }

    /// Makes a directory of programs, these alone, to be the whole PATH.
    fn programs(&self, names: &[&str]) -> PathBuf {
        let directory = self.home.scratch().join("bin");
        std::fs::create_dir(&directory).unwrap();
        for name in names {
            symlink(program(name).unwrap_or_else(|| panic!("no {name} on PATH")), directory.join(name)).unwrap();
        }
        directory
    }

    fn assert_nothing_is_left(&self) {
        let scratch = self.home.scratch();
        assert_eq!(std::fs::read_dir(scratch.join("tmp")).unwrap().count(), 0, "a file or directory is left");
        assert_eq!(std::fs::read_dir(self.home.user()).unwrap().count(), 0, "the person's home was touched");
        assert!(!self.home.root().exists(), "the person's MOADIM_HOME was touched");
        let left = processes_that_mention(scratch);
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Everything that a demo starts has its directory in its arguments or in its environment.
fn processes_that_mention(directory: &Path) -> Vec<String> {
    let mut system = System::new().unwrap();
    let wanted = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).with_environ(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let needle = directory.to_str().unwrap();
    let mentions = |process: &&sysinfo::Process| {
        process.cmd().iter().chain(process.environ()).any(|word| word.to_string_lossy().contains(needle))
    };
    system
        .processes()
        .values()
        .filter(mentions)
        .map(|process| format!("{} {:?}", process.pid(), process.cmd()))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn assert_whole_story(output: &Output, took: Duration) -> String {
    let (reported, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{reported}\n{complaints}", output.status);
    for line in [
        "> create_routine",
        "> trigger_routine",
        "> list_runs",
        "> read_log",
        "> cleanup_workbenches",
        "is kept for 5 s",
        " s, 2 s allowed",
        "removed  say-hello-",
        VERDICT,
        "claude mcp add --scope user moadim -- ",
        "\"mcpServers\"",
    ] {
        assert!(reported.contains(line), "{line} is missing in:\n{reported}");
    }
    assert!(!reported.contains('\u{1b}'), "colours outside of a terminal:\n{reported}");
    assert!(took < LIMIT, "it took {took:?}");
    reported
}

#[test]
fn it_tells_the_whole_story_in_tmux() {
    if program("tmux").is_none() {
        assert!(std::env::var_os("MOADIM_REQUIRE_TMUX").is_none_or(|value| value != "1"), "tmux is not installed");
        eprintln!("SKIPPED: tmux is not installed");
        return;
    }
    let theatre = Theatre::new();
    let began = Instant::now();
    let output = theatre.demo().output().unwrap();
    let reported = assert_whole_story(&output, began.elapsed());
    assert!(reported.contains("attach -t '=moadim-say-hello-"), "{reported}");
    theatre.assert_nothing_is_left();
}

#[test]
fn it_tells_the_whole_story_without_tmux() {
    let theatre = Theatre::new();
    let path = theatre.programs(&["sh", "sleep", "nohup", "tee"]);
    let began = Instant::now();
    let output = theatre.demo().env("PATH", path).output().unwrap();
    let reported = assert_whole_story(&output, began.elapsed());
    assert!(reported.contains("tmux was not found on PATH") && !reported.contains("attach -t"), "{reported}");
    theatre.assert_nothing_is_left();
}

#[test]
fn it_fails_where_something_is_missing_and_leaves_nothing() {
    let theatre = Theatre::new();
    let path = theatre.programs(&[]);
    let output = theatre.demo().env("PATH", path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaints = text(&output.stderr);
    assert!(complaints.contains("the demo failed") && complaints.contains("'sh' was not found"), "{complaints}");
    assert!(!text(&output.stdout).contains(VERDICT));
    theatre.assert_nothing_is_left();
}

#[test]
fn interrupted_in_the_midst_of_hung_runs_it_leaves_nothing() {
    let theatre = Theatre::new();
    let mut demo = theatre.demo().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(demo.stdout.take().unwrap());
    let interrupted = kill_at(stdout, "2 s allowed, 1 s of grace", Pid::from_child(&demo));
    assert!(interrupted, "the story ended before its climax");
    let output = demo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
    theatre.assert_nothing_is_left();
}

/// Interrupts the demo at a line of its story, and hears the rest.
fn kill_at(stdout: impl BufRead, at: &str, demo: Pid) -> bool {
    let mut interrupted = false;
    for line in stdout.lines() {
        if line.unwrap().contains(at) {
            kill_process(demo, Signal::INT).unwrap();
            interrupted = true;
        }
    }
    interrupted
}
