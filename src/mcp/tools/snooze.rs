//! `snooze_routine`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::mcp::tool::{Hints, Tool};
use crate::query::routine_view::Firing;
use crate::routine::slug::Slug;
use crate::routine::snooze;
use crate::run::context::App;

pub(super) fn tool() -> Tool {
    let hints = Hints { read_only: false, destructive: false, idempotent: true, open_world: false };
    let description = "Keep a routine's schedule from firing until a time, or skip its next fire. With neither argument, end the snooze.";
    Tool::new("snooze_routine", "Snooze a routine", description, hints, snooze_routine)
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Snooze {
    /// The routine's slug.
    pub(crate) routine: Slug,
    /// Do not fire before this time.
    pub(crate) until: Option<UnixSeconds>,
    /// Skip the next fire only.
    pub(crate) skip_next: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Snoozed {
    pub(crate) routine: Slug,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) firing: Firing,
}

pub(crate) fn snooze_routine(app: &App, arguments: Snooze) -> anyhow::Result<Snoozed> {
    let home = &app.home;
    let (now, skip_next) = (UnixSeconds::now(), arguments.skip_next.unwrap_or(false));
    let (definition, ledger) = snooze::snooze(home, &arguments.routine, arguments.until, skip_next, now)?;
    Ok(Snoozed { routine: arguments.routine, firing: Firing::of(&definition, Ok(&ledger), now) })
}
