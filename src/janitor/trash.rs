//! The trash: workbenches are renamed into it, out of sight, and deleted there at leisure.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::PassError;
use super::plan::{Decision, Verdict};
use super::reason::{Reason, Why};
use super::remove;
use super::report::{CleanupReport, Failed, Kept, Removed};
use super::sweep_lock::SweepLock;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, Mode};
use crate::home::{self, Home};
use crate::process_tree::{Cookie, Scan};
use crate::routine::store::ROUTINES_LOCK_TIMEOUT;
use crate::run::context::Context;
use crate::run::continuation::is_claimed;
use crate::run::id::RunId;
use crate::run::pin;
use crate::run::workbench::Workbench;

/// How many of the workbenches to delete are deleted, and what that gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub(crate) done: usize,
    pub(crate) total: usize,
    pub(crate) freed_bytes: u64,
}

/// A workbench in the trash, and its name there.
pub(super) type Trashed = (Verdict, OsString);

/// Renames what the plan removes into the trash. Before and after the rename it looks again whether the run is alive or
/// pinned, and puts back what is.
pub(super) fn move_there(
    context: &Context,
    verdicts: Vec<Verdict>,
    report: &mut CleanupReport,
) -> Result<Vec<Trashed>, PassError> {
    let home = &context.home;
    let mut removable = Vec::new();
    for verdict in verdicts {
        match verdict.decision {
            Decision::Keep(until) => report.kept.push(Kept { run: verdict.run, reason: verdict.reason, until }),
            Decision::Remove => removable.push(verdict),
        }
    }
    if removable.is_empty() {
        return Ok(Vec::new());
    }
    let alive = Scan::take()?.cookies();
    let mut trashed = Vec::new();
    for verdict in removable {
        let name = OsString::from(format!("{}.{}", verdict.run, home::random_suffix()));
        let workbench = Workbench::named(home, &verdict.run);
        // No run that continues this one is claimed between the look and the rename.
        let lock = match FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT) {
            Ok(lock) => lock,
            Err(error) => {
                report.failed.push(failed(verdict.run, workbench.directory(), &error));
                continue;
            }
        };
        if let Some(why) = reason_to_keep(home, &alive, &verdict) {
            report.kept.push(kept(verdict, why));
            continue;
        }
        let renamed = rename(workbench.directory(), &home.trash().join(&name));
        drop(lock);
        match renamed {
            Ok(()) => trashed.push((verdict, name)),
            // Another process removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => report.failed.push(failed(verdict.run, workbench.directory(), &error)),
        }
    }
    let alive = Scan::take().map(|scan| scan.cookies());
    let mut over = Vec::new();
    for (verdict, name) in trashed {
        let why = match &alive {
            Ok(alive) => reason_to_keep(home, alive, &verdict),
            Err(error) => Some(Why::Unknown(error.to_string())),
        };
        let Some(why) = why else {
            over.push((verdict, name));
            continue;
        };
        let there = home.trash().join(&name);
        match std::fs::rename(&there, Workbench::named(home, &verdict.run).directory()) {
            Ok(()) => report.kept.push(kept(verdict, why)),
            Err(error) => report.failed.push(failed(verdict.run, &there, &error)),
        }
    }
    Ok(over)
}

/// Returns what keeps a run that the plan did not know of.
fn reason_to_keep(home: &Home, alive: &HashSet<Cookie>, Verdict { run, cookie, .. }: &Verdict) -> Option<Why> {
    if cookie.as_ref().is_some_and(|cookie| alive.contains(cookie)) || is_claimed(home, run) {
        return Some(Why::AliveAfterAll);
    }
    pin::is_pinned(home, &Workbench::named(home, run)).then_some(Why::Pinned)
}

fn kept(verdict: Verdict, why: Why) -> Kept {
    Kept { run: verdict.run, reason: Reason { why, ..verdict.reason }, until: None }
}

/// Renames a workbench, also one that its agent made read-only.
fn rename(workbench: &Path, trashed: &Path) -> io::Result<()> {
    match std::fs::rename(workbench, trashed) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            home::restore_access(workbench)?;
            std::fs::rename(workbench, trashed)
        }
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let fix = format!("something may be mounted there: umount '{}'", workbench.display());
            Err(io::Error::new(error.kind(), format!("{error}; {fix}")))
        }
        result => result,
    }
}

/// How long after the deadline what is left over is measured.
const MEASURING_TIMEOUT: Duration = Duration::from_secs(5);

/// Deletes what a sweep moved into the trash until `deadline`, and measures what is left then.
pub(super) fn delete(
    context: &Context,
    trashed: Vec<Trashed>,
    deadline: Instant,
    report: &mut CleanupReport,
    progress: &mut dyn FnMut(Progress),
) {
    let trash = context.home.trash();
    let total = trashed.len();
    for (done, (Verdict { run, reason, archived, .. }, name)) in trashed.into_iter().enumerate() {
        progress(Progress { done, total, freed_bytes: report.freed_bytes });
        let removal = remove::remove(&trash, &name, &|| Instant::now() >= deadline);
        report.freed_bytes += removal.freed_bytes;
        let mut bytes = removal.freed_bytes;
        if !removal.finished {
            let left = remove::measure(&trash, &name, &|| Instant::now() >= deadline + MEASURING_TIMEOUT).bytes;
            report.pending_bytes += left;
            bytes += left;
        }
        for failure in &removal.failures {
            report.failed.push(failed(run.clone(), &failure.path, failure));
        }
        report.removed.push(Removed { run, reason, bytes, archived, not_archived: None });
    }
    progress(Progress { done: total, total, freed_bytes: report.freed_bytes });
}

fn failed(run: RunId, path: &Path, error: &dyn std::fmt::Display) -> Failed {
    Failed { run, path: path.display().to_string(), error: error.to_string() }
}

/// Deletes everything in the trash; what cannot be deleted stays for the next time.
///
/// # Errors
/// Another process is sweeping, or the trash cannot be listed.
pub fn empty(home: &Home) -> Result<(), PassError> {
    let trash = home.trash();
    // Listed under the lock: a sweep may still put back what it has just moved there.
    let lock = SweepLock::take(home)?;
    let names: Vec<OsString> = std::fs::read_dir(&trash)
        .and_then(|files| files.map(|file| file.map(|file| file.file_name())).collect())
        .map_err(|source| FileError::io("list", &trash, source))?;
    drop(lock);
    for name in names {
        let removal = remove::remove(&trash, &name, &|| false);
        if let Some(failure) = removal.failures.first() {
            tracing::warn!(%failure, failures = removal.failure_count, "cannot empty the trash");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_read_only_workbench_is_renamed_too() {
        let dir = tempfile::tempdir().unwrap();
        let (workbench, trash) = (dir.path().join("a-1"), dir.path().join("trash"));
        std::fs::create_dir_all(workbench.join("sub")).unwrap();
        std::fs::create_dir(&trash).unwrap();
        std::fs::set_permissions(&workbench, PermissionsExt::from_mode(0o555)).unwrap();
        rename(&workbench, &trash.join("a-1.x")).unwrap();
        assert!(trash.join("a-1.x/sub").is_dir() && !workbench.exists());
        assert_eq!(rename(&workbench, &trash.join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
