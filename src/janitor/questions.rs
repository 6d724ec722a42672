//! Open questions: those that nobody answered in time expire, and what a process that died left undone after an answer is done.

use std::cell::LazyCell;

use anyhow::anyhow;

use super::sweep_lock::clock_doubt;
use crate::clock::{HumanDuration, Moment};
use crate::routine::bounds::{Bounds, BoundsTable};
use crate::run::answer::settle;
use crate::run::context::Context;
use crate::run::continuation::index::Continuations;
use crate::run::entry::Entry;
use crate::run::hook;
use crate::run::id::RunId;
use crate::run::question::state::{self, Close, QuestionState, Unsettled};

/// Who closes a question that nobody does.
const BY: &str = "janitor";

/// Looks at all questions that are not settled; returns what went wrong with which.
///
/// # Errors
/// They cannot be listed.
pub(super) fn pass(context: &Context) -> anyhow::Result<Vec<(RunId, anyhow::Error)>> {
    let unsettled = state::unsettled(&context.home)?;
    if unsettled.is_empty() {
        return Ok(Vec::new());
    }
    let now = Moment::now();
    // Read only once all questions are listed, and so after each of their runs was claimed.
    let continuations = LazyCell::new(|| Continuations::read(&context.home).map_err(|error| error.to_string()));
    let is_gone = |run: &RunId| match &*continuations {
        Ok(known) => Ok(known.is_workbench_gone(&context.home, run)),
        Err(error) => Err(anyhow!("{error}")),
    };
    let mut bounds = BoundsTable::new(&context.home, &context.config);
    let mut failed = Vec::new();
    for Unsettled { run, asked } in unsettled {
        // The end of one that has an entry is being recorded.
        if Entry::of(&context.home, &run).exists() {
            continue;
        }
        let terms = Terms::of(bounds.get(run.routine()));
        if let Err(error) = look_after(context, &is_gone, &run, asked.as_ref(), terms, &now) {
            failed.push((run, error));
        }
    }
    Ok(failed)
}

/// Does the same where nobody waits for what went wrong.
pub(super) fn look_after_all(context: &Context) {
    let failed = pass(context).unwrap_or_else(|error| {
        tracing::warn!(%error, "questions cannot be looked after");
        Vec::new()
    });
    for (run, error) in failed {
        tracing::warn!(%run, %error, "its question cannot be looked after");
    }
}

/// What holds for the questions of a routine's runs.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// How long one waits for an answer.
    max_secs: u64,
    /// Whether its routine is gone.
    is_orphaned: bool,
}

impl Terms {
    fn of(bounds: &Bounds) -> Self {
        Self { max_secs: bounds.answer_within_secs, is_orphaned: bounds.orphaned }
    }
}

fn look_after(
    context: &Context,
    is_workbench_gone: &dyn Fn(&RunId) -> anyhow::Result<bool>,
    run: &RunId,
    asked: Option<&Moment>,
    terms: Terms,
    now: &Moment,
) -> anyhow::Result<()> {
    let close = match state::read_close(&context.home, run)? {
        Some(close) => close,
        None => {
            let Some(close) = due(run, is_workbench_gone(run)?, asked, terms, now) else { return Ok(()) };
            // By a clock that may be wrong nothing ends.
            if close.state == QuestionState::Expired && clock_doubt(&context.home, now).is_some() {
                return Ok(());
            }
            if !state::close(&context.home, &close)? {
                // Somebody was faster, and does what follows.
                return Ok(());
            }
            if close.state == QuestionState::Expired {
                call_for(context, run, terms.max_secs)?;
            }
            close
        }
    };
    settle(context, &close, terms.max_secs)
}

/// Decides whether an open question is closed now. Within one boot, setting the clock changes nothing.
fn due(run: &RunId, is_workbench_gone: bool, asked: Option<&Moment>, terms: Terms, now: &Moment) -> Option<Close> {
    // Nobody can go on with it.
    if is_workbench_gone {
        return Some(Close::now(run, QuestionState::Dismissed, None, "janitor: its workbench is gone"));
    }
    if terms.is_orphaned {
        return Some(Close::now(run, QuestionState::Dismissed, None, "janitor: its routine was deleted"));
    }
    let waited_secs = match asked {
        Some(asked) => asked.elapsed_secs_at(now),
        None => run.stamp().age_secs_at(now.at),
    };
    (waited_secs > terms.max_secs).then(|| Close::now(run, QuestionState::Expired, None, BY))
}

/// Starts `on_failure`, once, for a question that expired.
fn call_for(context: &Context, run: &RunId, max_secs: u64) -> anyhow::Result<()> {
    if let Some(past) = context.history.find(&context.home, run)? {
        let mut outcome = past.outcome;
        let asked = outcome.reason.take().unwrap_or_default();
        outcome.reason = Some(format!("nobody answered within {}; {asked}", HumanDuration(max_secs)));
        hook::start_failure(context, &outcome);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;

    #[test]
    fn a_question_expires_once_its_time_is_over_and_is_moot_without_its_workbench() {
        let run: RunId = "a-1000".parse().unwrap();
        let at = |secs, boot_id: &str, ms| Moment { at: UnixSeconds(secs), boot_id: boot_id.into(), since_boot_ms: ms };
        let asked = at(1000, "b", 0);
        let state = |is_gone, asked: Option<&Moment>, now: &Moment| {
            due(&run, is_gone, asked, Terms { max_secs: 60, is_orphaned: false }, now).map(|close| close.state)
        };
        assert_eq!(state(false, Some(&asked), &at(1060, "b", 60_000)), None);
        assert_eq!(state(false, Some(&asked), &at(1061, "b", 61_000)), Some(QuestionState::Expired));
        assert_eq!(state(false, Some(&asked), &at(9000, "b", 61)), None, "the clock was set");
        assert_eq!(state(false, Some(&asked), &at(9000, "c", 61)), Some(QuestionState::Expired), "another boot");
        assert_eq!(state(false, Some(&asked), &at(1, "c", 61)), None, "an age in the future is 0");
        assert_eq!(state(false, None, &at(1061, "b", 0)), Some(QuestionState::Expired), "by its name");
        assert_eq!(state(true, Some(&asked), &asked), Some(QuestionState::Dismissed));
        let orphaned = due(&run, false, Some(&asked), Terms { max_secs: 60, is_orphaned: true }, &asked).unwrap();
        assert_eq!(
            (orphaned.state, orphaned.by.as_str()),
            (QuestionState::Dismissed, "janitor: its routine was deleted")
        );
    }
}
