//! What the dashboard draws, in parts that each have a version, so that a poll costs and answers what has changed.
//!
//! A look goes from cheap marks (stamps of files, the revisions of what this process knows) to what they stand for: only the parts
//! whose marks changed are made again, of the history only new lines are read, and what takes long (a dry run, the checks of
//! health) is made at a pace of its own.

mod attention;
mod calendar;
mod cleanup;
mod content;
mod ended;
mod kept;
mod live;
mod past;
mod routines;
mod server;
mod summary;
mod usage;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

use self::attention::{Item, Situation, attention};
use self::calendar::Calendar;
use self::cleanup::{Cleanup, Forecast};
use self::content::Content;
use self::ended::OnDisk;
use self::kept::{Kept, Mark, Paced};
use self::live::LiveRun;
use self::past::{EndedRun, PastRuns};
use self::routines::{Agents, Now, Routines};
pub(crate) use self::summary::Summary;
use self::versions::{PartAnswer, Versions};
use crate::agent;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::names;
use crate::janitor::health::{self, Problem};
use crate::query::listing;
use crate::query::wait;
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::slug::Slug;
use crate::run::budget::{RecentRuns, over_home};
use crate::run::context::{App, Context};
use crate::run::hold::Holds;
use crate::run::id::RunId;
use crate::run::on_disk;
use crate::run::pin;
use crate::run::status::Tone;

/// The version of this format.
const FORMAT: u32 = 1;

/// A part of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Server,
    Attention,
    Live,
    Routines,
    Ended,
    Disk,
    Plan,
    Usage,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Attention => "attention",
            Self::Live => "live",
            Self::Routines => "routines",
            Self::Ended => "ended",
            Self::Disk => "disk",
            Self::Plan => "plan",
            Self::Usage => "usage",
        }
    }
}

/// The answer to a poll: what its caller does not know yet.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Changes {
    /// Grows when readers of the last one would misread it.
    format: u32,
    now: UnixSeconds,
    /// Those that are not as the caller knows them.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    parts: BTreeMap<Part, PartAnswer>,
}

/// What a process knows of the dashboard from one poll to the next.
#[derive(Debug, Default)]
pub(crate) struct Dashboard {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    past: PastRuns,
    routines: Routines,
    agents: Agents,
    on_disk: Kept<OnDisk>,
    /// The runs with a workbench of which neither the history nor an entry tells.
    others: Kept<Others>,
    today: Kept<RecentRuns>,
    ended: Kept<Content>,
    usage: Kept<Content>,
    problems: Paced<Vec<Problem>>,
    cleanup: Cleanup,
    versions: BTreeMap<Part, Versions>,
}

/// Runs that only their workbenches show.
#[derive(Debug, Clone, Default)]
struct Others {
    unknown: Vec<LiveRun>,
    ended: BTreeMap<RunId, EndedRun>,
}

/// What was seen at one look.
struct Seen {
    context: Context,
    now: UnixSeconds,
    calendar: Calendar,
    /// The newest first.
    live: Vec<LiveRun>,
    items: Vec<Item>,
    forecast: Option<Arc<Result<Forecast, String>>>,
    /// Those that could be read.
    parts: BTreeMap<Part, Content>,
}

impl Dashboard {
    /// Returns what a caller lacks that has these versions of parts; `tools` are those that it can call.
    pub(crate) fn poll(&self, app: &App, known: &BTreeMap<String, String>, tools: &[&str]) -> Changes {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = state.look(app);
        if let Ok(server) = server::content(&state, &seen, app, tools) {
            seen.parts.insert(Part::Server, server);
        }
        let parts = seen.parts.into_iter().filter_map(|(part, content)| {
            let versions = state.versions.entry(part).or_default();
            Some((part, versions.answer(&content, known.get(part.name()).map(String::as_str))?))
        });
        Changes { format: FORMAT, now: seen.now, parts: parts.collect() }
    }

    /// Returns the same in a few words, of one routine or of all.
    pub(crate) fn summary(&self, app: &App, routine: Option<&Slug>) -> Summary {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = state.look(app);
        summary::summary(&state, &seen, routine)
    }
}

impl State {
    fn look(&mut self, app: &App) -> Seen {
        let context = app.context_for_looking();
        let home = &context.home;
        let search_path = app.search_path();
        let now = UnixSeconds::now();
        let calendar = Calendar::at(now);
        let mut unread = Vec::new();
        let mut parts = BTreeMap::new();

        // In this order, in which no fresh run looks like a lost one: workbenches, entries, history.
        let on_disk_mark = || Mark::new().file(&home.workbenches()).file(&home.pins()).file(&home.archive());
        let mark = on_disk_mark().value();
        note(&mut unread, self.on_disk.get(mark, now, || Ok((list(home)?, END))).map(drop));
        let unfinished = note(&mut unread, listing::unfinished(&context)).unwrap_or_default();
        note(&mut unread, self.past.refresh(&context, &calendar));
        let entries: BTreeSet<RunId> = unfinished.iter().map(|one| one.run.id.clone()).collect();

        let runs_mark = || on_disk_mark().fact(&self.past.revision).fact(&entries);
        let (past, on_disk) = (&self.past, self.on_disk.last());
        let find = || Ok::<_, FileError>((others(&context, past, on_disk, &entries), END));
        let others = self.others.get(runs_mark().value(), now, find).ok().cloned().unwrap_or_default();
        let (over, mut live): (Vec<LiveRun>, Vec<LiveRun>) =
            unfinished.into_iter().map(LiveRun::from).partition(|live| wait::is_over(&live.run));
        live.extend(others.unknown);
        live.sort_by(|one, other| other.run.id.cmp(&one.run.id));
        let mut unrecorded = others.ended;
        unrecorded.extend(over.into_iter().map(|over| (over.run.id.clone(), over.run.into())));
        unrecorded.retain(|run, _| !self.past.ended.runs.contains_key(run));

        let mut running: BTreeMap<Slug, Vec<RunId>> = BTreeMap::new();
        for LiveRun { run, .. } in live.iter().rev() {
            running.entry(run.id.routine().clone()).or_default().push(run.id.clone());
        }
        let today_mark = Mark::new().fact(&self.past.revision).fact(&entries).value();
        let read_today = || Ok((RecentRuns::of_today(&context, now)?, calendar.midnight()));
        let today = note(&mut unread, self.today.get(today_mark, now, read_today));
        let (holds, _) = Holds::read(home, now);
        let look = Now {
            context: &context,
            now,
            calendar: &calendar,
            past: &self.past,
            running: &running,
            holds: &holds,
            agents: &self.agents,
            search_path: &search_path,
            today,
        };
        note(&mut unread, self.routines.refresh(&look));
        parts.insert(Part::Routines, self.routines.content().clone());
        parts.extend(live::content(home, &self.routines, &live).ok().map(|content| (Part::Live, content)));

        let none = OnDisk::default();
        let on_disk = self.on_disk.last().unwrap_or(&none);
        let ended_mark = runs_mark().fact(&self.routines.revision).fact(&calendar.midnight());
        let (ended, routines) = (&self.past.ended, &self.routines);
        let make = || Ok((ended::content(&context, ended, &unrecorded, on_disk, routines)?, END));
        let content: serde_json::Result<&Content> = self.ended.get(ended_mark.value(), now, make);
        parts.extend(content.ok().map(|content| (Part::Ended, content.clone())));

        let usage_mark = Mark::new().fact(&today_mark).fact(&calendar.midnight()).file(&home.config_file());
        let make = || Ok((usage::content(&self.past, &calendar, &context.config, today, now)?, calendar.midnight()));
        let content: serde_json::Result<&Content> = self.usage.get(usage_mark.value(), now, make);
        parts.extend(content.ok().map(|content| (Part::Usage, content.clone())));

        let settings = || runs_mark().file(&home.config_file()).fact(&context.routines.known().revision.number);
        let forecast = self.cleanup.get(&context, settings().value());
        match forecast.as_deref() {
            Some(Ok(forecast)) => {
                parts.extend(forecast.plan().ok().map(|plan| (Part::Plan, plan)));
                parts.extend(forecast.disk().ok().map(|disk| (Part::Disk, disk)));
            }
            Some(Err(error)) => unread.push(error.clone()),
            None => {}
        }

        let health_mark = settings().files(&home.agents()).files(&home.holds()).file(&home.routines());
        let problems = self.problems.get(health_mark.value(), || health::problems(app, &search_path));
        let command_of = |agent: &str| Some(agent::find_for_looking(home, &agent.parse().ok()?)?.command);
        let items = attention(&Situation {
            now,
            problems,
            unread: &unread,
            routines: self.routines.facts().map(|(slug, facts)| (slug, facts, self.past.of(slug))).collect(),
            unknown: live.iter().map(|live| &live.run).filter(|run| run.status.tone() == Tone::Bad).collect(),
            ended: self.past.ended.runs.iter().rev().collect(),
            holds: holds.in_force(now).collect(),
            over_budget: today.and_then(|today| over_home(&context, today, now)).map(|over| over.to_string()),
            command_of: &command_of,
        });
        let content = attention::content(&items, HomeSnooze::until(home, now));
        parts.extend(content.ok().map(|content| (Part::Attention, content)));
        Seen { now, calendar, live, items, forecast, parts, context }
    }
}

/// For what does not change with the time.
const END: UnixSeconds = UnixSeconds(u64::MAX);

/// Keeps the words of an error.
fn note<T>(unread: &mut Vec<String>, result: Result<T, FileError>) -> Option<T> {
    result.map_err(|error| unread.push(error.to_string())).ok()
}

fn list(home: &Home) -> Result<OnDisk, FileError> {
    let mut archives = BTreeSet::new();
    let listed = names::scan(&home.archive(), |name, _| archives.extend(name.parse::<RunId>()));
    match listed {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let workbenches = on_disk::workbench_ids(home)?.into_iter().collect();
    Ok(OnDisk { workbenches, pins: pin::list(home)?, archives })
}

/// Looks at the workbenches of which neither an entry nor the history tells, in the period that is shown.
fn others(context: &Context, past: &PastRuns, on_disk: Option<&OnDisk>, entries: &BTreeSet<RunId>) -> Others {
    let workbenches = on_disk.into_iter().flat_map(|on_disk| &on_disk.workbenches);
    let is_known = |run: &RunId| entries.contains(run) || past.ended.runs.contains_key(run);
    let unknown: Vec<RunId> =
        workbenches.filter(|run| run.stamp() >= past.ended.since && !is_known(run)).cloned().collect();
    let mut others = Others::default();
    for run in listing::these(context, &unknown) {
        if wait::is_over(&run) {
            others.ended.insert(run.id.clone(), run.into());
        } else {
            others.unknown.push(LiveRun::of_stranger(run));
        }
    }
    others
}
