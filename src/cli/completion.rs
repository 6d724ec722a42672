//! Completion in a shell: commands and flags, and the names of what is in the home.
//!
//! A shell calls this at each press of a key, so it reads names of directories and nothing in them, makes and changes nothing, and is
//! silent about what it cannot read.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;

use crate::agent::agent_names;
use crate::env_vars;
use crate::home::Home;
use crate::routine::store;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::on_disk;
use crate::run::question::state::open_runs;

/// More runs than this help nobody to choose one.
const MAX_RUNS: usize = 100;

/// Completes what a shell asks for, or prints the script that makes a shell ask; `None` if the variable for it is not set.
pub(super) fn run() -> Option<ExitCode> {
    std::env::var_os(env_vars::COMPLETE).filter(|shell| !shell.is_empty())?;
    let arguments = std::env::args_os();
    // The script is asked for without arguments, and asks with some.
    let is_asked_by_a_script = arguments.len() > 1;
    let completing = CompleteEnv::with_factory(command).var(env_vars::COMPLETE).bin(env!("CARGO_PKG_NAME"));
    match completing.try_complete(arguments, std::env::current_dir().ok().as_deref()) {
        Ok(true) => Some(ExitCode::SUCCESS),
        Ok(false) => None,
        Err(_) if is_asked_by_a_script => Some(ExitCode::FAILURE),
        Err(error) => {
            let _ = error.print();
            Some(ExitCode::FAILURE)
        }
    }
}

/// The commands, with flags that are shown only where nothing else fits: a name that is the only one should be completed at once.
fn command() -> Command {
    fn with_flags_last(command: Command) -> Command {
        let hide = |argument: clap::Arg| if argument.is_positional() { argument } else { argument.hide(true) };
        command.mut_args(hide).mut_subcommands(with_flags_last)
    }
    let mut command = super::Arguments::command();
    // Gives each command its --help.
    command.build();
    with_flags_last(command)
}

/// Names of routines.
pub(super) fn routines() -> ArgValueCompleter {
    names(|home, typed| fitting(routine_names(home), typed))
}

/// Names of routines, which stand for their newest run, and of the newest runs.
pub(super) fn runs() -> ArgValueCompleter {
    names(|home, typed| {
        let mut runs = on_disk::ids_with_workbench(home).unwrap_or_default();
        runs.extend(live_ids(home));
        let mut names = fitting(routine_names(home), typed);
        names.extend(newest(runs, typed));
        names
    })
}

/// Names of runs that are not over, and of their routines.
pub(super) fn live_runs() -> ArgValueCompleter {
    names(|home, typed| {
        let runs = live_ids(home);
        let routines: BTreeSet<String> = runs.iter().map(|run| run.routine().to_string()).collect();
        let mut names = fitting(routines, typed);
        names.extend(newest(runs, typed));
        names
    })
}

/// Names of runs that have a workbench.
pub(super) fn runs_with_workbench() -> ArgValueCompleter {
    names(|home, typed| newest(on_disk::ids_with_workbench(home).unwrap_or_default(), typed))
}

/// Names of runs that ask, and of others that can be continued.
pub(super) fn asking_runs() -> ArgValueCompleter {
    names(|home, typed| {
        let asking = newest(open_runs(home).unwrap_or_default(), typed);
        match asking.is_empty() {
            true => newest(on_disk::ids_with_workbench(home).unwrap_or_default(), typed),
            false => asking,
        }
    })
}

/// Names of runs that have a workbench or an archive.
pub(super) fn recoverable_runs() -> ArgValueCompleter {
    names(|home, typed| {
        let mut runs = on_disk::ids_with_workbench(home).unwrap_or_default();
        runs.extend(directory_names(&home.archive()).iter().filter_map(|name| name.parse::<RunId>().ok()));
        newest(runs, typed)
    })
}

/// Names of routines that were deleted.
pub(super) fn deleted_routines() -> ArgValueCompleter {
    names(|home, typed| {
        let archived = directory_names(&home.archived_routines());
        // The archive of a routine is named as a run of it would be.
        let routines = archived.iter().filter_map(|name| Some(name.parse::<RunId>().ok()?.routine().to_string()));
        fitting(routines.collect::<BTreeSet<String>>(), typed)
    })
}

/// Ids of webhooks' tokens.
#[cfg(feature = "dashboard")]
pub(super) fn webhook_tokens() -> ArgValueCompleter {
    names(|home, typed| {
        let files = directory_names(&home.webhook_tokens());
        fitting(files.iter().filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())), typed)
    })
}

/// Names of agents.
pub(super) fn agents() -> ArgValueCompleter {
    names(|home, typed| fitting(agent_names(home).iter().map(ToString::to_string), typed))
}

/// Completes with what is found in the home that the environment names.
fn names(find: fn(&Home, &str) -> Vec<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let home = Home::from_environment().ok().map(Home::unopened);
        let found = home.zip(typed.to_str()).map(|(home, typed)| find(&home, typed)).unwrap_or_default();
        found.into_iter().map(CompletionCandidate::new).collect::<Vec<_>>()
    })
}

fn routine_names(home: &Home) -> Vec<String> {
    store::slugs(home).unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn live_ids(home: &Home) -> Vec<RunId> {
    Entry::list(home).unwrap_or_default().iter().map(|entry| entry.id().clone()).collect()
}

fn directory_names(directory: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let _ = crate::home::names::scan(directory, |name, _| found.push(name.to_owned()));
    found
}

fn fitting(names: impl IntoIterator<Item = String>, typed: &str) -> Vec<String> {
    names.into_iter().filter(|name| name.starts_with(typed)).collect()
}

/// Returns the newest of the runs whose names begin with what was typed.
fn newest(mut runs: Vec<RunId>, typed: &str) -> Vec<String> {
    runs.sort_unstable_by(|one, other| other.cmp(one));
    runs.dedup();
    fitting(runs.iter().map(ToString::to_string), typed).into_iter().take(MAX_RUNS).collect()
}
