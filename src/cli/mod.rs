//! The commands for people, one file each. Without one, the program serves MCP on stdin and stdout.

mod agents;
mod answer;
mod app;
mod attach;
mod cleanup;
mod completion;
mod create;
#[cfg(feature = "dashboard")]
mod dashboard;
mod delete;
mod demo;
mod detach;
mod doctor;
mod edit;
mod editor;
mod enable;
pub(crate) mod file_schemas;
mod follow;
mod forget;
mod generate;
mod hidden;
mod init;
mod janitor;
mod logs;
mod pin;
mod questions;
mod recover;
mod routines;
mod runs;
mod serve;
mod service;
mod setup;
mod show;
mod snooze;
mod stop;
mod table;
mod template;
mod text_file;
mod time;
mod time_words;
#[cfg(feature = "dashboard")]
mod token;
mod trigger;
mod usage;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::logging;

/// Run AI agents unattended
///
/// Without a command, this is an MCP server on stdin and stdout, started by an agent host. Everything is kept in MOADIM_HOME
/// (default: ~/.moadim). RUST_LOG sets the log level on stderr (default: warn).
#[derive(Default, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_long_help = EXIT_STATUS, after_help = EXIT_STATUS)]
struct Arguments {
    #[command(flatten)]
    serve: serve::Offer,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_STATUS: &str = "Exit status: 0 on success, 1 on failure (see stderr), 2 for wrong arguments. `trigger --wait` exits as \
                           the agent did; see its help.";

#[derive(Subcommand)]
enum Command {
    /// List routines, with their newest run
    Routines(routines::Arguments),
    /// List runs, newest first
    Runs(runs::Arguments),
    /// Show what runs used: tokens, and cost at list prices
    Usage(usage::Arguments),
    /// Print a run's log
    Logs(logs::Arguments),
    /// Show a live run in this terminal: its tmux window, or the run itself without one
    Attach(attach::Arguments),
    /// Show all about a routine or a run
    Show(show::Arguments),
    /// Save a routine, from flags or from what you write in $EDITOR
    Create(Box<create::Arguments>),
    /// Open a routine's two files in $EDITOR, and check them before they are saved
    Edit(edit::Arguments),
    /// Let routines be triggered
    Enable(enable::Arguments),
    /// Keep routines from being triggered
    Disable(enable::Arguments),
    /// Keep a schedule, or all of them, from firing for a while
    Snooze(snooze::Arguments),
    /// Move a routine to the archive
    Delete(delete::Arguments),
    /// Start a run of a routine
    Trigger(trigger::Arguments),
    /// List what runs ask you
    Questions(questions::Arguments),
    /// Answer a run's question, or give one that is over more to do
    ///
    /// Another run goes on in the same workbench, and in the same session of its agent. Without a text, $EDITOR opens below the question.
    Answer(answer::Arguments),
    /// End a run and every process that it started
    Stop(stop::Arguments),
    /// End hung runs and remove expired workbenches
    Cleanup(cleanup::Arguments),
    /// Bring back the unsaved work of a run
    ///
    /// Repositories come back with their commits, branches, stashes and changed files. This also works while the workbench still exists.
    Recover(recover::Arguments),
    /// Record an unknown run as lost
    ///
    /// Use it when you know that the run is over, for example because its machine is gone.
    Forget(forget::Arguments),
    /// Keep a run's workbench until it is unpinned
    Pin(pin::Arguments),
    /// List the agents that routines can use
    Agents(app::Format),
    /// Check for known problems and show how to fix each
    ///
    /// Exits with 1 if it finds a problem.
    Doctor(app::Format),
    /// Show everything in your browser, and serve the tools over HTTP
    ///
    /// Listens on 127.0.0.1 and ::1 until Ctrl-C. Anyone who has the address with its token can do what you can do with this program. If
    /// the dashboard is already running, opens it. From another machine, use ssh -L.
    #[cfg(feature = "dashboard")]
    Dashboard(dashboard::Arguments),
    /// Manage webhook tokens, by which programs trigger a routine
    #[cfg(feature = "dashboard")]
    Token(token::Arguments),
    /// Fire schedules, end hung runs and clean up without an agent host
    Janitor,
    /// Keep the janitor running without an agent host
    Service(service::Arguments),
    /// Add this program to an agent host's configuration
    ///
    /// Keeps the old file as a backup. Without a host, lists the hosts found.
    Setup(setup::Request),
    /// Print completions for a shell, the man page, or the schema of a file
    Generate(generate::Arguments),
    /// Show the whole life of a routine in a temporary home
    Demo,
}

/// How long a command that a person typed waits for what it has to say, as in a terminal that is paused.
const PAUSED_TERMINAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the program with the process's arguments. Errors go to stderr, with their causes.
#[must_use]
pub fn run() -> ExitCode {
    // Whatever descriptors our parent left open are not passed on: a host would wait forever for the end of a pipe that
    // a run still holds.
    close_fds::set_fds_cloexec(3, &[]);
    if let Some(code) = completion::run() {
        return code;
    }
    init::become_init_if_first();
    if let Some(code) = hidden::run() {
        return code;
    }
    // A host gives none, and need not wait until the parser of all commands is made.
    let Arguments { serve, command } =
        if std::env::args_os().len() > 1 { Arguments::parse() } else { Arguments::default() };
    logging::start();
    let last_words_timeout = match &command {
        None | Some(Command::Janitor) => logging::LAST_WORDS_TIMEOUT,
        #[cfg(feature = "dashboard")]
        Some(Command::Dashboard(_)) => logging::LAST_WORDS_TIMEOUT,
        Some(_) => PAUSED_TERMINAL_TIMEOUT,
    };
    let done = match command {
        None => serve::serve(&serve).map(|()| ExitCode::SUCCESS),
        Some(command) => match execute(command) {
            // The reader of our output has seen enough, as in `| head`.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            result => result,
        },
    };
    outcome_of(done, last_words_timeout)
}

/// Says what went wrong, and waits until that is written.
fn outcome_of(done: anyhow::Result<ExitCode>, last_words_timeout: Duration) -> ExitCode {
    let code = done.unwrap_or_else(|error| {
        logging::say(&format!("moadim-mcp: {}", with_causes(&error)));
        ExitCode::FAILURE
    });
    logging::finish(last_words_timeout);
    code
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Routines(arguments) => routines::routines(arguments),
        Command::Runs(arguments) => runs::runs(arguments),
        Command::Usage(arguments) => usage::usage(&arguments),
        Command::Logs(arguments) => logs::logs(arguments),
        Command::Show(arguments) => show::show(&arguments),
        Command::Create(arguments) => create::create(&arguments),
        Command::Edit(arguments) => edit::edit(&arguments),
        Command::Enable(arguments) => enable::set_enabled(&arguments, true),
        Command::Disable(arguments) => enable::set_enabled(&arguments, false),
        Command::Snooze(arguments) => return snooze::snooze(&arguments),
        Command::Delete(arguments) => delete::delete(&arguments),
        Command::Attach(arguments) => attach::attach(&arguments),
        Command::Trigger(arguments) => return trigger::trigger(arguments),
        Command::Questions(arguments) => questions::questions(arguments),
        Command::Answer(arguments) => answer::answer(arguments),
        Command::Stop(arguments) => stop::stop(arguments),
        Command::Cleanup(arguments) => return cleanup::cleanup(&arguments).map(verdict),
        Command::Recover(arguments) => recover::recover(&arguments),
        Command::Forget(arguments) => forget::forget(&arguments),
        Command::Pin(arguments) => pin::pin(&arguments),
        Command::Doctor(format) => return doctor::doctor(format).map(verdict),
        #[cfg(feature = "dashboard")]
        Command::Dashboard(arguments) => dashboard::dashboard(&arguments),
        #[cfg(feature = "dashboard")]
        Command::Token(arguments) => token::token(&arguments),
        Command::Janitor => janitor::janitor(),
        Command::Service(arguments) => return service::service(&arguments).map(verdict),
        Command::Agents(format) => agents::agents(format),
        Command::Setup(request) => setup::setup(&request),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::Demo => demo::demo(),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Formats an error with its causes, each once: many of our errors name their cause themselves.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.as_str() {
            "" => cause,
            _ if text.contains(&cause) => text,
            _ => format!("{text}: {cause}"),
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
    fn programs_can_ask_each_command_for_json() {
        // These hand over the terminal, run until they are ended, print what another format needs, or tell a story.
        let without = ["attach", "dashboard", "janitor", "generate", "demo"];
        fn check(command: &clap::Command, without: &[&str]) {
            let name = command.get_name();
            if command.has_subcommands() {
                command.get_subcommands().for_each(|command| check(command, without));
                return;
            }
            let has_json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert_eq!(has_json, !without.contains(&name), "{name}");
        }
        check(&<Arguments as clap::CommandFactory>::command(), &without);
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        let file = FileError::io("read", Path::new("/x"), refused());
        let text = file.to_string();
        assert!(text.contains("permission denied"), "{text}");
        assert_eq!(with_causes(&file.into()), text);
        let context = anyhow::Error::new(refused()).context("nobody listens").context("no way");
        assert_eq!(with_causes(&context), "no way: nobody listens: permission denied");
    }
}
