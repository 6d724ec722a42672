//! What a cleanup did, or would do: one report for the tool, the command and the sweep in the background.

use schemars::JsonSchema;
use serde::Serialize;

use super::plan::Archived;
use super::reason::{Reason, ReasonInWords};
use super::stores::Store;
use crate::archive::Unarchived;
use crate::clock::UnixSeconds;
use crate::run::id::RunId;
use crate::run::status::Status;

/// What a cleanup did, or would do.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CleanupReport {
    pub(crate) dry_run: bool,
    /// Hung runs that were ended.
    pub killed: Vec<Killed>,
    pub(crate) killed_total: usize,
    /// Workbenches that were removed.
    pub removed: Vec<Removed>,
    pub(crate) removed_total: usize,
    /// Workbenches that stay.
    pub kept: Vec<Kept>,
    pub(crate) kept_total: usize,
    /// What failed; the next pass tries again.
    pub failed: Vec<Failed>,
    pub(crate) failed_total: usize,
    /// Bytes that would be removed, in a dry run.
    pub removable_bytes: Option<u64>,
    /// Bytes given back to the file system.
    pub freed_bytes: u64,
    /// Bytes that wait in the trash for the background to delete them.
    pub pending_bytes: u64,
    /// How many workbenches were looked at.
    pub scanned: usize,
    /// What the home stores, in a dry run; as in health.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub stores: Vec<Store>,
    /// Why nothing was removed, or why the sizes are lower bounds.
    pub note: Option<String>,
}

/// How many items of each list are shown: an answer has to fit into a model's context.
const SHOWN: usize = 100;

impl CleanupReport {
    /// Counts the lists and cuts each to its first 100 items, to be shown as JSON.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        fn cut<T>(items: &mut Vec<T>) -> usize {
            let total = items.len();
            items.truncate(SHOWN);
            total
        }
        self.killed_total = cut(&mut self.killed);
        self.removed_total = cut(&mut self.removed);
        self.kept_total = cut(&mut self.kept);
        self.failed_total = cut(&mut self.failed);
        self
    }
}

/// A run that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Killed {
    pub(crate) run: RunId,
    /// The status that this gives it.
    pub(crate) why: Status,
    pub(crate) reason: String,
}

/// A workbench that was removed.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Removed {
    /// The name of its workbench too.
    pub run: RunId,
    /// The rule that decided, and the numbers it decided by.
    #[serde(flatten)]
    #[schemars(with = "ReasonInWords")]
    pub reason: Reason,
    pub(crate) bytes: u64,
    /// What it held and nobody else had, and where that is now.
    pub(crate) archived: Option<Archived>,
    /// Files outside repositories that nobody asks to archive, in a dry run; absent if there are none.
    pub(crate) not_archived: Option<Unarchived>,
}

/// A workbench that stays.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Kept {
    /// The name of its workbench too.
    pub run: RunId,
    /// The rule that decided, and the numbers it decided by.
    #[serde(flatten)]
    #[schemars(with = "ReasonInWords")]
    pub reason: Reason,
    /// Until when, if that is known.
    pub until: Option<UnixSeconds>,
}

/// What failed for one run; the next pass tries again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failed {
    pub(crate) run: RunId,
    pub(crate) path: String,
    pub(crate) error: String,
}
