//! Ending a run: the one way, whoever asks.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::entry::{Entry, Workbench};
use super::id::RunId;
use super::liveness::{Liveness, assess, doomed, written_down};
use super::log;
use super::own_tree;
use super::record::{EndCause, EndRequest, Machine, Manifest, RecordError};
use super::recording::{RecordingError, record_abandoned};
use super::workplace::Workplace;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::process_tree::{KnownProcesses, Process, ProcessId, Reach, ScanError, end_tree};

/// Who wants a run ended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What the run's status follows from.
    pub cause: EndCause,
    /// The reason in words, with the numbers.
    pub reason: String,
    /// Who asks.
    pub by: String,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Nothing of the run is alive, and its end is recorded.
    Finished,
    /// It had been finished before.
    Already,
    /// These could not be killed; the run counts as alive until they are gone.
    Survived(Vec<Process>),
}

/// A run could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// There is no such run.
    #[error("there is no run '{0}'; list_runs shows them all")]
    NotFound(RunId),
    /// Nothing certain can be said about it, so it is not touched.
    #[error("the run {run} is not touched, for nothing certain is known of it: {cause}")]
    Unknown {
        /// The run.
        run: RunId,
        /// Why not.
        cause: String,
    },
    /// A file of the run could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Processes could not be listed, so that nothing was killed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The end could not be written down.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// How much longer than the grace a supervisor gets before it is ended itself.
pub const SUPERVISOR_MARGIN: Duration = Duration::from_secs(5);

/// Ends a run: asks its supervisor, and does its work if it does not. Takes the grace and at most ten seconds more.
///
/// # Errors
/// The run does not exist, nothing certain is known of it, or the system refuses.
pub fn end_run(workplace: &Workplace, id: &RunId, order: &Order) -> Result<Ended, EndError> {
    let entry = Entry::of(&workplace.home, id);
    let Some(manifest) = manifest_of_ours(workplace, &entry)? else { return Ok(Ended::Already) };
    let workbench = Workbench::of(&workplace.home, id);
    let request = EndRequest {
        cause: order.cause,
        reason: order.reason.clone(),
        by: order.by.clone(),
        at: UnixSeconds::now(),
        last_output: workbench.last_output_or(manifest.triggered.at),
    };
    match entry.request_end(&request) {
        Err(_) if !entry.exists() => return Ok(Ended::Already),
        // A full disk may be this very run's doing: it is ended all the same.
        Err(error) => tracing::warn!(run = %id, %error, "the request for its end is not on disk"),
        Ok(_) => {}
    }
    let supervisor = written_down(&entry, &manifest).ok().flatten().map(|started| started.supervisor);
    if let Some(supervisor) = supervisor
        && let Err(error) = supervisor.signal(Signal::TERM)
    {
        // It looks at the request by itself, a second later.
        tracing::warn!(run = %id, %error, "the supervisor could not be told");
    }
    let grace = Duration::from_secs(workplace.config.kill_grace_secs);
    let asked = Instant::now();
    match await_supervisor(&entry, grace + SUPERVISOR_MARGIN) {
        Waited::Recorded => Ok(Ended::Finished),
        Waited::Unowned(lock) => {
            // Whoever owned it and gave up has asked all of them, and waited.
            let hunt = Hunt { supervisor, grace: grace.saturating_sub(asked.elapsed()), lock: Some(lock) };
            end_from_outside(workplace, &entry, &manifest, hunt, &request)
        }
        Waited::Stuck => {
            let hunt = Hunt { supervisor, grace: Duration::ZERO, lock: None };
            end_from_outside(workplace, &entry, &manifest, hunt, &request)
        }
    }
}

/// Reads the manifest of a run that is ours to end; `None` if the run is finished.
fn manifest_of_ours(workplace: &Workplace, entry: &Entry) -> Result<Option<Manifest>, EndError> {
    let unknown = |cause: String| Err(EndError::Unknown { run: entry.id().clone(), cause });
    match entry.manifest() {
        Ok(manifest) if manifest.machine == Machine::this() => Ok(Some(manifest)),
        Ok(_) => unknown("it runs on another machine, or in another process namespace".to_owned()),
        Err(_) if !entry.exists() && Workbench::of(&workplace.home, entry.id()).exists() => Ok(None),
        Err(_) if !entry.exists() && workplace.history.find(&workplace.home, entry.id())?.is_some() => Ok(None),
        Err(_) if !entry.exists() => Err(EndError::NotFound(entry.id().clone())),
        Err(RecordError::File(error)) => unknown(error.to_string()),
        Err(error @ RecordError::Newer { .. }) => unknown(error.to_string()),
    }
}

enum Waited {
    Recorded,
    Unowned(FileLock),
    Stuck,
}

/// How the processes of a run are ended from outside.
struct Hunt {
    supervisor: Option<ProcessId>,
    grace: Duration,
    /// Held while they are ended, where nobody owns the run, so that one process at a time does it. Of two, one may be a
    /// process of the run itself, a server that its agent started: killed by the other halfway, it would have ended
    /// parents whose children nobody recognises any more.
    lock: Option<FileLock>,
}

/// The pauses between two looks at a run that is being ended: a thousand may be waited for at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

fn await_supervisor(entry: &Entry, patience: Duration) -> Waited {
    let deadline = Instant::now() + patience;
    let mut pause = SHORTEST_PAUSE;
    loop {
        match FileLock::try_existing(&entry.lock_file(), Mode::Exclusive) {
            Ok(lock) => return Waited::Unowned(lock),
            Err(_) if !entry.exists() => return Waited::Recorded,
            Err(_) if Instant::now() >= deadline => return Waited::Stuck,
            Err(_) => {
                std::thread::sleep(pause);
                pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn end_from_outside(
    workplace: &Workplace,
    entry: &Entry,
    manifest: &Manifest,
    hunt: Hunt,
    ours: &EndRequest,
) -> Result<Ended, EndError> {
    let survivors = end_processes(entry, manifest, hunt.supervisor, hunt.grace)?;
    // The judgement below takes it anew.
    drop(hunt.lock);
    if !survivors.is_empty() {
        return Ok(Ended::Survived(survivors));
    }
    let first = entry.end_request().ok().flatten();
    let reason = first.as_ref().map_or(&ours.reason, |request| &request.reason);
    log::append_note(&Workbench::of(&workplace.home, entry.id()), reason);
    judge(workplace, entry)
}

/// Ends the processes of a run, its supervisor too, and returns those that outlived it.
///
/// # Errors
/// The processes cannot be listed: some may have been signalled, and nothing is known of what is left.
fn end_processes(
    entry: &Entry,
    manifest: &Manifest,
    supervisor: Option<ProcessId>,
    grace: Duration,
) -> Result<Vec<Process>, ScanError> {
    let (mut record, mut processes) = KnownRecord::open(entry, manifest);
    processes.known.extend(supervisor);
    end_tree(&manifest.cookie, processes, Reach::Everywhere, grace, &mut |processes| record.note(processes))
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
    let (mut record, mut processes) = KnownRecord::open(entry, manifest);
    processes.known.extend(terminal_holder(entry));
    own_tree::end(home, &manifest.cookie, processes, grace, &mut |processes| {
        record.note(processes);
        on_pass();
    })
}

/// Returns who holds the terminal of an agent, as the child of another one's process, if anybody does.
pub fn terminal_holder(entry: &Entry) -> Option<ProcessId> {
    Some(entry.terminal_held().ok().flatten()?.holder)
}

/// Keeps on disk which processes are being ended.
struct KnownRecord<'a> {
    entry: &'a Entry,
    /// What is on disk; `None` where that cannot be read just now, and is not written over.
    noted: Option<KnownProcesses>,
}

impl<'a> KnownRecord<'a> {
    /// Reads what those who ended this run before have found.
    fn open(entry: &'a Entry, manifest: &Manifest) -> (Self, KnownProcesses) {
        let noted = doomed(entry, manifest).ok();
        let processes = noted.clone().unwrap_or_default();
        (Self { entry, noted }, processes)
    }

    fn note(&mut self, processes: &KnownProcesses) {
        let Some(noted) = &mut self.noted else { return };
        if noted != processes {
            noted.clone_from(processes);
            if let Err(error) = self.entry.set_doomed(processes) {
                tracing::warn!(run = %self.entry.id(), %error, "the list of its processes is not on disk");
            }
        }
    }
}

/// How long another judge is waited for: it may have to wait itself, for a window that does not close.
const JUDGING_PATIENCE: Duration = Duration::from_secs(6);

/// Records the end of a run whose processes were just ended. Another judge may be at it: then its word counts.
fn judge(workplace: &Workplace, entry: &Entry) -> Result<Ended, EndError> {
    let deadline = Instant::now() + JUDGING_PATIENCE;
    loop {
        let Some(assessment) = assess(vec![entry.clone()]).pop() else { return Ok(Ended::Finished) };
        match assessment.liveness.clone() {
            Liveness::Unknown(cause) => return Err(EndError::Unknown { run: entry.id().clone(), cause }),
            Liveness::Unsupervised(processes) => return Ok(Ended::Survived(processes)),
            Liveness::Owned if Instant::now() >= deadline => {
                let cause = "its lock is still held after its processes were ended".to_owned();
                return Err(EndError::Unknown { run: entry.id().clone(), cause });
            }
            Liveness::Owned => std::thread::sleep(Duration::from_millis(10)),
            Liveness::Dead => {
                if let Some(judgement) = assessment.into_judgement() {
                    record_abandoned(workplace, &judgement)?;
                }
                return Ok(Ended::Finished);
            }
        }
    }
}
