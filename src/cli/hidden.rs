//! The commands by which this program starts itself. They skip the parser of the others: an agent waits for them.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum as _;

use super::{detach, follow, init, outcome_of};
use crate::agent::{question_hook, shell_path};
use crate::archive;
use crate::env_vars;
use crate::git::Work;
use crate::home::{Home, atomic_file};
use crate::janitor::{heartbeat, probe};
use crate::logging;
use crate::run::entry::{ANSWER, Entry};
use crate::run::hook;
use crate::run::id::RunId;
use crate::supervisor::{Part, check_left, exec_agent, supervise};

/// Does what a hidden command says; `None` if the process's arguments are none.
pub(super) fn run() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next()?;
    let words: Vec<OsString> = arguments.collect();
    let done = dispatch(name.to_str()?, &words)?;
    Some(outcome_of(done, logging::LAST_WORDS_TIMEOUT))
}

fn dispatch(name: &str, words: &[OsString]) -> Option<anyhow::Result<ExitCode>> {
    let done = match (name, words) {
        // By a trigger, or by Slurm.
        ("supervise", [home, run]) => {
            logging::start();
            id(run).and_then(|run| supervise(home.into(), &run))
        }
        // By Slurm, on the node of a run whose supervisor is gone.
        ("check-left", [home, run]) => {
            logging::start();
            id(run).and_then(|run| check_left(home.into(), &run))
        }
        // By Slurm, on a node, for `doctor`.
        ("probe", [home, directory]) => probe::report(home.into(), directory.as_ref()),
        // By a supervisor, as the agent, its setup or a check.
        ("exec", [home, run]) => id(run).and_then(|run| match exec_agent(home.into(), &run, Part::Agent)? {}),
        ("exec", [home, run, flag]) => {
            let part = Part::of_flag(flag)?;
            id(run).and_then(|run| match exec_agent(home.into(), &run, part)? {})
        }
        // By a supervisor, once everything of its run has ended.
        ("examine", [home, run, max_bytes]) => id(run).and_then(|run| examine(home.into(), &run, max_bytes)),
        // By a sweep, as nobody's child.
        ("archive", [home]) => {
            logging::start();
            crate::janitor::archive_all(home.into())
        }
        // By tmux, in a run's window.
        ("follow", [home, run]) => id(run).and_then(|run| follow::follow(home.into(), &run, None)),
        // By itself, as the first process of a container.
        (init::COMMAND, [_, arguments @ ..]) => return Some(init::run(arguments)),
        // As nobody's child, by whatever must not be its parent.
        ("detach", [_, command @ ..]) => detach::detach(command),
        // By Claude Code, before it asks a person something.
        ("question-hook", []) => answer_question(),
        // By the process that recorded a run's end.
        ("hook", [name, home, run, _, command @ ..]) => {
            logging::start();
            id(run).and_then(|run| hook::run(&name.to_string_lossy(), home.into(), &run, command))
        }
        // By a janitor, after a pass of its scheduler.
        ("heartbeat", [home, _, command @ ..]) => heartbeat::run(home.into(), command),
        // Where an agent's command is looked for.
        ("ask-shell", [again @ .., home, mode]) => {
            logging::start();
            let mode = shell_path::Mode::from_str(&mode.to_string_lossy(), false).map_err(anyhow::Error::msg);
            mode.and_then(|mode| shell_path::ask_shell(home.into(), mode, !again.is_empty()))
        }
        // Through that shell.
        ("print-path", [file]) => shell_path::print_path(file.as_ref()).map_err(Into::into),
        _ => return None,
    };
    Some(done.map(|()| ExitCode::SUCCESS))
}

/// Prints what the repositories of a run's workbench hold that nobody else has.
fn examine(home: PathBuf, run: &RunId, max_bytes: &OsString) -> anyhow::Result<()> {
    let examined = archive::examine_at_end(&Home::open(home)?, run, max_bytes.to_string_lossy().parse()?);
    let work = examined.unwrap_or_else(|error| vec![Work::unreadable(Path::new(""), error)]);
    Ok(serde_json::to_writer(std::io::stdout(), &work)?)
}

/// Prints what becomes of a question that an agent's hook has on stdin.
fn answer_question() -> anyhow::Result<()> {
    let mut call = Vec::new();
    std::io::stdin().take(question_hook::MAX_CALL_BYTES).read_to_end(&mut call)?;
    let answer = std::env::var_os(env_vars::RUN).and_then(|run| {
        let entry = Entry::of(&Home::unopened(Home::from_environment().ok()?), &id(&run).ok()?);
        atomic_file::read_json(&entry.file(ANSWER)).ok()
    });
    match question_hook::decide(&call, answer.as_ref()) {
        Some(decision) => Ok(writeln!(std::io::stdout(), "{decision}")?),
        None => Ok(()),
    }
}

fn id(run: &OsString) -> anyhow::Result<RunId> {
    run.to_string_lossy().parse().with_context(|| format!("{} is not a run's id", run.display()))
}
