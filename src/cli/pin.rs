//! `pin`: keeps a run's workbench.

use std::io::Write;

use serde_json::json;

use super::desk::{Desk, Format, print_json};

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
    let desk = Desk::open()?;
    let run = desk.run(&arguments.run)?.id;
    let answer = desk.call("pin_run", json!({ "run": run, "pinned": !arguments.off }))?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let what = if arguments.off { "is kept no longer than its routine says" } else { "is kept until it is unpinned" };
    Ok(writeln!(anstream::stdout(), "{run} {what}")?)
}
