//! The life of a supervisor, from its share of the lock to the recorded outcome.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::setup_step::NotPrepared;
use super::silence::Silence;
use super::supervision::Supervisor;
use super::wake::Wake;
use super::watch::{STOPPED_UNWRITTEN, Step, TERMINATION_SIGNAL, decide};
use crate::agent::output::Summary;
use crate::clock::{Moment, UnixSeconds};
use crate::environment::EnvName;
use crate::home::Home;
use crate::home::config::Config;
use crate::home::lock::{FileLock, Mode};
use crate::process_tree::{ProcessId, ScanError, become_subreaper, descendants};
use crate::run::context::{Context, Program};
use crate::run::disagreement::{Disagreement, Facts, disagreements};
use crate::run::end::{Order, end_own_processes};
use crate::run::entry::{Entry, LOCK};
use crate::run::id::RunId;
use crate::run::log;
use crate::run::output::{Source, read_summary, reason_of, status_by};
use crate::run::own_tree;
use crate::run::record::{AgentExit, EndCause, EndRequest, Ending, Manifest, Outcome, Started};
use crate::run::recording::{Attempt, record};
use crate::run::report::read_report;
use crate::run::status::Status;
use crate::run::this_machine::Here;

/// Says what an agent was to inherit and did not, ready to be appended to the reason of a failure; mostly nothing.
fn in_words(missing: &[EnvName], agent: &str) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    format!(
        "; {names} is in inherit_env of its agent, but was not set in the process that started the run: set it there, or in agents/{agent}.env"
    )
}

/// How often bounds and requests are checked, and how soon a failed attempt is repeated.
const TICK: Duration = Duration::from_secs(1);

/// A termination signal this soon after the agent failed means that one shutdown reached both.
const SHUTDOWN_WINDOW: Duration = Duration::from_secs(1);

/// The same while a trigger's caller waits for the launch.
const SHORT_SHUTDOWN_WINDOW: Duration = Duration::from_millis(200);

/// How long recording the end is retried once a shutdown has begun, and the longest pause between two attempts.
const LAST_ATTEMPTS: Duration = Duration::from_secs(5);
const LONGEST_RECORDING_PAUSE: Duration = Duration::from_secs(8);

/// What became of a launch.
enum Launched {
    /// The agent runs.
    Agent(Started),
    /// Nothing was started, for this reason.
    Nothing(String),
}

/// What is known of a run beside how it ended.
#[derive(Default)]
struct Evidence {
    summary: Option<Summary>,
    verified: Option<bool>,
    disagreements: Vec<Disagreement>,
}

impl Evidence {
    /// Returns what still counts of a run that was ended by force: a verification that failed may have been ended with it.
    fn of_forced_end(self) -> Self {
        Self { verified: self.verified.filter(|passed| *passed), disagreements: Vec::new(), ..self }
    }
}

/// Starts the agent of a run and stays with it until nothing of it is alive and its outcome is recorded.
///
/// # Errors
/// It could not; a judge decides about what is left.
pub fn supervise(root: PathBuf, id: &RunId) -> anyhow::Result<()> {
    const NOT_SET_UP: &str = "the supervisor cannot be set up";
    let _ = rustix::process::setsid();
    become_subreaper().context(NOT_SET_UP)?;
    let wake = Wake::listen().context(NOT_SET_UP)?;
    let home = Home::open(root)?;
    let entry = Entry::of(&home, id);
    // Before anything else: from here on the run has an owner that outlives its trigger.
    let _lock = FileLock::try_existing(&entry.file(LOCK), Mode::Shared)?;
    let manifest = entry.manifest()?;
    take(&home, &entry, &manifest)?;
    let config = Config::load(&home.config_file()).unwrap_or_else(|error| {
        tracing::warn!(%error, "the defaults hold");
        Config::default()
    });
    let context = Context::of_supervisor(home, config, Program::current().context(NOT_SET_UP)?);
    Supervisor::new(context, entry, manifest, wake).run()
}

/// Takes the run, which one supervisor does.
fn take(home: &Home, entry: &Entry, manifest: &Manifest) -> anyhow::Result<()> {
    let here = Here::of(home);
    if let Some(cause) = here.stranger(manifest) {
        bail!("cannot supervise the run {}: {cause}", entry.id());
    }
    let reaper = rustix::process::getppid().map_or(1, |parent| parent.as_raw_pid());
    if entry.take(&here.supervisor_record(ProcessId::current()?, reaper))? {
        return Ok(());
    }
    let who = match entry.supervisor() {
        Ok(Some(record)) => record.supervisor.to_string(),
        _ => "its record cannot be read".to_owned(),
    };
    bail!("cannot supervise the run {}: another supervisor has it ({who})", entry.id())
}

impl Supervisor {
    fn run(mut self) -> anyhow::Result<()> {
        if let Some(request) = self.entry.end_request()? {
            return self.end(&request);
        }
        match self.launch() {
            Ok(Launched::Agent(started)) => self.started = Some(started),
            Ok(Launched::Nothing(reason)) => return self.skip(reason),
            Err(NotPrepared::Obey(request)) => return self.end(&request),
            Err(NotPrepared::End(mut cause, mut reason)) => {
                // What failed may have received the same signal.
                let window = if self.manifest.needs_preparation() { SHUTDOWN_WINDOW } else { SHORT_SHUTDOWN_WINDOW };
                if cause == EndCause::LaunchFailed && self.is_shutdown(Instant::now(), window) {
                    (cause, reason) = (EndCause::Interrupted, format!("{TERMINATION_SIGNAL}; {reason}"));
                }
                let request = self.request(cause, reason);
                return self.end(&request);
            }
        }
        // The agent has opened the file that has the log's name by now.
        self.log_cap.watch_anew(&self.workbench(), self.context.config.max_log_bytes);
        let mut silence = Silence::from(Moment::now());
        loop {
            self.children.reap();
            let pause = self.log_cap.look();
            let silent_secs = silence.secs(self.log_cap.marks(), &Moment::now());
            match decide(self.state(silent_secs)) {
                Step::Wait => self.wake.wait(pause),
                Step::Finish(exit) => return self.finish(exit),
                Step::Obey(request) => return self.end(&request),
                Step::End(cause, reason) => {
                    let request = self.request(cause, reason);
                    return self.end(&request);
                }
            }
        }
    }

    /// Starts the agent, unless its precheck says no.
    fn launch(&mut self) -> Result<Launched, NotPrepared> {
        if let Some(reason) = self.precheck()? {
            return Ok(Launched::Nothing(reason));
        }
        self.prepare()?;
        self.start_agent().map(Launched::Agent)
    }

    /// Records that there was nothing to do.
    fn skip(self, reason: String) -> anyhow::Result<()> {
        match self.entry.end_request().ok().flatten() {
            Some(request) => self.end(&request),
            None => self.record(Ending::of(Status::Skipped, reason, UnixSeconds::now()), Evidence::default()),
        }
    }

    /// Writes down why we end the run; the first reason written counts.
    fn request(&self, cause: EndCause, reason: String) -> EndRequest {
        let order = Order { cause, reason, by: "supervisor".to_owned() };
        self.entry.first_end_request(order.request(&self.workbench(), &self.manifest))
    }

    /// Ends the run by force.
    fn end(mut self, request: &EndRequest) -> anyhow::Result<()> {
        log::append_note(&self.workbench(), &request.reason);
        if !self.end_processes() {
            return Ok(());
        }
        let exit = self.children.agent_exit();
        let ending = Ending {
            exit_code: exit.and_then(|exit| exit.code),
            signal: exit.and_then(|exit| exit.signal),
            ..Ending::by_request(request, UnixSeconds::now())
        };
        let summary = self.read_summary(exit);
        self.record(ending, Evidence { summary, ..Evidence::default() })
    }

    /// Ends the run by force while it is verified. How its agent ended, and what it said, is known.
    fn end_unverified(mut self, not: NotPrepared, exit: AgentExit, summary: Option<Summary>) -> anyhow::Result<()> {
        let request = match not {
            NotPrepared::Obey(request) => request,
            NotPrepared::End(cause, reason) => self.request(cause, reason),
        };
        log::append_note(&self.workbench(), &request.reason);
        if !self.end_processes() {
            return Ok(());
        }
        let reason = format!("{}; its agent had ended well, and its verification was not over", request.reason);
        let ending = Ending {
            reason: Some(reason),
            exit_code: exit.code,
            signal: exit.signal,
            ..Ending::by_request(&request, UnixSeconds::now())
        };
        self.record(ending, Evidence { summary, ..Evidence::default() })
    }

    /// The agent ended by itself; whatever it left behind is ended too.
    fn finish(mut self, exit: AgentExit) -> anyhow::Result<()> {
        let (mut finished_at, mut ended) = (UnixSeconds::now(), Instant::now());
        let (home, cookie) = (&self.context.home, &self.manifest.cookie);
        let known = self.unmarked.written();
        let left = insist(&mut self.wake, || own_tree::left(home, cookie, known));
        let is_shutdown = self.is_shutdown(ended, Duration::ZERO);
        let others = self.of_start_up_files();
        // One that has ended by itself since is not among the others either, and was not ended by us.
        let left_behind = left.iter().filter(|process| !others.contains(&process.id) && process.id.is_alive()).count();
        if !left.is_empty() && !self.end_processes() {
            self.request(EndCause::Stopped, "its agent ended and left processes that could not be killed".to_owned());
            return Ok(());
        }
        // Before anything else prints.
        let summary = self.read_summary(Some(exit));
        let has_report = read_report(&self.workbench()).is_some();
        let mut status = status_by(exit, summary.as_ref());
        let mut verification = None;
        if status == Status::Succeeded && !is_shutdown {
            verification = match self.verify(exit) {
                Ok(verification) => verification,
                Err(not) => return self.end_unverified(not, exit, summary),
            };
            if let Some(verification) = &verification {
                (finished_at, ended) = (UnixSeconds::now(), Instant::now());
                status = if verification.is_ok() { status } else { Status::Failed };
            }
        }
        let is_success = status == Status::Succeeded;
        let (disagreements, words): (Vec<Disagreement>, Vec<String>) = disagreements(Facts {
            exit,
            summary: summary.as_ref(),
            verification: verification.as_ref(),
            has_report,
            report_was_asked: self.manifest.asks_for_report,
        })
        .into_iter()
        .unzip();
        let reason = reason_of(exit, left_behind, summary.as_ref(), &self.manifest.command.options, words);
        let verified = verification.map(|verification| verification.is_ok());
        let evidence = Evidence { summary, verified, disagreements };
        let is_shutdown = is_shutdown
            || if !is_success {
                self.is_shutdown(ended, SHUTDOWN_WINDOW)
            } else {
                // A success does not wait for it, and one that is long over stays one.
                self.wake.termination_signal() && ended.elapsed() < SHUTDOWN_WINDOW
            };
        let mut request = self.entry.end_request().ok().flatten();
        if request.is_none() && self.wake.request_unwritten() && !is_success {
            request = Some(self.request(EndCause::Stopped, STOPPED_UNWRITTEN.to_owned()));
        }
        let (status, reason) = match request {
            // A stop that came meanwhile wants no other attempt either.
            Some(request) if !is_success && (request.cause == EndCause::Stopped || status == Status::Limited) => {
                let ending = Ending::by_request(&request, finished_at);
                let ending = Ending { exit_code: exit.code, signal: exit.signal, ..ending };
                return self.record(ending, evidence.of_forced_end());
            }
            None if is_shutdown => {
                (Status::Interrupted, Some(format!("{TERMINATION_SIGNAL}; its agent {}", exit.how())))
            }
            _ => (status, reason),
        };
        let ending = Ending {
            status,
            reason,
            ended_by: None,
            exit_code: exit.code,
            signal: exit.signal,
            finished_at,
            retain_from: finished_at,
        };
        let is_interrupted = ending.status == Status::Interrupted;
        self.record(ending, if is_interrupted { evidence.of_forced_end() } else { evidence })
    }

    fn read_summary(&self, exit: Option<AgentExit>) -> Option<Summary> {
        let log = self.log_cap.stdout(self.workbench().log());
        let log = log.inspect_err(|error| tracing::warn!(%error, "what the agent printed cannot be read"));
        let source = log.map_or(Source::Abandoned, |log| Source::Ended(log, exit));
        read_summary(&self.context.home, self.entry.id(), self.manifest.command.output, source)
    }

    /// Returns what start-up files left running, with what that has started since.
    fn of_start_up_files(&mut self) -> HashSet<ProcessId> {
        let mut all = self.of_start_up_files.clone();
        for root in &self.of_start_up_files {
            let below = insist(&mut self.wake, || if root.is_alive() { descendants(*root) } else { Ok(Vec::new()) });
            all.extend(below.into_iter().map(|process| process.id));
        }
        all
    }

    /// Returns whether a termination signal arrived, waiting for it until `window` after something `ended`: a shutdown reaches the
    /// agent and us in any order.
    fn is_shutdown(&mut self, ended: Instant, window: Duration) -> bool {
        loop {
            let elapsed = ended.elapsed();
            if self.wake.termination_signal() {
                return true;
            }
            if elapsed >= window || self.wake.request_unwritten() {
                return false;
            }
            self.wake.wait(window.saturating_sub(elapsed));
        }
    }

    /// Ends every process of the run except us; returns whether none is left. Survivors keep the run alive: the watchdog reports
    /// them and tries again.
    pub(super) fn end_processes(&mut self) -> bool {
        self.read_settings();
        let grace = Duration::from_secs(self.context.config.kill_grace_secs);
        let (home, entry, manifest) = (&self.context.home, &self.entry, &self.manifest);
        let (children, log_cap) = (&mut self.children, &mut self.log_cap);
        let mut on_pass = || {
            children.reap();
            log_cap.look();
        };
        let survivors = insist(&mut self.wake, || end_own_processes(home, entry, manifest, grace, &mut on_pass));
        self.children.reap();
        survivors.is_empty()
    }

    /// Records the end as soon as possible: nobody else knows how the run ended. Gives up when the entry is gone, or at a shutdown.
    fn record(mut self, mut ending: Ending, evidence: Evidence) -> anyhow::Result<()> {
        if let Some(terminal) = self.terminal.take() {
            terminal.finish();
        }
        self.log_cap.look();
        if ending.status.is_failure() {
            let missing = self.missing_env.as_ref().unwrap_or(&self.manifest.missing_env);
            let missing = in_words(missing, &self.manifest.command.agent);
            ending.reason = ending.reason.map(|reason| format!("{reason}{missing}"));
        }
        if let Some(trouble) = self.precheck_trouble.take() {
            ending.reason = Some(ending.reason.map_or(trouble.clone(), |reason| format!("{reason}; {trouble}")));
        }
        let mut outcome = Outcome::new(&self.manifest, self.started.as_ref(), ending);
        outcome.set_work(self.look_for_work());
        let Evidence { summary, verified, disagreements } = evidence;
        (outcome.verified, outcome.disagreements) = (verified, disagreements);
        outcome.set_said(summary, &self.manifest.command, &self.workbench());
        let mut termination_signal: Option<Instant> = None;
        let mut pause = TICK;
        let mut attempt = Attempt::First;
        loop {
            if self.wake.termination_signal() {
                termination_signal.get_or_insert_with(Instant::now);
            }
            // The request that was announced may be on disk by now, with who asked, and why.
            if self.wake.request_unwritten()
                && let Ok(Some(request)) = self.entry.end_request()
            {
                (outcome.reason, outcome.ended_by) = (Some(request.reason), Some(request.by));
            }
            match record(&self.context, &self.entry, &outcome, std::mem::replace(&mut attempt, Attempt::Again)) {
                Err(error)
                    if self.entry.exists()
                        && termination_signal.is_none_or(|since| since.elapsed() < LAST_ATTEMPTS) =>
                {
                    tracing::warn!(%error, "its end cannot be recorded yet");
                    self.wake.wait(pause);
                    pause = if termination_signal.is_some() { TICK } else { (pause * 2).min(LONGEST_RECORDING_PAUSE) };
                }
                result => return result,
            }
        }
    }
}

/// Retries until the processes can be listed: nobody else watches them, and the cause, such as a lack of descriptors, may be the
/// agent itself.
fn insist<T>(wake: &mut Wake, mut attempt: impl FnMut() -> Result<T, ScanError>) -> T {
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, "trying again"),
        }
        wake.wait(TICK);
    }
}
