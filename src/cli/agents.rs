//! `agents`: what a routine can be run with.

use std::io::Write;

use super::app::{self, Format, print_json};
use super::table::{Table, faint, judged, text};
use super::time::moment;
use crate::clock::UnixSeconds;
use crate::mcp::tool::NoArguments;
use crate::mcp::tools::agents::list_agents;
use crate::options::{PERMISSIONS, Permissions};

pub(super) fn agents(format: Format) -> anyhow::Result<()> {
    let answer = list_agents(&app::open_with_login_shell()?, NoArguments {})?;
    if format.json {
        return print_json(&answer);
    }
    let mut table = Table::new(&["AGENT", "FOUND", "PERMISSIONS", "OPTIONS", "COMMAND", "WHERE", "DEFINED IN"]);
    let (mut held, now) = (Vec::new(), UnixSeconds::now());
    for agent in answer.agents {
        if let Some((until, because)) = agent.held_until.zip(agent.held_because) {
            held.push(format!("Scheduled runs of {} wait until {}: {because}.", agent.name, moment(until, now)));
        }
        let words: Vec<String> = std::iter::once(agent.command).chain(agent.args).collect();
        let permissions = agent.options.get(PERMISSIONS).and_then(|option| option.default.as_ref());
        let options: Vec<&str> = agent.options.keys().map(String::as_str).filter(|name| *name != PERMISSIONS).collect();
        table.row(vec![
            text(&agent.name),
            judged(if agent.available { "yes" } else { "no" }, agent.available),
            permissions.map_or_else(|| faint("its own"), |level| text(&level.0)),
            text(&options.join(" ")),
            text(&words.join(" ")),
            if agent.available { text(&agent.detail) } else { faint("not found; see: moadim-mcp doctor") },
            faint(&agent.defined_in),
        ]);
    }
    table.print("no agents")?;
    let mut out = anstream::stdout();
    if !held.is_empty() {
        writeln!(out, "\n{}", held.join("\n"))?;
    }
    match answer.max_permissions {
        None => writeln!(out, "\nWhat tools can allow an agent is not known: {} cannot be read.", answer.config_file)?,
        Some(max) => writeln!(out, "\nTools can allow an agent at most {max} ({}).", max.meaning())?,
    }
    if answer.max_permissions.is_some_and(|max| max < Permissions::Full) {
        writeln!(out, "To let them allow everything, write max_permissions = \"full\" into {}.", answer.config_file)?;
    }
    Ok(())
}
