//! When the janitor's loops made a pass, when the next one is, and what failed.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::UnixSeconds;

/// One of the janitor's loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Watchdog,
    Sweep,
    Schedule,
}

/// The passes of one loop.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Passes {
    /// The end of the last pass of this process.
    pub last: Option<UnixSeconds>,
    /// The begin of the next one.
    pub next: Option<UnixSeconds>,
    /// What the last pass could not do.
    #[serde(skip)]
    pub troubles: Vec<Trouble>,
    /// The troubles of the pass before, while a pass is under way.
    #[serde(skip)]
    before: Vec<Trouble>,
}

/// Something that a pass could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub path: Option<String>,
    pub problem: String,
}

/// The state of the loops, shared between threads.
#[derive(Debug, Default)]
pub struct JanitorStatus {
    passes: Mutex<[Passes; 3]>,
}

/// How many troubles of one pass are kept.
const MAX_TROUBLES: usize = 50;

impl JanitorStatus {
    /// Returns the passes of a loop. Troubles of the pass before count until the one under way is over.
    pub fn passes(&self, duty: Duty) -> Passes {
        let mut passes = self.lock()[duty as usize].clone();
        let before = std::mem::take(&mut passes.before);
        let gone = before.into_iter().filter(|trouble| !passes.troubles.contains(trouble)).collect::<Vec<_>>();
        passes.troubles.extend(gone);
        passes
    }

    pub(crate) fn begin(&self, duty: Duty) {
        let passes = &mut self.lock()[duty as usize];
        passes.before = std::mem::take(&mut passes.troubles);
    }

    pub(crate) fn passed(&self, duty: Duty, pause: Duration) {
        let now = UnixSeconds::now();
        let passes = &mut self.lock()[duty as usize];
        passes.before.clear();
        passes.last = Some(now);
        passes.next = Some(now.plus_secs(pause.as_secs()));
    }

    /// Notes what could not be done, and logs it unless the pass before could not do it either.
    pub(crate) fn trouble(&self, duty: Duty, path: Option<String>, problem: &dyn Display) {
        let trouble = Trouble { path, problem: problem.to_string() };
        let is_new = {
            let Passes { troubles, before, .. } = &mut self.lock()[duty as usize];
            let is_known = troubles.contains(&trouble);
            if !is_known && troubles.len() < MAX_TROUBLES {
                troubles.push(trouble.clone());
            }
            !is_known && !before.contains(&trouble)
        };
        if is_new {
            tracing::warn!(?duty, path = trouble.path, problem = trouble.problem);
        }
    }

    fn lock(&self) -> MutexGuard<'_, [Passes; 3]> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_stays_until_a_pass_without_it_is_over() {
        let status = JanitorStatus::default();
        let problems = |status: &JanitorStatus| {
            let troubles = status.passes(Duty::Schedule).troubles;
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
        assert!(status.passes(Duty::Watchdog).troubles.is_empty());
    }
}
