//! Calling a tool for a client, with everything that may pass between the two before the answer.

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult, DetailedTask, JsonObject,
    ProgressNotificationParam, ProgressToken,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;

use super::call::Call;
use super::call_threads::{CallThread, Panicked};
use super::consent::{self, Question, Said};
use super::server::{Server, is_modern, signature};
use super::stdio::while_open;
use super::tasks;
use super::tool::{Json, Reply, Tool, ToolError, shortened};

/// What a tool said, as far as it can be put for the client on the call's own thread.
enum Outcome {
    Answer(Box<CallToolResult>),
    Ask(Question),
    Task(DetailedTask),
    Failed(String),
}

/// How often a person is asked for one call, where there is more each time.
const MOST_QUESTIONS: usize = 3;

impl Server {
    /// Calls a tool, and asks the person first where the tool wants it.
    pub(super) async fn call(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let index = self.find(&request.name)?;
        let mut agreed = None;
        // A legacy call brings no answers.
        if is_modern(context) {
            match self.questions.answer(&request) {
                Said::Yes(terms) => agreed = Some(terms),
                Said::No(words) => return Ok(failed(context, words)),
                Said::Nothing => {}
            }
        }
        let arguments = request.arguments.unwrap_or_default();
        for _ in 0..MOST_QUESTIONS {
            let question = match self.run(index, arguments.clone(), agreed.take(), context).await? {
                Outcome::Answer(mut result) => {
                    result.meta = signature(context);
                    return Ok((*result).into());
                }
                Outcome::Task(task) => {
                    let mut result = CreateTaskResult::new(task.task);
                    result.meta = signature(context);
                    return Ok(result.into());
                }
                Outcome::Failed(error) => return Ok(failed(context, error)),
                Outcome::Ask(question) => question,
            };
            let otherwise = question.otherwise.clone();
            if !consent::can_be_asked(context) {
                return Ok(failed(context, otherwise));
            }
            if is_modern(context) {
                return Ok(match self.questions.hand_over(&request.name, &arguments, question) {
                    Some(mut asked) => {
                        asked.meta = signature(context);
                        asked.into()
                    }
                    None => failed(context, otherwise),
                });
            }
            match consent::ask(question, context, &self.signals().closing).await? {
                Said::Yes(terms) => agreed = Some(terms),
                Said::No(words) => return Ok(failed(context, words)),
                Said::Nothing => return Ok(failed(context, otherwise)),
            }
        }
        Ok(failed(context, "it was not done, for each time that the person agreed there was more of it; try again"))
    }

    /// Runs a tool on a thread of its own, so that nothing it waits for holds up another request. When the client cancels the
    /// call nobody waits for its answer any more: the tool itself runs to its end, unless it only waits.
    async fn run(
        &self,
        index: usize,
        arguments: JsonObject,
        agreed: Option<Value>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Outcome, ErrorData> {
        let token = context.meta.get_progress_token();
        let (sender, mut told) = unbounded_channel();
        // A legacy session knows no answer but a tool's own, whatever extensions its client speaks elsewhere.
        let takes_tasks = is_modern(context)
            && context.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks());
        let call = Call::new(token.is_some().then_some(sender)).taking_tasks(takes_tasks).agreed(agreed);
        let bell = call.bell().clone();
        let shared = Arc::clone(&self.shared);
        let name = self.shared.tools[index].name().to_owned();
        let mut ended = pin!(self.threads.run(move |thread| {
            if thread == CallThread::Reserve {
                // Others need it, and among them may be the call that ends what this one waits for.
                call.bell().call_off();
            }
            let reply = shared.tools[index].call(&shared.core, arguments, &call);
            reply
                .and_then(|reply| outcome(&shared.core, reply))
                .unwrap_or_else(|error| Outcome::Failed(error.to_string()))
        }));
        let closing = &self.signals().closing;
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
                Some(progress) = told.recv() => {
                    if let Some(ProgressToken(token)) = token.clone() {
                        let param = ProgressNotificationParam::new(ProgressToken(token), progress.done)
                            .with_total(progress.total)
                            .with_message(progress.message);
                        // A connection that takes nothing more ends by itself.
                        let _ = while_open(closing, context.peer.notify_progress(param)).await;
                    }
                }
                ended = &mut ended => break ended,
            }
        };
        Ok(ended.unwrap_or_else(|Panicked(words)| {
            // The panic hook has logged the place already.
            tracing::error!(tool = name, words, "a tool panicked");
            Outcome::Failed(format!(
                "`{name}` failed inside moadim-mcp: {words}. This is a bug; the server's stderr has the details. Look at \
                 the state (`health`, `list_runs`) before you try again."
            ))
        }))
    }

    fn find(&self, name: &str) -> Result<usize, ErrorData> {
        let tools = &self.shared.tools;
        tools.binary_search_by(|tool| tool.name().cmp(name)).map_err(|_| {
            let known: Vec<&str> = tools.iter().map(Tool::name).collect();
            let name = shortened(name, 80);
            let message = format!("there is no tool `{name}`; the tools are: {}", known.join(", "));
            ErrorData::invalid_params(message, None)
        })
    }
}

fn outcome(core: &super::Core, reply: Reply<Json>) -> Result<Outcome, ToolError> {
    Ok(match reply {
        // As a text alone; the other form is added where the message is written.
        Reply::Answer(answer) => {
            Outcome::Answer(Box::new(CallToolResult::success(vec![ContentBlock::text(answer.into_text())])))
        }
        Reply::Ask(question) => Outcome::Ask(question),
        Reply::Task(run) => Outcome::Task(tasks::look(core, &run.to_string())?),
    })
}

fn failed(context: &RequestContext<RoleServer>, text: impl Display) -> CallToolResponse {
    let mut result = CallToolResult::error(vec![ContentBlock::text(text.to_string())]);
    result.meta = signature(context);
    result.into()
}
