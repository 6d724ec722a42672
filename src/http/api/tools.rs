//! `POST /api/tools/{name}`: a tool's own arguments in, its structured answer out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use rmcp::model::{CallToolResult, JsonObject};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ApiState;
use super::refusal::Refusal;
use crate::mcp::call::{Call, Question, Reply};
use crate::mcp::call_threads::{CallThread, CallThreads, Panicked};
use crate::mcp::open_questions::{Asked, OpenQuestions};
use crate::mcp::tool::Tool;
use crate::query::wait::Bell;
use crate::quote::shortened;
use crate::run::context::App;

/// The header that says a person agreed to a question.
pub(super) const AGREEMENT: &str = "moadim-agreement";

/// How long an agreement can be used.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How many calls may be under way: a thread each.
const MAX_CALLS: usize = 32;

/// How many of them may wait for a run: others must get through, and among them may be the one that ends it.
const MAX_WAITS: usize = 24;

/// The tools, and the calls of them.
pub(super) struct Calls {
    tools: Arc<[Tool]>,
    served: Arc<[&'static str]>,
    threads: Arc<CallThreads>,
    questions: OpenQuestions,
    free: Arc<Semaphore>,
    free_for_waits: Arc<Semaphore>,
}

/// Calls a wait off when its client has gone.
struct CallOff(Bell);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.call_off();
    }
}

impl Calls {
    pub(super) fn new(mut tools: Vec<Tool>, threads: Arc<CallThreads>) -> Self {
        tools.sort_unstable_by_key(Tool::name);
        let served = tools.iter().map(Tool::name).collect();
        Self {
            tools: tools.into(),
            served,
            threads,
            questions: OpenQuestions::default(),
            free: Arc::new(Semaphore::new(MAX_CALLS)),
            free_for_waits: Arc::new(Semaphore::new(MAX_WAITS)),
        }
    }

    pub(super) fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// Finds a tool that is served.
    pub(super) fn find(&self, name: &str) -> Result<usize, Refusal> {
        self.tools.binary_search_by(|tool| tool.name().cmp(name)).map_err(|_| {
            let known: Vec<&str> = self.tools.iter().map(Tool::name).collect();
            let (name, known) = (shortened(name, 80), known.join(", "));
            Refusal::not_found(format_args!("there is no tool `{name}`; the tools are: {known}"))
        })
    }

    /// Runs work that may block on a thread of its own. It runs to its end even if nobody waits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(CallThread) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        // Held by the work: one whose client has gone still has its thread.
        let place = Arc::clone(&self.free).try_acquire_owned().map_err(|_| Refusal::too_many())?;
        let ended = self.threads.run(move |thread| {
            let done = work(thread);
            drop(place);
            done
        });
        ended.await.map_err(|Panicked(message)| {
            // The panic hook has logged the place already.
            tracing::error!(what, message, "a request panicked");
            Refusal::failed(format_args!(
                "{what} failed inside moadim-mcp: {message}. This is a bug; see the output of `moadim-mcp dashboard` for details. \
                 Check the state (GET /api/health, GET /api/runs) before you try again"
            ))
        })
    }

    /// Calls a tool, and returns its structured answer. `check` looks at what is called for first.
    pub(super) async fn call(
        &self,
        app: &Arc<App>,
        closing: &CancellationToken,
        tool: usize,
        arguments: JsonObject,
        agreement: Option<&str>,
        check: impl FnOnce(&App) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Value, Refusal> {
        let name = self.tools[tool].name();
        // Held by the work, as its other place.
        let wait = self.tools[tool].waits(&arguments).then(|| Arc::clone(&self.free_for_waits).try_acquire_owned());
        let wait = wait.transpose().map_err(|_| Refusal::too_many_waits())?;
        let agreed = agreement.and_then(|token| self.questions.take(token, name, &arguments));
        let agreed = agreed.filter(|Asked { at, .. }| at.elapsed() <= AGREEMENT_TIMEOUT);
        // The token that it came with is a person's: a webhook's reaches one path alone, which asks nothing.
        let call =
            Call::new(Arc::clone(&self.served)).by_a_person().with_agreement(agreed.map(|asked| asked.question.terms));
        let bell = call.bell.clone();
        let _call_off = CallOff(bell.clone());
        let (app, tools, asked_for) = (Arc::clone(app), Arc::clone(&self.tools), arguments.clone());
        let running = self.run(name, move |thread| {
            if thread == CallThread::Reserve {
                // Others need it, and among them may be the call that ends what this one waits for.
                call.bell.call_off();
            }
            check(&app)?;
            let reply = tools[tool].call(&app, arguments, &call).map_err(Refusal::of_tool);
            drop(wait);
            reply
        });
        let mut running = std::pin::pin!(running);
        let reply = tokio::select! {
            biased;
            reply = &mut running => reply,
            () = closing.cancelled() => {
                bell.call_off();
                running.await
            }
        };
        match reply?? {
            Reply::Answer(CallToolResult { structured_content: Some(answer), .. }) => Ok(answer),
            Reply::Ask(question) => Err(self.ask(name, &asked_for, question)),
            // No tool answers so without being asked to.
            Reply::Answer(_) | Reply::Task(_) => Err(Refusal::failed(format_args!("{name} gave no answer"))),
        }
    }

    fn ask(&self, tool: &str, arguments: &JsonObject, question: Question) -> Refusal {
        let (message, otherwise) = (question.message.clone(), question.otherwise.clone());
        match self.questions.keep(tool, arguments, question) {
            Some(agreement) => Refusal::ask(message, agreement),
            None => Refusal::of_tool(otherwise),
        }
    }
}

pub(super) async fn answer(
    State(state): State<Arc<ApiState>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Path(name) = name.map_err(|error| Refusal::not_found(error.body_text()))?;
    let tool = state.calls.find(&name)?;
    let arguments = arguments(&headers, &body)?;
    let agreement = agreement(&headers);
    let answer = state.calls.call(&state.app, &state.closing, tool, arguments, agreement, |_| Ok(())).await?;
    Ok(Json(answer).into_response())
}

/// Returns the agreement that a request brings along.
pub(super) fn agreement(headers: &HeaderMap) -> Option<&str> {
    headers.get(AGREEMENT).and_then(|agreement| agreement.to_str().ok())
}

/// Reads the arguments from a body: a JSON object, or nothing.
pub(super) fn arguments(headers: &HeaderMap, body: &[u8]) -> Result<JsonObject, Refusal> {
    if body.is_empty() {
        return Ok(JsonObject::new());
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let given =
            if kind.is_empty() { "without a content type".to_owned() } else { format!("as `{}`", shortened(kind, 80)) };
        let error = format_args!("the body came {given}; send it with `Content-Type: application/json`");
        return Err(Refusal::media_type(error));
    }
    let value = serde_json::from_slice(body)
        .map_err(|error| Refusal::media_type(format_args!("the body is not JSON: {error}")))?;
    match value {
        Value::Object(arguments) => Ok(arguments),
        _ => Err(Refusal::of_tool("the body must be a JSON object: the tool's arguments by name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::call::Form;
    use crate::mcp::tool::Hints;
    use axum::http::{HeaderValue, StatusCode};
    use serde_json::json;

    fn parsed(kind: Option<&'static str>, body: &str) -> Result<Value, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.extend(kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))));
        let arguments = arguments(&headers, body.as_bytes());
        arguments.map(Value::Object).map_err(|refusal| refusal.into_response().status())
    }

    #[test]
    fn arguments_are_a_json_object_or_nothing() {
        assert_eq!(parsed(None, ""), Ok(json!({})));
        for kind in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(parsed(Some(kind), r#"{"a":1}"#), Ok(json!({ "a": 1 })));
        }
        for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")] {
            assert_eq!(parsed(kind, r#"{"a":1}"#), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{kind:?}");
        }
        assert_eq!(parsed(Some("application/json"), "{a:1}"), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        for body in ["[]", "null", "7"] {
            assert_eq!(parsed(Some("application/json"), body), Err(StatusCode::UNPROCESSABLE_ENTITY), "{body}");
        }
    }

    #[test]
    fn the_tools_that_wait_for_a_run_are_known() {
        let tools = crate::mcp::tools::all();
        let waiting = |arguments: Value| -> Vec<&str> {
            let waits = tools.iter().filter(|tool| tool.waits(arguments.as_object().unwrap()));
            waits.map(Tool::name).collect()
        };
        assert_eq!(waiting(json!({ "routine": "a", "wait": true })), ["trigger_routine", "wait_run"]);
        assert_eq!(waiting(json!({ "routine": "a", "wait": false })), ["wait_run"]);
        assert_eq!(waiting(json!({})), ["wait_run"]);
    }

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Which {
        of: Option<String>,
    }

    /// Tools that ask, panic, wait to be called off, and work until then.
    fn tools() -> Vec<Tool> {
        let hints = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
        let remove = |_: &App, Which { of }: Which, call: &Call| match call.agreed_to::<Value>() {
            Some(terms) => Ok(Reply::Answer(terms)),
            None => Ok(Reply::Ask(Question {
                message: format!("Remove {}?", of.clone().unwrap_or_default()),
                otherwise: "not done".to_owned(),
                terms: json!({ "removes": of }),
                form: Form::Confirm,
            })),
        };
        let panic = |_: &App, _: Which| -> anyhow::Result<Value> { panic!("oh") };
        let until_called_off = |_: &App, _: Which, call: &Call| {
            Ok(Reply::Answer(json!({
                "called_off": !call.bell.wait(Duration::from_secs(60)),
            })))
        };
        vec![
            Tool::with_call("remove", "", "", hints, remove),
            Tool::new("fail", "", "", hints, panic),
            Tool::with_call("wait", "", "", hints, until_called_off).waiting_if(|_| true),
            Tool::with_call("work", "", "", hints, until_called_off),
        ]
    }

    struct Fixture {
        _dir: tempfile::TempDir,
        app: Arc<App>,
        calls: Calls,
        closing: CancellationToken,
    }

    impl Fixture {
        fn new() -> Self {
            let (dir, app) = App::example();
            let calls = Calls::new(tools(), Arc::new(CallThreads::new().unwrap()));
            Self { _dir: dir, app: Arc::new(app), calls, closing: CancellationToken::new() }
        }

        async fn call(&self, name: &str, of: &str, agreement: Option<&str>) -> Result<Value, (u16, Value)> {
            let arguments = json!({ "of": of }).as_object().unwrap().clone();
            let tool = self.calls.find(name).unwrap();
            let answer = self.calls.call(&self.app, &self.closing, tool, arguments, agreement, |_| Ok(())).await;
            answer.map_err(Refusal::in_brief)
        }
    }

    #[tokio::test]
    async fn an_agreement_counts_once_and_only_for_the_very_call_that_asked() {
        let it = Fixture::new();
        let ask = async |of: &str, agreement: Option<&str>| {
            let (status, body) = it.call("remove", of, agreement).await.unwrap_err();
            assert_eq!((status, &body["question"]), (409, &json!(format!("Remove {of}?"))));
            body["agreement"].as_str().unwrap().to_owned()
        };
        let agreement = ask("a", None).await;
        let of_other = ask("b", Some(&agreement)).await;
        assert_eq!(it.call("remove", "a", Some(&agreement)).await, Ok(json!({ "removes": "a" })));
        let again = ask("a", Some(&agreement)).await;
        assert!(again != agreement && of_other != agreement);
        ask("a", Some("made up")).await;
        assert_eq!(it.call("remove", "b", Some(&of_other)).await, Ok(json!({ "removes": "b" })));
    }

    #[tokio::test]
    async fn a_tool_that_panics_is_an_error_of_ours_and_the_next_call_works() {
        let it = Fixture::new();
        let (status, body) = it.call("fail", "a", None).await.unwrap_err();
        assert_eq!(status, 500);
        assert!(body["error"].as_str().unwrap().contains("fail failed inside moadim-mcp: oh"), "{body}");
        assert_eq!(it.call("remove", "a", None).await.unwrap_err().0, 409);
    }

    #[tokio::test]
    async fn a_wait_is_called_off_when_the_server_shuts_down() {
        let it = Fixture::new();
        let (answer, ()) = tokio::join!(it.call("wait", "a", None), async { it.closing.cancel() });
        assert_eq!(answer, Ok(json!({ "called_off": true })));
    }

    #[tokio::test]
    async fn a_wait_ends_when_its_client_goes_and_waits_leave_room_for_other_calls() {
        let it = Fixture::new();
        {
            let (mut waits, mut works) = (Vec::new(), Vec::new());
            for (name, count, calls) in [("wait", MAX_WAITS, &mut waits), ("work", MAX_CALLS - MAX_WAITS, &mut works)] {
                // Every other call gets through.
                assert_eq!(it.call("remove", "a", None).await.unwrap_err().0, 409);
                for _ in 0..count {
                    let mut call = Box::pin(it.call(name, "a", None));
                    assert!(tokio::time::timeout(Duration::from_millis(1), &mut call).await.is_err());
                    calls.push(call);
                }
                assert_eq!(it.call("wait", "a", None).await.unwrap_err().0, 429);
            }
            assert_eq!(it.call("remove", "a", None).await.unwrap_err().0, 429);
        }
        // All their clients have gone.
        let ended = tokio::time::timeout(Duration::from_secs(30), it.calls.free.acquire_many(MAX_CALLS as u32)).await;
        assert!(ended.is_ok_and(|all| all.is_ok()));
        assert_eq!(it.calls.free_for_waits.available_permits(), MAX_WAITS);
    }
}
