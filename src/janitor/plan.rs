//! What a sweep does, decided by one pure function in passes: a dry run prints this plan, and a real run carries it out
//! (rule 9).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::clock_doubt::ClockDoubt;
use super::reason::{Reason, Why};
use crate::clock::UnixSeconds;
use crate::process_tree::Cookie;
use crate::routine::bounds::Bounds;
use crate::routine::slug::Slug;
use crate::run::id::RunId;
use crate::run::retention::{Group, Newest, finish, reap_at};
use crate::run::status::Status;

/// A workbench as the inventory shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The run that the workbench was made for.
    pub(super) run: RunId,
    /// The newest run in it, if that is another.
    pub(super) newest: Option<RunId>,
    pub(super) state: RunState,
    /// How it ended; [`Status::Unknown`] where no outcome was read.
    pub(super) status: Status,
    /// From its outcome, if it has one.
    pub(super) retain_from: Option<UnixSeconds>,
    /// The last write of its log, where there is no outcome.
    pub(super) log_written: Option<UnixSeconds>,
    /// Its size on disk; 0 where no budget asks for it.
    pub(super) bytes: u64,
    /// Whether all of it was measured; otherwise `bytes` is a lower bound.
    pub(super) measured: bool,
    /// What its processes would carry.
    pub(super) cookie: Option<Cookie>,
}

impl Item {
    /// Describes a run whose outcome was not read.
    pub(super) fn new(run: RunId, state: RunState) -> Self {
        Self {
            run,
            newest: None,
            state,
            status: Status::Unknown,
            retain_from: None,
            log_written: None,
            bytes: 0,
            measured: true,
            cookie: None,
        }
    }
}

/// Whether a run is over (rule 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    Alive,
    /// Over, and a person may still answer its question.
    Asked,
    /// Alive without its supervisor; these processes are left.
    Unsupervised(String),
    Finished,
    /// Not read: its name alone shows that it is too young to be removed.
    Unread,
    /// Cannot be decided, for this reason.
    Unknown(String),
}

/// What the plan is made by.
#[derive(Debug)]
pub struct Rules<'a> {
    pub(super) bounds: &'a HashMap<Slug, Bounds>,
    pub(super) pins: &'a BTreeSet<RunId>,
    /// Runs whose workbench cannot be archived just now: to remove them would free nothing.
    pub(super) not_archivable: &'a BTreeSet<RunId>,
    pub(super) disk: Disk,
    pub(super) now: UnixSeconds,
    /// Why the wall clock is in doubt, if it is: then nothing is removed.
    pub(super) clock_doubt: Option<ClockDoubt>,
}

/// The home's budgets, each as (what there is, what is allowed); `None` where the home has no such budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that all workbenches take, and may take.
    pub(super) used_of_max: Option<(u64, u64)>,
    /// Bytes that are free, and should be.
    pub(super) free_of_min: Option<(u64, u64)>,
}

impl Disk {
    /// Says which budget is still exceeded once so many bytes are freed.
    pub(super) fn shortage(&self, freed: u64) -> Option<String> {
        let over = self.used_of_max.filter(|(used, max)| used.saturating_sub(freed) > *max);
        let over =
            over.map(|(used, max)| format!("all workbenches take {used} bytes, and max_workbench_bytes is {max}"));
        let short = self.free_of_min.filter(|(free, min)| free.saturating_add(freed) < *min);
        over.or_else(|| short.map(|(free, min)| format!("{free} bytes of disk are free, and min_free_bytes is {min}")))
    }
}

/// What a sweep does with one workbench, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub(super) run: RunId,
    /// The newest run in the workbench.
    pub(super) newest: RunId,
    pub(super) decision: Decision,
    pub(super) reason: Reason,
    pub(super) cookie: Option<Cookie>,
    bytes: u64,
    measured: bool,
    /// The end, where we recorded one; the later passes look only at those.
    ended: Option<(UnixSeconds, Option<Group>)>,
    /// Where what was in it is, if there was something.
    pub(super) archived: Option<Archived>,
}

/// An archive of what only a workbench had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Archived {
    pub(super) path: String,
    /// Its size on disk; absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    /// Commits that were not pushed.
    pub(super) commits: u64,
    /// Files that were changed, not tracked, or asked for.
    pub(super) files: u64,
}

/// Counts things whose plural ends with an s.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Archived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [(self.commits, "commit"), (self.files, "file")];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, one)| counted(*count, one)).collect();
        // It may be a stash alone.
        if counts.is_empty() { f.write_str("work") } else { f.write_str(&counts.join(", ")) }
    }
}

impl Verdict {
    /// Whether the run is over for certain, and nobody pinned it.
    pub(super) fn is_over(&self) -> bool {
        !matches!(
            self.reason.why,
            Why::Alive | Why::Unsupervised(_) | Why::AliveAfterAll | Why::Unknown(_) | Why::NoBounds | Why::Pinned
        )
    }

    pub(super) fn decide(&mut self, decision: Decision, why: Why) {
        (self.decision, self.reason.why) = (decision, why);
    }
}

/// What a sweep does with a workbench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Its retention has passed, or disk is short.
    Remove,
    /// Keeps it, until then if that is known.
    Keep(Option<UnixSeconds>),
}

/// Plans a sweep over workbenches sorted from oldest to newest; the verdicts keep that order.
#[must_use]
pub fn plan(items: Vec<Item>, rules: &Rules<'_>) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = items.into_iter().map(|item| judge(item, rules)).collect();
    keep_newest(&mut verdicts, rules.bounds);
    relieve_disk(&mut verdicts, rules);
    if let Some(doubt) = rules.clock_doubt {
        defer(&mut verdicts, doubt);
    }
    verdicts
}

/// Judges a workbench by its state, its age and its pin alone.
fn judge(item: Item, rules: &Rules<'_>) -> Verdict {
    let Item { run, newest, state, status, retain_from, log_written, bytes, measured, cookie } = item;
    let now = rules.now;
    let (mut age_secs, mut retention, mut note) = (run.stamp().age_secs_at(now), None, None);
    let mut ended = None;
    let is_over = matches!(state, RunState::Finished | RunState::Unread);
    let (mut decision, mut why) = match (state, rules.bounds.get(run.routine())) {
        (RunState::Alive, _) => (Decision::Keep(None), Why::Alive),
        (RunState::Asked, _) => (Decision::Keep(None), Why::Asked),
        (RunState::Unsupervised(left), _) => (Decision::Keep(None), Why::Unsupervised(left)),
        (RunState::Unknown(cause), _) => (Decision::Keep(None), Why::Unknown(cause)),
        (RunState::Finished | RunState::Unread, None) => (Decision::Keep(None), Why::NoBounds),
        (RunState::Unread, Some(bounds)) => {
            let retention_secs = bounds.least_retention_secs();
            (retention, note) = (Some(retention_secs), bounds.note.clone());
            if is_young(&run, bounds, now) {
                (Decision::Keep(Some(reap_at(run.stamp().min(now), retention_secs))), Why::YoungByName)
            } else {
                (Decision::Keep(None), Why::JustOfAge)
            }
        }
        (RunState::Finished, Some(bounds)) => {
            let finished = finish(run.stamp(), retain_from, log_written, now);
            // Another program's workbench has no outcome: nobody knows when its run ended.
            ended = retain_from.map(|_| (finished, status.keep_last_group()));
            let retention_secs = bounds.retention_secs(status.retention());
            (age_secs, retention, note) = (finished.age_secs_at(now), Some(retention_secs), bounds.note.clone());
            if age_secs <= retention_secs {
                (Decision::Keep(Some(reap_at(finished, retention_secs))), Why::Young)
            } else {
                (Decision::Remove, Why::Expired)
            }
        }
    };
    if is_over && rules.pins.contains(&run) {
        (decision, why) = (Decision::Keep(None), Why::Pinned);
    }
    let reason = Reason { why, age_secs, retention_secs: retention, note };
    let newest = newest.unwrap_or_else(|| run.clone());
    Verdict { run, newest, decision, reason, cookie, bytes, measured, ended, archived: None }
}

/// Returns whether a run without an entry is too young by its name alone: it cannot have finished before its trigger. Such
/// a workbench costs no system call of its own.
pub(super) fn is_young(run: &RunId, bounds: &Bounds, now: UnixSeconds) -> bool {
    run.stamp().age_secs_at(now) <= bounds.least_retention_secs()
}

/// Keeps the newest `keep_last` of each routine; pinned and young ones count among them.
fn keep_newest(verdicts: &mut [Verdict], bounds: &HashMap<Slug, Bounds>) {
    let mut newest: HashMap<Slug, Newest> = HashMap::new();
    for verdict in verdicts.iter_mut().rev() {
        let slug = verdict.run.routine();
        let keep_last = bounds.get(slug).map_or(0, |bounds| bounds.keep_last);
        let Some((_, Some(group))) = verdict.ended.filter(|_| keep_last > 0) else { continue };
        let newest = newest.entry(slug.clone()).or_insert_with(|| Newest::of(keep_last));
        if newest.takes(group) && verdict.decision == Decision::Remove {
            verdict.decide(Decision::Keep(None), Why::Newest(keep_last));
        }
    }
}

/// Removes the oldest finished runs, newest of their routine or not, until the budgets hold.
fn relieve_disk(verdicts: &mut [Verdict], Rules { disk, not_archivable, .. }: &Rules<'_>) {
    let goes = |verdict: &Verdict| verdict.decision == Decision::Remove && !not_archivable.contains(&verdict.run);
    let removed = || verdicts.iter().filter(|verdict| goes(verdict));
    let mut freed = removed().map(|verdict| verdict.bytes).sum();
    let mut all_measured = removed().all(|verdict| verdict.measured);
    if disk.shortage(freed).is_none() {
        return;
    }
    let mut rest: Vec<&mut Verdict> = verdicts
        .iter_mut()
        .filter(|verdict| verdict.ended.is_some() && verdict.reason.why != Why::Pinned)
        .filter(|verdict| verdict.decision != Decision::Remove && !not_archivable.contains(&verdict.run))
        .collect();
    rest.sort_by_key(|verdict| verdict.ended.map(|(at, _)| at));
    for verdict in rest {
        // A removal may free more than was measured: whether more has to go, the next sweep decides.
        let Some(shortage) = disk.shortage(freed).filter(|_| all_measured) else { break };
        verdict.decide(Decision::Remove, Why::ShortOfDisk(shortage, None));
        freed += verdict.bytes;
        all_measured = verdict.measured;
    }
}

/// Puts off every removal by a clock that is in doubt.
fn defer(verdicts: &mut [Verdict], doubt: ClockDoubt) {
    for verdict in verdicts.iter_mut().filter(|verdict| verdict.decision == Decision::Remove) {
        let why = Why::ClockInDoubt(Box::new(verdict.reason.why.clone()), doubt);
        verdict.decide(Decision::Keep(None), why);
    }
}

/// Keeps what would be removed of runs that are not in the history yet: nothing else would be left of them.
pub(super) fn keep_unrecorded(verdicts: &mut [Verdict], unrecorded: &HashSet<RunId>) {
    for verdict in verdicts.iter_mut().filter(|verdict| unrecorded.contains(&verdict.run)) {
        if verdict.decision == Decision::Remove {
            verdict.decide(Decision::Keep(None), Why::NotInHistory);
        }
    }
}

#[cfg(test)]
mod tests;
