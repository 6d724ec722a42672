//! Creating and changing a routine: what is checked, and what is answered.

use anyhow::anyhow;
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::settings::{CreateRoutine, UpdateRoutine, apply, instructing_field};
use super::view;
use crate::agent::{Agent, Choice, Registry};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::toml_text;
use crate::options::{OptionValue, PERMISSIONS};
use crate::query::routine_view::RoutineView;
use crate::routine::ceilings::{MAX_DAILY_COST_USD, check_lowered};
use crate::routine::invalid_field::InvalidField;
use crate::routine::model::{Definition, Routine, Trusted};
use crate::routine::prompt;
use crate::routine::slug::Slug;
use crate::routine::{edit, store};
use crate::run::budget::check_cost_is_reported;
use crate::run::context::{App, Context};
use crate::run::environment::check_accepted;
use crate::run::options::{
    CallingRun, calling_run, check_may_choose, check_may_instruct, check_trusted_is_kept, choose_for_tools, describe,
};
use crate::run::trigger::check_routine;

#[derive(Serialize, JsonSchema)]
pub(crate) struct OneRoutine {
    /// As in list_routines.
    #[schemars(with = "Map<String, Value>")]
    pub(crate) routine: RoutineView,
    /// What its agent may do unattended; tell the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) permissions: Option<String>,
    /// What will probably go wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// Refuses to set or clear what only a person writes.
pub(super) fn refuse_trusted(app: &App, arguments: &JsonObject) -> anyhow::Result<()> {
    let is_trusted = |name: &str| name == "trusted" || name.starts_with("trusted.") || name.starts_with("trusted_");
    let cleared = arguments.get("clear").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut named = arguments.keys().map(String::as_str).chain(cleared);
    let Some(name) = named.find(|name| is_trusted(name) || ONLY_TRUSTED.contains(name)) else { return Ok(()) };
    let home = &app.home;
    let slug = arguments.get("routine").and_then(Value::as_str).and_then(|slug| slug.parse::<Slug>().ok());
    let file = match slug {
        Some(slug) => store::definition_file(home, &slug).display().to_string(),
        None => format!("{}/<slug>/routine.toml", home.routines().display()),
    };
    let what = match is_trusted(name) {
        true => "cannot set or clear [trusted]:".to_owned(),
        false => format!("unknown argument `{name}`. It is a key of [trusted];"),
    };
    Err(anyhow::Error::msg(format!("{what} only a person writes it, by hand, in {file}. Ask them to edit that file")))
}

/// Keys that are in [trusted] alone.
const ONLY_TRUSTED: [&str; 6] = ["precheck", "verify", "verify_secs", "on_finish", "on_failure", "on_attention"];

/// Checks that a routine's agent accepts the variables that it sets.
fn check_env(home: &Home, slug: &Slug, definition: &Definition, agent: &Agent) -> Result<(), InvalidField> {
    let checked = check_accepted(home, slug, definition.env.keys(), agent);
    checked.map_err(|not| {
        let rule = format!("the agent '{}' does not accept that; {}", not.agent, not.ways_out());
        InvalidField::new("env", &not.names, rule)
    })
}

/// Checks that a routine's agent reads what `continuity` would add to its prompt.
fn check_continuity(definition: &Definition, agent: &Agent) -> Result<(), InvalidField> {
    if !definition.continuity || agent.definition.preamble {
        return Ok(());
    }
    let rule = format!(
        "the prompt of the agent '{}' may be a script, and the last report would be appended to it; leave it out; if it is prose, \
         a person can set preamble = true in the agent's file",
        agent.name
    );
    Err(InvalidField::new("continuity", "refused", rule))
}

/// Checks that a routine's agent says what its runs cost, where a ceiling needs that.
fn check_cost(context: &Context, slug: &Slug, definition: &Definition, agent: &Agent) -> Result<(), InvalidField> {
    check_cost_is_reported(context, slug, definition, agent).map_err(|not| match not.is_of_home {
        true => InvalidField::new("agent", format_args!("'{}'", not.agent), not.to_string()),
        false => InvalidField::new(MAX_DAILY_COST_USD, f64::from(not.ceiling), not.rule()),
    })
}

/// Chooses the options of a routine that is created or changed. What a run asks for gets no more permissions than that run has, now and
/// at each launch.
fn checked_options(
    context: &Context,
    definition: &mut Definition,
    agent: &Agent,
    caller: Option<&CallingRun>,
) -> Result<Choice, InvalidField> {
    let invalid =
        |why: String| InvalidField::new("options", format_args!("not valid for the agent '{}'", agent.name), why);
    let choice = choose_for_tools(context, agent, definition, caller).map_err(|error| invalid(error.to_string()))?;
    let Some(caller) = caller else { return Ok(choice) };
    let level = check_may_choose(&choice, agent, caller)?;
    definition.options.insert(PERMISSIONS.to_owned(), OptionValue(level.name().to_owned()));
    Ok(choice)
}

/// Creates a routine from the tool's arguments, for a person at a terminal.
pub(crate) fn create_from(app: &App, arguments: JsonObject) -> anyhow::Result<OneRoutine> {
    create(app, serde_json::from_value(Value::Object(arguments))?, By::Person)
}

/// Creates a routine as a person wrote its file, with their comments.
pub(crate) fn create_written(app: &App, slug: Option<Slug>, text: &str, prompt: &str) -> anyhow::Result<OneRoutine> {
    let written: Definition = toml_text::parse(text).map_err(|problem| anyhow!("routine.toml: {problem}"))?;
    let now = UnixSeconds::now();
    let definition = Definition { created_at: now, updated_at: now, ..written };
    create_defined(app, slug, definition, Some(text), prompt, By::Person)
}

pub(super) fn create_routine(app: &App, arguments: CreateRoutine) -> anyhow::Result<OneRoutine> {
    create(app, arguments, By::Tool)
}

/// Who creates a routine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Person,
    Tool,
}

fn create(app: &App, mut arguments: CreateRoutine, by: By) -> anyhow::Result<OneRoutine> {
    let now = UnixSeconds::now();
    let mut definition = Definition {
        title: arguments.title.trim().to_owned(),
        agent: arguments.agent.to_string(),
        created_at: now,
        updated_at: now,
        ..Definition::default()
    };
    arguments.set(&mut definition)?;
    create_defined(app, arguments.slug, definition, None, &arguments.prompt, by)
}

/// Creates a routine, with what a person wrote as its text if they did.
fn create_defined(
    app: &App,
    slug: Option<Slug>,
    mut definition: Definition,
    written: Option<&str>,
    prompt: &str,
    by: By,
) -> anyhow::Result<OneRoutine> {
    let context = app.context()?;
    definition.check(&context.config)?;
    let agent = Registry::load(&context.home)?.get(&definition.agent.parse()?)?;
    let slug = store::new_slug(slug, &definition.title)?;
    check_env(&context.home, &slug, &definition, &agent)?;
    check_continuity(&definition, &agent)?;
    let caller = calling_run(&context)?;
    if by == By::Tool || caller.is_some() {
        check_lowered(None, &definition, &context.config)?;
    }
    if let Some(caller) = &caller {
        check_trusted_is_kept(&Trusted::default(), &definition.trusted, caller)?;
    }
    check_cost(&context, &slug, &definition, &agent)?;
    let choice = checked_options(&context, &mut definition, &agent, caller.as_ref())?;
    let routine = Routine { slug, definition };
    check_routine(&context, &routine, prompt, &agent, &choice)?;
    let Routine { slug, definition } = routine;
    let (home, config) = (&context.home, &context.config);
    let routine = match written.and_then(|written| edit::text_meaning(written, &definition)) {
        Some(text) => store::create_with_text(home, config, slug, definition, &text, prompt)?,
        None => store::create(home, config, slug, definition, prompt)?,
    };
    changed(app, &context, &routine)
}

/// Shows a routine that a person has changed, as the answer to a change shows it.
pub(crate) fn changed_by_hand(app: &App, slug: &Slug) -> anyhow::Result<OneRoutine> {
    let context = app.context()?;
    changed(app, &context, &store::load(&context.home, slug)?)
}

/// Answers a change of a routine with how it is now.
fn changed(app: &App, context: &Context, routine: &Routine) -> anyhow::Result<OneRoutine> {
    let definition = &routine.definition;
    let agent = definition.agent.parse().ok().and_then(|name| Registry::load(&context.home).ok()?.get(&name).ok());
    let permissions = agent.as_ref().and_then(|agent| describe(context, agent, definition));
    let silence = agent.as_ref().and_then(|agent| silence_warning(agent, definition));
    let routine = view(app, context, routine)?;
    let is_over = definition.enabled && definition.run_at.is_some() && routine.firing.next_fires.is_empty();
    let over = (is_over && routine.waiting.is_none() && routine.firing.schedule_problem.is_none())
        .then(|| "it never fires again by itself: its run_at is past; give it a later one".to_owned());
    Ok(OneRoutine { routine, permissions, warnings: silence.into_iter().chain(over).collect() })
}

/// The silence that some agents need while a tool works, or while they try again.
const LEAST_SILENCE_SECS: u64 = 15 * 60;

fn silence_warning(agent: &Agent, definition: &Definition) -> Option<String> {
    let limit = definition.max_silence_secs.or(agent.definition.max_silence_secs)?;
    (agent.definition.often_silent && limit < LEAST_SILENCE_SECS).then(|| {
        format!(
            "the agent '{}' prints nothing for minutes while a tool works or a request is repeated, so max_silence_secs = {limit} \
             may end it while it works; give at least {LEAST_SILENCE_SECS}, or rely on max_runtime_secs",
            agent.name
        )
    })
}

pub(super) fn update_routine(app: &App, arguments: UpdateRoutine) -> anyhow::Result<OneRoutine> {
    let context = app.context()?;
    let registry = Registry::load(&context.home)?;
    if let Some(agent) = &arguments.agent {
        registry.get(agent)?;
    }
    let (slug, prompt) = (arguments.routine.clone(), arguments.prompt.clone());
    // A launch refuses what is there already, but a call that disables such a routine must still work.
    let concerns_start = arguments.env.is_some()
        || arguments.options.is_some()
        || arguments.agent.is_some()
        || arguments.continuity == Some(true);
    let concerns_cost = arguments.max_daily_cost_usd.is_some() || arguments.agent.is_some();
    let instructs = instructing_field(&arguments);
    let caller = calling_run(&context)?;
    let change = |definition: &mut Definition| {
        if let Some(field) = instructs {
            let agent = definition.agent.parse().and_then(|name| registry.get(&name)).ok();
            check_may_instruct(&context, agent.as_ref(), definition, field, caller.as_ref())?;
        }
        let before = definition.clone();
        apply(arguments, definition)?;
        check_lowered(Some(&before), definition, &context.config)?;
        if !concerns_start && !concerns_cost {
            return Ok(());
        }
        let agent = definition.agent.parse().and_then(|name| registry.get(&name));
        let agent = agent.map_err(|error| InvalidField::new("agent", &definition.agent, error.to_string()))?;
        if concerns_cost {
            check_cost(&context, &slug, definition, &agent)?;
        }
        if !concerns_start {
            return Ok(());
        }
        check_env(&context.home, &slug, definition, &agent)?;
        check_continuity(definition, &agent)?;
        let choice = checked_options(&context, definition, &agent, caller.as_ref())?;
        let prompt = prompt.clone().or_else(|| prompt::read(&context.home, &slug).ok()).unwrap_or_default();
        let routine = Routine { slug: slug.clone(), definition: definition.clone() };
        let checked = check_routine(&context, &routine, &prompt, &agent, &choice);
        checked.map_err(|error| InvalidField::new("env", "too long", error.to_string()))
    };
    let routine = edit::update(&context.home, &context.config, &slug, prompt.as_deref(), change)?;
    changed(app, &context, &routine)
}
