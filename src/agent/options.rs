//! Which options an agent has, and what each value adds to its command.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::environment::Variables;
use crate::options::{OptionValue, PERMISSIONS, Permissions};
use crate::quote::quote;

/// What one option takes, and what it adds to the agent's command where `args` has `{options}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentOption {
    /// What every value adds to the command's arguments, with `{value}` and the placeholders of `args`. One value is always one
    /// argument.
    pub args: Vec<String>,
    /// Variables to set, with `{value}`.
    pub env: Variables,
    /// The values that it takes, those in `adds` aside.
    pub values: Vec<String>,
    /// A regular expression for the values that it takes; it has to match the whole of one.
    pub pattern: Option<String>,
    /// The largest number that it takes; a whole number, such as 20, takes no fractions, and 20.0 does. If absent, a number
    /// in `default`.
    pub max: Option<OptionValue>,
    /// The value if a routine gives none. If absent, the option then adds nothing. `permissions` has none: it is the highest level that
    /// the agent has up to `max_permissions`.
    pub default: Option<OptionValue>,
    /// What single values add beside `args` and `env`.
    pub adds: BTreeMap<String, Addition>,
}

/// What one value of an option adds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Addition {
    /// Arguments, with the placeholders of `args`.
    pub args: Vec<String>,
    /// Variables to set.
    pub env: Variables,
    /// Programs that must be on PATH, each with the name of its package.
    pub requires: BTreeMap<String, String>,
    /// What people should know who choose it.
    pub note: Option<String>,
}

/// What an option takes.
enum Takes {
    Listed,
    Pattern(Regex),
    Number { max: f64, is_whole: bool },
}

/// No value that makes sense is longer.
const MAX_VALUE_CHARS: usize = 200;

/// The most memory that a pattern may take up, in bytes.
const MAX_PATTERN_MEMORY: usize = 1 << 18;

impl AgentOption {
    /// Returns the values that it lists; none where it takes a pattern or a number.
    pub fn listed(&self) -> Vec<&str> {
        let mut listed: Vec<&str> = self.values.iter().chain(self.adds.keys()).map(String::as_str).collect();
        // Levels have an order of their own.
        listed.sort_by_key(|value| Permissions::of_name(value));
        listed
    }

    /// Returns the largest number that it takes, if it takes numbers.
    pub fn largest(&self) -> Option<&OptionValue> {
        let is_number = self.pattern.is_none() && self.listed().is_empty();
        self.max.as_ref().or(self.default.as_ref()).filter(|_| is_number)
    }

    fn takes(&self) -> Result<Takes, String> {
        let listed = !self.listed().is_empty();
        match (&self.pattern, listed, &self.max) {
            (None, true, None) => Ok(Takes::Listed),
            (Some(pattern), false, None) => {
                let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(MAX_PATTERN_MEMORY).build();
                whole.map(Takes::Pattern).map_err(|_| "pattern is not a valid regular expression".to_owned())
            }
            (None, false, _) => {
                let largest = self.largest().ok_or("it accepts no value; add values, adds, a pattern or max")?;
                let max = number(&largest.0).ok_or("its max, or its default without one, is not a number above 0")?;
                Ok(Takes::Number { max, is_whole: !largest.0.contains('.') })
            }
            _ => Err("give it one of: values and adds, a pattern, max".to_owned()),
        }
    }

    /// Returns a value as it is passed on: a whole number without the point that some models write.
    pub(super) fn plain(&self, value: &OptionValue) -> OptionValue {
        match (self.takes(), value.0.strip_suffix(".0")) {
            (Ok(Takes::Number { is_whole: true, .. }), Some(whole)) => OptionValue(whole.to_owned()),
            _ => value.clone(),
        }
    }

    pub(super) fn accepts(&self, value: &OptionValue) -> bool {
        let text = value.0.as_str();
        if text.is_empty()
            || text.starts_with('-')
            || text.chars().count() > MAX_VALUE_CHARS
            || text.chars().any(char::is_control)
        {
            return false;
        }
        match self.takes() {
            Ok(Takes::Listed) => self.listed().contains(&text),
            Ok(Takes::Pattern(pattern)) => pattern.is_match(text),
            Ok(Takes::Number { max, is_whole }) => {
                number(text).is_some_and(|number| number <= max && !(is_whole && text.contains('.')))
            }
            Err(_) => false,
        }
    }

    /// Says what it takes, ready for the end of a sentence.
    pub(super) fn in_words(&self) -> String {
        match self.takes() {
            Ok(Takes::Listed) => format!("one of {}", self.listed().join(", ")),
            Ok(Takes::Pattern(_)) => format!(
                "one line of at most {MAX_VALUE_CHARS} characters that matches {} and does not begin with a dash",
                self.pattern.as_deref().unwrap_or_default()
            ),
            Ok(Takes::Number { is_whole, .. }) => {
                let largest = self.largest().map_or("", |largest| &largest.0);
                format!("a {}number above 0, at most {largest}", if is_whole { "whole " } else { "" })
            }
            Err(problem) => problem,
        }
    }
}

/// Reads a number above 0, in digits with at most one point: what every program reads as the same number.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.')
        && text.len() <= 15;
    text.parse().ok().filter(|number| is_plain && *number > 0.0)
}

/// Checks what a person wrote about an agent's options.
pub(super) fn check(options: &BTreeMap<String, AgentOption>) -> Result<(), String> {
    for (name, option) in options {
        let wrong = |problem: &str| Err(format!("options.{name}: {problem}"));
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            return wrong("an option's name has lower-case letters, digits and underscores");
        }
        if let Err(problem) = option.takes() {
            return wrong(&problem);
        }
        if let Some(value) = option.listed().iter().find(|value| !option.accepts(&OptionValue((**value).to_owned()))) {
            return wrong(&format!(
                "'{}' can be no value: it is empty, too long, or begins with a dash",
                quote(value, 64)
            ));
        }
        let mut words = option.args.iter().chain(option.adds.values().flat_map(|adds| &adds.args));
        if words.any(|word| word.contains('\0')) {
            return wrong("its args hold a NUL character");
        }
        if let Some(name) =
            option.env.keys().chain(option.adds.values().flat_map(|adds| adds.env.keys())).find(|name| name.is_ours())
        {
            return wrong(&format!("it sets {name}; names that begin with MOADIM_ are this program's own"));
        }
        if option.default.as_ref().is_some_and(|value| !option.accepts(value)) {
            return wrong(&format!("its default must be {}", option.in_words()));
        }
        if name == PERMISSIONS {
            let is_level = |value: &&str| Permissions::of_name(value).is_some();
            if option.pattern.is_some() || option.max.is_some() || !option.listed().iter().all(is_level) {
                return wrong("its values are read-only, files, edit and full, or some of them");
            }
            if option.default.is_some() {
                return wrong("it has no default; the highest level up to max_permissions is chosen");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_options_are_refused() {
        for text in [
            "[a]",
            "[a]\nvalues = ['x']\npattern = 'x'",
            "[a]\npattern = '('",
            "[a]\nmax = 'x'",
            "[a]\nmax = 0",
            "[a]\nmax = -1",
            "[a]\nvalues = ['x']\ndefault = 'y'",
            "[a]\nmax = 5\ndefault = 6",
            "[a]\nvalues = ['-x']",
            "[a]\nvalues = ['']",
            "[a]\nvalues = ['x']\nargs = [\"a\\u0000\"]",
            "[A]\nmax = 5",
            "[a]\nmax = 5\nenv = { MOADIM_RUN = 'x' }",
            "[permissions]\nvalues = ['all']",
            "[permissions]\npattern = '.*'",
            "[permissions]\nvalues = ['full']\ndefault = 'full'",
        ] {
            let options = toml::from_str(text).unwrap();
            assert!(check(&options).is_err(), "{text}");
        }
    }
}
