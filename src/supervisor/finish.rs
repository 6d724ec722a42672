//! The end of a run whose agent ended by itself: what it left is ended, what it did is verified, and the facts decide.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::ending::{Evidence, insist};
use super::setup_step::NotPrepared;
use super::supervision::Supervisor;
use super::watch::{STOPPED_UNWRITTEN, TERMINATION_SIGNAL};
use crate::agent::output::Summary;
use crate::clock::UnixSeconds;
use crate::process_tree::{ProcessId, descendants};
use crate::run::disagreement::{Facts, Verification, disagreements};
use crate::run::log;
use crate::run::output::{reason_of, status_by};
use crate::run::own_tree;
use crate::run::question::{Question, question_of};
use crate::run::record::{AgentExit, EndCause, Ending};
use crate::run::report::read_report;
use crate::run::status::Status;

/// A termination signal this soon after the agent failed means that one shutdown reached both.
pub(super) const SHUTDOWN_WINDOW: Duration = Duration::from_secs(1);

impl Supervisor {
    /// The agent ended by itself; whatever it left behind is ended too.
    pub(super) fn finish(mut self, exit: AgentExit) -> anyhow::Result<()> {
        let mut over = (UnixSeconds::now(), Instant::now());
        let is_shutdown = self.is_shutdown(over.1, Duration::ZERO);
        let Some(left_behind) = self.end_what_is_left() else {
            self.request(EndCause::Stopped, "its agent ended and left processes that could not be killed".to_owned());
            return Ok(());
        };
        // Before anything else prints.
        let summary = self.read_summary(Some(exit));
        let has_report = read_report(&self.workbench()).is_some();
        let question = question_of(&self.workbench(), &self.manifest.command.agent, summary.as_ref());
        let verification = match status_by(exit, summary.as_ref(), question.is_some()) {
            Status::Succeeded if !is_shutdown => match self.verify(exit) {
                Ok(verification) => verification,
                Err(not) => return self.end_unverified(not, exit, summary),
            },
            _ => None,
        };
        if verification.is_some() {
            over = (UnixSeconds::now(), Instant::now());
        }
        let (status, reason, evidence) = self.assess(exit, left_behind, summary, question, verification, has_report);
        let (finished_at, ended) = over;
        let is_success = status == Status::Succeeded;
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

    /// Ends what the agent left running, and returns how much there was that was its own; `None` if something could not be ended.
    fn end_what_is_left(&mut self) -> Option<usize> {
        let (home, cookie) = (&self.context.home, &self.manifest.cookie);
        let known = self.unmarked.written();
        let left = insist(&mut self.wake, || own_tree::left(home, cookie, known));
        let others = self.of_start_up_files();
        // One that has ended by itself since is not among the others either, and was not ended by us.
        let left_behind = left.iter().filter(|process| !others.contains(&process.id) && process.id.is_alive()).count();
        (left.is_empty() || self.end_processes()).then_some(left_behind)
    }

    /// Decides how a run ended whose agent ended by itself, unless something else ended it.
    fn assess(
        &self,
        exit: AgentExit,
        left_behind: usize,
        summary: Option<Summary>,
        question: Option<Question>,
        verification: Option<Verification>,
        has_report: bool,
    ) -> (Status, Option<String>, Evidence) {
        let facts = Facts {
            exit,
            summary: summary.as_ref(),
            asks: question.is_some(),
            verification: verification.as_ref(),
            has_report,
            report_was_asked: self.manifest.asks_for_report,
        };
        let (disagreements, words) = disagreements(facts).into_iter().unzip();
        let options = &self.manifest.command.options;
        let reason = reason_of(exit, left_behind, summary.as_ref(), question.as_ref(), options, words);
        let verified = verification.map(|verification| verification.is_ok());
        let status = match verified {
            Some(false) => Status::Failed,
            _ => status_by(exit, summary.as_ref(), question.is_some()),
        };
        let question = question.filter(|_| status == Status::Asked);
        (status, reason, Evidence { summary, question, verified, disagreements })
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

    /// Returns what start-up files left running, with what that has started since. It looks twice, because one look can miss a
    /// process beside which another ends.
    fn of_start_up_files(&mut self) -> HashSet<ProcessId> {
        let mut all = self.of_start_up_files.clone();
        for root in self.of_start_up_files.iter().chain(&self.of_start_up_files) {
            let below = insist(&mut self.wake, || if root.is_alive() { descendants(*root) } else { Ok(Vec::new()) });
            all.extend(below.into_iter().map(|process| process.id));
        }
        all
    }

    /// Returns whether a termination signal arrived, waiting for it until `window` after something `ended`: a shutdown reaches the
    /// agent and us in any order.
    pub(super) fn is_shutdown(&mut self, ended: Instant, window: Duration) -> bool {
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
}
