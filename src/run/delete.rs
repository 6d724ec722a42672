//! Deleting a routine, with its runs if they are to end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;

use super::context::Context;
use super::end::{EndError, Ended, Order, end_run};
use super::entry::Entry;
use super::id::RunId;
use super::liveness::{JUDGE_PATIENCE, Liveness, look};
use super::record::EndCause;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::process_tree::names;
use crate::routine::slug::Slug;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};

/// A routine was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// There is none of that name, or the system refuses.
    #[error(transparent)]
    Routine(#[from] StoreError),
    /// Runs of it are alive, or may be.
    #[error("the routine '{slug}' is not deleted, for it has unfinished runs: {}", in_words(unfinished))]
    Unfinished {
        /// The routine.
        slug: Slug,
        /// The runs, each with what is uncertain about it, ready to be appended.
        unfinished: Vec<(RunId, String)>,
    },
    /// Runs are started as fast as they are ended.
    #[error("the routine '{slug}' is not deleted, for runs of it are still being started; disable it, and try again")]
    Restless {
        /// The routine.
        slug: Slug,
    },
    /// A run could not be ended.
    #[error("the routine is not deleted: {0}")]
    NotEnded(#[from] EndError),
    /// Processes of a run could not be killed.
    #[error("the routine is not deleted, for these processes of the run {run} could not be killed: {left}; try again")]
    Survived {
        /// The run.
        run: RunId,
        /// The processes, ready to be read.
        left: String,
    },
    /// A run was ended, and its end cannot be recorded yet.
    #[error(
        "cannot delete the routine: the run {run} was ended, and its end cannot be recorded yet ({cause}); try again"
    )]
    Unrecorded {
        /// The run.
        run: RunId,
        /// Why not.
        cause: String,
    },
    /// The runs cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process holds the routines and does not let go.
    #[error("{0}; try again")]
    Locked(#[from] LockError),
}

/// Names unfinished runs, with what is uncertain about each.
#[must_use]
pub fn in_words(unfinished: &[(RunId, String)]) -> String {
    unfinished.iter().map(|(run, doubt)| format!("{run}{doubt}")).collect::<Vec<_>>().join(", ")
}

/// How often runs that were started meanwhile are ended too.
const ROUNDS: u32 = 3;

/// Which unfinished runs may be ended for the deletion of their routine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MayEnd {
    /// All there are.
    All,
    /// These; none if there are none.
    These(BTreeSet<RunId>),
}

impl MayEnd {
    fn allows(&self, run: &RunId) -> bool {
        match self {
            Self::All => true,
            Self::These(runs) => runs.contains(run),
        }
    }
}

/// What became of a routine that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The runs that were ended for it.
    pub ended: Vec<RunId>,
    /// Where its directory is now.
    pub archived_to: PathBuf,
}

/// Deletes a routine, readable or not, by moving it to the archive: a prompt cannot be had again. The workbenches of its finished
/// runs become orphans.
///
/// # Errors
/// There is no such routine, runs of it are unfinished and may not be ended, or cannot be.
pub fn delete(context: &Context, slug: &Slug, may_end: &MayEnd, by: &str) -> Result<Deleted, DeleteError> {
    let mut ended = Vec::new();
    for _ in 0..ROUNDS {
        store::check_exists(&context.home, slug)?;
        let Entries { unfinished, dead } = entries(context, slug)?;
        if unfinished.is_empty() {
            // A trigger claims its run under this lock, and looks for the routine there. Whether runs live takes too long to
            // be found out while others wait for it, and those that are dead stay so.
            let _lock = FileLock::acquire(&context.home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
            store::check_exists(&context.home, slug)?;
            if entries_of(context, slug)?.iter().all(|entry| dead.contains(entry.id())) {
                let archived_to = store::archive(&context.home, slug, UnixSeconds::now())?;
                return Ok(Deleted { ended, archived_to });
            }
            continue;
        }
        if !unfinished.iter().all(|(run, _)| may_end.allows(run)) {
            return Err(DeleteError::Unfinished { slug: slug.clone(), unfinished });
        }
        let runs = unfinished.into_iter().map(|(run, _)| run).collect::<Vec<_>>();
        end_all(context, slug, &runs, by)?;
        ended.extend(runs);
    }
    Err(DeleteError::Restless { slug: slug.clone() })
}

/// The runs of a routine that have entries.
#[derive(Default)]
struct Entries {
    /// Those that are not known to be dead, each with what is uncertain about it.
    unfinished: Vec<(RunId, String)>,
    dead: BTreeSet<RunId>,
}

fn entries(context: &Context, slug: &Slug) -> Result<Entries, FileError> {
    let mut entries = Entries::default();
    for one in look(&context.home, entries_of(context, slug)?, JUDGE_PATIENCE) {
        let run = one.entry.id().clone();
        let doubt = match one.liveness {
            Liveness::Dead => {
                entries.dead.insert(run);
                continue;
            }
            Liveness::Owned | Liveness::Unsupervised(_) => String::new(),
            Liveness::Unknown(cause) | Liveness::Judging(cause) => format!(" (unknown: {cause})"),
        };
        entries.unfinished.push((run, doubt));
    }
    Ok(entries)
}

fn entries_of(context: &Context, slug: &Slug) -> Result<Vec<Entry>, FileError> {
    Ok(Entry::list(&context.home)?.into_iter().filter(|entry| entry.id().routine() == slug).collect())
}

/// Ends runs at the same time: each may take its grace and more.
fn end_all(context: &Context, slug: &Slug, runs: &[RunId], by: &str) -> Result<(), DeleteError> {
    let order = &Order {
        cause: EndCause::Stopped,
        reason: format!("stopped, for its routine '{slug}' was deleted"),
        by: by.to_owned(),
    };
    let ends = std::thread::scope(|scope| {
        let start = |run| {
            let begun = std::thread::Builder::new().spawn_scoped(scope, move || end_run(context, run, order));
            // No thread to be had, as when such a run has eaten up all that there are: one after the other, then.
            begun.map_err(|_| run)
        };
        let begun: Vec<_> = runs.iter().map(start).collect();
        let wait = |begun: Result<ScopedJoinHandle<'_, _>, &RunId>| match begun {
            // One that failed unexpectedly is looked for again before anything is deleted.
            Ok(end) => end.join().unwrap_or(Ok(Ended::Already)),
            Err(run) => end_run(context, run, order),
        };
        begun.into_iter().map(wait).collect::<Vec<_>>()
    });
    for (run, end) in runs.iter().zip(ends) {
        match end? {
            Ended::Survived(left) => return Err(DeleteError::Survived { run: run.clone(), left: names(&left) }),
            Ended::Unrecorded(cause) => return Err(DeleteError::Unrecorded { run: run.clone(), cause }),
            Ended::Finished | Ended::Already => {}
        }
    }
    Ok(())
}
