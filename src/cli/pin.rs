//! `pin`: keeps a run's workbench.

use std::io::Write;

use super::app::{self, Format, print_json};
use crate::mcp::tools::runs::{PinRun, pin_run};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    run: String,
    /// Take the pin away
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    format: Format,
}

/// Pins it, or unpins it.
pub(super) fn pin(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open()?;
    let run = app::find_run(&app, &arguments.run)?.id;
    let answer = pin_run(&app, PinRun { run: run.clone(), pinned: !arguments.off })?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let what = if arguments.off { "is kept no longer than its routine says" } else { "is kept until it is unpinned" };
    Ok(writeln!(anstream::stdout(), "{run} {what}")?)
}
