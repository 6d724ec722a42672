//! Which options an agent has, and what each value adds to its command.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

use super::path::Installed;
use crate::environment::Variables;
use crate::options::{OptionValue, Options, PERMISSIONS, Permissions};
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
    fn plain(&self, value: &OptionValue) -> OptionValue {
        match (self.takes(), value.0.strip_suffix(".0")) {
            (Ok(Takes::Number { is_whole: true, .. }), Some(whole)) => OptionValue(whole.to_owned()),
            _ => value.clone(),
        }
    }

    fn accepts(&self, value: &OptionValue) -> bool {
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
    fn in_words(&self) -> String {
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

/// What a run's options came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// The value of each option that has one.
    pub values: Options,
    /// Arguments as templates, each with the value that its `{value}` stands for.
    pub args: Vec<(String, String)>,
    /// Variables to set.
    pub env: Variables,
}

impl Choice {
    /// Returns what the agent may do; `None` if it has no such option.
    pub fn permissions(&self) -> Option<Permissions> {
        Permissions::of_name(&self.values.get(PERMISSIONS)?.0)
    }
}

/// What decides about the options of a run.
#[derive(Clone, Copy)]
pub struct Chooser<'a> {
    /// What tools chose.
    pub asked: &'a Options,
    /// What a person chose, whatever the home allows.
    pub trusted: &'a Options,
    pub max_permissions: Permissions,
    /// Where a person changes that.
    pub config_file: &'a std::path::Path,
    /// Whether a program is on PATH.
    pub is_installed: &'a dyn Fn(&str) -> Installed,
}

impl fmt::Debug for Chooser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chooser").field("asked", self.asked).field("trusted", self.trusted).finish_non_exhaustive()
    }
}

/// A value that an agent's option does not take, or that the home does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("the agent has no option '{option}'; {known}")]
    Unknown { option: String, known: String },
    #[error(
        "the agent has no option '{option}', which [trusted.options] of the routine sets; {known}; correct that by hand"
    )]
    UnknownTrusted { option: String, known: String },
    #[error("{option} = '{value}' is not a value of the agent's option; give {takes}")]
    NotAValue { option: String, value: String, takes: String },
    #[error(
        "permissions = '{asked}' is above max_permissions = \"{max}\"; only a person can allow it: set max_permissions = \
         \"{asked}\" in {}, or, for this routine alone, permissions under [trusted.options] in its routine.toml",
        config_file.display()
    )]
    AboveMaximum { asked: Permissions, max: Permissions, config_file: PathBuf },
    #[error(
        "all that the agent can be allowed is above max_permissions = \"{max}\"; a person can set max_permissions = \
         \"{lowest}\" in {}",
        config_file.display()
    )]
    NoneAllowed { lowest: Permissions, max: Permissions, config_file: PathBuf },
    #[error("{option} = '{value}' needs {missing} on PATH; install the packages {packages}, or choose another value")]
    NotInstalled { option: String, value: String, missing: String, packages: String },
    #[error(
        "{option} = '{value}' needs {missing} on PATH, and the login shell has not said its PATH yet; try again in a moment"
    )]
    NotKnown { option: String, value: String, missing: String },
}

/// Chooses a value for each option that has one, and returns what they add to the command.
///
/// # Errors
/// A value is none of the option's, is not allowed, or needs a program that is not there.
pub fn choose(options: &BTreeMap<String, AgentOption>, chooser: Chooser<'_>) -> Result<Choice, OptionError> {
    let given = chooser.asked.keys().chain(chooser.trusted.keys());
    if let Some(unknown) = given.into_iter().find(|name| !options.contains_key(*name)) {
        let known: Vec<&str> = options.keys().map(String::as_str).collect();
        let known = match known.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", known.join(", ")),
        };
        let option = quote(unknown, 64);
        return Err(match chooser.asked.contains_key(unknown) {
            true => OptionError::Unknown { option, known },
            false => OptionError::UnknownTrusted { option, known },
        });
    }
    let mut choice = Choice::default();
    for (name, option) in options {
        if let Some(value) = value_of(name, option, chooser)? {
            add(&mut choice, name, option, &value, chooser)?;
        }
    }
    Ok(choice)
}

fn value_of(name: &str, option: &AgentOption, chooser: Chooser<'_>) -> Result<Option<OptionValue>, OptionError> {
    let trusted = chooser.trusted.get(name);
    let value =
        trusted.or_else(|| chooser.asked.get(name)).or(option.default.as_ref()).map(|value| option.plain(value));
    if let Some(value) = value.as_ref().filter(|value| !option.accepts(value)) {
        return Err(OptionError::NotAValue {
            option: name.to_owned(),
            value: quote(&value.0, 64),
            takes: option.in_words(),
        });
    }
    if name != PERMISSIONS {
        return Ok(value);
    }
    let max = chooser.max_permissions;
    let config_file = || chooser.config_file.to_owned();
    match value.as_ref().and_then(|value| Permissions::of_name(&value.0)) {
        Some(asked) if trusted.is_none() && asked > max => {
            Err(OptionError::AboveMaximum { asked, max, config_file: config_file() })
        }
        Some(_) => Ok(value),
        None => {
            let levels: Vec<Permissions> = option.listed().into_iter().filter_map(Permissions::of_name).collect();
            let can = |level: &Permissions| missing(option, level.name(), chooser, Installed::No).is_empty();
            let highest = levels.iter().rev().find(|level| **level <= max && can(level));
            // One that lacks a program is better named than silently left out, if nothing else is allowed.
            let highest = highest.or_else(|| levels.iter().rev().find(|level| **level <= max));
            let lowest = levels.first().copied().unwrap_or(Permissions::Full);
            let highest =
                highest.ok_or_else(|| OptionError::NoneAllowed { lowest, max, config_file: config_file() })?;
            Ok(Some(OptionValue(highest.name().to_owned())))
        }
    }
}

/// Returns the programs that a value needs and that are missing in one way, with their packages.
fn missing<'a>(
    option: &'a AgentOption,
    value: &str,
    chooser: Chooser<'_>,
    how: Installed,
) -> Vec<(&'a String, &'a String)> {
    let required = option.adds.get(value).into_iter().flat_map(|adds| &adds.requires);
    required.filter(|(program, _)| (chooser.is_installed)(program) == how).collect()
}

fn add(
    choice: &mut Choice,
    name: &str,
    option: &AgentOption,
    value: &OptionValue,
    chooser: Chooser<'_>,
) -> Result<(), OptionError> {
    let listed = |words: Vec<&String>| words.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ");
    let not_known = missing(option, &value.0, chooser, Installed::NotKnown);
    let missing = missing(option, &value.0, chooser, Installed::No);
    if !not_known.is_empty() && missing.is_empty() {
        return Err(OptionError::NotKnown {
            option: name.to_owned(),
            value: value.0.clone(),
            missing: listed(not_known.into_iter().map(|(program, _)| program).collect()),
        });
    }
    if !missing.is_empty() {
        return Err(OptionError::NotInstalled {
            option: name.to_owned(),
            value: value.0.clone(),
            missing: listed(missing.iter().map(|(program, _)| *program).collect()),
            packages: listed(missing.iter().map(|(_, package)| *package).collect()),
        });
    }
    let adds = option.adds.get(&value.0);
    let args = option.args.iter().chain(adds.into_iter().flat_map(|adds| &adds.args));
    choice.args.extend(args.map(|arg| (arg.clone(), value.0.clone())));
    let env = option.env.iter().chain(adds.into_iter().flat_map(|adds| &adds.env));
    choice.env.extend(env.map(|(name, template)| (name.clone(), template.replace("{value}", &value.0))));
    choice.values.insert(name.to_owned(), value.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    const TEXT: &str = r#"
[model]
args = ["--model", "{value}"]
pattern = "[a-z][a-z0-9-]*"
[turns]
args = ["--turns={value}"]
default = 20
[budget]
args = ["--budget", "{value}"]
max = 5.0
[permissions.adds.read-only]
args = ["--read"]
[permissions.adds.edit]
args = ["--edit"]
requires = { bwrap = "bubblewrap" }
[permissions.adds.full]
env = { ALL = "yes" }
"#;

    fn options() -> BTreeMap<String, AgentOption> {
        let options = toml::from_str(TEXT).unwrap();
        check(&options).unwrap();
        options
    }

    fn given(text: &str) -> Options {
        toml::from_str(text).unwrap()
    }

    fn chosen(asked: &str, trusted: &str, max: Permissions, installed: &[&str]) -> Result<Choice, OptionError> {
        let (asked, trusted) = (given(asked), given(trusted));
        let is_installed = |program: &str| match installed.contains(&program) {
            true => Installed::Yes,
            false if installed.contains(&"?") => Installed::NotKnown,
            false => Installed::No,
        };
        let config_file = Path::new("/home/config.toml");
        choose(
            &options(),
            Chooser {
                asked: &asked,
                trusted: &trusted,
                max_permissions: max,
                config_file,
                is_installed: &is_installed,
            },
        )
    }

    fn value<'a>(choice: &'a Choice, name: &str) -> &'a str {
        &choice.values[name].0
    }

    #[test]
    fn a_default_and_the_highest_level_are_chosen_unless_something_else_is() {
        let choice = chosen("", "", Permissions::Edit, &["bwrap"]).unwrap();
        assert_eq!((value(&choice, "turns"), choice.permissions()), ("20", Some(Permissions::Edit)));
        assert_eq!(choice.args, [("--edit".into(), "edit".into()), ("--turns={value}".into(), "20".to_owned())]);
        assert!(!choice.values.contains_key("model"));
        let choice = chosen("", "", Permissions::Edit, &[]).unwrap();
        assert_eq!(choice.permissions(), Some(Permissions::ReadOnly), "what `edit` needs is not installed");
        let choice = chosen("model = 'opus'\nturns = 3.0\nbudget = 2.5", "", Permissions::Full, &[]).unwrap();
        assert_eq!((value(&choice, "model"), value(&choice, "turns"), value(&choice, "budget")), ("opus", "3", "2.5"));
        assert_eq!((choice.permissions(), choice.env.len()), (Some(Permissions::Full), 1));
    }

    #[test]
    fn only_a_person_goes_beyond_the_maximum() {
        let error = chosen("permissions = 'full'", "", Permissions::Edit, &["bwrap"]).unwrap_err().to_string();
        assert!(error.contains("max_permissions = \"full\" in /home/config.toml"), "{error}");
        let choice = chosen("permissions = 'read-only'", "permissions = 'full'", Permissions::Files, &[]).unwrap();
        assert_eq!(choice.permissions(), Some(Permissions::Full));
        assert_eq!(chosen("", "", Permissions::Files, &[]).unwrap().permissions(), Some(Permissions::ReadOnly));
    }

    #[test]
    fn what_is_not_installed_is_named_with_its_package() {
        let error = chosen("permissions = 'edit'", "", Permissions::Edit, &[]).unwrap_err().to_string();
        assert!(error.contains("bwrap") && error.contains("bubblewrap"), "{error}");
        for asked in ["permissions = 'edit'", ""] {
            let error = chosen(asked, "", Permissions::Edit, &["?"]).unwrap_err();
            assert!(matches!(error, OptionError::NotKnown { .. }), "no lower level is chosen by mistake: {error}");
        }
    }

    #[test]
    fn what_an_option_does_not_take_is_refused_with_what_it_takes() {
        for (bad, words) in [
            ("color = 'red'", "budget, model, permissions, turns"),
            ("model = '--yolo'", "[a-z][a-z0-9-]*"),
            ("model = 'a b'", "matches"),
            ("model = \"opus\\n--yolo\"", "matches"),
            ("model = \"opus\\n\"", "matches"),
            ("model = ''", "matches"),
            ("turns = 21", "at most 20"),
            ("turns = 0", "above 0"),
            ("turns = -1", "above 0"),
            ("turns = 2.5", "whole number"),
            ("turns = 'NaN'", "whole number"),
            ("budget = 'much'", "number above 0, at most 5.0"),
            ("budget = 5.1", "at most 5.0"),
            ("budget = '1e0'", "at most 5.0"),
            ("permissions = 'files'", "read-only, edit, full"),
            ("permissions = 'root'", "read-only, edit, full"),
        ] {
            let error = chosen(bad, "", Permissions::Full, &["bwrap"]).unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
            let trusted = chosen("", bad, Permissions::Full, &["bwrap"]).unwrap_err().to_string();
            assert!(trusted.contains(words), "a person is no exception: {trusted}");
        }
    }

    #[test]
    fn an_agent_that_can_only_be_allowed_more_is_not_started() {
        let options = toml::from_str("[permissions.adds.full]").unwrap();
        let none = Options::new();
        let chooser = Chooser {
            asked: &none,
            trusted: &none,
            max_permissions: Permissions::Edit,
            config_file: Path::new("c"),
            is_installed: &|_| Installed::Yes,
        };
        let error = choose(&options, chooser).unwrap_err();
        assert!(matches!(error, OptionError::NoneAllowed { lowest: Permissions::Full, .. }), "{error}");
    }

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

    proptest! {
        #[test]
        fn one_value_is_one_argument_that_is_no_option(text in "\\PC{0,12}|-.*|[a-z0-9\n-]{1,8}") {
            let asked = Options::from([("model".to_owned(), OptionValue(text.clone()))]);
            let none = Options::new();
            let chooser = Chooser {
                asked: &asked,
                trusted: &none,
                max_permissions: Permissions::Edit,
                config_file: Path::new("c"),
                is_installed: &|_| Installed::Yes,
            };
            if let Ok(choice) = choose(&options(), chooser) {
                let model: Vec<_> = choice.args.iter().skip_while(|(arg, _)| arg != "--model").take(2).collect();
                prop_assert_eq!(&model[1].1, &text);
                prop_assert!(!text.starts_with('-') && !text.contains('\n'));
            }
        }
    }
}
