//! What is done before the agent starts, by a child that is waited for: under the run's bound, and until the run is to end.

use std::time::{Duration, Instant};

use super::supervision::Supervisor;
use super::watch::{Step, decide};
use crate::quote::saying;
use crate::run::record::{AgentExit, EndCause, EndRequest};

/// Why the agent does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotPrepared {
    /// Somebody wants the run ended.
    Obey(EndRequest),
    /// Something failed, or took too long.
    End(EndCause, String),
}

impl NotPrepared {
    pub(super) fn failed(reason: impl std::fmt::Display) -> Self {
        Self::End(EndCause::LaunchFailed, reason.to_string())
    }
}

/// The longest pause between two looks at the bound and the requests.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Waits until the child that was named last has ended.
    pub(super) fn await_child(&mut self) -> Result<AgentExit, NotPrepared> {
        loop {
            if let Some(exit) = self.await_child_for(Duration::MAX)? {
                return Ok(exit);
            }
        }
    }

    /// Waits until the child that was named last has ended, `at_most` this long; `None` if it has not.
    pub(super) fn await_child_for(&mut self, at_most: Duration) -> Result<Option<AgentExit>, NotPrepared> {
        let began = Instant::now();
        loop {
            self.children.reap();
            let pause = self.log_cap.look();
            match self.child_or_end() {
                Ok(None) => {
                    let left = at_most.saturating_sub(began.elapsed());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.wake.wait(pause.min(LONGEST_PAUSE).min(left));
                }
                Ok(exit) => {
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

    /// Returns how the child ended, if it has.
    ///
    /// # Errors
    /// The run has to end first.
    pub(super) fn child_or_end(&mut self) -> Result<Option<AgentExit>, NotPrepared> {
        // Git, a setup and a login shell may be silent for as long as they take.
        match decide(self.state(0)) {
            Step::Wait => Ok(None),
            Step::Finish(exit) => Ok(Some(exit)),
            Step::Obey(request) => Err(NotPrepared::Obey(request)),
            Step::End(cause, reason) => Err(NotPrepared::End(cause, reason)),
        }
    }
}

/// Quotes the last of several lines, in one, ready to be appended to a sentence.
pub(super) fn quoted(lines: &str) -> String {
    const SHOWN_CHARS: usize = 600;
    saying(&in_one_line(lines), SHOWN_CHARS)
}

/// Puts several lines into one.
pub(super) fn in_one_line(lines: &str) -> String {
    let lines: Vec<&str> = lines.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}
