//! Why a workbench is removed or kept.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::clock_doubt::ClockDoubt;
use crate::clock::HumanDuration;

/// Why a workbench is removed or kept. There may be tens of thousands: the sentence is made only where it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "ReasonInWords")]
pub struct Reason {
    /// The rule that decided.
    pub why: Why,
    /// Seconds since the finish, or since the trigger where no finish is known.
    pub age_secs: u64,
    /// The retention in force; for a workbench that was not read, the shorter of its routine's two. `None` unless the run
    /// is known to have finished.
    pub retention_secs: Option<u64>,
    /// How and why the retention differs from what the routine says.
    pub note: Option<Arc<str>>,
}

/// The rule that decided about a workbench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The run is alive.
    Alive,
    /// Its question is open.
    Asked,
    /// The run is alive without its supervisor; these processes are left.
    Unsupervised(String),
    /// The last look before the removal found a process or an entry of the run.
    AliveAfterAll,
    /// Whether the run is alive cannot be decided, for this reason.
    Unknown(String),
    /// The bounds of the routine are missing.
    NoBounds,
    /// Somebody pinned the run.
    Pinned,
    /// Its retention has not passed.
    Young,
    /// By its name alone it is too young, so its files were not read.
    YoungByName,
    /// It came of age after the inventory skipped its files.
    JustOfAge,
    /// Its retention has passed.
    Expired,
    /// Its retention has passed, but it is one of this many newest runs of its routine.
    Newest(u64),
    /// This budget is exceeded, and it is among the oldest.
    ShortOfDisk(String, Option<String>),
    /// It would be removed for that reason, but the wall clock is in doubt.
    ClockInDoubt(Box<Self>, ClockDoubt),
    /// It is expired, but the history has no line of it and cannot be written now.
    NotInHistory,
    /// A process of this name is at work in it.
    InUse(String),
    /// It holds this, and its routine says that such a workbench stays.
    UnsavedWork(String),
    /// It holds this, which is being archived.
    Archiving(String),
    /// What it holds cannot be archived, for this reason.
    NotArchived(String),
    /// A person said that it may go with everything in it.
    Discarded,
}

impl Why {
    /// Returns the `why` of the JSON report, which programs match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Alive | Self::Unsupervised(_) | Self::AliveAfterAll => "alive",
            Self::Asked => "asked",
            Self::Unknown(_) | Self::NoBounds => "unknown",
            Self::Pinned => "pinned",
            Self::Young | Self::YoungByName | Self::JustOfAge => "young",
            Self::Expired => "expired",
            Self::Newest(_) => "newest",
            Self::ShortOfDisk(..) => "short_of_disk",
            Self::ClockInDoubt(..) => "clock_in_doubt",
            Self::NotInHistory => "not_in_history",
            Self::InUse(_) => "in_use",
            Self::UnsavedWork(_) => "unsaved_work",
            Self::Archiving(_) => "archiving",
            Self::NotArchived(_) => "not_archived",
            Self::Discarded => "discarded",
        }
    }
}

impl Reason {
    fn explain(&self, why: &Why, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = HumanDuration(self.age_secs);
        let retention = HumanDuration(self.retention_secs.unwrap_or(0));
        match why {
            Why::Alive => f.write_str("it is alive"),
            Why::Asked => f.write_str("it waits for an answer"),
            Why::Unsupervised(left) => write!(f, "it is alive, but its supervisor is gone: {left}"),
            Why::AliveAfterAll => f.write_str("one of its processes is still alive"),
            Why::Unknown(cause) => write!(f, "its state is unknown: {cause}"),
            Why::NoBounds => f.write_str("the bounds of its routine are not known"),
            Why::Pinned => f.write_str("it is pinned"),
            // Within the second of its end: the next sweep that looks later finds it of age.
            Why::Young | Why::YoungByName if self.retention_secs == Some(0) => {
                write!(f, "it was over {age} ago; the next sweep decides")
            }
            Why::Young => write!(f, "it finished {age} ago, and is kept for {retention}"),
            Why::YoungByName => {
                write!(f, "it was triggered {age} ago, and is kept for at least {retention} after its finish")
            }
            Why::JustOfAge => f.write_str("its retention has only just passed; the next sweep decides"),
            Why::Expired => write!(f, "it finished {age} ago, past its retention of {retention}"),
            Why::Newest(keep_last) => write!(f, "it is among the newest {keep_last} of its routine"),
            Why::ShortOfDisk(shortage, visitor) => {
                write!(f, "{shortage}: the oldest finished runs go first")?;
                visitor.as_ref().map_or(Ok(()), |process| write!(f, ", although {process} is at work in it"))
            }
            Why::ClockInDoubt(why, doubt) => {
                self.explain(why, f)?;
                write!(f, "; but {doubt}, so the next sweep decides")
            }
            Why::NotInHistory => f.write_str("its line cannot be written to the history yet"),
            Why::InUse(process) => write!(f, "{process} is at work in it"),
            Why::UnsavedWork(what) => write!(f, "it has unsaved work: {what}"),
            Why::Discarded => f.write_str("a person discarded it"),
            Why::Archiving(what) => write!(f, "it is removed once it is archived, in the background: {what}"),
            Why::NotArchived(reason) => write!(
                f,
                "it may hold unsaved work that cannot be archived: {reason}; fix that, or discard it with `moadim-mcp cleanup --discard RUN`"
            ),
        }?;
        match &self.note {
            Some(note) if matches!(why, Why::Young | Why::YoungByName | Why::Expired) => write!(f, " ({note})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain(&self.why, f)
    }
}

/// A reason as the JSON report shows it.
#[serde_with::skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(super) struct ReasonInWords {
    why: &'static str,
    reason: String,
    age_secs: u64,
    retention_secs: Option<u64>,
}

impl From<Reason> for ReasonInWords {
    fn from(reason: Reason) -> Self {
        let Reason { age_secs, retention_secs, .. } = reason;
        Self { why: reason.why.code(), reason: reason.to_string(), age_secs, retention_secs }
    }
}
