//! Which runs have a workbench or an entry.

use std::collections::HashSet;

use super::continuation::Continuation;
use super::continuation::index::Continuations;
use super::entry::Entry;
use super::id::{RunId, parts};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::names::{self, Kind};
use crate::routine::slug::Slug;

/// Lists the runs that are not reaped, newest first. Workbenches are listed before entries: the other order shows fresh runs as
/// lost.
pub fn ids(home: &Home) -> Result<Vec<RunId>, FileError> {
    let mut ids = ids_with_workbench(home)?;
    ids.extend(Entry::list(home)?.iter().map(|entry| entry.id().clone()));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.dedup();
    Ok(ids)
}

/// Lists the runs whose workbench is there, in no order: those that one was made for, and those that went on in one.
pub fn ids_with_workbench(home: &Home) -> Result<Vec<RunId>, FileError> {
    let mut ids = workbench_ids(home)?;
    let continuations = Continuations::read(home)?;
    let mut continued: Vec<&Continuation> = continuations.iter().collect();
    if !continued.is_empty() {
        let there: HashSet<&RunId> = ids.iter().collect();
        continued.retain(|one| there.contains(&one.workbench));
    }
    ids.extend(continued.into_iter().map(|one| one.run.clone()));
    Ok(ids)
}

/// Lists the workbenches by their names, in no order. Files, symlinks and other names are skipped (rule 1).
pub fn workbench_ids(home: &Home) -> Result<Vec<RunId>, FileError> {
    let mut ids = Vec::new();
    // The runs of a routine share its name.
    let mut slugs: HashSet<Slug> = HashSet::new();
    scan_workbenches(home, |slug, stamp| {
        let shared = slugs.get(slug).cloned().or_else(|| {
            let slug: Slug = slug.parse().ok()?;
            slugs.insert(slug.clone());
            Some(slug)
        });
        ids.extend(shared.map(|slug| RunId::new(slug, stamp)));
    })?;
    Ok(ids)
}

/// Calls `see` with the routine's name and the second of each run that has a workbench, without making a list: there may be very
/// many.
pub fn scan_workbenches(home: &Home, mut see: impl FnMut(&str, UnixSeconds)) -> Result<(), FileError> {
    names::scan(&home.workbenches(), |name, kind| {
        if kind == Kind::Directory
            && let Some((slug, stamp)) = parts(name)
        {
            see(slug, stamp);
        }
    })
}
