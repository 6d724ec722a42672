//! `GET /api/openapi.json`: the whole interface in OpenAPI 3.1, made from the tools' own schemas, which are JSON Schema 2020-12 as
//! that version of OpenAPI takes it.

use rmcp::model::JsonObject;
use schemars::JsonSchema as _;
use serde_json::{Value, json};

use super::resources::{Answer, Method, Resource, TABLE};
use crate::mcp::schema;
use crate::mcp::tool::Tool;
use crate::query::usage::UsageReport;

/// The version of the interface; that of the program is in the answer of `health`.
const VERSION: &str = "1";

/// Describes the interface, as far as these tools are served.
pub(super) fn openapi(tools: &[Tool]) -> Value {
    let mut tools: Vec<&Tool> = tools.iter().collect();
    tools.sort_unstable_by_key(|tool| tool.name());
    let mut paths = JsonObject::new();
    let mut schemas = JsonObject::new();
    for tool in &tools {
        paths.insert(format!("/api/tools/{}", tool.name()), json!({ "post": of_tool(tool) }));
        let definition = tool.definition();
        schemas.insert(arguments_name(tool.name()), Value::Object(definition.input_schema.as_ref().clone()));
        let answer = definition.output_schema.as_ref().map(|schema| schema.as_ref().clone()).unwrap_or_default();
        schemas.insert(answer_name(tool.name()), Value::Object(answer));
    }
    for resource in TABLE {
        let tool = resource.answer.tool();
        let tool = tool.map(|name| tools.iter().find(|tool| tool.name() == name));
        if let None | Some(Some(_)) = tool {
            paths.insert(resource.path.to_owned(), of_resource(resource, tool.flatten().copied()));
        }
    }
    schemas.insert("usage".to_owned(), Value::Object(schema::of_answer(UsageReport::json_schema)));
    let error = json!({ "type": "string", "description": "What is wrong, and what to do." });
    schemas.insert("error".to_owned(), object(&[("error", error.clone())]));
    let question = [
        ("error", error),
        ("question", json!({ "type": "string", "description": "What to ask the person." })),
        ("agreement", json!({ "type": "string", "description": "The value of `Moadim-Agreement` if they say yes." })),
    ];
    schemas.insert("question".to_owned(), object(&question));
    paths.insert("/api/events".to_owned(), json!({ "get": events() }));
    paths.insert("/api/openapi.json".to_owned(), json!({ "get": description() }));
    paths.insert("/metrics".to_owned(), json!({ "get": metrics() }));
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "moadim-mcp",
            "version": VERSION,
            "description": "The tools and resources of moadim-mcp over HTTP, on this machine's loopback.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "tags": [
            { "name": "tools", "description": "Each tool by name: its arguments in the body, its structured answer back." },
            { "name": "resources", "description": "Routines, runs, usage and health, by path." },
            { "name": "watching", "description": "Changes, metrics, and this description." },
        ],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token that `moadim-mcp dashboard` prints, or one of `moadim-mcp token new`, which may trigger its \
                                routine and nothing else.",
            } },
            "schemas": schemas,
            "responses": refusals(),
        },
    })
}

fn arguments_name(tool: &str) -> String {
    format!("{tool}.arguments")
}

fn answer_name(tool: &str) -> String {
    format!("{tool}.answer")
}

fn schema_ref(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn object(properties: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    let properties: JsonObject = properties.iter().map(|(name, schema)| (name.to_string(), schema.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The refusals that every route may answer with.
const ANYWHERE: [&str; 6] = ["401", "403", "421", "429", "500", "503"];
/// Those to a body.
const OF_BODIES: [&str; 3] = ["408", "413", "415"];

fn refusals() -> Value {
    let refusal = |description: &str, schema: &str| json!({ "description": description, "content": { "application/json": { "schema": schema_ref(schema) } } });
    let mut all = JsonObject::new();
    for (status, description) in [
        ("401", "The token is missing or wrong."),
        ("403", "This token, or this origin, may not do that."),
        ("404", "There is no such tool, routine or run."),
        ("408", "The body took too long to arrive."),
        ("413", "The body is too large."),
        ("415", "The body is not JSON, or not declared as `application/json`."),
        ("421", "The host is not one of this server."),
        ("422", "The arguments do not fit, or the tool refuses."),
        ("429", "Too many requests; try again later."),
        ("500", "A failure inside moadim-mcp."),
        ("503", "The server is shutting down, or did not answer in time."),
    ] {
        all.insert(status.to_owned(), refusal(description, "error"));
    }
    let ask = "A person must agree first: ask them, and repeat the request with the header `Moadim-Agreement`.";
    all.insert("409".to_owned(), refusal(ask, "question"));
    Value::Object(all)
}

/// Returns the responses of an operation: what it answers, and the statuses of its refusals.
fn responses(answer: Value, also: &[&str]) -> Value {
    let mut responses = JsonObject::from_iter([("200".to_owned(), answer)]);
    let mut statuses: Vec<&str> = ANYWHERE.iter().chain(also).copied().collect();
    statuses.sort_unstable();
    for status in statuses {
        responses.insert(status.to_owned(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    Value::Object(responses)
}

fn json_answer(schema: &str) -> Value {
    json!({ "description": "The answer.", "content": { "application/json": { "schema": schema_ref(schema) } } })
}

fn text_answer(description: &str, kind: &str) -> Value {
    json!({ "description": description, "content": { kind: { "schema": { "type": "string" } } } })
}

fn of_tool(tool: &Tool) -> Value {
    let definition = tool.definition();
    let is_required = definition.input_schema.get("required").is_some();
    let also: Vec<&str> = ["404", "409", "422"].iter().chain(&OF_BODIES).copied().collect();
    json!({
        "operationId": tool.name(),
        "tags": ["tools"],
        "summary": definition.title,
        "description": definition.description,
        "parameters": [agreement()],
        "requestBody": body(schema_ref(&arguments_name(tool.name())), is_required),
        "responses": responses(json_answer(&answer_name(tool.name())), &also),
    })
}

fn body(schema: Value, is_required: bool) -> Value {
    json!({ "required": is_required, "content": { "application/json": { "schema": schema } } })
}

fn agreement() -> Value {
    json!({
        "name": "Moadim-Agreement",
        "in": "header",
        "description": "The `agreement` of an answer 409 to this very request, once a person has said yes to its question.",
        "schema": { "type": "string" },
    })
}

fn of_resource(resource: &Resource, tool: Option<&Tool>) -> Value {
    let schema = tool.map(|tool| tool.definition().input_schema.as_ref().clone()).unwrap_or_default();
    let in_path: Vec<&str> =
        resource.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
    let required = |name: &str| {
        let required = schema.get("required").and_then(Value::as_array);
        required.is_some_and(|required| required.iter().any(|one| one == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let (path, others): (Vec<_>, Vec<_>) =
        properties.into_iter().partition(|(name, _)| in_path.contains(&name.as_str()));
    let parameter = |place: &str, (name, schema): &(String, Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let is_required = place == "path" || required(name);
        let mut parameter = json!({ "name": name, "in": place, "required": is_required, "schema": schema });
        parameter
            .as_object_mut()
            .into_iter()
            .for_each(|all| all.extend(description.clone().map(|words| ("description".into(), words))));
        parameter
    };
    let mut parameters: Vec<Value> = path.iter().map(|one| parameter("path", one)).collect();
    let mut also = vec!["422"];
    if !path.is_empty() {
        also.push("404");
    }
    let mut operation = json!({
        "operationId": operation_id(resource),
        "tags": ["resources"],
        "summary": resource.summary,
    });
    match resource.method {
        Method::Get => parameters.extend(others.iter().map(|one| parameter("query", one))),
        Method::Post => {
            also.extend(["409"].iter().chain(&OF_BODIES));
            parameters.push(agreement());
            let required: Vec<&str> =
                others.iter().map(|(name, _)| name.as_str()).filter(|name| required(name)).collect();
            let is_required = !required.is_empty();
            let mut schema = json!({ "type": "object", "additionalProperties": false });
            if is_required {
                schema["required"] = json!(required);
            }
            schema["properties"] = Value::Object(others.into_iter().collect());
            operation["requestBody"] = body(schema, is_required);
        }
    }
    operation["parameters"] = parameters.into();
    let answer = match (resource.answer, tool) {
        (Answer::Log, _) => {
            let mut answer = text_answer("The text of the log.", "text/plain");
            answer["headers"] = json!({ "Moadim-Next-Offset": {
                "description": "The `offset` that continues after this text.", "required": true, "schema": { "type": "integer" },
            } });
            answer
        }
        (Answer::Tool(name), _) => json_answer(&answer_name(name)),
        (Answer::Usage, _) => json_answer("usage"),
    };
    operation["responses"] = responses(answer, &also);
    let method = match resource.method {
        Method::Get => "get",
        Method::Post => "post",
    };
    json!({ method: operation })
}

/// Names an operation by its method and path: `get_runs_run_log`.
fn operation_id(resource: &Resource) -> String {
    let method = match resource.method {
        Method::Get => "get",
        Method::Post => "post",
    };
    let parts = resource.path.split('/').skip(2).map(|part| part.trim_matches(['{', '}']));
    parts.fold(method.to_owned(), |id, part| format!("{id}_{part}"))
}

fn events() -> Value {
    let description = "Server-sent events. Each `changed` has a JSON object with `topics`: the URIs of what changed (`moadim://runs/…`, \
                       `moadim://runs/…/log`, `moadim://routines/…`, `moadim://health`, `moadim://usage`), and `moadim://` for the lists. \
                       At most two a second; a comment at least every 15 s.";
    json!({
        "operationId": "get_events",
        "tags": ["watching"],
        "summary": "Stream changes",
        "responses": responses(text_answer(description, "text/event-stream"), &[]),
    })
}

fn description() -> Value {
    let answer = json!({ "description": "An OpenAPI 3.1 document.", "content": { "application/json": { "schema": { "type": "object" } } } });
    json!({
        "operationId": "get_openapi",
        "tags": ["watching"],
        "summary": "Describe this interface",
        "responses": responses(answer, &[]),
    })
}

fn metrics() -> Value {
    json!({
        "operationId": "get_metrics",
        "tags": ["watching"],
        "summary": "Show metrics for Prometheus",
        "responses": responses(text_answer("Prometheus' text format, version 0.0.4.", "text/plain"), &[]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::resources::NEXT_OFFSET;
    use crate::http::api::tools::AGREEMENT;
    use crate::mcp::tools;
    use std::path::Path;

    #[test]
    fn the_description_is_that_in_the_folder_schemas() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/openapi.json");
        let actual = serde_json::to_string_pretty(&openapi(&tools::all())).unwrap() + "\n";
        if std::env::var_os("MOADIM_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&file, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let line = actual.lines().zip(expected.lines()).position(|(actual, expected)| actual != expected);
        assert!(
            actual == expected,
            "schemas/openapi.json has changed, first in line {}; if that is meant: MOADIM_BLESS=1 cargo test --lib -- schemas:: openapi::",
            line.map_or_else(|| "after the end of one of them".to_owned(), |line| (line + 1).to_string())
        );
    }

    #[test]
    fn only_what_is_served_is_described() {
        let tools: Vec<Tool> =
            tools::all().into_iter().filter(|tool| ["list_runs", "read_log"].contains(&tool.name())).collect();
        let described = openapi(&tools);
        let paths: Vec<&str> = described["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "/api/events",
                "/api/openapi.json",
                "/api/runs",
                "/api/runs/{run}/log",
                "/api/tools/list_runs",
                "/api/tools/read_log",
                "/api/usage",
                "/metrics"
            ]
        );
    }

    #[test]
    fn headers_are_described_as_they_are_sent() {
        let log = openapi(&tools::all())["paths"]["/api/runs/{run}/log"]["get"].clone();
        let described = log["responses"]["200"]["headers"].as_object().unwrap().keys().next().unwrap().to_lowercase();
        assert_eq!(described, NEXT_OFFSET.as_str());
        assert_eq!(agreement()["name"].as_str().unwrap().to_lowercase(), AGREEMENT);
    }
}
