//! Amounts of money, exact and small enough to be summed up without care.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A billion dollars: all amounts up to it are exact as numbers of dollars, too.
pub(crate) const MAX_MICRO_DOLLARS: u64 = 1_000_000_000_000_000;

/// Millionths of a US dollar, written as a number of dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct MicroDollars(pub u64);

impl MicroDollars {
    /// Returns the sum, at most the largest amount.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(MAX_MICRO_DOLLARS))
    }

    /// Rounds to cents, for a table; what is there is not shown as nothing.
    pub(crate) fn in_cents(self) -> String {
        match (self.0, self.0.saturating_add(5_000) / 10_000) {
            (1.., 0) => "<$0.01".to_owned(),
            (_, cents) => format!("${}.{:02}", cents / 100, cents % 100),
        }
    }
}

impl From<f64> for MicroDollars {
    /// Numbers that are no amount count as nothing, or as the largest one.
    fn from(dollars: f64) -> Self {
        Self(((dollars * 1e6).round() as u64).min(MAX_MICRO_DOLLARS))
    }
}

impl From<MicroDollars> for f64 {
    fn from(amount: MicroDollars) -> Self {
        amount.0 as Self / 1e6
    }
}

impl JsonSchema for MicroDollars {
    fn schema_name() -> Cow<'static, str> {
        "MicroDollars".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

impl fmt::Display for MicroDollars {
    /// Writes dollars and cents; what is less than a cent is written as well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, micros) = (self.0 / 1_000_000, format!("{:06}", self.0 % 1_000_000));
        let fraction = micros.trim_end_matches('0');
        write!(f, "${dollars}.{fraction:0<2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_is_written_exactly_and_with_cents() {
        let cases =
            [(0, "$0.00"), (500_000, "$0.50"), (520_000, "$0.52"), (6_000, "$0.006"), (12_345_678, "$12.345678")];
        for (micros, expected) in cases {
            assert_eq!(MicroDollars(micros).to_string(), expected);
        }
    }

    #[test]
    fn a_table_shows_cents_and_no_cost_as_nothing() {
        let shown = [0, 1, 2_500, 4_999, 5_000, 12_345_678].map(|micros| MicroDollars(micros).in_cents());
        assert_eq!(shown, ["$0.00", "<$0.01", "<$0.01", "<$0.01", "$0.01", "$12.35"]);
        assert_eq!(MicroDollars(u64::MAX).in_cents(), "$18446744073709.55");
    }

    proptest! {
        #[test]
        fn money_is_written_and_read_back(micros in 0..=MAX_MICRO_DOLLARS) {
            let amount = MicroDollars(micros);
            let text = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(serde_json::from_str::<MicroDollars>(&text).unwrap(), amount);
        }
    }
}
