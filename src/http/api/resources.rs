//! What the resources are, by path, and the two calls that programs make most: one row of a table each, to the same tools.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{QueryRejection, RawPathParamsRejection};
use axum::extract::{Query, RawPathParams, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json};
use rmcp::model::JsonObject;
use serde_json::Value;

use super::ApiState;
use super::refusal::Refusal;
use super::tools::{agreement, arguments};
use crate::http::guard::Caller;
use crate::mcp::resources::{self, Missing};
use crate::run::context::App;

/// A path, and what answers there.
pub(super) struct Resource {
    pub(super) path: &'static str,
    pub(super) method: Method,
    pub(super) answer: Answer,
    pub(super) summary: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// The tool's arguments are in the path and the query.
    Get,
    /// They are in the path and the body.
    Post,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// As the tool of this name answers.
    Tool(&'static str),
    /// The text that `read_log` answers with.
    Log,
    /// What the resource `moadim://usage` says.
    Usage,
}

impl Answer {
    /// Returns the tool that answers.
    pub(super) fn tool(self) -> Option<&'static str> {
        match self {
            Self::Tool(name) => Some(name),
            Self::Log => Some("read_log"),
            Self::Usage => None,
        }
    }
}

/// The parts of paths that name something, which are the tools' arguments of the same name.
pub(super) const ROUTINE: &str = "routine";
pub(super) const RUN: &str = "run";

/// Where the next part of a log begins.
pub(super) const NEXT_OFFSET: HeaderName = HeaderName::from_static("moadim-next-offset");

pub(super) const TABLE: &[Resource] = &[
    Resource {
        path: "/api/routines",
        method: Method::Get,
        answer: Answer::Tool("list_routines"),
        summary: "List routines",
    },
    Resource {
        path: "/api/routines/{routine}",
        method: Method::Get,
        answer: Answer::Tool("get_routine"),
        summary: "Show a routine",
    },
    Resource {
        path: "/api/routines/{routine}/trigger",
        method: Method::Post,
        answer: Answer::Tool("trigger_routine"),
        summary: "Trigger a routine",
    },
    Resource { path: "/api/runs", method: Method::Get, answer: Answer::Tool("list_runs"), summary: "List runs" },
    Resource { path: "/api/runs/{run}", method: Method::Get, answer: Answer::Tool("get_run"), summary: "Show a run" },
    Resource {
        path: "/api/runs/{run}/log",
        method: Method::Get,
        answer: Answer::Log,
        summary: "Read a run's log: the last lines, or what follows `offset`",
    },
    Resource {
        path: "/api/runs/{run}/stop",
        method: Method::Post,
        answer: Answer::Tool("stop_run"),
        summary: "Stop a run",
    },
    Resource {
        path: "/api/usage",
        method: Method::Get,
        answer: Answer::Usage,
        summary: "Show what the runs of the last 7 days used",
    },
    Resource { path: "/api/health", method: Method::Get, answer: Answer::Tool("health"), summary: "Show the health" },
];

const READ_ONLY: &str = "this dashboard is read-only: to trigger routines, start it without --read-only";

impl Resource {
    pub(super) fn handler(&'static self) -> MethodRouter<Arc<ApiState>> {
        let handler = move |State(state): State<Arc<ApiState>>,
                            path: Result<RawPathParams, RawPathParamsRejection>,
                            query: Result<Query<Vec<(String, String)>>, QueryRejection>,
                            headers: HeaderMap,
                            Extension(caller): Extension<Caller>,
                            body: Bytes| async move {
            let answer = async {
                // A text that can be no name names nothing.
                let path = path.map_err(|error| Refusal::not_found(error.body_text()))?;
                let Query(query) = query.map_err(|error| Refusal::of_tool(error.body_text()))?;
                let asked = Asked { path: &path, query, headers: &headers, caller: &caller, body: &body };
                self.answer(&state, asked).await
            };
            answer.await.unwrap_or_else(IntoResponse::into_response)
        };
        match self.method {
            Method::Get => get(handler),
            Method::Post => post(handler),
        }
    }

    async fn answer(&self, state: &ApiState, asked: Asked<'_>) -> Result<Response, Refusal> {
        let Some(tool) = self.answer.tool() else {
            if let Some((name, _)) = asked.query.first() {
                let name = crate::quote::shortened(name, 80);
                return Err(Refusal::of_tool(format_args!("unknown parameter `{name}`: {} takes none", self.path)));
            }
            let app = Arc::clone(&state.app);
            let usage = state.calls.run("the usage", move |_| resources::usage(&app)).await?;
            return Ok(Json(usage.map_err(Refusal::failed)?).into_response());
        };
        let tool = state.calls.find(tool).map_err(|refusal| match asked.caller {
            // A program that may do one thing learns of no other.
            Caller::Webhook(_) => Refusal::forbidden(READ_ONLY),
            _ => refusal,
        })?;
        let schema = &state.calls.tools()[tool].definition().input_schema;
        let (named, arguments) = asked.arguments(self, schema)?;
        let agreement = agreement(asked.headers);
        let check = move |app: &App| named.iter().try_for_each(|(kind, name)| check_exists(app, kind, name));
        let answer = state.calls.call(&state.app, &state.closing, tool, arguments, agreement, check).await?;
        match self.answer {
            Answer::Log => Ok(log(&answer)),
            _ => Ok(Json(answer).into_response()),
        }
    }
}

/// A request for a resource.
struct Asked<'a> {
    path: &'a RawPathParams,
    query: Vec<(String, String)>,
    headers: &'a HeaderMap,
    caller: &'a Caller,
    body: &'a [u8],
}

/// What a path names: the kind of thing, and its name.
type Named = Vec<(String, String)>;

impl Asked<'_> {
    /// Returns what the path names, and all arguments for the tool.
    fn arguments(&self, resource: &Resource, schema: &JsonObject) -> Result<(Named, JsonObject), Refusal> {
        let named: Named = self.path.iter().map(|(kind, name)| (kind.to_owned(), name.to_owned())).collect();
        let mut all = match resource.method {
            Method::Get => from_query(&self.query, schema)?,
            Method::Post => match self.query.first() {
                Some((name, _)) => {
                    let name = crate::quote::shortened(name, 80);
                    return Err(Refusal::of_tool(format_args!(
                        "unknown parameter `{name}`: send `{name}` in the body"
                    )));
                }
                None => arguments(self.headers, self.body)?,
            },
        };
        if let Caller::Webhook(token) = self.caller {
            check_webhook(token.allows_text, &all)?;
        }
        for (kind, name) in &named {
            if all.insert(kind.clone(), Value::String(name.clone())).is_some() {
                return Err(Refusal::of_tool(format_args!("`{kind}` is in the path already; leave it out")));
            }
        }
        Ok((named, all))
    }
}

/// Checks that a program that may only trigger a routine says no more than what the run is about, and that only if it may.
fn check_webhook(allows_text: bool, arguments: &JsonObject) -> Result<(), Refusal> {
    for (name, value) in arguments {
        let error = match (name.as_str(), allows_text) {
            ("text", true) => continue,
            ("text", false) if value.is_null() => continue,
            ("text", false) => {
                "this token may not send `text`; leave it out, or ask a person for one made with `--text`".to_owned()
            }
            (name, allows_text) => {
                let name = crate::quote::shortened(name, 80);
                let allowed = if allows_text { "only `text`" } else { "no arguments" };
                format!("a webhook token may send {allowed}; leave out `{name}`")
            }
        };
        return Err(Refusal::forbidden(error));
    }
    Ok(())
}

/// Makes arguments of a query's parameters, each of the type that the tool expects. What has another type stays text, and the tool
/// says what is wrong with it.
fn from_query(query: &[(String, String)], schema: &JsonObject) -> Result<JsonObject, Refusal> {
    let mut arguments = JsonObject::new();
    for (name, text) in query {
        let kind =
            schema.get("properties").and_then(|properties| properties.get(name)).map(|property| &property["type"]);
        let typed = match kind.and_then(Value::as_str) {
            Some("integer") => text.parse::<u64>().ok().map(Value::from),
            Some("boolean") => text.parse::<bool>().ok().map(Value::from),
            _ => None,
        };
        let value = typed.unwrap_or_else(|| Value::String(text.clone()));
        if arguments.insert(name.clone(), value).is_some() {
            let name = crate::quote::shortened(name, 80);
            return Err(Refusal::of_tool(format_args!("the parameter `{name}` is given twice; give it once")));
        }
    }
    Ok(arguments)
}

/// Checks that there is what a path names. A text that can be no name names nothing.
fn check_exists(app: &App, kind: &str, name: &str) -> Result<(), Refusal> {
    let checked = match kind {
        ROUTINE => match name.parse() {
            Ok(slug) => resources::check_routine(app, &slug),
            Err(error) => Err(Missing::NotFound(error.to_string())),
        },
        RUN => match name.parse() {
            Ok(run) => resources::check_run(app, &run),
            Err(error) => Err(Missing::NotFound(error.to_string())),
        },
        _ => Ok(()),
    };
    checked.map_err(|missing| match missing {
        Missing::NotFound(error) => Refusal::not_found(error),
        Missing::Unreadable(error) => Refusal::failed(error),
    })
}

fn log(answer: &Value) -> Response {
    let text = answer["text"].as_str().unwrap_or_default().to_owned();
    let next = answer["next_offset"].as_u64().unwrap_or_default();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    ([(CONTENT_TYPE, kind), (NEXT_OFFSET, next.into())], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> JsonObject {
        let schema = json!({ "properties": {
            "limit": { "type": "integer" }, "raw": { "type": "boolean" }, "text": { "type": "string" },
        } });
        schema.as_object().unwrap().clone()
    }

    fn parsed(query: &[(&str, &str)]) -> Result<Value, String> {
        let query: Vec<(String, String)> =
            query.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let arguments = from_query(&query, &schema());
        arguments.map(Value::Object).map_err(|refusal| refusal.in_brief().1["error"].to_string())
    }

    #[test]
    fn a_parameter_has_the_type_of_the_argument() {
        assert_eq!(
            parsed(&[("limit", "5"), ("raw", "true"), ("text", "5"), ("other", "5")]),
            Ok(json!({ "limit": 5, "raw": true, "text": "5", "other": "5" }))
        );
        assert_eq!(parsed(&[("limit", "-5"), ("raw", "yes")]), Ok(json!({ "limit": "-5", "raw": "yes" })));
        assert!(parsed(&[("limit", "5"), ("limit", "6")]).unwrap_err().contains("`limit` is given twice"));
    }

    #[test]
    fn a_webhook_sends_a_text_at_most_and_only_if_its_token_allows_it() {
        let refused = |allows_text, body: Value| {
            let refusal = check_webhook(allows_text, body.as_object().unwrap()).err()?;
            let (status, body) = refusal.in_brief();
            Some((status, body["error"].to_string()))
        };
        for (allows_text, body) in
            [(true, json!({ "text": "x" })), (false, json!({ "text": null })), (false, json!({})), (true, json!({}))]
        {
            assert_eq!(refused(allows_text, body), None);
        }
        assert_eq!(refused(false, json!({ "text": "x" })).unwrap().0, 403);
        for name in ["overlap", "wait", "routine", "other"] {
            for allows_text in [true, false] {
                let (status, error) = refused(allows_text, json!({ name: null })).unwrap();
                assert!(status == 403 && error.contains(name), "{error}");
            }
        }
    }

    #[test]
    fn what_a_path_names_must_be_there() {
        let (_dir, app) = App::example();
        for (kind, name) in [(ROUTINE, "missing"), (ROUTINE, "No Slug"), (RUN, "missing-7"), (RUN, "../x"), (RUN, "")] {
            assert_eq!(check_exists(&app, kind, name).unwrap_err().in_brief().0, 404, "{kind} {name}");
        }
        // Root lists a folder of any mode.
        std::fs::remove_dir_all(app.home.root()).unwrap();
        let (status, body) = check_exists(&app, RUN, "missing-7").unwrap_err().in_brief();
        assert_eq!(status, 500, "nobody knows whether it is there: {body}");
    }

    #[test]
    fn every_row_has_a_tool_with_an_argument_for_each_part_of_its_path() {
        let tools = crate::mcp::tools::all();
        for row in TABLE {
            let Some(name) = row.answer.tool() else { continue };
            let tool = tools.iter().find(|tool| tool.name() == name).expect(name);
            let parts = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            for part in parts {
                assert!(part == ROUTINE || part == RUN, "{}", row.path);
                assert!(tool.definition().input_schema["properties"].get(part).is_some(), "{}", row.path);
            }
        }
    }
}
