//! The tools, one file a family.

pub(crate) mod agents;
pub(crate) mod cleanup;
pub(crate) mod dashboard;
pub(super) mod health;
mod page;
pub(crate) mod questions;
pub(crate) mod read_log;
pub(crate) mod routines;
pub(crate) mod runs;
pub(crate) mod selection;
pub(crate) mod snooze;

use super::tool::Tool;

/// Returns every tool.
#[must_use]
pub fn all() -> Vec<Tool> {
    let mut tools =
        vec![agents::tool(), cleanup::tool(), health::tool(), snooze::tool(), read_log::tool(), questions::tool()];
    tools.extend(dashboard::tools());
    tools.extend(routines::tools());
    tools.extend(runs::tools());
    tools
}
