//! `attach`: a run's window, in this terminal.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{anyhow, bail};

use super::app;
use crate::query::wait;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    run: String,
}

/// Becomes the command that shows it, so that the terminal is that command's alone.
pub(super) fn attach(arguments: &Arguments) -> anyhow::Result<()> {
    let run = app::find_run(&app::open()?, &arguments.run)?;
    let Some(command) = run.attach_command.as_ref().filter(|_| !wait::is_over(&run)) else {
        if wait::is_over(&run) {
            bail!(
                "the run {id} is over ({}); see what it printed: moadim-mcp logs {id}",
                run.own_status(),
                id = run.id
            );
        }
        bail!(
            "the run {id} has no window (it is {}); follow it: moadim-mcp logs -f {id}",
            run.session_host,
            id = run.id
        );
    };
    if !std::io::stdin().is_terminal() {
        bail!("attach needs a terminal; in one, this shows the run: {command}");
    }
    // Within another tmux, this one refuses to start, for the keys of both are the same; with the variable gone it works.
    let error = Command::new("/bin/sh").arg("-c").arg(format!("exec {command}")).env_remove("TMUX").exec();
    Err(anyhow!("cannot start {command}: {error}"))
}
