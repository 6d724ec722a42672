//! `cleanup_workbenches`: the janitor's work, now.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::janitor::cleanup::{CleanupReport, clean_up};
use crate::janitor::extent::Allowance;
use crate::janitor::sweep::SweepError;
use crate::mcp::Core;
use crate::mcp::call::Call;
use crate::mcp::consent::Question;
use crate::mcp::tool::{Hints, Reply, Tool, ToolError};
use crate::routine::slug::Slug;
use crate::run::id::RunId;

pub(super) fn tool() -> Tool {
    let hints = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    let description = "Ends hung runs and removes the workbenches of finished runs whose retention has passed; never what runs \
                       within its limits. dry_run only says what it would do, and why the rest is kept. Much at once needs \
                       a person's consent.";
    Tool::conversing("cleanup_workbenches", "Clean up workbenches", description, hints, cleanup)
}

#[derive(Deserialize, JsonSchema)]
struct Cleanup {
    /// Only runs of this routine, which need not exist any more.
    routine: Option<Slug>,
    /// Only say what would be done.
    dry_run: Option<bool>,
    /// A person has agreed to it.
    confirm: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Report {
    dry_run: bool,
    /// Hung runs that were ended, the first 100.
    killed: Vec<Killed>,
    killed_total: usize,
    /// Workbenches that were removed, the first 100.
    removed: Vec<Removed>,
    removed_total: usize,
    /// Workbenches that stay, the first 100.
    kept: Vec<Kept>,
    kept_total: usize,
    /// What could not be done, the first 100; the next pass tries again.
    failed: Vec<Failed>,
    failed_total: usize,
    /// Bytes given back to the file system.
    freed_bytes: u64,
    /// Bytes that are out of sight, and are being deleted in the background.
    pending_bytes: u64,
    /// How many workbenches were looked at.
    scanned: usize,
    /// Why nothing was removed, where another process is sweeping.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Killed {
    run: RunId,
    reason: String,
}

#[derive(Serialize, JsonSchema)]
struct Removed {
    run: RunId,
    reason: String,
    bytes: u64,
}

#[derive(Serialize, JsonSchema)]
struct Kept {
    run: RunId,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<UnixSeconds>,
}

#[derive(Serialize, JsonSchema)]
struct Failed {
    run: RunId,
    path: String,
    error: String,
}

/// How many items of each list are shown: an answer has to fit into a model's context.
const SHOWN: usize = 100;

fn cleanup(core: &Core, arguments: Cleanup, call: &Call) -> Result<Reply<Report>, ToolError> {
    let Cleanup { routine, dry_run, confirm } = arguments;
    let workplace = core.site.workplace()?;
    let dry_run = dry_run.unwrap_or(false);
    let agreed = confirm.unwrap_or(false) || call.is_agreed();
    let allowance = if agreed { Allowance::All } else { Allowance::unasked(&workplace.config) };
    match clean_up(&workplace, routine.as_ref(), dry_run, allowance) {
        Ok(report) => Ok(Reply::Answer(answer(dry_run, report))),
        Err(SweepError::TooMuch(extent)) => {
            let whose = routine.map_or_else(String::new, |routine| format!(" of the routine '{routine}'"));
            Ok(Reply::Ask(Question {
                message: format!(
                    "Remove {extent}{whose} now? Their retention has passed; nothing that runs is touched. It cannot be \
                     undone."
                ),
                otherwise: format!(
                    "{}{whose}; look at it with dry_run, ask the person, and call again with confirm = true",
                    SweepError::TooMuch(extent)
                ),
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows a clean-up.
pub(crate) fn answer(dry_run: bool, report: CleanupReport) -> Report {
    let CleanupReport { killed, not_killed, sweep, note } = report;
    let not_killed = not_killed.into_iter().map(|one| Failed { run: one.run, path: one.path, error: one.error });
    let not_removed = sweep.failed.into_iter().map(|one| Failed { run: one.run, path: one.path, error: one.error });
    let (killed, killed_total) = cut(killed, |one| Killed { run: one.run, reason: one.reason });
    let (removed, removed_total) =
        cut(sweep.removed, |one| Removed { run: one.run, reason: one.reason.to_string(), bytes: one.bytes });
    let (kept, kept_total) =
        cut(sweep.kept, |one| Kept { run: one.run, reason: one.reason.to_string(), until: one.until });
    let (failed, failed_total) = cut(not_killed.chain(not_removed).collect(), |one| one);
    Report {
        dry_run,
        killed,
        killed_total,
        removed,
        removed_total,
        kept,
        kept_total,
        failed,
        failed_total,
        freed_bytes: sweep.freed_bytes,
        pending_bytes: sweep.pending_bytes,
        scanned: sweep.scanned,
        note,
    }
}

/// Shows the first items of a list, and counts all.
fn cut<T, U>(all: Vec<T>, show: impl Fn(T) -> U) -> (Vec<U>, usize) {
    let total = all.len();
    (all.into_iter().take(SHOWN).map(show).collect(), total)
}
