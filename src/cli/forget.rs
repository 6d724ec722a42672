//! `forget`: records an unknown run as lost.

use std::io::{IsTerminal, Write};

use anyhow::bail;

use super::app;
use crate::janitor::forget::Forgettable;
use crate::quote::quote;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id
    run: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

const MAX_CAUSE_CHARS: usize = 500;

pub(super) fn forget(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open()?;
    let run = app::find_run(&app, &arguments.run)?.id;
    let context = app.context()?;
    let cause = quote(Forgettable::find(&context, &run)?.cause(), MAX_CAUSE_CHARS);
    if !arguments.yes {
        let question = format!(
            "The run {run} is unknown: {cause}\nAny process of it that is still alive goes on unwatched. \
             Record the run as lost? [y/N] "
        );
        if !confirmed(&question)? {
            bail!("the run {run} stays unknown");
        }
    }
    // Once more: the answer may have taken hours.
    let outcome = Forgettable::find(&context, &run)?.forget(&context, "moadim-mcp forget")?;
    Ok(writeln!(anstream::stdout(), "{run} {}", outcome.status)?)
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("stdin is not a terminal; use --yes to skip the question");
    }
    let mut terminal = anstream::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
