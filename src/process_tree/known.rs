//! The processes that an end of a run has found so far.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::ProcessId;

/// The processes of a run that is being ended, so that another process can go on with that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownProcesses {
    /// Those that were ever found to belong: a process still does once the parent by which it was recognised is gone.
    pub known: HashSet<ProcessId>,
    /// Those of them that were asked to end (TERM). A second TERM means "at once" to many programs, so there is none.
    pub asked: HashSet<ProcessId>,
}

impl KnownProcesses {
    /// Names processes that are known to belong.
    pub fn of(known: impl IntoIterator<Item = ProcessId>) -> Self {
        Self { known: known.into_iter().collect(), asked: HashSet::new() }
    }
}
