//! Which runs have a workbench, a pin or an archive.

use std::collections::{BTreeMap, BTreeSet};

use crate::home::Home;
use crate::home::atomic_file::{FileError, if_present};
use crate::home::mark::Mark;
use crate::home::names;
use crate::run::continuation::index::Continuations;
use crate::run::id::RunId;
use crate::run::on_disk::workbench_ids;
use crate::run::pin;

/// What is on disk of runs. Pins and archives have the names of workbenches, and a workbench that of its first run.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    /// The runs whose workbench is there, also those that went on in that of another.
    pub(super) workbenches: BTreeSet<RunId>,
    pub(super) pins: BTreeSet<RunId>,
    pub(super) archives: BTreeSet<RunId>,
    /// The names of the workbenches of runs that went on in that of another.
    pub(super) names: BTreeMap<RunId, RunId>,
    /// The runs that others continued.
    pub(super) continued: BTreeSet<RunId>,
}

impl OnDisk {
    /// Returns what it is made from, with what says how long workbenches stay.
    pub(super) fn mark(home: &Home) -> Mark {
        let mark = Mark::default().file(&home.workbenches()).file(&home.pins()).file(&home.archive());
        mark.file(&home.continuations()).file(&home.questions()).file(&home.open_questions())
    }

    /// # Errors
    /// A folder is there and cannot be listed.
    pub(super) fn read(home: &Home) -> Result<Self, FileError> {
        let mut archives = BTreeSet::new();
        if_present(names::scan(&home.archive(), |name, _| archives.extend(name.parse::<RunId>())))?;
        // In this order: a workbench that goes in between is missing, and takes its runs along.
        let continuations = Continuations::read(home)?;
        let mut workbenches: BTreeSet<RunId> = workbench_ids(home)?.into_iter().collect();
        let there = continuations.iter().filter(|one| workbenches.contains(&one.workbench));
        let there: Vec<RunId> = there.map(|one| one.run.clone()).collect();
        workbenches.extend(there);
        let pins = pin::list(home)?;
        let names = continuations.iter().map(|one| (one.run.clone(), one.workbench.clone())).collect();
        let continued = continuations.iter().map(|one| one.continues.clone()).collect();
        Ok(Self { workbenches, pins, archives, names, continued })
    }

    /// Returns the name of the workbench of a run, as far as the disk says; `recorded` is what its outcome says.
    pub(super) fn name_of<'a>(&'a self, run: &'a RunId, recorded: Option<&'a RunId>) -> &'a RunId {
        recorded.or_else(|| self.names.get(run)).unwrap_or(run)
    }

    /// Whether another run went on in the workbench of this one.
    pub(super) fn is_continued(&self, run: &RunId) -> bool {
        self.continued.contains(run)
    }
}

#[cfg(test)]
impl OnDisk {
    /// Adds a run that goes on in the workbench of another.
    pub(super) fn go_on(&mut self, run: &RunId, continues: &RunId, workbench: &RunId) {
        self.workbenches.insert(run.clone());
        self.names.insert(run.clone(), workbench.clone());
        self.continued.insert(continues.clone());
    }
}
