//! Homes filled with many routines, finished runs and unfinished ones.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use moadim_mcp::clock::{Moment, UnixSeconds};
use moadim_mcp::home::Home;
use moadim_mcp::home::config::{Config, SessionHostSetting};
use moadim_mcp::home::lock::{FileLock, Mode};
use moadim_mcp::run::context::{Context, Program};
use moadim_mcp::run::record::Machine;
use serde_json::json;

/// When runs ended whose retention has long passed.
const LONG_AGO: u64 = 1_600_000_000;

/// Makes a home's directories, and a context without windows in it.
pub fn context(root: &Path) -> Context {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root).unwrap();
    let home = Home::open(root).unwrap();
    Context::of_supervisor(
        home,
        Config { session_host: SessionHostSetting::Detached, ..Config::default() },
        Program::current().unwrap(),
    )
}

/// Adds finished runs of twenty routines, young by their names alone.
pub fn add_retained(root: &Path, count: u64) {
    let newest = UnixSeconds::now().0 - 10;
    let mut lines = String::new();
    for n in 0..count {
        add_finished(root, &format!("routine-{}", n % 20), newest - n / 20, &mut lines);
    }
    append_history(root, &lines);
}

/// Adds finished runs whose retention has passed, each with `files` files besides its record.
pub fn add_expired(root: &Path, count: u64, files: u64) {
    let mut lines = String::new();
    for n in 0..count {
        let workbench = add_finished(root, "old", LONG_AGO + n, &mut lines);
        for file in 0..files {
            fs::write(workbench.join(format!("file-{file}")), "x").unwrap();
        }
    }
    append_history(root, &lines);
}

/// Adds finished runs that others continued, of twenty routines, young by their names alone.
pub fn add_continued(root: &Path, count: u64) {
    for folder in ["continuations", "workbenches"] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder)).unwrap();
    }
    // Older than those that were not.
    let newest = UnixSeconds::now().0 - 100_000;
    let mut lines = String::new();
    for n in 0..count {
        let (routine, stamp) = (format!("routine-{}", n % 20), newest - n / 20 * 2);
        let [first, next] = [stamp, stamp + 1].map(|stamp| format!("{routine}-{stamp}"));
        let workbench = add_finished(root, &routine, stamp, &mut lines);
        let previous = workbench.join("previous").join(&first);
        fs::create_dir_all(&previous).unwrap();
        fs::rename(workbench.join("outcome.json"), previous.join("outcome.json")).unwrap();
        let mut outcome: serde_json::Value = serde_json::from_str(&outcome(&routine, stamp + 1)).unwrap();
        outcome["continues"] = json!(first);
        outcome["workbench"] = json!(first);
        fs::write(workbench.join("outcome.json"), outcome.to_string()).unwrap();
        lines.push_str(&format!("{outcome}\n"));
        std::os::unix::fs::symlink(&first, root.join("workbenches").join(&next)).unwrap();
        let record =
            json!({ "version": 1, "run": next, "continues": first, "workbench": first, "at": UnixSeconds(stamp) });
        fs::write(root.join(format!("continuations/{first}.json")), record.to_string()).unwrap();
    }
    append_history(root, &lines);
}

/// Adds lines of runs whose workbenches are gone, of twenty routines, to the history.
pub fn add_history(root: &Path, count: u64) {
    add_lines(root, (0..count).map(|n| (n % 20, LONG_AGO + n / 20)));
}

/// Adds lines of runs of a thousand routines that ended within the last four weeks.
pub fn add_weeks_of_history(root: &Path, count: u64) {
    const WEEKS_SECS: u64 = 27 * 24 * 60 * 60;
    let newest = UnixSeconds::now().0 - 60;
    add_lines(root, (0..count).map(|n| (n % 1_000, newest - WEEKS_SECS * (count - n) / count)));
}

/// Adds a line for each run: the number of its routine, and its second.
fn add_lines(root: &Path, runs: impl Iterator<Item = (u64, u64)>) {
    let tail = "a line of what the agent said at the end\n".repeat(10);
    let mut lines = String::new();
    for (routine, stamp) in runs {
        let mut line: serde_json::Value = serde_json::from_str(&outcome(&format!("routine-{routine}"), stamp)).unwrap();
        line["tail"] = json!(tail);
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    append_history(root, &lines);
}

fn append_history(root: &Path, lines: &str) {
    let mut file = fs::File::options().append(true).create(true).open(root.join("history.jsonl")).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

/// Adds plain directories of the same content, for the baseline.
pub fn add_directories(root: &Path, count: u64, files: u64) {
    for n in 0..count {
        let directory = root.join(format!("old-{}", LONG_AGO + n));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("outcome.json"), outcome("old", LONG_AGO + n)).unwrap();
        for file in 0..files {
            fs::write(directory.join(format!("file-{file}")), "x").unwrap();
        }
    }
}

fn add_finished(root: &Path, routine: &str, stamp: u64, lines: &mut String) -> std::path::PathBuf {
    let workbench = root.join(format!("workbenches/{routine}-{stamp}"));
    fs::create_dir(&workbench).unwrap();
    let outcome = outcome(routine, stamp);
    fs::write(workbench.join("outcome.json"), &outcome).unwrap();
    lines.push_str(&outcome);
    lines.push('\n');
    workbench
}

fn outcome(routine: &str, stamp: u64) -> String {
    let outcome = json!({
        "version": 1, "id": format!("{routine}-{stamp}"), "status": "succeeded", "exit_code": 0, "agent": "shell",
        "session_host": "detached", "triggered_at": UnixSeconds(stamp), "started_at": UnixSeconds(stamp),
        "finished_at": UnixSeconds(stamp + 1), "retain_from": UnixSeconds(stamp + 1), "cookie": "0".repeat(32),
    });
    outcome.to_string()
}

/// Adds routines `routine-0`, `routine-1` and so on.
pub fn add_routines(root: &Path, count: u64) {
    for n in 0..count {
        let directory = root.join(format!("routines/routine-{n}"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).unwrap();
        let text = format!(
            "title = \"Routine {n}\"\nagent = \"shell\"\ntags = [\"figures\"]\n\
             created_at = \"2026-11-01T00:00:00Z\"\nupdated_at = \"2026-11-01T00:00:00Z\"\n"
        );
        fs::write(directory.join("routine.toml"), text).unwrap();
        fs::write(directory.join("prompt.md"), "sleep 1").unwrap();
    }
}

/// Adds routines `routine-0` and so on, every other one with a schedule that has been followed and fires once a year.
pub fn add_scheduled_routines(root: &Path, count: u64) {
    add_routines(root, count);
    for n in (0..count).step_by(2) {
        let directory = root.join(format!("routines/routine-{n}"));
        let schedule = format!("{} {} {} 1 *", n % 60, n / 60 % 24, 1 + n % 28);
        let file = directory.join("routine.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("schedule = \"{schedule}\"\n{text}")).unwrap();
        let ledger = json!({ "version": 1, "schedule": { "schedule": schedule }, "fired_until": UnixSeconds::now() });
        fs::write(directory.join("ledger.json"), ledger.to_string()).unwrap();
    }
}

/// Adds unfinished runs, and returns the locks that keep them alive as their supervisors would.
pub fn add_live(home: &Home, count: u64) -> Vec<FileLock> {
    let triggered = Moment::now();
    let add = |n| {
        let id = format!("live-{}", triggered.at.0 - n);
        let entry = home.running().join(&id);
        fs::DirBuilder::new().mode(0o700).create(&entry).unwrap();
        let manifest = json!({
            "version": 1, "id": id, "triggered": triggered, "cookie": format!("{:032x}", n + 1),
            "machine": Machine::this(), "session_host": "detached",
            "command": { "agent": "shell", "command": "sh", "args": [], "stdin": "prompt", "login_shell": false },
        });
        fs::write(entry.join("run.json"), manifest.to_string()).unwrap();
        FileLock::acquire(&entry.join("lock"), Mode::Shared, Duration::ZERO).unwrap()
    };
    (0..count).map(add).collect()
}
