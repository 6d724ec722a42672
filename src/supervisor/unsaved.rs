//! The look for unsaved work, once everything of the run has ended.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::supervision::Supervisor;
use crate::archive;
use crate::git::{self, Closed, Work};
use crate::home::atomic_file::{self, FileError};
use crate::process_tree::COOKIE_VARIABLE;
use crate::run::entry::WORK;

/// How long listing the repositories of a workbench may take.
const FIND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the look may take: it ends itself before, unless a disk or a mount hangs.
const LOOK_TIMEOUT: Duration = archive::LOOK_ALL_TIMEOUT.saturating_add(Duration::from_secs(5));
/// The pause between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(100);

impl Supervisor {
    /// Looks at every repository of the workbench, in a process of its own that can be ended. What cannot be examined says so.
    pub(super) fn look_for_work(&mut self) -> Vec<Work> {
        let root = self.workbench().directory().to_owned();
        if !root.is_dir() {
            return Vec::new();
        }
        let unreadable = |reason: &dyn std::fmt::Display| vec![Work::unreadable(Path::new(""), reason)];
        match git::find(&root, Closed::Open, Instant::now() + FIND_TIMEOUT) {
            Ok(listing) if listing.found.is_empty() && listing.skipped.is_empty() => return Vec::new(),
            Ok(_) => {}
            Err(error) => return unreadable(&error),
        }
        match self.look_in_a_child() {
            Ok(()) => {}
            Err(reason) => return unreadable(&reason),
        }
        atomic_file::read_json(&self.entry.file(WORK)).unwrap_or_else(|error| unreadable(&error))
    }

    fn look_in_a_child(&mut self) -> Result<(), String> {
        let path = self.entry.file(WORK);
        let output = File::create(&path).map_err(|source| FileError::io("write", &path, source).to_string())?;
        let child = std::os::unix::process::CommandExt::process_group(
            Command::new(self.context.program.path())
                .arg("examine")
                .arg(self.context.home.root())
                .arg(self.entry.id().to_string())
                .arg(self.context.config.max_run_archive_bytes.to_string())
                .env(COOKIE_VARIABLE, self.manifest.cookie.to_string())
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(Stdio::null()),
            0,
        )
        .spawn()
        .map_err(|error| format!("it was not examined: {error}"))?;
        let pid = Pid::from_child(&child);
        // How the agent ended is known by now.
        self.children.forget();
        self.children.set_agent(pid);
        let began = Instant::now();
        let result = loop {
            self.children.reap();
            match self.children.agent_exit() {
                Some(exit) if exit.code == Some(0) => break Ok(()),
                Some(exit) => break Err(format!("it was not examined: looking at it {}", exit.how())),
                None if began.elapsed() >= LOOK_TIMEOUT => {
                    break Err("examining it timed out".to_owned());
                }
                // The end has to be recorded while there is time.
                None if self.wake.termination_signal() => break Err("it was not examined: a shutdown began".to_owned()),
                None => self.wake.wait(PAUSE),
            }
        };
        self.children.forget();
        if result.is_err() {
            let _ = kill_process_group(pid, Signal::KILL);
            self.end_processes();
        }
        result
    }
}
