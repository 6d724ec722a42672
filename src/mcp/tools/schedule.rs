//! `snooze_routine`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::mcp::Core;
use crate::mcp::tool::{Hints, Tool, ToolError};
use crate::query::routine_view::Firing;
use crate::routine::slug::Slug;
use crate::routine::snooze;

pub(super) fn snooze() -> Tool {
    let hints = Hints { read_only: false, destructive: false, idempotent: true, open_world: false };
    let description = "Keeps a schedule from firing until a time, or once; with neither, it fires again as planned.";
    Tool::new("snooze_routine", "Snooze a routine", description, hints, snooze_routine)
}

#[derive(Deserialize, JsonSchema)]
struct Snooze {
    /// Its slug.
    routine: Slug,
    until: Option<UnixSeconds>,
    skip_next: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct Snoozed {
    routine: Slug,
    #[serde(flatten)]
    #[schemars(skip)]
    firing: Firing,
}

fn snooze_routine(core: &Core, arguments: Snooze) -> Result<Snoozed, ToolError> {
    let home = core.app.home();
    let (now, skip_next) = (UnixSeconds::now(), arguments.skip_next.unwrap_or(false));
    let (definition, ledger) = snooze::snooze(home, &arguments.routine, arguments.until, skip_next, now)?;
    Ok(Snoozed { routine: arguments.routine, firing: Firing::of(&definition, Ok(&ledger), now) })
}
