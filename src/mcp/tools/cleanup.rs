//! `cleanup_workbenches`: the janitor's work, now.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::janitor::cleanup::{CleanupReport, clean_up};
use crate::janitor::extent::{Allowance, Extent};
use crate::janitor::plan::Reason;
use crate::janitor::watchdog::Killed;
use crate::mcp::call::{Call, Question, Reply};
use crate::mcp::tool::{Hints, Tool, ToolError};
use crate::routine::slug::Slug;
use crate::run::context::App;
use crate::run::id::RunId;
use crate::run::status::Status;

pub(super) fn tool() -> Tool {
    let hints = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    let description = "Ends hung runs and removes workbenches whose retention has passed; never touches a run within its limits. \
                       Much at once needs a person's consent.";
    Tool::with_call("cleanup_workbenches", "Clean up workbenches", description, hints, cleanup)
}

#[derive(Deserialize, JsonSchema)]
struct Cleanup {
    /// Only runs of this routine, even a deleted one.
    routine: Option<Slug>,
    /// Only say what would be done, and why.
    dry_run: Option<bool>,
    /// A person has agreed to it.
    confirm: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Report {
    dry_run: bool,
    /// Hung runs that were ended, the first 100.
    killed: Vec<Ended>,
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
    /// Bytes that would be removed, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    removable_bytes: Option<u64>,
    /// Bytes given back to the file system.
    freed_bytes: u64,
    /// Bytes that are out of sight, and are being deleted in the background.
    pending_bytes: u64,
    /// How many workbenches were looked at.
    scanned: usize,
    /// Why nothing was removed, where another process is sweeping or the clock is not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Ended {
    run: RunId,
    /// The status that this gives it.
    why: Status,
    reason: String,
}

#[derive(Serialize, JsonSchema)]
struct Removed {
    run: RunId,
    #[serde(flatten)]
    verdict: Verdict,
    bytes: u64,
}

#[derive(Serialize, JsonSchema)]
struct Kept {
    run: RunId,
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<UnixSeconds>,
}

/// Why a workbench goes or stays.
#[derive(Serialize, JsonSchema)]
struct Verdict {
    /// The reason as one word: see [`Why::code`](crate::janitor::plan::Why::code).
    why: &'static str,
    reason: String,
    /// Since its finish; since its trigger where no finish is known.
    age_secs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_secs: Option<u64>,
}

impl From<&Reason> for Verdict {
    fn from(reason: &Reason) -> Self {
        let Reason { why, age } = reason;
        Self { why: why.code(), reason: reason.to_string(), age_secs: age.secs, retention_secs: age.retention_secs }
    }
}

#[derive(Serialize, JsonSchema)]
struct Failed {
    run: RunId,
    path: String,
    error: String,
}

/// How many items of each list are shown: an answer has to fit into a model's context.
const SHOWN: usize = 100;

/// What a person has agreed to, and what was done before they were asked.
#[derive(Serialize, Deserialize)]
struct Terms {
    allowance: Allowance,
    killed: Vec<Killed>,
}

fn cleanup(app: &App, arguments: Cleanup, call: &Call) -> Result<Reply<Report>, ToolError> {
    let Cleanup { routine, dry_run, confirm } = arguments;
    let context = app.context()?;
    let dry_run = dry_run.unwrap_or(false);
    let agreed: Option<Terms> = call.agreed_to();
    let allowance = match &agreed {
        _ if confirm.unwrap_or(false) => Allowance::All,
        Some(terms) => terms.allowance,
        None => Allowance::unasked(&context.config),
    };
    let mut report = clean_up(&context, routine.as_ref(), dry_run, allowance)?;
    report.killed.splice(0..0, agreed.into_iter().flat_map(|terms| terms.killed));
    match report.too_much {
        None => Ok(Reply::Answer(answer(dry_run, report))),
        Some(extent) => Ok(Reply::Ask(question(&extent, routine.as_ref(), report.killed)?)),
    }
}

fn question(extent: &Extent, routine: Option<&Slug>, killed: Vec<Killed>) -> Result<Question, ToolError> {
    let whose = routine.map_or_else(String::new, |routine| format!(" of the routine '{routine}'"));
    let ended: Vec<String> = killed.iter().map(|killed| killed.run.to_string()).collect();
    let done =
        if ended.is_empty() { String::new() } else { format!(". These hung runs were ended: {}", ended.join(", ")) };
    Ok(Question {
        message: format!(
            "Remove {extent}{whose} now? Their retention has passed; nothing that runs is touched. It cannot be undone."
        ),
        otherwise: format!(
            "nothing was removed, for this would remove {extent}{whose}; look at it with dry_run, ask the person, and call \
             again with confirm = true{done}"
        ),
        terms: serde_json::to_value(Terms { allowance: Allowance::of(extent), killed })?,
    })
}

/// Shows a clean-up.
pub(crate) fn answer(dry_run: bool, report: CleanupReport) -> Report {
    let CleanupReport { killed, not_killed, sweep, note, .. } = report;
    let not_killed = not_killed.into_iter().map(|one| Failed { run: one.run, path: one.path, error: one.error });
    let not_removed = sweep.failed.into_iter().map(|one| Failed { run: one.run, path: one.path, error: one.error });
    let (killed, killed_total) = cut(killed, |one| Ended { run: one.run, why: one.cause.into(), reason: one.reason });
    let (removed, removed_total) =
        cut(sweep.removed, |one| Removed { run: one.run, verdict: (&one.reason).into(), bytes: one.bytes });
    let (kept, kept_total) =
        cut(sweep.kept, |one| Kept { run: one.run, verdict: (&one.reason).into(), until: one.until });
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
        removable_bytes: sweep.removable.map(|extent| extent.bytes),
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
