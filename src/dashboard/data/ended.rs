//! The runs that have ended, and whether their workbenches are still there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::calendar::date;
use super::content::{Content, Row};
use super::past::{DayCount, Ended, EndedRun};
use super::routines::Routines;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::money::MicroDollars;
use crate::routine::bounds::Bounds;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::disagreement::Disagreement;
use crate::run::id::RunId;
use crate::run::retention::{Newest, finish, reap_at};
use crate::run::status::Status;

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
    per_day: Vec<DayOfRuns>,
}

#[derive(Serialize)]
struct DayOfRuns {
    day: String,
    ok: u64,
    bad: u64,
}

/// Which runs have a workbench, a pin or an archive.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    pub(super) workbenches: BTreeSet<RunId>,
    pub(super) pins: BTreeSet<RunId>,
    pub(super) archives: BTreeSet<RunId>,
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
        let is_there = on_disk.workbenches.contains(id);
        let is_pinned = is_there && on_disk.pins.contains(id);
        let goes = is_there && !is_pinned && !kept.contains(id);
        let reap_at = goes.then(|| {
            let finish = finish(id.stamp(), Some(run.retain_from), None, now);
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
            unsaved: (is_there && run.is_unsaved).then_some(true),
            archived: on_disk.archives.contains(id).then_some(true),
        };
        rows.push(Row::of(id.to_string(), &row)?);
    }
    let day = |(start, count): (&UnixSeconds, &DayCount)| DayOfRuns { day: date(*start), ok: count.ok, bad: count.bad };
    let per_day = ended.per_day.iter().map(day).collect();
    Content::of(rows).with_head(&EndedHead { since: ended.since, older_total: ended.older_total, per_day })
}

/// Returns the runs whose workbenches stay whatever their age, because they are among the newest of their routine.
fn kept_as_newest<'a>(
    newest_first: &[(&'a RunId, &EndedRun)],
    on_disk: &OnDisk,
    mut keep_last: impl FnMut(&Slug) -> u64,
) -> BTreeSet<&'a RunId> {
    let mut newest: HashMap<&Slug, Newest> = HashMap::new();
    let mut kept = BTreeSet::new();
    for (id, run) in newest_first.iter().filter(|(id, _)| on_disk.workbenches.contains(*id)) {
        let newest = newest.entry(id.routine()).or_insert_with(|| Newest::of(keep_last(id.routine())));
        if run.status.keep_last_group().is_some_and(|group| newest.takes(group)) {
            kept.insert(*id);
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
    use crate::run::record::Outcome;

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
}
