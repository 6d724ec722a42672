//! The watchdog: ends hung runs, and closes the books of abandoned ones. It looks at `running/` alone.

use std::collections::HashMap;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::{Moment, UnixSeconds};
use crate::home::UnsafeHome;
use crate::home::atomic_file::FileError;
use crate::process_tree::names;
use crate::routine::bounds::{Bounds, BoundsTable};
use crate::routine::slug::Slug;
use crate::run::claim;
use crate::run::context::Context;
use crate::run::end::{Ended, Order, SUPERVISOR_MARGIN, end_run};
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::liveness::{self, Assessment, JUDGE_PATIENCE, Liveness};
use crate::run::record::{EndCause, Manifest, exceeded_max_runtime, exceeded_max_silence};
use crate::run::recording::{read_outcome, record_abandoned};
use crate::run::status::Status;

/// No pass took place.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Locks do not work in the home.
    #[error(transparent)]
    UnsafeHome(#[from] UnsafeHome),
    /// The entries cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchReport {
    /// Runs that were ended.
    pub killed: Vec<Killed>,
    /// Runs that were left behind, and are recorded now.
    pub recorded: Vec<RunId>,
    /// What could not be done.
    pub failed: Vec<WatchFailure>,
}

/// A run that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// The run.
    pub run: RunId,
    /// What for.
    pub cause: EndCause,
    /// Why, in words.
    pub reason: String,
}

/// Something that could not be done; the next pass tries again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchFailure {
    /// The run.
    pub run: RunId,
    /// Its entry.
    pub path: String,
    /// Why not.
    pub error: String,
}

/// How much longer than its bound and grace a run may take while its supervisor is there to end it.
const SUPERVISOR_ALLOWANCE_SECS: u64 = 15;

/// How much longer than allowed an agent without a supervisor may be silent: its last output is a time on the wall clock,
/// which may have been set by so much unnoticed.
const SILENCE_ALLOWANCE_SECS: u64 = 60;

/// How long a pass records the ends of dead runs; those left are recorded by the next. A window that does not close takes
/// seconds for each.
const RECORDING_PATIENCE: Duration = Duration::from_secs(15);

/// How many dead runs are judged with one listing of the processes, and recorded.
const RECORDED_AT_ONCE: usize = 8;

/// What the watchdog knows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched<'a> {
    liveness: &'a Liveness,
    age_secs: u64,
    /// Why its end was asked for, if it was, and the time since.
    ending: Option<(EndCause, u64)>,
    max_runtime_secs: u64,
    /// Time since its last output, where that can be told, with the time that is allowed.
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

/// Decides (rule 3). Within its bounds a run is left alone, and so is one that nothing certain is known of.
fn decide(watched: &Watched<'_>) -> Action {
    let Watched { age_secs, max_runtime_secs, grace_secs, .. } = *watched;
    let exceeded = || Action::End(EndCause::TimedOut, exceeded_max_runtime(age_secs, max_runtime_secs));
    let undone = |cause, how: &str| Action::End(cause, format!("its end was asked for, and {how}"));
    match (watched.liveness, watched.ending) {
        (Liveness::Unknown(_) | Liveness::Judging(_), _) => Action::Leave,
        (Liveness::Dead, _) => Action::Record,
        (Liveness::Unsupervised(_), Some((cause, _))) => undone(cause, "is not done"),
        (Liveness::Unsupervised(_), None) if age_secs > max_runtime_secs => exceeded(),
        (Liveness::Unsupervised(_), None) => match watched.silence_secs {
            Some((silent, max)) if silent > max.saturating_add(SILENCE_ALLOWANCE_SECS) => {
                Action::End(EndCause::Silent, exceeded_max_silence(silent, max))
            }
            _ => Action::Leave,
        },
        (Liveness::Owned, Some((cause, since))) if since > grace_secs + SUPERVISOR_MARGIN.as_secs() => {
            undone(cause, "its supervisor does not obey")
        }
        // Also if its end was asked for: the wall clock that tells since when can be set.
        (Liveness::Owned, _) if age_secs > max_runtime_secs.saturating_add(grace_secs + SUPERVISOR_ALLOWANCE_SECS) => {
            exceeded()
        }
        _ => Action::Leave,
    }
}

/// What a pass would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Runs that it would end.
    pub killed: Vec<Killed>,
    /// How each run would have ended that it would end or record.
    pub ended: HashMap<RunId, Forecasted>,
}

/// How a run would have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecasted {
    /// From when on its retention would count.
    pub retain_from: UnixSeconds,
    /// What its status would be.
    pub status: Status,
}

/// Tells what a pass over the runs of one routine, or of all, would do, and touches none.
///
/// # Errors
/// The entries cannot be listed.
pub fn forecast(context: &Context, only: Option<&Slug>) -> Result<Forecast, FileError> {
    let mut forecast = Forecast::default();
    for (assessment, action) in look(context, only)? {
        let run = assessment.entry.id().clone();
        if action != Action::Leave {
            forecast.ended.insert(run.clone(), ending(context, &assessment));
        }
        if let Action::End(cause, reason) = action {
            forecast.killed.push(Killed { run, cause, reason });
        }
    }
    Ok(forecast)
}

fn ending(context: &Context, assessment: &Assessment) -> Forecasted {
    let workbench = Workbench::of(&context.home, assessment.entry.id());
    let triggered =
        assessment.manifest.as_ref().map_or(assessment.entry.id().stamp(), |manifest| manifest.triggered.at);
    let last_output = workbench.last_output_or(triggered);
    if assessment.liveness != Liveness::Dead {
        return Forecasted { retain_from: last_output, status: Status::Unknown };
    }
    let (retain_from, status) = match read_outcome(&workbench, assessment.entry.id()) {
        Ok(outcome) => (outcome.retain_from, outcome.status),
        Err(_) => {
            let request = context.unwritten_ends.of(assessment.entry.id());
            let ending = assessment.abandoned_ending(request.as_ref(), last_output, UnixSeconds::now());
            (ending.retain_from, ending.status)
        }
    };
    Forecasted { retain_from, status }
}

/// Makes one pass over the runs of one routine, or of all. Hung runs are ended at the same time, so that the pass takes
/// as long as the slowest.
///
/// # Errors
/// Locks do not work here, so that nothing can be told of any run; or the entries cannot be listed.
pub fn pass(context: &Context, only: Option<&Slug>) -> Result<WatchReport, WatchError> {
    context.home.check_lockable()?;
    claim::remove_stale(&context.home, UnixSeconds::now())?;
    context.unwritten_ends.write(&context.home);
    let mut report = WatchReport::default();
    let (mut doomed, mut dead) = (Vec::new(), Vec::new());
    for (assessment, action) in look(context, only)? {
        match action {
            Action::Leave => {}
            Action::End(cause, reason) => {
                doomed.push(Killed { run: assessment.entry.id().clone(), cause, reason });
            }
            Action::Record => dead.push(assessment.entry),
        }
    }
    let ends = std::thread::scope(|scope| {
        let start = |hung| {
            let begun = std::thread::Builder::new().spawn_scoped(scope, move || end(context, hung));
            // No thread to be had, as when a hung run has eaten up all that there are: one after the other, then.
            begun.map_err(|_| hung)
        };
        let ends: Vec<_> = doomed.iter().map(start).collect();
        let stop_at = Instant::now() + RECORDING_PATIENCE;
        // A few at a time: those that are held look to others as if they were being judged for all that time.
        for some in dead.chunks(RECORDED_AT_ONCE).take_while(|_| Instant::now() < stop_at) {
            let judged = liveness::judge(&context.home, some.to_vec(), JUDGE_PATIENCE);
            judged.into_iter().for_each(|assessment| record(context, assessment, &mut report));
        }
        let unexpected = |_| Err("ending it failed unexpectedly; see the log on stderr".to_owned());
        let wait = |begun: Result<ScopedJoinHandle<'_, _>, _>| match begun {
            Ok(end) => end.join().unwrap_or_else(unexpected),
            Err(hung) => end(context, hung),
        };
        ends.into_iter().map(wait).collect::<Vec<_>>()
    });
    for (killed, end) in doomed.into_iter().zip(ends) {
        match end {
            Ok(true) => report.killed.push(killed),
            Ok(false) => {}
            Err(error) => report.failed.push(failure(context, &killed.run, error)),
        }
    }
    Ok(report)
}

fn look(context: &Context, only: Option<&Slug>) -> Result<Vec<(Assessment, Action)>, FileError> {
    let mut entries = Entry::list(&context.home)?;
    entries.retain(|entry| only.is_none_or(|slug| entry.id().routine() == slug));
    let mut bounds = BoundsTable::new(&context.home, &context.config);
    let now = Moment::now();
    Ok(liveness::look(&context.home, entries, JUDGE_PATIENCE)
        .into_iter()
        .map(|assessment| {
            let action = action(context, &assessment, bounds.get(assessment.entry.id().routine()), &now);
            (assessment, action)
        })
        .collect())
}

fn action(context: &Context, assessment: &Assessment, bounds: &Bounds, now: &Moment) -> Action {
    // Without a manifest there is neither a trigger to count from nor a cookie to kill by.
    let Ok(manifest) = &assessment.manifest else { return Action::Leave };
    decide(&Watched {
        liveness: &assessment.liveness,
        age_secs: manifest.triggered.elapsed_secs_at(now),
        ending: (assessment.entry.end_request().ok().flatten())
            .map(|request| (request.cause, request.at.age_secs_at(now.at))),
        max_runtime_secs: bounds.max_runtime_secs_of_run(manifest.max_runtime_secs),
        silence_secs: bounds
            .max_silence_secs
            .or(manifest.command.max_silence_secs)
            .and_then(|max| Some((silent_secs(context, assessment, manifest, now)?, max))),
        grace_secs: context.config.kill_grace_secs,
    })
}

/// Returns the time since a run's last output; `None` where that is not certain. The log tells a time on the wall clock, so
/// it must not have been set since the trigger.
fn silent_secs(context: &Context, assessment: &Assessment, manifest: &Manifest, now: &Moment) -> Option<u64> {
    let same_boot = !now.boot_id.is_empty() && manifest.triggered.boot_id == now.boot_id;
    if !same_boot || manifest.triggered.clock_jump_secs(now).is_some() {
        return None;
    }
    let started = assessment.entry.started().ok().flatten()?;
    let (written, _) = Workbench::of(&context.home, assessment.entry.id()).log_state()?;
    Some(written.max(started.at).age_secs_at(now.at))
}

fn record(context: &Context, assessment: Assessment, report: &mut WatchReport) {
    let run = assessment.entry.id().clone();
    let Some(judgement) = assessment.into_judgement() else { return };
    match record_abandoned(context, &judgement) {
        Ok(_) => report.recorded.push(run),
        Err(error) => report.failed.push(failure(context, &run, error.to_string())),
    }
}

/// Ends a hung run; returns whether it was us.
fn end(context: &Context, killed: &Killed) -> Result<bool, String> {
    let order = Order { cause: killed.cause, reason: killed.reason.clone(), by: "watchdog".to_owned() };
    match end_run(context, &killed.run, &order) {
        Ok(Ended::Unrecorded(cause)) => Err(format!("it was ended, and its end cannot be recorded yet: {cause}")),
        Ok(Ended::Finished) => Ok(true),
        Ok(Ended::Already) => Ok(false),
        Ok(Ended::Survived(left)) => Err(format!("these processes could not be killed: {}", names(&left))),
        Err(error) => Err(error.to_string()),
    }
}

fn failure(context: &Context, run: &RunId, error: String) -> WatchFailure {
    let path = Entry::of(&context.home, run).directory().display().to_string();
    WatchFailure { run: run.clone(), path, error }
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
        Watched { liveness, age_secs, ending, max_runtime_secs: 100, silence_secs: None, grace_secs: 10 }
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
