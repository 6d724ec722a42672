//! The runs that have ended, and whether their workbenches are still there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::calendar::Calendar;
use super::content::{Content, Row};
use super::on_disk::OnDisk;
use super::routines::Routines;
use crate::agent::output::Needs;
use crate::clock::UnixSeconds;
use crate::git::Work;
use crate::home::Home;
use crate::money::MicroDollars;
use crate::query::view::RunView;
use crate::quote::shortened;
use crate::routine::bounds::Bounds;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::disagreement::Disagreement;
use crate::run::history::{Line, Lines};
use crate::run::id::RunId;
use crate::run::question::state::{is_unsettled, read_close};
use crate::run::record::Outcome;
use crate::run::retention::{Newest, finish, reap_at};
use crate::run::status::Status;

/// How many ended runs have a row.
const MAX_ENDED: usize = 2_000;
const MAX_REASON_CHARS: usize = 200;
const HOUR_SECS: u64 = 60 * 60;

/// The newest ended runs, and how many are older.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// What was triggered before is not among the runs.
    pub(super) since: UnixSeconds,
    pub(super) runs: BTreeMap<RunId, EndedRun>,
    pub(super) older_total: usize,
    /// Of the older ones, how many of a routine there were on each of the last days: today first, then the days before.
    pub(super) earlier: HashMap<Slug, Vec<DayCount>>,
}

/// How many runs of a day ended, and how many of them badly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct DayCount {
    pub(super) runs: u64,
    pub(super) bad: u64,
}

/// How a run ended, as far as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndedRun {
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) agent: String,
    pub(super) triggered_at: UnixSeconds,
    pub(super) finished_at: UnixSeconds,
    pub(super) retain_from: UnixSeconds,
    pub(super) duration_secs: Option<u64>,
    pub(super) verified: Option<bool>,
    pub(super) disagreements: Vec<Disagreement>,
    pub(super) headline: Option<String>,
    pub(super) cost_usd: Option<MicroDollars>,
    pub(super) is_unsaved: bool,
    pub(super) needs_login: bool,
    /// The name of its workbench, if that was made for another run.
    pub(super) workbench: Option<RunId>,
}

impl EndedRun {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self {
            cost_usd: outcome.cost(),
            duration_secs: outcome.duration_secs(),
            is_unsaved: outcome.work.iter().any(Work::is_unsaved),
            needs_login: outcome.output.as_ref().is_some_and(|output| output.needs == Some(Needs::Login)),
            status: outcome.status,
            reason: outcome.reason.map(|reason| shortened(&reason, MAX_REASON_CHARS)),
            agent: outcome.agent,
            triggered_at: outcome.triggered_at,
            finished_at: outcome.finished_at,
            retain_from: outcome.retain_from,
            verified: outcome.verified,
            disagreements: outcome.disagreements,
            headline: outcome.report.map(|report| report.headline),
            workbench: outcome.workbench,
        }
    }
}

impl From<RunView> for EndedRun {
    fn from(run: RunView) -> Self {
        let finished_at = run.finished_at.unwrap_or(run.triggered_at);
        Self {
            status: run.own_status(),
            reason: run.status_reason.map(|reason| shortened(&reason, MAX_REASON_CHARS)),
            agent: String::new(),
            triggered_at: run.triggered_at,
            finished_at,
            retain_from: finished_at,
            duration_secs: run.duration_secs,
            verified: run.verified,
            disagreements: run.disagreements,
            headline: run.report.map(|report| report.headline),
            cost_usd: run.output.as_ref().and_then(|output| output.usage.as_ref()?.cost_usd),
            is_unsaved: run.work.iter().any(Work::is_unsaved),
            needs_login: false,
            workbench: None,
        }
    }
}

impl Ended {
    /// Moves the start of the period, and counts older runs again unless neither it nor any older line is new (`added`). Returns
    /// the routines whose counts changed.
    pub(super) fn summarize(&mut self, lines: &Lines, calendar: &Calendar, added: Option<&[Line]>) -> Vec<Slug> {
        let since = since(lines.newest_first().map(Line::stamp), calendar.month());
        self.runs.retain(|run, _| run.stamp() >= since);
        let are_new = |added: &[Line]| added.iter().all(|line| line.stamp() >= since);
        if since == self.since && added.is_some_and(are_new) {
            return Vec::new();
        }
        (self.since, self.older_total) = (since, 0);
        let mut before = std::mem::take(&mut self.earlier);
        for line in lines.newest_first().skip_while(|line| line.stamp() >= since) {
            self.older_total += 1;
            if line.stamp() >= calendar.month() {
                let days = self.earlier.entry(lines.routine(line).clone()).or_default();
                let day = calendar.days_before_today(line.stamp());
                days.resize(days.len().max(day + 1), DayCount::default());
                days[day].add(line.status());
            }
        }
        let changed = self.earlier.iter().filter(|(slug, days)| before.remove(*slug).as_ref() != Some(*days));
        let mut changed: Vec<Slug> = changed.map(|(slug, _)| slug.clone()).collect();
        changed.extend(before.into_keys());
        changed
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.runs.insert(outcome.id.clone(), EndedRun::of(outcome));
    }
}

impl DayCount {
    fn add(&mut self, status: Status) {
        self.runs += 1;
        self.bad += u64::from(status.is_failure());
    }
}

/// Returns since when runs have a row, so that there are not too many: since the start of an hour, so that this does not change with
/// each run.
fn since(newest_first: impl Iterator<Item = UnixSeconds>, month: UnixSeconds) -> UnixSeconds {
    let mut newest = None;
    for (count, stamp) in newest_first.take_while(|stamp| *stamp >= month).enumerate() {
        let newest = *newest.get_or_insert(stamp);
        if count == MAX_ENDED {
            let hour = UnixSeconds((stamp.0 / HOUR_SECS + 1) * HOUR_SECS);
            // All of them may be of one hour.
            return if hour <= newest { hour } else { stamp.plus_secs(1) };
        }
    }
    month
}

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct EndedRow<'a> {
    id: &'a RunId,
    routine: &'a Slug,
    status: Status,
    reason: Option<&'a str>,
    triggered_at: UnixSeconds,
    finished_at: UnixSeconds,
    duration_secs: Option<u64>,
    verified: Option<bool>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    disagreements: &'a [Disagreement],
    headline: Option<&'a str>,
    cost_usd: Option<MicroDollars>,
    reap_at: Option<UnixSeconds>,
    reaped: Option<bool>,
    pinned: Option<bool>,
    unsaved: Option<bool>,
    archived: Option<bool>,
}

#[derive(Serialize)]
struct EndedHead {
    since: UnixSeconds,
    older_total: usize,
}

/// `unrecorded` are runs that the history does not have.
///
/// # Errors
/// A row cannot be written as JSON.
pub(super) fn content(
    context: &Context,
    ended: &Ended,
    unrecorded: &BTreeMap<RunId, EndedRun>,
    on_disk: &OnDisk,
    routines: &Routines,
) -> serde_json::Result<Content> {
    let mut bounds = BoundsOfRoutines { home: &context.home, context, routines, others: HashMap::new() };
    let all: BTreeMap<&RunId, &EndedRun> = ended.runs.iter().chain(unrecorded).collect();
    let newest_first: Vec<(&RunId, &EndedRun)> = all.into_iter().rev().collect();
    let kept = kept_as_newest(&newest_first, on_disk, |routine| bounds.of(routine).keep_last);
    let now = UnixSeconds::now();
    let mut rows = Vec::with_capacity(newest_first.len());
    for (id, run) in newest_first {
        let workbench = on_disk.name_of(id, run.workbench.as_ref());
        let is_there = on_disk.workbenches.contains(id);
        let is_pinned = is_there && on_disk.pins.contains(workbench);
        // The newest run of a workbench says what it holds, and when it goes.
        let is_newest = is_there && !on_disk.is_continued(id);
        let retain_from = (is_newest && !is_pinned && !kept.contains(id)).then(|| retain_from(&context.home, id, run));
        let reap_at = retain_from.flatten().map(|retain_from| {
            let finish = finish(id.stamp(), Some(retain_from), None, now);
            reap_at(finish, bounds.of(id.routine()).retention_secs(run.status.retention()))
        });
        let row = EndedRow {
            id,
            routine: id.routine(),
            status: run.status,
            reason: run.reason.as_deref(),
            triggered_at: run.triggered_at,
            finished_at: run.finished_at,
            duration_secs: run.duration_secs,
            verified: run.verified,
            disagreements: &run.disagreements,
            headline: run.headline.as_deref(),
            cost_usd: run.cost_usd,
            reap_at,
            reaped: (!is_there).then_some(true),
            pinned: is_pinned.then_some(true),
            unsaved: (is_newest && run.is_unsaved).then_some(true),
            archived: on_disk.archives.contains(workbench).then_some(true),
        };
        rows.push(Row::of(id.to_string(), &row)?);
    }
    Content::of(rows).with_head(&EndedHead { since: ended.since, older_total: ended.older_total })
}

/// Returns from when the workbench of an ended run is kept; `None` while its question waits for an answer, or may.
fn retain_from(home: &Home, id: &RunId, run: &EndedRun) -> Option<UnixSeconds> {
    if run.status != Status::Asked {
        return Some(run.retain_from);
    }
    let close = read_close(home, id).ok().flatten().filter(|_| !is_unsettled(home, id))?;
    Some(close.at.max(run.retain_from))
}

/// Returns the runs whose workbenches stay whatever their age, because they are among the newest of their routine. A workbench counts
/// once, by its name and its newest run.
fn kept_as_newest<'a>(
    newest_first: &[(&'a RunId, &EndedRun)],
    on_disk: &OnDisk,
    mut keep_last: impl FnMut(&Slug) -> u64,
) -> BTreeSet<&'a RunId> {
    let of_workbenches = newest_first.iter().filter(|(id, _)| on_disk.workbenches.contains(*id));
    let newest_of_each = of_workbenches.filter(|(id, _)| !on_disk.is_continued(id));
    let mut workbenches: Vec<_> =
        newest_of_each.map(|(id, run)| (on_disk.name_of(id, run.workbench.as_ref()), *id, *run)).collect();
    workbenches.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    let mut newest: HashMap<&Slug, Newest> = HashMap::new();
    let mut kept = BTreeSet::new();
    for (_, id, run) in workbenches {
        let newest = newest.entry(id.routine()).or_insert_with(|| Newest::of(keep_last(id.routine())));
        if newest.takes_status(run.status) {
            kept.insert(id);
        }
    }
    kept
}

/// The bounds of routines, also of those that are gone.
struct BoundsOfRoutines<'a> {
    home: &'a Home,
    context: &'a Context,
    routines: &'a Routines,
    others: HashMap<Slug, Bounds>,
}

impl BoundsOfRoutines<'_> {
    fn of(&mut self, routine: &Slug) -> &Bounds {
        match self.routines.facts_of(routine) {
            Some(facts) => &facts.bounds,
            None => {
                let read = || Bounds::of(self.home, &self.context.config, routine);
                self.others.entry(routine.clone()).or_insert_with(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::context::App;
    use crate::run::continuation::{self, Continuation};
    use crate::run::pin;
    use crate::run::question::state::{Close, QuestionState};
    use crate::run::{question, workbench::Workbench};

    #[test]
    fn the_period_of_ended_runs_begins_with_an_hour_and_has_not_too_many() {
        let month = UnixSeconds(1_000_000);
        let stamps = |step: u64, count: u64| (0..count).map(move |n| UnixSeconds(10_000_000 - n * step));
        assert_eq!(since(stamps(60, 2_000), month), month);
        let cut = since(stamps(60, 2_001), month);
        assert_eq!(cut.0 % HOUR_SECS, 0);
        let rows = stamps(60, 2_001).filter(|stamp| *stamp >= cut).count();
        assert!((1_900..=2_000).contains(&rows), "{rows}");
        let cut = since(stamps(2, 9_000), month);
        let rows = stamps(2, 9_000).filter(|stamp| *stamp >= cut).count();
        assert!(cut.0 % HOUR_SECS == 0 && rows <= MAX_ENDED, "{cut} {rows}");
        let dense = since((0..9_000).map(|n| UnixSeconds(3_600_000 * 3 + 3_599 - n / 5)), month);
        assert!((0..9_000).filter(|n| 3_600_000 * 3 + 3_599 - n / 5 >= dense.0).count() <= MAX_ENDED);
        assert_eq!(since(std::iter::empty(), month), month);
    }

    #[test]
    fn the_newest_with_a_workbench_stay_those_that_succeeded_and_the_others_apart() {
        let runs: Vec<(RunId, EndedRun)> = [
            ("a-9", Status::Succeeded),
            ("a-8", Status::Failed),
            ("a-7", Status::Succeeded),
            ("a-6", Status::Limited),
            ("a-5", Status::Succeeded),
            ("b-4", Status::Failed),
        ]
        .map(|(id, status)| (id.parse().unwrap(), EndedRun::of(Outcome::example(id, status))))
        .into();
        let newest_first: Vec<(&RunId, &EndedRun)> = runs.iter().map(|(id, run)| (id, run)).collect();
        let workbenches = runs.iter().map(|(id, _)| id.clone()).filter(|id| id.to_string() != "a-9").collect();
        let on_disk = OnDisk { workbenches, ..OnDisk::default() };
        let kept = kept_as_newest(&newest_first, &on_disk, |routine| u64::from(routine.as_str() == "a"));
        assert_eq!(kept.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a-7", "a-8"]);
    }

    #[test]
    fn a_workbench_in_which_runs_went_on_counts_once_by_its_name_and_its_newest_run() {
        let [first, next, other] = ["a-1", "a-9", "a-5"].map(|id| id.parse::<RunId>().unwrap());
        let runs = [&next, &other, &first].map(|id| EndedRun::of(Outcome::example(&id.to_string(), Status::Succeeded)));
        let newest_first: Vec<(&RunId, &EndedRun)> = [&next, &other, &first].into_iter().zip(&runs).collect();
        let mut on_disk = OnDisk { workbenches: [&first, &other].map(RunId::clone).into(), ..OnDisk::default() };
        on_disk.go_on(&next, &first, &first);
        assert!(kept_as_newest(&newest_first, &on_disk, |_| 1).into_iter().eq([&other]), "it is older than that");
        assert!(kept_as_newest(&newest_first, &on_disk, |_| 2).into_iter().eq([&other, &next]));
    }

    #[test]
    fn pins_archives_and_the_end_of_a_workbench_are_those_of_its_newest_run() {
        let (_dir, app) = App::example();
        let (context, home) = (app.context_for_looking(), &app.home);
        let now = UnixSeconds::now().0;
        let [first, next, asks] = [50, 40, 30].map(|ago| RunId::new("a".parse().unwrap(), UnixSeconds(now - ago)));
        let outcome = |id: &RunId, status| Outcome::example(&id.to_string(), status);
        let mut ended = Ended::default();
        ended.add(outcome(&first, Status::Asked));
        ended.add(Outcome { workbench: Some(first.clone()), ..outcome(&next, Status::Succeeded) });
        ended.add(outcome(&asks, Status::Asked));
        let routines = Routines::default();
        let rows = || {
            let on_disk = OnDisk::read(home).unwrap();
            let content = content(&context, &ended, &BTreeMap::new(), &on_disk, &routines).unwrap();
            let rows = content.rows().iter().map(|row| serde_json::from_str(row.json.get()).unwrap());
            rows.rev().collect::<Vec<serde_json::Value>>()
        };
        let facts = |name: &str| rows().iter().map(|row| row.get(name).is_some()).collect::<Vec<_>>();
        assert_eq!(facts("reaped"), [true, true, true]);

        for workbench in [&first, &asks] {
            Workbench::named(home, workbench).make().unwrap();
        }
        let continuation = Continuation::now(&next, &first, &first);
        assert!(continuation.create(home).unwrap());
        continuation.link(home).unwrap();
        assert_eq!((facts("reaped"), facts("reap_at")), (vec![false; 3], vec![false, true, false]));
        let close = Close { at: UnixSeconds(now + 7), ..Close::now(&asks, QuestionState::Expired, None, "janitor") };
        assert!(question::state::close(home, &close).unwrap());
        assert_eq!(facts("reap_at"), [false, true, true]);

        pin::pin(home, &next).unwrap();
        assert_eq!((facts("pinned"), facts("reap_at")), (vec![true, true, false], vec![false, false, true]));
        std::fs::create_dir_all(home.archive().join(first.to_string())).unwrap();
        assert_eq!(facts("archived"), [true, true, false]);
        std::fs::remove_dir(Workbench::named(home, &first).directory()).unwrap();
        continuation::withdraw(home, &next, &first).unwrap();
        assert_eq!((facts("archived"), facts("reaped")), (vec![true, true, false], vec![true, true, false]));
    }
}
