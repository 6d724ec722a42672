//! What a routine chooses for its agent: values, never parts of a command line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The options of an agent that something gives a value, by name.
pub type Options = BTreeMap<String, OptionValue>;

/// The option of that name says what an agent may do.
pub const PERMISSIONS: &str = "permissions";

/// The option of that name says what a run may cost before its agent ends itself.
pub const MAX_BUDGET_USD: &str = "max_budget_usd";

/// A value of an option; a number stands for its digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OptionValue(pub String);

impl OptionValue {
    /// Whether it is written as a number.
    pub fn is_number(&self) -> bool {
        self.0.parse::<f64>().is_ok()
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OptionValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = OptionValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OptionValue, E> {
                Ok(OptionValue(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<OptionValue, E> {
                Ok(OptionValue(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<OptionValue, E> {
                Ok(OptionValue(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<OptionValue, E> {
                // With its point, so that it does not pass for a whole number.
                Ok(OptionValue(format!("{number:?}")))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

impl JsonSchema for OptionValue {
    fn schema_name() -> Cow<'static, str> {
        "OptionValue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "number" }] })
    }
}

/// What an agent may do unattended, in the same words for every agent; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Permissions {
    /// It reads.
    ReadOnly,
    /// It also changes files in the workbench, with its own tools.
    Files,
    /// It also runs any command, confined to the workbench.
    #[default]
    Edit,
    /// It does whatever you could do.
    Full,
}

impl Permissions {
    /// All levels, the lowest first.
    pub const ALL: [Self; 4] = [Self::ReadOnly, Self::Files, Self::Edit, Self::Full];

    /// Returns its name in files and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Files => "files",
            Self::Edit => "edit",
            Self::Full => "full",
        }
    }

    /// Finds the level of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Says what an agent may do with it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ReadOnly => "it reads files and changes nothing",
            Self::Files => "it changes files in the workbench and runs no command",
            Self::Edit => "it runs any command, confined to the workbench",
            Self::Full => "it does whatever this user can do",
        }
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_text_or_a_number() {
        let options: Options = toml::from_str("a = 'x'\nb = 20\nc = 2.5\nd = 3.0").unwrap();
        let values: Vec<&str> = options.values().map(|value| value.0.as_str()).collect();
        assert_eq!(values, ["x", "20", "2.5", "3.0"]);
        assert!(toml::from_str::<Options>("a = true").is_err());
        assert!(toml::from_str::<Options>("a = ['x']").is_err());
    }

    #[test]
    fn levels_have_the_names_that_files_use() {
        for level in Permissions::ALL {
            assert_eq!(serde_json::to_value(level).unwrap(), level.name());
            assert_eq!(Permissions::of_name(level.name()), Some(level));
        }
        assert!(Permissions::ALL.is_sorted());
    }
}
