//! The supervisor's children: the agent, and, since the supervisor is a subreaper, every orphan below it.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::run::record::AgentExit;

/// Reaps them all and remembers how the agent ended. Nothing else in this process waits: two waits would steal each other's
/// statuses.
#[derive(Debug, Default)]
pub(super) struct Children {
    agent: Option<Pid>,
    ended: Option<AgentExit>,
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
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if self.agent == Some(pid) && !status.stopped() && !status.continued() {
                        self.ended = Some(exit_of(status));
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Returns how the agent ended, once it was reaped.
    pub(super) fn agent_exit(&self) -> Option<AgentExit> {
        self.ended
    }
}

fn exit_of(status: WaitStatus) -> AgentExit {
    AgentExit { code: status.exit_status(), signal: status.terminating_signal() }
}
