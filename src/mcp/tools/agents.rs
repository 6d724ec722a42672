//! `list_agents`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::agent::{Agent, AgentDefinition, AgentOption, Installed, Registry, SearchPath};
use crate::clock::UnixSeconds;
use crate::mcp::tool::{Hints, NoArguments, Tool};
use crate::options::{OptionValue, PERMISSIONS, Permissions};
use crate::routine::model::Definition;
use crate::run::context::{App, Context};
use crate::run::hold::{Hold, Holds};
use crate::run::options::foresee_options;

#[derive(Serialize, JsonSchema)]
pub(crate) struct Agents {
    pub(crate) agents: Vec<AgentView>,
    /// The highest `permissions` that tools can choose; absent if the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_permissions: Option<Permissions>,
    /// Where a person changes that.
    pub(crate) config_file: String,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct AgentView {
    /// The name that a routine gives.
    pub(crate) name: String,
    /// The program.
    pub(crate) command: String,
    /// Its arguments, with placeholders.
    pub(crate) args: Vec<String>,
    pub(crate) available: bool,
    /// Where it is, or why it is not found.
    pub(crate) detail: String,
    /// "built-in", or the file that defines it.
    pub(crate) defined_in: String,
    /// Its scheduled runs wait until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_until: Option<UnixSeconds>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_because: Option<String>,
    /// What `env` may set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) accept_env: Vec<String>,
    /// What each option takes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Value>>")]
    pub(crate) options: BTreeMap<String, OptionView>,
}

/// What an option takes.
#[serde_with::skip_serializing_none]
#[derive(Serialize)]
pub(crate) struct OptionView {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<String>,
    /// A regular expression for its values.
    pub(crate) pattern: Option<String>,
    /// The largest number that it takes.
    pub(crate) max: Option<OptionValue>,
    /// The value if a routine gives none.
    pub(crate) default: Option<OptionValue>,
    /// What to know about single values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) notes: BTreeMap<String, String>,
}

pub(super) fn tool() -> Tool {
    let description = "List the agents that a routine can name, what each can be given as `options`, and whether it can start on \
                       this machine. Call this before create_routine. A person adds an agent as a file, agents/<name>.toml.";
    Tool::new("list_agents", "List agents", description, Hints::READS, list_agents)
}

pub(crate) fn list_agents(app: &App, _: NoArguments) -> anyhow::Result<Agents> {
    let context = app.context_for_looking();
    let search_path = app.search_path();
    let now = UnixSeconds::now();
    let (holds, _) = Holds::read(&app.home, now);
    let view = |agent: &Agent| {
        let found = search_path.find(&agent.definition);
        let hold = holds.of(&agent.name.to_string()).filter(|hold| hold.is_in_force(now));
        AgentView {
            name: agent.name.to_string(),
            command: agent.definition.command.clone(),
            args: agent.definition.args.clone(),
            available: found.is_ok(),
            detail: found.map_or_else(|error| error.to_string(), |found| found.to_string()),
            defined_in: agent.source.to_string(),
            held_until: hold.map(|hold| hold.held_until),
            held_because: hold.map(Hold::in_words),
            accept_env: agent.definition.accept_env.iter().map(ToString::to_string).collect(),
            options: options_of(&context, &search_path, agent),
        }
    };
    Ok(Agents {
        agents: Registry::load(&app.home)?.agents().map(view).collect(),
        max_permissions: app.context().ok().map(|context| context.config.max_permissions),
        config_file: context.home.config_file().display().to_string(),
    })
}

fn options_of(context: &Context, search_path: &SearchPath, agent: &Agent) -> BTreeMap<String, OptionView> {
    // Each by itself: one that cannot be chosen hides no other.
    let default = |name: &String, option: &AgentOption| {
        let alone = BTreeMap::from([(name.clone(), option.clone())]);
        let definition = AgentDefinition { options: alone, ..agent.definition.clone() };
        let agent = Agent { definition, ..agent.clone() };
        foresee_options(context, &agent, &Definition::default()).ok()?.values.remove(name)
    };
    let view = |(name, option): (&String, &AgentOption)| {
        let max_permissions = (name == PERMISSIONS).then_some(context.config.max_permissions);
        let note = |value: &str| {
            let above = max_permissions
                .filter(|max| Permissions::of_name(value).is_some_and(|level| level > *max))
                .map(|_| "above max_permissions".to_owned());
            let adds = option.adds.get(value);
            let missing = adds.into_iter().flat_map(|adds| &adds.requires);
            let missing: Vec<&str> = missing
                .filter(|(program, _)| search_path.has_beside(&agent.definition, program) == Installed::No)
                .map(|(_, package)| package.as_str())
                .collect();
            let missing = (!missing.is_empty()).then(|| format!("install {} first", missing.join(" and ")));
            let said = above.into_iter().chain(missing).chain(adds.and_then(|adds| adds.note.clone()));
            said.reduce(|one, other| format!("{one}; {other}"))
        };
        let notes = option.listed().into_iter().filter_map(|value| Some((value.to_owned(), note(value)?))).collect();
        let view = OptionView {
            values: option.listed().into_iter().map(str::to_owned).collect(),
            pattern: option.pattern.clone(),
            max: option.largest().cloned(),
            default: default(name, option),
            notes,
        };
        (name.clone(), view)
    };
    agent.definition.options.iter().map(view).collect()
}
