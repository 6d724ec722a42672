//! What runs used in a period: how many there were, their tokens, and their cost at list prices; by routine and by agent.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::used_today::UsedToday;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::money::MicroDollars;
use crate::routine::ceilings::Ceilings;
use crate::routine::day::Day;
use crate::run::budget::RecentRuns;
use crate::run::context::Context;
use crate::run::history::UnreadLine;
use crate::run::record::Outcome;

/// What the runs that were triggered since a time used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageReport {
    /// The beginning of the period.
    pub since: UnixSeconds,
    /// What the costs are.
    pub cost_basis: String,
    /// All runs that have ended, those too whose workbench is gone.
    pub total: Use,
    /// Runs that have not ended, and are in no other figure but those of today.
    pub live_runs: u64,
    /// The same by routine, the dearest first; 200 at most.
    pub routines: Vec<NamedUse>,
    /// How many routines had runs.
    pub routines_total: usize,
    /// The same by agent.
    pub agents: Vec<NamedUse>,
    /// The runs of today, on the machine's calendar, beside the home's ceilings.
    pub today: UsedToday,
}

/// What runs used.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Use {
    /// How many there were; one that was skipped did nothing, and does not count.
    pub runs: u64,
    /// Tokens sent to models, those from their caches included.
    pub input_tokens: u64,
    /// Those of `input_tokens` that came from a cache.
    pub cached_tokens: u64,
    /// Tokens that models wrote.
    pub output_tokens: u64,
    /// Runs whose agent reported no tokens.
    pub unknown_token_runs: u64,
    /// The list price; absent if it is known of none of them.
    pub cost_usd: Option<MicroDollars>,
    /// Runs that `cost_usd` lacks, because nobody reported what they cost.
    pub unknown_cost_runs: u64,
}

/// What the runs of one routine or agent used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedUse {
    /// The routine or the agent.
    pub name: String,
    /// The figures.
    #[serde(flatten)]
    pub used: Use,
}

/// What all costs are called.
pub const COST_BASIS: &str = "the list price that the agent reports; for a subscription not money spent";

/// A report goes into a model's context.
const MAX_ROUTINES: usize = 200;

impl Use {
    /// Adds what others used.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.unknown_token_runs += other.unknown_token_runs;
        self.cost_usd = self.cost_usd.into_iter().chain(other.cost_usd).reduce(MicroDollars::plus);
        self.unknown_cost_runs += other.unknown_cost_runs;
    }

    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        match outcome.output.as_ref().and_then(|summary| summary.usage.as_ref()) {
            Some(usage) => {
                self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
                self.cached_tokens = self.cached_tokens.saturating_add(usage.cached_tokens.unwrap_or(0));
                self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
            }
            None => self.unknown_token_runs += u64::from(!outcome.never_had_agent()),
        }
        match outcome.cost() {
            Some(cost) => self.cost_usd = Some(self.cost_usd.unwrap_or_default().plus(cost)),
            None => self.unknown_cost_runs += 1,
        }
    }
}

/// Adds up what runs used: all of them, by routine, and by agent.
fn add_up(outcomes: impl Iterator<Item = Outcome>) -> (Use, Vec<NamedUse>, Vec<NamedUse>) {
    let mut total = Use::default();
    let (mut routines, mut agents): (BTreeMap<String, Use>, BTreeMap<String, Use>) = Default::default();
    for outcome in outcomes.filter(|outcome| outcome.status.counts_for_its_day()) {
        total.add(&outcome);
        routines.entry(outcome.id.routine().to_string()).or_default().add(&outcome);
        agents.entry(outcome.agent.clone()).or_default().add(&outcome);
    }
    (total, dearest_first(routines), dearest_first(agents))
}

fn dearest_first(by_name: BTreeMap<String, Use>) -> Vec<NamedUse> {
    let mut all: Vec<NamedUse> = by_name.into_iter().map(|(name, used)| NamedUse { name, used }).collect();
    all.sort_by_key(|one| std::cmp::Reverse((one.used.cost_usd, one.used.output_tokens, one.used.runs)));
    all
}

/// Reports what the runs that were triggered at `since` or later used. Of the history only their lines are read.
///
/// # Errors
/// The folder of entries cannot be listed, or the history cannot be read.
pub(crate) fn usage(context: &Context, since: UnixSeconds, now: UnixSeconds) -> Result<UsageReport, FileError> {
    let recent = RecentRuns::of_today(context, now)?;
    let day = Day::of_routine(None, now);
    let live_runs = RecentRuns::since(context, since, false)?.live_runs();
    let lines = context.history.read(&context.home)?;
    let wanted = lines.newest_first().take_while(|line| line.stamp() >= since);
    let unread: Vec<UnreadLine> = wanted.filter_map(|line| lines.unread(line)).collect();
    // Triggers wait for the history.
    drop(lines);
    // A line that cannot be read is one that health reports.
    let outcomes = unread.iter().filter_map(UnreadLine::read).map(|past| past.outcome);
    let (total, mut routines, agents) = add_up(outcomes);
    let routines_total = routines.len();
    routines.truncate(MAX_ROUTINES);
    Ok(UsageReport {
        since,
        cost_basis: COST_BASIS.to_owned(),
        total,
        live_runs,
        routines,
        routines_total,
        agents,
        today: UsedToday::of(&Ceilings::of_home(&context.config), &recent.used_by_all(&day), &day),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::output::{Summary, Usage};
    use crate::run::status::Status;
    use proptest::prelude::*;
    use serde_json::json;

    fn outcome(id: &str, agent: &str, status: Status, usage: Option<(u64, u64, Option<u64>)>) -> Outcome {
        let usage = usage.map(|(input_tokens, output_tokens, micros)| Usage {
            input_tokens,
            output_tokens,
            cached_tokens: Some(input_tokens / 2),
            cost_usd: micros.map(MicroDollars),
        });
        let output = usage.map(|usage| Summary { usage: Some(usage), ..Summary::default() });
        Outcome { agent: agent.into(), output, ..Outcome::example(id, status) }
    }

    #[test]
    fn what_is_unknown_is_counted_apart_and_never_as_zero() {
        let (total, routines, agents) = add_up(
            [
                outcome("a-1", "claude", Status::Succeeded, Some((100, 10, Some(500_000)))),
                outcome("a-2", "claude", Status::Stopped, Some((40, 4, None))),
                outcome("a-3", "claude", Status::LaunchFailed, None),
                outcome("a-4", "claude", Status::Skipped, None),
                outcome("b-1", "codex", Status::Succeeded, Some((10, 1, None))),
                outcome("c-1", "shell", Status::Succeeded, None),
            ]
            .into_iter(),
        );
        let shown = |used: &Use| serde_json::to_value(used).unwrap();
        assert_eq!(
            shown(&total),
            json!({ "runs": 5, "input_tokens": 150, "cached_tokens": 75, "output_tokens": 15, "unknown_token_runs": 1,
                    "cost_usd": 0.5, "unknown_cost_runs": 3 })
        );
        let names = |all: &[NamedUse]| all.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&routines), ["a", "b", "c"]);
        assert_eq!(names(&agents), ["claude", "codex", "shell"]);
        assert_eq!((routines[0].used.runs, routines[0].used.unknown_cost_runs), (3, 1));
        assert_eq!(routines[1].used.cost_usd, None);
        assert_eq!(shown(&agents[1].used).get("cost_usd"), None, "unknown, not zero");
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_whole(
            runs in prop::collection::vec((0..4_u64, 0..3_u64, prop::option::of((0..1000_u64, 0..1000_u64, prop::option::of(0..1000_u64)))), 0..40)
        ) {
            let outcomes = runs.iter().enumerate().map(|(n, (routine, agent, usage))| {
                outcome(&format!("r{routine}-{n}"), &format!("agent{agent}"), Status::Succeeded, *usage)
            });
            let (total, routines, agents) = add_up(outcomes);
            prop_assert_eq!(total.runs, runs.len() as u64);
            for parts in [routines, agents] {
                let mut sum = Use::default();
                parts.iter().for_each(|part| sum.merge(&part.used));
                prop_assert_eq!(&sum, &total);
            }
        }
    }
}
