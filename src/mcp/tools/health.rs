//! `health`: how the program is.

use schemars::JsonSchema;
use serde::Serialize;

use crate::mcp::Core;
use crate::mcp::tool::{Hints, NoArguments, Tool, ToolError};

#[derive(Serialize, JsonSchema)]
struct Health {
    /// The program's version.
    version: String,
}

pub(super) fn tool() -> Tool<Core> {
    let hints = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    Tool::new("health", "Health", "Tells how moadim-mcp is: its version.", hints, health)
}

#[expect(clippy::unnecessary_wraps, reason = "every tool may fail")]
fn health(core: &Core, _: NoArguments) -> Result<Health, ToolError> {
    Ok(Health { version: core.version.to_owned() })
}
