//! The commands for people, one file each. Without one, the program serves MCP on stdin and stdout.

mod demo;
mod detach;
mod janitor;
mod serve;
mod setup;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::agent::print_search_path;
use crate::run::hook;
use crate::run::id::RunId;
use crate::supervisor::{Part, append_to_log, exec_agent, hold_terminal, supervise};

/// Runs AI agents unattended. Without a command it is an MCP server on stdin and stdout, to be started by an agent host.
///
/// Everything is kept in MOADIM_HOME (default: ~/.moadim). RUST_LOG sets what is logged on stderr (default: warn).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the whole life of a routine in a throw-away home, and leaves nothing behind.
    Demo,
    /// Watches over runs, removes what has expired and fires routines, as every server does, without a host.
    Janitor,
    /// Adds this program to an agent host's configuration, with a backup; lists the hosts found if none is named.
    Setup(setup::Request),
    /// Supervises one run (started by a trigger).
    #[command(hide = true)]
    Supervise { home: PathBuf, run: RunId },
    /// Becomes the agent of a run, or its setup (started by its supervisor).
    #[command(hide = true)]
    Exec {
        home: PathBuf,
        run: RunId,
        #[arg(long)]
        setup: bool,
    },
    /// Holds the terminal of a run, and starts its agent there (started by tmux).
    #[command(hide = true)]
    Terminal { home: PathBuf, run: RunId },
    /// Appends what a terminal shows to the log of a run (started by tmux).
    #[command(hide = true)]
    Append { home: PathBuf, run: RunId },
    /// Starts a command as nobody's child, and exits.
    #[command(hide = true)]
    Detach {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Runs what a person wants done when a run has ended (started by whoever recorded it).
    #[command(hide = true)]
    Hook {
        name: String,
        home: PathBuf,
        run: RunId,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Prints PATH, marked (started through the login shell).
    #[command(hide = true)]
    PrintPath,
}

/// Runs the program with the process's arguments.
///
/// # Errors
/// What kept it from doing what it was asked, complete for a person to read.
pub fn run() -> anyhow::Result<()> {
    // Whatever descriptors our parent left open are not passed on: a host would wait for ever for the end of a pipe that
    // a run still holds.
    close_fds::set_fds_cloexec(3, &[]);
    let Arguments { command } = Arguments::parse();
    log_to_stderr();
    match command {
        None => serve::serve(),
        Some(Command::Demo) => demo::demo(),
        Some(Command::Janitor) => janitor::janitor(),
        Some(Command::Setup(request)) => setup::setup(&request),
        Some(Command::Supervise { home, run }) => Ok(supervise(home, &run)?),
        Some(Command::Exec { home, run, setup }) => {
            let part = if setup { Part::Setup } else { Part::Agent };
            Err(exec_agent(home, &run, part).into())
        }
        Some(Command::Terminal { home, run }) => Ok(hold_terminal(home, &run)?),
        Some(Command::Append { home, run }) => Ok(append_to_log(home, &run)?),
        Some(Command::Detach { command }) => detach::detach(&command),
        Some(Command::Hook { name, home, run, command }) => Ok(hook::run(&name, home, &run, &command)?),
        Some(Command::PrintPath) => Ok(print_search_path()?),
    }
}

/// stdout belongs to JSON-RPC.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,rmcp=error"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).with_ansi(ansi).init();
}
