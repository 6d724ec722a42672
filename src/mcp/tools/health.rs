//! `health`: how the home is, and everything that is wrong with it.

use crate::janitor::health::{Health, examine};
use crate::mcp::Core;
use crate::mcp::tool::{Hints, NoArguments, Tool, ToolError};

pub(super) fn tool() -> Tool {
    let hints = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    let description = "Tells how moadim-mcp is: version, home, the janitor's passes, counts of routines and runs, disk, \
                       `problems` with cures.";
    Tool::new("health", "Health", description, hints, |core, _: NoArguments| examination(core))
}

/// How many problems are shown: an answer has to fit into a model's context.
const SHOWN: usize = 100;

pub(in crate::mcp) fn examination(core: &Core) -> Result<Health, ToolError> {
    let mut health = examine(&core.app, &core.janitor, &core.search_path())?;
    health.problems.truncate(SHOWN);
    Ok(health)
}
