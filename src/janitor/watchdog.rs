//! The watchdog: ends hung runs, and records the ends of abandoned ones. It looks at `running/` alone.

mod decide;
mod on_slurm;

use std::collections::HashMap;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::PassError;
use super::report::{Failed, Killed};
use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::FileError;
use crate::process_tree::{Cookie, names};
use crate::routine::bounds::{Bounds, BoundsTable};
use crate::routine::slug::Slug;
use crate::run::check_job::{was_checked, withdraw_check};
use crate::run::claim;
use crate::run::context::Context;
use crate::run::end::{Ended, Order, end_run};
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::liveness::{self, Assessment, CLOCKS_DIFFER_SECS, JUDGE_LOCK_TIMEOUT, Liveness, Unjudged, was_taken};
use crate::run::outcome_file::read_outcome;
use crate::run::record::{EndCause, Ending, Manifest, Outcome};
use crate::run::recording::record_abandoned;
use crate::run::status::Status;
use crate::run::workbench::Workbench;

use decide::{Action, Watched, decide};
pub(super) use on_slurm::ended_elsewhere;

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchReport {
    pub(crate) killed: Vec<Killed>,
    /// The next pass tries again.
    pub(crate) failed: Vec<Failed>,
    /// Runs that cannot be decided about, as if they had ended so.
    pub(crate) unknown: Vec<Outcome>,
}

/// How long a pass records the ends of dead runs; the next pass records the rest. A window that does not close takes seconds
/// for each.
const RECORDING_TIMEOUT: Duration = Duration::from_secs(15);

/// How many dead runs are judged and recorded with one listing of the processes.
const RECORDED_AT_ONCE: usize = 8;

/// What a pass would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Runs that it would end.
    pub(super) killed: Vec<Killed>,
    /// How each run that it would end or record would have ended.
    pub(super) ended: HashMap<RunId, ForecastEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ForecastEnd {
    pub(super) retain_from: UnixSeconds,
    pub(super) status: Status,
}

/// Returns what a pass over the runs of one routine, or of all, would do, changing nothing.
pub(super) fn forecast(context: &Context, only: Option<&Slug>) -> Result<Forecast, FileError> {
    let mut forecast = Forecast::default();
    for (assessment, action) in look(context, only)? {
        let run = assessment.entry.id().clone();
        if action != Action::Leave {
            forecast.ended.insert(run.clone(), forecast_end(context, &assessment));
        }
        if let Action::End(cause, reason) = action {
            forecast.killed.push(Killed { run, why: cause.into(), reason });
        }
    }
    Ok(forecast)
}

fn forecast_end(context: &Context, assessment: &Assessment) -> ForecastEnd {
    let workbench = Workbench::of(&context.home, assessment.entry.id());
    let triggered =
        assessment.manifest.as_ref().map_or(assessment.entry.id().stamp(), |manifest| manifest.triggered.at);
    let last_output = workbench.last_output_or(triggered);
    if assessment.liveness != Liveness::Dead {
        return ForecastEnd { retain_from: last_output, status: Status::Unknown };
    }
    let (retain_from, status) = match read_outcome(&workbench, assessment.entry.id()) {
        Ok(outcome) => (outcome.retain_from, outcome.status),
        Err(_) => match assessment.ending(context, UnixSeconds::now()) {
            Ok(ending) => (ending.retain_from, ending.status),
            Err(_) => (last_output, Status::Unknown),
        },
    };
    ForecastEnd { retain_from, status }
}

/// Makes one pass over the runs of one routine, or of all. Hung runs are ended at the same time, so that a pass takes as long
/// as the slowest.
///
/// # Errors
/// Locks do not work here, or the entries cannot be listed.
pub fn pass(context: &Context, only: Option<&Slug>) -> Result<WatchReport, PassError> {
    context.home.check_lockable()?;
    claim::remove_stale(&context.home, UnixSeconds::now())?;
    context.unwritten_ends.write(&context.home);
    let mut report = WatchReport::default();
    let (mut hung, mut dead, mut ending) = (Vec::new(), Vec::new(), Vec::new());
    let mut checks = on_slurm::Checks::default();
    for (assessment, action) in look(context, only)? {
        report.failed.extend(checks.look_after(context, &assessment));
        match action {
            Action::Leave => report.unknown.extend(as_unknown(&assessment)),
            Action::End(cause, reason) => {
                hung.push((assessment.entry.id().clone(), Order { cause, reason, by: "watchdog".to_owned() }));
            }
            Action::Record => {
                ending.extend(on_slurm::ending_job(&assessment));
                dead.push(assessment.entry);
            }
        }
    }
    let ends = std::thread::scope(|scope| {
        let start = |(run, order)| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || end(context, run, order));
            // No thread left, as when a hung run has used up all of them: end this one later, on our own.
            thread.map_err(|_| (run, order))
        };
        let ends: Vec<_> = hung.iter().map(|(run, order)| start((run, order))).collect();
        on_slurm::await_ends_of_jobs(context, ending);
        let stop_at = Instant::now() + RECORDING_TIMEOUT;
        // A few at a time: runs that are held look to others as if they were being judged all that time.
        for some in dead.chunks(RECORDED_AT_ONCE).take_while(|_| Instant::now() < stop_at) {
            let judged = liveness::judge(context, some.to_vec(), JUDGE_LOCK_TIMEOUT);
            // What is not recorded now is by the next pass.
            let judged = judged.into_iter().take_while(|_| Instant::now() < stop_at);
            let checked: Vec<_> = judged.filter_map(|assessment| record(context, assessment, &mut report)).collect();
            checked.iter().for_each(|run| withdraw_check(context, run));
        }
        let unexpected = |_| Err("ending it failed unexpectedly; see the log on stderr".to_owned());
        let wait = |thread: Result<ScopedJoinHandle<'_, _>, _>| match thread {
            Ok(thread) => thread.join().unwrap_or_else(unexpected),
            Err((run, order)) => end(context, run, order),
        };
        ends.into_iter().map(wait).collect::<Vec<_>>()
    });
    for ((run, order), end) in hung.into_iter().zip(ends) {
        match end {
            Ok(true) => report.killed.push(Killed { run, why: order.cause.into(), reason: order.reason }),
            Ok(false) => {}
            Err(error) => report.failed.push(failed(context, run, error)),
        }
    }
    Ok(report)
}

/// Looks at the runs about which there may be something to do.
fn look(context: &Context, only: Option<&Slug>) -> Result<Vec<(Assessment, Action)>, FileError> {
    let mut entries = Entry::list(&context.home)?;
    entries.retain(|entry| only.is_none_or(|slug| entry.id().routine() == slug));
    let Unjudged { entries, stamps } = context.waiting_runs.leave_out(context, entries);
    let mut bounds = BoundsTable::new(&context.home, &context.config);
    let now = Moment::now();
    Ok(liveness::look(context, entries, JUDGE_LOCK_TIMEOUT)
        .into_iter()
        .map(|assessment| {
            let action = action(context, &assessment, bounds.get(assessment.entry.id().routine()), &now);
            if action == Action::Leave {
                context.waiting_runs.keep(&assessment, &stamps);
            }
            (assessment, action)
        })
        .collect())
}

fn action(context: &Context, assessment: &Assessment, bounds: &Bounds, now: &Moment) -> Action {
    // Without a manifest there is no trigger to count from and no cookie to find the processes by.
    let Ok(manifest) = &assessment.manifest else { return Action::Leave };
    decide(&Watched {
        liveness: &assessment.liveness,
        age_secs: age_secs(assessment, manifest, now),
        ending: (assessment.entry.end_request().ok().flatten())
            .map(|request| (request.cause, request.at.age_secs_at(now.at))),
        max_runtime_secs: bounds.max_runtime_secs_of_run(manifest.max_runtime_secs),
        max_queue_secs: context.config.max_queue_secs,
        silence_secs: bounds
            .max_silence_secs_of_run(manifest.command.max_silence_secs)
            .and_then(|max| Some((silent_secs(context, assessment, manifest, now)?, max))),
        grace_secs: context.config.kill_grace_secs,
    })
}

/// Returns the seconds that count towards a run's bound: in a queue towards that of the queue, and then from the start on its node.
fn age_secs(assessment: &Assessment, manifest: &Manifest, now: &Moment) -> u64 {
    if !manifest.is_on_slurm() || matches!(assessment.liveness, Liveness::Queued(_)) {
        return manifest.triggered.elapsed_secs_at(now);
    }
    let taken = assessment.entry.supervisor().ok().flatten().and_then(|taken| taken.at);
    // By the node's clock; its own supervisor, and Slurm, are more exact.
    taken.map_or(0, |at| at.elapsed_secs_at(now).saturating_sub(CLOCKS_DIFFER_SECS))
}

/// Returns the seconds since a run's last output; `None` if not certain. The log has a time on the wall clock, which must not
/// have been set since the trigger.
fn silent_secs(context: &Context, assessment: &Assessment, manifest: &Manifest, now: &Moment) -> Option<u64> {
    let same_boot = !now.boot_id.is_empty() && manifest.triggered.boot_id == now.boot_id;
    if !same_boot || manifest.triggered.clock_jump_secs(now).is_some() {
        return None;
    }
    let started = assessment.entry.started().ok().flatten()?;
    // What verifies it may be silent for as long as it takes.
    if assessment.entry.verifying().ok()?.is_some() {
        return None;
    }
    let (written, _) = manifest.workbench(&context.home).log_state()?;
    Some(written.max(started.at).age_secs_at(now.at))
}

/// Describes a run whose state is unknown; `None` if it is known.
fn as_unknown(assessment: &Assessment) -> Option<Outcome> {
    let Liveness::Unknown(cause) = &assessment.liveness else { return None };
    let ending = Ending::of(Status::Unknown, cause.clone(), UnixSeconds::now());
    match &assessment.manifest {
        Ok(manifest) => Some(Outcome::new(manifest, None, ending)),
        Err(_) => Some(Outcome::without_manifest(assessment.entry.id(), Cookie::random().ok()?, ending)),
    }
}

/// Records the end of a dead run; returns the run if a check of it may wait on Slurm that is not needed any more.
fn record(context: &Context, assessment: Assessment, report: &mut WatchReport) -> Option<RunId> {
    let judgement = assessment.into_judgement().ok()?;
    let run = judgement.entry.id().clone();
    let was_checked = judgement.manifest.is_on_slurm() && was_checked(&judgement.entry);
    match record_abandoned(context, &judgement) {
        Ok(_) => was_checked.then_some(run),
        Err(error) => {
            report.failed.push(failed(context, run, error.to_string()));
            None
        }
    }
}

/// Ends a hung run; returns whether this pass did it.
fn end(context: &Context, run: &RunId, order: &Order) -> Result<bool, String> {
    let entry = Entry::of(&context.home, run);
    // One that waited for too long may have started since it was looked at.
    if order.cause == EndCause::LaunchFailed
        && entry.end_request().is_ok_and(|made| made.is_none())
        && was_taken(&entry)
    {
        return Ok(false);
    }
    match end_run(context, run, order) {
        Ok(Ended::Unrecorded(cause)) => Err(format!("it was ended, and its end cannot be recorded yet: {cause}")),
        Ok(Ended::Finished) => Ok(true),
        Ok(Ended::Already) => Ok(false),
        Ok(Ended::Survived(left)) => Err(format!("these processes could not be killed: {}", names(&left))),
        Err(error) => Err(error.to_string()),
    }
}

fn failed(context: &Context, run: RunId, error: String) -> Failed {
    let path = Entry::of(&context.home, &run).directory().display().to_string();
    Failed { run, path, error }
}
