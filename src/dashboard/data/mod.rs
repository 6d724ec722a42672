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
mod on_disk;
mod past;
mod questions;
mod routines;
mod server;
mod summary;
mod usage;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use self::attention::{Asking, Item, Situation, attention};
use self::calendar::Calendar;
use self::cleanup::{Cleanup, Forecast};
use self::content::Content;
use self::ended::EndedRun;
use self::kept::{Background, END, Kept};
use self::live::LiveRun;
use self::on_disk::OnDisk;
use self::past::PastRuns;
use self::questions::OpenQuestions;
use self::routines::{Now, Routines};
pub(crate) use self::summary::Summary;
use self::versions::{PartAnswer, Versions};
use crate::agent::{self, SearchPath};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::mark::Mark;
use crate::janitor::health::{self, Problem};
use crate::query::listing::{self, Unfinished};
use crate::query::view::RunView;
use crate::query::wait;
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::slug::Slug;
use crate::run::budget::{RecentRuns, over_home};
use crate::run::context::{App, Context};
use crate::run::hold::Holds;
use crate::run::id::RunId;

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
    on_disk: Kept<OnDisk>,
    /// The runs that have an entry, as they were last listed; `None` until they could be.
    unfinished: Option<Vec<Unfinished>>,
    unrecorded: Kept<Unrecorded>,
    questions: Kept<OpenQuestions>,
    today: Kept<RecentRuns>,
    ended: Kept<Content>,
    usage: Kept<Content>,
    problems: Background<Vec<Problem>>,
    cleanup: Cleanup,
    versions: BTreeMap<Part, Versions>,
}

/// Runs that only their workbenches show.
#[derive(Debug, Clone, Default)]
struct Unrecorded {
    unknown: Vec<LiveRun>,
    ended: BTreeMap<RunId, EndedRun>,
}

/// One look, while it is taken.
struct Look<'a> {
    context: Context,
    search_path: &'a SearchPath,
    now: UnixSeconds,
    calendar: Calendar,
    /// Why something could not be read; several parts may need the same.
    unread: BTreeSet<String>,
    parts: BTreeMap<Part, Content>,
}

/// The runs that the history does not have.
struct Unfiled {
    entries: BTreeSet<RunId>,
    /// Those that are not over, the newest first.
    live: Vec<LiveRun>,
    ended: BTreeMap<RunId, EndedRun>,
}

/// What one look found.
struct Found {
    context: Context,
    now: UnixSeconds,
    calendar: Calendar,
    /// The newest first; `None` where nobody knows.
    live: Option<Vec<LiveRun>>,
    items: Vec<Item>,
    forecast: Option<Arc<Result<Forecast, String>>>,
    /// Those that could be read.
    parts: BTreeMap<Part, Content>,
}

impl Dashboard {
    /// Returns the parts that differ from the versions in `known`; `tools` are those that the caller may call.
    pub(crate) fn poll(&self, app: &App, known: &BTreeMap<String, String>, tools: &[&str]) -> Changes {
        // It may wait for a shell, so before others wait for us.
        let search_path = app.search_path().without_waiting();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = state.look(app, &search_path);
        if let Ok(server) = server::content(&found, tools) {
            found.parts.insert(Part::Server, server);
        }
        let parts = found.parts.into_iter().filter_map(|(part, content)| {
            let versions = state.versions.entry(part).or_default();
            Some((part, versions.answer(&content, known.get(part.name()).map(String::as_str))?))
        });
        Changes { format: FORMAT, now: found.now, parts: parts.collect() }
    }

    /// Returns the same in a few words, of one routine or of all.
    pub(crate) fn summary(&self, app: &App, routine: Option<&Slug>) -> Summary {
        let search_path = app.search_path().without_waiting();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.look(app, &search_path);
        summary::summary(&state, &found, routine)
    }
}

impl State {
    /// Looks at everything, in an order in which no fresh run looks like a lost one: workbenches, entries, history.
    fn look(&mut self, app: &App, search_path: &SearchPath) -> Found {
        let mut look = Look::begin(app, search_path);
        let unfiled = self.look_at_runs(&mut look);
        self.look_at_today(&mut look, unfiled.as_ref());
        let holds = self.show_routines(&mut look, unfiled.as_ref());
        self.show_runs(&mut look, unfiled.as_ref());
        self.show_usage(&mut look, unfiled.as_ref());
        let forecast = self.show_cleanup(&mut look, unfiled.as_ref());
        let items = self.show_attention(&mut look, app, unfiled.as_ref(), &holds);
        let live = unfiled.map(|unfiled| unfiled.live);
        let Look { context, now, calendar, parts, .. } = look;
        Found { context, now, calendar, live, items, forecast, parts }
    }

    /// Finds the runs, and takes in what is new in the history. What cannot be listed is as it was: runs of which nothing is seen
    /// now may well be alive.
    fn look_at_runs(&mut self, look: &mut Look<'_>) -> Option<Unfiled> {
        let context = &look.context;
        let home = &context.home;
        let unread = &mut look.unread;
        let mark = OnDisk::mark(home).settled();
        note(unread, self.on_disk.get(mark, look.now, || Ok((OnDisk::read(home)?, END))).map(drop));
        let listed = note(unread, listing::unfinished(context));
        let is_stale = listed.is_none();
        self.unfinished = listed.or_else(|| self.unfinished.take());
        note(unread, self.past.refresh(context, &look.calendar));

        let past = &self.past;
        let is_filed = |run: &RunId| past.ended.runs.contains_key(run);
        let mut unfinished = self.unfinished.clone()?;
        unfinished.retain(|one| !(is_stale && is_filed(&one.run.id)));
        let entries: BTreeSet<RunId> = unfinished.iter().map(|one| one.run.id.clone()).collect();
        let mark = OnDisk::mark(home).fact(&past.revision).fact(&entries).settled();
        let on_disk = self.on_disk.last();
        let find = || Ok((Unrecorded::find(context, on_disk, &entries)?, END));
        note(unread, self.unrecorded.get(mark, look.now, find).map(drop));
        let unrecorded = self.unrecorded.last().cloned().unwrap_or_default();
        let (over, mut live): (Vec<LiveRun>, Vec<LiveRun>) =
            unfinished.into_iter().map(LiveRun::from).partition(|live| wait::is_over(&live.run));
        live.extend(unrecorded.unknown);
        live.sort_unstable_by(|one, other| other.run.id.cmp(&one.run.id));
        let mut ended = unrecorded.ended;
        ended.extend(over.into_iter().map(|over| (over.run.id.clone(), over.run.into())));
        ended.retain(|run, _| run.stamp() >= past.ended.since && !is_filed(run));
        Some(Unfiled { entries, live, ended })
    }

    /// Returns what today's runs were made from.
    fn today_mark(&self, unfiled: Option<&Unfiled>) -> Mark {
        Mark::default().fact(&self.past.revision).fact(&unfiled.map(|unfiled| &unfiled.entries))
    }

    /// Returns what the lists of runs were made from.
    fn runs_mark(&self, home: &Home, unfiled: Option<&Unfiled>) -> Mark {
        OnDisk::mark(home).fact(&self.past.revision).fact(&unfiled.map(|unfiled| &unfiled.entries))
    }

    fn look_at_today(&mut self, look: &mut Look<'_>, unfiled: Option<&Unfiled>) {
        let Look { context, now, calendar, unread, .. } = look;
        let mark = self.today_mark(unfiled).settled();
        let read = || Ok((RecentRuns::of_today(context, *now)?, calendar.midnight()));
        note(unread, self.today.get(mark, *now, read).map(drop));
    }

    fn show_routines(&mut self, look: &mut Look<'_>, unfiled: Option<&Unfiled>) -> Holds {
        let running = unfiled.map(|unfiled| {
            let mut running: BTreeMap<Slug, Vec<RunId>> = BTreeMap::new();
            let known = unfiled.live.iter().rev().filter(|live| !listing::is_unknown(&live.run));
            for LiveRun { run, .. } in known {
                running.entry(run.id.routine().clone()).or_default().push(run.id.clone());
            }
            running
        });
        let (holds, _) = Holds::read(&look.context.home, look.now);
        let now = Now {
            context: &look.context,
            now: look.now,
            calendar: &look.calendar,
            past: &self.past,
            running: running.as_ref(),
            holds: &holds,
            today: self.today.last(),
        };
        note(&mut look.unread, self.routines.refresh(&now));
        look.parts.insert(Part::Routines, self.routines.content().clone());
        holds
    }

    /// Shows the runs, where both the entries and the workbenches could be listed: without them, a run would look gone.
    fn show_runs(&mut self, look: &mut Look<'_>, unfiled: Option<&Unfiled>) {
        let (Some(runs), Some(on_disk)) = (unfiled, self.on_disk.last()) else { return };
        let Look { context, now, calendar, parts, .. } = look;
        parts.extend(live::content(&context.home, &runs.live).ok().map(|live| (Part::Live, live)));
        let mark = self.runs_mark(&context.home, unfiled).file(&context.home.config_file());
        let mark = mark.fact(&self.routines.revision).fact(&calendar.midnight()).settled();
        let (past, routines) = (&self.past.ended, &self.routines);
        let make = || Ok((ended::content(context, past, &runs.ended, on_disk, routines)?, END));
        let content: serde_json::Result<&Content> = self.ended.get(mark, *now, make);
        parts.extend(content.ok().map(|content| (Part::Ended, content.clone())));
    }

    fn show_usage(&mut self, look: &mut Look<'_>, unfiled: Option<&Unfiled>) {
        let Look { context, now, calendar, parts, .. } = look;
        let mark = self.today_mark(unfiled).fact(&calendar.midnight()).file(&context.home.config_file()).settled();
        let (past, today) = (&self.past, self.today.last());
        let make = || Ok((usage::content(past, calendar, &context.config, today, *now)?, calendar.midnight()));
        let content: serde_json::Result<&Content> = self.usage.get(mark, *now, make);
        parts.extend(content.ok().map(|content| (Part::Usage, content.clone())));
    }

    /// Returns what everything on disk and its settings were made from.
    fn home_mark(&self, context: &Context, unfiled: Option<&Unfiled>) -> Mark {
        let mark = self.runs_mark(&context.home, unfiled).file(&context.home.config_file());
        mark.fact(&context.routines.known().revision.number)
    }

    fn show_cleanup(&self, look: &mut Look<'_>, unfiled: Option<&Unfiled>) -> Option<Arc<Result<Forecast, String>>> {
        let mark = self.home_mark(&look.context, unfiled).settled();
        let forecast = self.cleanup.get(&look.context, mark, look.now);
        match forecast.as_deref() {
            Some(Ok(Forecast { plan, disk, .. })) => {
                look.parts.extend([(Part::Plan, plan.clone()), (Part::Disk, disk.clone())]);
            }
            Some(Err(error)) => drop(look.unread.insert(error.clone())),
            None => {}
        }
        forecast
    }

    fn show_attention(
        &mut self,
        look: &mut Look<'_>,
        app: &App,
        unfiled: Option<&Unfiled>,
        holds: &Holds,
    ) -> Vec<Item> {
        let Look { context, now, .. } = look;
        let home = &context.home;
        let mark = self.runs_mark(home, unfiled).settled();
        note(&mut look.unread, self.questions.get(mark, *now, || Ok((OpenQuestions::read(context)?, END))).map(drop));
        look.unread.extend(self.questions.last().into_iter().flat_map(|questions| questions.unread.iter().cloned()));
        let mark = self.home_mark(context, unfiled).files(&home.agents()).files(&home.holds()).file(&home.routines());
        let (app, search_path) = (app.clone(), look.search_path.clone());
        let find = move || (health::problems(&app, &search_path), END);
        let problems = self.problems.get(mark.settled(), *now, WAIT, find);
        let command_of = |agent: &str| Some(agent::find_for_looking(home, &agent.parse().ok()?)?.command);
        let live = unfiled.iter().flat_map(|unfiled| &unfiled.live);
        let today = self.today.last();
        let questions = self.questions.last().into_iter().flat_map(|questions| &questions.all).map(|asked| {
            let within_secs = self.routines.answer_within_secs(context, asked.run.routine());
            Asking { asked, expires_at: asked.asked_at.plus_secs(within_secs) }
        });
        let items = attention(&Situation {
            now: *now,
            problems: problems.as_deref().map(Vec::as_slice),
            unread: &look.unread,
            questions: questions.collect(),
            routines: self.routines.facts().map(|(slug, facts)| (slug, facts, self.past.of(slug))).collect(),
            unknown: live.map(|live| &live.run).filter(|run| listing::is_unknown(run)).collect(),
            ended: self.past.ended.runs.iter().rev().collect(),
            holds: holds.in_force(*now).collect(),
            over_budget: today.and_then(|today| over_home(context, today, *now)).map(|over| over.to_string()),
            command_of: &command_of,
        });
        let content = attention::content(&items, HomeSnooze::until(home, *now));
        look.parts.extend(content.ok().map(|content| (Part::Attention, content)));
        items
    }
}

impl<'a> Look<'a> {
    fn begin(app: &App, search_path: &'a SearchPath) -> Self {
        let now = UnixSeconds::now();
        let (unread, parts) = Default::default();
        Self { context: app.context_for_looking(), search_path, now, calendar: Calendar::at(now), unread, parts }
    }
}

impl Unrecorded {
    fn find(context: &Context, on_disk: Option<&OnDisk>, entries: &BTreeSet<RunId>) -> Result<Self, FileError> {
        let workbenches = on_disk.into_iter().flat_map(|on_disk| &on_disk.workbenches);
        let (over, unknown): (Vec<RunView>, Vec<RunView>) =
            listing::unrecorded(context, workbenches, entries)?.into_iter().partition(wait::is_over);
        Ok(Self {
            unknown: unknown.into_iter().map(|run| LiveRun::of_stranger(&context.home, run)).collect(),
            ended: over.into_iter().map(|run| (run.id.clone(), run.into())).collect(),
        })
    }
}

/// How long a poll waits for what is made in the background. In a home of usual size it is there at once.
const WAIT: Duration = Duration::from_millis(300);

/// Keeps the words of an error.
fn note<T>(unread: &mut BTreeSet<String>, result: Result<T, FileError>) -> Option<T> {
    result.map_err(|error| unread.insert(error.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routine::model::Definition;
    use crate::routine::store;
    use crate::run::entry::Entry;
    use crate::run::workbench::Workbench;

    fn parts(dashboard: &Dashboard, app: &App) -> serde_json::Value {
        serde_json::to_value(dashboard.poll(app, &BTreeMap::new(), &[])).unwrap()["parts"].take()
    }

    #[test]
    fn runs_that_cannot_be_listed_are_as_they_were_and_never_gone() {
        let (_dir, app) = App::example();
        let home = &app.home;
        let run: RunId = format!("a-{}", UnixSeconds::now().0).parse().unwrap();
        std::fs::create_dir(Entry::of(home, &run).directory()).unwrap();
        std::fs::create_dir(Workbench::of(home, &run).directory()).unwrap();
        let dashboard = Dashboard::default();
        let live = parts(&dashboard, &app)["live"].take();
        assert_eq!((live["rows"].as_array().unwrap().len(), &live["rows"][0]["id"]), (1, &run.to_string().into()));

        // Root reads a folder of any mode.
        let away = home.root().join("away");
        std::fs::rename(home.running(), &away).unwrap();
        std::fs::write(home.running(), "").unwrap();
        let unlisted = parts(&dashboard, &app);
        assert_eq!(unlisted["live"], live);
        let items = unlisted["attention"]["rows"].as_array().unwrap();
        let is_told = |item: &&serde_json::Value| item["fix"].as_str().unwrap().contains("as it was last read");
        assert_eq!(items.iter().filter(is_told).count(), 1, "once, whatever needs it: {items:?}");
        assert_eq!(dashboard.summary(&app, None).live_runs(), (Some(0), Some(1)));

        // A process that never saw them says nothing about runs.
        let fresh = Dashboard::default();
        let unlisted = parts(&fresh, &app);
        assert_eq!((unlisted.get("live"), unlisted.get("ended")), (None, None));
        assert!(unlisted.get("routines").is_some());
        assert_eq!(fresh.summary(&app, None).live_runs(), (None, None));

        std::fs::remove_file(home.running()).unwrap();
        std::fs::rename(away, home.running()).unwrap();
        assert_eq!(parts(&fresh, &app)["live"], live);
    }

    #[test]
    fn a_run_in_an_unknown_state_is_live_and_not_called_running() {
        let (_dir, app) = App::example();
        let (slug, config) = ("a".parse().unwrap(), crate::home::config::Config::default());
        let definition = Definition { title: "A".into(), agent: "claude".into(), ..Definition::default() };
        store::create(&app.home, &config, slug, definition, "Look.").unwrap();
        let run: RunId = format!("a-{}", UnixSeconds::now().0).parse().unwrap();
        std::fs::create_dir(Workbench::of(&app.home, &run).directory()).unwrap();
        let parts = parts(&Dashboard::default(), &app);
        let live = &parts["live"]["rows"][0];
        assert_eq!((&live["id"], &live["status"]), (&run.to_string().into(), &"unknown".into()));
        assert_eq!(parts["routines"]["rows"][0]["running"], serde_json::json!([]));
    }

    #[test]
    fn workbenches_of_other_programs_have_a_bounded_number_of_rows() {
        let (_dir, app) = App::example();
        for n in 0..listing::MAX_UNRECORDED as u64 + 20 {
            let run = RunId::new("other".parse().unwrap(), UnixSeconds(1_000_000 + n));
            std::fs::create_dir(Workbench::of(&app.home, &run).directory()).unwrap();
        }
        let live = parts(&Dashboard::default(), &app)["live"].take();
        let rows = live["rows"].as_array().unwrap();
        assert_eq!(rows.len(), listing::MAX_UNRECORDED);
        assert_eq!(rows[0]["id"], format!("other-{}", 1_000_000 + listing::MAX_UNRECORDED + 19), "the newest");
    }
}
