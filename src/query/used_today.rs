//! What today's runs come to, beside the ceilings that they may not exceed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::money::MicroDollars;
use crate::routine::ceilings::Ceilings;
use crate::routine::day::Day;
use crate::run::budget::Used;

/// The runs of a day so far. Costs are the list prices that agents report.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsedToday {
    pub runs: u64,
    pub max_daily_runs: Option<u64>,
    /// Absent if it is known of none of them.
    pub cost_usd: Option<MicroDollars>,
    pub max_daily_cost_usd: Option<MicroDollars>,
    /// Runs that `cost_usd` lacks: live ones, and those that ended without reporting a cost.
    pub unknown_cost_runs: u64,
    /// When the day ends.
    pub until: UnixSeconds,
}

impl UsedToday {
    pub(crate) fn of(ceilings: &Ceilings, used: &Used, day: &Day) -> Self {
        let Ceilings { max_daily_runs, max_daily_cost_usd } = *ceilings;
        Self {
            runs: used.runs,
            max_daily_runs,
            cost_usd: used.known_cost_usd(),
            max_daily_cost_usd,
            unknown_cost_runs: used.unknown_cost_runs,
            until: day.end,
        }
    }
}
