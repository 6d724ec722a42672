//! `snooze_routine`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::mcp::tool::{Hints, Tool};
use crate::query::routine_view::Firing;
use crate::routine::home_snooze::{self, HomeSnooze};
use crate::routine::slug::Slug;
use crate::routine::snooze;
use crate::run::context::App;

pub(super) fn tool() -> Tool {
    let hints = Hints { read_only: false, destructive: false, idempotent: true, open_world: false };
    let description = "Keep a routine's schedule, or without `routine` all schedules, from firing until a time; or skip a routine's next \
                       fire. With neither, end that snooze.";
    Tool::new("snooze_routine", "Snooze a routine", description, hints, snooze_routine)
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Snooze {
    /// The routine's slug; without it, the whole home.
    pub(crate) routine: Option<Slug>,
    /// Do not fire before this time.
    pub(crate) until: Option<UnixSeconds>,
    /// Skip the next fire only.
    pub(crate) skip_next: Option<bool>,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(crate) struct Snoozed {
    pub(crate) routine: Option<Slug>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) firing: Firing,
}

pub(crate) fn snooze_routine(app: &App, arguments: Snooze) -> anyhow::Result<Snoozed> {
    let home = &app.home;
    let (now, skip_next) = (UnixSeconds::now(), arguments.skip_next.unwrap_or(false));
    let Some(routine) = arguments.routine else {
        home_snooze::check_not_next(skip_next)?;
        home_snooze::snooze_home(home, arguments.until, now)?;
        let firing = Firing { snoozed_until: arguments.until, ..Firing::default() };
        return Ok(Snoozed { routine: None, firing });
    };
    let (definition, ledger) = snooze::snooze(home, &routine, arguments.until, skip_next, now)?;
    let firing = Firing::of(&definition, Ok(&ledger), HomeSnooze::until(home, now), now);
    Ok(Snoozed { routine: Some(routine), firing })
}
