//! How a home is: what is in use, how many runs there are, and every problem with its fix.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use super::checks::{self, Finding, Subject};
use super::stores::{self, Store};
use crate::agent::SearchPath;
use crate::clock::UnixSeconds;
use crate::query::used_today::UsedToday;
use crate::routine::ceilings::Ceilings;
use crate::routine::day::Day;
use crate::routine::home_snooze::HomeSnooze;
use crate::run::budget::RecentRuns;
use crate::run::context::{App, Context};
use crate::run::hold::{Hold, Holds};
use crate::run::janitor_status::{Downtime, Duty, Passes};
use crate::run::status::Status as RunStatus;
use crate::session::HostKind;

#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Health {
    pub version: String,
    pub home: String,
    /// Where runs can be watched.
    pub session_host: HostKind,
    /// Why there.
    pub session_host_reason: String,
    /// The version of the terminal multiplexer, if it is in use.
    pub tmux_version: Option<String>,
    pub watchdog: Passes,
    pub sweep: Passes,
    pub scheduler: Passes,
    /// For how long nothing was running before this process started.
    pub downtime: Option<String>,
    /// The time until which all schedules are snoozed.
    pub snoozed_until: Option<UnixSeconds>,
    /// How many routines can be read.
    pub routines: usize,
    /// Runs, by status.
    pub runs: BTreeMap<RunStatus, usize>,
    /// Today's runs beside the home's daily ceilings.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub used_today: Option<UsedToday>,
    /// Disk used by all workbenches.
    pub workbench_bytes: u64,
    /// Whether that is all: false if measuring took too long.
    pub workbench_bytes_complete: bool,
    /// What the home stores, and how much of each there may be.
    pub stores: Vec<Store>,
    /// Agents at their usage limit, whose scheduled runs wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_agents: Vec<HeldAgent>,
    /// What is wrong; empty when all is well. A tool shows the first 100.
    pub problems: Vec<Problem>,
    pub problems_total: usize,
}

#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// The file or directory, if there is one.
    pub path: Option<String>,
    pub problem: String,
    pub fix: String,
}

/// An agent whose scheduled runs wait for its account's usage limit to be reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HeldAgent {
    pub agent: String,
    pub held_until: UnixSeconds,
    pub because: String,
}

/// How long measuring the workbenches may take.
const MEASURING_TIMEOUT: Duration = Duration::from_secs(2);

/// Within which all of it should be done where Slurm takes its time, and how long measuring may take even then.
const EXAMINATION_TIMEOUT: Duration = Duration::from_millis(4_500);
const LEAST_MEASURING: Duration = Duration::from_millis(200);

/// Examines a home; takes a few seconds at most.
pub fn examine(app: &App, search_path: &SearchPath) -> Health {
    let began = Instant::now();
    let subject = Subject::read(app, search_path);
    let problems = problems_of(&subject);
    let context = &subject.context;
    let now = Instant::now();
    let stop_at = (now + MEASURING_TIMEOUT).min((began + EXAMINATION_TIMEOUT).max(now + LEAST_MEASURING));
    let stores = stores::measure(context, subject.next_workbench(), stop_at);
    let workbenches = stores.iter().find(|store| store.name == "workbenches").cloned();
    let now = UnixSeconds::now();
    let (holds, _) = Holds::read(&context.home, now);
    let held =
        |hold: &Hold| HeldAgent { agent: hold.agent.clone(), held_until: hold.held_until, because: hold.in_words() };
    let [watchdog, sweep, scheduler] =
        [Duty::Watchdog, Duty::Sweep, Duty::Schedule].map(|duty| app.janitor.passes(duty));
    Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: context.home.root().display().to_string(),
        session_host: context.session_host.kind,
        session_host_reason: context.session_host.why.clone(),
        tmux_version: context.session_host.version(),
        watchdog,
        sweep,
        scheduler,
        downtime: app.janitor.downtime().map(Downtime::to_string),
        snoozed_until: HomeSnooze::until(&context.home, UnixSeconds::now()),
        routines: subject.readable_routines(),
        runs: subject.runs_by_status(),
        used_today: used_today(context),
        workbench_bytes: workbenches.as_ref().map_or(0, |store| store.bytes),
        workbench_bytes_complete: workbenches.is_some_and(|store| store.bytes_complete),
        stores,
        held_agents: holds.in_force(now).map(held).collect(),
        problems_total: problems.len(),
        problems,
    }
}

/// Returns what is wrong with a home, without measuring what it stores.
pub(crate) fn problems(app: &App, search_path: &SearchPath) -> Vec<Problem> {
    problems_of(&Subject::read(app, search_path))
}

fn problems_of(subject: &Subject<'_>) -> Vec<Problem> {
    let problem = |Finding { path, found, fix, .. }| Problem { path, problem: found, fix: fix.unwrap_or_default() };
    checks::problems(subject).into_iter().map(problem).collect()
}

/// Returns what the runs of today come to; `None` if that cannot be read, which a check reports.
fn used_today(context: &Context) -> Option<UsedToday> {
    let now = UnixSeconds::now();
    let day = Day::of_routine(None, now);
    let recent = RecentRuns::since(context, day.start, true).ok()?;
    Some(UsedToday::of(&Ceilings::of_home(&context.config), &recent.used_by_all(&day), &day))
}
