//! The program and the home.

use serde::Serialize;

use super::content::Content;
use super::{Found, State};
use crate::agent::agent_names;

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct ServerHead<'a> {
    /// The version of this program.
    program: &'static str,
    home: String,
    time_zone: Option<&'a str>,
    tools: &'a [&'a str],
    agents_available: usize,
    routines_total: usize,
    runs_total: usize,
}

/// # Errors
/// It cannot be written as JSON.
pub(super) fn content(state: &State, found: &Found<'_>, tools: &[&str]) -> serde_json::Result<Content> {
    let home = &found.context.home;
    let names = agent_names(home);
    let available = names.iter().filter(|name| state.agents.is_found(home, found.search_path, &name.to_string()));
    Content::default().with_head(&ServerHead {
        program: env!("CARGO_PKG_VERSION"),
        home: home.root().display().to_string(),
        time_zone: found.calendar.zone.as_deref(),
        tools,
        agents_available: available.count(),
        routines_total: state.routines.content().rows().len(),
        runs_total: state.past.total + found.live.as_ref().map_or(0, Vec::len),
    })
}
