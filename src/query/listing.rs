//! Which runs there are, newest first.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::view::RunView;
use super::wait::is_over;
use crate::clock::UnixSeconds;
use crate::git::Work;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::continuation::is_any_unfinished;
use crate::run::end::EndError;
use crate::run::entry::Entry;
use crate::run::history::{Line, Lines};
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, JUDGE_LOCK_TIMEOUT, look};
use crate::run::on_disk::{ids, ids_with_workbench, workbench_ids};
use crate::run::outcome_file::read_newest_outcome;
use crate::run::question::state::read_close;
use crate::run::record::{Manifest, Outcome};
use crate::run::retention::Newest;
use crate::run::status::Status;
use crate::run::workbench::Workbench;

/// Which runs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs of this routine.
    pub routine: Option<Slug>,
    /// Only runs in this state; a reaped run is also found by how it ended.
    pub status: Option<Status>,
    /// Only runs triggered at this time or later.
    pub since: Option<UnixSeconds>,
    /// Only runs triggered at this time or before.
    pub until: Option<UnixSeconds>,
}

impl RunFilter {
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
pub struct RunPage {
    /// The runs, newest first.
    pub runs: Vec<RunView>,
    /// How many match in all.
    pub total: usize,
    /// The last run of this page, if there is another page after it.
    pub next: Option<RunId>,
}

/// Lists up to `limit` of the runs that are older than `after`, including those that only the history has.
///
/// # Errors
/// A folder of the home cannot be listed, or the history cannot be read.
pub fn list(context: &Context, filter: &RunFilter, after: Option<&RunId>, limit: usize) -> Result<RunPage, FileError> {
    let Context { home, history, .. } = context;
    // Before the history: a run that is reaped in between is in neither otherwise.
    let mut present = ids(home)?;
    present.retain(|id| filter.takes(id.routine(), id.stamp()));
    let mut views = Views::new(context);
    // A name says nothing about the status, so look at all of them.
    let seen: Option<HashMap<RunId, RunView>> = filter.status.map(|wanted| {
        let mut seen = views.by_id(&present);
        seen.retain(|_, run| run.status == wanted);
        seen
    });
    let is_wanted = |id: &RunId| seen.as_ref().is_none_or(|seen| seen.contains_key(id));
    let Picked { rows, total, next } = loop {
        let mut lines = history.read(home)?;
        match pick(&present, is_wanted, &lines, filter, after, limit) {
            Ok(picked) => break picked,
            Err(unreadable) => lines.drop_unreadable(&unreadable),
        }
    };
    let mut shown = seen.unwrap_or_else(|| {
        let present = rows.iter().filter(|(_, ended)| ended.is_none()).map(|(id, _)| id.clone());
        views.by_id(&present.collect::<Vec<_>>())
    });
    let mut runs = Vec::with_capacity(rows.len());
    for (id, ended) in rows {
        match (ended, shown.remove(&id)) {
            (Some(outcome), _) => runs.push(RunView::of_reaped(context, *outcome)),
            (None, Some(run)) => runs.push(run),
            // It was reaped since it was listed.
            (None, None) => runs.extend(history.find(home, &id)?.map(|past| RunView::of_reaped(context, past.outcome))),
        }
    }
    let mut runs: Vec<RunView> = runs.into_iter().map(RunView::in_brief).collect();
    for run in &mut runs {
        let work = std::mem::take(&mut run.work).into_iter();
        run.work = work.filter(Work::is_unsaved).map(Work::in_brief).collect();
    }
    Ok(RunPage { runs, total, next })
}

/// A part of the list before the runs are looked at.
struct Picked {
    /// The runs, with how those ended that only the history has.
    rows: Vec<(RunId, Option<Box<Outcome>>)>,
    total: usize,
    next: Option<RunId>,
}

/// Picks a part of the list; a line of the history that belongs to it and cannot be read is returned instead.
fn pick(
    present: &[RunId],
    is_wanted: impl Fn(&RunId) -> bool,
    history: &Lines,
    filter: &RunFilter,
    after: Option<&RunId>,
    limit: usize,
) -> Result<Picked, Line> {
    let past = history.newest_first().filter(|line| filter.takes(history.routine(line), line.stamp()));
    let mut page = Vec::new();
    let mut total = 0;
    for listed in merge(present, past, history) {
        let matches = match listed {
            Listed::Present(id) => is_wanted(id),
            Listed::Reaped(line) => filter.takes_reaped(line.status()),
        };
        if matches {
            total += 1;
            let key = listed.key(history);
            if page.len() <= limit && after.is_none_or(|after| key < (after.stamp(), after.routine())) {
                page.push(listed);
            }
        }
    }
    let has_more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| has_more).map(|last| last.id(history));
    let row = |listed: Listed<'_>| match listed {
        Listed::Present(id) => Ok((id.clone(), None)),
        Listed::Reaped(line) => {
            let outcome = history.past(line).ok_or(*line)?.outcome;
            Ok((outcome.id.clone(), Some(Box::new(outcome))))
        }
    };
    let rows = page.into_iter().map(row).collect::<Result<_, Line>>()?;
    Ok(Picked { rows, total, next })
}

/// A run of the list, before it is looked at.
#[derive(Clone, Copy)]
enum Listed<'a> {
    /// It has a workbench or an entry.
    Present(&'a RunId),
    /// Only the history has it.
    Reaped(&'a Line),
}

impl<'a> Listed<'a> {
    /// What the list is ordered by.
    fn key(self, history: &'a Lines) -> (UnixSeconds, &'a Slug) {
        match self {
            Self::Present(id) => (id.stamp(), id.routine()),
            Self::Reaped(line) => (line.stamp(), history.routine(line)),
        }
    }

    fn id(self, history: &'a Lines) -> RunId {
        let (stamp, routine) = self.key(history);
        RunId::new(routine.clone(), stamp)
    }
}

/// Merges two lists, newest first; a run in both counts as present.
fn merge<'a>(
    present: &'a [RunId],
    past: impl Iterator<Item = &'a Line>,
    history: &'a Lines,
) -> impl Iterator<Item = Listed<'a>> {
    let mut present = present.iter().map(Listed::Present).peekable();
    let mut past = past.map(Listed::Reaped).peekable();
    std::iter::from_fn(move || {
        let order = match (present.peek(), past.peek()) {
            (Some(one), Some(other)) => one.key(history).cmp(&other.key(history)),
            (Some(_), None) => Ordering::Greater,
            (None, _) => Ordering::Less,
        };
        if order == Ordering::Less {
            return past.next();
        }
        if order == Ordering::Equal {
            past.next();
        }
        present.next()
    })
}

/// Returns each run of a period and how it is or ended: runs that were triggered or ended at `since` or later, and those that
/// are not over. Only runs whose end the history does not have are looked at.
pub(crate) fn since(context: &Context, since: UnixSeconds) -> Result<BTreeMap<RunId, Status>, FileError> {
    let Context { home, config, history, .. } = context;
    // No run takes longer than the ceiling and what ending it takes.
    let earliest = UnixSeconds(since.0.saturating_sub(config.max_runtime_ceiling_secs).saturating_sub(60 * 60));
    let mut present: BTreeSet<RunId> = ids_with_workbench(home)?.into_iter().collect();
    let unfinished: Vec<RunId> = Entry::list(home)?.iter().map(|entry| entry.id().clone()).collect();
    let mut runs = BTreeMap::new();
    {
        let lines = history.read(home)?;
        for line in lines.newest_first().take_while(|line| line.stamp() >= earliest) {
            let ended_within = || lines.past(line).is_some_and(|past| past.outcome.finished_at >= since);
            if line.stamp() >= since || ended_within() {
                runs.insert(Listed::Reaped(line).id(&lines), line.status());
            }
        }
    }
    // A status that the history does not know is one of a newer version.
    present.retain(|id| id.stamp() >= since && runs.get(id).is_none_or(|status| *status == Status::Unknown));
    present.extend(unfinished);
    let present: Vec<RunId> = present.into_iter().collect();
    runs.extend(Views::new(context).of(&present).into_iter().map(|run| (run.id, run.status)));
    Ok(runs)
}

/// Looks at all runs that have a workbench or an entry.
pub(crate) fn all(context: &Context) -> Result<Vec<RunView>, FileError> {
    Ok(Views::new(context).of(&ids(&context.home)?))
}

/// A run that has an entry, with the bounds that it is held to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) run: RunView,
    pub(crate) max_runtime_secs: u64,
    /// When that begins to count, if not at its trigger: once its supervisor took it out of a queue.
    pub(crate) bound_from: Option<UnixSeconds>,
    pub(crate) max_silence_secs: Option<u64>,
}

/// Looks at the runs that have an entry, the oldest first.
pub(crate) fn unfinished(context: &Context) -> Result<Vec<Unfinished>, FileError> {
    let mut bounds = BoundsTable::new(&context.home, &context.config);
    let assessments = look(context, Entry::list(&context.home)?, JUDGE_LOCK_TIMEOUT);
    let show = |assessment: Assessment| {
        let bounds = bounds.get(assessment.entry.id().routine());
        let manifest = assessment.manifest.as_ref().ok();
        Unfinished {
            run: RunView::of_unfinished(context, &assessment),
            max_runtime_secs: bounds.max_runtime_secs_of_run(manifest.and_then(|manifest| manifest.max_runtime_secs)),
            bound_from: taken_at(&assessment.entry, manifest),
            max_silence_secs: bounds.max_silence_secs_of_run(manifest.and_then(|one| one.command.max_silence_secs)),
        }
    };
    Ok(assessments.into_iter().map(show).collect())
}

/// Returns when a run that waited in a queue was taken out of it.
fn taken_at(entry: &Entry, manifest: Option<&Manifest>) -> Option<UnixSeconds> {
    manifest?.job.as_ref()?;
    Some(entry.supervisor().ok().flatten()?.at?.at)
}

/// How many workbenches of which nothing is recorded are looked at: other programs may make any number.
pub(crate) const MAX_UNRECORDED: usize = 100;

/// Looks at the runs of which only the workbench tells, neither an entry nor the history: the newest first, without those beyond
/// the bound. Workbenches and entries are listed by the caller, in this order, in which no fresh run is among them.
///
/// # Errors
/// The history cannot be read.
pub(crate) fn unrecorded<'a>(
    context: &Context,
    workbenches: impl IntoIterator<Item = &'a RunId>,
    entries: &BTreeSet<RunId>,
) -> Result<Vec<RunView>, FileError> {
    let lines = context.history.read(&context.home)?;
    let mut runs: Vec<RunId> =
        workbenches.into_iter().filter(|run| !entries.contains(run) && !lines.has(run)).cloned().collect();
    drop(lines);
    runs.sort_unstable_by(|one, other| other.cmp(one));
    runs.truncate(MAX_UNRECORDED);
    Ok(Views::new(context).of(&runs))
}

/// Whether nothing certain can be said of a run that is not known to be over.
pub(crate) fn is_unknown(run: &RunView) -> bool {
    run.status == Status::Unknown && !is_over(run)
}

/// How many runs are not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LiveCounts {
    /// Those that are being prepared or whose agent is at work.
    pub(crate) running: usize,
    /// Those that wait in a queue.
    pub(crate) queued: usize,
    /// Those of which nobody can tell whether they are over.
    pub(crate) unknown: usize,
}

impl LiveCounts {
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a RunView>) -> Self {
        let mut counts = Self::default();
        for run in runs.into_iter().filter(|run| !is_over(run)) {
            *match run.status {
                _ if is_unknown(run) => &mut counts.unknown,
                Status::Queued => &mut counts.queued,
                _ => &mut counts.running,
            } += 1;
        }
        counts
    }

    /// Counts all runs of a home.
    ///
    /// # Errors
    /// A folder of the home cannot be listed, or the history cannot be read.
    pub(crate) fn read(context: &Context) -> Result<Self, FileError> {
        let workbenches = workbench_ids(&context.home)?;
        let mut runs: Vec<RunView> = unfinished(context)?.into_iter().map(|unfinished| unfinished.run).collect();
        let entries = runs.iter().map(|run| run.id.clone()).collect();
        runs.extend(unrecorded(context, &workbenches, &entries)?);
        Ok(Self::of(&runs))
    }
}

/// Looks at one run, or at what the history says about it where its workbench is gone.
pub(crate) fn find(context: &Context, id: &RunId) -> Result<RunView, EndError> {
    find_within(context, id, JUDGE_LOCK_TIMEOUT)
}

/// Does the same, and waits for judges and for Slurm no longer than this.
///
/// # Errors
/// As of [`find`].
pub(crate) fn find_within(context: &Context, id: &RunId, timeout: Duration) -> Result<RunView, EndError> {
    let mut views = Views { timeout, ..Views::new(context) };
    if let Some(present) = views.of(std::slice::from_ref(id)).pop() {
        return Ok(present);
    }
    let past = context.history.find(&context.home, id)?.ok_or_else(|| EndError::NotFound(id.clone()))?;
    Ok(RunView { last_output: past.tail, ..RunView::of_reaped(context, past.outcome) })
}

struct Views<'a> {
    context: &'a Context,
    bounds: BoundsTable<'a>,
    /// For each routine that was looked at: the runs that `keep_last` keeps.
    newest: HashMap<Slug, HashSet<RunId>>,
    /// How long judges, and Slurm, are waited for.
    timeout: Duration,
}

impl<'a> Views<'a> {
    fn new(context: &'a Context) -> Self {
        let bounds = BoundsTable::new(&context.home, &context.config);
        Self { context, bounds, newest: HashMap::new(), timeout: JUDGE_LOCK_TIMEOUT }
    }

    /// Shows runs in the given order, except those that are gone.
    fn of(&mut self, ids: &[RunId]) -> Vec<RunView> {
        let entries = ids.iter().map(|id| Entry::of(&self.context.home, id)).filter(Entry::exists).collect();
        let unfinished: BTreeMap<RunId, Assessment> = look(self.context, entries, self.timeout)
            .into_iter()
            .map(|assessment| (assessment.entry.id().clone(), assessment))
            .collect();
        ids.iter().filter_map(|id| self.one(id, unfinished.get(id))).collect()
    }

    fn by_id(&mut self, ids: &[RunId]) -> HashMap<RunId, RunView> {
        self.of(ids).into_iter().map(|run| (run.id.clone(), run)).collect()
    }

    fn one(&mut self, id: &RunId, unfinished: Option<&Assessment>) -> Option<RunView> {
        match unfinished {
            Some(assessment) => Some(RunView::of_unfinished(self.context, assessment)),
            None if Workbench::of(&self.context.home, id).exists() => {
                let bounds = self.bounds.get(id.routine());
                let keep_last = bounds.keep_last;
                let mut view = RunView::of_finished(self.context, id, bounds);
                // Only for what is past its age: this looks at other runs.
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

/// Returns the finished runs that `keep_last` keeps; none if the folder cannot be listed.
fn newest(home: &Home, routine: &Slug, keep_last: u64) -> HashSet<RunId> {
    let mut ids = workbench_ids(home).unwrap_or_default();
    ids.retain(|id| id.routine() == routine);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let mut newest = Newest::of(keep_last);
    ids.retain(|id| {
        !newest.is_full()
            && !is_any_unfinished(home, id)
            && read_newest_outcome(home, id).is_ok_and(|outcome| takes(home, &mut newest, &outcome))
    });
    ids.into_iter().collect()
}

/// Counts a run among the newest, unless it waits for an answer.
fn takes(home: &Home, newest: &mut Newest, outcome: &Outcome) -> bool {
    let is_open = outcome.status == Status::Asked && read_close(home, &outcome.id).is_ok_and(|close| close.is_none());
    !is_open && newest.takes_status(outcome.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::config::Config;
    use crate::run::context::{App, Program};
    use crate::run::history::{self, Known};

    #[test]
    fn runs_that_wait_and_runs_that_may_be_over_are_not_counted_as_running() {
        let (_dir, app) = App::example();
        let context = app.context_for_looking();
        let run = |id, status| {
            let ended = RunView::of_reaped(&context, Outcome::example(id, Status::Succeeded));
            RunView { status, outcome: None, finished_at: None, ..ended }
        };
        let over = RunView::of_reaped(&context, Outcome::example("a-5", Status::Failed));
        let runs = [
            run("a-1", Status::Running),
            run("a-2", Status::Queued),
            run("a-3", Status::Preparing),
            run("a-4", Status::Unknown),
            over,
        ];
        assert_eq!(LiveCounts::of(&runs), LiveCounts { running: 2, queued: 1, unknown: 1 });
    }

    #[test]
    fn a_page_is_full_although_a_line_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
        for stamp in 1..=5 {
            let outcome = Outcome::example(&format!("a-{stamp}"), Status::Failed);
            history::append(&home, &context.config, &outcome, Known::New).unwrap();
        }
        let text = std::fs::read_to_string(home.history_file()).unwrap();
        let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for damaged in [2, 3] {
            lines[damaged]["agent"] = 7.into();
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(home.history_file(), text).unwrap();
        for _ in 0..2 {
            let page = list(&context, &RunFilter::default(), None, 2).unwrap();
            let runs: Vec<String> = page.runs.iter().map(|run| run.id.to_string()).collect();
            assert_eq!((runs, page.total), (vec!["a-5".to_owned(), "a-2".to_owned()], 3));
            assert_eq!(page.next, Some("a-2".parse().unwrap()));
            assert_eq!(context.history.read(&home).unwrap().damaged(), 2);
        }
    }
}
