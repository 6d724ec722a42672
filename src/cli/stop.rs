//! `stop`: ends a run and everything that it started.

use std::io::Write;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::desk::{Desk, Format, print_json};
use crate::query::view::RunView;
use crate::quote::quote;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    run: String,
    /// Reason to record
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// The answer of each tool that is about one run.
#[derive(Deserialize)]
pub(super) struct OneRun {
    pub(super) run: RunView,
}

/// The pause before another attempt to record an end.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Ends it; one that has ended stays as it is.
pub(super) fn stop(arguments: Arguments) -> anyhow::Result<()> {
    let desk = Desk::open()?;
    let run = desk.run(&arguments.run)?.id;
    let stop = || desk.call("stop_run", json!({ "run": run, "reason": arguments.reason }));
    let mut answer = stop()?;
    // This process alone may know why, so it stays until that is on disk.
    while let Some(note) = answer["note"].as_str() {
        writeln!(anstream::stderr(), "{}; trying again, Ctrl-C to leave it", quote(note, 500))?;
        std::thread::sleep(RETRY_PAUSE);
        answer = stop()?;
    }
    if arguments.format.json {
        return print_json(&answer);
    }
    let OneRun { run } = serde_json::from_value(answer)?;
    let why = run.status_reason.as_ref().map(|why| format!(": {}", quote(why, 300))).unwrap_or_default();
    Ok(writeln!(anstream::stdout(), "{} {}{why}", run.id, run.own_status())?)
}
