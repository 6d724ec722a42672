//! What a sweep does, decided in one pure function: a dry run prints this plan, and a real run carries it out (rule 9).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::clock_doubt::ClockDoubt;
use crate::clock::UnixSeconds;
use crate::process_tree::Cookie;
use crate::routine::bounds::Bounds;
use crate::routine::slug::Slug;
use crate::run::id::RunId;
use crate::run::retention::{Newest, finish, reap_at};
use crate::run::status::Status;

/// What is known of one workbench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// The run.
    pub run: RunId,
    /// Whether it lives.
    pub life: Life,
    /// How it ended; [`Status::Unknown`] where no outcome was read.
    pub status: Status,
    /// What its outcome says, if it has one.
    pub retain_from: Option<UnixSeconds>,
    /// The last write of its log, where there is no outcome.
    pub log_written: Option<UnixSeconds>,
    /// Its size on disk; 0 where no budget asks for it.
    pub bytes: u64,
    /// Whether all of it was measured; otherwise its size is a lower bound.
    pub measured: bool,
    /// By what its processes would be recognised.
    pub cookie: Option<Cookie>,
}

impl Bench {
    /// Describes a run of which no outcome was read.
    #[must_use]
    pub fn new(run: RunId, life: Life) -> Self {
        Self {
            run,
            life,
            status: Status::Unknown,
            retain_from: None,
            log_written: None,
            bytes: 0,
            measured: true,
            cookie: None,
        }
    }
}

/// Whether a run lives (rule 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Alive,
    /// It does without its supervisor: these processes are left of it.
    Unsupervised(String),
    /// It does not, for certain.
    Finished,
    /// Nothing was read of it, for its name alone tells that it is too young to be due.
    Unread,
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// What all workbenches are judged by.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The bounds of every routine that is named.
    pub bounds: &'a HashMap<Slug, Bounds>,
    /// The runs that are kept until they are unpinned.
    pub pins: &'a BTreeSet<RunId>,
    /// What is short of disk, if the home has a budget.
    pub disk: Disk,
    /// The time.
    pub now: UnixSeconds,
    /// Why the wall clock is not trusted, if it is not: then nothing goes.
    pub clock_doubt: Option<ClockDoubt>,
}

/// The home's budgets, each with what there is; `None` where it has no such budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that all workbenches take, and may take.
    pub used_of_max: Option<(u64, u64)>,
    /// Bytes that are free, and that should be.
    pub free_of_min: Option<(u64, u64)>,
}

impl Disk {
    /// Tells which budget is still broken once that many bytes are given back.
    #[must_use]
    pub fn shortage(&self, freed: u64) -> Option<Shortage> {
        let over = self.used_of_max.filter(|(used, max)| used.saturating_sub(freed) > *max);
        let short = self.free_of_min.filter(|(free, min)| free.saturating_add(freed) < *min);
        let over = over.map(|(used, max)| Shortage::Workbenches { used, max });
        over.or_else(|| short.map(|(free, min)| Shortage::FileSystem { free, min }))
    }
}

/// A budget that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// All workbenches take more than they may.
    Workbenches {
        /// Bytes that they take.
        used: u64,
        /// Bytes that they may take.
        max: u64,
    },
    /// The file system has less free than it should.
    FileSystem {
        /// Bytes that are free.
        free: u64,
        /// Bytes that should be.
        min: u64,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workbenches { used, max } => {
                write!(f, "all workbenches take {used} bytes, and max_workbench_bytes is {max}")
            }
            Self::FileSystem { free, min } => write!(f, "{free} bytes of disk are free, and min_free_bytes is {min}"),
        }
    }
}

/// What becomes of one workbench, always with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The run.
    pub run: RunId,
    /// What becomes of it.
    pub fate: Fate,
    /// Why.
    pub reason: Reason,
    /// By what its processes would be recognised.
    pub cookie: Option<Cookie>,
}

impl Verdict {
    /// Keeps what would go and is not in the history yet.
    pub fn keep_as_the_only_record(&mut self) {
        if self.fate == Fate::Reap {
            (self.fate, self.reason) = (Fate::Keep(None), Reason::NotInHistory);
        }
    }
}

/// What becomes of a workbench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is removed.
    Reap,
    /// It stays, until then if that can be told.
    Keep(Option<UnixSeconds>),
}

/// Why a workbench goes or stays; put into words only where it is shown, for there may be very many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It lives.
    Alive,
    /// It lives without its supervisor: these processes are left of it.
    Unsupervised(String),
    /// Nothing certain is known of it, for this reason.
    Unknown(String),
    /// Nothing is known of what its routine wants.
    NoBounds,
    /// Somebody asked to keep it.
    Pinned,
    /// Its name tells that it is too young.
    Young(Age),
    /// It was too young to be read, and is not any more.
    JustOfAge,
    /// Its age, against its retention.
    Age(Age),
    /// It is among that many newest ones of its routine that ended as it did.
    Newest(u64),
    /// Disk is short, and it is among the oldest.
    Short(Shortage),
    /// It would go for that reason, but the wall clock is not trusted.
    ClockInDoubt(Box<Self>, ClockDoubt),
    /// A last look found a process or an entry of it.
    AliveAfterAll,
    /// The history has no line of it and cannot be written just now.
    NotInHistory,
}

/// How old a run is, and how old it may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Age {
    /// Seconds since its trigger or finish.
    pub secs: u64,
    /// The retention in force.
    pub ttl_secs: u64,
    /// What is to be said of that retention.
    pub note: Option<Arc<str>>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = |f: &mut fmt::Formatter<'_>, age: &Age| match &age.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        };
        match self {
            Self::Alive => f.write_str("it is alive"),
            Self::Unsupervised(left) => write!(f, "it is alive, though its supervisor is gone: {left}"),
            Self::Unknown(cause) => write!(f, "nothing certain is known of it: {cause}"),
            Self::NoBounds => f.write_str("the bounds of its routine are not known"),
            Self::Pinned => f.write_str("it is pinned"),
            Self::Young(age) => {
                let Age { secs, ttl_secs, .. } = age;
                write!(f, "it was triggered {secs} s ago, and is kept for at least {ttl_secs} s from its finish on")?;
                note(f, age)
            }
            Self::JustOfAge => f.write_str("it has only just come of age; the next sweep reads it"),
            Self::Age(age) => {
                write!(f, "it finished {} s ago, and is kept for {} s", age.secs, age.ttl_secs)?;
                note(f, age)
            }
            Self::Newest(keep_last) => write!(f, "it is among the newest {keep_last} of its routine"),
            Self::Short(shortage) => write!(f, "{shortage}: the oldest finished ones go first"),
            Self::ClockInDoubt(reason, doubt) => {
                write!(f, "{reason}; but {doubt}, so that is left to the next sweep")
            }
            Self::NotInHistory => f.write_str("it is not in the history yet, which cannot be written"),
            Self::AliveAfterAll => f.write_str("a process of it is alive after all"),
        }
    }
}

/// Tells whether a run without an entry is too young to be due, by its name alone: it cannot have finished before its
/// stamp. Such a workbench costs no system call of its own.
#[must_use]
pub fn is_young(run: &RunId, bounds: &Bounds, now: UnixSeconds) -> bool {
    run.stamp().age_secs_at(now) <= bounds.least_retention_secs()
}

/// Decides what becomes of each workbench. They are to be given from the oldest to the newest, and keep that order.
#[must_use]
pub fn plan(benches: Vec<Bench>, rules: &Rules<'_>) -> Vec<Verdict> {
    let mut newest: HashMap<Slug, Newest> = HashMap::new();
    let mut freed = 0;
    let mut all_measured = true;
    let mut finished = Vec::new();
    let mut verdicts: Vec<Verdict> = Vec::with_capacity(benches.len());
    // From the newest on, for so the newest are counted.
    for (at, bench) in benches.into_iter().enumerate().rev() {
        let bounds = rules.bounds.get(bench.run.routine());
        // What another program made has no outcome: it is nobody's newest, and nobody knows when it finished.
        let ours = bench.life == Life::Finished && bench.retain_from.is_some();
        let among_newest = ours
            && bounds.is_some_and(|bounds| {
                bounds.keep_last > 0
                    && newest
                        .entry(bench.run.routine().clone())
                        .or_insert_with(|| Newest::of(bounds.keep_last))
                        .takes(bench.status.keep_group())
            });
        let pinned = !rules.pins.is_empty() && rules.pins.contains(&bench.run);
        if ours && !pinned {
            let finished_at = finish(bench.run.stamp(), bench.retain_from, None, rules.now);
            finished.push((finished_at, at, bench.bytes, bench.measured));
        }
        let (bytes, measured) = (bench.bytes, bench.measured);
        let verdict = judge(bench, bounds, pinned, among_newest, rules.now);
        if verdict.fate == Fate::Reap {
            freed += bytes;
            all_measured &= measured;
        }
        verdicts.push(verdict);
    }
    verdicts.reverse();
    if rules.disk.shortage(freed).is_some() {
        finished.sort_unstable();
        for (_, at, bytes, measured) in finished {
            // What goes may give back more than was measured: whether more has to go, the next sweep tells.
            let Some(shortage) = rules.disk.shortage(freed).filter(|_| all_measured) else { break };
            if verdicts[at].fate != Fate::Reap {
                (verdicts[at].fate, verdicts[at].reason) = (Fate::Reap, Reason::Short(shortage));
                freed += bytes;
                all_measured = measured;
            }
        }
    }
    if let Some(doubt) = rules.clock_doubt {
        verdicts.iter_mut().for_each(|verdict| defer(verdict, doubt));
    }
    verdicts
}

/// Puts off what would go by a clock that is not trusted.
fn defer(verdict: &mut Verdict, doubt: ClockDoubt) {
    if verdict.fate == Fate::Reap {
        let reason = std::mem::replace(&mut verdict.reason, Reason::Alive);
        verdict.reason = Reason::ClockInDoubt(Box::new(reason), doubt);
        verdict.fate = Fate::Keep(None);
    }
}

fn judge(bench: Bench, bounds: Option<&Bounds>, pinned: bool, among_newest: bool, now: UnixSeconds) -> Verdict {
    let Bench { run, life, status, retain_from, log_written, cookie, .. } = bench;
    let keep = |reason| (Fate::Keep(None), reason);
    let (fate, reason) = match (life, bounds) {
        (Life::Alive, _) => keep(Reason::Alive),
        (Life::Unsupervised(left), _) => keep(Reason::Unsupervised(left)),
        (Life::Unknown(cause), _) => keep(Reason::Unknown(cause)),
        (Life::Finished | Life::Unread, _) if pinned => keep(Reason::Pinned),
        (Life::Finished | Life::Unread, None) => keep(Reason::NoBounds),
        (Life::Unread, Some(bounds)) if is_young(&run, bounds, now) => young(&run, bounds, now),
        (Life::Unread, Some(_)) => keep(Reason::JustOfAge),
        (Life::Finished, Some(bounds)) => {
            let finished = finish(run.stamp(), retain_from, log_written, now);
            match retain(finished, bounds.retention_secs(status.retention()), bounds, now) {
                (Fate::Reap, _) if among_newest => keep(Reason::Newest(bounds.keep_last)),
                decided => decided,
            }
        }
    };
    Verdict { run, fate, reason, cookie }
}

fn young(run: &RunId, bounds: &Bounds, now: UnixSeconds) -> (Fate, Reason) {
    let ttl_secs = bounds.least_retention_secs();
    let age = Age { secs: run.stamp().age_secs_at(now), ttl_secs, note: bounds.note.clone() };
    (Fate::Keep(Some(reap_at(run.stamp().min(now), ttl_secs))), Reason::Young(age))
}

fn retain(finished: UnixSeconds, ttl_secs: u64, bounds: &Bounds, now: UnixSeconds) -> (Fate, Reason) {
    let secs = finished.age_secs_at(now);
    let fate = if secs > ttl_secs { Fate::Reap } else { Fate::Keep(Some(reap_at(finished, ttl_secs))) };
    (fate, Reason::Age(Age { secs, ttl_secs, note: bounds.note.clone() }))
}

#[cfg(test)]
mod tests;
