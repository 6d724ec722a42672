//! What the history says, kept up to date by its new lines alone.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use serde::Serialize;

use super::calendar::Calendar;
use super::ended::Ended;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::money::MicroDollars;
use crate::query::usage::Use;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::history::{Line, Lines, Position, UnreadLine};
use crate::run::id::RunId;
use crate::run::record::Outcome;
use crate::run::status::{Status, Streak};

/// How many of a routine's newest runs are shown.
pub(super) const RECENT: usize = 20;

#[derive(Debug, Default)]
pub(super) struct PastRuns {
    position: Position,
    /// The days by which it was summed up.
    calendar: Option<Calendar>,
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

#[derive(Debug, Default)]
struct DayUse {
    total: Use,
    costs: HashMap<Slug, MicroDollars>,
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

    /// Returns its newest runs that failed, back to the last that did not, the newest first.
    pub(super) fn failed_in_a_row(&self) -> impl Iterator<Item = &RecentRun> {
        let judged = self.recent.iter().rev().filter(|run| run.status.streak() != Streak::Keep);
        judged.take_while(|run| run.status.streak() == Streak::Extend)
    }

    fn add(&mut self, id: RunId, line: &Line, is_within: bool, revision: u64) {
        if is_within {
            let is_good = line.status().streak() == Streak::Reset;
            self.good += u64::from(is_good);
            self.judged += u64::from(is_good || line.status().is_failure());
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
    /// Takes in what was added to the history since the last time. Lines are read after the history is let go: triggers wait for
    /// it.
    ///
    /// # Errors
    /// The history cannot be read.
    pub(super) fn refresh(&mut self, context: &Context, calendar: &Calendar) -> Result<(), FileError> {
        let lines = context.history.read(&context.home)?;
        let position = lines.position();
        let is_another_day = self.calendar.as_ref() != Some(calendar);
        if position == self.position && !is_another_day {
            return Ok(());
        }
        self.revision += 1;
        let unread = self.take_in(&lines, calendar, is_another_day);
        drop(lines);
        self.position = position;
        self.calendar = Some(calendar.clone());
        let mut unreadable = Vec::new();
        for Wanted { line, of_week, of_ended } in unread {
            let Some(past) = line.read() else {
                unreadable.push(line);
                continue;
            };
            if of_week {
                self.used.entry(calendar.day_of(line.run().stamp())).or_default().add(&past.outcome);
            }
            if of_ended {
                self.ended.add(past.outcome);
            }
        }
        // Health reports them, and the next look reads all that is left.
        context.history.drop_unreadable(&unreadable, &self.position);
        Ok(())
    }

    /// Counts the lines that are new, and returns those that are to be read.
    fn take_in(&mut self, lines: &Lines, calendar: &Calendar, is_another_day: bool) -> Vec<Wanted> {
        let (month, week) = (calendar.month(), calendar.week());
        let added = lines.added_since(&self.position);
        if added.is_none() {
            // Files went: what was read of them went too.
            self.ended.runs.clear();
        }
        let news = added.filter(|_| !is_another_day);
        if news.is_none() {
            self.used.clear();
            self.routines.clear();
        }
        let whole = if news.is_none() { all(lines) } else { Vec::new() };
        let added = news.as_deref().unwrap_or(&whole);
        added.iter().for_each(|line| self.count(lines, line, month));
        let of_run = |line: &Line| (line.stamp(), lines.routine(line));
        let of_week: HashSet<_> = added.iter().filter(|line| line.stamp() >= week).map(of_run).collect();
        for routine in self.ended.summarize(lines, calendar, news.as_deref()) {
            if let Some(past) = self.routines.get_mut(&routine) {
                past.revision = self.revision;
            }
        }
        let since = self.ended.since;
        let newest_first = lines.newest_first().take_while(|line| line.stamp() >= since.min(week));
        let wanted = newest_first.filter_map(|line| {
            let of_week = of_week.contains(&of_run(line));
            let line = lines.unread(line)?;
            let of_ended = line.run().stamp() >= since && !self.ended.runs.contains_key(line.run());
            (of_week || of_ended).then_some(Wanted { line, of_week, of_ended })
        });
        wanted.collect()
    }

    fn count(&mut self, lines: &Lines, line: &Line, since: UnixSeconds) {
        let routine = lines.routine(line);
        let id = RunId::new(routine.clone(), line.stamp());
        let revision = self.revision;
        self.routines.entry(routine.clone()).or_default().add(id, line, line.stamp() >= since, revision);
    }

    pub(super) fn of(&self, routine: &Slug) -> Option<&RoutinePast> {
        self.routines.get(routine)
    }

    /// Returns what the runs of the last 7 days used.
    pub(super) fn used(&self) -> Use {
        let mut total = Use::default();
        self.used.values().for_each(|day| total.merge(&day.total));
        total
    }

    /// Returns what the runs of a routine cost in the last 7 days; `None` if that is known of none.
    pub(super) fn cost_of(&self, routine: &Slug) -> Option<MicroDollars> {
        self.used.values().filter_map(|day| day.costs.get(routine).copied()).reduce(MicroDollars::plus)
    }
}

/// A line still to read, and what for.
struct Wanted {
    line: UnreadLine,
    of_week: bool,
    of_ended: bool,
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
        if let Some(cost) = outcome.cost().filter(|cost| cost.0 > 0) {
            let sum = self.costs.entry(outcome.id.routine().clone()).or_default();
            *sum = sum.plus(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::data::ended::DayCount;
    use crate::home::Home;
    use crate::home::config::Config;
    use crate::run::context::Program;
    use crate::run::history::{self, Known};

    #[test]
    fn the_middle_is_of_the_runs_that_started() {
        assert_eq!([vec![], vec![5], vec![9, 1], vec![3, 100, 1]].map(median), [None, Some(5), Some(5), Some(3)]);
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
                (routines, ended.since, ended.runs.clone(), ended.older_total, ended.earlier.clone(), past.used())
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
        assert_eq!(fixture.past.of(&"b".parse().unwrap()).unwrap().failed_in_a_row().count(), 2);
        assert_eq!((fixture.past.ended.runs.len(), fixture.past.ended.older_total), (31, 1));
        let revision = fixture.past.revision;
        fixture.refresh();
        assert_eq!(fixture.past.revision, revision, "nothing was added");
        // The clock was wrong for a while, or the time zone was.
        for days in [20, 3, -3, 0, 1, 2, 0] {
            let moment = now.checked_add_signed(days * 24 * 60 * 60).unwrap();
            fixture.calendar = Calendar::at(UnixSeconds(moment));
            fixture.refresh();
            fixture.assert_as_new();
        }
        assert_eq!(fixture.past.used().runs, 31, "of a week, each once");
    }

    #[test]
    fn runs_that_are_too_many_for_rows_are_counted_by_routine_and_day() {
        let mut fixture = Fixture::new();
        // The period with rows begins with an hour, and one run more does not move it.
        let now = UnixSeconds::now().0 / 3_600 * 3_600 - 1_800;
        let line = |n: u64| {
            let status = if n.is_multiple_of(3) { Status::Failed } else { Status::Succeeded };
            let routine = if n.is_multiple_of(2) { "a" } else { "b" };
            serde_json::to_string(&Outcome::example(&format!("{routine}-{}", now - n * 600), status)).unwrap() + "\n"
        };
        // More than 15 days.
        let lines: String = (0..2_200).rev().map(line).collect();
        std::fs::write(fixture.context.home.history_file(), lines).unwrap();
        fixture.refresh();
        fixture.assert_as_new();
        let sums = |past: &PastRuns| {
            let of = |slug: &str| past.ended.earlier.get(slug).unwrap().clone();
            let sum = |days: &[DayCount], count: fn(&DayCount) -> u64| days.iter().map(count).sum::<u64>();
            [of("a"), of("b")].map(|days| (days.len(), sum(&days, |day| day.runs), sum(&days, |day| day.bad)))
        };
        let [(days, a, a_bad), (_, b, _)] = sums(&fixture.past);
        assert_eq!((a + b) as usize, 2_200 - fixture.past.ended.runs.len());
        assert!(
            (15..=17).contains(&days) && a.abs_diff(b) <= 1 && a.abs_diff(a_bad * 3) <= 2,
            "{days} {a} {a_bad} {b}"
        );

        let before = fixture.past.of(&"b".parse().unwrap()).unwrap().revision;
        fixture.add(&format!("a-{}", now + 1), Status::Failed);
        fixture.refresh();
        assert_eq!(fixture.past.of(&"b".parse().unwrap()).unwrap().revision, before, "nothing changed for it");
        fixture.add(&format!("b-{}", now - 600 * 2_190 + 1), Status::Failed);
        fixture.refresh();
        fixture.assert_as_new();
        assert_eq!(sums(&fixture.past)[1].1, b + 1, "one that took long");
    }

    #[test]
    fn the_history_is_free_while_its_lines_are_read() {
        let mut fixture = Fixture::new();
        fixture.add(&format!("a-{}", UnixSeconds::now().0 - 10), Status::Succeeded);
        let history = &fixture.context.history;
        let lines = history.read(&fixture.context.home).unwrap();
        let wanted = fixture.past.take_in(&lines, &fixture.calendar, true);
        drop(lines);
        // Its file gets another name meanwhile, and its line is read all the same.
        std::fs::rename(fixture.context.home.history_file(), fixture.context.home.root().join("history.7.jsonl"))
            .unwrap();
        assert_eq!(wanted.iter().filter(|wanted| wanted.line.read().is_some()).count(), 1);
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
        assert_eq!(fixture.past.ended.runs.len(), 2);
        let Fixture { context, .. } = &fixture;
        assert_eq!(
            context.history.read(&context.home).unwrap().damaged(),
            1,
            "it is one line, of a week and of a month"
        );
    }
}
