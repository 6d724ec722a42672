//! Starting the agent, and waiting until it really is the agent that runs.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::children::Children;
use super::errand::{LONGEST_PAUSE, NotPrepared};
use super::exec::{Part, Word, read_word};
use super::facts::Supervisor;
use crate::agent::{LOGIN_SHELL_TIMEOUT, not_started, through_login_shell};
use crate::clock::UnixSeconds;
use crate::home::atomic_file;
use crate::process_tree::{COOKIE_VARIABLE, ProcessId};
use crate::quote::saying;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::record::{Environment, Machine, Manifest, Started};

/// The pause between two looks: a login shell takes a while, and nobody likes to wait longer than it.
const PAUSE: Duration = Duration::from_micros(500);

impl Supervisor {
    /// Starts the agent of the run, and writes down that it runs.
    pub(super) fn start_agent(&mut self) -> Result<Started, NotPrepared> {
        let supervisor = ProcessId::current().map_err(NotPrepared::failed)?;
        let agent = if self.manifest.command.terminal {
            let environment = self.entry.environment().map_err(NotPrepared::failed)?;
            let words = words(&self.context, &self.entry, &self.manifest, Part::Agent, &environment);
            // The process that holds the terminal starts the agent now.
            self.entry.set_supervised(supervisor).map_err(NotPrepared::failed)?;
            self.await_part(Part::Agent, &words[0])?;
            let held = self.entry.terminal_held().map_err(NotPrepared::failed)?;
            held.ok_or_else(|| NotPrepared::failed("nobody holds its terminal"))?.agent
        } else {
            self.start_part(Part::Agent)?
        };
        let started = Started { supervisor, agent, at: UnixSeconds::now(), machine: Some(Machine::this()) };
        self.entry.set_started(&started).map_err(NotPrepared::failed)?;
        Ok(started)
    }

    /// Starts the agent of the run, or its setup, as our child, and waits until it really is that which runs.
    pub(super) fn start_part(&mut self, part: Part) -> Result<ProcessId, NotPrepared> {
        let environment = self.entry.environment().map_err(NotPrepared::failed)?;
        let words = words(&self.context, &self.entry, &self.manifest, part, &environment);
        let (context, entry, manifest) = (&self.context, &self.entry, &self.manifest);
        let process = spawn(context, entry, manifest, &environment, &words, &[], &mut self.children)
            .map_err(NotPrepared::failed)?;
        self.await_part(part, &words[0])?;
        Ok(process)
    }

    /// Waits until the stub has become the command, under the run's bound.
    fn await_part(&mut self, part: Part, first_word: &OsString) -> Result<(), NotPrepared> {
        let on_terminal = part == Part::Agent && self.manifest.command.terminal;
        let deadline = Instant::now() + LOGIN_SHELL_TIMEOUT;
        let mut looked = Instant::now();
        loop {
            self.children.reap();
            // Before its word: what exits may have said why right before that.
            let exited = if on_terminal {
                self.entry.terminal_exit().is_ok_and(|exit| exit.is_some())
            } else {
                self.children.agent_exit().is_some()
            };
            match read_word(&part.report(&self.entry)) {
                // The process that holds the terminal may still be about to note whom it started.
                Word::Started { .. } if on_terminal && matches!(self.entry.terminal_held(), Ok(None)) => {}
                Word::Started { of_start_up_files, missing_env } => {
                    self.of_start_up_files.extend(of_start_up_files);
                    self.missing_env = Some(missing_env);
                    return Ok(());
                }
                Word::Failed(reason) => return Err(NotPrepared::failed(reason)),
                Word::None if exited => return Err(self.silent_start(first_word, "ended")),
                Word::None => {}
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

    fn silent_start(&self, first_word: &OsString, how: &str) -> NotPrepared {
        NotPrepared::failed(silence(&self.entry, &self.manifest, first_word, how))
    }
}

pub(super) fn words(
    context: &Context,
    entry: &Entry,
    manifest: &Manifest,
    part: Part,
    environment: &Environment,
) -> Vec<OsString> {
    let program = context.program.path();
    let mut stub: Vec<OsString> = vec!["exec".into(), context.home.root().into(), entry.id().to_string().into()];
    if part == Part::Setup {
        stub.push("--setup".into());
    }
    if manifest.command.login_shell {
        let shell = environment.inherited.get("SHELL");
        through_login_shell(shell.map(AsRef::as_ref), program, &stub)
    } else {
        std::iter::once(program.into()).chain(stub).collect()
    }
}

/// Starts the words that end as the agent, with `more` variables on top of those that it inherits.
pub(super) fn spawn(
    context: &Context,
    entry: &Entry,
    manifest: &Manifest,
    environment: &Environment,
    words: &[OsString],
    more: &[(&str, OsString)],
    children: &mut Children,
) -> Result<ProcessId, String> {
    let shell_log = entry.shell_log();
    let output = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&shell_log)
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|error| format!("cannot write {}: {error}", shell_log.display()))?;
    let child = Command::new(&words[0])
        .args(&words[1..])
        .env_clear()
        .envs(&environment.inherited)
        .envs(more.iter().map(|(name, value)| (name, value)))
        .env(COOKIE_VARIABLE, manifest.cookie.to_string())
        .current_dir(context.home.root())
        .stdin(Stdio::null())
        .stdout(output.0)
        .stderr(output.1)
        .spawn()
        .map_err(|error| match manifest.command.login_shell {
            true => not_started(&words[0], &error),
            false => format!("cannot start {}: {error}", words[0].display()),
        })?;
    let pid = Pid::from_child(&child);
    children.set_agent(pid);
    // A child that is dead by now never was the agent; no process has the start time 0.
    Ok(ProcessId::of(pid.as_raw_pid()).unwrap_or(ProcessId { pid: pid.as_raw_pid(), start: 0 }))
}

/// How much of what the login shell said last is repeated.
const SHOWN_CHARS: usize = 300;

fn silence(entry: &Entry, manifest: &Manifest, first_word: &OsString, how: &str) -> String {
    let who = if manifest.command.login_shell { "the login shell" } else { "the launcher" };
    let said = atomic_file::read(&entry.shell_log(), atomic_file::MAX_RECORD_BYTES).unwrap_or_default();
    let said = saying(&String::from_utf8_lossy(&said), SHOWN_CHARS);
    let advice = if manifest.command.login_shell {
        "; look at its start-up files, or set login_shell = false in the agent's file"
    } else {
        ""
    };
    format!("{who} {} {how} before the agent started{said}{advice}", first_word.display())
}
