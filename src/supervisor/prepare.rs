//! What comes before the agent's start: clones of the routine's repositories, then the agent's setup.
//!
//! All of it happens in the run's process tree and under its bound, and ends when the run is to end. A trigger does not wait
//! for it: it is told that the run is being prepared.

use std::time::Duration;

use super::exec::Part;
use super::log_cap::LogCap;
use super::mirror::Git;
use super::start::{NotStarted, start};
use super::supervise::Supervisor;
use super::watch::{Step, decide};
use crate::excerpt::saying;
use crate::home::atomic_file;
use crate::run::log;
use crate::run::record::{AgentExit, EndCause, EndRequest};

/// Why the agent is not to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotPrepared {
    /// Somebody wants the run ended.
    Obey(EndRequest),
    /// Something failed, or took too long.
    End(EndCause, String),
}

impl NotPrepared {
    /// Something failed.
    pub(super) fn failed(reason: impl std::fmt::Display) -> Self {
        Self::End(EndCause::LaunchFailed, reason.to_string())
    }
}

/// The longest pause between two looks at the bound and the requests.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Does what has to be done before the agent can start.
    pub(super) fn prepare(&mut self) -> Result<(), NotPrepared> {
        if !self.manifest.needs_preparation() {
            return Ok(());
        }
        self.entry.set_preparing().map_err(NotPrepared::failed)?;
        let repositories = self.manifest.repositories.clone();
        if !repositories.is_empty() {
            let environment = self.entry.environment().map_err(NotPrepared::failed)?;
            let git = Git::find(&environment.inherited, &self.manifest.cookie).map_err(NotPrepared::failed)?;
            for repository in &repositories {
                self.clone_repository(&git, repository)?;
            }
        }
        if self.manifest.command.setup.is_empty() { Ok(()) } else { self.set_up() }
    }

    fn set_up(&mut self) -> Result<(), NotPrepared> {
        let started =
            start(&self.workplace, &self.entry, &self.manifest, Part::Setup, &mut self.children, &mut self.wake);
        if let Err(not) = started {
            self.children.forget();
            return Err(match not {
                NotStarted::Failed(reason) => NotPrepared::failed(format_args!("its setup failed: {reason}")),
                NotStarted::CalledOff => {
                    NotPrepared::End(EndCause::Stopped, "it was called off while it was prepared".to_owned())
                }
            });
        }
        let mut log_cap = LogCap::watch(&self.workbench(), self.workplace.config.max_log_bytes);
        let exit = self.await_child(|| log_cap.look())?;
        if exit.code == Some(0) {
            return Ok(());
        }
        const SHOWN_LINES: usize = 5;
        let said = log::tail(&self.workbench(), SHOWN_LINES).map(|tail| tail.text).unwrap_or_default();
        let program = self.manifest.command.setup.first().map_or("", String::as_str);
        Err(NotPrepared::failed(format_args!("its setup command {program} {}{}", ended(exit), quoted(&said))))
    }

    /// Waits until the child that was named last has ended.
    pub(super) fn await_child(&mut self, mut look: impl FnMut() -> Duration) -> Result<AgentExit, NotPrepared> {
        loop {
            self.children.reap();
            let pause = look();
            match self.interrupted() {
                Ok(None) => self.wake.wait(pause.min(LONGEST_PAUSE)),
                Ok(Some(exit)) => {
                    self.children.forget();
                    return Ok(exit);
                }
                Err(not) => {
                    // How it ends now says nothing about the agent.
                    self.children.forget();
                    return Err(not);
                }
            }
        }
    }

    /// Tells whether the run is to end, and how the child ended if it has.
    pub(super) fn interrupted(&mut self) -> Result<Option<AgentExit>, NotPrepared> {
        // Git and a setup may be silent for as long as they take.
        match decide(self.facts(0)) {
            Step::Wait => Ok(None),
            Step::Finish(exit) => Ok(Some(exit)),
            Step::Obey(request) => Err(NotPrepared::Obey(request)),
            Step::End(cause, reason) => Err(NotPrepared::End(cause, reason)),
        }
    }

    /// Returns the last of what git said, ready to be appended to a sentence.
    pub(super) fn words_of_git(&self) -> String {
        let said = atomic_file::read(&self.entry.git_log(), atomic_file::MAX_RECORD_BYTES).unwrap_or_default();
        quoted(&String::from_utf8_lossy(&said))
    }
}

/// Says how something ended that did not succeed.
pub(super) fn ended(exit: AgentExit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Quotes the last of several lines, in one.
fn quoted(lines: &str) -> String {
    const SHOWN_CHARS: usize = 600;
    let lines: Vec<&str> = lines.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    saying(&lines.join("; "), SHOWN_CHARS)
}
