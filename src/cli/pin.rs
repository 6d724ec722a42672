//! `pin`: keeps a run's workbench.

use std::io::Write;

use super::app::{self, Format, print_json};
use super::completion;
use crate::mcp::tools::runs::{PinRun, pin_run};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    #[arg(add = completion::runs())]
    run: String,
    /// Unpin the run
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn pin(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open()?;
    let run = app::find_run(&app, &arguments.run)?.id;
    let answer = pin_run(&app, PinRun { run: run.clone(), pinned: !arguments.off })?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let effect = if arguments.off { "is unpinned" } else { "is pinned: its workbench stays until you unpin it" };
    Ok(writeln!(anstream::stdout(), "{run} {effect}")?)
}
