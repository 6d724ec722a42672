//! Whether an unfinished run lives: by its lock, and by its processes. No window, and no missing one, says anything.

mod on_slurm;
mod waiting;

use std::time::{Duration, Instant};

use super::context::Context;
use super::entry::Entry;
use super::judge_locks::{Hold, JudgeLocks};
use super::record::{Manifest, RecordError};
use super::recorded_processes::RecordedProcesses;
use super::this_machine::Here;
use crate::process_tree::{Process, Scan, start_at};
use on_slurm::OnSlurm;

pub use on_slurm::{CLOCKS_DIFFER_SECS, Placed};
pub use waiting::{Unjudged, WaitingRuns};

/// What is known of the life of an unfinished run (rule 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// Alive: an owner (its trigger, its supervisor) holds its lock.
    Owned,
    /// Alive: nobody holds its lock, yet these processes are left of it.
    Unsupervised(Vec<Process>),
    /// Alive: its job waits on Slurm, and why.
    Queued(String),
    /// Alive: its job is alive on Slurm, where its lock may not reach, and where.
    Elsewhere(String),
    /// Finished: nobody holds its lock, and nothing of it is left.
    Dead,
    /// Nobody owns it, and another process has been judging it for longer than this one waited. It may be any of the other
    /// states, and soon is known to be one. In words, who judges it.
    Judging(String),
    /// It cannot be decided, and why. Such a run is never ended and never reaped.
    Unknown(String),
}

/// An unfinished run, looked at.
#[derive(Debug)]
pub struct Assessment {
    pub entry: Entry,
    pub manifest: Result<Manifest, RecordError>,
    pub liveness: Liveness,
    /// Its job, if it is a run on Slurm.
    pub placed: Placed,
    /// Its locks, held while nobody owns the run, so that the judgement stays true for as long as they are kept.
    locks: Option<JudgeLocks>,
}

impl Assessment {
    /// Gives up the hold on it.
    pub(super) fn let_go(self) -> Self {
        Self { locks: None, ..self }
    }

    /// Returns the judge's hold on a dead run, which alone permits recording its end.
    ///
    /// # Errors
    /// It is not dead, or not held.
    pub fn into_judgement(self) -> Result<Judgement, Box<Self>> {
        match self {
            Self { liveness: Liveness::Dead, manifest: Ok(manifest), locks: Some(locks), entry, placed } => {
                Ok(Judgement { entry, manifest, placed, _locks: locks })
            }
            other => Err(Box::new(other)),
        }
    }
}

/// Whether a supervisor had a run on its node. What cannot be read may say so.
pub fn was_taken(entry: &Entry) -> bool {
    !entry.supervisor_on_node().is_ok_and(|taken| taken.is_none())
}

/// A dead run whose locks we hold.
#[derive(Debug)]
pub struct Judgement {
    pub entry: Entry,
    pub manifest: Manifest,
    /// Its job, if it was a run on Slurm.
    pub placed: Placed,
    _locks: JudgeLocks,
}

/// How long judges are waited for, all runs of one look together. A judge holds a run for milliseconds, and longer only while it
/// records an end.
pub const JUDGE_LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long each single run is waited for at least, unless the caller does not wait at all: most judges are done by then.
const LEAST_JUDGE_TIMEOUT: Duration = Duration::from_millis(20);

/// How long all runs of a look are waited for at least, if the caller waits that long, after Slurm was.
const LEAST_LOCKS_TIMEOUT: Duration = Duration::from_secs(1);

/// How many runs are held, and so how many files are open, at once.
const RUNS_AT_ONCE: usize = 64;

/// Looks at unfinished runs and holds none of them afterwards; those that finish meanwhile are left out. Slurm is asked only by a
/// caller that waits for judges.
pub fn look(context: &Context, entries: Vec<Entry>, timeout: Duration) -> Vec<Assessment> {
    let deadline = Instant::now() + timeout;
    let mut entries = with_manifests(entries);
    let on_slurm = OnSlurm::ask(context, &entries, timeout);
    let mut seen = Vec::with_capacity(entries.len());
    while !entries.is_empty() {
        let some = entries.drain(..entries.len().min(RUNS_AT_ONCE)).collect();
        seen.extend(hold(context, some, &on_slurm, deadline, timeout).into_iter().map(Assessment::let_go));
    }
    seen
}

/// Looks at a few unfinished runs, and holds those that nobody owns for as long as their assessments are kept; those that finish
/// meanwhile are left out. Processes are listed only if nobody owns one of them.
pub fn judge(context: &Context, entries: Vec<Entry>, timeout: Duration) -> Vec<Assessment> {
    let deadline = Instant::now() + timeout;
    let entries = with_manifests(entries);
    // Before the locks, because Slurm may take seconds to answer.
    let on_slurm = OnSlurm::ask(context, &entries, timeout);
    hold(context, entries, &on_slurm, deadline, timeout)
}

type Manifested = (Result<Manifest, RecordError>, Entry);

/// All who hold several runs take them in one order, so that none waits for another in a circle.
fn with_manifests(mut entries: Vec<Entry>) -> Vec<Manifested> {
    entries.sort_unstable_by(|a, b| a.id().cmp(b.id()));
    entries.into_iter().map(|entry| (entry.manifest(), entry)).collect()
}

/// Takes their locks, until the deadline or a moment for each, and decides about them.
fn hold(
    context: &Context,
    entries: Vec<Manifested>,
    on_slurm: &OnSlurm,
    deadline: Instant,
    timeout: Duration,
) -> Vec<Assessment> {
    let least = if timeout.is_zero() { timeout } else { LEAST_JUDGE_TIMEOUT };
    // Slurm may have taken all of it.
    let deadline = deadline.max(Instant::now() + timeout.min(LEAST_LOCKS_TIMEOUT));
    let held: Vec<_> = entries
        .into_iter()
        .map(|(manifest, entry)| {
            let hold = Hold::take(&entry, deadline.max(Instant::now() + least));
            (entry, manifest, hold)
        })
        .filter(|(_, _, hold)| !matches!(hold, Hold::Gone))
        .collect();
    let here = Here::of(&context.home);
    // After the locks are taken, so that what a dying supervisor still started is seen; twice, for a process that is
    // just becoming another program shows no environment for a moment.
    let is_ours = |manifest: &Result<Manifest, RecordError>| manifest.as_ref().is_ok_and(|one| !one.is_on_slurm());
    let needs_scan = held.iter().any(|(_, manifest, hold)| matches!(hold, Hold::Unowned(_)) && is_ours(manifest));
    let scan = needs_scan.then(Scan::take_twice);
    held.into_iter()
        .map(|(entry, manifest, hold)| {
            let alive = |manifest: &Manifest| match &scan {
                // Its node alone sees its processes, and Slurm ends them.
                _ if manifest.is_on_slurm() => Ok(Vec::new()),
                Some(Ok(scan)) => left_of(&entry, manifest, &here, scan),
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(Vec::new()),
            };
            let liveness = decide(&hold, manifest.as_ref(), &here, alive);
            let (liveness, placed) = on_slurm.decide(&context.home, &entry, &manifest, liveness);
            let locks = match hold {
                Hold::Unowned(locks) => Some(locks),
                _ => None,
            };
            Assessment { entry, manifest, liveness, placed, locks }
        })
        .collect()
}

/// Looks at a run on the node on which it took place, and holds it if nobody owns it: what its processes are is seen only there.
/// `None` if it is finished, or was not here.
pub fn judge_on_node(context: &Context, entry: Entry, timeout: Duration) -> Option<Assessment> {
    let hold = Hold::take(&entry, Instant::now() + timeout);
    let manifest = entry.manifest();
    let here = Here::of(&context.home);
    let taken = entry.supervisor().ok().flatten()?;
    let scan = Scan::take_twice();
    let alive = |manifest: &Manifest| match &scan {
        // Nothing outlives a boot.
        Ok(_) if taken.boot_id != here.boot_id && !here.boot_id.is_empty() => Ok(Vec::new()),
        Ok(_) if !here.is_where(&taken) => Err("its processes were in another container of this node".to_owned()),
        Ok(scan) => left_of(&entry, manifest, &here, scan),
        Err(error) => Err(error.to_string()),
    };
    let liveness = decide(&hold, manifest.as_ref(), &here, alive);
    let locks = match hold {
        Hold::Gone => return None,
        Hold::Unowned(locks) => Some(locks),
        _ => None,
    };
    Some(Assessment { entry, manifest, liveness, placed: Placed::default(), locks })
}

/// Returns the processes that are left of a run: those with its cookie, those below them, and those that were written down
/// and are still the same.
///
/// # Errors
/// It cannot be decided, and why.
fn left_of(entry: &Entry, manifest: &Manifest, here: &Here, scan: &Scan) -> Result<Vec<Process>, String> {
    let written = RecordedProcesses::read(entry, manifest, here).map_err(|error| error.to_string())?;
    let mut left = scan.carriers(&manifest.cookie);
    let below = scan.members(&manifest.cookie, &written.belonging());
    left.extend(below.into_iter().filter(|process| !left.contains(process)).collect::<Vec<_>>());
    for (id, name) in written.named() {
        if id.is_alive() && !left.iter().any(|process| process.id == id) {
            left.push(Process { id, name: name.to_owned() });
        }
    }
    if let Some(began) = written.began.as_ref().filter(|_| left.is_empty()) {
        let reapers = written.reaper.into_iter().collect();
        let hidden = scan.hidden_orphans(start_at(began.since_boot_ms), &reapers);
        if let Some(one) = hidden.first() {
            return Err(format!("{one} hides its environment and started after the run; it may belong to it"));
        }
    }
    Ok(left)
}

fn decide(
    hold: &Hold,
    manifest: Result<&Manifest, &RecordError>,
    here: &Here,
    left: impl FnOnce(&Manifest) -> Result<Vec<Process>, String>,
) -> Liveness {
    // Before the locks: those of a copied home say nothing of the original's runs, nor do its processes.
    if let Some(cause) = manifest.ok().and_then(|manifest| here.another_home(manifest)) {
        return Liveness::Unknown(cause);
    }
    match (hold, manifest) {
        (Hold::Owned, _) => Liveness::Owned,
        (Hold::Judging(by), _) => Liveness::Judging(by.clone()),
        (Hold::Unreadable(cause), _) => Liveness::Unknown(cause.clone()),
        (Hold::Unowned(_) | Hold::Gone, Err(error)) => Liveness::Unknown(error.to_string()),
        (Hold::Unowned(_) | Hold::Gone, Ok(manifest)) => match here.another_machine(manifest) {
            Some(cause) => Liveness::Unknown(cause),
            None => match left(manifest) {
                Ok(processes) if processes.is_empty() => Liveness::Dead,
                Ok(processes) => Liveness::Unsupervised(processes),
                Err(cause) => Liveness::Unknown(cause),
            },
        },
    }
}

#[cfg(test)]
mod tests;
