//! What the history says, kept up to date by its new lines alone.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use crate::agent::output::Needs;
use crate::clock::UnixSeconds;
use crate::git::Work;
use crate::home::atomic_file::FileError;
use crate::money::MicroDollars;
use crate::query::usage::Use;
use crate::query::view::RunView;
use crate::quote::shortened;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::disagreement::Disagreement;
use crate::run::history::{Line, Lines, Seen};
use crate::run::id::RunId;
use crate::run::record::Outcome;
use crate::run::status::{Status, Tone};

use super::calendar::Calendar;

/// How many ended runs have a row.
const MAX_ENDED: usize = 2_000;
/// How many of a routine's newest runs are shown.
pub(super) const RECENT: usize = 20;
const MAX_REASON_CHARS: usize = 200;
const HOUR_SECS: u64 = 60 * 60;

#[derive(Debug, Default)]
pub(super) struct PastRuns {
    seen: Seen,
    /// The first days of the periods that were summed up.
    since: UnixSeconds,
    week: UnixSeconds,
    /// How many lines there are, one a run.
    pub(super) total: usize,
    routines: HashMap<Slug, RoutinePast>,
    pub(super) ended: Ended,
    /// What the runs of each of the last days used, by the first second of the day.
    used: BTreeMap<UnixSeconds, DayUse>,
    /// Grows with each change.
    pub(super) revision: u64,
}

/// The runs of a routine that ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RoutinePast {
    /// The newest, the newest last.
    pub(super) recent: VecDeque<RecentRun>,
    /// How many of the last days succeeded, and how many of those that succeeded or failed there are.
    pub(super) good: u64,
    pub(super) judged: u64,
    pub(super) revision: u64,
}

#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RecentRun {
    pub(super) id: RunId,
    pub(super) status: Status,
    pub(super) duration_secs: Option<u64>,
}

/// The newest ended runs, and how many are older.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// What was triggered before is not among the runs.
    pub(super) since: UnixSeconds,
    pub(super) runs: BTreeMap<RunId, EndedRun>,
    pub(super) older_total: usize,
    /// Of the older ones, how many of each of the last days.
    pub(super) per_day: BTreeMap<UnixSeconds, DayCount>,
}

/// How the runs of a day ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DayCount {
    pub(super) ok: u64,
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
}

#[derive(Debug, Default)]
struct DayUse {
    total: Use,
    agents: BTreeMap<String, Use>,
    costs: HashMap<Slug, MicroDollars>,
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
        }
    }
}

impl RoutinePast {
    /// Returns which part of the runs that succeeded or failed succeeded.
    pub(super) fn success_rate(&self) -> Option<f64> {
        let thousandths = (self.good * 1_000).checked_div(self.judged)?;
        Some(thousandths as f64 / 1_000.0)
    }

    /// Returns how long its newest runs took in the middle.
    pub(super) fn median_secs(&self) -> Option<u64> {
        median(self.recent.iter().filter_map(|run| run.duration_secs).collect())
    }

    /// Returns how many of its newest runs failed, back to the last that did not.
    pub(super) fn failed_in_a_row(&self) -> usize {
        let judged = self.recent.iter().rev().filter(|run| run.status.tone() == Tone::Good || run.status.is_failure());
        judged.take_while(|run| run.status.is_failure()).count()
    }

    fn add(&mut self, id: RunId, line: &Line, is_within: bool, revision: u64) {
        if is_within {
            self.good += u64::from(line.status().tone() == Tone::Good);
            self.judged += u64::from(line.status().tone() == Tone::Good || line.status().is_failure());
        }
        let run = RecentRun { id, status: line.status(), duration_secs: line.duration_secs() };
        // Runs end in almost the order in which they were triggered.
        let place = self.recent.partition_point(|other| other.id.stamp() < run.id.stamp());
        self.recent.insert(place, run);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.revision = revision;
    }
}

fn median(mut secs: Vec<u64>) -> Option<u64> {
    secs.sort_unstable();
    let middle = secs.len() / 2;
    match secs.len() {
        0 => None,
        odd if odd % 2 == 1 => secs.get(middle).copied(),
        _ => Some(secs.get(middle - 1)?.midpoint(*secs.get(middle)?)),
    }
}

impl PastRuns {
    /// Takes in what was added to the history since the last time.
    ///
    /// # Errors
    /// The history cannot be read.
    pub(super) fn refresh(&mut self, context: &Context, calendar: &Calendar) -> Result<(), FileError> {
        let mut lines = context.history.read(&context.home)?;
        let seen = lines.seen();
        let is_another_day = (self.since, self.week) != (calendar.month(), calendar.week());
        if seen == self.seen && !is_another_day {
            return Ok(());
        }
        self.revision += 1;
        (self.since, self.week) = (calendar.month(), calendar.week());
        let added = lines.added_since(&self.seen).unwrap_or_else(|| {
            // Files went: what was read of them went too.
            self.used.clear();
            self.ended.runs.clear();
            self.routines.clear();
            all(&lines)
        });
        let since = self.since;
        if is_another_day || self.routines.is_empty() {
            self.routines.clear();
            self.total = 0;
            all(&lines).iter().for_each(|line| self.count(&lines, line, since));
        } else {
            added.iter().for_each(|line| self.count(&lines, line, since));
        }
        self.used.retain(|day, _| *day >= calendar.week());
        let mut unreadable = Vec::new();
        for line in added.iter().filter(|line| line.stamp() >= calendar.week()) {
            match lines.past(line) {
                Some(past) => self.used.entry(calendar.day_of(line.stamp())).or_default().add(&past.outcome),
                None => unreadable.push(*line),
            }
        }
        unreadable.extend(self.ended.refresh(&lines, calendar));
        // Health reports them, and the next look reads all that is left.
        unreadable.iter().for_each(|line| lines.drop_unreadable(line));
        self.seen = seen;
        Ok(())
    }

    fn count(&mut self, lines: &Lines, line: &Line, since: UnixSeconds) {
        let routine = lines.routine(line);
        let id = RunId::new(routine.clone(), line.stamp());
        let revision = self.revision;
        self.total += 1;
        self.routines.entry(routine.clone()).or_default().add(id, line, line.stamp() >= since, revision);
    }

    pub(super) fn of(&self, routine: &Slug) -> Option<&RoutinePast> {
        self.routines.get(routine)
    }

    /// Returns what the runs of the last 7 days used: all of them, and by agent.
    pub(super) fn used(&self) -> (Use, BTreeMap<String, Use>) {
        let (mut total, mut agents) = (Use::default(), BTreeMap::<String, Use>::new());
        for day in self.used.values() {
            total.merge(&day.total);
            for (agent, used) in &day.agents {
                agents.entry(agent.clone()).or_default().merge(used);
            }
        }
        (total, agents)
    }

    /// Returns what the runs of a routine cost in the last 7 days; `None` if that is known of none.
    pub(super) fn cost_of(&self, routine: &Slug) -> Option<MicroDollars> {
        self.used.values().filter_map(|day| day.costs.get(routine).copied()).reduce(MicroDollars::plus)
    }
}

/// Returns a line for each run, the oldest first.
fn all(lines: &Lines) -> Vec<Line> {
    let mut all: Vec<Line> = lines.newest_first().copied().collect();
    all.reverse();
    all
}

impl DayUse {
    fn add(&mut self, outcome: &Outcome) {
        if !outcome.status.counts_for_its_day() {
            return;
        }
        self.total.add(outcome);
        self.agents.entry(outcome.agent.clone()).or_default().add(outcome);
        if let Some(cost) = outcome.cost().filter(|cost| cost.0 > 0) {
            let sum = self.costs.entry(outcome.id.routine().clone()).or_default();
            *sum = sum.plus(cost);
        }
    }
}

impl Ended {
    /// Reads the lines of runs that are new; returns those that cannot be read.
    fn refresh(&mut self, lines: &Lines, calendar: &Calendar) -> Vec<Line> {
        let mut unreadable = Vec::new();
        self.since = since(lines.newest_first().map(Line::stamp), calendar.month());
        self.runs.retain(|run, _| run.stamp() >= self.since);
        (self.older_total, self.per_day) = (0, BTreeMap::new());
        for line in lines.newest_first() {
            if line.stamp() < self.since {
                self.older_total += 1;
                if line.stamp() >= calendar.month() {
                    self.per_day.entry(calendar.day_of(line.stamp())).or_default().add(line.status());
                }
                continue;
            }
            let id = RunId::new(lines.routine(line).clone(), line.stamp());
            if let Entry::Vacant(place) = self.runs.entry(id) {
                match lines.past(line) {
                    Some(past) => drop(place.insert(EndedRun::of(past.outcome))),
                    None => unreadable.push(*line),
                }
            }
        }
        unreadable
    }
}

impl DayCount {
    fn add(&mut self, status: Status) {
        self.ok += u64::from(status.tone() == Tone::Good);
        self.bad += u64::from(status.is_failure());
    }
}

/// Returns since when runs have a row, so that there are not too many: since the begin of an hour, so that this does not change with
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::home::config::Config;
    use crate::run::context::Program;
    use crate::run::history::{self, Known};

    #[test]
    fn the_middle_is_of_the_runs_that_started() {
        assert_eq!([vec![], vec![5], vec![9, 1], vec![3, 100, 1]].map(median), [None, Some(5), Some(5), Some(3)]);
    }

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

    struct Fixture {
        _dir: tempfile::TempDir,
        context: Context,
        past: PastRuns,
        calendar: Calendar,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::open(dir.path().join("home")).unwrap();
            let context = Context::of_supervisor(home, Config::default(), Program::current().unwrap());
            Self { _dir: dir, context, past: PastRuns::default(), calendar: Calendar::at(UnixSeconds::now()) }
        }

        fn add(&self, run: &str, status: Status) {
            let outcome = Outcome::example(run, status);
            history::append(&self.context.home, &self.context.config, &outcome, Known::New).unwrap();
        }

        fn refresh(&mut self) {
            self.past.refresh(&self.context, &self.calendar).unwrap();
        }

        /// What a process that has just started knows.
        fn assert_as_new(&self) {
            let mut new = PastRuns::default();
            let context =
                Context::of_supervisor(self.context.home.clone(), Config::default(), Program::current().unwrap());
            // The first look finds the lines that cannot be read.
            new.refresh(&context, &self.calendar).unwrap();
            new.refresh(&context, &self.calendar).unwrap();
            let shown = |past: &PastRuns| {
                let routines: BTreeMap<_, _> = past
                    .routines
                    .iter()
                    .map(|(slug, of)| (slug.clone(), (of.recent.clone(), of.good, of.judged, past.cost_of(slug))))
                    .collect();
                let ended = &past.ended;
                (
                    past.total,
                    routines,
                    ended.since,
                    ended.runs.clone(),
                    ended.older_total,
                    ended.per_day.clone(),
                    past.used(),
                )
            };
            assert_eq!(shown(&self.past), shown(&new));
        }
    }

    #[test]
    fn what_is_taken_in_line_by_line_is_what_a_new_process_reads() {
        let mut fixture = Fixture::new();
        let now = UnixSeconds::now().0;
        fixture.refresh();
        fixture.assert_as_new();
        for n in 0..30 {
            fixture.add(&format!("a-{}", now - 1_000 + n), if n % 3 == 0 { Status::Failed } else { Status::Succeeded });
            fixture.refresh();
        }
        // One that took long, one that is old, and a line that somebody copied.
        fixture.add(&format!("b-{}", now - 2_000), Status::TimedOut);
        fixture.add("b-1000", Status::Failed);
        fixture.add(&format!("a-{}", now - 1_000), Status::Failed);
        fixture.refresh();
        fixture.assert_as_new();
        let a = fixture.past.of(&"a".parse().unwrap()).unwrap();
        assert_eq!((a.recent.len(), a.success_rate()), (RECENT, Some(0.666)));
        assert_eq!(fixture.past.of(&"b".parse().unwrap()).unwrap().failed_in_a_row(), 2);
        assert_eq!((fixture.past.total, fixture.past.ended.older_total), (32, 1));
        let revision = fixture.past.revision;
        fixture.refresh();
        assert_eq!(fixture.past.revision, revision, "nothing was added");
    }

    #[test]
    fn an_edited_history_is_read_again() {
        let mut fixture = Fixture::new();
        let now = UnixSeconds::now().0;
        for n in 0..4 {
            fixture.add(&format!("a-{}", now - 10 + n), Status::Succeeded);
        }
        fixture.refresh();
        let file = fixture.context.home.history_file();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(1);
        let damaged = lines[0].replace("\"agent\":\"", "\"agent\":7,\"x\":\"");
        lines[0] = &damaged;
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        fixture.refresh();
        fixture.refresh();
        fixture.assert_as_new();
        assert_eq!((fixture.past.total, fixture.past.ended.runs.len()), (2, 2));
    }
}
