//! The supervisor's children: the agent, and every orphan below it, for it is a subreaper.

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

/// Reaps all, and remembers how the agent ended. There is no other wait in this process: two would steal each other's
/// statuses.
#[derive(Debug, Default)]
pub(super) struct Children {
    agent: Option<Pid>,
    ended: Option<AgentExit>,
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AgentExit {
    /// Its exit status.
    pub(super) code: Option<i32>,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
}

impl Children {
    /// Names the agent among the children, or what comes before it.
    pub(super) fn set_agent(&mut self, pid: Pid) {
        self.agent = Some(pid);
    }

    /// Forgets what came before the agent, and how it ended.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Reaps every child that is dead by now.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if self.agent == Some(pid) && !status.stopped() && !status.continued() {
                self.ended = Some(AgentExit::of(status));
            }
        }
    }

    /// Returns how the agent ended, once it was reaped.
    pub(super) fn agent_exit(&self) -> Option<AgentExit> {
        self.ended
    }
}

impl AgentExit {
    fn of(status: WaitStatus) -> Self {
        Self { code: status.exit_status(), signal: status.terminating_signal() }
    }
}
