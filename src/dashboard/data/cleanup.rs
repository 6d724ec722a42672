//! What a cleanup would do, and what the home stores: both from one dry run, which reads the evidence of every workbench.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::statvfs;
use serde::Serialize;

use super::content::{Content, Row};
use super::kept::Background;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::janitor::cleanup::dry_run;
use crate::janitor::report::{CleanupReport, Kept, Killed, Removed};
use crate::janitor::stores::Store;
use crate::run::context::Context;
use crate::run::id::RunId;

/// How long a poll waits for it. In a home of usual size it is there at once.
const WAIT: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
pub(super) struct Cleanup(Background<Result<Forecast, String>>);

/// What a cleanup would do at a time.
#[derive(Debug)]
pub(super) struct Forecast {
    as_of: UnixSeconds,
    report: CleanupReport,
    free_bytes: Option<u64>,
    min_free_bytes: Option<u64>,
    home: String,
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
struct PlanHead<'a> {
    as_of: UnixSeconds,
    removable_bytes: Option<u64>,
    note: Option<&'a str>,
    removable_total: usize,
    kept_total: usize,
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
    pub(super) fn get(&self, context: &Context, mark: Option<u64>) -> Option<Arc<Result<Forecast, String>>> {
        let context = context.clone();
        self.0.get(mark, WAIT, move || Forecast::make(&context).map_err(|error| error.to_string()))
    }
}

impl Forecast {
    fn make(context: &Context) -> Result<Self, FileError> {
        let as_of = UnixSeconds::now();
        let report = dry_run(context, None)?.shortened();
        let root = context.home.root();
        let free_bytes = statvfs(root).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let min_free_bytes = context.config.min_free_bytes;
        Ok(Self { as_of, report, free_bytes, min_free_bytes, home: root.display().to_string() })
    }

    pub(super) fn removable_bytes(&self) -> Option<u64> {
        self.report.removable_bytes
    }

    /// # Errors
    /// A row cannot be written as JSON.
    pub(super) fn plan(&self) -> serde_json::Result<Content> {
        let report = &self.report;
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
        Content::of(rows).with_head(&PlanHead {
            as_of: self.as_of,
            removable_bytes: report.removable_bytes,
            note: report.note.as_deref(),
            removable_total: report.removed_total,
            kept_total: report.kept_total,
        })
    }

    /// # Errors
    /// A row cannot be written as JSON.
    pub(super) fn disk(&self) -> serde_json::Result<Content> {
        let row = |store: &Store| {
            let path = match store.name {
                "history" => format!("{}/history.jsonl", self.home),
                name => format!("{}/{name}", self.home),
            };
            Row::of(store.name, &DiskRow { store, path })
        };
        let rows = self.report.stores.iter().map(row).collect::<Result<_, _>>()?;
        let is_low = self.free_bytes.zip(self.min_free_bytes).is_some_and(|(free, min)| free < min);
        Content::of(rows).with_head(&DiskHead {
            used_bytes: self.report.stores.iter().map(|store| store.bytes).sum(),
            free_bytes: self.free_bytes,
            low: is_low.then_some(true),
        })
    }
}
