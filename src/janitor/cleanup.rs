//! Cleaning up on demand: one watchdog pass, then one sweep, within a bounded time.

use std::time::{Duration, Instant};

use super::PassError;
use super::questions;
use super::report::CleanupReport;
use super::sweep;
use super::sweep_lock::SweepLockError;
use super::trash;
use super::trash::Progress;
use super::watchdog::{self, Forecast, WatchReport};
use crate::home::atomic_file::FileError;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::home_machine;
use crate::run::id::RunId;

/// Returns what [`clean_up`] would do to the runs of one routine, or of all.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn dry_run(context: &Context, only: Option<&Slug>) -> Result<CleanupReport, FileError> {
    let forecast = watchdog::forecast(context, only)?;
    let sweep = sweep::dry_run(context, only, &forecast)?;
    Ok(CleanupReport { killed: forecast.killed, ..sweep })
}

/// Records the end of a run that ended on another machine, which cannot do so itself: no janitor may be there to do it. Does nothing
/// on a machine that does not work for the home.
pub fn record_end(context: &Context, run: &RunId) {
    let is_unrecorded = Entry::of(&context.home, run).gone().is_ok_and(|gone| gone.is_some());
    if is_unrecorded
        && home_machine::check(context).is_ok()
        && let Err(error) = watchdog::pass(context, Some(run.routine()))
    {
        tracing::warn!(%run, %error, "the next watchdog pass records its end");
    }
}

/// Cleans up the runs of one routine, or of all. Deletes for up to `deleting`, and takes 10 s more at most: the rest waits in
/// the trash, out of sight, and is deleted in the background.
///
/// # Errors
/// Nothing was removed.
pub fn clean_up(
    context: &Context,
    only: Option<&Slug>,
    deleting: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Result<CleanupReport, PassError> {
    home_machine::check(context)?;
    let deadline = Instant::now() + deleting;
    let WatchReport { killed, failed, .. } = watchdog::pass(context, only)?;
    questions::look_after_all(context);
    let mut report = match sweep::sweep(context, only, deadline, progress) {
        Ok(report) => report,
        // That sweep removes what is due.
        Err(PassError::SweepLock(error @ SweepLockError::Held(_))) => CleanupReport {
            dry_run: false,
            removed: Vec::new(),
            removable_bytes: None,
            note: Some(error.to_string()),
            ..sweep::dry_run(context, only, &Forecast::default())?
        },
        Err(error) => return Err(error),
    };
    report.killed = killed;
    report.failed.splice(0..0, failed);
    if report.pending_bytes > 0 {
        let home = context.home.clone();
        let warn = |error: &dyn std::fmt::Display| tracing::warn!(%error, "the next sweep empties the trash");
        let empty = move || trash::empty(&home).unwrap_or_else(|error| warn(&error));
        let _ = std::thread::Builder::new().name("trash".into()).spawn(empty).map_err(|error| warn(&error));
    }
    Ok(report)
}
