//! The tools, one file a family.

mod agents;
pub(crate) mod cleanup;
mod health;
mod page;
mod routines;
mod runs;
mod schedule;

use super::Core;
use super::tool::Tool;

/// Returns every tool.
#[must_use]
pub fn all() -> Vec<Tool<Core>> {
    let mut tools = vec![agents::list(), cleanup::tool(), health::tool(), schedule::snooze()];
    tools.extend(routines::tools());
    tools.extend(runs::tools());
    tools
}
