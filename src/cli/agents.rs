//! `agents`: what a routine can be run with.

use super::app::{self, Format, print_json};
use super::table::{Table, faint, judged, text};
use crate::mcp::tool::NoArguments;
use crate::mcp::tools::agents::{Agents, list_agents};

pub(super) fn agents(format: Format) -> anyhow::Result<()> {
    let answer = list_agents(&app::open_with_login_shell()?, NoArguments {})?;
    if format.json {
        return print_json(&answer);
    }
    let Agents { agents } = answer;
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
