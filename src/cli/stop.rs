//! `stop`: ends a run and everything that it started.

use std::io::Write;
use std::time::Duration;

use super::app::{self, Format, print_json};
use super::completion;
use crate::mcp::tools::runs::{StopRun, Stopped, stop_run};
use crate::quote::quote;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    #[arg(add = completion::live_runs())]
    run: String,
    /// Reason to record
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// The pause before another attempt to record an end.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Ends it; one that has ended stays as it is.
pub(super) fn stop(arguments: Arguments) -> anyhow::Result<()> {
    let app = app::open()?;
    let run = app::find_run(&app, &arguments.run)?.id;
    let stop = || stop_run(&app, StopRun { run: run.clone(), reason: arguments.reason.clone() });
    let mut answer = stop()?;
    // This process alone may know why, so it stays until that is on disk.
    while let Some(note) = &answer.note {
        writeln!(anstream::stderr(), "{}; retrying (Ctrl-C gives up)", quote(note, 500))?;
        std::thread::sleep(RETRY_PAUSE);
        answer = stop()?;
    }
    if arguments.format.json {
        return print_json(&answer);
    }
    let Stopped { run, .. } = answer;
    let why = run.status_reason.as_ref().map(|why| format!(": {}", quote(why, 300))).unwrap_or_default();
    Ok(writeln!(anstream::stdout(), "{} {}{why}", run.id, run.own_status())?)
}
