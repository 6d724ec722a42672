//! The hidden `terminal`: the first process of a terminal's window, which starts the agent there and tells how it ended.
//!
//! It is to the agent what the supervisor is to others: its parent, and that of every orphan below it. It decides
//! nothing: it waits until a supervisor is there, and stays until it has no child. The hidden `append` beside it gets
//! everything that the terminal shows.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGQUIT};

use super::children::Children;
use super::end_mark::{END_MARK, EndMarkFilter};
use super::exec::{ExecError, Part, TERMINAL_VARIABLE, open_log, report_failure};
use super::start::{spawn, words};
use super::wake::Wake;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::config::Config;
use crate::process_tree::{COOKIE_VARIABLE, ProcessId, become_subreaper};
use crate::run::context::{Context, Program};
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::judge_locks::Hold;
use crate::run::record::{AgentExit, Manifest, TerminalHeld};

const LONGEST_PAUSE: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_secs(1);

/// How long the output of a terminal may take to reach the log once nothing is left that prints.
pub(super) const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// How long an end that cannot be written down, as on a full disk, is tried again before it is left to a judge, who will
/// not know how the agent exited.
const RECORDING_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How long an agent that has lost its terminal may take to end.
const HANGUP_GRACE: Duration = Duration::from_secs(5);

/// Starts the agent of a run on our terminal once a supervisor is there, and stays until nothing is left below us.
///
/// # Errors
/// The agent could not be started; its supervisor was told.
pub fn hold_terminal(root: PathBuf, id: &RunId) -> Result<(), ExecError> {
    let home = Home::open(root)?;
    let entry = Entry::of(&home, id);
    let manifest = entry.manifest()?;
    let program = Program::current().map_err(ExecError::Terminal)?;
    // We were started by the server of all terminals, and have its cookie.
    let cookie = manifest.cookie.to_string();
    if std::env::var_os(COOKIE_VARIABLE).is_none_or(|carried| carried != *cookie) {
        let mut again = Command::new(program.path());
        let source = again.args(std::env::args_os().skip(1)).env(COOKIE_VARIABLE, cookie).exec();
        return Err(ExecError::Exec { program: program.path().to_owned(), source });
    }
    let context = Context::of_supervisor(home, Config::default(), program);
    let mut holder = Holder::new(context, entry, manifest).map_err(ExecError::Terminal)?;
    let Some(supervisor) = holder.await_supervisor() else { return Ok(()) };
    match holder.start() {
        Ok(agent) => holder.stay(supervisor, agent),
        Err(error) => return Err(report_failure(&holder.entry, error)),
    }
    Ok(())
}

struct Holder {
    context: Context,
    entry: Entry,
    manifest: Manifest,
    children: Children,
    wake: Wake,
    hung_up: Arc<AtomicBool>,
}

impl Holder {
    fn new(context: Context, entry: Entry, manifest: Manifest) -> io::Result<Self> {
        become_subreaper()?;
        // What is typed to interrupt the agent reaches us as well, and so does a request to end: it is the agent's to obey.
        let wake = Wake::listen()?;
        signal_hook::flag::register(SIGQUIT, Arc::default())?;
        let hung_up = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGHUP, Arc::clone(&hung_up))?;
        Ok(Self { context, entry, manifest, children: Children::default(), wake, hung_up })
    }

    /// Waits for the supervisor; `None` if none will come any more.
    fn await_supervisor(&mut self) -> Option<ProcessId> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Ok(Some(supervisor)) = self.entry.supervised() {
                return Some(supervisor);
            }
            let over = || matches!(Hold::take(&self.entry, Instant::now()), Hold::Unowned(_) | Hold::Gone);
            if self.hung_up.load(Ordering::Relaxed) || self.wake.termination_signal() || over() {
                return None;
            }
            self.wake.wait(pause);
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    fn start(&mut self) -> Result<ProcessId, ExecError> {
        let terminal = terminal_name().map_err(ExecError::Terminal)?;
        let environment = self.entry.environment()?;
        let words = words(&self.context, &self.entry, &self.manifest, Part::Agent, &environment);
        let mut more = vec![(TERMINAL_VARIABLE, terminal)];
        // What kind of terminal this is, as against the one that the server was started from.
        more.extend(std::env::var_os("TERM").map(|kind| ("TERM", kind)));
        let agent = spawn(&self.context, &self.entry, &self.manifest, &environment, &words, &more, &mut self.children)
            .map_err(|reason| ExecError::Terminal(io::Error::other(reason)))?;
        let holder = ProcessId::current().map_err(|error| ExecError::Terminal(io::Error::other(error)))?;
        self.entry.set_terminal_held(&TerminalHeld { holder, agent })?;
        Ok(agent)
    }

    fn stay(&mut self, supervisor: ProcessId, agent: ProcessId) {
        let mut lost_at: Option<Instant> = None;
        let mut ended: Option<(AgentExit, Instant)> = None;
        let mut told = false;
        loop {
            self.children.reap();
            if self.hung_up.swap(false, Ordering::Relaxed) && lost_at.is_none() {
                lost_at = Some(Instant::now());
                signal(agent, Signal::HUP);
            }
            if lost_at.is_some_and(|at| at.elapsed() >= HANGUP_GRACE) {
                signal(agent, Signal::KILL);
            }
            let first = ended.is_none();
            if first {
                let exit = self.children.agent_exit();
                ended = exit.map(|exit| (AgentExit { terminal_lost: lost_at.is_some(), ..exit }, Instant::now()));
            }
            if let Some((exit, since)) = &ended
                && !told
            {
                told = match self.entry.set_terminal_exit(exit) {
                    Ok(()) => {
                        // A hangup only wakes it.
                        signal(supervisor, Signal::HUP);
                        true
                    }
                    Err(error) => {
                        // Once, for this goes to the terminal.
                        if first {
                            tracing::warn!(%error, "how the agent ended is not on disk yet");
                        }
                        !self.entry.exists() || since.elapsed() >= RECORDING_PATIENCE
                    }
                };
            }
            // As long as we stay, the supervisor waits for our word.
            if told && self.children.none_left() {
                self.see_the_log_through();
                return;
            }
            self.wake.wait(TICK);
        }
    }

    /// Stays until the last of what was shown is in the log, or nothing more can be shown.
    fn see_the_log_through(&mut self) {
        let deadline = Instant::now() + LOG_PATIENCE;
        // Without waiting for it: a person may have stopped the output.
        let Ok(mut terminal) = open_terminal() else { return };
        let mut unsaid = END_MARK;
        while !self.entry.terminal_logged().exists() && Instant::now() < deadline {
            match terminal.write(unsaid) {
                Ok(count) => unsaid = &unsaid[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            self.wake.wait(Duration::from_millis(2));
        }
    }
}

fn terminal_name() -> io::Result<OsString> {
    Ok(OsString::from_vec(rustix::termios::ttyname(io::stdin(), Vec::new())?.into_bytes()))
}

fn open_terminal() -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(terminal_name()?)
}

fn signal(process: ProcessId, signal: Signal) {
    if let Err(error) = process.signal(signal) {
        tracing::warn!(%error, "a signal was not sent");
    }
}

/// Appends everything from stdin to a run's log, until it ends, and leaves a file then, or when the end mark comes. What
/// cannot be written, as on a full disk, is dropped: the terminal would stand still.
///
/// # Errors
/// The home or the log cannot be opened.
pub fn append_to_log(root: PathBuf, id: &RunId) -> Result<(), ExecError> {
    let home = Home::open(root)?;
    let entry = Entry::of(&home, id);
    let mut log = open_log(&Workbench::of(&home, id))?;
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; 64 * 1024];
    let mut filter = EndMarkFilter::default();
    let lost = |error: io::Error| {
        tracing::warn!(%error, "a part of the output is not in the log");
        false
    };
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if filter.pass(&buffer[..count], &mut log).unwrap_or_else(lost) {
                    tell_that_it_is_logged(&entry)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                let path = PathBuf::from("/dev/stdin");
                return Err(FileError::io("read", &path, source).into());
            }
        }
    }
    filter.finish(&mut log).map(|()| true).unwrap_or_else(lost);
    tell_that_it_is_logged(&entry)
}

fn tell_that_it_is_logged(entry: &Entry) -> Result<(), ExecError> {
    match atomic_file::write_in_place(&entry.terminal_logged(), b"") {
        Err(error) if entry.exists() => Err(error.into()),
        _ => Ok(()),
    }
}
