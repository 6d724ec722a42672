//! What a sweep does, decided in one pure function: a dry run prints this plan, and a real run carries it out (rule 9).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::clock_doubt::ClockDoubt;
use crate::clock::{HumanDuration, UnixSeconds};
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
            (self.fate, self.reason.why) = (Fate::Keep(None), Why::NotInHistory);
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

/// Why a workbench goes or stays; put into words only where it is shown, because there may be very many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What decided.
    pub why: Why,
    /// The numbers that it was decided by.
    pub age: Age,
}

/// What decides about a workbench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It lives.
    Alive,
    /// It lives without its supervisor: these processes are left of it.
    Unsupervised(String),
    /// A last look found a process or an entry of it.
    AliveAfterAll,
    /// Nothing certain is known of it, for this reason.
    Unknown(String),
    /// Nothing is known of what its routine wants.
    NoBounds,
    /// Somebody asked to keep it.
    Pinned,
    /// Its retention has not passed.
    Young,
    /// Its name says that it is too young, so nothing of it was read.
    YoungByName,
    /// It was too young to be read, and is not any more.
    JustOfAge,
    /// Its retention has passed.
    Expired,
    /// Its retention has passed, and it is among that many newest ones of its routine that ended as it did.
    Newest(u64),
    /// Disk is short, and it is among the oldest.
    ShortOfDisk(Shortage),
    /// It would go for that reason, but the wall clock is not trusted.
    ClockInDoubt(Box<Self>, ClockDoubt),
    /// The history has no line of it and cannot be written just now.
    NotInHistory,
}

impl Why {
    /// Returns the word for it that programs go by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Alive | Self::Unsupervised(_) | Self::AliveAfterAll => "alive",
            Self::Unknown(_) | Self::NoBounds => "unknown",
            Self::Pinned => "pinned",
            Self::Young | Self::YoungByName | Self::JustOfAge => "young",
            Self::Expired => "expired",
            Self::Newest(_) => "newest",
            Self::ShortOfDisk(_) => "short_of_disk",
            Self::ClockInDoubt(..) => "clock_in_doubt",
            Self::NotInHistory => "not_in_history",
        }
    }
}

/// How old a run is, and how old it may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Age {
    /// Seconds since its finish; since its trigger where no finish is known.
    pub secs: u64,
    /// The retention in force; for a run of which nothing was read, the shorter of its routine's two. `None` for one that is
    /// not known to have finished.
    pub retention_secs: Option<u64>,
    /// What the retention differs from as written, and why.
    pub note: Option<Arc<str>>,
}

impl Age {
    /// Returns the age of a run that is not known to have finished.
    #[must_use]
    pub fn since_trigger(run: &RunId, now: UnixSeconds) -> Self {
        Self { secs: run.stamp().age_secs_at(now), retention_secs: None, note: None }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.age.explain(&self.why, f)
    }
}

impl Age {
    fn explain(&self, why: &Why, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = HumanDuration(self.secs);
        let retention = HumanDuration(self.retention_secs.unwrap_or(0));
        let note = |f: &mut fmt::Formatter<'_>| match &self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        };
        match why {
            Why::Alive => f.write_str("it is alive"),
            Why::Unsupervised(left) => write!(f, "it is alive, though its supervisor is gone: {left}"),
            Why::AliveAfterAll => f.write_str("a process of it is alive after all"),
            Why::Unknown(cause) => write!(f, "nothing certain is known of it: {cause}"),
            Why::NoBounds => f.write_str("the bounds of its routine are not known"),
            Why::Pinned => f.write_str("it is pinned"),
            Why::Young => {
                write!(f, "it finished {age} ago, and is kept for {retention}")?;
                note(f)
            }
            Why::YoungByName => {
                write!(f, "it was triggered {age} ago, and is kept for at least {retention} after its finish")?;
                note(f)
            }
            Why::JustOfAge => f.write_str("it has only just come of age; the next sweep reads it"),
            Why::Expired => {
                write!(f, "it finished {age} ago, past its retention of {retention}")?;
                note(f)
            }
            Why::Newest(keep_last) => write!(f, "it is among the newest {keep_last} of its routine"),
            Why::ShortOfDisk(shortage) => write!(f, "{shortage}: the oldest finished ones go first"),
            Why::ClockInDoubt(why, doubt) => {
                self.explain(why, f)?;
                write!(f, "; but {doubt}, so that is left to the next sweep")
            }
            Why::NotInHistory => f.write_str("it is not in the history yet, which cannot be written"),
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
                (verdicts[at].fate, verdicts[at].reason.why) = (Fate::Reap, Why::ShortOfDisk(shortage));
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
        let why = std::mem::replace(&mut verdict.reason.why, Why::Alive);
        verdict.reason.why = Why::ClockInDoubt(Box::new(why), doubt);
        verdict.fate = Fate::Keep(None);
    }
}

fn judge(bench: Bench, bounds: Option<&Bounds>, pinned: bool, among_newest: bool, now: UnixSeconds) -> Verdict {
    let Bench { run, life, status, retain_from, log_written, cookie, .. } = bench;
    let since_trigger = Age::since_trigger(&run, now);
    let (fate, why, age) = match (life, bounds) {
        (Life::Alive, _) => (Fate::Keep(None), Why::Alive, since_trigger),
        (Life::Unsupervised(left), _) => (Fate::Keep(None), Why::Unsupervised(left), since_trigger),
        (Life::Unknown(cause), _) => (Fate::Keep(None), Why::Unknown(cause), since_trigger),
        (Life::Finished | Life::Unread, None) => {
            (Fate::Keep(None), if pinned { Why::Pinned } else { Why::NoBounds }, since_trigger)
        }
        (Life::Unread, Some(bounds)) => {
            let retention_secs = bounds.least_retention_secs();
            let age = Age { retention_secs: Some(retention_secs), note: bounds.note.clone(), ..since_trigger };
            if pinned {
                (Fate::Keep(None), Why::Pinned, age)
            } else if is_young(&run, bounds, now) {
                (Fate::Keep(Some(reap_at(run.stamp().min(now), retention_secs))), Why::YoungByName, age)
            } else {
                (Fate::Keep(None), Why::JustOfAge, age)
            }
        }
        (Life::Finished, Some(bounds)) => {
            let finished = finish(run.stamp(), retain_from, log_written, now);
            let retention_secs = bounds.retention_secs(status.retention());
            let secs = finished.age_secs_at(now);
            let (fate, why) = if pinned {
                (Fate::Keep(None), Why::Pinned)
            } else if secs <= retention_secs {
                (Fate::Keep(Some(reap_at(finished, retention_secs))), Why::Young)
            } else if among_newest {
                (Fate::Keep(None), Why::Newest(bounds.keep_last))
            } else {
                (Fate::Reap, Why::Expired)
            };
            (fate, why, Age { secs, retention_secs: Some(retention_secs), note: bounds.note.clone() })
        }
    };
    Verdict { run, fate, reason: Reason { why, age }, cookie }
}

#[cfg(test)]
mod tests;
