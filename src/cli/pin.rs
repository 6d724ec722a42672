//! `pin`: keeps a run's workbench.

use std::io::Write;

use serde_json::json;

use super::desk::{Desk, Format, print_json};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    run: String,
    /// Unpin the run
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn pin(arguments: &Arguments) -> anyhow::Result<()> {
    let desk = Desk::open()?;
    let run = desk.run(&arguments.run)?.id;
    let answer = desk.call("pin_run", json!({ "run": run, "pinned": !arguments.off }))?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let effect = if arguments.off { "is unpinned" } else { "is pinned: its workbench stays until you unpin it" };
    Ok(writeln!(anstream::stdout(), "{run} {effect}")?)
}
