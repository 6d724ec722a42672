//! `attach`: a run's window, in this terminal.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use super::{app, completion, follow, logs};
use crate::query::view::RunView;
use crate::query::wait;
use crate::run::context::{App, Context};
use crate::run::entry::Entry;
use crate::run::job_order::is_on_slurm;
use crate::run::status::Status;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    #[arg(add = completion::live_runs())]
    run: String,
    /// Open a shell in its workbench instead, on the node of a run on Slurm
    #[arg(long)]
    shell: bool,
}

/// A window opens a moment after its run's agent has started.
const WINDOW_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Ctrl-], which no shell uses.
const LEAVE: u8 = 0x1D;

/// Becomes the command that shows the run, so that the terminal is that command's alone. A run without a window is shown here.
pub(super) fn attach(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open()?;
    let run = app::find_run(&app, &arguments.run)?;
    if wait::is_over(&run) {
        bail!("the run {id} is over ({}); see what it printed: moadim-mcp logs {id}", run.own_status(), id = run.id);
    }
    if arguments.shell {
        return open_shell(&app, &run);
    }
    // Without a window, it is a command for a shell.
    let command = run.attach_command.as_deref().filter(|_| run.has_window_command());
    if !std::io::stdin().is_terminal() {
        match command {
            Some(command) => bail!("attach needs a terminal; in one, this shows the run: {command}"),
            None => bail!(
                "attach needs a terminal; the run {id} has no window (it is {}), so follow it: moadim-mcp logs -f {id}",
                run.session_host,
                id = run.id
            ),
        }
    }
    let context = app.context_for_looking();
    let Some(command) = command.filter(|_| window_opens(&context, &run)) else { return show_here(&app, run) };
    become_command(command)
}

fn become_command(command: &str) -> anyhow::Result<()> {
    // Within another tmux, this one refuses to start, because the keys of both are the same; with the variable gone it works.
    let error = Command::new("/bin/sh").arg("-c").arg(format!("exec {command}")).env_remove("TMUX").exec();
    Err(anyhow!("cannot start {command}: {error}"))
}

/// Becomes a shell in a run's workbench, on its node.
fn open_shell(app: &App, run: &RunView) -> anyhow::Result<()> {
    let id = &run.id;
    if !is_on_slurm(&Entry::of(&app.home, id)) {
        bail!("the run {id} is on this machine; its workbench is {}", run.workbench);
    }
    if run.own_status() == Status::Queued {
        let why = run.status_reason.as_deref().unwrap_or("it waits in Slurm's queue");
        bail!("the run {id} is on no node yet: {why}");
    }
    let Some(command) = run.shell_command() else {
        let why = run.status_reason.as_deref().unwrap_or("Slurm has not said which");
        bail!("it is not known on which node the run {id} is: {why}");
    };
    if !std::io::stdin().is_terminal() {
        bail!("attach needs a terminal; in one, this opens a shell beside the run: {command}");
    }
    app.context_for_looking().slurm().check_srun()?;
    become_command(&command)
}

fn window_opens(context: &Context, run: &RunView) -> bool {
    let deadline = Instant::now() + WINDOW_TIMEOUT;
    while !context.session_host.has_window(&run.session) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

fn show_here(app: &App, run: RunView) -> anyhow::Result<()> {
    let home = &app.home;
    if Entry::of(home, &run.id).manifest().is_ok_and(|manifest| manifest.command.terminal) {
        eprintln!("the run {} has no window; this is its terminal; leave with Ctrl-]\r", run.id);
        return follow::follow(home.root().to_owned(), &run.id, Some(LEAVE));
    }
    eprintln!("the run {} has no window; this is what it prints; leave with Ctrl-C", run.id);
    logs::follow(app, run, 0)
}
