//! Resources: what the reading tools answer, under a name that a host can show, embed and subscribe to.

use rmcp::ErrorData;
use rmcp::model::{Resource, ResourceContents, ResourceTemplate};
use serde::Serialize;
use serde_json::json;

use super::tools::routines::GetRoutine;
use super::tools::runs::GetRun;
use super::tools::{health, read_log, routines, runs};
use crate::clock::UnixSeconds;
use crate::query::changes::Topic;
use crate::query::listing;
use crate::query::usage::{self, UsageReport};
use crate::quote::shortened;
use crate::routine::listing as routine_listing;
use crate::routine::slug::Slug;
use crate::routine::store::{self, StoreError};
use crate::run::context::App;
use crate::run::end::EndError;
use crate::run::id::RunId;
use crate::run::status::Status;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

const SCHEME: &str = "moadim://";
const HEALTH: &str = "moadim://health";
const USAGE: &str = "moadim://usage";
const ROUTINES: &str = "moadim://routines/";
const RUNS: &str = "moadim://runs/";
const LOG: &str = "/log";

/// How many runs are listed; the templates lead to all others, and a host may put what is listed before its model.
const LISTED_RUNS: usize = 50;
/// How many routines are listed on one page.
const LISTED_ROUTINES: usize = 100;

/// Returns what a URI names, whether that exists or not; `None` for a URI of another scheme.
pub(super) fn topic(uri: &str) -> Option<Topic> {
    match uri {
        HEALTH => return Some(Topic::Health),
        USAGE => return Some(Topic::Usage),
        _ => {}
    }
    if let Some(slug) = uri.strip_prefix(ROUTINES) {
        return Some(Topic::Routine(slug.parse().ok()?));
    }
    let run = uri.strip_prefix(RUNS)?;
    Some(match run.strip_suffix(LOG) {
        Some(run) => Topic::Log(run.parse().ok()?),
        None => Topic::Run(run.parse().ok()?),
    })
}

/// Returns the URI of what may have changed; the lists have none.
pub(crate) fn uri(topic: &Topic) -> Option<String> {
    match topic {
        Topic::Lists => None,
        Topic::Health => Some(HEALTH.to_owned()),
        Topic::Usage => Some(USAGE.to_owned()),
        Topic::Routine(slug) => Some(format!("{ROUTINES}{slug}")),
        Topic::Run(run) => Some(format!("{RUNS}{run}")),
        Topic::Log(run) => Some(format!("{RUNS}{run}{LOG}")),
    }
}

/// Returns the patterns of all resources.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template = |uri: String, name: &str, title: &str, description: &str, kind: &str| {
        ResourceTemplate::new(uri, name).with_title(title).with_description(description).with_mime_type(kind)
    };
    let routine = "A routine with its prompt, its settings and its newest runs, as get_routine answers.";
    let run = "Everything about a run, as get_run answers. Updated when the run starts, ends or is reaped.";
    let log = "The end of what a run's agent printed, as read_log answers. Updated when the agent prints.";
    vec![
        template(format!("{ROUTINES}{{routine}}"), "routine", "A routine", routine, JSON),
        template(format!("{RUNS}{{run}}"), "run", "A run", run, JSON),
        template(format!("{RUNS}{{run}}{LOG}"), "log", "The log of a run", log, TEXT),
    ]
}

/// Returns a page of the list, and the cursor of the next: health, usage and the newest runs, then the routines by slug.
///
/// # Errors
/// The cursor is invalid, or a folder of the home cannot be listed.
pub(super) fn list(app: &App, cursor: Option<&str>) -> Result<(Vec<Resource>, Option<String>), ErrorData> {
    let after: Option<Slug> = cursor.map(str::parse).transpose().map_err(|_| {
        let cursor = shortened(cursor.unwrap_or_default(), 80);
        let text = format!("cursor '{cursor}' is not the nextCursor of an earlier page; leave it out to start");
        ErrorData::invalid_params(text, None)
    })?;
    let context = app.context_for_looking();
    let mut resources = Vec::new();
    if after.is_none() {
        let health = "The state of moadim-mcp and everything that is wrong with it, as health answers.";
        resources.push(resource(SCHEME, "health", "Health", health, JSON));
        let usage = "What the runs of the last 7 days used: tokens, and cost at list prices, by routine and agent. Updated when a \
                     run starts or ends.";
        resources.push(resource(SCHEME, "usage", "Usage", usage, JSON));
        let newest = listing::list(&context, &listing::RunFilter::default(), None, LISTED_RUNS).map_err(failed)?;
        for run in newest.runs {
            // Without its status: the list would change each time that it does.
            let id = run.id.to_string();
            resources.push(resource(RUNS, &id, &format!("Run {id}"), "A run.", JSON));
            if run.status != Status::Reaped {
                let (name, title) = (format!("{id}{LOG}"), format!("Log of {id}"));
                resources.push(resource(RUNS, &name, &title, "What the run's agent printed.", TEXT));
            }
        }
    }
    let routines =
        routine_listing::list(&context.home, &routine_listing::Filter::default(), after.as_ref(), LISTED_ROUTINES)
            .map_err(failed)?;
    for routine in routines.routines {
        resources.push(resource(ROUTINES, routine.slug.as_str(), &routine.definition.title, "A routine.", JSON));
    }
    Ok((resources, routines.next.map(|slug| slug.to_string())))
}

/// Describes what is named `name` within the URI `of`.
fn resource(of: &str, name: &str, title: &str, description: &str, kind: &str) -> Resource {
    Resource::new(format!("{of}{name}"), name).with_title(title).with_description(description).with_mime_type(kind)
}

/// Reads a resource.
///
/// # Errors
/// There is none of that name, or it cannot be read.
pub(super) fn read(app: &App, uri: &str) -> Result<ResourceContents, ErrorData> {
    let Some(topic) = topic(uri) else {
        let known = templates().iter().map(|template| template.uri_template.clone()).collect::<Vec<_>>().join(", ");
        let given = shortened(uri, 80);
        return Err(not_found(uri, format!("there is no resource '{given}'; there are {HEALTH}, {USAGE}, {known}")));
    };
    let contents = match topic {
        Topic::Routine(slug) => {
            check_routine(app, &slug).map_err(|error| error.about(uri))?;
            json(routines::get_routine(app, GetRoutine { routine: slug, preview: None }))
        }
        Topic::Run(run) => {
            check_run(app, &run).map_err(|error| error.about(uri))?;
            json(runs::get_run(app, GetRun { run }))
        }
        Topic::Log(run) => {
            check_run(app, &run).map_err(|error| error.about(uri))?;
            read_log::end_of_log(app, run).map(|text| (text, TEXT))
        }
        Topic::Usage => json(usage(app)),
        Topic::Health | Topic::Lists => json(Ok(health::health(app))),
    };
    let (text, kind) = contents.map_err(failed)?;
    Ok(ResourceContents::text(text, uri).with_mime_type(kind))
}

/// For how long usage is reported: the default of `moadim-mcp usage`.
const USAGE_SECS: u64 = 7 * 24 * 60 * 60;

/// Reports what the runs of the last 7 days used.
pub(crate) fn usage(app: &App) -> anyhow::Result<UsageReport> {
    let now = UnixSeconds::now();
    Ok(usage::usage(&app.context_for_looking(), UnixSeconds(now.0.saturating_sub(USAGE_SECS)), now)?)
}

fn json(answer: anyhow::Result<impl Serialize>) -> anyhow::Result<(String, &'static str)> {
    Ok((serde_json::to_string(&answer?)?, JSON))
}

/// Why something cannot be shown.
pub(crate) enum Missing {
    NotFound(String),
    Unreadable(String),
}

impl Missing {
    fn about(self, uri: &str) -> ErrorData {
        match self {
            Self::NotFound(text) => not_found(uri, text),
            Self::Unreadable(text) => failed(text),
        }
    }
}

/// Checks that there is such a routine.
pub(crate) fn check_routine(app: &App, slug: &Slug) -> Result<(), Missing> {
    store::check_exists(&app.home, slug).map_err(|error| match error {
        StoreError::NotFound { .. } => Missing::NotFound(error.to_string()),
        other => Missing::Unreadable(other.to_string()),
    })
}

/// Checks that there is such a run, or was one.
pub(crate) fn check_run(app: &App, run: &RunId) -> Result<(), Missing> {
    let found = listing::find(&app.context_for_looking(), run);
    found.map(drop).map_err(|error| match error {
        EndError::NotFound(_) => Missing::NotFound(error.to_string()),
        other => Missing::Unreadable(other.to_string()),
    })
}

/// Returns the error that there is no such resource. rmcp gives it the code of the client's era.
pub(super) fn not_found(uri: &str, text: String) -> ErrorData {
    ErrorData::resource_not_found(text, Some(json!({ "uri": uri })))
}

fn failed(error: impl ToString) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uri_is_read_as_it_is_written() {
        let (run, routine): (RunId, Slug) = ("daily-log-7".parse().unwrap(), "daily".parse().unwrap());
        for named in [Topic::Health, Topic::Usage, Topic::Routine(routine), Topic::Run(run.clone()), Topic::Log(run)] {
            let uri = uri(&named).unwrap();
            assert_eq!(topic(&uri), Some(named), "{uri}");
        }
        assert_eq!(uri(&Topic::Lists), None);
    }

    #[test]
    fn what_is_no_uri_of_ours_names_nothing() {
        for uri in [
            "",
            "moadim://",
            "moadim://health/",
            "moadim://usage/7d",
            "moadim://routines/",
            "moadim://routines/../agents",
            "moadim://runs/a",
            "moadim://runs/a-1/log/",
            "moadim://runs/../../x-1/log",
            "moadim://runs/a-1/agent.log",
            "file:///etc/passwd",
        ] {
            assert_eq!(topic(uri), None, "{uri}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found_by_name() {
        let (_dir, app) = App::example();
        for uri in ["moadim://routines/missing", "moadim://runs/missing-7", "moadim://runs/missing-7/log", "x:y"] {
            let error = read(&app, uri).unwrap_err();
            assert_eq!(error.code, rmcp::model::ErrorCode::RESOURCE_NOT_FOUND, "{error}");
            assert_eq!(error.data, Some(json!({ "uri": uri })));
        }
        assert!(read(&app, HEALTH).is_ok() && read(&app, USAGE).is_ok());
        assert!(list(&app, Some("No Slug")).is_err());
    }
}
