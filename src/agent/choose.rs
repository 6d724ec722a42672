//! Choosing the options of a run: by what tools and a person asked for, and what the home allows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::options::AgentOption;
use super::path::Installed;
use crate::environment::Variables;
use crate::options::{OptionValue, Options, PERMISSIONS, Permissions};
use crate::quote::quote;

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
    pub config_file: &'a Path,
    /// Whether a program is on PATH.
    pub is_installed: &'a dyn Fn(&str) -> Installed,
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
    use crate::agent::options::check;
    use proptest::prelude::*;

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
