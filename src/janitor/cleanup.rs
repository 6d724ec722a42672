//! Cleaning up on demand: one watchdog pass, then one sweep, within a bounded time.

use std::time::{Duration, Instant};

use super::extent::{Allowance, Extent};
use super::sweep::{self, Progress, SweepError, SweepReport};
use super::trash;
use super::turn::TurnError;
use super::watchdog::{self, Forecast, Killed, WatchFailure, WatchReport};
use crate::routine::slug::Slug;
use crate::run::context::Context;

/// What a clean-up did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// Runs that were ended, or would be.
    pub killed: Vec<Killed>,
    /// Runs that could not be ended.
    pub not_killed: Vec<WatchFailure>,
    /// What became of the workbenches.
    pub sweep: SweepReport,
    /// Why nothing was removed, where another process is at it or the clock is not trusted.
    pub note: Option<String>,
    /// What would have been removed, where it is more than is allowed: then nothing was.
    pub too_much: Option<Extent>,
}

/// After this long nothing more is deleted before the answer: hosts give up on a call after a minute, and measuring what
/// is left takes a few seconds too.
const DELETING_PATIENCE: Duration = Duration::from_secs(30);

/// Cleans up the runs of one routine, or of all, if it is no more than `allowance`; with `dry_run` only says what it would do.
///
/// Takes 40 s at most: what is not deleted by then lies in the trash, out of sight, and is deleted in the background.
///
/// # Errors
/// Nothing was removed, and why.
pub fn clean_up(
    context: &Context,
    only: Option<&Slug>,
    dry_run: bool,
    allowance: Allowance,
) -> Result<CleanupReport, SweepError> {
    clean_up_within(context, only, dry_run, allowance, DELETING_PATIENCE, &mut |_| {})
}

/// Cleans up as [`clean_up`] does, deleting for up to `patience` and telling how far it is.
///
/// # Errors
/// As for [`clean_up`].
pub fn clean_up_within(
    context: &Context,
    only: Option<&Slug>,
    dry_run: bool,
    allowance: Allowance,
    patience: Duration,
    tell: &mut dyn FnMut(Progress),
) -> Result<CleanupReport, SweepError> {
    let deadline = Instant::now() + patience;
    if dry_run {
        let forecast = watchdog::forecast(context, only)?;
        let sweep = sweep::dry_run(context, only, &forecast)?;
        let clock =
            sweep.clock_doubt.map(|doubt| format!("{doubt}; the next sweep removes nothing, the one after it does"));
        let cut_off = sweep.removable.filter(|removable| !removable.complete);
        let sizes = cut_off.map(|_| "measuring took too long, so the sizes are lower bounds".to_owned());
        let note = clock.into_iter().chain(sizes).reduce(|one, other| format!("{one}; {other}"));
        return Ok(CleanupReport { killed: forecast.killed, sweep, note, ..CleanupReport::default() });
    }
    let WatchReport { killed, failed: not_killed, .. } = watchdog::pass(context, only)?;
    let sweep = match sweep::sweep_telling(context, only, allowance, deadline, tell) {
        Ok(sweep) => sweep,
        Err(SweepError::Turn(error @ TurnError::Taken(_))) => {
            // What is due is removed by that one.
            let known = sweep::dry_run(context, only, &Forecast::default())?;
            let sweep = SweepReport { removed: Vec::new(), removable: None, ..known };
            let note = Some(error.to_string());
            return Ok(CleanupReport { killed, not_killed, sweep, note, ..CleanupReport::default() });
        }
        Err(SweepError::TooMuch(extent)) => {
            return Ok(CleanupReport { killed, not_killed, too_much: Some(extent), ..CleanupReport::default() });
        }
        Err(error) => return Err(error),
    };
    if sweep.pending_bytes > 0 {
        let home = context.home.clone();
        let begun = std::thread::Builder::new().name("trash".into()).spawn(move || {
            if let Err(error) = trash::empty(&home) {
                tracing::warn!(%error, "the rest of the trash is left to the next sweep");
            }
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "the rest of the trash is left to the next sweep");
        }
    }
    let note = sweep.clock_doubt.map(|doubt| format!("{doubt}; nothing was removed this time"));
    Ok(CleanupReport { killed, not_killed, sweep, note, ..CleanupReport::default() })
}
