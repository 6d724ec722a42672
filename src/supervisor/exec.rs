//! The hidden `exec` stub: what the login shell becomes, and what becomes the agent, its setup or a check.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::io::Errno;
use rustix::process::{getpid, getsid, ioctl_tiocsctty, setpgid, setsid};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};

use super::command_path::{self, PATH};
use super::terminal::open_side;
use crate::agent::output::OutputFormat;
use crate::agent::{Found, StdinSource};
use crate::environment::{EnvName, absolute_directories};
use crate::home::Home;
use crate::home::atomic_file::{self, FileError, open_sole_to_append};
use crate::home::lock::{FileLock, Mode};
use crate::process_tree::{COOKIE_VARIABLE, ProcessId, RUN_VARIABLE, descendants};
use crate::run::argument_space;
use crate::run::entry::{EXEC_REPORT, Entry, PRECHECK_OUTPUT, PRECHECK_REPORT, SETUP_REPORT, VERIFY_REPORT};
use crate::run::id::RunId;
use crate::run::record::{Environment, Manifest};
use crate::run::workbench::Workbench;
use crate::run::workbench::open_to_append;

pub(super) use crate::env_vars::TERMINAL as TERMINAL_VARIABLE;

/// What kind of terminal that is: the one that a window in tmux is.
const TERMINAL_KIND: &str = "screen-256color";

/// What the stub becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What decides whether the run is started.
    Precheck,
    /// What prepares the workbench.
    Setup,
    /// The agent.
    Agent,
    /// What decides whether the run has succeeded.
    Verify,
}

impl Part {
    /// Returns the part that an argument of the stub names.
    pub fn of_flag(flag: &OsStr) -> Option<Self> {
        [Self::Precheck, Self::Setup, Self::Verify].into_iter().find(|part| part.flag().is_some_and(|own| flag == own))
    }

    /// Returns the argument of the stub that names it; the agent needs none.
    pub(super) fn flag(self) -> Option<&'static str> {
        match self {
            Self::Precheck => Some("--precheck"),
            Self::Setup => Some("--setup"),
            Self::Agent => None,
            Self::Verify => Some("--verify"),
        }
    }

    /// Whether it is a person's check, which gets no secret of the agent.
    pub(super) fn is_check(self) -> bool {
        matches!(self, Self::Precheck | Self::Verify)
    }

    /// Returns the file in which the stub reports.
    pub(super) fn report(self, entry: &Entry) -> PathBuf {
        entry.file(match self {
            Self::Precheck => PRECHECK_REPORT,
            Self::Setup => SETUP_REPORT,
            Self::Agent => EXEC_REPORT,
            Self::Verify => VERIFY_REPORT,
        })
    }

    /// Returns the program and its arguments.
    fn words(self, manifest: &Manifest) -> (&str, &[String]) {
        let command: &[String] = match self {
            Self::Agent => return (&manifest.command.command, &manifest.command.args),
            Self::Setup => &manifest.command.setup,
            Self::Precheck => manifest.precheck.as_ref().map_or(&[], |precheck| &precheck.command),
            Self::Verify => manifest.verify.as_ref().map_or(&[], |verify| &verify.command),
        };
        command.split_first().map_or(("", &[]), |(program, args)| (program.as_str(), args))
    }
}

/// What the stub reports before it becomes the program, or when it cannot. The report stays locked until the program starts (the
/// lock is close-on-exec), so a free lock on a file that says `Started` means that the agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    Started {
        /// What start-up files left running: it is ended with the run, and is not the agent's doing.
        of_start_up_files: HashSet<ProcessId>,
        /// What it should inherit, and lacks.
        missing_env: Vec<EnvName>,
    },
    /// It does not, and why.
    Failed(String),
}

/// Reads what the stub reported; `None` if it has not yet.
pub(super) fn read_report(report: &Path) -> Option<Report> {
    let _lock = FileLock::try_existing(report, Mode::Shared).ok()?;
    atomic_file::read_json(report).ok()
}

/// Returns the report of a stub that is about to become the program.
fn started(manifest: &Manifest) -> Report {
    let command = &manifest.command;
    let parent = rustix::process::getppid().and_then(|parent| ProcessId::of(parent.as_raw_pid()));
    // A child that ends during a look can hide another one, so each is looked at twice.
    let roots = [parent, ProcessId::current().ok()].into_iter().flatten().filter(|_| command.login_shell);
    let below = roots.flat_map(|root| [root; 2]).filter_map(|root| descendants(root).ok()).flatten();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let left = below.map(|process| process.id).filter(|id| id.pid != own);
    let lacking = manifest.missing_env.iter().filter(|name| std::env::var_os(name).is_none());
    Report::Started { of_start_up_files: left.collect(), missing_env: lacking.cloned().collect() }
}

fn write_report(file: &mut FileLock, path: &Path, report: &Report) -> Result<(), FileError> {
    let text = serde_json::to_string(report).map_err(io::Error::from);
    text.and_then(|text| file.set_content(&text)).map_err(|source| FileError::io("write", path, source))
}

/// Becomes the agent of a run, or what runs beside it; returns only if that fails, after reporting it to the supervisor.
pub fn exec_agent(root: PathBuf, id: &RunId, part: Part) -> anyhow::Result<Infallible> {
    let home = Home::open(root)?;
    let entry = Entry::of(&home, id);
    let path = part.report(&entry);
    // The supervisor holds it for moments only, to read.
    let mut report = FileLock::acquire_unsigned(&path, Duration::from_secs(2))?;
    let result = become_part(&home, &entry, part, &mut report);
    if let Err(error) = &result {
        write_report(&mut report, &path, &Report::Failed(error.to_string()))?;
    }
    result
}

fn become_part(home: &Home, entry: &Entry, part: Part, report: &mut FileLock) -> anyhow::Result<Infallible> {
    let manifest = entry.manifest()?;
    let environment = if part.is_check() { entry.check_environment()? } else { entry.environment()? };
    // No other terminal can reach the agent, and no signal to the supervisor's group.
    let session = lead_session();
    let terminal = match part {
        Part::Agent if manifest.command.terminal => Some(session.and_then(|()| take_terminal()).map_err(no_terminal)?),
        _ => None,
    };
    // The rest is as the login shell left it.
    let prepared = Prepared::new(home, &manifest, &environment, part, terminal)?;
    write_report(report, &part.report(entry), &started(&manifest))?;
    prepared.start(|command| Err(command.exec()))
}

/// The agent, its setup or a check, ready to be executed.
pub(super) struct Prepared<'a> {
    part: Part,
    home: &'a Home,
    manifest: &'a Manifest,
    environment: &'a Environment,
    found: Found,
    args: &'a [String],
    directory: PathBuf,
    is_terminal: bool,
    stdin: File,
    stdout: File,
    stderr: File,
}

impl<'a> Prepared<'a> {
    /// Finds the program, and opens the files or the terminal that it gets.
    ///
    /// # Errors
    /// There is no such program, or a file of the workbench cannot be opened.
    pub(super) fn new(
        home: &'a Home,
        manifest: &'a Manifest,
        environment: &'a Environment,
        part: Part,
        terminal: Option<File>,
    ) -> anyhow::Result<Self> {
        let workbench = manifest.workbench(home);
        let (program, args) = part.words(manifest);
        let found = command_path::find(home, program, &manifest.command, environment)?;
        let stdin = match part {
            Part::Agent => manifest.command.stdin,
            Part::Precheck | Part::Setup | Part::Verify => StdinSource::None,
        };
        let is_terminal = terminal.is_some();
        let is_text = manifest.command.output == OutputFormat::Text;
        // By then the agent may have made its log another name of a file elsewhere.
        let open = |log: PathBuf| if part == Part::Verify { open_sole_to_append(&log) } else { open_to_append(log) };
        let (stdin, stdout) = match terminal {
            Some(terminal) => (terminal.try_clone().map_err(no_terminal)?, terminal),
            None => {
                let stdout = match part {
                    // Read as data, and not as a log.
                    Part::Precheck => Entry::of(home, &manifest.id).file(PRECHECK_OUTPUT),
                    // What others print is no event of the agent.
                    Part::Setup | Part::Verify if !is_text => workbench.stderr_log(),
                    _ => workbench.log(),
                };
                (open_stdin(&workbench, stdin)?, open(stdout)?)
            }
        };
        let stderr = match is_text {
            true if part == Part::Precheck => open(workbench.log())?,
            true => stdout.try_clone().context("cannot open its log")?,
            false => open(workbench.stderr_log())?,
        };
        let directory = workbench.directory().to_owned();
        Ok(Self { part, home, manifest, environment, found, args, directory, is_terminal, stdin, stdout, stderr })
    }

    /// Executes it by `exec`, and a script without `#!` by a shell, as a command line does: `posix_spawn` and musl's `execvp` only
    /// say that they cannot.
    pub(super) fn start<T>(&self, mut exec: impl FnMut(&mut Command) -> io::Result<T>) -> anyhow::Result<T> {
        let mut execute = |command| exec(&mut self.command(command)?);
        let program = &self.found.program;
        let result = match execute(Command::new(program)) {
            Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) && is_text(program) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg(program);
                execute(shell)
            }
            result => result,
        };
        result.map_err(|source| self.failed(&source))
    }

    /// Gives a command everything that is the agent's: what agent and routine set wins over the environment that is there, and the
    /// cookie always does.
    fn command(&self, mut command: Command) -> io::Result<Command> {
        if !self.manifest.command.login_shell {
            command.env_clear().envs(&self.environment.inherited);
        }
        if self.part.is_check() {
            for name in &self.environment.secret {
                command.env_remove(name);
            }
        }
        if self.is_terminal {
            command.env("TERM", TERMINAL_KIND);
        }
        command
            .args(self.args)
            .envs(&self.environment.set)
            .env_remove(TERMINAL_VARIABLE)
            // A login shell leaves where it was itself, and some programs believe that rather than the system.
            .env("PWD", &self.directory)
            .env_remove("OLDPWD")
            .env(COOKIE_VARIABLE, self.manifest.cookie.to_string())
            .env(crate::env_vars::HOME, self.home.root())
            .env(RUN_VARIABLE, self.manifest.id.to_string())
            .envs(std::env::current_exe().ok().map(|program| (crate::env_vars::PROGRAM, program)))
            // Its own interpreter and all that it starts are found where it was found.
            .envs(self.found.on.as_ref().map(|(_, path)| (PATH, path)))
            .current_dir(&self.directory)
            .stdin(self.stdin.try_clone()?)
            .stdout(self.stdout.try_clone()?)
            .stderr(self.stderr.try_clone()?);
        if self.part.is_check() {
            self.make_path_absolute(&mut command);
        }
        Ok(command)
    }

    /// Takes out of its PATH what start-up files left there that depends on where one is: the agent has written in the workbench.
    fn make_path_absolute(&self, command: &mut Command) {
        let set = command.get_envs().find(|(name, _)| *name == PATH).map(|(_, path)| path.map(OsStr::to_owned));
        let path = set.unwrap_or_else(|| std::env::var_os(PATH).filter(|_| self.manifest.command.login_shell));
        match path.as_deref().and_then(absolute_directories) {
            Some(path) => command.env(PATH, path),
            None => command.env_remove(PATH),
        };
    }

    fn failed(&self, source: &io::Error) -> anyhow::Error {
        if source.raw_os_error() == Some(Errno::TOOBIG.raw_os_error()) {
            return anyhow!("cannot start it: {}", argument_space::explain(self.environment, self.args));
        }
        let program = self.found.program.display();
        anyhow!("cannot execute {program}: {source}; check that it is a program for this machine")
    }
}

fn no_terminal(source: io::Error) -> anyhow::Error {
    anyhow!("the agent cannot be started on its terminal: {source}")
}

/// Whether a file may be a script rather than a program for another machine.
fn is_text(program: &Path) -> bool {
    let mut start = [0; 128];
    let read = File::open(program).and_then(|mut file| file.read(&mut start));
    read.is_ok_and(|length| !start[..length].contains(&0))
}

fn open_stdin(workbench: &Workbench, source: StdinSource) -> Result<File, FileError> {
    match source {
        StdinSource::Prompt => atomic_file::open_regular(&workbench.prompt_file()),
        StdinSource::None => {
            let null = Path::new("/dev/null");
            File::open(null).map_err(|source| FileError::io("open", null, source))
        }
    }
}

/// Begins a session of our own. The leader of a process group may not, and a login shell with job control (`set -m` in a start-up
/// file) has made us one: it moves into the supervisor's group first.
fn lead_session() -> io::Result<()> {
    if setsid().is_err() {
        let session = getsid(None)?;
        if session == getpid() {
            return Ok(());
        }
        setpgid(None, Some(session))?;
        setsid()?;
    }
    Ok(())
}

/// Makes the terminal that the supervisor holds ours. Signals that a host ignored are given back, or Ctrl-C would do nothing: one
/// that is handled becomes the default when a program is executed.
fn take_terminal() -> io::Result<File> {
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    let name = std::env::var_os(TERMINAL_VARIABLE).ok_or(io::ErrorKind::NotFound)?;
    let terminal = open_side(Path::new(&name))?;
    ioctl_tiocsctty(&terminal)?;
    Ok(terminal)
}
