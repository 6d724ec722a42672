//! Runs that have an outcome and no line: a power cut took their lines, which versions before 0.2 did not sync. They get
//! their lines before anything else of them goes.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::files::{self, HistoryFile};
use super::{Known, UpdateError, append, search};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::config::Config;
use crate::run::context::Context;
use crate::run::continuation::index::Continuations;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::on_disk::ids_with_workbench;
use crate::run::outcome_file::read_outcome;
use crate::run::record::Outcome;
use crate::run::workbench::Workbench;

/// Some runs have no line yet.
#[derive(Debug, thiserror::Error)]
#[error("cannot add missing lines to the history: {source}")]
pub struct Incomplete {
    /// The workbenches of those that are known to have none: nothing else is left of them.
    pub workbenches: HashSet<RunId>,
    source: UpdateError,
}

/// Gives every run that ended its line, unless the history dropped it on purpose. No hook runs, and nothing is counted. Once
/// in a process is enough: a power cut would have ended it. The caller holds the lock of a sweep, so nobody else does the same.
///
/// # Errors
/// The history cannot be read or written; the next call tries again.
pub fn complete(context: &Context) -> Result<(), Incomplete> {
    let Context { home, config, history, .. } = context;
    if history.is_complete.load(Ordering::Relaxed) {
        return Ok(());
    }
    let holes = find(context).map_err(|error| Incomplete { workbenches: HashSet::new(), source: error.into() })?;
    for (at, outcome) in holes.iter().enumerate() {
        append(home, config, outcome, Known::New).map_err(|source| Incomplete {
            workbenches: holes[at..].iter().map(|outcome| outcome.workbench_name().clone()).collect(),
            source,
        })?;
    }
    if !holes.is_empty() {
        tracing::info!(runs = holes.len(), "added missing lines to the history");
    }
    history.is_complete.store(true, Ordering::Relaxed);
    Ok(())
}

/// Finds the runs without a line, in the order of their ends. Reads workbenches, then entries, then the history, because a run
/// loses its entry after it has got its line.
fn find(context: &Context) -> Result<Vec<Outcome>, FileError> {
    let home = &context.home;
    let mut suspects: HashSet<RunId> = ids_with_workbench(home)?.into_iter().collect();
    for entry in Entry::list(home)? {
        suspects.remove(entry.id());
    }
    let files = files::list(home)?;
    if let Some(oldest) = suspects.iter().map(RunId::stamp).min() {
        search(&files, oldest, |run| {
            suspects.remove(&run);
            if suspects.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    let kept_since = kept_since(&files, &context.config, UnixSeconds::now());
    // A workbench without an outcome is another program's, or damaged, which the sweep reports.
    let continuations = Continuations::read(home)?;
    let outcomes = suspects.iter().filter_map(|run| outcome_of(home, run, &continuations));
    let mut holes: Vec<Outcome> = outcomes.filter(|outcome| outcome.finished_at > kept_since).collect();
    holes.sort_by_key(|outcome| outcome.finished_at);
    Ok(holes)
}

/// Reads the outcome of a run; which workbench it was in is for the records to say.
fn outcome_of(home: &Home, run: &RunId, continuations: &Continuations) -> Option<Outcome> {
    let outcome = read_outcome(&Workbench::of(home, run), run).ok()?;
    let record = continuations.of(run).cloned();
    let (continues, workbench) = record.map(|one| (one.continues, one.workbench)).unzip();
    Some(Outcome { continues, workbench, ..outcome })
}

/// Returns the time after which no line was dropped on purpose: what ended later and has none has lost it.
fn kept_since(files: &[HistoryFile], config: &Config, now: UnixSeconds) -> UnixSeconds {
    let by_age = UnixSeconds(now.0.saturating_sub(config.history_age_secs));
    // Room is made when there is too much, and never leaves so little.
    if files.iter().map(|file| file.stamp.size()).sum::<u64>() < config.max_history_bytes / 2 {
        return by_age;
    }
    // Whole files go, the oldest first: what was written after the oldest that is left was closed is still there.
    files.iter().filter_map(|file| file.closed_at).min().map_or(by_age, |closed_at| closed_at.max(by_age))
}
