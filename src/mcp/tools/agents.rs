//! `list_agents`: what can be run.

use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::Registry;
use crate::mcp::Core;
use crate::mcp::tool::{Hints, NoArguments, Tool, ToolError};

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp) struct Agents {
    agents: Vec<AgentView>,
}

#[derive(Serialize, JsonSchema)]
struct AgentView {
    /// The name that a routine gives.
    name: String,
    /// The program.
    command: String,
    /// Its arguments, with placeholders.
    args: Vec<String>,
    available: bool,
    /// Where it is, or why it is not found.
    detail: String,
    /// "built-in", or the file that defines it.
    defined_in: String,
    /// What `env` may set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accept_env: Vec<String>,
}

pub(super) fn list() -> Tool {
    let hints = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    let description =
        "Lists the agents that routines can name: built-in ones, and those in a person's agents/<name>.toml.";
    Tool::new("list_agents", "List agents", description, hints, |core, _: NoArguments| agents(core))
}

pub(in crate::mcp) fn agents(core: &Core) -> Result<Agents, ToolError> {
    let search_path = core.search_path();
    let view = |agent: &crate::agent::Agent| {
        let found = search_path.find(&agent.definition);
        AgentView {
            name: agent.name.to_string(),
            command: agent.definition.command.clone(),
            args: agent.definition.args.clone(),
            available: found.is_ok(),
            detail: found.map_or_else(|error| error.to_string(), |found| found.to_string()),
            defined_in: agent.source.to_string(),
            accept_env: agent.definition.accept_env.iter().map(ToString::to_string).collect(),
        }
    };
    Ok(Agents { agents: Registry::load(core.app.home())?.agents().map(view).collect() })
}
