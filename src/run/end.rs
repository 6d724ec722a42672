//! Ending a run: one way for every caller.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::context::Context;
use super::end_on_slurm;
use super::entry::Entry;
use super::id::RunId;
use super::judge_locks::Hold;
use super::liveness::{self, JUDGE_LOCK_TIMEOUT, Judgement, Liveness};
use super::log;
use super::own_tree;
use super::record::{EndCause, EndRequest, Manifest, RecordError};
use super::recorded_processes::RecordedProcesses;
use super::recording::record_abandoned;
use super::this_machine::Here;
use super::workbench::Workbench;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::process_tree::{KnownProcesses, Process, ProcessId, Scan, ScanError};

/// Who wants a run ended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What the run's status follows from.
    pub cause: EndCause,
    /// The reason in words, with the numbers.
    pub reason: String,
    pub by: String,
}

impl Order {
    /// Returns the request that records an order given now.
    pub(crate) fn request(&self, workbench: &Workbench, manifest: &Manifest) -> EndRequest {
        EndRequest {
            cause: self.cause,
            reason: self.reason.clone(),
            by: self.by.clone(),
            at: UnixSeconds::now(),
            last_output: workbench.last_output_or(manifest.triggered.at),
        }
    }
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Nothing of the run is alive, and its end is recorded.
    Finished,
    /// Nothing of the run is alive, and its end cannot be recorded yet, for this reason. It will be once that is over.
    Unrecorded(String),
    /// It had been finished before.
    Already,
    /// These could not be killed; the run counts as alive until they are gone.
    Survived(Vec<Process>),
}

/// A run could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// There is no such run.
    #[error("there is no run '{0}'; see them all with list_runs (moadim-mcp runs)")]
    NotFound(RunId),
    /// Nothing certain can be said about it, so it is not touched.
    #[error(
        "cannot end the run {run}: its state is unknown: {cause}; once you know that it is over: moadim-mcp forget {run}"
    )]
    Unknown { run: RunId, cause: String },
    /// A file of the run could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Processes could not be listed, so that nothing was killed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Its supervisor or Slurm was asked to end it, and has not finished.
    #[error("the run {run} is still ending: {cause}; the watchdog will finish it")]
    Pending { run: RunId, cause: String },
    /// It was asked to end, and nothing certain is known of it, so that nobody goes on with it before that changes.
    #[error(
        "the run {run} was asked to end, and it is not known whether it has: {cause}; once you know that it is over: moadim-mcp forget {run}"
    )]
    Unconfirmed { run: RunId, cause: String },
    /// Its processes were ended, and then it could not be judged.
    #[error(
        "the processes of the run {run} were ended, and its end cannot be recorded yet: {cause}; the watchdog will retry"
    )]
    Unjudged { run: RunId, cause: String },
}

/// How much longer than the grace a supervisor gets before it is ended itself.
pub const SUPERVISOR_MARGIN: Duration = Duration::from_secs(5);

/// Asks a supervisor to end its run although no request is on disk. TERM without a request means that something outside ends
/// the run.
pub const UNWRITTEN_REQUEST: Signal = Signal::USR1;

/// Ends a run: asks its supervisor, and does its work if it does not. Takes the grace and at most ten seconds more, and a look at Slurm
/// where that placed it.
///
/// # Errors
/// The run does not exist, nothing certain is known of it, or the system refuses.
pub fn end_run(context: &Context, id: &RunId, order: &Order) -> Result<Ended, EndError> {
    let entry = Entry::of(&context.home, id);
    let here = Here::of(&context.home);
    let Some(manifest) = manifest_of_ours(context, &entry, &here)? else { return Ok(Ended::Already) };
    let workbench = manifest.workbench(&context.home);
    let request = order.request(&workbench, &manifest);
    let unwritten = match entry.request_end(&request) {
        Err(_) if !entry.exists() => return Ok(Ended::Already),
        // A full disk may be this very run's doing: it is ended all the same, and the reason is kept in memory until then.
        Err(error) => {
            context.unwritten_ends.keep(id, &request);
            context.unwritten_ends.write_when_possible(&context.home);
            Some(error)
        }
        Ok(_) => None,
    };
    if manifest.is_on_slurm() {
        return end_on_slurm::end(context, &entry);
    }
    let written = RecordedProcesses::read(&entry, &manifest, &here).unwrap_or_default();
    let supervisor = written.supervisor;
    let announce = unwritten.is_some() && written.takes_unwritten_request;
    let ask = if announce { UNWRITTEN_REQUEST } else { Signal::TERM };
    if let Some(supervisor) = supervisor
        && let Err(error) = context.local().wake(supervisor, ask)
    {
        // It looks at the request by itself, a second later.
        tracing::warn!(run = %id, %error, "the supervisor could not be signalled");
    }
    let grace = Duration::from_secs(context.config.kill_grace_secs);
    let asked = Instant::now();
    let (grace, locks) = match await_supervisor(&entry, grace + SUPERVISOR_MARGIN) {
        Hold::Gone => return Ok(Ended::Finished),
        // An owner that gave up has asked all of them, and waited.
        Hold::Unowned(locks) => (grace.saturating_sub(asked.elapsed()), Some(locks)),
        // It has done its work, and holds the reason until the disk takes it.
        _ if unwritten.is_some() && is_alone(&manifest, supervisor)? => {
            return Ok(Ended::Unrecorded(unwritten.map_or_else(String::new, |error| error.to_string())));
        }
        Hold::Owned | Hold::Judging(_) | Hold::Unreadable(_) => (Duration::ZERO, None),
    };
    let (mut record, processes) = KnownRecord::open(&context.home, &entry, &manifest);
    let survivors = context.local().end(&manifest.cookie, supervisor, processes, grace, &mut |processes| {
        record.note(processes);
    })?;
    // Held until here, where nobody owns the run, so that one process at a time ends it. Of two, one may be a process of the run
    // itself, a server that its agent started: killed by the other halfway, it would have ended parents whose children nobody
    // recognises any more. The judgement below takes them again.
    drop(locks);
    if !survivors.is_empty() {
        return Ok(Ended::Survived(survivors));
    }
    let first = entry.end_request().ok().flatten();
    log::append_note(&workbench, &first.unwrap_or(request).reason);
    judge(context, &entry)
}

/// Whether nothing of a run is left but its supervisor.
fn is_alone(manifest: &Manifest, supervisor: Option<ProcessId>) -> Result<bool, ScanError> {
    let Some(supervisor) = supervisor.filter(|supervisor| supervisor.is_alive()) else { return Ok(false) };
    let left = Scan::take_twice()?.members(&manifest.cookie, &HashSet::from([supervisor]));
    Ok(left.iter().all(|process| process.id == supervisor))
}

/// Reads the manifest of a run that is ours to end; `None` if the run is finished.
fn manifest_of_ours(context: &Context, entry: &Entry, here: &Here) -> Result<Option<Manifest>, EndError> {
    let unknown = |cause: String| Err(EndError::Unknown { run: entry.id().clone(), cause });
    match entry.manifest() {
        Ok(manifest) => here.stranger(&manifest).map_or(Ok(Some(manifest)), unknown),
        Err(_) if !entry.exists() && Workbench::of(&context.home, entry.id()).exists() => Ok(None),
        Err(_) if !entry.exists() && context.history.find(&context.home, entry.id())?.is_some() => Ok(None),
        Err(_) if !entry.exists() => Err(EndError::NotFound(entry.id().clone())),
        Err(RecordError::File(error)) => unknown(error.to_string()),
        Err(error @ RecordError::Newer { .. }) => unknown(error.to_string()),
    }
}

/// The pauses between two looks at whether a supervisor has done its work: many may be waited for at the same time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

/// Waits until the run has no owner any more.
fn await_supervisor(entry: &Entry, timeout: Duration) -> Hold {
    let deadline = Instant::now() + timeout;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let hold = Hold::take(entry, deadline);
        if matches!(hold, Hold::Gone | Hold::Unowned(_)) || Instant::now() >= deadline {
            return hold;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends the processes of the run whose supervisor we are, but for ourselves, and returns those that outlived it. `on_pass` is
/// called after each look at the processes.
///
/// # Errors
/// The processes cannot be listed: some may have been signalled, and nothing is known of what is left.
pub fn end_own_processes(
    home: &Home,
    entry: &Entry,
    manifest: &Manifest,
    grace: Duration,
    on_pass: &mut dyn FnMut(),
) -> Result<Vec<Process>, ScanError> {
    let (mut record, processes) = KnownRecord::open(home, entry, manifest);
    own_tree::end(home, &manifest.cookie, processes, grace, &mut |processes| {
        record.note(processes);
        on_pass();
    })
}

/// Ends the processes of a run that are left on this node without a supervisor, and returns those that outlived it.
///
/// # Errors
/// The processes cannot be listed: some may have been signalled, and nothing is known of what is left.
pub fn end_on_this_node(context: &Context, entry: &Entry, manifest: &Manifest) -> Result<Vec<Process>, ScanError> {
    let (mut record, processes) = KnownRecord::open(&context.home, entry, manifest);
    let grace = Duration::from_secs(context.config.kill_grace_secs);
    context.local().end(&manifest.cookie, None, processes, grace, &mut |processes| record.note(processes))
}

/// Keeps on disk which processes are being ended.
struct KnownRecord<'a> {
    entry: &'a Entry,
    here: Here,
    /// What is on disk; `None` where that cannot be read just now, and is not written over.
    noted: Option<KnownProcesses>,
}

impl<'a> KnownRecord<'a> {
    /// Reads what those who ended this run before have found.
    fn open(home: &Home, entry: &'a Entry, manifest: &Manifest) -> (Self, KnownProcesses) {
        let here = Here::of(home);
        let noted = RecordedProcesses::read(entry, manifest, &here).ok().map(|written| written.processes);
        let processes = noted.clone().unwrap_or_default();
        (Self { entry, here, noted }, processes)
    }

    fn note(&mut self, processes: &KnownProcesses) {
        let Some(noted) = &mut self.noted else { return };
        if noted != processes {
            noted.clone_from(processes);
            if let Err(error) = self.entry.set_processes(&self.here.processes_record(processes.clone())) {
                tracing::warn!(run = %self.entry.id(), %error, "the processes that are being ended are not on disk");
            }
        }
    }
}

const OTHER_JUDGE_TIMEOUT: Duration = Duration::from_secs(6);

/// Records the end of a run whose processes were just ended, unless another judge does.
fn judge(context: &Context, entry: &Entry) -> Result<Ended, EndError> {
    let deadline = Instant::now() + OTHER_JUDGE_TIMEOUT;
    let unjudged = |cause: String| Err(EndError::Unjudged { run: entry.id().clone(), cause });
    loop {
        let judged = liveness::judge(context, vec![entry.clone()], JUDGE_LOCK_TIMEOUT).pop();
        let Some(assessment) = judged else { return Ok(Ended::Finished) };
        let assessment = match assessment.into_judgement() {
            Ok(judgement) => return Ok(record_dead(context, &judgement)),
            Err(assessment) => assessment.let_go(),
        };
        let is_late = Instant::now() >= deadline;
        match assessment.liveness {
            Liveness::Unknown(cause) => return unjudged(cause),
            Liveness::Unsupervised(processes) => return Ok(Ended::Survived(processes)),
            Liveness::Judging(by) if is_late => return unjudged(by),
            _ if is_late => return unjudged("its lock is still held".to_owned()),
            _ => std::thread::sleep(LONGEST_PAUSE),
        }
    }
}

/// Records the end of a dead run.
pub(super) fn record_dead(context: &Context, judgement: &Judgement) -> Ended {
    match record_abandoned(context, judgement) {
        Ok(_) => Ended::Finished,
        Err(error) => Ended::Unrecorded(error.to_string()),
    }
}
