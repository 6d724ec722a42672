//! Daily ceilings: what the runs of a day come to, and whether another may start.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;

use super::context::Context;
use super::entry::Entry;
use super::history::RunCost;
use super::id::RunId;
use crate::agent::Agent;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::money::MicroDollars;
use crate::routine::ceilings::{Ceilings, MAX_DAILY_COST_USD, MAX_DAILY_RUNS};
use crate::routine::day::Day;
use crate::routine::model::{Definition, Routine};
use crate::routine::slug::Slug;
use crate::routine::store;

/// What the runs of a day come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// All of them, live ones too.
    pub runs: u64,
    pub live_runs: u64,
    /// Those whose cost is not known: live ones, and those that ended without reporting one.
    pub unknown_cost_runs: u64,
    /// The list price of the others.
    pub cost_usd: MicroDollars,
}

impl Used {
    /// Returns what they cost; `None` if that is known of none of them.
    pub fn known_cost_usd(&self) -> Option<MicroDollars> {
        (self.runs == 0 || self.unknown_cost_runs < self.runs).then_some(self.cost_usd)
    }
}

/// The runs that were triggered lately, read once for any number of days and routines.
#[derive(Debug, Default)]
pub struct RecentRuns(HashMap<Slug, Vec<DayRun>>);

#[derive(Debug)]
struct DayRun {
    triggered_at: UnixSeconds,
    is_live: bool,
    cost: Option<MicroDollars>,
}

/// How much later than its trigger a run may be named, because its own second was taken.
const LATER_SECS: u64 = 60 * 60;

/// Longer than any day that has not ended.
const LONGEST_DAY_SECS: u64 = 48 * 60 * 60;

impl RecentRuns {
    /// Reads those of each day that has not ended at `now`, in any zone.
    ///
    /// # Errors
    /// As [`Self::since`].
    pub fn of_today(context: &Context, now: UnixSeconds) -> Result<Self, FileError> {
        Self::since(context, UnixSeconds(now.0.saturating_sub(LONGEST_DAY_SECS)), true)
    }

    /// Reads those that were triggered at `since` or later; their costs are read only if they are asked for.
    ///
    /// # Errors
    /// The folder of entries cannot be listed, or the history cannot be read: nothing is known of the day.
    pub fn since(context: &Context, since: UnixSeconds, with_costs: bool) -> Result<Self, FileError> {
        // Entries first: a run has its line before it loses its entry.
        let entries = Entry::list(&context.home)?;
        let live = entries.iter().map(Entry::id).filter(|run| run.stamp() >= since);
        let mut history = context.history.read(&context.home)?;
        history.check_since(since)?;
        let ended = history.ended_since(since, with_costs);
        drop(history);
        Ok(Self::of(ended, live))
    }

    fn of<'a>(ended: Vec<RunCost>, live: impl Iterator<Item = &'a RunId>) -> Self {
        let recorded: HashSet<&RunId> = ended.iter().map(|run| &run.id).collect();
        let live = live.filter(|run| !recorded.contains(run));
        let live = live.map(|run| (run, DayRun { triggered_at: run.stamp(), is_live: true, cost: None }));
        let counted = ended.iter().filter(|run| run.status.counts_for_its_day());
        let counted =
            counted.map(|run| (&run.id, DayRun { triggered_at: run.id.stamp(), is_live: false, cost: run.cost }));
        let mut runs: HashMap<Slug, Vec<DayRun>> = HashMap::new();
        for (id, run) in live.chain(counted) {
            runs.entry(id.routine().clone()).or_default().push(run);
        }
        Self(runs)
    }

    /// Returns how many of them have not ended.
    pub fn live_runs(&self) -> u64 {
        self.0.values().flatten().map(|run| u64::from(run.is_live)).sum()
    }

    /// Adds up those of one routine on a day.
    pub fn used_by(&self, routine: &Slug, day: &Day) -> Used {
        Self::add_up(self.0.get(routine).into_iter().flatten(), day)
    }

    /// Adds up those of all routines on a day.
    pub fn used_by_all(&self, day: &Day) -> Used {
        Self::add_up(self.0.values().flatten(), day)
    }

    fn add_up<'a>(runs: impl Iterator<Item = &'a DayRun>, day: &Day) -> Used {
        let mut used = Used::default();
        // One that is named after a later second, because its own was taken, may be of the next day already, and counts for both.
        // One that is far ahead was started while the clock was wrong, and is of no day that anybody sees.
        let end = day.end.plus_secs(LATER_SECS);
        for run in runs.filter(|run| run.triggered_at >= day.start && run.triggered_at < end) {
            used.runs += 1;
            used.live_runs += u64::from(run.is_live);
            match run.cost {
                Some(cost) => used.cost_usd = used.cost_usd.plus(cost),
                None => used.unknown_cost_runs += 1,
            }
        }
        used
    }
}

/// A ceiling that a day's runs have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Runs(u64),
    Cost(MicroDollars),
}

fn reached(ceilings: &Ceilings, used: &Used) -> Option<Reached> {
    let runs = ceilings.max_daily_runs.filter(|max| used.runs >= *max).map(Reached::Runs);
    runs.or_else(|| ceilings.max_daily_cost_usd.filter(|max| used.cost_usd >= *max).map(Reached::Cost))
}

/// Another run would exceed what a person allowed for the day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct OverBudget {
    reached: Reached,
    used: Used,
    /// The routine; `None` for all of the home.
    routine: Option<Slug>,
    ends_at: UnixSeconds,
    /// Whose midnight that is; `None` for the machine's.
    timezone: Option<String>,
    /// Where a person wrote the ceiling.
    pub file: PathBuf,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Used { runs, live_runs, unknown_cost_runs, cost_usd } = self.used;
        let whose = self.routine.as_ref().map_or_else(|| "all routines".to_owned(), |slug| format!("'{slug}'"));
        match self.reached {
            Reached::Runs(max) => {
                match runs {
                    1 => write!(f, "daily ceiling reached: 1 run of {whose} was started today")?,
                    _ => write!(f, "daily ceiling reached: {runs} runs of {whose} were started today")?,
                }
                if live_runs > 0 {
                    write!(f, ", {live_runs} of them still alive")?;
                }
                write!(f, ", and {MAX_DAILY_RUNS} is {max}")?;
            }
            Reached::Cost(max) => {
                write!(f, "daily ceiling reached: today's runs of {whose} cost {cost_usd} at list prices")?;
                if unknown_cost_runs > 0 {
                    write!(f, ", not counting {unknown_cost_runs} of unknown cost")?;
                }
                write!(f, ", and {MAX_DAILY_COST_USD} is {}", f64::from(max))?;
            }
        }
        let zone = self.timezone.as_deref().unwrap_or("the machine's time zone");
        write!(f, "; the day ends at {} (midnight in {zone}); ", self.ends_at)?;
        match &self.routine {
            Some(slug) => write!(f, "to allow more, a person runs: moadim-mcp edit {slug}"),
            None => write!(f, "to allow more, a person changes {}", self.file.display()),
        }
    }
}

/// Returns the ceiling that stands against another run of a routine at `now`, if one does: its own, or the home's. The caller
/// holds the routines' lock until the run is claimed.
///
/// # Errors
/// What the day's runs come to is not known.
pub fn over_budget(context: &Context, routine: &Routine, now: UnixSeconds) -> Result<Option<OverBudget>, FileError> {
    let Routine { slug, definition } = routine;
    let (own, home) = (Ceilings::of(definition), Ceilings::of_home(&context.config));
    if !own.is_any() && !home.is_any() {
        return Ok(None);
    }
    let days = [Day::of_routine(definition.timezone.as_deref(), now), Day::of_routine(None, now)];
    let with_costs = own.max_daily_cost_usd.or(home.max_daily_cost_usd).is_some();
    let recent = RecentRuns::since(context, days[0].start.min(days[1].start), with_costs)?;
    let own = over_own(&context.home, slug, &own, definition.timezone.as_deref(), &recent, now);
    Ok(own.or_else(|| over_home(context, &recent, now)))
}

/// Reads the history as far as [`over_budget`] will need it, so that under the lock only what was added since is read.
///
/// # Errors
/// The history cannot be read.
pub fn read_ahead(context: &Context, definition: &Definition) -> Result<(), FileError> {
    if Ceilings::of(definition).is_any() || Ceilings::of_home(&context.config).is_any() {
        drop(context.history.read(&context.home)?);
    }
    Ok(())
}

/// Returns whether a routine has reached a ceiling of its own.
pub fn over_own(
    home: &Home,
    slug: &Slug,
    ceilings: &Ceilings,
    timezone: Option<&str>,
    recent: &RecentRuns,
    now: UnixSeconds,
) -> Option<OverBudget> {
    let day = Day::of_routine(timezone, now);
    let used = recent.used_by(slug, &day);
    let file = store::definition_file(home, slug);
    let (routine, timezone) = (Some(slug.clone()), timezone.map(str::to_owned));
    Some(OverBudget { reached: reached(ceilings, &used)?, used, routine, ends_at: day.end, timezone, file })
}

/// Returns whether all routines together have reached a ceiling of the home.
pub fn over_home(context: &Context, recent: &RecentRuns, now: UnixSeconds) -> Option<OverBudget> {
    let day = Day::of_routine(None, now);
    let used = recent.used_by_all(&day);
    let reached = reached(&Ceilings::of_home(&context.config), &used)?;
    let file = context.home.config_file();
    Some(OverBudget { reached, used, routine: None, ends_at: day.end, timezone: None, file })
}

/// A ceiling on cost cannot be kept, because the agent does not say what its runs cost.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the agent '{agent}' reports no cost, so {MAX_DAILY_COST_USD} = {} in {} cannot be kept; {WITH_COSTS}", f64::from(*ceiling),
    file.display()
)]
pub struct CostNotReported {
    pub agent: String,
    pub ceiling: MicroDollars,
    file: PathBuf,
    /// Whether the ceiling is that of the home.
    pub is_of_home: bool,
}

const WITH_COSTS: &str =
    "set max_daily_runs instead, or use an agent that reports its cost, such as claude or opencode";

impl CostNotReported {
    /// Says the same beside the ceiling that a routine is about to get.
    pub fn rule(&self) -> String {
        format!("the agent '{}' reports no cost, so this ceiling cannot be kept; {WITH_COSTS}", self.agent)
    }
}

/// Checks that an agent says what its runs cost where a ceiling needs it.
///
/// # Errors
/// It does not.
pub fn check_cost_is_reported(
    context: &Context,
    slug: &Slug,
    definition: &Definition,
    agent: &Agent,
) -> Result<(), CostNotReported> {
    if agent.definition.output.reports_cost() {
        return Ok(());
    }
    let own =
        definition.max_daily_cost_usd.map(|ceiling| (ceiling, store::definition_file(&context.home, slug), false));
    let home = || Some((context.config.max_daily_cost_usd?, context.home.config_file(), true));
    match own.or_else(home) {
        Some((ceiling, file, is_of_home)) => {
            Err(CostNotReported { agent: agent.name.to_string(), ceiling, file, is_of_home })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::status::Status;
    use proptest::prelude::*;

    const DAY: Day = Day { start: UnixSeconds(1000), end: UnixSeconds(2000) };

    fn ended(id: &str, status: Status, cost: Option<u64>) -> RunCost {
        RunCost { id: id.parse().unwrap(), status, cost: cost.map(MicroDollars) }
    }

    #[test]
    fn runs_of_the_day_count_once_each_and_those_that_were_skipped_do_not() {
        let lines = vec![
            ended("a-999", Status::Succeeded, Some(1)),
            ended("a-1000", Status::Succeeded, Some(10)),
            ended("a-1001", Status::Skipped, Some(0)),
            ended("a-1002", Status::LaunchFailed, Some(0)),
            ended("a-1003", Status::Stopped, None),
            ended("b-1999", Status::Failed, Some(100)),
            ended("b-9000", Status::Failed, Some(1000)),
        ];
        let live: Vec<RunId> = ["a-1003", "a-1004", "b-998"].map(|id| id.parse().unwrap()).into();
        let recent = RecentRuns::of(lines, live.iter());
        let used = |runs, live_runs, unknown_cost_runs, cost| Used {
            runs,
            live_runs,
            unknown_cost_runs,
            cost_usd: MicroDollars(cost),
        };
        assert_eq!(recent.used_by(&"a".parse().unwrap(), &DAY), used(4, 1, 2, 10));
        assert_eq!(recent.used_by(&"b".parse().unwrap(), &DAY), used(1, 0, 0, 100));
        assert_eq!(recent.used_by_all(&DAY), used(5, 1, 2, 110));
        assert_eq!(recent.used_by(&"c".parse().unwrap(), &DAY), Used::default());
    }

    #[test]
    fn a_cost_that_is_known_of_no_run_is_unknown_and_that_of_no_runs_is_nothing() {
        assert_eq!(Used::default().known_cost_usd(), Some(MicroDollars(0)));
        assert_eq!(Used { runs: 2, unknown_cost_runs: 2, ..Used::default() }.known_cost_usd(), None);
        let partly = Used { runs: 2, unknown_cost_runs: 1, cost_usd: MicroDollars(5), ..Used::default() };
        assert_eq!(partly.known_cost_usd(), Some(MicroDollars(5)));
    }

    #[test]
    fn the_refusal_names_ceiling_use_end_of_day_and_who_can_raise_it() {
        let over = |reached, routine: Option<&str>, timezone: Option<&str>| OverBudget {
            reached,
            used: Used { runs: 3, live_runs: 1, unknown_cost_runs: 2, cost_usd: MicroDollars(5_200_000) },
            routine: routine.map(|slug| slug.parse().unwrap()),
            ends_at: UnixSeconds(1_767_312_000),
            timezone: timezone.map(str::to_owned),
            file: "/h/config.toml".into(),
        };
        assert_eq!(
            over(Reached::Runs(3), Some("job"), Some("UTC")).to_string(),
            "daily ceiling reached: 3 runs of 'job' were started today, 1 of them still alive, and max_daily_runs is 3; the day ends at \
             2026-01-02T00:00:00Z (midnight in UTC); to allow more, a person runs: moadim-mcp edit job"
        );
        assert_eq!(
            over(Reached::Cost(MicroDollars(5_000_000)), None, None).to_string(),
            "daily ceiling reached: today's runs of all routines cost $5.20 at list prices, not counting 2 of unknown cost, and \
             max_daily_cost_usd is 5; the day ends at 2026-01-02T00:00:00Z (midnight in the machine's time zone); to allow more, a \
             person changes /h/config.toml"
        );
    }

    proptest! {
        #[test]
        fn a_ceiling_is_reached_exactly_when_nothing_is_left(
            max in 1..5_u64, cents in 1..5_u64, costs in prop::collection::vec(prop::option::of(0..3_u64), 0..8)
        ) {
            let lines = costs.iter().enumerate().map(|(n, cost)| {
                ended(&format!("a-{}", 1000 + n), Status::Succeeded, cost.map(|cost| cost * 10_000))
            });
            let used = RecentRuns::of(lines.collect(), std::iter::empty()).used_by_all(&DAY);
            let known: u64 = costs.iter().flatten().sum();
            prop_assert_eq!(used.cost_usd.0, known * 10_000);
            let ceilings = |max_daily_runs, cents: Option<u64>| Ceilings {
                max_daily_runs,
                max_daily_cost_usd: cents.map(|cents| MicroDollars(cents * 10_000)),
            };
            prop_assert_eq!(reached(&ceilings(Some(max), None), &used).is_some(), costs.len() as u64 >= max);
            prop_assert_eq!(reached(&ceilings(None, Some(cents)), &used).is_some(), known >= cents);
            prop_assert_eq!(reached(&Ceilings::default(), &used), None);
        }
    }
}
