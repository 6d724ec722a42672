//! From a claimed run to a started agent: the supervisor, the wait for the agent, and the window.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::claim::Claim;
use super::context::Context;
use super::end::Order;
use super::entry::Entry;
use super::home_machine;
use super::id::RunId;
use super::outcome_file::read_outcome;
use super::record::{EndCause, Ending, Manifest, Outcome, SupervisorRecord};
use super::recording::{self, Attempt, bar_supervisors};
use super::status::Status;
use super::submit::submit;
use super::workbench::Workbench;
use crate::clock::UnixSeconds;
use crate::session::SessionError;

/// The agent of a claimed run did not start.
#[derive(Debug, thiserror::Error)]
#[error("the run '{run}' did not start: {reason}")]
pub struct LaunchError {
    /// Its workbench shows what happened.
    pub run: RunId,
    pub reason: String,
    /// Whether not even a record of the run is left, as on a full disk.
    pub nothing_left: bool,
}

/// The pause between two looks at what the supervisor has to say: little of what a launch takes, and a hundredth of a core for
/// those that take long.
const PAUSE: Duration = Duration::from_micros(200);

/// Launches a claimed run, and returns when its agent has been started, or at the deadline: what has to be done before that
/// may take longer, and goes on. The window opens meanwhile.
///
/// # Errors
/// It was not; the run is then recorded as failed to launch, or will be by the next watchdog pass.
pub fn launch(context: &Context, claim: Claim, deadline: Instant) -> Result<(), LaunchError> {
    let run = claim.entry.id().clone();
    let failed = |reason: String| LaunchError { run, reason, nothing_left: false };
    if let Err(reason) = begin(context, &claim, deadline) {
        return Err(fail(context, claim, reason, deadline));
    }
    if claim.manifest.is_on_slurm() {
        // It waits its turn, and nobody waits for it.
        open_window(context, &claim.entry);
        return Ok(());
    }
    match await_start(context, &claim, deadline) {
        Some(Ok(())) => {
            open_window(context, &claim.entry);
            Ok(())
        }
        Some(Err(reason)) => Err(failed(reason)),
        None if has_had_supervisor(&claim.entry) => Err(failed(call_off(context, &claim.entry, &claim.manifest))),
        None => match await_late_supervisor(context, claim) {
            Ok(entry) => {
                open_window(context, &entry);
                Ok(())
            }
            Err(reason) => Err(failed(reason)),
        },
    }
}

/// Whether a supervisor has had the run, which is gone if [`await_start`] did not find it.
fn has_had_supervisor(entry: &Entry) -> bool {
    !entry.supervisor().is_ok_and(|taken| taken.is_none())
}

/// How long a supervisor may take to report, counted from the answer of the trigger: on a machine whose disk stalls, a program
/// takes seconds to start.
const LATE_SUPERVISOR_LIMIT: Duration = Duration::from_secs(30);

/// Goes on waiting for a supervisor that was started and has not reported, without the caller. The trigger's share of the lock is
/// kept meanwhile: without it, the run would be judged dead.
///
/// # Errors
/// That cannot be done, so that the run was called off.
fn await_late_supervisor(context: &Context, claim: Claim) -> Result<Entry, String> {
    let (entry, manifest) = (claim.entry.clone(), claim.manifest.clone());
    let waiting = {
        let context = context.clone();
        move || {
            let deadline = Instant::now() + LATE_SUPERVISOR_LIMIT;
            if await_start(&context, &claim, deadline).is_none() {
                call_off(&context, &claim.entry, &claim.manifest);
            }
        }
    };
    match std::thread::Builder::new().name("launch".into()).spawn(waiting) {
        Ok(_) => Ok(entry),
        Err(_) => Err(call_off(context, &entry, &manifest)),
    }
}

fn begin(context: &Context, claim: &Claim, deadline: Instant) -> Result<(), String> {
    // A process that was stopped since the claim may come here long after its caller had an answer.
    if Instant::now() >= deadline {
        return Err("preparing its launch took too long".to_owned());
    }
    if let Ok(Some(request)) = claim.entry.end_request() {
        return Err(request.reason);
    }
    if let Some(order) = &claim.manifest.job {
        return submit(context, &claim.entry, &claim.manifest, order, deadline);
    }
    let submitted = context.local().submit(context.home.root(), claim.entry.id().to_string(), &claim.manifest.cookie);
    submitted.map_err(|error| error.to_string())
}

/// Opens the run's window, which nothing waits for. Never called by a supervisor: it is a subreaper, so that a tmux server that
/// it starts would be its child, and end with its run.
fn open_window(context: &Context, entry: &Entry) {
    let words =
        [context.program.path().into(), "follow".into(), context.home.root().into(), entry.id().to_string().into()];
    let failed = {
        let entry = entry.clone();
        move |error: SessionError| {
            tracing::warn!(run = %entry.id(), %error, "the run has no window");
            entry.set_window_problem(&error.to_string());
        }
    };
    if entry.exists() {
        context.session_host.open_soon(entry.id().session_name(), words.into(), failed);
    }
}

/// How long a launch that failed after its deadline is waited for until it is recorded.
const LEAST_RECORDING_WAIT: Duration = Duration::from_millis(500);

/// Records the end of a run of which nothing was started, which is ours alone, and returns it as an error. Waits for that until
/// the deadline only: others may hold the history's lock for longer. The next watchdog pass records what is not recorded by then.
pub(super) fn fail(context: &Context, claim: Claim, reason: String, deadline: Instant) -> LaunchError {
    let mut error = LaunchError { run: claim.entry.id().clone(), reason: reason.clone(), nothing_left: false };
    let context = context.clone();
    let (done, recorded) = mpsc::channel();
    let begun = std::thread::Builder::new().name("record".into()).spawn(move || {
        let _ = done.send(record_unstarted(&context, &claim, reason));
    });
    if begun.is_ok() {
        let wait = deadline.saturating_duration_since(Instant::now()).max(LEAST_RECORDING_WAIT);
        error.nothing_left = recorded.recv_timeout(wait).unwrap_or(false);
    }
    error
}

/// Records a run of which nothing was started, and returns whether nothing is left of it: neither its record, nor an entry that
/// the next watchdog pass records.
fn record_unstarted(context: &Context, claim: &Claim, reason: String) -> bool {
    let now = UnixSeconds::now();
    // A refusal may be none.
    if claim.manifest.is_on_slurm()
        && let Err(error) = bar_supervisors(&context.home, &claim.entry)
    {
        tracing::warn!(%error, "its launch was called a failure");
        return false;
    }
    let request = claim.entry.end_request().ok().flatten();
    let ending = request
        .as_ref()
        .map_or_else(|| Ending::of(Status::LaunchFailed, reason, now), |request| Ending::by_request(request, now));
    let outcome = Outcome::new(&claim.manifest, None, ending);
    // Where another machine records for the home, it finds the outcome.
    let is_ours = !claim.manifest.is_on_slurm() || home_machine::owner(&context.home).is_ok();
    let record = if is_ours { recording::record } else { recording::record_on_node };
    let Err(error) = record(context, &claim.entry, &outcome, Attempt::First) else { return false };
    tracing::warn!(run = %claim.entry.id(), %error, "a failed launch could not be recorded");
    let workbench = claim.manifest.workbench(&context.home);
    let unwritten = workbench.outcome_file().symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    // Nothing ran, nobody asked for anything, and not even the outcome could be written: on a full disk nothing is better than
    // an entry that has to be judged.
    if request.is_some() || !unwritten || !discard(&workbench) {
        return false;
    }
    match claim.entry.dispose(&context.home) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "a claim could not be taken back; the next watchdog pass records it");
            false
        }
    }
}

/// Removes a workbench that no agent saw; returns whether none is left.
fn discard(workbench: &Workbench) -> bool {
    for file in [workbench.prompt_file(), workbench.log(), workbench.stderr_log(), workbench.format_file()] {
        let _ = std::fs::remove_file(file);
    }
    // Fails, as it should, if anything else is in there.
    let _ = std::fs::remove_dir(workbench.directory());
    !workbench.exists()
}

/// Waits until the agent runs, or the run is over. Past the deadline it is enough that a supervisor has taken the run: a login
/// shell on a busy machine, a clone or a setup take as long as they take. `None` if none has, or it is gone.
fn await_start(context: &Context, claim: &Claim, deadline: Instant) -> Option<Result<(), String>> {
    loop {
        if claim.entry.started().is_ok_and(|started| started.is_some()) {
            return Some(Ok(()));
        }
        if !claim.entry.exists() {
            return Some(start_by_outcome(context, claim));
        }
        if Instant::now() >= deadline {
            let is_taken =
                |taken: Option<SupervisorRecord>| taken.is_some_and(|record| context.local().look(record.supervisor));
            return claim.entry.supervisor().is_ok_and(is_taken).then_some(Ok(()));
        }
        std::thread::sleep(PAUSE);
    }
}

/// A run that is over already did start, or was skipped as it should be, unless its outcome says that it did not.
fn start_by_outcome(context: &Context, claim: &Claim) -> Result<(), String> {
    match read_outcome(&claim.manifest.workbench(&context.home), claim.entry.id()) {
        Ok(outcome) if outcome.started_at.is_none() && outcome.status != Status::Skipped => {
            Err(outcome.reason.unwrap_or_else(|| "its supervisor gave no reason".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Asks for the run's end, in case a supervisor still comes up, and returns why it ends: a supervisor may have asked first. That
/// supervisor, or the next watchdog pass, records it.
fn call_off(context: &Context, entry: &Entry, manifest: &Manifest) -> String {
    let workbench = manifest.workbench(&context.home);
    let reason = "its supervisor did not report in time".to_owned();
    let order = Order { cause: EndCause::LaunchFailed, reason, by: "trigger".to_owned() };
    entry.first_end_request(order.request(&workbench, manifest)).reason
}
