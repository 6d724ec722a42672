//! Checks of the daily ceilings: which of them are reached today, and which cannot be kept.

use super::{Finding, Subject};
use crate::agent::AgentName;
use crate::clock::UnixSeconds;
use crate::home::config::Config;
use crate::janitor::plan::counted;
use crate::routine::ceilings::MAX_DAILY_COST_USD;
use crate::routine::day::Day;
use crate::routine::store;
use crate::run::budget::{OverBudget, RecentRuns, Used, over_home, over_own};
use crate::run::context::Context;

pub(super) fn budgets(subject: &Subject<'_>) -> Vec<Finding> {
    let context = &subject.context;
    let Context { home, routines, config, .. } = context;
    let now = UnixSeconds::now();
    let known = routines.known();
    let with_ceilings =
        known.summaries.iter().filter_map(|routine| Some((routine.slug(), routine.readable()?.daily.as_deref()?)));
    let mut with_ceilings = with_ceilings.peekable();
    let Config { max_daily_runs, max_daily_cost_usd, .. } = config;
    if with_ceilings.peek().is_none() && max_daily_runs.is_none() && max_daily_cost_usd.is_none() {
        return Vec::new();
    }
    let recent = match RecentRuns::of_today(context, now) {
        Ok(recent) => recent,
        Err(error) => return vec![Finding::unchecked("what was used today", &error)],
    };
    let mut findings: Vec<Finding> =
        over_home(context, &recent, now).map(|over| of_reached(&over)).into_iter().collect();
    if max_daily_cost_usd.is_some() {
        let used = recent.used_by_all(&Day::of_routine(None, now));
        findings.extend(of_unknown(&used, "all routines", &home.config_file()));
    }
    for (slug, daily) in with_ceilings {
        let timezone = daily.timezone.as_deref();
        let over = over_own(home, slug, &daily.ceilings, timezone, &recent, now);
        findings.extend(over.map(|over| of_reached(&over)));
        if daily.ceilings.max_daily_cost_usd.is_none() {
            continue;
        }
        let file = store::definition_file(home, slug);
        let used = recent.used_by(slug, &Day::of_routine(timezone, now));
        findings.extend(of_unknown(&used, &format!("'{slug}'"), &file));
        let agent: Option<AgentName> = daily.agent.parse().ok();
        let agent = agent.and_then(|name| subject.registry.as_ref()?.get(&name).ok());
        if agent.is_some_and(|agent| !agent.definition.output.reports_cost()) {
            let problem = format!(
                "it cannot run: its agent '{}' reports no cost, so {MAX_DAILY_COST_USD} cannot be kept",
                daily.agent
            );
            findings.push(Finding::problem_at(file, problem, "set max_daily_runs instead, or use another agent"));
        }
    }
    findings
}

fn of_reached(over: &OverBudget) -> Finding {
    // A ceiling that does its work is no problem.
    let hint = format!("it goes on when the day has ended; to raise the ceiling: {}", over.file.display());
    Finding::well("budget", over.to_string()).hint(hint)
}

/// Reports runs that ended without saying what they cost: the ceiling holds less than it seems to.
fn of_unknown(used: &Used, whose: &str, file: &std::path::Path) -> Option<Finding> {
    let unknown = used.unknown_cost_runs.saturating_sub(used.live_runs);
    (unknown > 0).then(|| {
        let found = format!(
            "of {whose}, {} of today ended without reporting a cost, which counts as nothing for {MAX_DAILY_COST_USD}",
            counted(unknown, "run")
        );
        Finding::problem_at(file, found, "see which: moadim-mcp usage, moadim-mcp runs; max_daily_runs bounds them too")
    })
}
