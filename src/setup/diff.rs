//! What would change, for a person to read.

use similar::TextDiff;

/// Returns a unified diff with three lines of context; empty if nothing changes.
pub(super) fn unified(old: &str, new: &str) -> String {
    TextDiff::from_lines(old, new).unified_diff().context_radius(3).to_string()
}
