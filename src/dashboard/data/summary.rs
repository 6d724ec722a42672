//! The dashboard in a few words, for a host that shows no panel.

use schemars::JsonSchema;
use serde::Serialize;

use super::attention::{Item, Kind};
use super::{Found, State};
use crate::clock::UnixSeconds;
use crate::query::listing::LiveCounts;
use crate::query::view::RunView;
use crate::routine::slug::Slug;
use crate::run::id::RunId;

/// What runs, what failed, what comes next and what is wrong.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Summary {
    /// Runs that wait for an answer, if any do.
    questions: Option<Questions>,
    /// How many runs are being prepared or at work; absent if they cannot be listed.
    running: Option<usize>,
    /// How many wait in Slurm's queue, if any do.
    queued: Option<usize>,
    /// How many may be over: nothing certain can be said.
    unknown: Option<usize>,
    /// The newest of these.
    live: Vec<RunId>,
    failed_24h: Failed,
    next: Option<NextFire>,
    /// What needs a person, the worst first, with what helps.
    problems: Vec<String>,
    /// What a cleanup would free.
    removable_bytes: Option<u64>,
    /// How a person sees all of it.
    dashboard_hint: Option<&'static str>,
}

/// Runs that ask a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct Questions {
    count: usize,
    first: Vec<Asks>,
}

/// A run that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct Asks {
    run: RunId,
    /// The first line of its question, as data.
    text: String,
}

/// Runs that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct Failed {
    count: usize,
    /// The newest of them.
    runs: Vec<RunId>,
}

/// The next fire of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct NextFire {
    routine: Slug,
    at: UnixSeconds,
}

/// It goes into a model's context.
const SHOWN: usize = 20;
const SHOWN_QUESTIONS: usize = 5;
const DAY_SECS: u64 = 24 * 60 * 60;

pub(super) fn summary(state: &State, found: &Found, routine: Option<&Slug>) -> Summary {
    let is_wanted = |slug: &Slug| routine.is_none_or(|routine| routine == slug);
    let since = UnixSeconds(found.now.0.saturating_sub(DAY_SECS));
    let live = found.live.iter().flatten().map(|live| &live.run);
    let live: Vec<&RunView> = live.filter(|run| is_wanted(run.id.routine())).collect();
    let LiveCounts { running, queued, unknown } = LiveCounts::of(live.iter().copied());
    let is_known = found.live.is_some();
    let ended = state.past.ended.runs.iter().rev().filter(|(run, _)| is_wanted(run.routine()));
    let failed: Vec<&RunId> =
        ended.filter(|(_, run)| run.finished_at >= since && run.status.is_failure()).map(|(run, _)| run).collect();
    let fires = state.routines.facts().filter(|(slug, _)| is_wanted(slug));
    let next = fires.filter_map(|(slug, facts)| Some((facts.next_fire?, slug))).min();
    let items = found.items.iter().filter(|item| match routine {
        Some(_) => item.routine.as_ref().is_some_and(is_wanted),
        None => true,
    });
    let (questions, problems): (Vec<&Item>, Vec<&Item>) = items.partition(|item| item.kind == Kind::Question);
    let asks = |item: &&Item| Some(Asks { run: item.run.clone()?, text: item.text.clone() });
    let first = questions.iter().take(SHOWN_QUESTIONS).filter_map(asks).collect();
    let questions = Questions { count: questions.len(), first };
    let mut problems: Vec<String> = problems
        .into_iter()
        .map(|item| match &item.fix {
            Some(fix) => format!("{}; {fix}", item.text),
            None => item.text.clone(),
        })
        .collect();
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        problems.push(format!("{more} more"));
    }
    let forecast = found.forecast.as_deref().and_then(|forecast| forecast.as_ref().ok());
    Summary {
        questions: Some(questions).filter(|questions| questions.count > 0),
        running: is_known.then_some(running),
        queued: Some(queued).filter(|queued| *queued > 0),
        unknown: is_known.then_some(unknown),
        live: live.into_iter().take(SHOWN).map(|run| run.id.clone()).collect(),
        failed_24h: Failed { count: failed.len(), runs: failed.into_iter().take(SHOWN).cloned().collect() },
        next: next.map(|(at, slug)| NextFire { routine: slug.clone(), at }),
        problems,
        removable_bytes: forecast.and_then(|forecast| forecast.removable_bytes).filter(|_| routine.is_none()),
        dashboard_hint: cfg!(feature = "dashboard")
            .then_some("to see everything in a browser, run: moadim-mcp dashboard"),
    }
}

#[cfg(test)]
impl Summary {
    /// Returns how many run, and how many may.
    pub(super) fn live_runs(&self) -> (Option<usize>, Option<usize>) {
        (self.running, self.unknown)
    }
}
