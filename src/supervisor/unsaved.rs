//! The look for unsaved work, once everything of the run has ended.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::supervision::Supervisor;
use crate::git::Work;
use crate::run::entry::WORK;
use crate::run::examine::{EXAMINE_TIMEOUT, examine_by};
use crate::run::record::EndCause;

/// The pause between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(100);

impl Supervisor {
    /// Looks at every repository of the workbench.
    pub(super) fn look_for_work(&mut self) -> Vec<Work> {
        let context = self.context.clone();
        let name = self.manifest.workbench_name().clone();
        let cookie = self.manifest.cookie;
        // A request for the end is announced by the same signal.
        let is_asked =
            self.entry.end_request().ok().flatten().is_some_and(|request| request.cause != EndCause::Interrupted);
        examine_by(&context, &name, &cookie, |command| self.look_in_a_child(command, is_asked))
    }

    /// What a child prints goes to a file: nothing of it keeps us from noticing its end, or a shutdown.
    fn look_in_a_child(&mut self, command: &mut Command, is_asked_to_end: bool) -> Result<Vec<u8>, String> {
        let path = self.entry.file(WORK);
        let output = File::create(&path).map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).process_group(0);
        let pid = Pid::from_child(&command.spawn().map_err(|error| error.to_string())?);
        // How the agent ended is known by now.
        self.children.forget();
        self.children.set_agent(pid);
        let began = Instant::now();
        let result = loop {
            self.children.reap();
            match self.children.agent_exit() {
                Some(exit) if exit.code == Some(0) => break std::fs::read(&path).map_err(|error| error.to_string()),
                Some(exit) => break Err(format!("looking at it {}", exit.how())),
                None if began.elapsed() >= EXAMINE_TIMEOUT => break Err("it timed out".to_owned()),
                // The end has to be recorded while there is time.
                None if self.wake.termination_signal() && !is_asked_to_end => break Err("a shutdown began".to_owned()),
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
