//! Handling `tools/call`: the tool runs on a thread of its own, its progress is passed on, and the person is asked where the
//! tool wants it.

use std::pin::pin;
use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult, JsonObject,
    ProgressNotificationParam,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;

use super::call::{Call, Progress, Question, Reply};
use super::call_threads::{CallThread, CallThreads, Panicked};
use super::connection::Connection;
use super::elicitation::{self, Decision};
use super::lifecycle::is_modern;
use super::open_questions::OpenQuestions;
use super::tasks;
use super::tool::Tool;
use crate::quote::shortened;
use crate::run::context::App;

/// Handles the calls of one connection.
pub(super) struct CallHandler {
    app: Arc<App>,
    tools: Arc<[Tool]>,
    served: Arc<[&'static str]>,
    threads: Arc<CallThreads>,
    connection: Connection,
    questions: OpenQuestions,
}

/// A response to the client, or a question that comes before it.
enum Step {
    Respond(CallToolResponse),
    Ask(Question),
}

/// How often one call asks, if there is more to agree to each time.
const MAX_QUESTIONS: usize = 3;

impl CallHandler {
    pub(super) fn new(app: Arc<App>, tools: Arc<[Tool]>, threads: Arc<CallThreads>, connection: Connection) -> Self {
        let served = tools.iter().map(Tool::name).collect();
        Self { app, tools, served, threads, connection, questions: OpenQuestions::default() }
    }

    /// Calls a tool, and asks the person first where the tool wants it.
    ///
    /// # Errors
    /// There is no such tool, the call was cancelled, or the connection ends.
    pub(super) async fn call(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let index = self.find(&request.name)?;
        // A legacy call brings no answers.
        let decision =
            if is_modern(context) { elicitation::decision(&self.questions, &request) } else { Decision::NotAsked };
        let mut agreed = match decision {
            Decision::Agreed(terms) => Some(terms),
            Decision::Refused(reason) => return Ok(failed(reason)),
            Decision::NotAsked => None,
        };
        let arguments = request.arguments.unwrap_or_default();
        for _ in 0..MAX_QUESTIONS {
            let question = match self.run(index, arguments.clone(), agreed.take(), context).await? {
                Step::Respond(response) => return Ok(response),
                Step::Ask(question) => question,
            };
            let otherwise = question.otherwise.clone();
            if !elicitation::can_ask(context) {
                return Ok(failed(otherwise));
            }
            if is_modern(context) {
                let asked = elicitation::hand_over(&self.questions, &request.name, &arguments, question);
                return Ok(asked.map_or_else(|| failed(otherwise), Into::into));
            }
            match elicitation::ask(question, context, &self.connection).await? {
                Decision::Agreed(terms) => agreed = Some(terms),
                Decision::Refused(reason) => return Ok(failed(reason)),
                Decision::NotAsked => return Ok(failed(otherwise)),
            }
        }
        Ok(failed("it was not done: more runs started each time the person agreed; disable the routine, and try again"))
    }

    /// Runs a tool on a thread of its own, so that it holds up no other request. When the client cancels the call, nobody waits
    /// for its answer any more; the tool itself runs to its end, unless it only waits.
    async fn run(
        &self,
        index: usize,
        arguments: JsonObject,
        agreed: Option<Value>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Step, ErrorData> {
        let token = context.meta.get_progress_token();
        let (sender, mut reports) = unbounded_channel();
        // A legacy session knows no answer but a tool's own, whatever extensions its client speaks elsewhere.
        let takes_tasks = is_modern(context)
            && context.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks());
        let call = Call {
            takes_tasks,
            agreed,
            progress: token.is_some().then_some(sender),
            ..Call::new(Arc::clone(&self.served))
        };
        let bell = call.bell.clone();
        let (app, tools) = (Arc::clone(&self.app), Arc::clone(&self.tools));
        let mut ended = pin!(self.threads.run(move |thread| {
            if thread == CallThread::Reserve {
                // Others need it, and among them may be the call that ends what this one waits for.
                call.bell.call_off();
            }
            let reply = tools[index].call(&app, arguments, &call);
            reply.and_then(|reply| step(&app, reply)).unwrap_or_else(|error| Step::Respond(failed(error.to_string())))
        }));
        let closing = &self.connection.closing;
        let mut open = true;
        let ended = loop {
            tokio::select! {
                biased;
                () = context.ct.cancelled() => {
                    bell.call_off();
                    return Err(ErrorData::internal_error("the call was cancelled", None));
                }
                () = closing.cancelled(), if open => {
                    open = false;
                    bell.call_off();
                }
                // Before the answer, after which a client would not know what it is about.
                Some(Progress { done, total, message }) = reports.recv() => {
                    if let Some(token) = token.clone() {
                        let report = ProgressNotificationParam::new(token, done).with_total(total).with_message(message);
                        // A connection that takes nothing more ends by itself.
                        let _ = self.connection.while_open(context.peer.notify_progress(report)).await;
                    }
                }
                ended = &mut ended => break ended,
            }
        };
        Ok(ended.unwrap_or_else(|Panicked(message)| {
            // The panic hook has logged the place already.
            let name = self.tools[index].name();
            tracing::error!(tool = name, message, "a tool panicked");
            Step::Respond(failed(format!(
                "`{name}` failed inside moadim-mcp: {message}. This is a bug; the server's stderr has the details. Look at \
                 the state (`health`, `list_runs`) before you try again."
            )))
        }))
    }

    fn find(&self, name: &str) -> Result<usize, ErrorData> {
        self.tools.binary_search_by(|tool| tool.name().cmp(name)).map_err(|_| {
            let known: Vec<&str> = self.tools.iter().filter(|tool| tool.is_for_models()).map(Tool::name).collect();
            let name = shortened(name, 80);
            let message = format!("there is no tool `{name}`; the tools are: {}", known.join(", "));
            ErrorData::invalid_params(message, None)
        })
    }
}

fn step(app: &App, reply: Reply<CallToolResult>) -> anyhow::Result<Step> {
    Ok(match reply {
        Reply::Answer(result) => Step::Respond(result.into()),
        Reply::Ask(question) => Step::Ask(question),
        Reply::Task(run) => {
            let task = tasks::look(app, &run.to_string())?.task;
            Step::Respond(CreateTaskResult::new(task).into())
        }
    })
}

fn failed(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::error(vec![ContentBlock::text(text)]).into()
}
