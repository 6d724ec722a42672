//! Ending a run by force, and recording how it ended.

use std::time::{Duration, Instant};

use super::supervision::Supervisor;
use super::wake::Wake;
use crate::agent::output::Summary;
use crate::clock::UnixSeconds;
use crate::environment::EnvName;
use crate::process_tree::ScanError;
use crate::run::disagreement::Disagreement;
use crate::run::end::end_own_processes;
use crate::run::log;
use crate::run::output::{Source, read_summary};
use crate::run::question::Question;
use crate::run::record::{AgentExit, EndRequest, Ending, Outcome};
use crate::run::recording::{Attempt, record, record_on_node};

/// How soon a failed attempt is repeated.
const TICK: Duration = Duration::from_secs(1);

/// How long recording the end is retried once a shutdown has begun, and the longest pause between two attempts.
const LAST_ATTEMPTS: Duration = Duration::from_secs(5);
const LONGEST_RECORDING_PAUSE: Duration = Duration::from_secs(8);

/// What is known of a run beside how it ended.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) summary: Option<Summary>,
    /// What it ended with, if it asks.
    pub(super) question: Option<Question>,
    pub(super) verified: Option<bool>,
    pub(super) disagreements: Vec<Disagreement>,
}

impl Evidence {
    /// Returns what still counts of a run that was ended by force: a verification that failed may have been ended with it.
    pub(super) fn of_forced_end(self) -> Self {
        Self { question: None, verified: self.verified.filter(|passed| *passed), disagreements: Vec::new(), ..self }
    }
}

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

impl Supervisor {
    /// Ends the run by force.
    pub(super) fn end(mut self, request: &EndRequest) -> anyhow::Result<()> {
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

    pub(super) fn read_summary(&self, exit: Option<AgentExit>) -> Option<Summary> {
        let log = self.log_cap.stdout(self.workbench().log());
        let log = log.inspect_err(|error| tracing::warn!(%error, "what the agent printed cannot be read"));
        let source = log.map_or(Source::Abandoned, |log| Source::Ended(log, exit));
        read_summary(&self.context, &self.manifest, source)
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
    pub(super) fn record(mut self, mut ending: Ending, evidence: Evidence) -> anyhow::Result<()> {
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
        let Evidence { summary, question, verified, disagreements } = evidence;
        outcome.question = question;
        (outcome.verified, outcome.disagreements) = (verified, disagreements);
        outcome.set_said(summary, &self.manifest.command, &self.workbench());
        outcome.job.clone_from(&self.taken.job);
        let record = if self.taken.job.is_some() { record_on_node } else { record };
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
pub(super) fn insist<T>(wake: &mut Wake, mut attempt: impl FnMut() -> Result<T, ScanError>) -> T {
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, "trying again"),
        }
        wake.wait(TICK);
    }
}
