//! What the options of a routine come to, in this home and on this machine.

use super::context::Context;
use crate::agent::{Agent, Choice, Chooser, OptionError, choose};
use crate::options::Permissions;
use crate::routine::invalid_field::InvalidField;
use crate::routine::model::Definition;

/// Chooses the options of a routine's runs.
///
/// # Errors
/// The agent does not take a value, the home does not allow it, or a program that it needs is not on PATH.
pub fn choose_options(context: &Context, agent: &Agent, definition: &Definition) -> Result<Choice, OptionError> {
    let is_installed = |program: &str| context.search_path().has_beside(&agent.definition, program);
    let chooser = Chooser {
        asked: &definition.options,
        trusted: &definition.trusted.options,
        max_permissions: context.config.max_permissions,
        config_file: &context.home.config_file(),
        is_installed: &is_installed,
    };
    choose(&agent.definition.options, chooser)
}

/// Checks that tools may change what a routine's agent is asked to do: not while a person has allowed it more than tools may.
///
/// # Errors
/// They may not; only the person who allowed it can.
pub fn check_may_instruct(context: &Context, definition: &Definition, field: &str) -> Result<(), InvalidField> {
    let max = context.config.max_permissions;
    match definition.trusted.permissions().filter(|level| *level > max) {
        Some(level) => Err(InvalidField::new(
            field,
            "not for tools to change",
            format!(
                "a person gave this routine permissions = \"{level}\" in [trusted.options], above max_permissions = \"{max}\"; ask \
                 them to change its files by hand, or create another routine"
            ),
        )),
        None => Ok(()),
    }
}

/// Says what an agent may do, and what would let it do more.
pub fn describe(context: &Context, agent: &Agent, level: Permissions) -> String {
    let option = agent.definition.options.get(crate::options::PERMISSIONS);
    let note = option.and_then(|option| option.adds.get(level.name())?.note.as_deref());
    let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
    let said = format!("{level}: {}{note}", level.meaning());
    if level == Permissions::Full {
        return said;
    }
    let config = context.home.config_file();
    format!("{said}; to allow everything, a person writes max_permissions = \"full\" into {}", config.display())
}
