//! Runs that go on in the workbench of another: which run continued which, and where.
//!
//! `continuations/<run>.json` names the run that continues `<run>`: of any number of processes that want to continue it, one makes
//! that file, and its run owns the workbench from then on. The workbench keeps the name of its first run, because agents find their
//! sessions by it; `workbenches/<continuation>` is a link to it.

pub(crate) mod index;
pub mod predecessor;
pub(crate) mod take_over;
pub(crate) mod tidy;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::claim::STAGED_MIN_AGE;
use super::context::Context;
use super::entry::Entry;
use super::id::RunId;
use super::record::{self, RECORD_VERSION, RecordError};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::home::{Home, make_parent};

/// `continuations/<run>.json`: which run goes on where another ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    /// [`RECORD_VERSION`] when it was written.
    pub version: u32,
    /// The run that goes on.
    pub run: RunId,
    /// The run that it continues.
    pub continues: RunId,
    /// The name of the workbench of both: that of the first run in it.
    pub workbench: RunId,
    /// When it was claimed.
    pub at: UnixSeconds,
}

/// How many runs one workbench may see: more than any honest chain, so that a damaged one has an end.
const MAX_CHAIN: usize = 1_000;

impl Continuation {
    /// Describes a continuation that is claimed now.
    pub(crate) fn now(run: &RunId, continues: &RunId, workbench: &RunId) -> Self {
        let (run, continues, workbench) = (run.clone(), continues.clone(), workbench.clone());
        Self { version: RECORD_VERSION, run, continues, workbench, at: UnixSeconds::now() }
    }

    /// Writes it down, unless another continues the same run; returns whether it was written.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn create(&self, home: &Home) -> Result<bool, FileError> {
        let file = file(home, &self.continues);
        make_parent(&file)?;
        atomic_file::write_json_once(&file, self)
    }

    /// Makes the name of the run in `workbenches/` a link to the workbench that it goes on in. One that is there already is fine.
    ///
    /// # Errors
    /// The system's, or something else has that name.
    pub(crate) fn link(&self, home: &Home) -> Result<(), FileError> {
        let (link, target) = (link_path(home, &self.run), self.workbench.to_string());
        match std::os::unix::fs::symlink(&target, &link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => match std::fs::read_link(&link) {
                Ok(there) if there == Path::new(&target) => Ok(()),
                _ => Err(FileError::io("make", &link, error)),
            },
            made => made.map_err(|source| FileError::io("make", &link, source)),
        }
    }
}

fn file(home: &Home, predecessor: &RunId) -> PathBuf {
    home.continuations().join(format!("{predecessor}.json"))
}

fn link_path(home: &Home, run: &RunId) -> PathBuf {
    home.workbenches().join(run.to_string())
}

/// Returns the workbench to which the name of a run is a link; `None` if it is none of ours.
pub(super) fn linked_workbench(home: &Home, run: &RunId) -> Option<RunId> {
    let target: RunId = std::fs::read_link(link_path(home, run)).ok()?.to_str()?.parse().ok()?;
    (target.routine() == run.routine() && target < *run).then_some(target)
}

/// Returns the name of the workbench that a run has or had, which is also that of what was archived of it.
pub(crate) fn workbench_name(context: &Context, run: &RunId) -> RunId {
    let past = || context.history.find(&context.home, run).ok().flatten();
    linked_workbench(&context.home, run).or_else(|| past()?.outcome.workbench).unwrap_or_else(|| run.clone())
}

/// Whether a run that was to continue another came to be: a process may have died before that.
pub(crate) fn was_claimed(context: &Context, run: &RunId) -> bool {
    let home = &context.home;
    Entry::of(home, run).exists() || !context.history.find(home, run).is_ok_and(|past| past.is_none())
}

/// Whether another run continues this one. A record that cannot be looked at counts as there.
pub(crate) fn is_continued(home: &Home, run: &RunId) -> bool {
    match file(home, run).symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Reads which run continues this one, if one does.
///
/// # Errors
/// That is not known: its record is unreadable, damaged, about another run or newer than this program.
pub(crate) fn after(home: &Home, run: &RunId) -> Result<Option<Continuation>, RecordError> {
    let file = file(home, run);
    match record::read::<Continuation>(&file) {
        Ok(one) if one.continues == *run && one.run > *run => Ok(Some(one)),
        Ok(one) => Err(FileError::damaged(&file, format_args!("it is about the run {}", one.continues)).into()),
        Err(RecordError::File(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns all runs of a workbench, the oldest first: at least the one that it was made for.
///
/// # Errors
/// One of the records cannot be read: which run owns the workbench is not known.
pub(crate) fn runs_of(home: &Home, workbench: &RunId) -> Result<Vec<RunId>, RecordError> {
    let continued = chain(home, workbench)?.into_iter().map(|one| one.run);
    Ok(std::iter::once(workbench.clone()).chain(continued).collect())
}

/// Returns the records of all runs that went on in a workbench, the oldest first.
fn chain(home: &Home, workbench: &RunId) -> Result<Vec<Continuation>, RecordError> {
    let mut chain: Vec<Continuation> = Vec::new();
    while let Some(next) = after(home, chain.last().map_or(workbench, |last| &last.run))? {
        chain.push(next);
        if chain.len() == MAX_CHAIN {
            let damage = format_args!("more than {MAX_CHAIN} runs continue each other");
            return Err(FileError::damaged(&file(home, workbench), damage).into());
        }
    }
    Ok(chain)
}

/// Whether any run of a workbench is unfinished. Where that is not known it may be.
pub(crate) fn is_any_unfinished(home: &Home, workbench: &RunId) -> bool {
    runs_of(home, workbench).map_or(true, |runs| runs.iter().any(|run| Entry::of(home, run).exists()))
}

/// Whether any run of a workbench is unfinished, or is being claimed: then the workbench must be where it is.
pub(crate) fn is_claimed(home: &Home, workbench: &RunId) -> bool {
    let Ok(chain) = chain(home, workbench) else { return true };
    let is_fresh = |one: &Continuation| one.at.age_secs_at(UnixSeconds::now()) <= STAGED_MIN_AGE.as_secs();
    let mut runs = std::iter::once(workbench).chain(chain.iter().map(|one| &one.run));
    runs.any(|run| Entry::of(home, run).exists()) || chain.last().is_some_and(is_fresh)
}

/// Takes back that a run continues another, which never came to be. The caller holds the lock under which runs are claimed.
///
/// # Errors
/// The system's.
pub(crate) fn withdraw(home: &Home, run: &RunId, predecessor: &RunId) -> Result<(), FileError> {
    atomic_file::remove_if_present(&link_path(home, run))?;
    atomic_file::remove_if_present(&file(home, predecessor)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::workbench::Workbench;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    fn id(text: &str) -> RunId {
        text.parse().unwrap()
    }

    fn claim(home: &Home, run: &str, continues: &str) -> Continuation {
        let claimed = Continuation::now(&id(run), &id(continues), &id("a-1"));
        assert!(claimed.create(home).unwrap());
        claimed.link(home).unwrap();
        claimed
    }

    #[test]
    fn each_run_of_a_chain_finds_the_workbench_and_its_own_files() {
        let (_dir, home) = home();
        Workbench::named(&home, &id("a-1")).make().unwrap();
        assert_eq!(runs_of(&home, &id("a-1")).unwrap(), [id("a-1")]);
        let second = claim(&home, "a-5", "a-1");
        claim(&home, "a-9", "a-5");
        second.link(&home).unwrap();
        assert_eq!(runs_of(&home, &id("a-1")).unwrap(), ["a-1", "a-5", "a-9"].map(id));
        let root = home.workbenches().join("a-1");
        for run in ["a-1", "a-5"] {
            std::fs::create_dir_all(root.join("previous").join(run)).unwrap();
        }
        for (run, files) in [("a-1", "previous/a-1"), ("a-5", "previous/a-5"), ("a-9", "")] {
            let workbench = Workbench::of(&home, &id(run));
            assert_eq!(workbench.directory(), root, "{run}");
            assert_eq!(workbench.log(), root.join(files).join("agent.log"));
        }
        let other = Continuation::now(&id("a-7"), &id("a-1"), &id("a-1"));
        assert!(!other.create(&home).unwrap(), "one run continues another");
    }

    #[test]
    fn a_link_that_is_not_ours_leads_nowhere() {
        let (dir, home) = home();
        for (name, target) in [("a-5", "/etc"), ("a-6", "../running"), ("a-7", "b-1"), ("a-8", "a-9"), ("a-3", "a-3")] {
            std::os::unix::fs::symlink(target, home.workbenches().join(name)).unwrap();
            assert_eq!(Workbench::of(&home, &id(name)).directory(), home.workbenches().join(name), "{target}");
        }
        let there = Continuation::now(&id("a-5"), &id("a-1"), &id("a-1"));
        assert!(there.link(&home).is_err(), "it is a person's");
        drop(dir);
    }

    #[test]
    fn a_damaged_record_is_unknown_and_no_end_of_the_chain() {
        let (_dir, home) = home();
        claim(&home, "a-5", "a-1");
        let backwards = Continuation { run: id("a-0"), ..Continuation::now(&id("a-9"), &id("a-5"), &id("a-1")) };
        for text in ["{".to_owned(), r#"{"version":99}"#.to_owned(), serde_json::to_string(&backwards).unwrap()] {
            std::fs::write(file(&home, &id("a-5")), &text).unwrap();
            assert!(runs_of(&home, &id("a-1")).is_err() && is_any_unfinished(&home, &id("a-1")), "{text}");
            assert!(is_continued(&home, &id("a-5")));
        }
    }
}
