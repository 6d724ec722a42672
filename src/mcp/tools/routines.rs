//! `create_routine`, `get_routine`, `update_routine`, `delete_routine` and `list_routines`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page;
use crate::agent::{Agent, AgentName, Choice, Registry};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::config::UnsavedWork;
use crate::home::toml_text;
use crate::mcp::call::{Call, Question, Reply};
use crate::mcp::tool::{Hints, Tool};
use crate::money::MicroDollars;
use crate::options::{OptionValue, Options, PERMISSIONS};
use crate::query::listing as runs;
use crate::query::routine_view::{LastRun, Overview, RoutineView};
use crate::routine::ceilings::{MAX_DAILY_COST_USD, check_lowered};
use crate::routine::invalid_field::InvalidField;
use crate::routine::listing::{self, Filter};
use crate::routine::model::{CatchUp, Definition, Overlap, Retry, Routine, Trusted, parse_env};
use crate::routine::prompt;
use crate::routine::repository::Repository;
use crate::routine::repository::masked;
use crate::routine::schedule::CronExpressions;
use crate::routine::slug::Slug;
use crate::routine::{edit, store};
use crate::run::budget::check_cost_is_reported;
use crate::run::context::{App, Context};
use crate::run::delete::{self, DeleteError, Deleted};
use crate::run::environment::check_accepted;
use crate::run::id::RunId;
use crate::run::options::{CallingRun, calling_run, check_may_instruct, choose_for_tools, describe};
use crate::run::prompt::{Occasion, compose};
use crate::run::trigger::check_routine;

pub(super) fn tools() -> [Tool; 5] {
    let creates = Hints { read_only: false, destructive: false, idempotent: false, open_world: false };
    let changes = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    [
        Tool::new(
            "create_routine",
            "Create a routine",
            "Save a routine: a prompt for an agent, with limits and perhaps a schedule. Nothing runs yet: call \
             trigger_routine to start a run.",
            creates,
            create_routine,
        )
        .checking(refuse_trusted),
        Tool::new(
            "get_routine",
            "Show a routine",
            "Show a routine with its prompt, all its settings and its newest runs.",
            Hints::READS,
            get_routine,
        ),
        Tool::new(
            "update_routine",
            "Change a routine",
            "Change the given fields of a routine and no others; their meaning is that of create_routine, and null changes \
             nothing. `env`, `tags`, `retry` and `repositories` are replaced whole, `options` one by one. To remove a value, name its field in \
             `clear`. The slug stays.",
            changes,
            update_routine,
        )
        .checking(refuse_trusted),
        Tool::with_call(
            "delete_routine",
            "Delete a routine",
            "Move a routine to the home's archive. If it has live runs, a person must agree to end them first. Workbenches \
             of finished runs stay for the longest retention.",
            changes,
            delete_routine,
        ),
        Tool::new(
            "list_routines",
            "List routines",
            "List routines by slug, with the limits in force, their unfinished runs and their newest run. For the prompt, call \
             get_routine.",
            Hints::READS,
            list_routines,
        ),
    ]
}

/// Declares the settings that create_routine and update_routine share, each once: an argument of both, a name that `clear`
/// takes, and a field of the definition that is set from it.
macro_rules! settings {
    ($($(#[$doc:meta])+ $field:ident: $type:ty $(as $merged:ident)? $(=> $convert:expr)?,)+) => {
        #[derive(Deserialize, JsonSchema)]
        struct CreateRoutine {
            /// A short name for people.
            title: String,
            /// Its permanent name; default: made from the title.
            slug: Option<Slug>,
            /// As in list_agents.
            agent: AgentName,
            /// What the agent should do. It must be complete: nobody is there to answer questions.
            prompt: String,
            $($(#[$doc])+ $field: Option<$type>,)+
        }

        /// Without descriptions: a model reads those of create_routine too.
        #[derive(Deserialize, JsonSchema)]
        struct UpdateRoutine {
            /// The routine's slug.
            routine: Slug,
            title: Option<String>,
            agent: Option<AgentName>,
            prompt: Option<String>,
            $($field: Option<$type>,)+
            /// Names of settings to set back to their defaults.
            #[schemars(with = "Option<Vec<String>>")]
            clear: Option<Vec<Setting>>,
        }

        #[derive(Clone, Copy, Serialize, Deserialize)]
        #[allow(non_camel_case_types, reason = "they are the names of the fields")]
        enum Setting {
            $($field),+
        }

        impl Setting {
            fn clear(self, definition: &mut Definition) {
                match self {
                    $(Self::$field => definition.$field = Definition::default().$field),+
                }
            }
        }

        settings!(@set CreateRoutine: $($field $(as $merged)? $(=> $convert)?,)+);
        settings!(@set UpdateRoutine: $($field $(as $merged)? $(=> $convert)?,)+);
    };
    (@set $arguments:ident: $($field:ident $(as $merged:ident)? $(=> $convert:expr)?,)+) => {
        impl $arguments {
            /// Sets in a definition what was given; the rest stays.
            fn set(&mut self, definition: &mut Definition) -> Result<(), InvalidField> {
                $(if let Some(value) = self.$field.take() {
                    settings!(@assign definition.$field, value $(as $merged)? $(, $convert)?);
                })+
                Ok(())
            }
        }
    };
    (@assign $place:expr, $value:ident) => { $place = $value.into() };
    (@assign $place:expr, $value:ident, $convert:expr) => { $place = $convert($value)? };
    (@assign $place:expr, $value:ident as merged) => { merge(&mut $place, $value) };
}

settings! {
    /// Whether it may be triggered; default true.
    enabled: bool,
    /// How long a finished run's workbench is kept; default 1 day.
    ttl_secs: u64,
    /// How long the workbench of a run that did not succeed is kept; default 3 x ttl_secs.
    failed_ttl_secs: u64,
    /// How many of the newest finished runs are kept whatever their age; default 0.
    keep_last: u64,
    /// How long a run may take before it is ended; default 1 hour.
    max_runtime_secs: u64,
    /// How long a run may print nothing before it is ended; default no limit.
    max_silence_secs: u64,
    /// When it fires by itself: 5 cron fields, or @daily and the like; or a list of them.
    schedule: CronExpressions => |written: CronExpressions| Ok::<_, InvalidField>(Some(written.tidied())),
    /// Fire once: a local time such as 2026-12-01T09:00, or RFC 3339.
    run_at: String => |text: String| Ok::<_, InvalidField>(Some(text.trim().to_owned())),
    /// IANA time zone of both; default the machine's.
    timezone: String,
    /// What a fire does while a run is alive; default skip.
    overlap: Overlap,
    /// Whether to make up for fires that no server was there for; default latest.
    catch_up: CatchUp,
    /// Disable the routine after this many failed runs in a row.
    max_consecutive_failures: u64,
    /// How many runs a day may have; can only be lowered.
    max_daily_runs: u64,
    /// What a day's runs may cost, by the list prices that the agent reports; can only be lowered.
    max_daily_cost_usd: MicroDollars,
    /// Try a failed run again.
    retry: Retry,
    /// Variables for its runs, of those that its agent accepts.
    env: BTreeMap<String, String> => parse_env,
    /// Values of its agent's options, as in list_agents: model, permissions and the like; null removes one.
    options: BTreeMap<String, Option<OptionValue>> as merged,
    /// What becomes of commits not pushed, changes and archive_files when a workbench goes; default archive.
    unsaved_work: ArchiveOrKeep => |choice| Ok::<_, InvalidField>(Some(UnsavedWork::from(choice))),
    /// Globs of files to archive from the workbench; default report.md.
    archive_files: Vec<String>,
    /// Whether each run gets the last successful run's report.
    continuity: bool,
    /// Words to find it by.
    tags: Vec<String>,
    /// What each run gets a fresh clone of.
    repositories: Vec<Repository>,
}

/// Sets and removes single options: one that a person chose, such as their permissions, should not go with another's change.
fn merge(options: &mut Options, changes: BTreeMap<String, Option<OptionValue>>) {
    for (name, value) in changes {
        match value {
            Some(value) => options.insert(name, value),
            None => options.remove(&name),
        };
    }
}

/// What to do with unsaved work when a workbench is removed; only a person can choose `discard`.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ArchiveOrKeep {
    Archive,
    Keep,
}

impl From<ArchiveOrKeep> for UnsavedWork {
    fn from(choice: ArchiveOrKeep) -> Self {
        match choice {
            ArchiveOrKeep::Archive => Self::Archive,
            ArchiveOrKeep::Keep => Self::Keep,
        }
    }
}

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
fn refuse_trusted(app: &App, arguments: &JsonObject) -> anyhow::Result<()> {
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
const ONLY_TRUSTED: [&str; 3] = ["precheck", "verify", "verify_secs"];

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
        "the prompt of the agent '{}' may be a script, and the last report would be appended to it; leave it out, or a person who          knows that it is not sets preamble = true in the agent's file",
        agent.name
    );
    Err(InvalidField::new("continuity", "refused", rule))
}

/// Checks that a routine's agent says what its runs cost, where a ceiling needs that.
fn check_cost(context: &Context, slug: &Slug, definition: &Definition, agent: &Agent) -> Result<(), InvalidField> {
    check_cost_is_reported(context, slug, definition, agent)
        .map_err(|not| InvalidField::new(MAX_DAILY_COST_USD, f64::from(not.ceiling), not.to_string()))
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
    match choice.permissions() {
        Some(level) => definition.options.insert(PERMISSIONS.to_owned(), OptionValue(level.name().to_owned())),
        None => {
            return Err(invalid(format!(
                "the agent has no permissions to choose, and {caller}; ask a person to do it"
            )));
        }
    };
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

fn create_routine(app: &App, arguments: CreateRoutine) -> anyhow::Result<OneRoutine> {
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

fn view(app: &App, context: &Context, routine: &Routine) -> anyhow::Result<RoutineView> {
    Ok(Overview::read(context, &app.search_path())?.view(routine))
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
    Ok(OneRoutine { routine: view(app, context, routine)?, permissions, warnings: silence.into_iter().collect() })
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

fn update_routine(app: &App, arguments: UpdateRoutine) -> anyhow::Result<OneRoutine> {
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

/// Returns a field of a change that tells the agent what to do, where, or how.
fn instructing_field(arguments: &UpdateRoutine) -> Option<&'static str> {
    let clears = |name: &str| {
        let mut cleared = arguments.clear.iter().flatten().map(|setting| serde_json::json!(setting));
        cleared.any(|setting| setting == name)
    };
    let fields = [
        ("prompt", arguments.prompt.is_some()),
        ("title", arguments.title.is_some()),
        ("agent", arguments.agent.is_some()),
        ("repositories", arguments.repositories.is_some() || clears("repositories")),
        ("options", arguments.options.is_some() || clears("options")),
        ("env", arguments.env.is_some() || clears("env")),
        ("continuity", arguments.continuity.is_some()),
    ];
    fields.into_iter().find(|(_, given)| *given).map(|(field, _)| field)
}

fn apply(mut arguments: UpdateRoutine, definition: &mut Definition) -> Result<(), InvalidField> {
    let clear = arguments.clear.take().unwrap_or_default();
    clear.iter().for_each(|field| field.clear(definition));
    if let Some(title) = &arguments.title {
        title.trim().clone_into(&mut definition.title);
    }
    if let Some(agent) = &arguments.agent {
        definition.agent = agent.to_string();
    }
    arguments.set(definition)?;
    for field in clear {
        let mut without = definition.clone();
        field.clear(&mut without);
        if without != *definition {
            let rule = "the same call gives it a value; do one of the two";
            return Err(InvalidField::new("clear", serde_json::json!(field), rule));
        }
    }
    Ok(())
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct GetRoutine {
    /// The routine's slug.
    pub(crate) routine: Slug,
    /// Also show the prompt as a run started now would get it.
    #[serde(default)]
    pub(crate) preview: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct WholeRoutine {
    /// As in list_routines.
    #[schemars(with = "Map<String, Value>")]
    pub(crate) routine: RoutineView,
    pub(crate) prompt: String,
    /// The prompt as a run started now would get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preview: Option<String>,
    /// Its other settings as they are written; what is absent has its default.
    pub(crate) settings: Map<String, Value>,
    /// Names in [trusted.env].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) trusted_env_keys: Vec<String>,
    /// What is in [trusted.options].
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub(crate) trusted_options: Options,
    /// What decides whether a run starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) trusted_precheck: Vec<String>,
    /// What decides whether a run has succeeded; absent: as its agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trusted_verify: Option<Vec<String>>,
    /// Its newest runs.
    pub(crate) recent_runs: Vec<LastRun>,
}

const RECENT_RUNS: usize = 5;

pub(crate) fn get_routine(app: &App, arguments: GetRoutine) -> anyhow::Result<WholeRoutine> {
    let context = app.context_for_looking();
    let routine = store::load(&context.home, &arguments.routine)?;
    let prompt = prompt::read(&context.home, &routine.slug)?;
    let filter = runs::RunFilter { routine: Some(routine.slug.clone()), ..runs::RunFilter::default() };
    let preview = match arguments.preview {
        Some(true) => Some(preview(&context, &routine, &prompt)?),
        _ => None,
    };
    let recent_runs = runs::list(&context, &filter, None, RECENT_RUNS)?.runs.into_iter().map(LastRun::from).collect();
    let settings = settings(&routine.definition)?;
    let trusted_env_keys = routine.definition.trusted.env.keys().map(ToString::to_string).collect();
    let Trusted { options, precheck, verify, .. } = routine.definition.trusted.clone();
    let routine = view(app, &context, &routine)?;
    Ok(WholeRoutine {
        routine,
        prompt,
        preview,
        settings,
        trusted_env_keys,
        trusted_options: options,
        trusted_precheck: precheck,
        trusted_verify: verify,
        recent_runs,
    })
}

fn preview(context: &Context, routine: &Routine, prompt: &str) -> anyhow::Result<String> {
    let agent = Registry::load(&context.home)?.get(&routine.definition.agent.parse()?)?;
    Ok(compose(context, routine, prompt, &agent, &Occasion::default())?.text)
}

/// Returns what a definition holds beside what its view shows; values of variables and passwords are never shown.
fn settings(definition: &Definition) -> anyhow::Result<Map<String, Value>> {
    let mut definition = definition.clone();
    definition.repositories.iter_mut().for_each(|repository| repository.url = masked(&repository.url));
    let Value::Object(mut settings) = serde_json::to_value(definition)? else { return Ok(Map::new()) };
    for shown in ["title", "agent", "enabled", "tags", "env", "trusted", "created_at", "updated_at"] {
        settings.remove(shown);
    }
    Ok(settings)
}

#[derive(Deserialize, JsonSchema)]
struct DeleteRoutine {
    /// The routine's slug.
    routine: Slug,
    /// Set it only after a person has agreed to end its live runs.
    confirm: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct DeletedRoutine {
    pub(crate) deleted: Slug,
    /// Where its files are now.
    pub(crate) archived_to: String,
    pub(crate) stopped: Vec<RunId>,
}

fn delete_routine(app: &App, arguments: DeleteRoutine, call: &Call) -> anyhow::Result<Reply<DeletedRoutine>> {
    let context = app.context_for_looking();
    let agreed = (!arguments.confirm.unwrap_or(false)).then(|| call.agreed_to().unwrap_or_default());
    match delete::delete(&context, &arguments.routine, agreed.as_ref(), "delete_routine") {
        Ok(Deleted { ended, archived_to }) => Ok(Reply::Answer(DeletedRoutine {
            deleted: arguments.routine,
            archived_to: archived_to.display().to_string(),
            stopped: ended,
        })),
        Err(DeleteError::Unfinished { slug, unfinished }) => {
            let runs = delete::in_words(&unfinished);
            let terms: BTreeSet<&RunId> = unfinished.iter().map(|(run, _)| run).collect();
            Ok(Reply::Ask(Question {
                message: format!("End these runs, and delete their routine '{slug}'? {runs}"),
                terms: serde_json::to_value(terms)?,
                otherwise: format!(
                    "{}; wait for them, or ask the person and call again with confirm = true to end them",
                    DeleteError::Unfinished { slug, unfinished }
                ),
            }))
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListRoutines {
    /// Only those whose slug or title contains this.
    pub(crate) query: Option<String>,
    /// Only those with this tag.
    pub(crate) tag: Option<String>,
    /// 1 to 200; default 50.
    pub(crate) limit: Option<usize>,
    /// The next_cursor of the previous page.
    pub(crate) cursor: Option<String>,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(crate) struct Routines {
    pub(crate) routines: Vec<RoutineView>,
    /// How many there are on all pages; without a filter, unreadable ones included, which health names.
    pub(crate) total: usize,
    /// Until when no schedule fires, as somebody asked.
    pub(crate) snoozed_until: Option<UnixSeconds>,
    /// Gives the next page; absent on the last one.
    pub(crate) next_cursor: Option<Slug>,
}

pub(crate) fn list_routines(app: &App, arguments: ListRoutines) -> anyhow::Result<Routines> {
    let limit = page::limit(arguments.limit, 50)?;
    let after: Option<Slug> = page::cursor(arguments.cursor.as_deref())?;
    let context = app.context_for_looking();
    let filter = Filter { query: arguments.query, tag: arguments.tag };
    let listing::Page { routines, total, next } = listing::list(&context.home, &filter, after.as_ref(), limit)?;
    let search_path = app.search_path();
    let overview = Overview::read(&context, &search_path)?;
    let routines = routines.iter().map(|routine| overview.view(routine)).collect();
    Ok(Routines { routines, total, snoozed_until: overview.snoozed_until, next_cursor: next })
}
