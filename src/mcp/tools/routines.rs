//! `create_routine`, `get_routine`, `update_routine`, `delete_routine` and `list_routines`.

use std::collections::{BTreeMap, BTreeSet};

use rmcp::model::JsonObject;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page;
use crate::agent::{Agent, AgentName, Registry};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::mcp::Core;
use crate::mcp::call::Call;
use crate::mcp::consent::Question;
use crate::mcp::tool::{Hints, Reply, Tool, ToolError};
use crate::query::listing as runs;
use crate::query::routine_view::{LastRun, Overview, RoutineView};
use crate::routine::invalid_field::InvalidField;
use crate::routine::listing::{self, Filter};
use crate::routine::model::{CatchUp, Definition, Overlap, Retry, Routine, parse_env};
use crate::routine::repository::Repository;
use crate::routine::repository::masked;
use crate::routine::schedule::tidied;
use crate::routine::slug::Slug;
use crate::routine::{edit, store};
use crate::run::context::Context;
use crate::run::delete::{self, DeleteError, Deleted, MayEnd};
use crate::run::environment::check_accepted;
use crate::run::id::RunId;
use crate::run::trigger::check_routine;

pub(super) fn tools() -> [Tool; 5] {
    let creates = Hints { read_only: false, destructive: false, idempotent: false, open_world: false };
    let changes = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    let reads = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    [
        Tool::new(
            "create_routine",
            "Create a routine",
            "Saves a routine: a prompt for an agent, to be triggered any number of times. Nothing runs yet; trigger_routine \
             starts a run.",
            creates,
            create,
        )
        .checking(leave_trusted_alone),
        Tool::new(
            "get_routine",
            "Show a routine",
            "Returns a routine with its prompt, all its settings and its newest runs.",
            reads,
            |core, arguments: GetRoutine| show_whole(core, &arguments.routine),
        ),
        Tool::new(
            "update_routine",
            "Change a routine",
            "Changes the given fields of a routine, as create_routine has them, and no others; null changes nothing. `env`, \
             `tags`, `retry` and `repositories` are replaced whole. To take a value away, name its field in `clear`. The \
             slug stays.",
            changes,
            update,
        )
        .checking(leave_trusted_alone),
        Tool::conversing(
            "delete_routine",
            "Delete a routine",
            "Moves a routine to the home's archive; ends its live runs first if a person agrees. Workbenches of finished \
             runs stay for the longest retention.",
            changes,
            delete_routine,
        ),
        Tool::new(
            "list_routines",
            "List routines",
            "Lists routines by slug, with the limits in force, their unfinished runs and their newest run; prompts are \
             left out.",
            reads,
            list,
        ),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct CreateRoutine {
    /// A short name for people.
    title: String,
    /// Its permanent name; default: made from the title.
    slug: Option<Slug>,
    /// As in list_agents.
    #[schemars(with = "String")]
    agent: AgentName,
    /// What the agent is to do, complete in itself: nobody is there to answer questions.
    prompt: String,
    /// Whether it may be triggered; default true.
    enabled: Option<bool>,
    /// How long a finished run's workbench is kept; default 1 day.
    ttl_secs: Option<u64>,
    /// The same for a run that did not succeed; default 3 x ttl_secs.
    failed_ttl_secs: Option<u64>,
    /// How many of the newest finished runs are kept whatever their age; default 0.
    keep_last: Option<u64>,
    /// How long a run may take before it is ended; default 1 hour.
    max_runtime_secs: Option<u64>,
    /// How long a run may print nothing before it is ended.
    max_silence_secs: Option<u64>,
    /// When it fires by itself: 5 cron fields, or @daily and the like.
    schedule: Option<String>,
    /// IANA, for the schedule; default the machine's.
    timezone: Option<String>,
    /// What a fire does while a run is alive; default skip.
    overlap: Option<Overlap>,
    /// What becomes of fires that nobody was there for; default latest.
    catch_up: Option<CatchUp>,
    /// Disables the routine after this many failed runs in a row.
    max_consecutive_failures: Option<u64>,
    /// Tries a failed run again.
    retry: Option<Retry>,
    /// Variables for its runs, of those that its agent accepts.
    env: Option<BTreeMap<String, String>>,
    /// Words to find it by.
    tags: Option<Vec<String>>,
    /// What each run gets a fresh clone of.
    repositories: Option<Vec<Repository>>,
}

/// Sets in a definition what there is an argument for; the rest stays.
macro_rules! set_given {
    ($arguments:ident, $definition:ident: $($field:ident),+) => {
        $(if let Some(value) = $arguments.$field {
            $definition.$field = value.into();
        })+
    };
    ($arguments:ident, $definition:ident) => {
        set_given!(
            $arguments, $definition: enabled, ttl_secs, failed_ttl_secs, keep_last, max_runtime_secs, max_silence_secs,
            timezone, overlap, catch_up, max_consecutive_failures, retry, tags, repositories
        );
        if let Some(schedule) = $arguments.schedule {
            $definition.schedule = Some(tidied(&schedule));
        }
        if let Some(env) = $arguments.env {
            $definition.env = parse_env(env)?;
        }
    };
}

#[derive(Serialize, JsonSchema)]
struct OneRoutine {
    /// As in list_routines.
    #[schemars(with = "Map<String, Value>")]
    routine: RoutineView,
}

/// Refuses what would set or clear something that only a person writes.
fn leave_trusted_alone(core: &Core, arguments: &JsonObject) -> Result<(), ToolError> {
    let is_trusted = |name: &str| name == "trusted" || name.starts_with("trusted.") || name.starts_with("trusted_");
    let cleared = arguments.get("clear").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if !arguments.keys().map(String::as_str).chain(cleared).any(is_trusted) {
        return Ok(());
    }
    let home = core.app.home();
    let slug = arguments.get("routine").and_then(Value::as_str).and_then(|slug| slug.parse::<Slug>().ok());
    let file = match slug {
        Some(slug) => store::definition_file(home, &slug).display().to_string(),
        None => format!("{}/<slug>/routine.toml", home.routines().display()),
    };
    Err(ToolError::new(format!(
        "cannot set or clear [trusted]: only a person writes it, by hand, in {file}. Ask them to edit that file"
    )))
}

/// Checks that a routine's agent accepts the variables that it sets.
fn check_env(home: &Home, slug: &Slug, definition: &Definition, agent: &Agent) -> Result<(), InvalidField> {
    let checked = check_accepted(home, slug, definition.env.keys(), agent);
    checked.map_err(|not| {
        let rule = format!("the agent '{}' does not accept that; {}", not.agent(), not.ways_out());
        InvalidField::new("env", not.names(), rule)
    })
}

fn create(core: &Core, arguments: CreateRoutine) -> Result<OneRoutine, ToolError> {
    let context = core.app.context()?;
    let agent = Registry::load(&context.home)?.get(&arguments.agent)?;
    let now = UnixSeconds::now();
    let mut definition = Definition {
        title: arguments.title.trim().to_owned(),
        agent: arguments.agent.to_string(),
        created_at: now,
        updated_at: now,
        ..Definition::default()
    };
    set_given!(arguments, definition);
    definition.check(&context.config)?;
    let slug = store::new_slug(arguments.slug, &definition.title)?;
    check_env(&context.home, &slug, &definition, &agent)?;
    check_routine(&context, &slug, &definition, &arguments.prompt, &agent)?;
    let routine = store::create(&context.home, &context.config, slug, definition, &arguments.prompt)?;
    show(core, &context, &routine)
}

fn show(core: &Core, context: &Context, routine: &Routine) -> Result<OneRoutine, ToolError> {
    let search_path = core.search_path();
    Ok(OneRoutine { routine: Overview::read(context, &search_path)?.view(routine) })
}

#[derive(Deserialize, JsonSchema)]
#[schemars(transform = leave_the_words_to_create_routine)]
struct UpdateRoutine {
    /// The routine's slug.
    routine: Slug,
    title: Option<String>,
    #[schemars(with = "Option<String>")]
    agent: Option<AgentName>,
    prompt: Option<String>,
    enabled: Option<bool>,
    ttl_secs: Option<u64>,
    failed_ttl_secs: Option<u64>,
    keep_last: Option<u64>,
    max_runtime_secs: Option<u64>,
    max_silence_secs: Option<u64>,
    schedule: Option<String>,
    timezone: Option<String>,
    overlap: Option<Overlap>,
    catch_up: Option<CatchUp>,
    max_consecutive_failures: Option<u64>,
    retry: Option<Retry>,
    env: Option<BTreeMap<String, String>>,
    tags: Option<Vec<String>>,
    repositories: Option<Vec<Repository>>,
    /// Names of optional fields to set back to their default.
    #[schemars(with = "Option<Vec<String>>")]
    clear: Option<Vec<Clearable>>,
}

/// Takes out of a schema what create_routine's says already: a model reads both, each time.
fn leave_the_words_to_create_routine(schema: &mut Schema) {
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    fields.filter(|(name, _)| !["routine", "clear"].contains(&name.as_str())).for_each(|(_, field)| silence(field));
}

fn silence(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for said in ["description", "properties", "required"] {
        object.remove(said);
    }
    if object.get("additionalProperties") == Some(&Value::Bool(false)) {
        object.remove("additionalProperties");
    }
    object.get_mut("items").into_iter().for_each(silence);
    object.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten().for_each(silence);
}

/// A field that a routine need not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Clearable {
    TtlSecs,
    FailedTtlSecs,
    KeepLast,
    MaxRuntimeSecs,
    MaxSilenceSecs,
    Schedule,
    Timezone,
    MaxConsecutiveFailures,
    Retry,
    Env,
    Tags,
    Repositories,
}

impl Clearable {
    fn clear(self, definition: &mut Definition) {
        match self {
            Self::TtlSecs => definition.ttl_secs = None,
            Self::FailedTtlSecs => definition.failed_ttl_secs = None,
            Self::KeepLast => definition.keep_last = None,
            Self::MaxRuntimeSecs => definition.max_runtime_secs = None,
            Self::MaxSilenceSecs => definition.max_silence_secs = None,
            Self::Schedule => definition.schedule = None,
            Self::Timezone => definition.timezone = None,
            Self::MaxConsecutiveFailures => definition.max_consecutive_failures = None,
            Self::Retry => definition.retry = None,
            Self::Env => definition.env.clear(),
            Self::Tags => definition.tags.clear(),
            Self::Repositories => definition.repositories.clear(),
        }
    }
}

fn update(core: &Core, arguments: UpdateRoutine) -> Result<OneRoutine, ToolError> {
    let context = core.app.context()?;
    let registry = Registry::load(&context.home)?;
    if let Some(agent) = &arguments.agent {
        registry.get(agent)?;
    }
    let (slug, prompt) = (arguments.routine.clone(), arguments.prompt.clone());
    // A launch refuses what is there already; a call that disables such a routine must work all the same.
    let concerns_env = arguments.env.is_some() || arguments.agent.is_some();
    let change = |definition: &mut Definition| {
        apply(arguments, definition)?;
        if !concerns_env {
            return Ok(());
        }
        let agent = definition.agent.parse().and_then(|name| registry.get(&name));
        let agent = agent.map_err(|error| InvalidField::new("agent", &definition.agent, error.to_string()))?;
        check_env(&context.home, &slug, definition, &agent)?;
        let prompt = prompt.clone().or_else(|| store::prompt(&context.home, &slug).ok()).unwrap_or_default();
        check_routine(&context, &slug, definition, &prompt, &agent)
            .map_err(|error| InvalidField::new("env", "too long", error.to_string()))
    };
    let routine = edit::update(&context.home, &context.config, &slug, prompt.as_deref(), change)?;
    show(core, &context, &routine)
}

fn apply(arguments: UpdateRoutine, definition: &mut Definition) -> Result<(), InvalidField> {
    let clear = arguments.clear.unwrap_or_default();
    clear.iter().for_each(|field| field.clear(definition));
    if let Some(title) = arguments.title {
        title.trim().clone_into(&mut definition.title);
    }
    if let Some(agent) = arguments.agent {
        definition.agent = agent.to_string();
    }
    set_given!(arguments, definition);
    for field in clear {
        let mut without = definition.clone();
        field.clear(&mut without);
        if without != *definition {
            let rule = "it is given a value in the same call; do one of the two";
            return Err(InvalidField::new("clear", serde_json::json!(field), rule));
        }
    }
    Ok(())
}

#[derive(Deserialize, JsonSchema)]
struct GetRoutine {
    /// The routine's slug.
    routine: Slug,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::mcp) struct WholeRoutine {
    /// As in list_routines.
    #[schemars(with = "Map<String, Value>")]
    routine: RoutineView,
    prompt: String,
    /// Its other settings as they are written; what is absent has its default.
    settings: Map<String, Value>,
    /// Names in [trusted.env].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted_env_keys: Vec<String>,
    /// Its newest runs.
    recent_runs: Vec<LastRun>,
}

const RECENT_RUNS: usize = 5;

pub(in crate::mcp) fn show_whole(core: &Core, slug: &Slug) -> Result<WholeRoutine, ToolError> {
    let context = core.app.context_for_looking();
    let routine = store::load(&context.home, slug)?;
    let prompt = store::prompt(&context.home, &routine.slug)?;
    let filter = runs::RunFilter { routine: Some(routine.slug.clone()), ..runs::RunFilter::default() };
    let recent_runs = runs::list(&context, &filter, None, RECENT_RUNS)?.runs.into_iter().map(LastRun::from).collect();
    let settings = settings(&routine.definition)?;
    let trusted_env_keys = routine.definition.trusted.env.keys().map(ToString::to_string).collect();
    let routine = show(core, &context, &routine)?.routine;
    Ok(WholeRoutine { routine, prompt, settings, trusted_env_keys, recent_runs })
}

/// Returns what a definition holds beside what its view shows; values of variables and passwords are never shown.
fn settings(definition: &Definition) -> Result<Map<String, Value>, ToolError> {
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
    /// A person has agreed that its live runs are ended.
    confirm: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct DeletedRoutine {
    deleted: Slug,
    /// Where its files are now.
    archived_to: String,
    stopped: Vec<RunId>,
}

fn delete_routine(core: &Core, arguments: DeleteRoutine, call: &Call) -> Result<Reply<DeletedRoutine>, ToolError> {
    let context = core.app.context_for_looking();
    let may_end = if arguments.confirm.unwrap_or(false) {
        MayEnd::All
    } else {
        MayEnd::These(call.agreed_to().unwrap_or_default())
    };
    match delete::delete(&context, &arguments.routine, &may_end, "delete_routine") {
        Ok(Deleted { ended, archived_to }) => Ok(Reply::Answer(DeletedRoutine {
            deleted: arguments.routine,
            archived_to: archived_to.display().to_string(),
            stopped: ended,
        })),
        Err(DeleteError::Unfinished { slug, unfinished }) => {
            let runs = delete::in_words(&unfinished);
            let terms: BTreeSet<&RunId> = unfinished.iter().map(|(run, _)| run).collect();
            Ok(Reply::Ask(Question {
                message: format!("End these runs, and delete the routine '{slug}' that they belong to? {runs}"),
                terms: serde_json::to_value(terms)?,
                done: String::new(),
                otherwise: format!(
                    "{}; wait for them, or ask the person, and call again with confirm = true to end them",
                    DeleteError::Unfinished { slug, unfinished }
                ),
            }))
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize, JsonSchema)]
struct ListRoutines {
    /// Only those whose slug or title contains this.
    query: Option<String>,
    /// Only those with this tag.
    tag: Option<String>,
    /// 1 to 200; default 50.
    limit: Option<usize>,
    /// The next_cursor of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Routines {
    routines: Vec<RoutineView>,
    /// How many there are on all pages; without a filter, unreadable ones included, which health names.
    total: usize,
    /// Gives the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<Slug>,
}

fn list(core: &Core, arguments: ListRoutines) -> Result<Routines, ToolError> {
    let limit = page::limit(arguments.limit, 50)?;
    let after: Option<Slug> = page::cursor(arguments.cursor.as_deref())?;
    let context = core.app.context_for_looking();
    let filter = Filter { query: arguments.query, tag: arguments.tag };
    let listing::Page { routines, total, next } = listing::list(&context.home, &filter, after.as_ref(), limit)?;
    let search_path = core.search_path();
    let overview = Overview::read(&context, &search_path)?;
    let routines = routines.iter().map(|routine| overview.view(routine)).collect();
    Ok(Routines { routines, total, next_cursor: next })
}
