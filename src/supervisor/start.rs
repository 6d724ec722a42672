//! Starting the agent, and waiting until it really is the agent that runs.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::exec::{Part, Prepared, Report, TERMINAL_VARIABLE, read_report};
use super::setup_step::{LONGEST_PAUSE, NotPrepared};
use super::supervision::Supervisor;
use super::terminal::Terminal;
use crate::agent::{LOGIN_SHELL_TIMEOUT, ShellMode, not_started, through_shell};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::process_tree::{COOKIE_VARIABLE, ProcessId};
use crate::quote::saying;
use crate::run::entry::SHELL_LOG;
use crate::run::record::{Environment, Machine, Started};

/// The pause between two looks at the stub's report.
const PAUSE: Duration = Duration::from_micros(500);

/// How much of what the login shell said last is repeated.
const SHOWN_CHARS: usize = 300;

impl Supervisor {
    /// Starts the agent of the run, and writes down that it runs.
    pub(super) fn start_agent(&mut self) -> Result<Started, NotPrepared> {
        let supervisor = ProcessId::current().map_err(NotPrepared::failed)?;
        if self.manifest.command.terminal {
            let opened = Terminal::open(&self.entry, &self.workbench());
            let failed = |error| NotPrepared::failed(format_args!("its terminal cannot be opened: {error}"));
            self.terminal = Some(opened.map_err(failed)?);
        }
        let agent = self.start_part(Part::Agent);
        self.terminal.iter_mut().for_each(Terminal::hand_over);
        let started = Started { supervisor, agent: agent?, at: UnixSeconds::now(), machine: Some(Machine::this()) };
        self.entry.set_started(&started).map_err(NotPrepared::failed)?;
        Ok(started)
    }

    /// Starts the agent of the run, or what runs beside it, as our child, and returns once it really runs.
    pub(super) fn start_part(&mut self, part: Part) -> Result<ProcessId, NotPrepared> {
        let environment = self.environment_of(part).map_err(NotPrepared::failed)?;
        let command = &self.manifest.command;
        if part == Part::Verify && command.login_shell {
            // The stub reads there what to become, and the agent has run since.
            self.entry.set_manifest(&self.manifest).map_err(NotPrepared::failed)?;
        }
        let on_terminal = part == Part::Agent && command.terminal;
        if !command.login_shell && !on_terminal {
            return self.start_at_once(part, &environment);
        }
        let words = self.words(part, &environment);
        let child = self.stub(&words, &environment)?.spawn().map_err(|error| {
            NotPrepared::failed(match self.manifest.command.login_shell {
                true => not_started(&words[0], &error),
                false => format!("cannot start {}: {error}", words[0].display()),
            })
        })?;
        let process = self.watch_child(&child);
        self.await_part(part, &words[0])?;
        Ok(process)
    }

    /// Returns what a part gets. That of the agent is on disk only until it has started, that of a check only where a login shell
    /// starts it.
    fn environment_of(&self, part: Part) -> Result<Environment, FileError> {
        let Some(environment) = self.check_environment.as_ref().filter(|_| part.is_check()) else {
            return self.entry.environment();
        };
        if self.manifest.command.login_shell {
            self.entry.set_check_environment(environment)?;
        }
        Ok(environment.clone())
    }

    /// Starts it without a stub: `spawn` returns once exec has happened, or failed. On a mount that hangs it returns late, and until
    /// then the run's bound and a request for its end wait.
    fn start_at_once(&mut self, part: Part, environment: &Environment) -> Result<ProcessId, NotPrepared> {
        let prepared = Prepared::new(&self.context.home, &self.manifest, environment, part, None);
        // No signal to the supervisor's group reaches it.
        let child = prepared.and_then(|prepared| prepared.start(|command| command.process_group(0).spawn()));
        Ok(self.watch_child(&child.map_err(NotPrepared::failed)?))
    }

    fn watch_child(&mut self, child: &Child) -> ProcessId {
        let pid = Pid::from_child(child);
        self.children.set_agent(pid);
        // A child that is dead by now never was the agent; no process has the start time 0.
        ProcessId::of(pid.as_raw_pid()).unwrap_or(ProcessId { pid: pid.as_raw_pid(), start: 0 })
    }

    /// Returns the words that become the command by way of a login shell or of a terminal, ready to be started.
    fn stub(&self, words: &[OsString], environment: &Environment) -> Result<Command, NotPrepared> {
        let shell_log = self.entry.file(SHELL_LOG);
        let output = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&shell_log)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|error| NotPrepared::failed(format_args!("cannot write {}: {error}", shell_log.display())))?;
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .envs(&environment.inherited)
            .env(COOKIE_VARIABLE, self.manifest.cookie.to_string())
            .current_dir(self.context.home.root())
            .stdin(Stdio::null())
            .stdout(output.0)
            .stderr(output.1);
        if let Some(terminal) = &self.terminal {
            command.env(TERMINAL_VARIABLE, &terminal.name);
        }
        Ok(command)
    }

    /// Waits until the stub has become the command, under the run's bound.
    fn await_part(&mut self, part: Part, first_word: &OsStr) -> Result<(), NotPrepared> {
        let deadline = Instant::now() + LOGIN_SHELL_TIMEOUT;
        let mut looked = Instant::now();
        loop {
            self.children.reap();
            // Before its report: what exits may have said why right before that.
            let exited = self.children.agent_exit().is_some();
            match read_report(&part.report(&self.entry)) {
                Some(Report::Started { of_start_up_files, missing_env }) => {
                    self.of_start_up_files.extend(of_start_up_files);
                    if !part.is_check() {
                        self.missing_env = Some(missing_env);
                    }
                    return Ok(());
                }
                Some(Report::Failed(reason)) => return Err(NotPrepared::failed(reason)),
                None if exited => return Err(self.silent_start(first_word, "ended")),
                None => {}
            }
            // The bound is read from files, which costs more than a look at whether anything was asked.
            let asked =
                self.entry.end_request().is_ok_and(|request| request.is_some()) || self.wake.termination_signal();
            if asked || self.wake.request_unwritten() || looked.elapsed() >= LONGEST_PAUSE {
                looked = Instant::now();
                self.child_or_end()?;
            }
            if Instant::now() >= deadline {
                return Err(
                    self.silent_start(first_word, &format!("was silent for {} s", LOGIN_SHELL_TIMEOUT.as_secs()))
                );
            }
            self.wake.wait(PAUSE);
        }
    }

    fn silent_start(&self, first_word: &OsStr, how: &str) -> NotPrepared {
        let (who, advice) = match self.manifest.command.login_shell {
            true => ("the login shell", "; look at its start-up files, or set login_shell = false in the agent's file"),
            false => ("the launcher", ""),
        };
        let said = atomic_file::read(&self.entry.file(SHELL_LOG), atomic_file::MAX_RECORD_BYTES).unwrap_or_default();
        let said = saying(&String::from_utf8_lossy(&said), SHOWN_CHARS);
        NotPrepared::failed(format_args!("{who} {} {how} before the agent started{said}{advice}", first_word.display()))
    }

    /// Returns the words that start the stub, and before them those of the login shell that becomes it.
    fn words(&self, part: Part, environment: &Environment) -> Vec<OsString> {
        let program = self.context.program.path();
        let mut stub: Vec<OsString> =
            vec!["exec".into(), self.context.home.root().into(), self.entry.id().to_string().into()];
        stub.extend(part.flag().map(Into::into));
        if self.manifest.command.login_shell {
            let shell = environment.inherited.get("SHELL");
            through_shell(ShellMode::Login, shell.map(AsRef::as_ref), program, &stub)
        } else {
            std::iter::once(program.into()).chain(stub).collect()
        }
    }
}
