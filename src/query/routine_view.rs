//! A routine as tools and commands show it, with its runs.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listing;
use super::used_today::UsedToday;
use super::view::RunView;
use crate::agent::{self, SearchPath};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::routine::bounds::{Bounds, RoutineState};
use crate::routine::ceilings::Ceilings;
use crate::routine::day::Day;
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::ledger::{self, Fire, Ledger, Waiting};
use crate::routine::model::{Definition, Routine};
use crate::routine::schedule::{CronExpressions, Schedule};
use crate::routine::slug::Slug;
use crate::run::budget::RecentRuns;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::hold::{self, Hold, Holds};
use crate::run::id::RunId;
use crate::run::on_disk;
use crate::run::status::Status;

/// What is known of one routine.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutineView {
    /// Its permanent name.
    pub slug: Slug,
    /// What people call it.
    pub title: String,
    /// The agent that runs it.
    pub agent: String,
    /// Whether that agent's command was found.
    pub agent_available: bool,
    /// Whether it may be triggered.
    pub enabled: bool,
    /// Why the program has disabled it.
    pub disabled_because: Option<String>,
    /// When it fires by itself.
    #[serde(flatten)]
    #[schemars(skip)]
    pub firing: Firing,
    /// A fire that waits, in words.
    pub waiting: Option<String>,
    /// When that starts, if nothing else holds it up.
    pub waiting_until: Option<UnixSeconds>,
    /// Today's runs beside its own daily ceilings.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub used_today: Option<UsedToday>,
    /// The newest occurrence that was not fired; the history has all.
    pub last_missed: Option<LastMissed>,
    /// The retention in force.
    pub ttl_secs: u64,
    /// The runtime in force.
    pub max_runtime_secs: u64,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The names of the variables that it sets; never their values.
    pub env_keys: Vec<String>,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When it was last changed.
    pub updated_at: UnixSeconds,
    /// Its unfinished runs.
    pub running: Vec<RunId>,
    /// Its newest run.
    pub last_run: Option<LastRun>,
}

/// When a routine fires by itself; empty if it does not.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firing {
    /// Its cron fields, or a name such as @daily; or a list of them.
    pub schedule: Option<CronExpressions>,
    /// The moment at which it fires once, as it is written.
    pub run_at: Option<String>,
    /// The time zone, if it names one.
    pub timezone: Option<String>,
    /// Both in words.
    pub schedule_description: Option<String>,
    /// The next three times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_fires: Vec<UnixSeconds>,
    /// Until when it does not fire, as somebody asked.
    pub snoozed_until: Option<UnixSeconds>,
    /// Why it cannot fire.
    pub schedule_problem: Option<String>,
}

impl Firing {
    /// `home_snoozed_until` is until when no schedule of the home fires.
    pub fn of(
        definition: &Definition,
        ledger: Result<&Ledger, &FileError>,
        home_snoozed_until: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Self {
        let Ok(Some(schedule)) = definition.parse_schedule() else { return Self::default() };
        let mut firing = Self {
            schedule: definition.schedule.clone(),
            run_at: definition.run_at.clone(),
            schedule_description: Some(schedule.description()),
            timezone: definition.timezone.clone(),
            ..Self::default()
        };
        match ledger {
            Err(error) => firing.schedule_problem = Some(error.to_string()),
            Ok(_) if !definition.enabled => {}
            Ok(ledger) => {
                firing.snoozed_until = snoozed_until(ledger, home_snoozed_until, now);
                let coming = ComingFires::of(definition, schedule, ledger, home_snoozed_until, now);
                firing.next_fires = coming.map(|coming| coming.next(NEXT_FIRES)).unwrap_or_default();
            }
        }
        firing
    }
}

fn snoozed_until(ledger: &Ledger, home: Option<UnixSeconds>, now: UnixSeconds) -> Option<UnixSeconds> {
    ledger.snoozed_until.max(home).filter(|until| *until > now)
}

/// The fires to come of a routine that is enabled.
#[derive(Debug)]
pub(crate) struct ComingFires {
    schedule: Schedule,
    /// Nothing fires up to here.
    after: UnixSeconds,
    /// How many of the next ones are left out.
    skipped: usize,
}

impl ComingFires {
    /// Returns those of a schedule; `None` if nothing is left of it.
    pub(crate) fn of(
        definition: &Definition,
        schedule: Schedule,
        ledger: &Ledger,
        home_snoozed_until: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Option<Self> {
        let dealt_with = if ledger.follows(definition) { ledger.fired_until } else { now };
        // An occurrence at the end of a snooze fires.
        let snoozed = snoozed_until(ledger, home_snoozed_until, now);
        let snoozed = snoozed.map_or(now, |until| UnixSeconds(until.0.saturating_sub(1)));
        let after = snoozed.max(now).max(dealt_with);
        let schedule = ledger.left_of(definition, Some(schedule))?;
        Some(Self { schedule, after, skipped: usize::from(ledger.skip_next) })
    }

    pub(crate) fn next(&self, count: usize) -> Vec<UnixSeconds> {
        self.schedule.upcoming(self.after, self.skipped + count).into_iter().skip(self.skipped).collect()
    }

    /// Returns those before a moment, at most so many.
    pub(crate) fn until(&self, until: UnixSeconds, count: usize) -> Vec<UnixSeconds> {
        let upcoming = self.schedule.upcoming_until(self.after, until, self.skipped + count);
        upcoming.into_iter().skip(self.skipped).collect()
    }

    /// Counts those on each of some days that follow one another.
    pub(crate) fn by_day(&self, days: &[Day]) -> Vec<u64> {
        let skipped = self.schedule.upcoming(self.after, self.skipped).pop();
        self.schedule.count_by_day(skipped.unwrap_or(self.after), days)
    }
}

const NEXT_FIRES: usize = 3;

/// An occurrence of a schedule that was not fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastMissed {
    /// The moment that the schedule names.
    pub at: UnixSeconds,
    /// Why.
    pub reason: String,
}

/// Says what waits, and for what.
pub(crate) fn in_words(slug: &Slug, waiting: &Waiting, hold: Option<&Hold>, now: UnixSeconds) -> String {
    let start_at = hold::start_at(hold, waiting, slug);
    let what = match &waiting.fire {
        Fire::Occurrence(occurrence) => format!("the fire of {occurrence}"),
        Fire::Retry { of, attempt } | Fire::Reset { of, attempt, .. } => format!("attempt {attempt} of {of}"),
    };
    match (hold.filter(|hold| hold.is_in_force(now)), &waiting.fire) {
        (Some(Hold { agent, resets_at: Some(at), .. }), _) => {
            format!("{what} waits for the usage limit of agent '{agent}' to reset at {at}; it starts after {start_at}")
        }
        (Some(Hold { agent, .. }), _) => {
            format!("{what} waits for the usage limit of agent '{agent}' to reset; it is tried after {start_at}")
        }
        (None, Fire::Occurrence(_)) if start_at <= now => format!("{what} waits for its turn"),
        (None, _) => format!("{what} starts after {start_at}"),
    }
}

/// A routine's newest run.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// Its id.
    pub run: RunId,
    /// How it is, or how it ended.
    pub status: Status,
    /// When it was triggered.
    pub triggered_at: UnixSeconds,
    /// When it ended.
    pub finished_at: Option<UnixSeconds>,
}

impl From<RunView> for LastRun {
    fn from(run: RunView) -> Self {
        Self { status: run.own_status(), run: run.id, triggered_at: run.triggered_at, finished_at: run.finished_at }
    }
}

/// What is read once for showing any number of routines.
#[derive(Debug)]
pub struct Overview<'a> {
    context: &'a Context,
    search_path: &'a SearchPath,
    running: BTreeMap<Slug, Vec<RunId>>,
    /// The newest run of each routine that has a workbench or an entry.
    newest: HashMap<Slug, UnixSeconds>,
    /// Until when no schedule of the home fires.
    pub snoozed_until: Option<UnixSeconds>,
    /// Whether each agent's command was found: looking goes through all of PATH.
    available: RefCell<HashMap<String, bool>>,
    holds: Holds,
    /// Read once a routine has a ceiling; `None` where that is not possible.
    recent: OnceCell<Option<RecentRuns>>,
}

impl<'a> Overview<'a> {
    pub fn read(context: &'a Context, search_path: &'a SearchPath) -> Result<Self, FileError> {
        let mut newest: HashMap<Slug, UnixSeconds> = HashMap::new();
        let mut running: BTreeMap<Slug, Vec<RunId>> = BTreeMap::new();
        // There may be very many, so only the first name of a routine is allocated.
        on_disk::scan_workbenches(&context.home, |slug, stamp| match newest.get_mut(slug) {
            Some(newest) => *newest = stamp.max(*newest),
            None => newest.extend(slug.parse().ok().map(|slug: Slug| (slug, stamp))),
        })?;
        for entry in Entry::list(&context.home)? {
            let newest = newest.entry(entry.id().routine().clone()).or_default();
            *newest = entry.id().stamp().max(*newest);
            running.entry(entry.id().routine().clone()).or_default().push(entry.id().clone());
        }
        // Last: a run that is reaped in between is in neither otherwise.
        drop(context.history.read(&context.home)?);
        let now = UnixSeconds::now();
        let snoozed_until = HomeSnooze::until(&context.home, now);
        let (holds, _) = Holds::read(&context.home, now);
        let (available, recent) = (RefCell::default(), OnceCell::new());
        Ok(Self { context, search_path, running, newest, snoozed_until, available, holds, recent })
    }

    pub fn view(&self, routine: &Routine) -> RoutineView {
        let Routine { slug, definition } = routine;
        let bounds = Bounds::decide(RoutineState::Present(definition), &self.context.config);
        let read = Ledger::read_for_looking(&self.context.home, slug);
        let ledger = read.as_ref().ok();
        let now = UnixSeconds::now();
        let waiting = ledger.and_then(|ledger| ledger.waiting.as_ref());
        RoutineView {
            slug: slug.clone(),
            title: definition.title.clone(),
            agent: definition.agent.clone(),
            agent_available: self.is_available(&definition.agent),
            enabled: definition.enabled,
            disabled_because: ledger.and_then(|ledger| ledger.disabled_because.clone().filter(|_| !definition.enabled)),
            firing: Firing::of(definition, read.as_ref(), self.snoozed_until, now),
            waiting: waiting.map(|waiting| in_words(slug, waiting, self.holds.of(&definition.agent), now)),
            waiting_until: waiting.map(|waiting| hold::start_at(self.holds.of(&definition.agent), waiting, slug)),
            used_today: self.used_today(slug, definition),
            last_missed: ledger.and_then(|ledger| ledger.last_missed.clone()).map(|missed| {
                let ledger::LastMissed { occurrence, reason, .. } = missed;
                LastMissed { at: occurrence, reason }
            }),
            ttl_secs: bounds.ttl_secs,
            max_runtime_secs: bounds.max_runtime_secs,
            tags: definition.tags.clone(),
            env_keys: definition.env.keys().map(ToString::to_string).collect(),
            created_at: definition.created_at,
            updated_at: definition.updated_at,
            running: self.running.get(slug).cloned().unwrap_or_default(),
            last_run: (self.newest.get(slug).copied().max(self.context.history.newest(slug)))
                .and_then(|stamp| listing::find(self.context, &RunId::new(slug.clone(), stamp)).ok())
                .map(LastRun::from),
        }
    }

    fn used_today(&self, slug: &Slug, definition: &Definition) -> Option<UsedToday> {
        let (ceilings, now) = (Ceilings::of(definition), UnixSeconds::now());
        if !ceilings.is_any() {
            return None;
        }
        let recent = self.recent.get_or_init(|| RecentRuns::of_today(self.context, now).ok()).as_ref()?;
        let day = Day::of_routine(definition.timezone.as_deref(), now);
        Some(UsedToday::of(&ceilings, &recent.used_by(slug, &day), &day))
    }

    fn is_available(&self, agent: &str) -> bool {
        if let Some(known) = self.available.borrow().get(agent) {
            return *known;
        }
        let definition = agent.parse().ok().and_then(|name| agent::find_for_looking(&self.context.home, &name));
        let found = definition.is_some_and(|definition| self.search_path.find(&definition).is_ok());
        self.available.borrow_mut().insert(agent.to_owned(), found);
        found
    }
}
