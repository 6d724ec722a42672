//! Deleting a routine, with its runs if they are to end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;

use super::context::Context;
use super::end::{EndError, Ended, Order, end_run};
use super::entry::Entry;
use super::id::RunId;
use super::liveness::{JUDGE_LOCK_TIMEOUT, Liveness, look};
use super::record::EndCause;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::process_tree::names;
use crate::routine::slug::Slug;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};
use crate::routine::webhook_token;

/// Unfinished runs, each with what is uncertain about it, ready to be appended.
type Unfinished = Vec<(RunId, String)>;

#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error(transparent)]
    Routine(#[from] StoreError),
    #[error("cannot delete routine '{slug}': it has unfinished runs: {}", in_words(unfinished))]
    Unfinished { slug: Slug, unfinished: Unfinished },
    #[error("cannot delete routine '{slug}': new runs of it keep starting; disable it, and try again")]
    Restless { slug: Slug },
    #[error("cannot delete the routine: {0}")]
    NotEnded(#[from] EndError),
    #[error("cannot delete the routine: these processes of the run {run} could not be killed: {left}; try again")]
    Survived { run: RunId, left: String },
    #[error(
        "cannot delete the routine: the run {run} was ended, and its end cannot be recorded yet ({cause}); try again"
    )]
    Unrecorded { run: RunId, cause: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}; try again")]
    Locked(#[from] LockError),
}

/// Names unfinished runs, with what is uncertain about each.
pub fn in_words(unfinished: &[(RunId, String)]) -> String {
    unfinished.iter().map(|(run, doubt)| format!("{run}{doubt}")).collect::<Vec<_>>().join(", ")
}

/// How often runs that start meanwhile are ended too.
const ROUNDS: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    pub ended: Vec<RunId>,
    pub archived_to: PathBuf,
}

/// Deletes a routine, readable or not, by moving it to the archive: nobody else has the prompt. The workbenches of its finished
/// runs become orphans, and its webhooks' tokens are removed. Ends its unfinished runs, if all of them are among those `agreed` to; `None` agrees to any.
pub fn delete(
    context: &Context,
    slug: &Slug,
    agreed: Option<&BTreeSet<RunId>>,
    by: &str,
) -> Result<Deleted, DeleteError> {
    let mut ended = Vec::new();
    for _ in 0..ROUNDS {
        store::check_exists(&context.home, slug)?;
        let (unfinished, dead) = entries(context, slug)?;
        if unfinished.is_empty() {
            // A trigger claims its run under this lock, and looks for the routine there. Judging runs would take too long under
            // it, and is not needed again: the dead stay dead.
            let _lock = FileLock::acquire(&context.home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
            store::check_exists(&context.home, slug)?;
            if Entry::of_routine(&context.home, slug)?.iter().all(|entry| dead.contains(entry.id())) {
                // First: after a crash in between, none of them opens anything.
                webhook_token::remove_of(&context.home, slug)?;
                let archived_to = store::archive(&context.home, slug, UnixSeconds::now())?;
                return Ok(Deleted { ended, archived_to });
            }
            continue;
        }
        if agreed.is_some_and(|agreed| !unfinished.iter().all(|(run, _)| agreed.contains(run))) {
            return Err(DeleteError::Unfinished { slug: slug.clone(), unfinished });
        }
        let runs = unfinished.into_iter().map(|(run, _)| run).collect::<Vec<_>>();
        end_all(context, slug, &runs, by)?;
        ended.extend(runs);
    }
    Err(DeleteError::Restless { slug: slug.clone() })
}

/// Returns the runs of a routine that have entries: those not known to be dead, and the dead.
fn entries(context: &Context, slug: &Slug) -> Result<(Unfinished, BTreeSet<RunId>), FileError> {
    let (mut unfinished, mut dead) = (Vec::new(), BTreeSet::new());
    for one in look(context, Entry::of_routine(&context.home, slug)?, JUDGE_LOCK_TIMEOUT) {
        let run = one.entry.id().clone();
        let doubt = match one.liveness {
            Liveness::Dead => {
                dead.insert(run);
                continue;
            }
            Liveness::Owned | Liveness::Unsupervised(_) | Liveness::Queued(_) | Liveness::Elsewhere(_) => String::new(),
            Liveness::Unknown(cause) | Liveness::Judging(cause) => format!(" (unknown: {cause})"),
        };
        unfinished.push((run, doubt));
    }
    Ok((unfinished, dead))
}

/// Ends runs at the same time: each may take its grace and more.
fn end_all(context: &Context, slug: &Slug, runs: &[RunId], by: &str) -> Result<(), DeleteError> {
    let order = &Order {
        cause: EndCause::Stopped,
        reason: format!("stopped, because its routine '{slug}' was deleted"),
        by: by.to_owned(),
    };
    let ends = std::thread::scope(|scope| {
        let start = |run| {
            let begun = std::thread::Builder::new().spawn_scoped(scope, move || end_run(context, run, order));
            // Without a thread, as when such a run has taken all there are, one after the other.
            begun.map_err(|_| run)
        };
        let begun: Vec<_> = runs.iter().map(start).collect();
        let wait = |begun: Result<ScopedJoinHandle<'_, _>, &RunId>| match begun {
            // The run of a thread that panicked is looked at again before anything is deleted.
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
