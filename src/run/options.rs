//! What the options of a routine come to, in this home and on this machine, and who may ask for it.

use std::fmt;
use std::time::Duration;

use super::context::{Context, LOGIN_SHELL_TIMEOUT};
use super::entry::Entry;
use super::id::RunId;
use crate::agent::{Agent, Choice, Chooser, Installed, OptionError, Registry, choose};
use crate::options::{PERMISSIONS, Permissions};
use crate::process_tree::Scan;
use crate::routine::ceilings::check_lowered;
use crate::routine::invalid_field::InvalidField;
use crate::routine::model::{Definition, Trusted};
use crate::routine::slug::Slug;
use crate::routine::store::{self, StoreError};

/// How long a launch waits for the login shell where only its PATH says whether a program is there: a trigger answers within 5 s.
const PATH_TIMEOUT: Duration = Duration::from_secs(3);

/// Chooses the options of a run that is about to be launched.
///
/// # Errors
/// The agent does not take a value, the home does not allow it, or a program that it needs is not on PATH, or not known to be.
pub fn choose_options(context: &Context, agent: &Agent, definition: &Definition) -> Result<Choice, OptionError> {
    choose_with(context, agent, definition, context.config.max_permissions, PATH_TIMEOUT, false)
}

/// Chooses them for showing and checking, where what is not known yet counts as there: each launch looks again.
///
/// # Errors
/// As for [`choose_options`].
pub fn foresee_options(context: &Context, agent: &Agent, definition: &Definition) -> Result<Choice, OptionError> {
    choose_with(context, agent, definition, context.config.max_permissions, LOGIN_SHELL_TIMEOUT, true)
}

/// The same for what tools create or change, by the permissions of the run that asks for it.
///
/// # Errors
/// As for [`choose_options`].
pub fn choose_for_tools(
    context: &Context,
    agent: &Agent,
    definition: &Definition,
    caller: Option<&CallingRun>,
) -> Result<Choice, OptionError> {
    let max = context.config.max_permissions;
    let max = caller.map_or(max, |caller| max.min(caller.level));
    choose_with(context, agent, definition, max, LOGIN_SHELL_TIMEOUT, true)
}

fn choose_with(
    context: &Context,
    agent: &Agent,
    definition: &Definition,
    max_permissions: Permissions,
    path_timeout: Duration,
    assume_installed: bool,
) -> Result<Choice, OptionError> {
    let is_installed = |program: &str| {
        let installed = context.shell_paths.get(path_timeout).has_beside(&agent.definition, program);
        if assume_installed && installed == Installed::NotKnown { Installed::Yes } else { installed }
    };
    let chooser = Chooser {
        asked: &definition.options,
        trusted: &definition.trusted.options,
        max_permissions,
        config_file: &context.home.config_file(),
        is_installed: &is_installed,
    };
    choose(&agent.definition.options, chooser)
}

/// A run whose agent, or something that it started, calls us.
#[derive(Debug, Clone)]
pub struct CallingRun {
    run: RunId,
    level: Permissions,
}

impl fmt::Display for CallingRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this call comes from the run {}, which has permissions = \"{}\"", self.run, self.level)
    }
}

/// Finds the run that this process belongs to, if its permissions are limited: an agent may be given our tools by its user's settings,
/// and must not give itself more through another.
///
/// # Errors
/// The runs or the processes cannot be listed.
pub fn calling_run(context: &Context) -> anyhow::Result<Option<CallingRun>> {
    let entries = Entry::list(&context.home)?;
    if entries.is_empty() {
        return Ok(None);
    }
    let scan = Scan::take()?;
    for entry in entries {
        let Ok(manifest) = entry.manifest() else { continue };
        let level = manifest.command.options.get(PERMISSIONS).and_then(|level| Permissions::of_name(&level.0));
        let Some(level) = level.filter(|level| *level < Permissions::Full) else { continue };
        if scan.includes_us(&manifest.cookie) {
            return Ok(Some(CallingRun { run: entry.id().clone(), level }));
        }
    }
    Ok(None)
}

/// Checks that tools may change what a routine's agent is asked to do: not while a person has allowed it more than tools may, and not
/// from a run that may do less.
///
/// # Errors
/// They may not; only a person can.
pub fn check_may_instruct(
    context: &Context,
    agent: Option<&Agent>,
    definition: &Definition,
    field: &str,
    caller: Option<&CallingRun>,
) -> Result<(), InvalidField> {
    let refuse = |why: String| Err(InvalidField::new(field, "not changed", why));
    let max = context.config.max_permissions;
    if let Some(level) = definition.trusted.permissions().filter(|level| *level > max) {
        return refuse(format!(
            "tools cannot change what this routine does: a person gave it permissions = \"{level}\" in [trusted.options], above \
             max_permissions = \"{max}\"; ask them to change its files by hand, or create another routine"
        ));
    }
    let Some(caller) = caller else { return Ok(()) };
    let level = agent.and_then(|agent| foresee_options(context, agent, definition).ok()?.permissions());
    match level.filter(|level| *level <= caller.level) {
        Some(_) => Ok(()),
        None => refuse(format!("the routine's runs may do more than its caller: {caller}; ask a person to do it")),
    }
}

/// Checks that tools may add to what a routine's agent is asked to do.
///
/// # Errors
/// They may not, or the routine cannot be read.
pub fn check_may_give_text(context: &Context, slug: &Slug, caller: Option<&CallingRun>) -> Result<(), StoreError> {
    let definition = store::load(&context.home, slug)?.definition;
    let agent = agent_of(context, &definition);
    Ok(check_may_instruct(context, agent.as_ref(), &definition, "text", caller)?)
}

/// Checks that what a run asks for may do no more than the run itself, whether a tool or a person chose that; returns what it may do.
///
/// # Errors
/// It may do more, or nobody knows what.
pub fn check_may_choose(choice: &Choice, agent: &Agent, caller: &CallingRun) -> Result<Permissions, InvalidField> {
    let refuse =
        |why: String| Err(InvalidField::new("options", format_args!("not valid for the agent '{}'", agent.name), why));
    match choice.permissions() {
        Some(level) if level <= caller.level => Ok(level),
        Some(level) => {
            refuse(format!("its runs would have permissions = \"{level}\", and {caller}; ask a person to do it"))
        }
        None => refuse(format!("the agent has no permissions to choose, and {caller}; ask a person to do it")),
    }
}

/// Checks that a run writes nothing that only a person writes.
///
/// # Errors
/// It does.
pub fn check_trusted_is_kept(before: &Trusted, after: &Trusted, caller: &CallingRun) -> Result<(), InvalidField> {
    if before == after {
        return Ok(());
    }
    let rule = format!("only a person writes it, and {caller}; ask a person to do it");
    Err(InvalidField::new("trusted", "not changed", rule))
}

/// Checks the files of a routine that a run has written, as a person would: it may change what tools may.
///
/// # Errors
/// It may not change that; only a person can.
pub fn check_written(
    context: &Context,
    before: Option<&Definition>,
    after: &Definition,
    is_new_prompt: bool,
    caller: &CallingRun,
) -> Result<(), InvalidField> {
    let Some(before) = before else {
        let rule = format!("it cannot be read, and {caller}; ask a person to repair it");
        return Err(InvalidField::new("routine.toml", "not changed", rule));
    };
    check_trusted_is_kept(&before.trusted, &after.trusted, caller)?;
    check_lowered(Some(before), after, &context.config)?;
    let instructing = [
        ("prompt", is_new_prompt),
        ("title", before.title != after.title),
        ("agent", before.agent != after.agent),
        ("repositories", before.repositories != after.repositories),
        ("options", before.options != after.options),
        ("env", before.env != after.env),
        ("continuity", before.continuity != after.continuity),
    ];
    let Some((field, _)) = instructing.into_iter().find(|(_, is_changed)| *is_changed) else { return Ok(()) };
    check_may_instruct(context, agent_of(context, before).as_ref(), before, field, Some(caller))?;
    let Some(agent) = agent_of(context, after) else {
        return Err(InvalidField::new("agent", &after.agent, "there is no such agent".to_owned()));
    };
    let invalid = |why: String| InvalidField::new("options", "not changed", why);
    let choice = choose_for_tools(context, &agent, after, Some(caller)).map_err(|error| invalid(error.to_string()))?;
    let level = check_may_choose(&choice, &agent, caller)?;
    // At a later launch the default may be another.
    if after.options.contains_key(PERMISSIONS) || after.trusted.options.contains_key(PERMISSIONS) {
        return Ok(());
    }
    Err(invalid(format!("{caller}; write permissions = \"{level}\" under [options]")))
}

fn agent_of(context: &Context, definition: &Definition) -> Option<Agent> {
    Registry::load(&context.home).ok()?.get(&definition.agent.parse().ok()?).ok()
}

/// Says what an agent may do, and what would let it do more; `None` if it has no permissions to choose.
pub fn describe(context: &Context, agent: &Agent, definition: &Definition) -> Option<String> {
    let level = foresee_options(context, agent, definition).ok()?.permissions()?;
    let option = agent.definition.options.get(PERMISSIONS)?;
    let note = option.adds.get(level.name()).and_then(|adds| adds.note.as_deref());
    let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
    let said = format!("{level}: {}{note}", level.meaning());
    let max = context.config.max_permissions;
    let is_chosen =
        definition.options.contains_key(PERMISSIONS) || definition.trusted.options.contains_key(PERMISSIONS);
    let offers_more = option.listed().into_iter().filter_map(Permissions::of_name).any(|other| other > level.max(max));
    if is_chosen || !offers_more {
        return Some(said);
    }
    let config = context.home.config_file();
    Some(format!("{said}; to allow everything, a person writes max_permissions = \"full\" into {}", config.display()))
}
