//! Asking a person before something is done that cannot be undone.
//!
//! The two eras ask differently. A legacy session gets a request from us, and the call waits for its answer. A modern
//! client gets the question as the call's result, and calls again with the answer. Either way the tool is called anew, with what
//! exactly was agreed to. A client that can ask nobody gets an
//! error that names the argument with which it says that the person agreed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CancelledNotificationParam, ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationSchema, EnumSchema, InputRequest, InputRequiredResult, JsonObject,
    PrimitiveSchemaDefinition, ServerRequest,
};
use rmcp::service::{PeerRequestOptions, RequestContext, RoleServer};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::stdio::while_open;
use crate::process_tree::Cookie;

/// What a person is asked, and what a client is told that can ask nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The question, complete in itself.
    pub message: String,
    /// Why it was not done, and the way on.
    pub otherwise: String,
    /// What a yes is to, for the tool: no more than this was agreed to, whatever is there by then.
    pub terms: Value,
    /// What has been done before the question, ready to be appended to a sentence; mostly nothing.
    pub done: String,
}

/// What a person said.
pub(super) enum Said {
    /// Yes, to these terms.
    Yes(Value),
    /// No, in words for the model.
    No(String),
    /// Nothing: nobody was asked.
    Nothing,
}

/// The name of the question, and of its only field: that of the argument which says the same.
const NAME: &str = "confirm";
/// How long an answer is waited for: hosts give a call a minute.
const PATIENCE: Duration = Duration::from_secs(50);

const DECLINED: &str = "the person declined, so it was not done. Do not try it another way without asking them";
const UNANSWERED: &str = "the question was not answered, so it was not done";

/// The choices, "no" first: some hosts preselect the first, or send it by themselves.
const NO: &str = "No, leave it";
const YES: &str = "Yes, do it";

/// How long a person takes at least to read a question. What is not a yes and comes sooner is a host's own: without a person, many
/// decline or cancel by themselves.
const READING_TIME: Duration = Duration::from_secs(1);

fn judge(question: Question, result: &ElicitResult, took: Duration) -> Said {
    let chosen = result.content.as_ref().and_then(|content| content.get(NAME)).and_then(Value::as_str);
    let no = |words: &str| Said::No(format!("{words}{}", question.done));
    match (&result.action, chosen) {
        (ElicitationAction::Accept, Some(YES)) => Said::Yes(question.terms),
        _ if took < READING_TIME => unanswered(&question),
        (ElicitationAction::Accept, Some(NO)) | (ElicitationAction::Decline, _) => no(DECLINED),
        // Accepted without a choice, or put away without one.
        _ => unanswered(&question),
    }
}

fn unanswered(question: &Question) -> Said {
    Said::No(format!("{UNANSWERED}: {}", question.otherwise))
}

/// Questions that modern clients were given to ask. An answer counts only for the very call that raised its question, and once.
#[derive(Default)]
pub(super) struct OpenQuestions {
    open: Mutex<VecDeque<OpenQuestion>>,
}

struct OpenQuestion {
    /// By what the client names it; nobody can guess one.
    token: String,
    tool: String,
    arguments: JsonObject,
    question: Question,
    asked: Instant,
}

/// How many are kept; a client that asks more at a time is asked again.
const MOST_OPEN: usize = 64;

impl OpenQuestions {
    /// Gives a question to the client, which calls again with the answer; `None` if no token can be made.
    pub(super) fn hand_over(
        &self,
        tool: &str,
        arguments: &JsonObject,
        question: Question,
    ) -> Option<InputRequiredResult> {
        let token = Cookie::random().ok()?.to_string();
        let request = InputRequest::Elicitation(ElicitRequest::new(form(&question)));
        let asked = InputRequiredResult::new(Some(BTreeMap::from([(NAME.to_owned(), request)])), Some(token.clone()));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.truncate(MOST_OPEN - 1);
        let (tool, arguments, asked_at) = (tool.to_owned(), arguments.clone(), Instant::now());
        open.push_front(OpenQuestion { token, tool, arguments, question, asked: asked_at });
        Some(asked)
    }

    /// Reads the answer that a call brings along. One to a question that was not asked of this call counts as nothing.
    pub(super) fn answer(&self, call: &CallToolRequestParams) -> Said {
        let (Some(token), Some(responses)) = (&call.request_state, &call.input_responses) else { return Said::Nothing };
        let Some(response) = responses.get(NAME) else { return Said::Nothing };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let arguments = call.arguments.clone().unwrap_or_default();
        let is_it = |one: &OpenQuestion| one.token == *token && one.tool == call.name && one.arguments == arguments;
        let Some(asked) = open.iter().position(is_it).and_then(|index| open.remove(index)) else {
            return Said::Nothing;
        };
        match serde_json::from_value(response.clone()) {
            Ok(result) => judge(asked.question, &result, asked.asked.elapsed()),
            // What makes no sense is no yes.
            Err(_) => unanswered(&asked.question),
        }
    }
}

/// Asks the person behind a legacy call.
///
/// # Errors
/// The call was cancelled, or the connection ends.
pub(super) async fn ask(
    question: Question,
    context: &RequestContext<RoleServer>,
    closing: &CancellationToken,
) -> Result<Said, ErrorData> {
    let request = ElicitRequest::new(form(&question));
    let options = PeerRequestOptions::with_timeout(PATIENCE);
    let sending = context.peer.send_request_with_option(ServerRequest::ElicitRequest(request), options);
    let Some(Ok(sent)) = while_open(closing, sending).await else { return Ok(Said::Nothing) };
    let (id, asked) = (sent.id.clone(), Instant::now());
    let answer = tokio::select! {
        biased;
        () = context.ct.cancelled() => {
            let withdrawn = CancelledNotificationParam::new(Some(id), Some("the call was cancelled".to_owned()));
            // A connection that takes nothing more ends by itself.
            let _ = while_open(closing, context.peer.notify_cancelled(withdrawn)).await;
            return Err(ErrorData::internal_error("the call was cancelled", None));
        }
        () = closing.cancelled() => return Err(ErrorData::internal_error("the connection ends", None)),
        answer = sent.await_response() => answer,
    };
    Ok(match answer {
        Ok(ClientResult::ElicitResult(result)) => judge(question, &result, asked.elapsed()),
        // It timed out, or the client could not ask after all.
        _ => unanswered(&question),
    })
}

/// Tells whether the client said that it can show a form.
pub(super) fn can_be_asked(context: &RequestContext<RoleServer>) -> bool {
    let capabilities = context.client_capabilities();
    let elicitation = capabilities.and_then(|capabilities| capabilities.elicitation);
    elicitation.is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none())
}

fn form(question: &Question) -> ElicitRequestParams {
    // Without a default: a person has to choose. A list of plain words is what hosts of each era can show.
    let choice = EnumSchema::builder(vec![NO.to_owned(), YES.to_owned()]).untitled().build();
    let fields = BTreeMap::from([(NAME.to_owned(), PrimitiveSchemaDefinition::Enum(choice))]);
    let schema = ElicitationSchema::new(fields).with_required(vec![NAME.to_owned()]);
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: question.message.clone(),
        requested_schema: schema,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn question() -> Question {
        let (message, otherwise) = ("Do it?".to_owned(), "not done".to_owned());
        Question { message, otherwise, terms: json!(["a-1"]), done: "; a-2 was ended".to_owned() }
    }

    fn object(value: Value) -> JsonObject {
        let Value::Object(object) = value else { panic!("no object") };
        object
    }

    /// Calls a tool again, with the answer to a question that was asked for the tool `remove` of `a`.
    fn again(questions: &OpenQuestions, token: Option<&str>, tool: &'static str, of: &str, response: Value) -> String {
        let asked = questions.hand_over("remove", &object(json!({ "of": "a" })), question()).unwrap();
        let token = token.map_or(asked.request_state, |token| Some(token.to_owned())).unwrap();
        let call = CallToolRequestParams::new(tool)
            .with_arguments(object(json!({ "of": of })))
            .with_input_responses(BTreeMap::from([(NAME.to_owned(), response)]))
            .with_request_state(token);
        let first = said(questions.answer(&call));
        assert_eq!(said(questions.answer(&call)), "nothing", "an answer counts once");
        first
    }

    fn said(said: Said) -> String {
        match said {
            Said::Yes(terms) => format!("yes to {terms}"),
            Said::No(words) => words,
            Said::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn only_a_plain_yes_is_a_yes() {
        let answer = |action: &str, content: Value| json!({ "action": action, "content": content });
        let cases = [
            (answer("accept", json!({ "confirm": YES })), "yes to [\"a-1\"]"),
            (answer("accept", json!({ "confirm": NO })), "declined"),
            (answer("accept", json!({ "confirm": true })), "not answered"),
            (answer("accept", json!({ "confirm": "yes" })), "not answered"),
            (answer("accept", json!({})), "not answered"),
            (answer("decline", json!({ "confirm": YES })), "declined"),
            (answer("cancel", json!({})), "not answered"),
        ];
        for (response, meant) in cases {
            let result = serde_json::from_value(response.clone()).unwrap();
            let words = said(judge(question(), &result, READING_TIME));
            assert!(words.contains(meant), "{response}: {words}");
            let end = if meant == "not answered" { "not done" } else { "; a-2 was ended" };
            assert!(words.starts_with("yes") || words.ends_with(end), "{words}");
            let at_once = said(judge(question(), &result, Duration::ZERO));
            assert!(
                at_once.starts_with("yes") || at_once == format!("{UNANSWERED}: not done"),
                "{response}: {at_once}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_answer() {
        let questions = OpenQuestions::default();
        for response in [json!({ "action": "maybe" }), json!(true)] {
            assert!(again(&questions, None, "remove", "a", response).starts_with(UNANSWERED));
        }
    }

    #[test]
    fn a_yes_counts_only_for_the_call_that_was_asked_about() {
        let questions = OpenQuestions::default();
        let yes = || json!({ "action": "accept", "content": { "confirm": YES } });
        assert!(again(&questions, None, "remove", "a", yes()).starts_with("yes"));
        assert_eq!(again(&questions, None, "remove", "b", yes()), "nothing");
        assert_eq!(again(&questions, None, "keep", "a", yes()), "nothing");
        assert_eq!(again(&questions, Some("made up"), "remove", "a", yes()), "nothing");
        for _ in 0..2 * MOST_OPEN {
            questions.hand_over("remove", &JsonObject::new(), question()).unwrap();
        }
        assert_eq!(questions.open.lock().unwrap().len(), MOST_OPEN);
    }
}
