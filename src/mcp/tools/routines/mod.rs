//! `create_routine`, `get_routine`, `update_routine`, `delete_routine` and `list_routines`.

mod change;
mod settings;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page;
use crate::agent::Registry;
use crate::clock::UnixSeconds;
use crate::mcp::call::{Call, Form, Question, Reply};
use crate::mcp::tool::{Hints, Tool};
use crate::options::Options;
use crate::query::listing as runs;
use crate::query::routine_view::{LastRun, Overview, RoutineView};
use crate::routine::listing::{self, Filter};
use crate::routine::model::{Definition, Routine, Trusted};
use crate::routine::prompt;
use crate::routine::repository::masked;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::context::{App, Context};
use crate::run::delete::{self, DeleteError, Deleted};
use crate::run::id::RunId;
use crate::run::options::foresee_options;
use crate::run::prompt::{Occasion, compose};
pub(crate) use change::{OneRoutine, changed_by_hand, create_from, create_written};
use change::{create_routine, refuse_trusted, update_routine};

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

fn view(app: &App, context: &Context, routine: &Routine) -> anyhow::Result<RoutineView> {
    Ok(Overview::read(context, &app.search_path())?.view(routine))
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
    /// Those that are not the defaults.
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
    /// Its newest runs, each as last_run in list_routines.
    #[schemars(with = "Vec<Map<String, Value>>")]
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
    // A launch refuses options that do not fit; the prompt can be shown.
    let choice = foresee_options(context, &agent, &routine.definition).unwrap_or_default();
    Ok(compose(context, routine, prompt, &agent, &choice, &Occasion::default())?.text)
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
                form: Form::Confirm,
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
    /// The time until which all schedules are snoozed.
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
