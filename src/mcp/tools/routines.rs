//! `create_routine` and `list_routines`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page;
use crate::agent::{AgentName, Registry};
use crate::clock::UnixSeconds;
use crate::mcp::Core;
use crate::mcp::tool::{Hints, Tool, ToolError};
use crate::routine::listing::{self, Filter};
use crate::routine::model::{Definition, parse_env};
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::overview::{Overview, RoutineView};

pub(super) fn tools() -> [Tool<Core>; 2] {
    let creates = Hints { read_only: false, destructive: false, idempotent: false, open_world: false };
    let reads = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    [
        Tool::new(
            "create_routine",
            "Create a routine",
            "Saves a routine: a prompt for an agent, to be triggered any number of times. Its slug is made from the title \
             and never changes. Nothing runs yet; trigger_routine starts a run.",
            creates,
            create,
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
    /// A short name for people, one line. The slug is made of its ASCII letters and digits.
    title: String,
    /// The name of an agent, as in list_agents.
    #[schemars(with = "String")]
    agent: AgentName,
    /// What the agent is to do, complete in itself: nobody is there to answer questions.
    prompt: String,
    /// How long a finished run's workbench is kept, in seconds; the home's default (1 day) if left out.
    ttl_secs: Option<u64>,
    /// How long a run may take, in seconds, before it is ended; the home's default (1 hour) if left out.
    max_runtime_secs: Option<u64>,
    /// Environment variables for its runs. PATH, HOME, LD_* and others that make other code run are refused.
    env: Option<BTreeMap<String, String>>,
    /// Words to find it by.
    tags: Option<Vec<String>>,
    /// Whether it may be triggered; true if left out.
    enabled: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct OneRoutine {
    /// As in list_routines.
    #[schemars(with = "Map<String, Value>")]
    routine: RoutineView,
}

fn create(core: &Core, arguments: CreateRoutine) -> Result<OneRoutine, ToolError> {
    let workplace = core.site.workplace()?;
    Registry::load(&workplace.home)?.get(&arguments.agent)?;
    let now = UnixSeconds::now();
    let definition = Definition {
        title: arguments.title,
        agent: arguments.agent.to_string(),
        enabled: arguments.enabled.unwrap_or(true),
        ttl_secs: arguments.ttl_secs,
        max_runtime_secs: arguments.max_runtime_secs,
        tags: arguments.tags.unwrap_or_default(),
        created_at: now,
        updated_at: now,
        env: parse_env(arguments.env.unwrap_or_default())?,
        ..Definition::default()
    };
    let routine = store::create(&workplace.home, &workplace.config, definition, &arguments.prompt)?;
    let search_path = core.search_path();
    Ok(OneRoutine { routine: Overview::read(&workplace, &search_path)?.view(&routine) })
}

#[derive(Deserialize, JsonSchema)]
struct ListRoutines {
    /// Only those whose slug or title contains this text, in any case.
    query: Option<String>,
    /// Only those with this tag.
    tag: Option<String>,
    /// The most routines to answer with, 1 to 200; 50 if left out.
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
    let workplace = core.site.workplace_for_looking();
    let filter = Filter { query: arguments.query, tag: arguments.tag };
    let listing::Page { routines, total, next } = listing::list(&workplace.home, &filter, after.as_ref(), limit)?;
    let search_path = core.search_path();
    let overview = Overview::read(&workplace, &search_path)?;
    let routines = routines.iter().map(|routine| overview.view(routine)).collect();
    Ok(Routines { routines, total, next_cursor: next })
}
