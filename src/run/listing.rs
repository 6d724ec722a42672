//! Which runs there are, newest first.

use std::collections::BTreeMap;

use super::end::EndError;
use super::entry::{Entry, Workbench};
use super::id::RunId;
use super::liveness::{Assessment, assess};
use super::record::Status;
use super::view::RunView;
use super::workplace::Workplace;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;

/// Which runs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this routine.
    pub routine: Option<Slug>,
    /// Those in this state.
    pub status: Option<Status>,
}

/// A part of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The runs, newest first.
    pub runs: Vec<RunView>,
    /// How many there are in all.
    pub total: usize,
    /// The run after which the next page begins, if there is one.
    pub next: Option<RunId>,
}

/// Lists up to `limit` of the runs that are older than `after`.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn list(workplace: &Workplace, filter: &Filter, after: Option<&RunId>, limit: usize) -> Result<Page, FileError> {
    let mut ids = ids(&workplace.home)?;
    ids.retain(|id| filter.routine.as_ref().is_none_or(|routine| id.routine() == routine));
    let mut views = Views::new(workplace);
    if let Some(wanted) = filter.status {
        // The state is not in the name, so all have to be looked at.
        let mut runs: Vec<RunView> = views.of(&ids).into_iter().filter(|run| run.status == wanted).collect();
        let total = runs.len();
        runs.retain(|run| after.is_none_or(|after| run.id < *after));
        let next = (runs.len() > limit).then(|| runs[limit - 1].id.clone());
        runs.truncate(limit);
        return Ok(Page { runs, total, next });
    }
    let total = ids.len();
    ids.retain(|id| after.is_none_or(|after| id < after));
    let next = (ids.len() > limit).then(|| ids[limit - 1].clone());
    ids.truncate(limit);
    Ok(Page { runs: views.of(&ids), total, next })
}

/// Looks at all runs.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn all(workplace: &Workplace) -> Result<Vec<RunView>, FileError> {
    Ok(Views::new(workplace).of(&ids(&workplace.home)?))
}

/// Looks at one run.
///
/// # Errors
/// There is no such run.
pub fn find(workplace: &Workplace, id: &RunId) -> Result<RunView, EndError> {
    let mut found = Views::new(workplace).of(std::slice::from_ref(id));
    found.pop().ok_or_else(|| EndError::NotFound(id.clone()))
}

/// Lists the ids of all runs, newest first: workbenches before entries, for the other order shows fresh runs as lost.
fn ids(home: &Home) -> Result<Vec<RunId>, FileError> {
    let mut ids = workbench_ids(home)?;
    ids.extend(Entry::list(home)?.iter().map(|entry| entry.id().clone()));
    ids.sort_by(|a, b| b.cmp(a));
    ids.dedup();
    Ok(ids)
}

/// Lists the workbenches of runs, in no order. Files, symlinks and other names are skipped (rule 1).
///
/// # Errors
/// The folder cannot be listed.
pub fn workbench_ids(home: &Home) -> Result<Vec<RunId>, FileError> {
    let directory = home.workbenches();
    let fail = |source| FileError::io("list", &directory, source);
    let mut ids = Vec::new();
    for file in std::fs::read_dir(&directory).map_err(fail)? {
        let file = file.map_err(fail)?;
        let id = file.file_name().to_str().and_then(|name| name.parse::<RunId>().ok());
        ids.extend(id.filter(|_| file.file_type().is_ok_and(|kind| kind.is_dir())));
    }
    Ok(ids)
}

struct Views<'a> {
    workplace: &'a Workplace,
    bounds: BoundsTable<'a>,
}

impl<'a> Views<'a> {
    fn new(workplace: &'a Workplace) -> Self {
        Self { workplace, bounds: BoundsTable::new(&workplace.home, &workplace.config) }
    }

    /// Shows runs in the given order; those that are gone by now are left out.
    fn of(&mut self, ids: &[RunId]) -> Vec<RunView> {
        let entries = ids.iter().map(|id| Entry::of(&self.workplace.home, id)).filter(Entry::exists).collect();
        let unfinished: BTreeMap<RunId, Assessment> =
            assess(entries).into_iter().map(|assessment| (assessment.entry.id().clone(), assessment)).collect();
        ids.iter().filter_map(|id| self.one(id, unfinished.get(id))).collect()
    }

    fn one(&mut self, id: &RunId, unfinished: Option<&Assessment>) -> Option<RunView> {
        match unfinished {
            Some(assessment) => Some(RunView::of_unfinished(self.workplace, assessment)),
            None if Workbench::of(&self.workplace.home, id).exists() => {
                Some(RunView::of_finished(self.workplace, id, self.bounds.get(id.routine())))
            }
            None => None,
        }
    }
}
