//! All continuations of a home, for those who ask about many runs.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io;

use super::{Continuation, after, link_path};
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::names::{self, Kind};
use crate::run::id::RunId;
use crate::run::workbench::Workbench;

/// The runs that continue others, as they were when they were listed. Damaged records are left out: their workbenches say so.
#[derive(Debug, Default)]
pub(crate) struct Continuations {
    /// In the order of the runs that they continue.
    all: Vec<Continuation>,
    /// By each run that continues another: the index of its record in `all`.
    by_run: HashMap<RunId, usize>,
    /// By each workbench that saw several runs: the index of the record of the newest.
    newest: HashMap<RunId, usize>,
}

impl Continuations {
    /// Reads every record.
    ///
    /// # Errors
    /// The folder is there and cannot be listed.
    pub(crate) fn read(home: &Home) -> Result<Self, FileError> {
        let mut predecessors: Vec<RunId> = Vec::new();
        let listed = names::scan(&home.continuations(), |name, kind| {
            if kind == Kind::Other {
                predecessors.extend(name.strip_suffix(".json").and_then(|name| name.parse::<RunId>().ok()));
            }
        });
        atomic_file::if_present(listed)?;
        predecessors.sort_unstable();
        let mut known = Self::default();
        for one in predecessors.iter().filter_map(|run| after(home, run).ok().flatten()) {
            let at = known.all.len();
            known.by_run.insert(one.run.clone(), at);
            match known.newest.entry(one.workbench.clone()) {
                Slot::Occupied(newest) if known.all[*newest.get()].run >= one.run => {}
                slot => drop(slot.insert_entry(at)),
            }
            known.all.push(one);
        }
        Ok(known)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Lists them, by the runs that they continue.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Continuation> {
        self.all.iter()
    }

    /// Returns the record of a run that continues another.
    pub(crate) fn of(&self, run: &RunId) -> Option<&Continuation> {
        self.by_run.get(run).map(|at| &self.all[*at])
    }

    /// Returns the name of the workbench of a run, as the records say, which no agent writes.
    pub(crate) fn workbench_of<'a>(&'a self, run: &'a RunId) -> &'a RunId {
        self.of(run).map_or(run, |one| &one.workbench)
    }

    /// Whether the workbench of a run is gone. Of a run that went on in another's, a record that cannot be read says nothing, and its
    /// link is still there.
    pub(crate) fn is_workbench_gone(&self, home: &Home, run: &RunId) -> bool {
        match self.of(run) {
            Some(one) => !Workbench::named(home, &one.workbench).exists(),
            None => {
                let own = link_path(home, run).symlink_metadata();
                own.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            }
        }
    }

    /// Returns the newest run of a workbench.
    pub(crate) fn newest_in<'a>(&'a self, workbench: &'a RunId) -> &'a RunId {
        self.newest.get(workbench).map_or(workbench, |at| &self.all[*at].run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_of_a_chain_has_the_workbench_of_the_first_and_one_is_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        assert!(Continuations::read(&home).unwrap().is_empty());
        let id = |text: &str| text.parse::<RunId>().unwrap();
        for (run, continues, workbench) in
            [("a-11", "a-9", "a-1"), ("a-5", "a-1", "a-1"), ("a-9", "a-5", "a-1"), ("b-4", "b-3", "b-3")]
        {
            assert!(Continuation::now(&id(run), &id(continues), &id(workbench)).create(&home).unwrap());
        }
        std::fs::write(home.continuations().join("c-1.json"), "{").unwrap();
        let known = Continuations::read(&home).unwrap();
        for (run, workbench) in
            [("a-1", "a-1"), ("a-5", "a-1"), ("a-11", "a-1"), ("b-4", "b-3"), ("c-1", "c-1"), ("d-2", "d-2")]
        {
            assert_eq!(*known.workbench_of(&id(run)), id(workbench), "{run}");
        }
        for (workbench, newest) in [("a-1", "a-11"), ("b-3", "b-4"), ("c-1", "c-1")] {
            assert_eq!(*known.newest_in(&id(workbench)), id(newest));
        }
        for name in ["a-1", "c-0"] {
            std::fs::create_dir(home.workbenches().join(name)).unwrap();
        }
        // The record of c-2 cannot be read.
        std::os::unix::fs::symlink("c-0", home.workbenches().join("c-2")).unwrap();
        let gone = ["a-1", "a-5", "a-11", "b-3", "b-4", "c-0", "c-2", "d-2"]
            .map(|run| known.is_workbench_gone(&home, &id(run)));
        assert_eq!(gone, [false, false, false, true, true, false, false, true]);
        let continues: Vec<String> = known.iter().map(|one| one.continues.to_string()).collect();
        assert_eq!(continues, ["a-1", "b-3", "a-5", "a-9"]);
    }
}
