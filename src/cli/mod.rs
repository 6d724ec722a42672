//! The commands for people, one file each. Without one, the program serves MCP on stdin and stdout.

mod agents;
mod attach;
mod cleanup;
mod demo;
mod desk;
mod detach;
mod doctor;
mod follow;
mod forget;
mod generate;
mod hidden;
mod init;
mod janitor;
mod logs;
mod pin;
mod routines;
mod runs;
mod serve;
mod service;
mod setup;
mod stop;
mod table;
mod time;
mod time_words;
mod trigger;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::logging;

/// Runs AI agents unattended. Without a command it is an MCP server on stdin and stdout, to be started by an agent host.
///
/// Everything is kept in MOADIM_HOME (default: ~/.moadim). RUST_LOG sets what is logged on stderr (default: warn).
#[derive(Default, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_long_help = EXIT_STATUS, after_help = EXIT_STATUS)]
struct Arguments {
    #[command(flatten)]
    serve: serve::Offer,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_STATUS: &str = "Exit status: 0 done, 1 it failed (stderr says why), 2 wrong arguments; that of trigger --wait is \
                           the agent's, see its help.";

#[derive(Subcommand)]
enum Command {
    /// Lists routines, with their newest run.
    Routines(routines::Arguments),
    /// Lists runs, newest first.
    Runs(runs::Arguments),
    /// Prints what a run's agent printed; -f follows it to its end.
    Logs(logs::Arguments),
    /// Shows a run's tmux session in this terminal.
    Attach(attach::Arguments),
    /// Starts a run of a routine; --wait waits for its end.
    Trigger(trigger::Arguments),
    /// Ends a run and every process that it started.
    Stop(stop::Arguments),
    /// Ends hung runs and removes expired workbenches; --dry-run says what it would do, and why.
    Cleanup(cleanup::Arguments),
    /// Records a run that is unknown, and that you know to be over, as lost.
    Forget(forget::Arguments),
    /// Keeps a run's workbench until --off.
    Pin(pin::Arguments),
    /// Lists the agents that routines can name.
    Agents(agents::Arguments),
    /// Looks at everything that has ever gone wrong, and prints what mends it; exits with 1 if something is wrong.
    Doctor(doctor::Arguments),
    /// Watches over runs, removes what has expired and fires routines, as every server does, without a host.
    Janitor,
    /// Keeps the janitor alive without any host.
    Service(service::Arguments),
    /// Adds this program to an agent host's configuration, with a backup; lists the hosts found if none is named.
    Setup(setup::Request),
    /// Prints completions for a shell, or the man page.
    Generate(generate::Arguments),
    /// Shows the whole life of a routine in a throw-away home, and leaves nothing behind.
    Demo,
}

/// How long a command that a person typed waits for what it has to say, as in a terminal that is paused.
const PAUSED_TERMINAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the program with the process's arguments. What kept it from doing what it was asked is on stderr, complete for a
/// person to read.
#[must_use]
pub fn run() -> ExitCode {
    // Whatever descriptors our parent left open are not passed on: a host would wait for ever for the end of a pipe that
    // a run still holds.
    close_fds::set_fds_cloexec(3, &[]);
    init::become_init_if_first();
    if let Some(code) = hidden::run() {
        return code;
    }
    // A host gives none, and need not wait until the parser of all commands is made.
    let Arguments { serve, command } =
        if std::env::args_os().len() > 1 { Arguments::parse() } else { Arguments::default() };
    logging::start();
    let patience = match &command {
        None | Some(Command::Janitor) => logging::LAST_WORDS_PATIENCE,
        Some(_) => PAUSED_TERMINAL_TIMEOUT,
    };
    let done = match command {
        None => serve::serve(serve).map(|()| ExitCode::SUCCESS),
        Some(command) => match execute(command) {
            // The reader of our output has seen enough, as in `| head`.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            result => result,
        },
    };
    outcome_of(done, patience)
}

/// Says what went wrong, and waits so long until everything is said.
fn outcome_of(done: anyhow::Result<ExitCode>, patience: Duration) -> ExitCode {
    let code = done.unwrap_or_else(|error| {
        logging::say(&format!("moadim-mcp: {}", with_causes(&error)));
        ExitCode::FAILURE
    });
    logging::finish(patience);
    code
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Routines(arguments) => routines::routines(arguments),
        Command::Runs(arguments) => runs::runs(arguments),
        Command::Logs(arguments) => logs::logs(arguments),
        Command::Attach(arguments) => attach::attach(&arguments),
        Command::Trigger(arguments) => return trigger::trigger(arguments),
        Command::Stop(arguments) => stop::stop(arguments),
        Command::Cleanup(arguments) => return cleanup::cleanup(&arguments).map(verdict),
        Command::Forget(arguments) => forget::forget(&arguments),
        Command::Pin(arguments) => pin::pin(&arguments),
        Command::Doctor(arguments) => return doctor::doctor(&arguments).map(verdict),
        Command::Janitor => janitor::janitor(),
        Command::Service(arguments) => return service::service(&arguments).map(verdict),
        Command::Agents(arguments) => agents::agents(&arguments),
        Command::Setup(request) => setup::setup(&request),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::Demo => demo::demo(),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Says an error with its causes, each once: many of our errors name their cause themselves.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.as_str() {
            "" => cause,
            _ if said.contains(&cause) => said,
            _ => format!("{said}: {cause}"),
        }
    })
}

/// Says whether all is well.
fn verdict(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().find_map(io) == Some(io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::atomic_file::FileError;
    use std::path::Path;

    #[test]
    fn an_error_says_each_cause_once() {
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        let file = FileError::io("read", Path::new("/x"), refused());
        let told = file.to_string();
        assert!(told.contains("permission denied"), "{told}");
        assert_eq!(with_causes(&file.into()), told);
        let context = anyhow::Error::new(refused()).context("nobody listens").context("no way");
        assert_eq!(with_causes(&context), "no way: nobody listens: permission denied");
    }
}
