//! When the janitor was at work, when it will be again, and what troubled it last.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::UnixSeconds;

/// What the janitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Ends hung runs.
    Watchdog,
    /// Removes expired workbenches.
    Sweep,
}

/// What one of its loops last did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// When the last pass ended.
    pub last: Option<UnixSeconds>,
    /// When the next one begins.
    pub next: Option<UnixSeconds>,
    /// What the last pass could not do.
    pub troubles: Vec<Trouble>,
}

/// Something that a pass could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub path: Option<String>,
    /// What.
    pub problem: String,
}

/// The state of both loops, shared with whoever asks.
#[derive(Debug, Default)]
pub struct Status {
    rounds: Mutex<[Round; 2]>,
}

/// How many troubles of one pass are kept.
const MAX_TROUBLES: usize = 50;

impl Status {
    /// Returns what a loop last did.
    #[must_use]
    pub fn round(&self, duty: Duty) -> Round {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)[duty as usize].clone()
    }

    /// Notes that a pass begins: its troubles replace those of the one before.
    pub(super) fn begin(&self, duty: Duty) {
        self.change(duty, |round| round.troubles.clear());
    }

    /// Notes that a pass has ended, and the pause before the next.
    pub(super) fn passed(&self, duty: Duty, pause: Duration) {
        let now = UnixSeconds::now();
        self.change(duty, |round| {
            round.last = Some(now);
            round.next = Some(now.plus_secs(pause.as_secs()));
        });
    }

    /// Notes something that could not be done.
    pub(super) fn trouble(&self, duty: Duty, path: Option<String>, problem: &dyn Display) {
        let trouble = Trouble { path, problem: problem.to_string() };
        tracing::warn!(?duty, path = trouble.path, problem = trouble.problem);
        self.change(duty, |round| {
            if round.troubles.len() < MAX_TROUBLES && !round.troubles.contains(&trouble) {
                round.troubles.push(trouble);
            }
        });
    }

    fn change(&self, duty: Duty, change: impl FnOnce(&mut Round)) {
        change(&mut self.rounds.lock().unwrap_or_else(PoisonError::into_inner)[duty as usize]);
    }
}
