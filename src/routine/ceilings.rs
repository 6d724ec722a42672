//! What a day's runs may come to: how many there are, and what they cost. Of one routine, or of a whole home.

use super::invalid_field::InvalidField;
use super::model::Definition;
use crate::home::config::Config;
use crate::money::MicroDollars;

/// The most that the runs of a day may come to; what is absent has no ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ceilings {
    pub max_daily_runs: Option<u64>,
    pub max_daily_cost_usd: Option<MicroDollars>,
}

pub const MAX_DAILY_RUNS: &str = "max_daily_runs";
pub const MAX_DAILY_COST_USD: &str = "max_daily_cost_usd";

impl Ceilings {
    /// Returns those of one routine.
    pub fn of(definition: &Definition) -> Self {
        let Definition { max_daily_runs, max_daily_cost_usd, .. } = *definition;
        Self { max_daily_runs, max_daily_cost_usd }
    }

    /// Returns those of all routines of a home together.
    pub fn of_home(config: &Config) -> Self {
        let Config { max_daily_runs, max_daily_cost_usd, .. } = *config;
        Self { max_daily_runs, max_daily_cost_usd }
    }

    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

/// Checks a change that a tool makes: it may set a ceiling where none stands, and lower one, never raise or clear it. Nor may it
/// give the routine another day, in which nothing is used up yet. A routine that is created has no `before`.
///
/// # Errors
/// The change gives the routine more than a person allowed it.
pub fn check_lowered(before: Option<&Definition>, after: &Definition, config: &Config) -> Result<(), InvalidField> {
    let stood = before.map(Ceilings::of).unwrap_or_default();
    let (new, home) = (Ceilings::of(after), Ceilings::of_home(config));
    let amount = |amount: MicroDollars| f64::from(amount).to_string();
    check_one(MAX_DAILY_RUNS, stood.max_daily_runs, new.max_daily_runs, home.max_daily_runs, |runs| runs.to_string())?;
    let costs = [stood, new, home].map(|ceilings| ceilings.max_daily_cost_usd);
    check_one(MAX_DAILY_COST_USD, costs[0], costs[1], costs[2], amount)?;
    if before.is_some_and(|before| stood.is_any() && before.timezone != after.timezone) {
        let zone = after.timezone.as_ref().map_or_else(|| "cleared".to_owned(), |zone| format!("'{zone}'"));
        let rule = "tools cannot change it while the routine has a daily ceiling, because its day would begin again; ask a person \
                    to change it (moadim-mcp edit)";
        return Err(InvalidField::new("timezone", zone, rule));
    }
    Ok(())
}

fn check_one<T: PartialOrd + Copy>(
    field: &str,
    stood: Option<T>,
    new: Option<T>,
    home: Option<T>,
    shown: impl Fn(T) -> String,
) -> Result<(), InvalidField> {
    const ASK: &str = "ask a person to change routine.toml (moadim-mcp edit)";
    match (stood, new) {
        (Some(stood), None) => {
            let rule = format!("it is {}, and tools cannot clear it; {ASK}", shown(stood));
            Err(InvalidField::new(field, "cleared", rule))
        }
        (Some(stood), Some(new)) if new > stood => {
            let rule = format!("tools can only lower it, and it is {}; give at most that, or {ASK}", shown(stood));
            Err(InvalidField::new(field, shown(new), rule))
        }
        (stood, Some(new)) if stood != Some(new) => match home.filter(|home| new > *home) {
            Some(home) => {
                let rule = format!("it is {} for the whole home (config.toml); give at most that", shown(home));
                Err(InvalidField::new(field, shown(new), rule))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(max_daily_runs: Option<u64>, cents: Option<u64>) -> Definition {
        let max_daily_cost_usd = cents.map(|cents| MicroDollars(cents * 10_000));
        Definition { max_daily_runs, max_daily_cost_usd, ..Definition::default() }
    }

    fn refusal(before: Option<&Definition>, after: &Definition, config: &Config) -> String {
        check_lowered(before, after, config).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_names_the_ceiling_that_stands_and_who_can_change_it() {
        let config = Config { max_daily_runs: Some(10), ..Config::default() };
        let stands = with(Some(5), Some(150));
        let raised = refusal(Some(&stands), &with(Some(6), Some(150)), &config);
        assert_eq!(
            raised,
            "`max_daily_runs` is 6: tools can only lower it, and it is 5; give at most that, or ask a person to change \
             routine.toml (moadim-mcp edit)"
        );
        let cleared = refusal(Some(&stands), &with(Some(5), None), &config);
        assert!(
            cleared.starts_with("`max_daily_cost_usd` is cleared: it is 1.5, and tools cannot clear it"),
            "{cleared}"
        );
        let above = refusal(None, &with(Some(11), None), &config);
        assert!(above.contains("it is 10 for the whole home (config.toml)"), "{above}");
        let zone = Definition { timezone: Some("Asia/Tokyo".into()), ..stands.clone() };
        let moved = refusal(Some(&stands), &zone, &config);
        assert!(moved.starts_with("`timezone` is 'Asia/Tokyo': ") && moved.contains("moadim-mcp edit"), "{moved}");
        assert!(check_lowered(Some(&with(None, None)), &zone, &config).is_ok(), "none stood");
    }

    #[test]
    fn what_a_person_wrote_above_the_home_may_stay() {
        let config = Config { max_daily_runs: Some(3), ..Config::default() };
        let high = with(Some(8), None);
        assert!(check_lowered(Some(&high), &Definition { title: "New".into(), ..high.clone() }, &config).is_ok());
        assert!(check_lowered(Some(&high), &with(Some(7), None), &config).is_err());
        assert!(check_lowered(Some(&high), &with(Some(3), None), &config).is_ok());
    }

    proptest! {
        #[test]
        fn however_often_tools_change_a_ceiling_it_never_rises(
            first in prop::option::of(1..9_u64), home in prop::option::of(1..9_u64),
            changes in prop::collection::vec(prop::option::of(1..12_u64), 0..20)
        ) {
            let config = Config { max_daily_runs: home, ..Config::default() };
            let mut now = with(first, None);
            for change in changes {
                let next = with(change, None);
                let before = now.max_daily_runs;
                if check_lowered(Some(&now), &next, &config).is_ok() {
                    now = next;
                }
                if let Some(before) = before {
                    prop_assert!(now.max_daily_runs.is_some_and(|now| now <= before));
                }
            }
        }
    }
}
