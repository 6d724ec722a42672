//! The tools, one file a family.

pub(super) mod agents;
pub(crate) mod cleanup;
pub(super) mod health;
mod page;
pub(super) mod read_log;
pub(super) mod routines;
pub(super) mod runs;
mod schedule;
pub mod selection;

use super::tool::Tool;

/// Returns every tool.
#[must_use]
pub fn all() -> Vec<Tool> {
    let mut tools = vec![agents::list(), cleanup::tool(), health::tool(), schedule::snooze(), read_log::tool()];
    tools.extend(routines::tools());
    tools.extend(runs::tools());
    tools
}
