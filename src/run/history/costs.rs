//! What lately triggered runs cost. The line of each is read once; the rest of the history is not read at all.

use std::collections::BTreeMap;

use super::{Line, Lines};
use crate::clock::UnixSeconds;
use crate::money::MicroDollars;
use crate::run::id::RunId;
use crate::run::status::Status;

/// What lines said that were read before.
#[derive(Debug, Default)]
pub(super) struct KnownCosts(BTreeMap<RunId, Option<MicroDollars>>);

/// For how long before what is asked for costs are remembered: another zone's day began earlier.
const REMEMBERED_SECS: u64 = 2 * 24 * 60 * 60;

impl KnownCosts {
    fn forget_before(&mut self, since: UnixSeconds) {
        while let Some(oldest) = self.0.first_entry().filter(|oldest| oldest.key().stamp() < since) {
            oldest.remove();
        }
    }

    /// Returns a run's cost, if it is known; `read` returns nothing where its line cannot be read, now.
    fn of(&mut self, run: &RunId, read: impl FnOnce() -> Option<Option<MicroDollars>>) -> Option<MicroDollars> {
        if let Some(known) = self.0.get(run) {
            return *known;
        }
        let cost = read()?;
        self.0.insert(run.clone(), cost);
        cost
    }
}

/// A run that ended, in brief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunCost {
    pub(crate) id: RunId,
    pub(crate) status: Status,
    /// `None` if it is not known, or was not asked for.
    pub(crate) cost: Option<MicroDollars>,
}

impl Lines {
    /// Returns the runs that were triggered at `since` or later, with their costs if they are asked for.
    pub(crate) fn ended_since(&mut self, since: UnixSeconds, with_costs: bool) -> Vec<RunCost> {
        let mut costs = std::mem::take(&mut self.costs);
        costs.forget_before(UnixSeconds(since.0.saturating_sub(REMEMBERED_SECS)));
        let ended = |line: &Line| {
            let id = RunId::new(self.routine(line).clone(), line.stamp());
            let read = || self.past(line).map(|past| past.outcome.cost());
            let cost = if with_costs { costs.of(&id, read) } else { None };
            RunCost { id, status: line.status(), cost }
        };
        let ended = self.newest_first().take_while(|line| line.stamp() >= since).map(ended).collect();
        self.costs = costs;
        ended
    }
}
