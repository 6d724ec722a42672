//! Starting the agent, and waiting until it really is the agent that runs.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::children::Children;
use super::exec::{Part, Word, read_word};
use super::wake::Wake;
use crate::agent::{LAUNCH_PATIENCE, UNWATCHED_LAUNCH_PATIENCE, through_login_shell};
use crate::clock::UnixSeconds;
use crate::excerpt::saying;
use crate::home::atomic_file;
use crate::process_tree::{COOKIE_VARIABLE, ProcessId, ScanError};
use crate::run::entry::Entry;
use crate::run::record::{Environment, Manifest, Origin, Started};
use crate::run::workplace::Workplace;

/// The pause between two looks: a login shell takes a while, and nobody likes to wait longer than it.
const PAUSE: Duration = Duration::from_micros(500);

/// Why there is no agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotStarted {
    /// Its start failed.
    Failed(String),
    /// Somebody wants the run ended already.
    CalledOff,
}

/// Starts the agent of a run, and writes down that it runs.
pub(super) fn start_agent(
    workplace: &Workplace,
    entry: &Entry,
    manifest: &Manifest,
    children: &mut Children,
    wake: &mut Wake,
) -> Result<Started, NotStarted> {
    let supervisor = ProcessId::current().map_err(|error: ScanError| failed(error))?;
    let agent = if manifest.command.terminal {
        let environment = entry.environment().map_err(failed)?;
        let words = words(workplace, entry, manifest, Part::Agent, &environment);
        // Whoever holds the terminal starts the agent now.
        entry.set_supervised(supervisor).map_err(failed)?;
        let exited = || entry.terminal_exit().is_ok_and(|exit| exit.is_some());
        await_part(entry, manifest, Part::Agent, &words[0], wake, exited)?;
        entry.terminal_held().map_err(failed)?.ok_or_else(|| failed("nobody holds its terminal"))?.agent
    } else {
        start(workplace, entry, manifest, Part::Agent, children, wake)?
    };
    let started = Started { supervisor, agent, at: UnixSeconds::now() };
    entry.set_started(&started).map_err(failed)?;
    Ok(started)
}

/// Starts the agent of a run, or its setup, as our child, and waits until it really is that which runs.
pub(super) fn start(
    workplace: &Workplace,
    entry: &Entry,
    manifest: &Manifest,
    part: Part,
    children: &mut Children,
    wake: &mut Wake,
) -> Result<ProcessId, NotStarted> {
    let environment = entry.environment().map_err(failed)?;
    let words = words(workplace, entry, manifest, part, &environment);
    let process = spawn(workplace, entry, manifest, &environment, &words, &[], children).map_err(NotStarted::Failed)?;
    let exited = || {
        children.reap();
        children.agent_exit().is_some()
    };
    await_part(entry, manifest, part, &words[0], wake, exited)?;
    Ok(process)
}

fn failed(error: impl std::fmt::Display) -> NotStarted {
    NotStarted::Failed(error.to_string())
}

pub(super) fn words(
    workplace: &Workplace,
    entry: &Entry,
    manifest: &Manifest,
    part: Part,
    environment: &Environment,
) -> Vec<OsString> {
    let program = workplace.program.path();
    let mut stub: Vec<OsString> = vec!["exec".into(), workplace.home.root().into(), entry.id().to_string().into()];
    if part == Part::Setup {
        stub.push("--setup".into());
    }
    if manifest.command.login_shell {
        let shell = environment.inherited.iter().find(|(name, _)| name.to_string() == "SHELL");
        through_login_shell(shell.map(|(_, value)| value.as_ref()), program, &stub)
    } else {
        std::iter::once(program.into()).chain(stub).collect()
    }
}

/// Starts the words that end as the agent, with `more` variables on top of those that it inherits.
pub(super) fn spawn(
    workplace: &Workplace,
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
        .current_dir(workplace.home.root())
        .stdin(Stdio::null())
        .stdout(output.0)
        .stderr(output.1)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", words[0].display()))?;
    let pid = Pid::from_child(&child);
    children.set_agent(pid);
    // A child that is dead by now never was the agent; no process has the start time 0.
    Ok(ProcessId::of(pid.as_raw_pid()).unwrap_or(ProcessId { pid: pid.as_raw_pid(), start: 0 }))
}

/// Waits until the stub has become what it is to be.
fn await_part(
    entry: &Entry,
    manifest: &Manifest,
    part: Part,
    first_word: &OsString,
    wake: &mut Wake,
    mut exited: impl FnMut() -> bool,
) -> Result<(), NotStarted> {
    let waits_for_holder = part == Part::Agent && manifest.command.terminal;
    let is_waited_for = part == Part::Agent && manifest.origin == Origin::Call && !manifest.needs_preparation();
    let patience = if is_waited_for { LAUNCH_PATIENCE } else { UNWATCHED_LAUNCH_PATIENCE };
    let deadline = Instant::now() + patience;
    loop {
        let exited = exited();
        match read_word(&part.report(entry)) {
            // Whoever holds the terminal may still be about to note whom it started.
            Word::Started if waits_for_holder && matches!(entry.terminal_held(), Ok(None)) => {}
            Word::Started => return Ok(()),
            Word::Failed(reason) => return Err(NotStarted::Failed(reason)),
            Word::None if exited => return Err(NotStarted::Failed(silence(entry, manifest, first_word, "ended"))),
            Word::None => {}
        }
        if entry.end_request().is_ok_and(|request| request.is_some()) || wake.was_asked() {
            return Err(NotStarted::CalledOff);
        }
        if Instant::now() >= deadline {
            let how = format!("was silent for {} s", patience.as_secs());
            return Err(NotStarted::Failed(silence(entry, manifest, first_word, &how)));
        }
        wake.wait(PAUSE);
    }
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
