//! The sweep: removes the workbenches of finished runs whose retention has passed.
//!
//! The inventory, the plan and the renames into the trash happen under the sweep lock; deleting comes after it, and may take
//! as long as it likes.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::PassError;
use super::clock_doubt::ClockDoubt;
use super::inventory::Inventory;
use super::plan::{Decision, Rules, Verdict, keep_unrecorded, plan};
use super::questions;
use super::reason::Why;
use super::remove;
use super::report::{CleanupReport, Kept, Removed};
use super::stores::{self, GoesNext};
use super::sweep_lock::{SweepLock, SweepLockError, clock_doubt};
use super::trash::{self, Progress};
use super::unsaved::{self, Archiving, Candidates, Problem};
use super::watchdog::Forecast;
use crate::archive::{self, Wanted};
use crate::clock::{Moment, UnixSeconds};
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, Mode};
use crate::routine::bounds::{Bounds, BoundsTable};
use crate::routine::slug::Slug;
use crate::run::context::{App, Context, Program};
use crate::run::continuation::index::Continuations;
use crate::run::continuation::{self, is_any_unfinished};
use crate::run::history::{self, Incomplete};
use crate::run::id::RunId;
use crate::run::pin;
use crate::run::question;
use crate::run::workbench::Workbench;

/// How long a dry run measures for the home's budgets.
const DRY_RUN_BUDGET_MEASURING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a dry run measures what it would remove.
const DRY_RUN_MEASURING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a sweep looks at workbenches that may hold work; the rest is for the process that archives.
const EXAMINING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long workbenches are looked at before those that may go do: in between, somebody may change one.
const LOOKING_TIMEOUT: Duration = Duration::from_millis(200);
/// How old a look may be by which a workbench goes.
const STALE_LOOK: Duration = Duration::from_secs(2);
/// How long a sweep measures for the home's budgets, under its lock.
const BUDGET_MEASURING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the process that archives is at work at most.
const ARCHIVER_DELETING_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the process that archives waits for another sweep: nobody waits for it, and an archive that is made may be used.
const ARCHIVER_LOCK_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Returns what a sweep would do after the watchdog pass of `forecast`, changing nothing.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn dry_run(context: &Context, only: Option<&Slug>, forecast: &Forecast) -> Result<CleanupReport, FileError> {
    let now = Moment::now();
    let doubt = clock_doubt(&context.home, &now);
    let budgets_until = Instant::now() + DRY_RUN_BUDGET_MEASURING_TIMEOUT;
    let Decided { mut verdicts, bounds } = decide(context, only, forecast, now.at, doubt, budgets_until)?;
    let mut candidates = unsaved::take_candidates(&context.home, &bounds, &mut verdicts);
    unsaved::keep_read(&context.home, &mut candidates);
    let until = Instant::now() + EXAMINING_TIMEOUT;
    let room = LazyCell::new(|| stores::has_room(context));
    for verdict in &mut candidates.verdicts {
        unsaved::decide(context, &bounds, verdict, Archiving::Planned, until, &|| *room);
    }
    verdicts.extend(candidates.verdicts);
    verdicts.sort_unstable_by(|one, other| one.run.cmp(&other.run));
    let measure_until = Instant::now() + DRY_RUN_MEASURING_TIMEOUT;
    let mut report = CleanupReport { dry_run: true, scanned: verdicts.len(), ..CleanupReport::default() };
    let (mut removable_bytes, mut complete) = (0, true);
    let mut next = None;
    for Verdict { run, decision, reason, archived, .. } in verdicts {
        match decision {
            Decision::Keep(until) => {
                next = [next, until.map(|at| (at, run.to_string()))].into_iter().flatten().min();
                report.kept.push(Kept { run, reason, until });
            }
            Decision::Remove => {
                next = Some((now.at, run.to_string()));
                let files = bounds.get(run.routine()).map(|bounds| &bounds.archive_files[..]);
                let wanted = Wanted { run: &run, files: files.unwrap_or_default() };
                let not_archived = archive::unarchived(&context.home, &wanted, measure_until);
                let not_archived = not_archived.filter(|others| others.files > 0);
                let name = OsString::from(run.to_string());
                let size = remove::measure(&context.home.workbenches(), &name, &|| Instant::now() >= measure_until);
                removable_bytes += size.bytes;
                complete &= size.complete;
                report.removed.push(Removed { run, reason, bytes: size.bytes, archived, not_archived });
            }
        }
    }
    report.removable_bytes = Some(removable_bytes);
    let next = next.map(|(at, name)| GoesNext { name, at });
    report.stores = stores::measure(context, next, Instant::now() + DRY_RUN_MEASURING_TIMEOUT);
    let clock = doubt.map(|doubt| format!("{doubt}; the next sweep removes nothing, the one after it does"));
    let cut_off = (!complete).then(|| "measuring took too long, so the sizes are lower bounds".to_owned());
    report.note = clock.into_iter().chain(cut_off).reduce(|one, other| format!("{one}; {other}"));
    Ok(report)
}

/// Sweeps, and deletes until `deadline`; what is still in the trash then is for [`trash::empty`]. Calls `progress` before
/// each workbench and at the end.
///
/// # Errors
/// Nothing was removed.
pub fn sweep(
    context: &Context,
    only: Option<&Slug>,
    deadline: Instant,
    progress: &mut dyn FnMut(Progress),
) -> Result<CleanupReport, PassError> {
    sweep_and(Archiving::Elsewhere, context, only, deadline, progress)
}

/// Archives what has to be, one workbench after the other, and removes each then. Another process that does so is left alone.
///
/// # Errors
/// The home cannot be opened, or a sweep fails.
pub(crate) fn archive_all(root: PathBuf) -> anyhow::Result<()> {
    let home = Home::open(root)?;
    let Ok(_lock) = FileLock::acquire(&home.archive_lock(), Mode::Exclusive, Duration::ZERO) else { return Ok(()) };
    let _ = rustix::process::nice(19);
    let context = App::new(home, Program::current()?).context()?;
    let report = sweep_and(Archiving::Here, &context, None, Instant::now() + ARCHIVER_DELETING_TIMEOUT, &mut |_| {})?;
    // Sweeps find the lock held that this takes, and leave it.
    if report.note.is_none() {
        stores::tidy_under_lock(&context)?;
    }
    Ok(())
}

/// Removes the workbench of a finished run with everything in it, because a person said so.
///
/// # Errors
/// Nothing was removed.
pub(crate) fn discard(context: &Context, run: &RunId) -> Result<CleanupReport, PassError> {
    context.home.check_sole_and_lockable()?;
    let lock = SweepLock::take(&context.home)?;
    let now = UnixSeconds::now();
    let decided = decide(context, Some(run.routine()), &Forecast::default(), now, None, Instant::now())?;
    let mut verdicts = decided.verdicts;
    verdicts.retain(|verdict| verdict.run == *run);
    let mut report = CleanupReport { scanned: verdicts.len(), ..CleanupReport::default() };
    verdicts
        .iter_mut()
        .filter(|verdict| verdict.is_over())
        .for_each(|verdict| verdict.decide(Decision::Remove, Why::Discarded));
    let trashed = trash::move_there(context, verdicts, &mut report)?;
    drop(lock);
    trash::delete(context, trashed, Instant::now() + ARCHIVER_DELETING_TIMEOUT, &mut report, &mut |_| {});
    // Nobody can answer what it asked.
    questions::look_after_all(context);
    Ok(report)
}

fn sweep_and(
    archiving: Archiving,
    context: &Context,
    only: Option<&Slug>,
    deadline: Instant,
    progress: &mut dyn FnMut(Progress),
) -> Result<CleanupReport, PassError> {
    context.home.check_sole_and_lockable()?;
    let mut lock = take_lock(archiving, &context.home)?;
    let now = Moment::now();
    let doubt = lock.begin_sweep(&now);
    // Before anything goes.
    let history = history::complete(context);
    let measuring = deadline.saturating_duration_since(Instant::now()) / 3;
    let measure_until = Instant::now() + measuring.min(BUDGET_MEASURING_TIMEOUT);
    let Decided { mut verdicts, bounds } = decide(context, only, &Forecast::default(), now.at, doubt, measure_until)?;
    if let Err(Incomplete { workbenches, .. }) = &history {
        keep_unrecorded(&mut verdicts, workbenches);
    }
    let note = doubt.map(|doubt| format!("{doubt}; nothing was removed this time"));
    let mut report = CleanupReport { scanned: verdicts.len(), note, ..CleanupReport::default() };
    for verdict in verdicts.iter().filter(|verdict| verdict.reason.why == Why::Asked) {
        // One that lost its mark would never expire.
        if let Err(error) = question::state::open(&context.home, &verdict.newest) {
            tracing::warn!(run = %verdict.newest, %error, "its question cannot be marked as open");
        }
    }
    let candidates = unsaved::take_candidates(&context.home, &bounds, &mut verdicts);
    let trashed = trash::move_there(context, verdicts, &mut report)?;
    let stuck_pins = remove_pins_of_gone_runs(&context.home);
    let not_forgotten = forget_gone(&context.home);
    drop(lock);
    for error in not_forgotten {
        tracing::warn!(%error, "what is known of a question or of a continuation could not be tidied");
    }
    if let Err(error) = history {
        tracing::warn!(%error);
    }
    for (run, error) in stuck_pins {
        tracing::warn!(%run, %error, "cannot remove the pin of a run that is gone");
    }
    trash::delete(context, trashed, deadline, &mut report, progress);
    if archiving == Archiving::Here
        && doubt.is_none()
        && let Err(error) = stores::make_room(context)
    {
        tracing::warn!(%error, "archives that may go could not be removed");
    }
    remove_candidates(archiving, context, &bounds, candidates, deadline, &mut report, progress)?;
    // The history goes by age too.
    if doubt.is_none()
        && let Err(error) = history::tidy(&context.home, &context.config)
    {
        tracing::warn!(%error, "cannot tidy the history");
    }
    Ok(report)
}

/// Looks at the workbenches that may hold work, and removes those whose work is saved, or archived by now.
fn remove_candidates(
    archiving: Archiving,
    context: &Context,
    bounds: &HashMap<Slug, Bounds>,
    mut candidates: Candidates,
    deadline: Instant,
    report: &mut CleanupReport,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), PassError> {
    unsaved::keep_read(&context.home, &mut candidates);
    let mut candidates = candidates.verdicts;
    if candidates.is_empty() {
        return Ok(());
    }
    let until = if archiving == Archiving::Here { deadline } else { Instant::now() + EXAMINING_TIMEOUT };
    let mut is_needed = false;
    let room = LazyCell::new(|| stores::has_room(context));
    let has_room = || if archiving == Archiving::Here { stores::has_room(context) } else { *room };
    candidates.reverse();
    while !candidates.is_empty() {
        let mut some = Vec::new();
        let looked = Instant::now();
        while looked.elapsed() < LOOKING_TIMEOUT
            && (some.is_empty() || archiving != Archiving::Here)
            && let Some(mut next) = candidates.pop()
        {
            is_needed |= unsaved::decide(context, bounds, &mut next, archiving, until, &has_room);
            some.push(next);
        }
        // Archiving takes long enough for somebody to come.
        unsaved::keep_in_use(&context.home, &mut some);
        let decided = Instant::now();
        let lock = match take_lock(archiving, &context.home) {
            Ok(lock) if archiving == Archiving::Here && decided.elapsed() > STALE_LOOK => {
                // Somebody may have gone on while another swept.
                drop(lock);
                candidates.append(&mut some);
                continue;
            }
            Ok(lock) => lock,
            Err(error @ SweepLockError::Held(_)) => {
                report.note = Some(format!("{error}; the next sweep goes on with the rest"));
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let trashed = trash::move_there(context, some, report)?;
        drop(lock);
        trash::delete(context, trashed, deadline, report, progress);
    }
    if is_needed && archiving == Archiving::Elsewhere {
        unsaved::start_archiving(context);
    }
    Ok(())
}

fn take_lock(archiving: Archiving, home: &Home) -> Result<SweepLock, SweepLockError> {
    match archiving {
        Archiving::Here => SweepLock::take_within(home, ARCHIVER_LOCK_TIMEOUT),
        _ => SweepLock::take(home),
    }
}

/// The plan, and the bounds that it was made by.
struct Decided {
    verdicts: Vec<Verdict>,
    bounds: HashMap<Slug, Bounds>,
}

fn decide(
    context: &Context,
    only: Option<&Slug>,
    forecast: &Forecast,
    now: UnixSeconds,
    clock_doubt: Option<ClockDoubt>,
    measure_until: Instant,
) -> Result<Decided, FileError> {
    let mut bounds = BoundsTable::new(&context.home, &context.config);
    let Inventory { items, pins, disk } = Inventory::take(context, only, &mut bounds, forecast, now, measure_until)?;
    let problems = Problem::all(&context.home).into_iter().filter(|problem| problem.holds(now));
    let not_archivable = problems.map(|problem| problem.run).collect();
    let rules = Rules { bounds: &bounds.known, pins: &pins, not_archivable: &not_archivable, disk, now, clock_doubt };
    let verdicts = plan(items, &rules);
    Ok(Decided { verdicts, bounds: bounds.known })
}

/// Forgets the questions and continuations of workbenches that are gone, and marks those again that wait for an answer and lost their
/// mark; returns what could not be done.
fn forget_gone(home: &Home) -> Vec<FileError> {
    // Read only once all questions are listed, and so after each of their runs was claimed.
    let continuations = LazyCell::new(|| Continuations::read(home));
    let is_gone = |run: &RunId| {
        let is_gone = |known: &Continuations| {
            !is_any_unfinished(home, known.workbench_of(run)) && known.is_workbench_gone(home, run)
        };
        continuations.as_ref().is_ok_and(is_gone)
    };
    let mut errors = question::state::tidy(home, is_gone);
    // Last: it tells the workbenches of the others.
    errors.extend(continuation::tidy::tidy(home));
    errors
}

/// Removes the pins of runs that have neither workbench nor entry, as when an agent removed its own directory; returns those
/// that stay. A pin is made for a run that exists, so a run that is not there after its pin was listed is gone.
fn remove_pins_of_gone_runs(home: &Home) -> Vec<(RunId, FileError)> {
    let mut pins = pin::list(home).unwrap_or_default();
    // In this order: a process that records an end may make the workbench again before the entry goes.
    pins.retain(|run| !is_any_unfinished(home, run) && !Workbench::named(home, run).exists());
    let remove = |run: RunId| {
        let removed = atomic_file::remove_if_present(&Workbench::named(home, &run).pin_file(home));
        removed.err().map(|error| (run, error))
    };
    pins.into_iter().filter_map(remove).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::config::Config;
    use crate::run::context::Program;
    use crate::run::continuation::Continuation;
    use crate::run::record::Outcome;
    use crate::run::status::Status;

    #[test]
    fn a_sweep_that_sees_the_clock_set_removes_no_history() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
        let old = home.root().join("history.1000.jsonl");
        for path in [&old, &home.history_file()] {
            std::fs::write(path, "").unwrap();
        }
        let now = Moment::now();
        let before = Moment { at: UnixSeconds(now.at.0 - 1_000_000), ..now };
        SweepLock::take(&home).unwrap().begin_sweep(&before);
        let sweep_again = || sweep(&context, None, Instant::now() + Duration::from_secs(60), &mut |_| {}).unwrap();
        assert!(sweep_again().note.is_some() && old.exists());
        assert!(sweep_again().note.is_none() && !old.exists());
    }

    #[test]
    fn a_workbench_goes_only_once_its_run_is_in_the_history() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
        let run = format!("a-{}", UnixSeconds::now().0 - 60 * 24 * 60 * 60);
        let outcome = Outcome::example(&run, Status::Succeeded);
        let workbench = Workbench::of(&home, &outcome.id);
        workbench.make().unwrap();
        atomic_file::write_json(&workbench.outcome_file(), &outcome).unwrap();
        let sweep_again = || sweep(&context, None, Instant::now() + Duration::from_secs(60), &mut |_| {}).unwrap();
        std::fs::create_dir_all(home.history_lock()).unwrap();
        let report = sweep_again();
        assert_eq!((report.kept[0].reason.why.clone(), report.removed), (Why::NotInHistory, Vec::new()));
        std::fs::remove_dir(home.history_lock()).unwrap();
        assert_eq!((sweep_again().removed.len(), workbench.exists()), (1, false));
        assert_eq!(context.history.find(&home, &outcome.id).unwrap().unwrap().outcome, outcome);
    }

    #[test]
    fn a_pin_stays_while_its_workbench_cannot_be_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let run: RunId = "a-1".parse().unwrap();
        Workbench::of(&home, &run).make().unwrap();
        pin::pin(&home, &run).unwrap();
        let away = dir.path().join("away");
        std::fs::rename(home.workbenches(), &away).unwrap();
        std::os::unix::fs::symlink("workbenches", home.workbenches()).unwrap();
        remove_pins_of_gone_runs(&home);
        assert!(pin::is_pinned(&home, &Workbench::named(&home, &run)), "not gone, only out of sight");
        std::fs::remove_file(home.workbenches()).unwrap();
        std::fs::create_dir(home.workbenches()).unwrap();
        remove_pins_of_gone_runs(&home);
        assert!(!pin::is_pinned(&home, &Workbench::named(&home, &run)));
    }

    #[test]
    fn a_pin_that_pins_nothing_takes_no_other_along() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let [first, next]: [RunId; 2] = ["a-1", "a-5"].map(|run| run.parse().unwrap());
        Workbench::named(&home, &first).make().unwrap();
        let claimed = Continuation::now(&next, &first, &first);
        assert!(claimed.create(&home).unwrap());
        claimed.link(&home).unwrap();
        pin::pin(&home, &next).unwrap();
        // By hand: pins have the names of workbenches.
        std::fs::write(home.pins().join("a-5"), "").unwrap();
        assert!(remove_pins_of_gone_runs(&home).is_empty());
        assert!(pin::list(&home).unwrap().iter().eq([&first]));
    }
}
