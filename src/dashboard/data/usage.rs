//! What the runs of the last 7 days used, by agent.

use serde::Serialize;

use super::calendar::Calendar;
use super::content::{Content, Row};
use super::past::PastRuns;
use crate::clock::UnixSeconds;
use crate::home::config::Config;
use crate::query::usage::{NamedUse, Use, dearest_first};
use crate::query::used_today::UsedToday;
use crate::routine::ceilings::Ceilings;
use crate::routine::day::Day;
use crate::run::budget::RecentRuns;

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct UsageHead {
    since: UnixSeconds,
    total: Use,
    today: Option<UsedToday>,
}

/// # Errors
/// A row cannot be written as JSON.
pub(super) fn content(
    past: &PastRuns,
    calendar: &Calendar,
    config: &Config,
    recent: Option<&RecentRuns>,
    now: UnixSeconds,
) -> serde_json::Result<Content> {
    let (total, agents) = past.used();
    let day = Day::of_routine(None, now);
    let today = recent.map(|recent| UsedToday::of(&Ceilings::of_home(config), &recent.used_by_all(&day), &day));
    let row = |named: &NamedUse| Row::of(named.name.as_str(), named);
    let rows = dearest_first(agents).iter().map(row).collect::<Result<_, _>>()?;
    Content::of(rows).with_head(&UsageHead { since: calendar.week(), total, today })
}
