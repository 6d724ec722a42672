//! How much a clean-up would remove, and whether that is so much that a person should agree first.

use std::ffi::OsString;
use std::fmt;
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;

use super::sweep::{self, SweepError};
use super::{remove, watchdog};
use crate::routine::slug::Slug;
use crate::run::workplace::Workplace;

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

/// How long measuring may take: it comes before the clean-up itself, and both have to fit into one call.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tells what a clean-up would remove if it is more than the settings let a tool remove unasked; `None` if it is not. What
/// takes too long to be measured counts as more.
///
/// # Errors
/// Nothing could be planned, and why.
pub fn beyond_consent(workplace: &Workplace, only: Option<&Slug>) -> Result<Option<Extent>, SweepError> {
    let config = &workplace.config;
    let stop_at = Instant::now() + PATIENCE;
    let mut extent = Extent { workbenches: 0, bytes: 0, complete: true };
    for run in sweep::due(workplace, only, &watchdog::forecast(workplace, only)?)? {
        let name = OsString::from(run.to_string());
        let measured = remove::measure(&workplace.home.workbenches(), &name, &|| Instant::now() >= stop_at);
        extent.workbenches += 1;
        extent.bytes += measured.bytes;
        extent.complete &= measured.complete;
    }
    let is_much = extent.workbenches > config.confirm_over_workbenches
        || extent.bytes > config.confirm_over_bytes
        || Instant::now() >= stop_at;
    Ok(is_much.then_some(extent))
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
}
