//! What a supervisor has in hand, and what it can tell of its run for [`decide`](super::watch::decide) to go by.

use super::children::Children;
use super::wake::Wake;
use super::watch::Facts;
use crate::clock::Moment;
use crate::home::config::Config;
use crate::routine::bounds::Bounds;
use crate::run::entry::{Entry, Workbench};
use crate::run::record::{AgentExit, Manifest, Started};
use crate::run::workplace::Workplace;

/// A supervisor at work.
pub(super) struct Supervisor {
    pub(super) workplace: Workplace,
    pub(super) entry: Entry,
    pub(super) manifest: Manifest,
    pub(super) children: Children,
    pub(super) wake: Wake,
    pub(super) started: Option<Started>,
}

impl Supervisor {
    /// Nothing that cannot be read here is a reason to leave the agent alone.
    pub(super) fn facts(&mut self, silent_secs: u64) -> Facts {
        self.read_settings();
        let bounds = Bounds::of(&self.workplace.home, &self.workplace.config, self.entry.id().routine());
        Facts {
            exit: self.agent_exit(),
            request: self.entry.end_request().unwrap_or_default(),
            signalled: self.wake.was_asked(),
            age_secs: self.manifest.triggered.elapsed_secs_at(&Moment::now()),
            max_runtime_secs: bounds.max_runtime_secs,
            silent_secs,
            max_silence_secs: bounds.max_silence_secs.or(self.manifest.command.max_silence_secs),
        }
    }

    /// Tells how the agent ended, if it has, or what came before it. An agent on a terminal is the child of its holder, who
    /// writes it down; if that was killed, nobody knows.
    pub(super) fn agent_exit(&self) -> Option<AgentExit> {
        if !self.manifest.command.terminal || self.started.is_none() {
            return self.children.agent_exit();
        }
        match self.entry.terminal_exit() {
            Ok(Some(exit)) => Some(exit),
            _ => match self.entry.terminal_held() {
                Ok(Some(held)) if !held.holder.is_alive() && !held.agent.is_alive() => {
                    // Written just before it ended, perhaps.
                    Some(self.entry.terminal_exit().ok().flatten().unwrap_or_default())
                }
                _ => None,
            },
        }
    }

    /// Reads the settings as they are now; while they cannot be read, or are away, the last ones hold, for the defaults could
    /// be shorter.
    pub(super) fn read_settings(&mut self) {
        match Config::load_if_present(&self.workplace.home.config_file()) {
            Ok(Some(config)) => self.workplace.config = config,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the settings from before hold"),
        }
    }

    pub(super) fn workbench(&self) -> Workbench {
        Workbench::of(&self.workplace.home, self.entry.id())
    }
}
