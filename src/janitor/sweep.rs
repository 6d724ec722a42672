//! The sweep: removes the workbenches of finished runs whose retention has passed.
//!
//! Evidence is gathered, the plan is made and its workbenches are renamed into the trash under the janitor's lock;
//! deleting what lies there comes after it, and may take as long as it likes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::evidence::{Evidence, gather};
use super::plan::{Fate, Verdict, plan};
use super::remove;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::{self, UnsafeHome};
use crate::process_tree::{Cookie, Scan, ScanError};
use crate::routine::bounds::{Bounds, BoundsTable};
use crate::routine::slug::Slug;
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::workplace::Workplace;

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
    /// How many workbenches were looked at.
    pub scanned: usize,
}

/// A workbench that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its run.
    pub run: RunId,
    /// Why.
    pub reason: String,
    /// Its size on disk.
    pub bytes: u64,
}

/// A workbench that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its run.
    pub run: RunId,
    /// Why.
    pub reason: String,
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
    #[error("a sweep is under way in pid {pid}; nothing was removed by this one, try again in a moment")]
    Busy {
        /// That process, as it wrote itself down.
        pid: String,
    },
    /// The home is not safe for it.
    #[error(transparent)]
    UnsafeHome(#[from] UnsafeHome),
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
    /// A folder of the home cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Processes cannot be listed, so that nothing may be removed.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

/// How long a sweep waits for another one.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How long measuring may take, where it is not the removal itself that tells the sizes.
const MEASURING_PATIENCE: Duration = Duration::from_secs(5);

/// Tells what a sweep would do, changing nothing.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn dry_run(workplace: &Workplace, only: Option<&Slug>) -> Result<SweepReport, FileError> {
    let gathered = gather(workplace, only)?;
    let verdicts = decide(workplace, &gathered);
    let stop_at = Instant::now() + MEASURING_PATIENCE;
    let mut report = SweepReport { scanned: gathered.len(), ..SweepReport::default() };
    for Verdict { run, fate, reason } in verdicts {
        match fate {
            Fate::Keep(until) => report.kept.push(Kept { run, reason, until }),
            Fate::Reap => {
                let name = OsString::from(run.to_string());
                let measured = remove::measure(&workplace.home.workbenches(), &name, &|| Instant::now() >= stop_at);
                report.removed.push(Removed { run, reason, bytes: measured.bytes });
            }
        }
    }
    Ok(report)
}

/// Sweeps, and deletes until `deadline`; what still lies in the trash then is for [`empty_trash`].
///
/// # Errors
/// Nothing was removed.
pub fn sweep(workplace: &Workplace, only: Option<&Slug>, deadline: Instant) -> Result<SweepReport, SweepError> {
    workplace.home.check_sole_and_lockable()?;
    let lock = lock(workplace)?;
    let gathered = gather(workplace, only)?;
    let verdicts = decide(workplace, &gathered);
    let cookies = gathered.iter().filter_map(|evidence| Some((&evidence.bench.run, evidence.cookie?))).collect();
    let mut report = SweepReport { scanned: gathered.len(), ..SweepReport::default() };
    let graves = bury(workplace, verdicts, &cookies, &mut report)?;
    drop(lock);
    delete(workplace, graves, deadline, &mut report);
    Ok(report)
}

/// Deletes what lies in the trash, as far as a sweep is done with it.
///
/// # Errors
/// Another process is sweeping, or the trash cannot be listed.
pub fn empty_trash(workplace: &Workplace) -> Result<(), SweepError> {
    let trash = workplace.home.trash();
    let held = lock(workplace)?;
    // Listed under the lock: a sweep that holds it may still want to put back what it just put there.
    let fail = |source| FileError::io("list", &trash, source);
    let names: Vec<OsString> = std::fs::read_dir(&trash)
        .and_then(|files| files.map(|file| file.map(|file| file.file_name())).collect())
        .map_err(fail)?;
    drop(held);
    for name in names {
        let removal = remove::remove(&trash, &name, &|| false);
        if let Some(failure) = removal.failures.first() {
            tracing::warn!(%failure, failures = removal.failure_count, "the trash could not be emptied");
        }
    }
    Ok(())
}

fn lock(workplace: &Workplace) -> Result<FileLock, SweepError> {
    let path = workplace.home.janitor_lock();
    match FileLock::acquire(&path, Mode::Exclusive, LOCK_PATIENCE) {
        Ok(mut lock) => {
            // Only a courtesy to whoever finds the lock held.
            let _ = lock.set_content(&std::process::id().to_string());
            Ok(lock)
        }
        Err(LockError::Held { .. }) => {
            let pid = atomic_file::read_text(&path).unwrap_or_default().trim().to_owned();
            Err(SweepError::Busy { pid: if pid.is_empty() { "unknown".to_owned() } else { pid } })
        }
        Err(error) => Err(SweepError::Lock(error)),
    }
}

fn decide(workplace: &Workplace, gathered: &[Evidence]) -> Vec<Verdict> {
    let mut table = BoundsTable::new(&workplace.home, &workplace.config);
    let mut bounds: BTreeMap<Slug, Bounds> = BTreeMap::new();
    for evidence in gathered {
        let slug = evidence.bench.run.routine();
        if !bounds.contains_key(slug) {
            bounds.insert(slug.clone(), table.get(slug).clone());
        }
    }
    let benches: Vec<_> = gathered.iter().map(|evidence| evidence.bench.clone()).collect();
    plan(&benches, &bounds, UnixSeconds::now())
}

/// A workbench in the trash.
struct Grave {
    run: RunId,
    reason: String,
    name: OsString,
}

/// Renames what is to go into the trash, looking at its life once more before and after.
fn bury(
    workplace: &Workplace,
    verdicts: Vec<Verdict>,
    cookies: &HashMap<&RunId, Cookie>,
    report: &mut SweepReport,
) -> Result<Vec<Grave>, SweepError> {
    let home = &workplace.home;
    let mut doomed = Vec::new();
    for Verdict { run, fate, reason } in verdicts {
        match fate {
            Fate::Keep(until) => report.kept.push(Kept { run, reason, until }),
            Fate::Reap => doomed.push((run, reason)),
        }
    }
    if doomed.is_empty() {
        return Ok(Vec::new());
    }
    let lives = |scan: &Scan, run: &RunId| {
        let carried = cookies.get(run).is_some_and(|cookie| !scan.carriers(cookie).is_empty());
        carried || Entry::of(home, run).exists()
    };
    let before = Scan::take()?;
    let mut graves = Vec::new();
    for (run, reason) in doomed {
        if lives(&before, &run) {
            report.kept.push(Kept { run, reason: "a process of it is alive after all".to_owned(), until: None });
            continue;
        }
        let name = OsString::from(format!("{run}.{}", home::random_suffix()));
        let workbench = Workbench::of(home, &run);
        match put_away(workbench.directory(), &home.trash().join(&name)) {
            Ok(()) => graves.push(Grave { run, reason, name }),
            // Somebody else removed it: what we wanted.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => report.failed.push(failure(run, workbench.directory(), &error)),
        }
    }
    let after = Scan::take();
    let (dead, alive): (Vec<Grave>, Vec<Grave>) =
        graves.into_iter().partition(|grave| after.as_ref().is_ok_and(|scan| !lives(scan, &grave.run)));
    for Grave { run, name, .. } in alive {
        let workbench = Workbench::of(home, &run);
        match std::fs::rename(home.trash().join(&name), workbench.directory()) {
            Ok(()) => {
                report.kept.push(Kept { run, reason: "it came alive while it was put away".to_owned(), until: None })
            }
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
        result => result,
    }
}

fn delete(workplace: &Workplace, graves: Vec<Grave>, deadline: Instant, report: &mut SweepReport) {
    let trash = workplace.home.trash();
    let late = || Instant::now() >= deadline;
    let stop_measuring_at = deadline + MEASURING_PATIENCE;
    for Grave { run, reason, name } in graves {
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
}

fn failure(run: RunId, path: &Path, error: &dyn std::fmt::Display) -> SweepFailure {
    SweepFailure { run, path: path.display().to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
