//! Which runs there are, newest first.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::view::RunView;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::end::EndError;
use crate::run::entry::{Entry, Workbench};
use crate::run::history::{Line, Lines};
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, JUDGE_PATIENCE, look};
use crate::run::on_disk::{ids, workbench_ids};
use crate::run::record::Outcome;
use crate::run::recording::read_outcome;
use crate::run::retention::Newest;
use crate::run::status::Status;

/// Which runs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this routine.
    pub routine: Option<Slug>,
    /// Those in this state; a reaped run is found by how it ended as well.
    pub status: Option<Status>,
    /// Those triggered at this time or later.
    pub since: Option<UnixSeconds>,
    /// Those triggered at this time or before.
    pub until: Option<UnixSeconds>,
}

impl Filter {
    fn takes(&self, routine: &Slug, stamp: UnixSeconds) -> bool {
        self.since.is_none_or(|since| stamp >= since)
            && self.until.is_none_or(|until| stamp <= until)
            && self.routine.as_ref().is_none_or(|wanted| wanted == routine)
    }

    fn takes_reaped(&self, ended: Status) -> bool {
        self.status.is_none_or(|wanted| wanted == Status::Reaped || wanted == ended)
    }
}

/// A part of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The runs, newest first.
    pub runs: Vec<RunView>,
    /// How many there are in all.
    pub total: usize,
    /// The run after which the next page begins, if there is one.
    pub next: Option<RunId>,
}

/// A run of the list, before it is looked at.
enum Listed<'a> {
    /// It has a workbench or an entry.
    Present(&'a RunId),
    /// Only the history tells of it.
    Reaped(&'a Line),
}

impl Listed<'_> {
    /// Returns what the list is ordered by.
    fn key<'a>(&'a self, history: &'a Lines) -> (UnixSeconds, &'a Slug) {
        match self {
            Self::Present(id) => (id.stamp(), id.routine()),
            Self::Reaped(line) => (line.stamp(), history.routine(line)),
        }
    }
}

/// A run of a page.
enum Row {
    /// It was seen to have a workbench or an entry.
    Present(RunId),
    /// This is how it ended.
    Reaped(Box<Outcome>),
}

/// A part of the list, of which only the ids of present runs are known.
struct Picked {
    rows: Vec<Row>,
    total: usize,
    next: Option<RunId>,
}

/// Lists up to `limit` of the runs that are older than `after`, those among them that only the history tells of.
///
/// # Errors
/// A folder of the home cannot be listed, or the history cannot be read.
pub fn list(context: &Context, filter: &Filter, after: Option<&RunId>, limit: usize) -> Result<Page, FileError> {
    let Context { home, history, .. } = context;
    // Before the history: a run that is reaped in between is in neither otherwise.
    let mut present = ids(home)?;
    present.retain(|id| filter.takes(id.routine(), id.stamp()));
    let mut views = Views::new(context);
    // The state is not in the name, so all have to be looked at.
    let mut seen: Option<HashMap<RunId, RunView>> = filter.status.map(|wanted| {
        let matching = views.of(&present).into_iter().filter(|run| run.status == wanted);
        matching.map(|run| (run.id.clone(), run)).collect()
    });
    let is_wanted = |id: &RunId| seen.as_ref().is_none_or(|seen| seen.contains_key(id));
    let pick = |lines: &Lines| pick(&present, is_wanted, lines, filter, after, limit);
    let (mut picked, doubtful) = pick(&*history.read(home)?);
    if !doubtful.is_empty() {
        (picked, _) = pick(&*history.reread(home, &doubtful)?);
    }
    let Picked { rows, total, next } = picked;
    let wanted: Vec<RunId> = rows.iter().filter_map(Row::present).cloned().collect();
    let mut shown =
        seen.take().unwrap_or_else(|| views.of(&wanted).into_iter().map(|run| (run.id.clone(), run)).collect());
    let mut runs = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Row::Reaped(outcome) => runs.push(RunView::of_reaped(context, *outcome)),
            Row::Present(id) => match shown.remove(&id) {
                Some(run) => runs.push(run),
                // It was reaped since it was listed.
                None => runs.extend(history.find(home, &id)?.map(|past| RunView::of_reaped(context, past.outcome))),
            },
        }
    }
    Ok(Page { runs, total, next })
}

impl Row {
    fn present(&self) -> Option<&RunId> {
        match self {
            Self::Present(id) => Some(id),
            Self::Reaped(_) => None,
        }
    }
}

/// Chooses a page's runs, and reads how those ended that only the history tells of; also returns those whose line is not what it
/// was.
fn pick(
    present: &[RunId],
    is_wanted: impl Fn(&RunId) -> bool,
    history: &Lines,
    filter: &Filter,
    after: Option<&RunId>,
    limit: usize,
) -> (Picked, Vec<RunId>) {
    let past = history.newest_first().filter(|line| filter.takes(history.routine(line), line.stamp()));
    let mut page: Vec<Listed<'_>> = Vec::new();
    let mut total = 0;
    for listed in merge(present, past, history) {
        let matches = match &listed {
            Listed::Present(id) => is_wanted(id),
            Listed::Reaped(line) => filter.takes_reaped(line.status()),
        };
        if matches {
            total += 1;
            if page.len() <= limit && after.is_none_or(|after| listed.key(history) < (after.stamp(), after.routine())) {
                page.push(listed);
            }
        }
    }
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|last| {
        let (stamp, routine) = last.key(history);
        RunId::new(routine.clone(), stamp)
    });
    let (mut rows, mut doubtful) = (Vec::with_capacity(page.len()), Vec::new());
    for listed in &page {
        match listed {
            Listed::Present(id) => rows.push(Row::Present((*id).clone())),
            Listed::Reaped(line) => match history.past(line) {
                Some(past) => rows.push(Row::Reaped(Box::new(past.outcome))),
                None => doubtful.push(RunId::new(history.routine(line).clone(), line.stamp())),
            },
        }
    }
    (Picked { rows, total, next }, doubtful)
}

/// Calls `see` with each run of a period, newest first, and how it is or how it ended: those that were triggered or ended at a
/// time or later, and those that are not over. Only what the history does not tell is looked at.
///
/// # Errors
/// A folder of the home cannot be listed, or the history cannot be read.
pub fn each_since(context: &Context, since: UnixSeconds, mut see: impl FnMut(RunId, Status)) -> Result<(), FileError> {
    let Context { home, config, history, .. } = context;
    // No run takes longer than the ceiling and what ending it takes.
    let earliest = UnixSeconds(since.0.saturating_sub(config.max_runtime_ceiling_secs).saturating_sub(60 * 60));
    let mut present = ids(home)?;
    let unfinished: HashSet<RunId> = Entry::list(home)?.iter().map(|entry| entry.id().clone()).collect();
    let mut runs: BTreeMap<(UnixSeconds, Slug), Status> = BTreeMap::new();
    {
        let lines = history.read(home)?;
        for line in lines.newest_first().take_while(|line| line.stamp() >= earliest) {
            let ended_within = || lines.past(line).is_some_and(|past| past.outcome.finished_at >= since);
            if line.stamp() >= since || ended_within() {
                runs.insert((line.stamp(), lines.routine(line).clone()), line.status());
            }
        }
    }
    present.retain(|id| {
        // A status that the history does not know is one of a newer version.
        let known = runs.get(&(id.stamp(), id.routine().clone()));
        let is_told = known.is_some_and(|status| *status != Status::Unknown);
        unfinished.contains(id) || (id.stamp() >= since && !is_told)
    });
    for run in Views::new(context).of(&present) {
        runs.insert((run.id.stamp(), run.id.routine().clone()), run.status);
    }
    runs.into_iter().rev().for_each(|((stamp, routine), status)| see(RunId::new(routine, stamp), status));
    Ok(())
}

/// Merges two lists, newest first; of a run that is in both, what is present counts.
fn merge<'a>(
    present: &'a [RunId],
    past: impl Iterator<Item = &'a Line>,
    history: &'a Lines,
) -> impl Iterator<Item = Listed<'a>> {
    let (mut present, mut past) = (present.iter().peekable(), past.peekable());
    std::iter::from_fn(move || {
        let order = match (present.peek(), past.peek()) {
            (Some(id), Some(line)) => {
                id.stamp().cmp(&line.stamp()).then_with(|| id.routine().cmp(history.routine(line)))
            }
            (Some(_), None) => Ordering::Greater,
            (None, _) => Ordering::Less,
        };
        if order == Ordering::Less {
            return past.next().map(Listed::Reaped);
        }
        if order == Ordering::Equal {
            past.next();
        }
        present.next().map(Listed::Present)
    })
}

/// Looks at all runs that have a workbench or an entry.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn all(context: &Context) -> Result<Vec<RunView>, FileError> {
    Ok(Views::new(context).of(&ids(&context.home)?))
}

/// Looks at one run; at what the history tells of it where its workbench is gone.
///
/// # Errors
/// There is no such run, or the history cannot be read.
pub fn find(context: &Context, id: &RunId) -> Result<RunView, EndError> {
    if let Some(present) = Views::new(context).of(std::slice::from_ref(id)).pop() {
        return Ok(present);
    }
    let past = context.history.find(&context.home, id)?.ok_or_else(|| EndError::NotFound(id.clone()))?;
    Ok(RunView { last_output: past.tail, ..RunView::of_reaped(context, past.outcome) })
}

struct Views<'a> {
    context: &'a Context,
    bounds: BoundsTable<'a>,
    /// Of each routine that was asked for: the runs that it keeps for being its newest.
    newest: HashMap<Slug, HashSet<RunId>>,
}

impl<'a> Views<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, bounds: BoundsTable::new(&context.home, &context.config), newest: HashMap::new() }
    }

    /// Shows runs in the given order; those that are gone by now are left out.
    fn of(&mut self, ids: &[RunId]) -> Vec<RunView> {
        let entries = ids.iter().map(|id| Entry::of(&self.context.home, id)).filter(Entry::exists).collect();
        let unfinished: BTreeMap<RunId, Assessment> = look(&self.context.home, entries, JUDGE_PATIENCE)
            .into_iter()
            .map(|assessment| (assessment.entry.id().clone(), assessment))
            .collect();
        ids.iter().filter_map(|id| self.one(id, unfinished.get(id))).collect()
    }

    fn one(&mut self, id: &RunId, unfinished: Option<&Assessment>) -> Option<RunView> {
        match unfinished {
            Some(assessment) => Some(RunView::of_unfinished(self.context, assessment)),
            None if Workbench::of(&self.context.home, id).exists() => {
                let bounds = self.bounds.get(id.routine());
                let keep_last = bounds.keep_last;
                let mut view = RunView::of_finished(self.context, id, bounds);
                // Only for what is past its age, so that hardly any run is looked at for another's sake.
                if keep_last > 0
                    && view.reap_at.is_some_and(|at| at <= UnixSeconds::now())
                    && self.is_newest(id, keep_last)
                {
                    view.keep(format!("it is among the newest {keep_last} of its routine"));
                }
                Some(view)
            }
            None => None,
        }
    }

    fn is_newest(&mut self, id: &RunId, keep_last: u64) -> bool {
        let home = &self.context.home;
        let newest = self.newest.entry(id.routine().clone()).or_insert_with(|| newest(home, id.routine(), keep_last));
        newest.contains(id)
    }
}

/// Reads which finished runs a routine keeps for being its newest; those of a folder that cannot be listed are not known.
fn newest(home: &Home, routine: &Slug, keep_last: u64) -> HashSet<RunId> {
    let mut ids = workbench_ids(home).unwrap_or_default();
    ids.retain(|id| id.routine() == routine);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let mut newest = Newest::of(keep_last);
    ids.retain(|id| {
        !newest.is_full()
            && !Entry::of(home, id).exists()
            && read_outcome(&Workbench::of(home, id), id).is_ok_and(|outcome| newest.takes(outcome.status.keep_group()))
    });
    ids.into_iter().collect()
}
