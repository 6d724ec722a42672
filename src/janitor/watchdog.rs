//! The watchdog: ends hung runs, and records the ends of abandoned ones. It looks at `running/` alone.

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
use crate::run::claim;
use crate::run::context::Context;
use crate::run::end::{Ended, Order, SUPERVISOR_MARGIN, end_run};
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::liveness::{self, Assessment, JUDGE_LOCK_TIMEOUT, Liveness, Unjudged};
use crate::run::outcome_file::read_outcome;
use crate::run::record::{
    EndCause, Ending, Manifest, Outcome, exceeded_max_queue, exceeded_max_runtime, exceeded_max_silence,
};
use crate::run::recording::record_abandoned;
use crate::run::status::Status;
use crate::run::workbench::Workbench;

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

/// How much longer than its bound and grace a run may take while it has a supervisor, which should end it.
const SUPERVISOR_ALLOWANCE_SECS: u64 = 15;

/// How much longer than allowed an agent without a supervisor may be silent: its last output is a time on the wall clock,
/// which may have been set by that much unnoticed.
const SILENCE_ALLOWANCE_SECS: u64 = 60;

/// How long a pass records the ends of dead runs; the next pass records the rest. A window that does not close takes seconds
/// for each.
const RECORDING_TIMEOUT: Duration = Duration::from_secs(15);

/// How many dead runs are judged and recorded with one listing of the processes.
const RECORDED_AT_ONCE: usize = 8;

/// What the watchdog knows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched<'a> {
    liveness: &'a Liveness,
    age_secs: u64,
    /// The cause of an end that was requested, and the seconds since.
    ending: Option<(EndCause, u64)>,
    max_runtime_secs: u64,
    /// How long it may wait in a queue.
    max_queue_secs: u64,
    /// Seconds since its last output, if certain, and how many are allowed.
    silence_secs: Option<(u64, u64)>,
    grace_secs: u64,
}

/// What to do with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Leave,
    Record,
    End(EndCause, String),
}

/// Decides about one run (rule 3). A run within its bounds is left alone, and so is an unknown one.
fn decide(watched: &Watched<'_>) -> Action {
    let Watched { age_secs, max_runtime_secs, grace_secs, .. } = *watched;
    let exceeded = || Action::End(EndCause::TimedOut, exceeded_max_runtime(age_secs, max_runtime_secs));
    let undone = |cause, how: &str| Action::End(cause, format!("its end was requested, but {how}"));
    match (watched.liveness, watched.ending) {
        (Liveness::Unknown(_) | Liveness::Judging(_), _) => Action::Leave,
        (Liveness::Dead, _) => Action::Record,
        (Liveness::Queued(_), Some((cause, _))) => undone(cause, "Slurm still has its job"),
        (Liveness::Queued(_), None) if age_secs > watched.max_queue_secs => {
            Action::End(EndCause::LaunchFailed, exceeded_max_queue(age_secs, watched.max_queue_secs))
        }
        (Liveness::Queued(_), None) => Action::Leave,
        (Liveness::Unsupervised(_), Some((cause, _))) => undone(cause, "nothing has ended it"),
        (Liveness::Unsupervised(_), None) if age_secs > max_runtime_secs => exceeded(),
        (Liveness::Unsupervised(_), None) => match watched.silence_secs {
            Some((silent, max)) if silent > max.saturating_add(SILENCE_ALLOWANCE_SECS) => {
                Action::End(EndCause::Silent, exceeded_max_silence(silent, max))
            }
            _ => Action::Leave,
        },
        (Liveness::Owned | Liveness::Elsewhere(_), Some((cause, since)))
            if since > grace_secs + SUPERVISOR_MARGIN.as_secs() =>
        {
            undone(cause, "its supervisor did not end it")
        }
        // Also if its end was requested: the time of the request is on the wall clock, which can be set.
        (Liveness::Owned | Liveness::Elsewhere(_), _)
            if age_secs > max_runtime_secs.saturating_add(grace_secs + SUPERVISOR_ALLOWANCE_SECS) =>
        {
            exceeded()
        }
        _ => Action::Leave,
    }
}

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
        Err(_) => {
            let request = context.unwritten_ends.of(assessment.entry.id());
            let ending = assessment.abandoned_ending(request.as_ref(), last_output, UnixSeconds::now());
            (ending.retain_from, ending.status)
        }
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
            judged.for_each(|assessment| record(context, assessment, &mut report));
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

/// How much the clock of a node may differ from ours.
const CLOCKS_DIFFER_SECS: u64 = 300;

/// Returns the seconds that count towards a run's bound: in a queue towards that of the queue, and then from the start on its node.
fn age_secs(assessment: &Assessment, manifest: &Manifest, now: &Moment) -> u64 {
    if manifest.job.is_none() || matches!(assessment.liveness, Liveness::Queued(_)) {
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
    let (written, _) = Workbench::of(&context.home, assessment.entry.id()).log_state()?;
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

fn record(context: &Context, assessment: Assessment, report: &mut WatchReport) {
    let run = assessment.entry.id().clone();
    let was_checked = on_slurm::was_checked(&assessment.entry);
    let Some(judgement) = assessment.into_judgement() else { return };
    if let Err(error) = record_abandoned(context, &judgement) {
        report.failed.push(failed(context, run, error.to_string()));
    } else if was_checked {
        on_slurm::withdraw_check(context, &run);
    }
}

/// Ends a hung run; returns whether this pass did it.
fn end(context: &Context, run: &RunId, order: &Order) -> Result<bool, String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_tree::{Process, ProcessId};
    use proptest::prelude::*;

    fn unsupervised() -> Liveness {
        Liveness::Unsupervised(vec![Process { id: ProcessId { pid: 2, start: 2 }, name: "x".into() }])
    }

    fn watched(liveness: &Liveness, age_secs: u64, ending_secs: Option<u64>) -> Watched<'_> {
        let ending = ending_secs.map(|secs| (EndCause::Stopped, secs));
        Watched {
            liveness,
            age_secs,
            ending,
            max_runtime_secs: 100,
            max_queue_secs: 500,
            silence_secs: None,
            grace_secs: 10,
        }
    }

    #[test]
    fn rule_3_the_supervisor_gets_its_chance_first() {
        assert_eq!(decide(&watched(&Liveness::Owned, 125, None)), Action::Leave);
        assert!(
            matches!(decide(&watched(&Liveness::Owned, 126, None)), Action::End(_, reason) if reason.contains("2 min 6 s"))
        );
        assert_eq!(decide(&watched(&Liveness::Owned, 50, Some(15))), Action::Leave);
        assert!(matches!(decide(&watched(&Liveness::Owned, 50, Some(16))), Action::End(..)));
    }

    #[test]
    fn rule_3_an_end_that_was_asked_for_in_the_future_does_not_lift_the_bound() {
        assert!(matches!(decide(&watched(&Liveness::Owned, 126, Some(0))), Action::End(..)));
    }

    #[test]
    fn rule_3_without_a_supervisor_the_bound_itself_counts() {
        let alone = unsupervised();
        assert_eq!(decide(&watched(&alone, 100, None)), Action::Leave);
        assert!(matches!(decide(&watched(&alone, 101, None)), Action::End(..)));
        let undone = decide(&watched(&alone, 1, Some(0)));
        assert!(matches!(undone, Action::End(EndCause::Stopped, _)), "for the cause that was given: {undone:?}");
    }

    #[test]
    fn rule_3_without_a_supervisor_a_certain_silence_counts_with_an_allowance() {
        let alone = unsupervised();
        let silent = |secs| Watched { silence_secs: Some((secs, 20)), ..watched(&alone, 90, None) };
        assert_eq!(decide(&silent(80)), Action::Leave);
        assert!(matches!(decide(&silent(81)), Action::End(EndCause::Silent, reason) if reason.contains("1 min 21 s")));
        let supervised = Watched { liveness: &Liveness::Owned, ..silent(9999) };
        assert_eq!(decide(&supervised), Action::Leave, "its supervisor knows better");
    }

    #[test]
    fn in_the_queue_only_the_bound_of_the_queue_counts() {
        let queued = Liveness::Queued("waits".to_owned());
        assert_eq!(decide(&watched(&queued, 500, None)), Action::Leave);
        let too_long = decide(&watched(&queued, 501, None));
        assert!(matches!(too_long, Action::End(EndCause::LaunchFailed, reason) if reason.contains("max_queue_secs")));
        assert!(matches!(decide(&watched(&queued, 1, Some(0))), Action::End(EndCause::Stopped, _)));
    }

    #[test]
    fn rule_3_where_slurm_placed_it_its_supervisor_gets_its_chance_first_too() {
        let elsewhere = Liveness::Elsewhere("on n1".to_owned());
        assert_eq!(decide(&watched(&elsewhere, 125, None)), Action::Leave);
        assert!(matches!(decide(&watched(&elsewhere, 126, None)), Action::End(EndCause::TimedOut, _)));
    }

    #[test]
    fn the_dead_are_recorded() {
        assert_eq!(decide(&watched(&Liveness::Dead, 1, None)), Action::Record);
    }

    proptest! {
        #[test]
        fn rule_2_the_unknown_are_never_touched(age: u64, ending: Option<u64>) {
            prop_assert_eq!(decide(&watched(&Liveness::Unknown("x".into()), age, ending)), Action::Leave);
        }

        #[test]
        fn rule_3_within_its_bounds_no_run_is_touched(age in 0..=100u64, owned: bool) {
            let liveness = if owned { Liveness::Owned } else { unsupervised() };
            prop_assert_eq!(decide(&watched(&liveness, age, None)), Action::Leave);
        }
    }
}
