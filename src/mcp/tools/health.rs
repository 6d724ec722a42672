//! `health`: how the home is, and everything that is wrong with it.

use crate::janitor::health::{Health, examine};
use crate::mcp::Core;
use crate::mcp::tool::{Hints, NoArguments, Tool, ToolError};

pub(super) fn tool() -> Tool {
    let hints = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    let description = "Tells how moadim-mcp is: version, home, where runs can be watched, the janitor's passes, counts of \
                       routines and runs, disk, and `problems` with their cures.";
    Tool::new("health", "Health", description, hints, |core, _: NoArguments| examination(core))
}

pub(in crate::mcp) fn examination(core: &Core) -> Result<Health, ToolError> {
    Ok(examine(&core.site, &core.janitor, Some(&core.search_path()))?)
}
