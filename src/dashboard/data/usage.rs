//! What the runs of the last 7 days used.

use serde::Serialize;

use super::calendar::Calendar;
use super::content::Content;
use super::past::PastRuns;
use crate::clock::UnixSeconds;
use crate::home::config::Config;
use crate::query::usage::Use;
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
/// It cannot be written as JSON.
pub(super) fn content(
    past: &PastRuns,
    calendar: &Calendar,
    config: &Config,
    recent: Option<&RecentRuns>,
    now: UnixSeconds,
) -> serde_json::Result<Content> {
    let day = Day::of_routine(None, now);
    let today = recent.map(|recent| UsedToday::of(&Ceilings::of_home(config), &recent.used_by_all(&day), &day));
    Content::default().with_head(&UsageHead { since: calendar.week(), total: past.used(), today })
}
