//! The sweep: removes the workbenches of finished runs whose retention has passed.
//!
//! Evidence is gathered, the plan is made and its workbenches are renamed into the trash within one turn;
//! deleting what lies there comes after it, and may take as long as it likes.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::clock_doubt::ClockDoubt;
use super::evidence::{Evidence, gather};
use super::extent::{Allowance, Extent};
use super::plan::{Fate, Reason, Rules, Verdict, Why, plan};
use super::remove;
use super::turn::{Turn, TurnError, clock_doubt};
use super::watchdog::{Forecast, WatchError};
use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::FileError;
use crate::home::{self, Home, UnsafeHome};
use crate::process_tree::{Cookie, Scan, ScanError};
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::entry::{Entry, Workbench};
use crate::run::history::{self, Incomplete};
use crate::run::id::RunId;
use crate::run::pin;

/// What a sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Workbenches that are gone, or would be.
    pub removed: Vec<Removed>,
    /// Workbenches that stay.
    pub kept: Vec<Kept>,
    /// What could not be removed; the next sweep tries again.
    pub failed: Vec<SweepFailure>,
    /// Bytes given back to the file system.
    pub freed_bytes: u64,
    /// Bytes that still lie in the trash.
    pub pending_bytes: u64,
    /// What would be removed, in a dry run.
    pub removable: Option<Extent>,
    /// How many workbenches were looked at.
    pub scanned: usize,
    /// Why the wall clock was not trusted, if it was not: then nothing was removed.
    pub clock_doubt: Option<ClockDoubt>,
}

/// A workbench that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its run.
    pub run: RunId,
    /// Why.
    pub reason: Reason,
    /// Its size on disk.
    pub bytes: u64,
}

/// A workbench that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its run.
    pub run: RunId,
    /// Why.
    pub reason: Reason,
    /// Until when, if that can be told.
    pub until: Option<UnixSeconds>,
}

/// Something that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepFailure {
    /// Its run.
    pub run: RunId,
    /// The file or directory.
    pub path: String,
    /// Why not.
    pub error: String,
}

/// No sweep took place.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Another process is at it.
    #[error(transparent)]
    Turn(#[from] TurnError),
    /// The home is not safe for it.
    #[error(transparent)]
    UnsafeHome(#[from] UnsafeHome),
    /// A folder of the home cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Processes cannot be listed, so that nothing may be removed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// It is more than is allowed.
    #[error("nothing was removed, for this would remove {0}")]
    TooMuch(Extent),
}

impl From<WatchError> for SweepError {
    /// A clean-up makes a watchdog pass first, which fails for the same reasons.
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::UnsafeHome(error) => Self::UnsafeHome(error),
            WatchError::File(error) => Self::File(error),
        }
    }
}

/// How long a dry run measures for the home's budgets, which is as long as a clean-up may.
const SIZING_PATIENCE: Duration = Duration::from_secs(10);

/// How long measuring may take, where it is not the removal itself that tells the sizes.
const MEASURING_PATIENCE: Duration = Duration::from_secs(5);

/// Tells what a sweep would do after a watchdog pass that did what is forecast, changing nothing.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn dry_run(context: &Context, only: Option<&Slug>, forecast: &Forecast) -> Result<SweepReport, FileError> {
    let now = Moment::now();
    let clock_doubt = clock_doubt(&context.home, &now);
    let verdicts = decide(context, only, forecast, now.at, clock_doubt, Instant::now() + SIZING_PATIENCE)?;
    let stop_at = Instant::now() + MEASURING_PATIENCE;
    let mut report = SweepReport { scanned: verdicts.len(), clock_doubt, ..SweepReport::default() };
    let mut removable = Extent { workbenches: 0, bytes: 0, complete: true };
    for Verdict { run, fate, reason, .. } in verdicts {
        match fate {
            Fate::Keep(until) => report.kept.push(Kept { run, reason, until }),
            Fate::Reap => {
                let name = OsString::from(run.to_string());
                let size = remove::measure(&context.home.workbenches(), &name, &|| Instant::now() >= stop_at);
                removable.workbenches += 1;
                removable.bytes += size.bytes;
                removable.complete &= size.complete;
                report.removed.push(Removed { run, reason, bytes: size.bytes });
            }
        }
    }
    report.removable = Some(removable);
    Ok(report)
}

/// How far a sweep is with deleting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Workbenches that are deleted.
    pub done: usize,
    /// Workbenches that are to be.
    pub total: usize,
    /// Bytes given back so far.
    pub freed_bytes: u64,
}

/// Sweeps, and deletes until `deadline`; what still lies in the trash then is for [`super::trash::empty`].
///
/// # Errors
/// Nothing was removed.
pub fn sweep(context: &Context, only: Option<&Slug>, deadline: Instant) -> Result<SweepReport, SweepError> {
    sweep_telling(context, only, Allowance::All, deadline, &mut |_| {})
}

/// Sweeps as [`sweep`] does if it is no more than `allowance`, and tells before and after each workbench how far it is.
///
/// # Errors
/// As for [`sweep`], and that it is more.
pub fn sweep_telling(
    context: &Context,
    only: Option<&Slug>,
    allowance: Allowance,
    deadline: Instant,
    tell: &mut dyn FnMut(Progress),
) -> Result<SweepReport, SweepError> {
    context.home.check_sole_and_lockable()?;
    let mut turn = Turn::take(&context.home)?;
    let now = Moment::now();
    let clock_doubt = turn.begin_sweep(&now);
    // Before anything goes.
    let history = history::complete(context);
    let sizing = deadline.saturating_duration_since(Instant::now()) / 3;
    let mut verdicts = decide(context, only, &Forecast::default(), now.at, clock_doubt, Instant::now() + sizing)?;
    if let Err(Incomplete { runs, .. }) = &history {
        verdicts.iter_mut().filter(|verdict| runs.contains(&verdict.run)).for_each(Verdict::keep_as_the_only_record);
    }
    let due: Vec<&RunId> =
        verdicts.iter().filter(|verdict| verdict.fate == Fate::Reap).map(|verdict| &verdict.run).collect();
    if let Some(extent) = allowance.exceeded_by(&context.home.workbenches(), &due) {
        return Err(SweepError::TooMuch(extent));
    }
    let mut report = SweepReport { scanned: verdicts.len(), clock_doubt, ..SweepReport::default() };
    let graves = bury(context, verdicts, &mut report)?;
    let vain_pins = remove_vain_pins(&context.home);
    drop(turn);
    if let Err(error) = history {
        tracing::warn!(%error);
    }
    for (run, error) in vain_pins {
        tracing::warn!(%run, %error, "the pin of a run that is gone stays");
    }
    delete(context, graves, deadline, &mut report, tell);
    // By age, too, which a wrong clock tells wrong.
    if clock_doubt.is_none()
        && let Err(error) = history::tidy(&context.home, &context.config)
    {
        tracing::warn!(%error, "the history was not tidied");
    }
    Ok(report)
}

fn decide(
    context: &Context,
    only: Option<&Slug>,
    forecast: &Forecast,
    now: UnixSeconds,
    clock_doubt: Option<ClockDoubt>,
    measure_until: Instant,
) -> Result<Vec<Verdict>, FileError> {
    let mut bounds = BoundsTable::new(&context.home, &context.config);
    let Evidence { benches, pins, disk } = gather(context, only, &mut bounds, forecast, now, measure_until)?;
    Ok(plan(benches, &Rules { bounds: bounds.known(), pins: &pins, disk, now, clock_doubt }))
}

/// Removes the pins of runs that have neither a workbench nor an entry any more, as when an agent removed its own directory;
/// returns those that stay. A pin is made for a run that is there, so one that was not there after its pin was listed is gone.
fn remove_vain_pins(home: &Home) -> Vec<(RunId, FileError)> {
    let mut pins = pin::list(home).unwrap_or_default();
    // In this order: a process that records an end may make the workbench again before the entry goes.
    pins.retain(|run| !Entry::of(home, run).exists() && !Workbench::of(home, run).exists());
    pins.into_iter().filter_map(|run| pin::unpin(home, &run).err().map(|error| (run, error))).collect()
}

/// A workbench in the trash.
struct Grave {
    run: RunId,
    reason: Reason,
    cookie: Option<Cookie>,
    name: OsString,
}

/// Renames what is to go into the trash, looking at its life once more before and after.
fn bury(context: &Context, verdicts: Vec<Verdict>, report: &mut SweepReport) -> Result<Vec<Grave>, SweepError> {
    let home = &context.home;
    let mut doomed = Vec::new();
    for Verdict { run, fate, reason, cookie } in verdicts {
        match fate {
            Fate::Keep(until) => report.kept.push(Kept { run, reason, until }),
            Fate::Reap => doomed.push((run, reason, cookie)),
        }
    }
    if doomed.is_empty() {
        return Ok(Vec::new());
    }
    // What keeps a run after all, that the plan did not know of.
    let kept_by = |alive: &HashSet<Cookie>, run: &RunId, cookie: Option<&Cookie>| {
        if cookie.is_some_and(|cookie| alive.contains(cookie)) || Entry::of(home, run).exists() {
            Some(Why::AliveAfterAll)
        } else {
            pin::is_pinned(home, run).then_some(Why::Pinned)
        }
    };
    let before = Scan::take()?.cookies();
    let mut graves = Vec::new();
    for (run, reason, cookie) in doomed {
        if let Some(why) = kept_by(&before, &run, cookie.as_ref()) {
            report.kept.push(Kept { run, reason: Reason { why, ..reason }, until: None });
            continue;
        }
        let name = OsString::from(format!("{run}.{}", home::random_suffix()));
        let workbench = Workbench::of(home, &run);
        match put_away(workbench.directory(), &home.trash().join(&name)) {
            Ok(()) => graves.push(Grave { run, reason, cookie, name }),
            // Somebody else removed it: what we wanted.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => report.failed.push(failure(run, workbench.directory(), &error)),
        }
    }
    let after = Scan::take().map(|scan| scan.cookies());
    let mut dead = Vec::new();
    for grave in graves {
        let kept = match &after {
            Ok(alive) => kept_by(alive, &grave.run, grave.cookie.as_ref()),
            Err(error) => Some(Why::Unknown(error.to_string())),
        };
        let Some(why) = kept else {
            dead.push(grave);
            continue;
        };
        let Grave { run, name, reason, .. } = grave;
        let reason = Reason { why, ..reason };
        let workbench = Workbench::of(home, &run);
        match std::fs::rename(home.trash().join(&name), workbench.directory()) {
            Ok(()) => report.kept.push(Kept { run, reason, until: None }),
            Err(error) => report.failed.push(failure(run, &home.trash().join(&name), &error)),
        }
    }
    Ok(dead)
}

/// Moves a workbench; one that its agent made read-only has to be opened for that.
fn put_away(workbench: &Path, grave: &Path) -> io::Result<()> {
    match std::fs::rename(workbench, grave) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            home::restore_access(workbench)?;
            std::fs::rename(workbench, grave)
        }
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let cure = format!("something may be mounted there: umount '{}'", workbench.display());
            Err(io::Error::new(error.kind(), format!("{error}; {cure}")))
        }
        result => result,
    }
}

fn delete(
    context: &Context,
    graves: Vec<Grave>,
    deadline: Instant,
    report: &mut SweepReport,
    tell: &mut dyn FnMut(Progress),
) {
    let trash = context.home.trash();
    let late = || Instant::now() >= deadline;
    let stop_measuring_at = deadline + MEASURING_PATIENCE;
    let total = graves.len();
    for (done, Grave { run, reason, name, .. }) in graves.into_iter().enumerate() {
        tell(Progress { done, total, freed_bytes: report.freed_bytes });
        let removal = remove::remove(&trash, &name, &late);
        report.freed_bytes += removal.freed_bytes;
        let mut bytes = removal.freed_bytes;
        if !removal.finished {
            let left = remove::measure(&trash, &name, &|| Instant::now() >= stop_measuring_at).bytes;
            report.pending_bytes += left;
            bytes += left;
        }
        for left in &removal.failures {
            report.failed.push(failure(run.clone(), &left.path, left));
        }
        report.removed.push(Removed { run, reason, bytes });
    }
    tell(Progress { done: total, total, freed_bytes: report.freed_bytes });
}

fn failure(run: RunId, path: &Path, error: &dyn std::fmt::Display) -> SweepFailure {
    SweepFailure { run, path: path.display().to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::atomic_file;
    use crate::home::config::Config;
    use crate::run::context::Program;
    use crate::run::record::Outcome;
    use crate::run::status::Status;
    use std::os::unix::fs::PermissionsExt;

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
        Turn::take(&home).unwrap().begin_sweep(&before);
        let sweep_again = || sweep(&context, None, Instant::now() + Duration::from_secs(60)).unwrap();
        assert!(sweep_again().clock_doubt.is_some() && old.exists());
        assert!(sweep_again().clock_doubt.is_none() && !old.exists());
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
        let sweep_again = || sweep(&context, None, Instant::now() + Duration::from_secs(60)).unwrap();
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
        remove_vain_pins(&home);
        assert!(pin::is_pinned(&home, &run), "not gone, only out of sight");
        std::fs::remove_file(home.workbenches()).unwrap();
        std::fs::create_dir(home.workbenches()).unwrap();
        remove_vain_pins(&home);
        assert!(!pin::is_pinned(&home, &run));
    }

    #[test]
    fn a_read_only_workbench_is_put_away_too() {
        let dir = tempfile::tempdir().unwrap();
        let (workbench, trash) = (dir.path().join("a-1"), dir.path().join("trash"));
        std::fs::create_dir_all(workbench.join("sub")).unwrap();
        std::fs::create_dir(&trash).unwrap();
        std::fs::set_permissions(&workbench, PermissionsExt::from_mode(0o555)).unwrap();
        put_away(&workbench, &trash.join("a-1.x")).unwrap();
        assert!(trash.join("a-1.x/sub").is_dir() && !workbench.exists());
        assert_eq!(put_away(&workbench, &trash.join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
