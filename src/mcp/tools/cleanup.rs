//! `cleanup_workbenches`: the janitor's work, now.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::janitor::cleanup::{clean_up, dry_run};
use crate::janitor::report::CleanupReport;
use crate::mcp::tool::{Hints, Tool};
use crate::routine::slug::Slug;
use crate::run::context::App;

pub(super) fn tool() -> Tool {
    let hints = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    let description =
        "Ends hung runs and removes workbenches whose retention has passed; never touches a run within its limits.";
    Tool::new("cleanup_workbenches", "Clean up workbenches", description, hints, cleanup)
}

#[derive(Deserialize, JsonSchema)]
struct Cleanup {
    /// Only runs of this routine, even a deleted one.
    routine: Option<Slug>,
    /// Only say what would be done, and why.
    dry_run: Option<bool>,
    /// Has no effect.
    #[serde(rename = "confirm")]
    _confirm: Option<bool>,
}

/// Hosts give up on a call after a minute, and measuring what is left takes a few seconds too.
const DELETING_TIMEOUT: Duration = Duration::from_secs(30);

fn cleanup(app: &App, arguments: Cleanup) -> anyhow::Result<CleanupReport> {
    let context = app.context()?;
    let only = arguments.routine.as_ref();
    let report = if arguments.dry_run.unwrap_or(false) {
        dry_run(&context, only)?
    } else {
        clean_up(&context, only, DELETING_TIMEOUT, &mut |_| {})?
    };
    Ok(report.shortened())
}
