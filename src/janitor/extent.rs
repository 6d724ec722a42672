//! How much a sweep would remove, and whether that is so much that a person should agree first.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;
use serde::{Deserialize, Serialize};

use super::remove;
use crate::home::config::Config;
use crate::run::id::RunId;

/// How much a sweep may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allowance {
    /// All that is due: a person wants it so, or has set it so.
    All,
    /// No more than this without a person's consent.
    UpTo {
        /// Workbenches.
        workbenches: u64,
        /// Bytes; the largest number allows any, measured or not.
        bytes: u64,
    },
}

impl Allowance {
    /// Returns what the settings allow without a person's consent.
    #[must_use]
    pub fn unasked(config: &Config) -> Self {
        Self::UpTo { workbenches: config.confirm_over_workbenches, bytes: config.confirm_over_bytes }
    }

    /// Returns what allows as much as was measured; any size, if it could not be measured whole.
    #[must_use]
    pub fn of(extent: &Extent) -> Self {
        let bytes = if extent.complete { extent.bytes } else { u64::MAX };
        Self::UpTo { workbenches: extent.workbenches, bytes }
    }

    /// Tells how much some runs' workbenches are, if it is more than is allowed; what takes too long to be measured is.
    #[must_use]
    pub fn exceeded_by(self, workbenches: &Path, runs: &[&RunId]) -> Option<Extent> {
        match self {
            Self::UpTo { workbenches: most, bytes } if !runs.is_empty() => {
                let (extent, in_time) = measure(workbenches, runs);
                let too_long = !in_time && bytes != u64::MAX;
                (extent.workbenches > most || extent.bytes > bytes || too_long).then_some(extent)
            }
            _ => None,
        }
    }
}

/// How much would be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Workbenches.
    pub workbenches: u64,
    /// Bytes that would be given back to the file system.
    pub bytes: u64,
    /// Whether that is all; false where measuring took too long or met what could not be read.
    pub complete: bool,
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_least = if self.complete { "" } else { "at least " };
        let workbenches = if self.workbenches == 1 { "workbench" } else { "workbenches" };
        write!(f, "{} {workbenches} ({at_least}{})", self.workbenches, BinaryBytes(self.bytes))
    }
}

/// How long measuring may take: the removal has to fit into the same call.
const PATIENCE: Duration = Duration::from_secs(3);

/// Measures workbenches, and tells whether there was time for all.
fn measure(workbenches: &Path, runs: &[&RunId]) -> (Extent, bool) {
    let stop_at = Instant::now() + PATIENCE;
    let mut extent = Extent { workbenches: 0, bytes: 0, complete: true };
    for run in runs {
        let measured = remove::measure(workbenches, &OsString::from(run.to_string()), &|| Instant::now() >= stop_at);
        extent.workbenches += 1;
        extent.bytes += measured.bytes;
        extent.complete &= measured.complete;
    }
    (extent, Instant::now() < stop_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_told_in_words() {
        let shown = |workbenches, bytes, complete| Extent { workbenches, bytes, complete }.to_string();
        assert_eq!(shown(1, 0, true), "1 workbench (0 B)");
        assert_eq!(shown(312, 3 << 30, false), "312 workbenches (at least 3.00 GiB)");
    }

    #[test]
    fn more_than_is_allowed_is_told_and_nothing_never_is() {
        let dir = tempfile::tempdir().unwrap();
        let runs: Vec<RunId> = ["a-1", "a-2"].map(|id| id.parse().unwrap()).into();
        for run in &runs {
            std::fs::create_dir(dir.path().join(run.to_string())).unwrap();
            std::fs::write(dir.path().join(run.to_string()).join("file"), [1; 9000]).unwrap();
        }
        let both: Vec<&RunId> = runs.iter().collect();
        let exceeded = |workbenches, bytes| Allowance::UpTo { workbenches, bytes }.exceeded_by(dir.path(), &both);
        assert_eq!(exceeded(2, 1 << 20), None);
        assert_eq!(exceeded(1, 1 << 20).unwrap().workbenches, 2);
        assert!(exceeded(2, 1).unwrap().bytes >= 18_000);
        let both_of_them = exceeded(1, 1).unwrap();
        assert_eq!(Allowance::of(&both_of_them).exceeded_by(dir.path(), &both), None);
        assert_eq!(Allowance::All.exceeded_by(dir.path(), &both), None);
        assert_eq!(Allowance::UpTo { workbenches: 0, bytes: 0 }.exceeded_by(dir.path(), &[]), None);
    }
}
