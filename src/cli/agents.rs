//! `agents`: what a routine can be run with.

use serde::Deserialize;
use serde_json::json;

use super::desk::{Desk, Format, print_json};
use super::table::{Table, faint, judged, text};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    format: Format,
}

#[derive(Deserialize)]
struct Answer {
    agents: Vec<Agent>,
}

#[derive(Deserialize)]
struct Agent {
    name: String,
    command: String,
    args: Vec<String>,
    available: bool,
    detail: String,
    defined_in: String,
}

/// Lists them.
pub(super) fn agents(arguments: &Arguments) -> anyhow::Result<()> {
    let answer = Desk::open_with_search_path()?.call("list_agents", json!({}))?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let Answer { agents } = serde_json::from_value(answer)?;
    let mut table = Table::new(&["AGENT", "FOUND", "COMMAND", "WHERE", "DEFINED IN"]);
    for agent in agents {
        let words: Vec<String> = std::iter::once(agent.command).chain(agent.args).collect();
        table.row(vec![
            text(&agent.name),
            judged(if agent.available { "yes" } else { "no" }, agent.available),
            text(&words.join(" ")),
            if agent.available { text(&agent.detail) } else { faint("not found; see: moadim-mcp doctor") },
            faint(&agent.defined_in),
        ]);
    }
    Ok(table.print("no agents")?)
}
