//! `stop`: ends a run and everything that it started.

use std::io::Write;

use serde::Deserialize;
use serde_json::json;

use super::desk::{Desk, Format, print_json};
use crate::excerpt::excerpt;
use crate::run::view::RunView;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    run: String,
    /// Why, for the record
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

/// Ends it; one that has ended stays as it is.
pub(super) fn stop(arguments: Arguments) -> anyhow::Result<()> {
    let desk = Desk::open()?;
    let run = desk.run(&arguments.run)?.id;
    let answer = desk.call("stop_run", json!({ "run": run, "reason": arguments.reason }))?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let note = answer["note"].as_str().map(ToOwned::to_owned);
    let OneRun { run } = serde_json::from_value(answer)?;
    let why = run.status_reason.map(|why| format!(": {}", excerpt(&why, 300))).unwrap_or_default();
    writeln!(anstream::stdout(), "{} {}{why}", run.id, run.status)?;
    if let Some(note) = note {
        writeln!(anstream::stderr(), "{}", excerpt(&note, 500))?;
    }
    Ok(())
}
