//! `health`.

use crate::janitor::health::{Health, examine};
use crate::mcp::tool::{Hints, NoArguments, Tool};
use crate::run::context::App;

pub(super) fn tool() -> Tool {
    let description = "Check moadim-mcp itself: version, home, when the background passes ran, how many routines and runs there \
                       are, disk use, and `problems`, each with its fix. Call this when something looks wrong.";
    Tool::new("health", "Health", description, Hints::READS, |app, _: NoArguments| Ok(health(app)))
}

/// How many problems are shown: an answer has to fit into a model's context.
const SHOWN: usize = 100;

pub(in crate::mcp) fn health(app: &App) -> Health {
    let mut health = examine(app, &app.search_path());
    health.problems.truncate(SHOWN);
    health
}
