//! Resources: what the reading tools answer, under a name that a host can show, embed and subscribe to.

use rmcp::ErrorData;
use rmcp::model::{Resource, ResourceContents, ResourceTemplate};
use serde::Serialize;
use serde_json::{Value, json};

use super::Core;
use super::tool::{Json, ToolError, shortened};
use super::tools::{health, read_log, routines, runs};
use crate::query::changes::Topic;
use crate::query::listing;
use crate::routine::listing as routine_listing;
use crate::routine::slug::Slug;
use crate::routine::store::{self, StoreError};
use crate::run::end::EndError;
use crate::run::id::RunId;
use crate::run::status::Status;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

const HEALTH: &str = "moadim://health";
const ROUTINES: &str = "moadim://routines/";
const RUNS: &str = "moadim://runs/";
const LOG: &str = "/log";

/// How many runs are listed; the templates lead to all others, and a host may put what is listed before its model.
const LISTED_RUNS: usize = 50;
/// How many routines are listed on one page.
const LISTED_ROUTINES: usize = 100;

/// A part of the list.
pub(super) struct Page {
    pub(super) resources: Vec<Resource>,
    pub(super) next: Option<String>,
}

/// Returns what a URI names, whether it exists or not; `None` if it is none of ours.
pub(super) fn topic(uri: &str) -> Option<Topic> {
    if uri == HEALTH {
        return Some(Topic::Health);
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
pub(super) fn uri(topic: &Topic) -> Option<String> {
    match topic {
        Topic::Lists => None,
        Topic::Health => Some(HEALTH.to_owned()),
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
    vec![
        template(
            format!("{ROUTINES}{{routine}}"),
            "routine",
            "A routine",
            "A routine with its prompt, its settings and its newest runs, as get_routine answers.",
            JSON,
        ),
        template(
            format!("{RUNS}{{run}}"),
            "run",
            "A run",
            "All about a run, as get_run answers. It is updated when the run starts, ends or is reaped.",
            JSON,
        ),
        template(
            format!("{RUNS}{{run}}{LOG}"),
            "log",
            "The log of a run",
            "The end of what a run's agent printed, as read_log answers. It is updated when the agent prints.",
            TEXT,
        ),
    ]
}

/// Lists a part of what there is: health and the newest runs, then the routines by slug.
///
/// # Errors
/// The cursor is none of ours, or a folder of the home cannot be listed.
pub(super) fn list(core: &Core, cursor: Option<&str>) -> Result<Page, ErrorData> {
    let after: Option<Slug> = cursor.map(str::parse).transpose().map_err(|_| {
        let cursor = shortened(cursor.unwrap_or_default(), 80);
        let text = format!("cursor '{cursor}' is not the nextCursor of an earlier page; leave it out to start");
        ErrorData::invalid_params(text, None)
    })?;
    let context = core.app.context_for_looking();
    let mut resources = Vec::new();
    if after.is_none() {
        let health = "How moadim-mcp is, and everything that is wrong with it, as health answers.";
        resources.push(resource(HEALTH, "health", "Health", health, JSON));
        let newest = listing::list(&context, &listing::RunFilter::default(), None, LISTED_RUNS).map_err(failed)?;
        for run in newest.runs {
            // How it is is not said here, for then the list would be another each time that it changes.
            let (uri, title) = (format!("{RUNS}{}", run.id), format!("Run {}", run.id));
            resources.push(resource(&uri, &run.id.to_string(), &title, "A run.", JSON));
            if run.status != Status::Reaped {
                let (name, title) = (format!("{}{LOG}", run.id), format!("Log of {}", run.id));
                let log = resource(&format!("{uri}{LOG}"), &name, &title, "What its agent printed.", TEXT);
                resources.push(log);
            }
        }
    }
    let routines =
        routine_listing::list(&context.home, &routine_listing::Filter::default(), after.as_ref(), LISTED_ROUTINES)
            .map_err(failed)?;
    for routine in routines.routines {
        let (uri, slug) = (format!("{ROUTINES}{}", routine.slug), routine.slug.to_string());
        resources.push(resource(&uri, &slug, &routine.definition.title, "A routine.", JSON));
    }
    Ok(Page { resources, next: routines.next.map(|slug| slug.to_string()) })
}

fn resource(uri: &str, name: &str, title: &str, description: &str, kind: &str) -> Resource {
    Resource::new(uri, name).with_title(title).with_description(description).with_mime_type(kind)
}

/// Reads a resource.
///
/// # Errors
/// There is none of that name, or it cannot be read.
pub(super) fn read(core: &Core, uri: &str) -> Result<ResourceContents, ErrorData> {
    let Some(topic) = topic(uri) else {
        let known = templates().iter().map(|template| template.uri_template.clone()).collect::<Vec<_>>().join(", ");
        let given = shortened(uri, 80);
        return Err(not_found(uri, format!("there is no resource '{given}'; there are {HEALTH}, {known}")));
    };
    let contents = match topic {
        Topic::Routine(slug) => {
            store::check_exists(core.app.home(), &slug).map_err(|error| match error {
                StoreError::NotFound { .. } => not_found(uri, error.to_string()),
                other => failed(other),
            })?;
            json_text(routines::show_whole(core, &slug))
        }
        Topic::Run(run) => {
            check_run(core, uri, &run)?;
            json_text(runs::inspection(core, &run))
        }
        Topic::Log(run) => {
            check_run(core, uri, &run)?;
            read_log::end_of_log(core, &run).map(|text| (text, TEXT))
        }
        Topic::Health | Topic::Lists => json_text(health::examination(core)),
    };
    let (text, kind) = contents.map_err(failed)?;
    Ok(ResourceContents::text(text, uri).with_mime_type(kind))
}

/// Writes an answer as the tools do.
pub(super) fn json_text(answer: Result<impl Serialize, ToolError>) -> Result<(String, &'static str), ToolError> {
    Ok((Json::of(&answer?)?.into_text(), JSON))
}

fn check_run(core: &Core, uri: &str, run: &RunId) -> Result<(), ErrorData> {
    let found = listing::find(&core.app.context_for_looking(), run);
    found.map(drop).map_err(|error| match error {
        EndError::NotFound(_) => not_found(uri, error.to_string()),
        other => failed(other),
    })
}

/// Says that there is no such resource. rmcp gives the error the code that the client's era has for it.
pub(super) fn not_found(uri: &str, text: String) -> ErrorData {
    let uri: Value = json!({ "uri": uri });
    ErrorData::resource_not_found(text, Some(uri))
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
        for named in [Topic::Health, Topic::Routine(routine), Topic::Run(run.clone()), Topic::Log(run)] {
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
        let (_dir, core) = Core::example();
        for uri in ["moadim://routines/missing", "moadim://runs/missing-7", "moadim://runs/missing-7/log", "x:y"] {
            let error = read(&core, uri).unwrap_err();
            assert_eq!(error.code, rmcp::model::ErrorCode::RESOURCE_NOT_FOUND, "{error}");
            assert_eq!(error.data, Some(json!({ "uri": uri })));
        }
        assert!(read(&core, HEALTH).is_ok());
        assert!(list(&core, Some("No Slug")).is_err());
    }
}
