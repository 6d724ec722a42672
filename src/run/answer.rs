//! Answering the question of a run, and giving one that is over more to do.
//!
//! An answer counts once it closes the question, and from then on it is gone on with, by the process that took it or by any
//! janitor, until an agent has started with it.

#![allow(missing_docs, reason = "a field without a comment is what its name says")]

use std::time::{Duration, Instant};

use super::context::Context;
use super::continuation;
use super::continuation::index::Continuations;
use super::continuation::predecessor::{NotContinuable, Predecessor};
use super::continue_run::{self, Claimed, ContinueError};
use super::entry::Entry;
use super::history;
use super::home_machine;
use super::hook;
use super::id::RunId;
use super::liveness;
use super::question::state::{self, Close, QuestionState};
use super::record::RecordError;
use super::recording::record_abandoned;
use super::status::Status;
use super::trigger::{TRIGGER_TIMEOUT, TriggerError};
use crate::agent::LOGIN_SHELL_TIMEOUT;
use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::FileError;

/// An answer was not taken, or not gone on with yet.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Somebody closed the question before.
    #[error("the question of run {run} was {state} at {at} ({by}){next}")]
    Closed {
        run: RunId,
        /// How.
        state: &'static str,
        at: UnixSeconds,
        by: String,
        /// What to do, as the end of the sentence.
        next: String,
    },
    /// It works, and has asked nothing yet.
    #[error("run {0} has no question to dismiss: it is not over")]
    Unfinished(RunId),
    /// It has no question.
    #[error("run {run} has no question (status: {status}); see which runs ask with list_runs (moadim-mcp questions)")]
    AsksNothing { run: RunId, status: Status },
    /// The answer is kept, and nothing could go on with it yet.
    #[error("your answer is kept, and run {run} goes on as soon as it can: {cause}")]
    Postponed {
        run: RunId,
        /// Why.
        cause: String,
    },
    /// It could not be continued.
    #[error(transparent)]
    Continue(#[from] ContinueError),
}

impl From<NotContinuable> for AnswerError {
    fn from(error: NotContinuable) -> Self {
        ContinueError::from(error).into()
    }
}

impl From<RecordError> for AnswerError {
    fn from(error: RecordError) -> Self {
        ContinueError::from(error).into()
    }
}

impl From<FileError> for AnswerError {
    fn from(error: FileError) -> Self {
        ContinueError::from(error).into()
    }
}

/// More for a run that is over.
#[derive(Debug, Clone)]
pub struct Request {
    pub run: RunId,
    /// The answer to its question, or what it should do.
    pub text: String,
    /// Who says so, and how.
    pub by: String,
    /// When they began to look at the run: what was closed since, they do not know.
    pub seen: UnixSeconds,
    /// When it was asked for.
    pub asked: Instant,
}

/// Answers the question of a run, and starts the run that goes on with it; or continues one that asked nothing. Returns the new run,
/// within 5 s of when it was asked for.
///
/// # Errors
/// Why it was not. An answer that is kept is gone on with by a janitor.
pub fn answer(context: &Context, request: Request) -> Result<RunId, AnswerError> {
    let Request { run, text, by, seen, asked } = request;
    let (triggered, deadline) = (Moment::now(), asked + TRIGGER_TIMEOUT);
    let (before, is_open) = continuable(context, &run, seen)?;
    let plan = continue_run::plan(context, before, text.clone())?;
    if !is_open {
        let claimed = continue_run::claim(context, plan, &run, &triggered, deadline)?;
        return Ok(claimed.start(context, deadline).map_err(ContinueError::from)?);
    }
    // What is known to keep it from going on is better known before the question is closed.
    continue_run::check_budget(context, &plan, triggered.at)?;
    let answer = Close::now(&run, QuestionState::Answered, Some(text), &by);
    if !state::close(&context.home, &answer)? {
        let close = state::read_close(&context.home, &run)?;
        return Err(was_closed(context, close.as_ref().unwrap_or(&answer)));
    }
    let postponed = |cause: String| AnswerError::Postponed { run: run.clone(), cause };
    let claimed = match continue_run::claim(context, plan, &run, &triggered, deadline) {
        Ok(claimed) => claimed,
        // A janitor has gone on with it already.
        Err(ContinueError::NotContinuable(NotContinuable::Continued { next, .. })) => return Ok(next),
        Err(error) => return Err(postponed(error.to_string())),
    };
    let next = claimed.run().clone();
    let started = claimed.start(context, deadline);
    note_settled(context, &answer);
    match started {
        Ok(_) => Ok(next),
        Err(TriggerError::Launch(error)) => Err(postponed(error.to_string())),
        Err(error) => Err(postponed(error.to_string())),
    }
}

/// Makes sure that a run can be answered, or continued: nobody writes words that lead nowhere.
///
/// # Errors
/// Why it cannot be.
pub fn check_continuable(context: &Context, run: &RunId, seen: UnixSeconds) -> Result<(), AnswerError> {
    continuable(context, run, seen).map(drop)
}

/// Finds the run that is gone on from, and whether it has a question that is open.
fn continuable(context: &Context, run: &RunId, seen: UnixSeconds) -> Result<(Predecessor, bool), AnswerError> {
    record_if_dead(context, run);
    let before = Predecessor::find(context, run).map_err(|error| refused(context, run, error))?;
    if before.outcome.status != Status::Asked {
        return Ok((before, false));
    }
    match state::read_close(&context.home, run)? {
        Some(close) if close.state == QuestionState::Answered || close.at >= seen => Err(was_closed(context, &close)),
        close => Ok((before, close.is_none())),
    }
}

/// Decides that nothing follows from the question of a run.
///
/// # Errors
/// It asks nothing, or its question was closed before.
pub fn dismiss(context: &Context, run: &RunId, by: &str) -> Result<(), AnswerError> {
    record_if_dead(context, run);
    let Some(past) = context.history.find(&context.home, run)? else {
        let is_there = Entry::of(&context.home, run).exists();
        let not_found = || NotContinuable::NotFound(run.clone()).into();
        return Err(if is_there { AnswerError::Unfinished(run.clone()) } else { not_found() });
    };
    if past.outcome.status != Status::Asked {
        return Err(AnswerError::AsksNothing { run: run.clone(), status: past.outcome.status });
    }
    let close = Close::now(run, QuestionState::Dismissed, None, by);
    if !state::close(&context.home, &close)? {
        let earlier = state::read_close(&context.home, run)?;
        return Err(was_closed(context, earlier.as_ref().unwrap_or(&close)));
    }
    note_settled(context, &close);
    Ok(())
}

/// How long a judge of the run is waited for.
const JUDGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Records the end of a run whose supervisor died: lists say already that it is over, and the watchdog may come later.
fn record_if_dead(context: &Context, run: &RunId) {
    let entry = Entry::of(&context.home, run);
    if !entry.exists() || home_machine::check(context).is_err() {
        return;
    }
    for assessment in liveness::judge(context, vec![entry], JUDGE_TIMEOUT) {
        if let Ok(judgement) = assessment.into_judgement()
            && let Err(error) = record_abandoned(context, &judgement)
        {
            tracing::warn!(%run, %error, "its end cannot be recorded yet");
        }
    }
}

/// Settles what can be settled now; a janitor does the rest.
fn note_settled(context: &Context, close: &Close) {
    if let Err(error) = settle(context, close, u64::MAX) {
        tracing::warn!(run = %close.run, %error, "a janitor sees to what follows from the close of its question");
    }
}

/// Says who answered a run that cannot be answered because another goes on with that.
fn refused(context: &Context, run: &RunId, error: NotContinuable) -> AnswerError {
    match (&error, state::read_close(&context.home, run)) {
        (NotContinuable::Continued { .. }, Ok(Some(close))) if close.state == QuestionState::Answered => {
            was_closed(context, &close)
        }
        _ => error.into(),
    }
}

fn was_closed(context: &Context, Close { run, state, by, at, .. }: &Close) -> AnswerError {
    let next = continuation::after(&context.home, run).ok().flatten();
    let again = || "; say it again, and the run goes on all the same".to_owned();
    let (state, next) = match (state, next) {
        (QuestionState::Answered | QuestionState::Open, Some(next)) => {
            ("answered", format!("; the run {} goes on with that; continue that one once it is over", next.run))
        }
        (QuestionState::Answered | QuestionState::Open, None) => ("answered", "; a run goes on soon".to_owned()),
        (QuestionState::Dismissed, _) => ("dismissed", again()),
        (QuestionState::Expired, _) => ("closed unanswered", again()),
    };
    AnswerError::Closed { run: run.clone(), state, at: *at, by: by.clone(), next }
}

/// How many runs may begin to go on with one answer, and not start their agent.
const MAX_LAUNCHES: usize = 3;

/// Does all that follows from the close of a question, as far as that is possible now: its line in the history, and a run whose agent
/// started with the answer. Doing so twice is fine. An answer that nothing could go on with for `give_up_secs` is given up.
///
/// # Errors
/// Something could not be done yet: the question stays unsettled, and a janitor tries again.
pub(crate) fn settle(context: &Context, close: &Close, give_up_secs: u64) -> Result<(), anyhow::Error> {
    let home = &context.home;
    if !state::is_recorded(home, &close.run) {
        history::append_question(home, close)?;
        state::note_recorded(home, &close.run)?;
    }
    if close.state != QuestionState::Answered {
        return Ok(state::settled(home, &close.run)?);
    }
    let is_late = close.at.age_secs_at(UnixSeconds::now()) > give_up_secs;
    match go_on(context, close) {
        Ok(Progress::Started) => Ok(state::settled(home, &close.run)?),
        Ok(Progress::UnderWay) => Ok(()),
        Ok(Progress::GaveUp(cause)) => give_up(context, close, &cause),
        Err(error) if is_late => give_up(context, close, &error.to_string()),
        Err(error) => Err(error.into()),
    }
}

/// How far an answer is.
enum Progress {
    /// An agent started with it, or nobody wants that any more.
    Started,
    UnderWay,
    /// Nothing goes on with it, and why.
    GaveUp(String),
}

/// Goes on with an answer if no run does, because a process died before that, or something kept it from it. The launch takes place in
/// the background.
fn go_on(context: &Context, answer: &Close) -> Result<Progress, ContinueError> {
    let home = &context.home;
    let asked = &answer.run;
    let continuations = Continuations::read(home)?;
    let runs = continuation::runs_of(home, continuations.workbench_of(asked))?;
    let mut after: Vec<RunId> = runs.into_iter().filter(|run| run > asked).collect();
    // The last may have been reserved by a process that died.
    after.retain(|run| continuation::was_claimed(context, run));
    let newest = after.last().unwrap_or(asked).clone();
    if Entry::of(home, &newest).exists() {
        let started = Entry::of(home, &newest).started().ok().flatten().is_some();
        return Ok(if started { Progress::Started } else { Progress::UnderWay });
    }
    if newest != *asked {
        let Some(past) = context.history.find(home, &newest)? else { return Ok(Progress::Started) };
        if past.outcome.started_at.is_some() || past.outcome.status == Status::Stopped {
            return Ok(Progress::Started);
        }
        if after.len() >= MAX_LAUNCHES {
            let reason = past.outcome.reason.unwrap_or_default();
            return Ok(Progress::GaveUp(format!("{MAX_LAUNCHES} runs did not start with it; the last: {reason}")));
        }
    }
    let before = match Predecessor::find(context, &newest) {
        Ok(before) => before,
        Err(NotContinuable::Reaped(_)) => return Ok(Progress::GaveUp("its workbench is gone".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let plan = continue_run::plan(context, before, answer.text.clone().unwrap_or_default())?;
    let deadline = Instant::now() + LOGIN_SHELL_TIMEOUT;
    let claimed: Claimed = continue_run::claim(context, plan, &newest, &Moment::now(), deadline)?;
    claimed.start_in_background(context, deadline);
    Ok(Progress::UnderWay)
}

/// Gives up an answer, and has a person hear of it, once.
fn give_up(context: &Context, answer: &Close, cause: &str) -> anyhow::Result<()> {
    tracing::warn!(run = %answer.run, cause, "its answer is given up");
    state::settled(&context.home, &answer.run)?;
    if let Some(past) = context.history.find(&context.home, &answer.run)? {
        let mut outcome = past.outcome;
        outcome.reason = Some(format!("nothing could go on with its answer: {cause}"));
        hook::start_attention(context, &outcome);
    }
    Ok(())
}
