//! What the janitor of this process last did, for `health`. It is kept with what else lives as long as the process.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::UnixSeconds;

/// What the janitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Ends hung runs.
    Watchdog,
    /// Removes expired workbenches.
    Sweep,
    /// Fires routines.
    Schedule,
}

/// What one of the janitor's loops last did.
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

/// A round, and what is needed to tell what is new in it.
#[derive(Debug, Default)]
struct Kept {
    round: Round,
    /// The troubles of the pass before, while a pass is under way.
    before: Vec<Trouble>,
}

/// The state of the janitor's loops.
#[derive(Debug, Default)]
pub struct JanitorStatus {
    rounds: Mutex<[Kept; 3]>,
}

/// How many troubles of one pass are kept.
const MAX_TROUBLES: usize = 50;

impl JanitorStatus {
    /// Returns what a loop last did.
    #[must_use]
    pub fn round(&self, duty: Duty) -> Round {
        let rounds = self.rounds();
        let Kept { round, before } = &rounds[duty as usize];
        let mut round = round.clone();
        // Until a pass is over nobody knows that they are.
        round
            .troubles
            .extend(before.iter().filter(|trouble| !round.troubles.contains(trouble)).cloned().collect::<Vec<_>>());
        round
    }

    /// Notes that a pass begins: its troubles replace those of the one before.
    pub(crate) fn begin(&self, duty: Duty) {
        self.change(duty, |kept| kept.before = std::mem::take(&mut kept.round.troubles));
    }

    /// Notes that a pass has ended, and the pause before the next.
    pub(crate) fn passed(&self, duty: Duty, pause: Duration) {
        let now = UnixSeconds::now();
        self.change(duty, |kept| {
            kept.before.clear();
            kept.round.last = Some(now);
            kept.round.next = Some(now.plus_secs(pause.as_secs()));
        });
    }

    /// Notes something that could not be done. What the pass before could not do either is not logged again.
    pub(crate) fn trouble(&self, duty: Duty, path: Option<String>, problem: &dyn Display) {
        let trouble = Trouble { path, problem: problem.to_string() };
        let mut rounds = self.rounds();
        let Kept { round: Round { troubles, .. }, before } = &mut rounds[duty as usize];
        let is_known = troubles.contains(&trouble);
        let is_new = !is_known && !before.contains(&trouble);
        if !is_known && troubles.len() < MAX_TROUBLES {
            troubles.push(trouble.clone());
        }
        drop(rounds);
        if is_new {
            tracing::warn!(?duty, path = trouble.path, problem = trouble.problem);
        }
    }

    fn change(&self, duty: Duty, change: impl FnOnce(&mut Kept)) {
        change(&mut self.rounds()[duty as usize]);
    }

    fn rounds(&self) -> MutexGuard<'_, [Kept; 3]> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_stays_until_a_pass_without_it_is_over() {
        let status = JanitorStatus::default();
        let problems = |status: &JanitorStatus| {
            let troubles = status.round(Duty::Schedule).troubles;
            troubles.into_iter().map(|trouble| trouble.problem).collect::<Vec<_>>()
        };
        status.begin(Duty::Schedule);
        status.trouble(Duty::Schedule, None, &"a");
        status.trouble(Duty::Schedule, None, &"a");
        status.passed(Duty::Schedule, Duration::ZERO);
        assert_eq!(problems(&status), ["a"]);
        status.begin(Duty::Schedule);
        assert_eq!(problems(&status), ["a"]);
        status.trouble(Duty::Schedule, None, &"b");
        assert_eq!(problems(&status), ["b", "a"]);
        status.passed(Duty::Schedule, Duration::ZERO);
        assert_eq!(problems(&status), ["b"]);
        assert!(status.round(Duty::Watchdog).troubles.is_empty());
    }
}
