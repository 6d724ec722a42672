//! When the janitor's loops made a pass, when the next one is, and what failed.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::RunId;
use crate::clock::{HumanDuration, UnixSeconds};

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

/// A time in which no process of the home fired anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    pub from: UnixSeconds,
    pub until: UnixSeconds,
}

impl Display for Downtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        let length = HumanDuration(from.age_secs_at(*until));
        write!(f, "no moadim-mcp was running from {from} until {until} ({length})")
    }
}

/// The state of the loops, shared between threads.
#[derive(Debug, Default)]
pub struct JanitorStatus {
    passes: Mutex<[Passes; 3]>,
    /// The runs whose state the last watchdog pass could not decide.
    unknown: Mutex<BTreeSet<RunId>>,
    /// The downtime that this process ended, if it ended one. Not set before its first pass.
    downtime: OnceLock<Option<Downtime>>,
    /// Whether the log says that another machine does all of it.
    has_stood_back: AtomicBool,
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

    /// Logs, once, that another machine does what this process would do.
    pub(crate) fn stands_back(&self, because: &dyn Display) {
        if !self.has_stood_back.swap(true, Ordering::Relaxed) {
            tracing::warn!(because = %because, "nothing is scheduled, ended or removed by this process");
        }
    }

    /// Notes after which downtime this process has started, at its first pass.
    pub(crate) fn started_after(&self, downtime: impl FnOnce() -> Option<Downtime>) {
        self.downtime.get_or_init(downtime);
    }

    pub(crate) fn is_first_pass(&self) -> bool {
        self.downtime.get().is_none()
    }

    pub(crate) fn downtime(&self) -> Option<&Downtime> {
        self.downtime.get()?.as_ref()
    }

    /// Notes which runs are unknown at this pass, and returns those that were at the one before, too.
    pub(crate) fn stay_unknown(&self, now: BTreeSet<RunId>) -> BTreeSet<RunId> {
        let mut before = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let stay = now.intersection(&before).cloned().collect();
        *before = now;
        stay
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

    #[test]
    fn a_run_stays_unknown_that_was_so_at_the_pass_before() {
        let status = JanitorStatus::default();
        let pass = |runs: &[&str]| status.stay_unknown(runs.iter().map(|run| run.parse().unwrap()).collect()).len();
        assert_eq!([pass(&["a-1"]), pass(&["b-1"]), pass(&["a-1", "b-1"]), pass(&[]), pass(&["b-1"])], [0, 0, 1, 0, 0]);
    }
}
