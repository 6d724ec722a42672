//! What a cleanup would do, and what the home stores: both from one dry run, which reads the evidence of every workbench.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustix::fs::statvfs;
use serde::Serialize;

use super::WAIT;
use super::content::{Content, Row};
use super::kept::{Background, END};
use crate::clock::UnixSeconds;
use crate::janitor::cleanup::dry_run;
use crate::janitor::report::{CleanupReport, Kept, Killed, Removed};
use crate::janitor::stores::Store;
use crate::run::context::Context;
use crate::run::id::RunId;

#[derive(Debug, Default)]
pub(super) struct Cleanup(Background<Result<Forecast, String>>);

/// What a cleanup would do at a time, and what the home stores.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) plan: Content,
    pub(super) disk: Content,
    pub(super) removable_bytes: Option<u64>,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct PlanRow<'a> {
    run: &'a RunId,
    what: &'static str,
    why: String,
    reason: String,
    bytes: Option<u64>,
    until: Option<UnixSeconds>,
    archived: Option<serde_json::Value>,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct PlanHead {
    removable_bytes: Option<u64>,
    removable_total: usize,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct DiskHead {
    used_bytes: u64,
    free_bytes: Option<u64>,
    low: Option<bool>,
}

#[derive(Serialize)]
struct DiskRow<'a> {
    #[serde(flatten)]
    store: &'a Store,
    path: String,
}

impl Cleanup {
    /// Returns what was found last, and begins to look again if that is due; `None` until there is anything.
    pub(super) fn get(
        &self,
        context: &Context,
        mark: Option<u64>,
        now: UnixSeconds,
    ) -> Option<Arc<Result<Forecast, String>>> {
        let context = context.clone();
        self.0.get(mark, now, WAIT, move || match Forecast::make(&context, now) {
            Ok((forecast, until)) => (Ok(forecast), until),
            Err(error) => (Err(error.to_string()), END),
        })
    }
}

impl Forecast {
    /// Returns it with the time at which the first workbench that stays may go.
    fn make(context: &Context, now: UnixSeconds) -> anyhow::Result<(Self, UnixSeconds)> {
        let report = dry_run(context, None)?;
        let until = report.kept.iter().filter_map(|kept| kept.until).filter(|until| *until > now).min();
        let report = report.shortened();
        let (plan, disk) = (plan(&report)?, disk(&report, context)?);
        Ok((Self { plan, disk, removable_bytes: report.removable_bytes }, until.unwrap_or(END)))
    }
}

/// # Errors
/// A row cannot be written as JSON.
fn plan(report: &CleanupReport) -> serde_json::Result<Content> {
    let row = |run, what, why, reason| PlanRow { run, what, why, reason, bytes: None, until: None, archived: None };
    let killed =
        report.killed.iter().map(|Killed { run, why, reason }| row(run, "kill", why.to_string(), reason.clone()));
    let removed = report.removed.iter().map(|Removed { run, reason, bytes, archived, .. }| PlanRow {
        bytes: Some(*bytes),
        archived: archived.as_ref().and_then(|archived| serde_json::to_value(archived).ok()),
        ..row(run, "remove", reason.why.code().to_owned(), reason.to_string())
    });
    let kept = report.kept.iter().map(|Kept { run, reason, until }| PlanRow {
        until: *until,
        ..row(run, "keep", reason.why.code().to_owned(), reason.to_string())
    });
    // A run that would be ended has a verdict about its workbench, too.
    let mut seen = BTreeSet::new();
    let rows = killed.chain(removed).chain(kept).filter(|row| seen.insert(row.run));
    let rows = rows.map(|row| Row::of(row.run.to_string(), &row)).collect::<Result<_, _>>()?;
    Content::of(rows)
        .with_head(&PlanHead { removable_bytes: report.removable_bytes, removable_total: report.removed_total })
}

/// # Errors
/// A row cannot be written as JSON.
fn disk(report: &CleanupReport, context: &Context) -> serde_json::Result<Content> {
    let root = context.home.root();
    let home = root.display();
    let row = |store: &Store| {
        let path = match store.name {
            "history" => format!("{home}/history.jsonl"),
            name => format!("{home}/{name}"),
        };
        Row::of(store.name, &DiskRow { store, path })
    };
    let rows = report.stores.iter().map(row).collect::<Result<_, _>>()?;
    let free_bytes = statvfs(root).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let is_low = free_bytes.zip(context.config.min_free_bytes).is_some_and(|(free, min)| free < min);
    Content::of(rows).with_head(&DiskHead {
        used_bytes: report.stores.iter().map(|store| store.bytes).sum(),
        free_bytes,
        low: is_low.then_some(true),
    })
}
