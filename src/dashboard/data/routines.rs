//! The routines: when they fire next, how their last runs went, and what is special about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::calendar::Calendar;
use super::content::{Content, Row};
use super::ended::DayCount;
use super::past::{PastRuns, RecentRun, RoutinePast};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::home::mark::Mark;
use crate::money::MicroDollars;
use crate::query::routine_view::{ComingFires, Firing, in_words};
use crate::query::used_today::UsedToday;
use crate::routine::bounds::{Bounds, RoutineState};
use crate::routine::ceilings::Ceilings;
use crate::routine::day::Day;
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::known::Look;
use crate::routine::ledger::{LastMissed, Ledger};
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::routine::summary::Summary;
use crate::routine::zone::MachineMark;
use crate::run::budget::{RecentRuns, Used, over_own};
use crate::run::context::Context;
use crate::run::hold::{self, Hold, Holds};
use crate::run::id::RunId;

const MAX_FIRES: usize = 50;
const FIRES_DAYS: usize = 7;

#[derive(Debug, Default)]
pub(super) struct Routines {
    known: BTreeMap<Slug, KnownRoutine>,
    content: Content,
    /// Grows with each change of a row.
    pub(super) revision: u64,
}

#[derive(Debug)]
struct KnownRoutine {
    made_from: MadeFrom,
    /// From then on the row is another one.
    until: UnixSeconds,
    /// `None` if its definition cannot be read, which is a problem of health.
    shown: Option<(Row, RoutineFacts)>,
}

/// What a row was made from. The routine's files are compared by whether they were read again.
#[derive(Debug, Clone)]
struct MadeFrom {
    summary: Arc<Summary>,
    running: Option<Vec<RunId>>,
    past: u64,
    hold: Option<Hold>,
    used: Option<Used>,
    world: u64,
}

impl MadeFrom {
    fn is_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.summary, &other.summary)
            && self.running == other.running
            && (self.past, self.world, self.used) == (other.past, other.world, other.used)
            && self.hold == other.hold
    }
}

/// What the other parts need to know of a routine.
#[derive(Debug, Clone)]
pub(super) struct RoutineFacts {
    pub(super) title: String,
    pub(super) agent: String,
    pub(super) enabled: bool,
    pub(super) bounds: Bounds,
    pub(super) next_fire: Option<UnixSeconds>,
    pub(super) disabled_because: Option<String>,
    pub(super) last_missed: Option<LastMissed>,
    /// That a daily ceiling of its own is reached.
    pub(super) over_budget: Option<String>,
    pub(super) ceilings: Ceilings,
    pub(super) timezone: Option<String>,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct RoutineRow<'a> {
    slug: &'a Slug,
    title: &'a str,
    agent: &'a str,
    enabled: bool,
    disabled_because: Option<&'a str>,
    schedule_description: Option<&'a str>,
    timezone: Option<&'a str>,
    schedule_problem: Option<&'a str>,
    snoozed_until: Option<UnixSeconds>,
    waiting: Option<String>,
    waiting_until: Option<UnixSeconds>,
    /// Absent where the runs cannot be listed.
    running: Option<&'a [RunId]>,
    next_fires: &'a [UnixSeconds],
    fires_per_day: Option<Vec<u64>>,
    earlier_per_day: Option<&'a [DayCount]>,
    recent: Vec<&'a RecentRun>,
    success_rate: Option<f64>,
    median_secs: Option<u64>,
    cost_usd_7d: Option<MicroDollars>,
    used_today: Option<UsedToday>,
    tags: &'a [String],
}

/// What is the same for all routines at one look.
pub(super) struct Now<'a> {
    pub(super) context: &'a Context,
    pub(super) now: UnixSeconds,
    pub(super) calendar: &'a Calendar,
    pub(super) past: &'a PastRuns,
    /// `None` where nobody knows what runs.
    pub(super) running: Option<&'a BTreeMap<Slug, Vec<RunId>>>,
    pub(super) holds: &'a Holds,
    /// The runs of today, where they can be read.
    pub(super) today: Option<&'a RecentRuns>,
}

impl Now<'_> {
    fn world(&self, home_snoozed_until: Option<UnixSeconds>) -> u64 {
        let mark = Mark::default().fact(&home_snoozed_until).fact(&MachineMark::now()).fact(&self.calendar.midnight());
        mark.file(&self.context.home.config_file()).fingerprint()
    }

    fn made_from(&self, summary: &Arc<Summary>, facts: Option<&RoutineFacts>, world: u64) -> MadeFrom {
        let slug = summary.slug();
        MadeFrom {
            summary: Arc::clone(summary),
            running: self.running_of(slug).map(<[_]>::to_vec),
            past: self.past.of(slug).map_or(0, |past| past.revision),
            hold: facts.and_then(|facts| self.holds.of(&facts.agent).cloned()),
            used: facts.and_then(|facts| self.used(slug, facts)),
            world,
        }
    }

    fn running_of(&self, slug: &Slug) -> Option<&[RunId]> {
        self.running.map(|running| running.get(slug).map(Vec::as_slice).unwrap_or_default())
    }

    fn used(&self, slug: &Slug, facts: &RoutineFacts) -> Option<Used> {
        let today = self.today.filter(|_| facts.ceilings.is_any())?;
        Some(today.used_by(slug, &Day::of_routine(facts.timezone.as_deref(), self.now)))
    }

    fn show(&self, slug: &Slug, home_snoozed_until: Option<UnixSeconds>) -> Option<(Row, RoutineFacts, UnixSeconds)> {
        let Context { home, config, .. } = self.context;
        let now = self.now;
        let (definition, schedule) = store::load_with_schedule(home, slug).ok()?;
        let ledger = Ledger::read(home, slug);
        let firing = Firing::of(&definition, ledger.as_ref(), home_snoozed_until, now);
        let ledger = ledger.ok();
        let coming = ledger.as_ref().zip(schedule.filter(|_| definition.enabled));
        let coming = coming
            .and_then(|(ledger, schedule)| ComingFires::of(&definition, schedule, ledger, home_snoozed_until, now));
        let (next_fires, fires_per_day) = coming.map_or_else(Default::default, |coming| self.coming(&coming));
        let hold = self.holds.of(&definition.agent);
        let waiting = ledger.as_ref().and_then(|ledger| ledger.waiting.as_ref());
        let waiting_until = waiting.map(|waiting| hold::start_at(hold, waiting, slug));
        let (ceilings, day) = (Ceilings::of(&definition), Day::of_routine(definition.timezone.as_deref(), now));
        let today = self.today.filter(|_| ceilings.is_any());
        let disabled_because = ledger.as_ref().and_then(|ledger| ledger.disabled_because.clone());
        let disabled_because = disabled_because.filter(|_| !definition.enabled);
        let none = RoutinePast::default();
        let past = self.past.of(slug).unwrap_or(&none);
        let row = RoutineRow {
            slug,
            title: &definition.title,
            agent: &definition.agent,
            enabled: definition.enabled,
            disabled_because: disabled_because.as_deref(),
            schedule_description: firing.schedule_description.as_deref(),
            timezone: firing.timezone.as_deref(),
            schedule_problem: firing.schedule_problem.as_deref(),
            snoozed_until: firing.snoozed_until,
            waiting: waiting.map(|waiting| in_words(slug, waiting, hold, now)),
            waiting_until,
            running: self.running_of(slug),
            next_fires: &next_fires,
            fires_per_day,
            earlier_per_day: self.past.ended.earlier.get(slug).map(Vec::as_slice),
            recent: past.recent.iter().collect(),
            success_rate: past.success_rate(),
            median_secs: past.median_secs(),
            cost_usd_7d: self.past.cost_of(slug),
            used_today: today.map(|today| UsedToday::of(&ceilings, &today.used_by(slug, &day), &day)),
            tags: &definition.tags,
        };
        let over = today.and_then(|today| over_own(home, slug, &ceilings, definition.timezone.as_deref(), today, now));
        let facts = RoutineFacts {
            title: definition.title.clone(),
            agent: definition.agent.clone(),
            enabled: definition.enabled,
            bounds: Bounds::decide(RoutineState::Present(&definition), config),
            next_fire: next_fires.first().copied(),
            disabled_because: disabled_because.clone(),
            last_missed: ledger.as_ref().and_then(|ledger| ledger.last_missed.clone()),
            over_budget: over.map(|over| over.to_string()),
            ceilings,
            timezone: definition.timezone.clone(),
        };
        let hold_ends = hold.map(|hold| hold.held_until).filter(|_| waiting.is_some());
        let moments = [
            next_fires.first().copied(),
            waiting_until,
            firing.snoozed_until,
            hold_ends,
            Some(self.calendar.midnight()),
        ];
        let until = moments.into_iter().flatten().filter(|moment| *moment > now).min();
        // A routine with such an end of the day may be in another zone.
        let until = until.unwrap_or(now).min(if ceilings.is_any() { day.end } else { UnixSeconds(u64::MAX) });
        Some((Row::of(slug.as_str(), &row).ok()?, facts, until))
    }

    /// Returns the next fires: those of the coming days, or one if it is further ahead; and how many there are on each day.
    fn coming(&self, coming: &ComingFires) -> (Vec<UnixSeconds>, Option<Vec<u64>>) {
        let until = self.calendar.coming.get(FIRES_DAYS).map_or(self.now, |day| day.start);
        let soon = coming.until(until, MAX_FIRES);
        let next = if soon.is_empty() { coming.next(1) } else { soon };
        let per_day = coming.by_day(&self.calendar.coming);
        (next, per_day.iter().any(|count| *count > 0).then_some(per_day))
    }
}

impl Routines {
    /// Looks at the routines, and makes the rows of those that are not what they were.
    ///
    /// # Errors
    /// They cannot be listed.
    pub(super) fn refresh(&mut self, look: &Now<'_>) -> Result<(), FileError> {
        let Context { home, routines, .. } = look.context;
        let known = routines.refresh(home, Look::Share)?;
        let home_snoozed_until = HomeSnooze::until(home, look.now);
        let world = look.world(home_snoozed_until);
        let mut has_changed = self.known.len() != known.summaries.len();
        let mut before = std::mem::take(&mut self.known);
        for summary in &known.summaries {
            let slug = summary.slug();
            let old = before.remove(slug);
            let facts = old.as_ref().and_then(|old| Some(&old.shown.as_ref()?.1));
            let made_from = look.made_from(summary, facts, world);
            let kept = match old {
                Some(old) if look.now < old.until && old.made_from.is_as(&made_from) => old,
                _ => {
                    let shown = look.show(slug, home_snoozed_until);
                    let facts = shown.as_ref().map(|(_, facts, _)| facts);
                    let made_from = look.made_from(summary, facts, world);
                    let until = shown.as_ref().map_or(UnixSeconds(u64::MAX), |(_, _, until)| *until);
                    has_changed = true;
                    KnownRoutine { made_from, until, shown: shown.map(|(row, facts, _)| (row, facts)) }
                }
            };
            self.known.insert(slug.clone(), kept);
        }
        if has_changed {
            self.revision += 1;
            let rows = self.known.values().filter_map(|known| known.shown.as_ref().map(|(row, _)| row.clone()));
            self.content = Content::of(rows.collect());
        }
        Ok(())
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = (&Slug, &RoutineFacts)> {
        self.known.iter().filter_map(|(slug, known)| known.shown.as_ref().map(|(_, facts)| (slug, facts)))
    }

    pub(super) fn facts_of(&self, slug: &Slug) -> Option<&RoutineFacts> {
        self.known.get(slug)?.shown.as_ref().map(|(_, facts)| facts)
    }

    /// Returns how long a question of a routine waits for an answer, also of one that is gone.
    pub(super) fn answer_within_secs(&self, context: &Context, slug: &Slug) -> u64 {
        let read = || Bounds::of(&context.home, &context.config, slug).answer_within_secs;
        self.facts_of(slug).map_or_else(read, |facts| facts.bounds.answer_within_secs)
    }
}

#[cfg(test)]
impl RoutineFacts {
    pub(super) fn example(title: &str) -> Self {
        Self {
            title: title.into(),
            agent: "claude".into(),
            enabled: true,
            bounds: Bounds::decide(RoutineState::Gone, &crate::home::config::Config::default()),
            next_fire: None,
            disabled_because: None,
            last_missed: None,
            over_budget: None,
            ceilings: Ceilings::default(),
            timezone: None,
        }
    }
}
