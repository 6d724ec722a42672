//! Checks of the home itself: its place, settings and program, its windows, clock, disk and history.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, statvfs};

use super::{Finding, Subject};
use crate::clock::Moment;
use crate::home::HomeError;
use crate::janitor::clock_doubt::ClockDoubt;
use crate::janitor::stores::measure;
use crate::janitor::sweep_lock::clock_doubt;
use crate::run::history as run_history;
use crate::session::HostKind;

pub(super) fn unopened(root: &Path, error: &HomeError) -> Finding {
    match error {
        HomeError::Unsafe { path, problem, fix } => {
            Finding::problem("home", format!("{} {problem}", path.display()), fix)
        }
        error => {
            let fix = format!("ls -ld '{}'; or set MOADIM_HOME to a directory of your own", root.display());
            Finding::problem("home", error.to_string(), fix)
        }
    }
}

pub(super) fn place(subject: &Subject<'_>) -> Vec<Finding> {
    let home = &subject.context.home;
    vec![match home.check_sole_and_lockable() {
        Ok(()) => Finding::well("home", format!("{}, accessible only to you", home.root().display())),
        Err(error) => {
            let fix = "do what the message says; until then nothing is triggered or removed here";
            Finding::problem_at(home.root(), error.to_string(), fix)
        }
    }]
}

pub(super) fn settings(subject: &Subject<'_>) -> Vec<Finding> {
    let file = subject.app.home.config_file();
    if let Err(error) = subject.app.context() {
        // Moving the file away is no fix: a person may have written there what keeps a run or a workbench.
        let fix = "correct the file; until then no server starts, ends or removes anything. Do not move it away: the defaults may end runs and remove workbenches sooner";
        return vec![Finding::problem_at(file, error.to_string(), fix)];
    }
    let ignored = subject.context.config.ignored_keys();
    ignored.map(|key| Finding::problem_at(&file, format!("{key} no longer has an effect"), "remove it")).collect()
}

pub(super) fn program(subject: &Subject<'_>) -> Vec<Finding> {
    let program = &subject.context.program;
    let gone = program
        .check()
        .err()
        .map(|error| Finding::problem_at(program.path(), error.to_string(), "restart the host that runs this server"));
    gone.into_iter().collect()
}

pub(super) fn windows(subject: &Subject<'_>) -> Vec<Finding> {
    let host = &subject.context.session_host;
    if host.kind == HostKind::Detached {
        let found = format!("{}: runs have no windows, and work without", host.why);
        return vec![
            Finding::well("tmux", found).hint("to watch runs, install tmux 3.2 or newer and restart the hosts"),
        ];
    }
    if host.version().is_some() {
        return Vec::new();
    }
    let fix = "install tmux 3.2 or newer and restart the server, or set session_host = \"auto\"";
    vec![Finding::problem_at(subject.context.home.config_file(), host.why.clone(), fix)]
}

/// Asks the tmux server of the windows, which takes 4 s where it hangs.
pub(super) fn tmux(subject: &Subject<'_>) -> Vec<Finding> {
    let host = &subject.context.session_host;
    if host.kind == HostKind::Detached || host.version().is_none() {
        return Vec::new();
    }
    vec![match host.check() {
        Ok(()) => Finding::well("tmux", host.why.clone()),
        Err(error) => Finding::problem("tmux", error.to_string(), "end the tmux server if it hangs; its runs go on"),
    }]
}

pub(super) fn clock(subject: &Subject<'_>) -> Vec<Finding> {
    vec![of_clock(clock_doubt(&subject.context.home, &Moment::now()))]
}

fn of_clock(doubt: Option<ClockDoubt>) -> Finding {
    match doubt {
        None => Finding::well("clock", "not set since the last sweep"),
        Some(doubt) => Finding::problem(
            "clock",
            format!("{doubt}; the next sweep removes nothing"),
            "check it with timedatectl (date on macOS); the sweep after the next removes again by itself",
        ),
    }
}

/// Less than this is too little for a run's records and the end of its log.
const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;
const MIN_FREE_FILES: u64 = 1000;

pub(super) fn disk(subject: &Subject<'_>) -> Vec<Finding> {
    let root = subject.context.home.root();
    statvfs(root).ok().map(|disk| of_disk(root, &disk)).into_iter().collect()
}

fn of_disk(root: &Path, disk: &StatVfs) -> Finding {
    let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let found = format!("{} MiB and {} files free", bytes / (1024 * 1024), disk.f_favail);
    // A file system that makes inodes as it needs them reports none.
    let short_of_files = disk.f_files > 0 && disk.f_favail < MIN_FREE_FILES;
    if bytes >= MIN_FREE_BYTES && !short_of_files {
        return Finding::well("disk", found);
    }
    let shown = root.display();
    let fix =
        format!("moadim-mcp cleanup; then see what takes it: du -xhd1 '{shown}'; df -h '{shown}'; df -i '{shown}'");
    Finding::problem("disk", found, fix)
}

/// How long measuring what the home stores may take.
const MEASURING_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows what the home stores, how much of each there may be, and what goes next.
pub(super) fn stores(subject: &Subject<'_>) -> Vec<Finding> {
    let stores = measure(&subject.context, subject.next_workbench(), Instant::now() + MEASURING_TIMEOUT);
    stores.iter().map(|store| Finding::well(store.name, store.to_string())).collect()
}

pub(super) fn history(subject: &Subject<'_>) -> Vec<Finding> {
    let context = &subject.context;
    let unreadable = run_history::check(&context.home).err();
    let mut findings: Vec<Finding> = unreadable.iter().map(Finding::damaged).collect();
    let damaged = context.history.read(&context.home).map_or(0, |history| history.damaged());
    if damaged > 0 {
        findings.push(Finding::problem_at(
            context.home.history_file(),
            format!("{damaged} lines of the history cannot be read; they are skipped"),
            "correct or remove them; the files are history*.jsonl",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_and_a_full_disk_are_problems() {
        assert!(of_clock(None).well && !of_clock(Some(ClockDoubt::Set { by_secs: 90 })).well);
        let dir = tempfile::tempdir().unwrap();
        let disk = statvfs(dir.path()).unwrap();
        let sound = StatVfs { f_bavail: 1 << 20, f_frsize: 4096, f_files: 1 << 20, f_favail: 1 << 19, ..disk };
        let is_well = |disk: &StatVfs| of_disk(dir.path(), disk).well;
        assert!(is_well(&sound));
        assert!(!is_well(&StatVfs { f_bavail: 10, ..sound }));
        assert!(!is_well(&StatVfs { f_favail: 10, ..sound }));
        assert!(is_well(&StatVfs { f_favail: 0, f_files: 0, ..sound }), "no inodes to count");
    }
}
