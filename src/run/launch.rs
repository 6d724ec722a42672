//! From a claimed run to a started agent: the supervisor, the window, and the wait for the agent.

use std::ffi::OsString;
use std::io::{self, ErrorKind, PipeWriter, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::claim::Claim;
use super::context::Context;
use super::entry::Workbench;
use super::id::RunId;
use super::record::{EndCause, EndRequest, Ending, Outcome, SupervisorRecord};
use super::recording;
use super::status::Status;
use crate::clock::UnixSeconds;
use crate::environment;
use crate::process_tree::COOKIE_VARIABLE;

/// The agent of a claimed run did not start.
#[derive(Debug, thiserror::Error)]
#[error("the run '{run}' did not start: {reason}")]
pub struct LaunchError {
    /// The run; its workbench tells what happened.
    pub run: RunId,
    /// Why.
    pub reason: String,
    /// Whether not even a record of the run is left, as on a full disk.
    pub nothing_left: bool,
}

/// The pause between two looks at what the supervisor has to say: little of what a launch takes, and a hundredth of a core for
/// those that take long.
const PAUSE: Duration = Duration::from_micros(500);

/// Launches a claimed run, and returns when its agent has been started, or at the deadline: what has to be done before that
/// may take longer, and goes on.
///
/// # Errors
/// It was not; the run is then recorded as failed to launch, or will be by the next watchdog pass.
pub fn launch(context: &Context, claim: Claim, deadline: Instant) -> Result<(), LaunchError> {
    let run = claim.entry.id().clone();
    let failed = |reason: String| LaunchError { run, reason, nothing_left: false };
    if let Err(reason) = begin(context, &claim, deadline) {
        return Err(fail(context, claim, reason, deadline));
    }
    match await_word(context, &claim, deadline) {
        Some(Ok(())) => Ok(()),
        Some(Err(reason)) => Err(failed(reason)),
        None => Err(failed(give_up(context, &claim))),
    }
}

/// Opens the window while the supervisor comes up, and lets that begin.
fn begin(context: &Context, claim: &Claim, deadline: Instant) -> Result<(), String> {
    // A process that was stopped since the claim may come here long after its caller had an answer.
    if Instant::now() >= deadline {
        return Err("preparing its launch took too long".to_owned());
    }
    if let Ok(Some(request)) = claim.entry.end_request() {
        return Err(request.reason);
    }
    let supervisor = Supervisor::start(context, claim)?;
    match open_session(context, claim, deadline) {
        Ok(()) => supervisor.begin(),
        Err(reason) => {
            supervisor.dismiss();
            Err(reason)
        }
    }
}

/// How long a launch that failed after its deadline is waited for until it is recorded.
const LEAST_RECORDING_PATIENCE: Duration = Duration::from_millis(500);

/// Records the end of a run of which nothing was started, which is ours alone, and returns it as an error. Waits for that until
/// the deadline only: what made the launch fail may hang again when its window is closed. Left alone, the next watchdog
/// pass records it.
pub(super) fn fail(context: &Context, claim: Claim, reason: String, deadline: Instant) -> LaunchError {
    let mut error = LaunchError { run: claim.entry.id().clone(), reason: reason.clone(), nothing_left: false };
    let context = context.clone();
    let (done, recorded) = mpsc::channel();
    let begun = std::thread::Builder::new().name("record".into()).spawn(move || {
        let _ = done.send(record_unstarted(&context, &claim, reason));
    });
    if begun.is_ok() {
        let patience = deadline.saturating_duration_since(Instant::now()).max(LEAST_RECORDING_PATIENCE);
        error.nothing_left = recorded.recv_timeout(patience).is_ok_and(|left| left == Left::Nothing);
    }
    error
}

/// What is left of a run of which nothing was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Its record, or an entry that the next watchdog pass records.
    Run,
    Nothing,
}

fn record_unstarted(context: &Context, claim: &Claim, reason: String) -> Left {
    let now = UnixSeconds::now();
    let request = claim.entry.end_request().ok().flatten();
    let ending = request.as_ref().map_or_else(
        || Ending {
            status: Status::LaunchFailed,
            reason: Some(reason),
            ended_by: None,
            exit_code: None,
            signal: None,
            finished_at: now,
            retain_from: now,
        },
        |request| Ending::by_request(request, now),
    );
    let outcome = Outcome::new(&claim.manifest, None, ending);
    let Err(error) = recording::record(context, &claim.entry, &outcome) else { return Left::Run };
    tracing::warn!(run = %claim.entry.id(), %error, "a failed launch could not be recorded");
    let workbench = Workbench::of(&context.home, claim.entry.id());
    let unwritten = workbench.outcome_file().symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    // Nothing ran, nobody asked for anything, and not even the outcome could be written: on a full disk nothing is better than
    // an entry that has to be judged.
    if request.is_some() || !unwritten || !discard(&workbench) {
        return Left::Run;
    }
    match claim.entry.dispose(&context.home) {
        Ok(()) => Left::Nothing,
        Err(error) => {
            tracing::warn!(%error, "a claim could not be taken back; the next watchdog pass records it");
            Left::Run
        }
    }
}

/// Removes a workbench that no agent saw; returns whether none is left.
fn discard(workbench: &Workbench) -> bool {
    for file in [workbench.prompt_file(), workbench.log()] {
        let _ = std::fs::remove_file(file);
    }
    // Fails, as it should, if anything else is in there.
    let _ = std::fs::remove_dir(workbench.directory());
    !workbench.exists()
}

fn open_session(context: &Context, claim: &Claim, deadline: Instant) -> Result<(), String> {
    let workbench = Workbench::of(&context.home, claim.entry.id());
    let name = claim.entry.id().session_name();
    let opened = if claim.manifest.command.terminal {
        let ours = |what: &str| -> [OsString; 4] {
            let run = claim.entry.id().to_string().into();
            [context.program.path().into(), what.into(), context.home.root().into(), run]
        };
        let (holder, sink) = (ours("terminal"), ours("append"));
        context.session_host.open_terminal(&name, &holder, &sink, workbench.directory(), deadline)
    } else {
        context.session_host.open(&name, &workbench.log(), workbench.directory(), deadline)
    };
    opened.map_err(|error| error.to_string())
}

/// A supervisor that comes up. It touches nothing before it is told to begin, and ends by itself if it never is, or if we end.
struct Supervisor {
    launcher: Child,
    word: PipeWriter,
}

impl Supervisor {
    /// Starts it in a session of its own and nobody's child: hosts kill what descends from them, and wait for pipes that
    /// their children inherited.
    fn start(context: &Context, claim: &Claim) -> Result<Self, String> {
        let program = context.program.path();
        let failed = |error: io::Error| format!("its supervisor {} cannot be started: {error}", program.display());
        let (heard, word) = io::pipe().map_err(failed)?;
        let inherited = environment::inherited(&environment::of_this_process(), &[]);
        let launcher = Command::new(program)
            .args(["detach", "--keep-stdin", "--"])
            .arg(program)
            .args(["supervise", "--on-word"])
            .arg(context.home.root())
            .arg(claim.entry.id().to_string())
            .env_clear()
            .envs(inherited)
            .env(COOKIE_VARIABLE, claim.manifest.cookie.to_string())
            .current_dir(context.home.root())
            .stdin(heard)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self { launcher, word })
    }

    /// Tells it to begin.
    fn begin(mut self) -> Result<(), String> {
        is_possible(self.launcher.wait())?;
        self.word.write_all(b"\n").map_err(|error| format!("its supervisor ended before it began: {error}"))
    }

    /// Lets it go.
    fn dismiss(self) {
        let Self { mut launcher, word } = self;
        drop(word);
        let _ = launcher.wait();
    }
}

/// Tells whether there may be a supervisor: only the launcher's own word that it failed rules that out. The status is lost
/// where the host lets us ignore SIGCHLD, and a launcher that was killed may have done its work before.
fn is_possible(launched: io::Result<ExitStatus>) -> Result<(), String> {
    match launched {
        Ok(status) if status.code().is_some_and(|code| code != 0) => Err(format!(
            "its supervisor could not be detached ({status}); if moadim-mcp was replaced, restart the host"
        )),
        _ => Ok(()),
    }
}

/// Waits until the supervisor says that the agent runs, or that the run is over. Past the deadline it is enough that it has taken
/// the run: a login shell on a busy machine, a clone or a setup take as long as they take. `None` if nothing was heard of it, or it is gone.
fn await_word(context: &Context, claim: &Claim, deadline: Instant) -> Option<Result<(), String>> {
    loop {
        if claim.entry.started().is_ok_and(|started| started.is_some()) {
            return Some(Ok(()));
        }
        if !claim.entry.exists() {
            return Some(word_of_outcome(context, claim.entry.id()));
        }
        if Instant::now() >= deadline {
            let is_taken = |taken: Option<SupervisorRecord>| taken.is_some_and(|record| record.supervisor.is_alive());
            return claim.entry.supervisor().is_ok_and(is_taken).then_some(Ok(()));
        }
        std::thread::sleep(PAUSE);
    }
}

/// A run that is over already did start, unless its outcome says that it did not.
fn word_of_outcome(context: &Context, id: &RunId) -> Result<(), String> {
    match recording::read_outcome(&Workbench::of(&context.home, id), id) {
        Ok(outcome) if outcome.started_at.is_none() => {
            Err(outcome.reason.unwrap_or_else(|| "its supervisor gave no reason".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Asks whatever may still come up to end the run, and returns why it is ended: its supervisor may have asked first, and not
/// be done with it. Whoever is left of it, or the next watchdog pass, records it.
fn give_up(context: &Context, claim: &Claim) -> String {
    let now = UnixSeconds::now();
    let request = EndRequest {
        cause: EndCause::LaunchFailed,
        reason: "nothing was heard of its supervisor in time".to_owned(),
        by: "trigger".to_owned(),
        at: now,
        last_output: Workbench::of(&context.home, claim.entry.id()).last_output_or(claim.manifest.triggered.at),
    };
    match claim.entry.request_end(&request) {
        Ok(true) => request.reason,
        Ok(false) => claim.entry.end_request().ok().flatten().unwrap_or(request).reason,
        Err(error) => {
            tracing::warn!(%error, "a launch that took too long could not be called off");
            request.reason
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn only_a_launcher_that_says_so_has_failed() {
        let exited = |code| Ok(ExitStatus::from_raw(code << 8));
        assert!(is_possible(exited(1)).unwrap_err().contains("exit status: 1"));
        assert_eq!(is_possible(exited(0)), Ok(()));
        assert_eq!(is_possible(Ok(ExitStatus::from_raw(9))), Ok(()), "killed, after its work perhaps");
        assert_eq!(is_possible(Err(io::Error::from_raw_os_error(10))), Ok(()), "nobody knows");
    }
}
