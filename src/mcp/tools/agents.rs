//! `list_agents`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::Registry;
use crate::mcp::tool::{Hints, NoArguments, Tool};
use crate::run::context::App;

#[derive(Serialize, JsonSchema)]
pub(crate) struct Agents {
    pub(crate) agents: Vec<AgentView>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct AgentView {
    /// The name that a routine gives.
    pub(crate) name: String,
    /// The program.
    pub(crate) command: String,
    /// Its arguments, with placeholders.
    pub(crate) args: Vec<String>,
    pub(crate) available: bool,
    /// Where it is, or why it is not found.
    pub(crate) detail: String,
    /// "built-in", or the file that defines it.
    pub(crate) defined_in: String,
    /// What `env` may set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) accept_env: Vec<String>,
}

pub(super) fn tool() -> Tool {
    let description = "List the agents that a routine can name, and whether each can start on this machine. Call this before \
                       create_routine. A person adds an agent as a file, agents/<name>.toml.";
    Tool::new("list_agents", "List agents", description, Hints::READS, list_agents)
}

pub(crate) fn list_agents(app: &App, _: NoArguments) -> anyhow::Result<Agents> {
    let search_path = app.search_path();
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
    Ok(Agents { agents: Registry::load(&app.home)?.agents().map(view).collect() })
}
