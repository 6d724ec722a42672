//! Asking a person before something is done that cannot be undone.
//!
//! The two eras ask differently. A legacy session gets a request from us, and the call waits for its answer. A modern
//! client gets the question as the call's result, and calls again with the answer. Either way the tool is called again, with
//! exactly what was agreed to. A client that can ask nobody gets an error that names the argument which says that a person agreed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CancelledNotificationParam, ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationSchema, EnumSchema, InputRequest, InputRequiredResult, JsonObject,
    PrimitiveSchemaDefinition, ServerRequest, StringSchema,
};
use rmcp::service::{PeerRequestOptions, RequestContext, RoleServer};
use serde_json::Value;

use super::call::{Form, Question};
use super::connection::Connection;
use super::open_questions::{Asked, OpenQuestions};

pub(super) enum Decision {
    Agreed(Value),
    /// No, or no answer: why nothing was done, in words for the model.
    Refused(String),
    NotAsked,
}

/// The name of the question and of its only field, as of the argument which says the same.
const NAME: &str = "confirm";
/// How long a legacy call waits for the answer: hosts give a call a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(50);

const DECLINED: &str = "the person declined, so it was not done. Do not try another way without asking them";
const UNANSWERED: &str = "the question was not answered, so it was not done";
const TOO_SOON: &str = "the answer came sooner than a person can read the question, so it was not taken";
const NO_WORDS: &str = "the person chose and typed nothing, so it was not done";

/// The choices, "no" first: some hosts preselect the first, or send it by themselves.
const NO: &str = "No, leave it";
const YES: &str = "Yes, do it";

/// The field for words, beside or instead of the choice.
const WORDS: &str = "text";
const MAX_WORDS_CHARS: u32 = 10_000;
/// The first of the options, which some hosts preselect, or send by themselves: it says nothing.
const OTHER: &str = "Something else: what I type below";

/// A person takes at least this long to read a question. An answer other than yes that comes sooner is a host's own: many
/// decline or cancel by themselves.
const READING_TIME: Duration = Duration::from_secs(1);

fn judge(question: Question, result: &ElicitResult, took: Duration) -> Decision {
    let field = |name: &str| result.content.as_ref().and_then(|content| content.get(name)).and_then(Value::as_str);
    if matches!(question.form, Form::Words { .. }) {
        return judge_words(question, &result.action, field(NAME), field(WORDS), took);
    }
    match (&result.action, field(NAME)) {
        (ElicitationAction::Accept, Some(YES)) => Decision::Agreed(question.terms),
        _ if took < READING_TIME => unanswered(&question),
        (ElicitationAction::Accept, Some(NO)) | (ElicitationAction::Decline, _) => {
            Decision::Refused(DECLINED.to_owned())
        }
        // Accepted or dismissed without a choice.
        _ => unanswered(&question),
    }
}

/// What a person typed counts before what they chose. Whatever comes sooner than they can have read it is a host's own.
fn judge_words(
    question: Question,
    action: &ElicitationAction,
    chosen: Option<&str>,
    typed: Option<&str>,
    took: Duration,
) -> Decision {
    let typed = typed.map(str::trim).filter(|typed| !typed.is_empty());
    let words = typed.or_else(|| chosen.filter(|chosen| *chosen != OTHER));
    match (action, words) {
        _ if took < READING_TIME => refused(TOO_SOON, &question),
        (ElicitationAction::Accept, Some(words)) => {
            let mut terms = question.terms;
            terms["text"] = words.into();
            Decision::Agreed(terms)
        }
        (ElicitationAction::Accept, None) => refused(NO_WORDS, &question),
        (ElicitationAction::Decline, _) => Decision::Refused(DECLINED.to_owned()),
        _ => unanswered(&question),
    }
}

fn unanswered(question: &Question) -> Decision {
    refused(UNANSWERED, question)
}

fn refused(why: &str, question: &Question) -> Decision {
    Decision::Refused(format!("{why}: {}", question.otherwise))
}

/// Hands a question to a modern client, which calls again with the answer; `None` if no token can be made.
pub(super) fn hand_over(
    open: &OpenQuestions,
    tool: &str,
    arguments: &JsonObject,
    question: Question,
) -> Option<InputRequiredResult> {
    let request = InputRequest::Elicitation(ElicitRequest::new(form(&question)));
    let token = open.keep(tool, arguments, question)?;
    Some(InputRequiredResult::new(Some(BTreeMap::from([(NAME.to_owned(), request)])), Some(token)))
}

/// Reads the decision that a modern call brings along; none if this call raised no such question.
pub(super) fn decision(open: &OpenQuestions, call: &CallToolRequestParams) -> Decision {
    let response = call.input_responses.as_ref().and_then(|responses| responses.get(NAME));
    let (Some(token), Some(response)) = (&call.request_state, response) else { return Decision::NotAsked };
    let arguments = call.arguments.clone().unwrap_or_default();
    let Some(Asked { question, at }) = open.take(token, &call.name, &arguments) else { return Decision::NotAsked };
    match serde_json::from_value(response.clone()) {
        Ok(result) => judge(question, &result, at.elapsed()),
        // Only a plain yes is a yes.
        Err(_) => unanswered(&question),
    }
}

/// Asks the person behind a legacy call.
///
/// # Errors
/// The call was cancelled, or the connection ends.
pub(super) async fn ask(
    question: Question,
    context: &RequestContext<RoleServer>,
    connection: &Connection,
) -> Result<Decision, ErrorData> {
    let request = ElicitRequest::new(form(&question));
    let options = PeerRequestOptions::with_timeout(ANSWER_TIMEOUT);
    let sending = context.peer.send_request_with_option(ServerRequest::ElicitRequest(request), options);
    let Some(Ok(sent)) = connection.while_open(sending).await else { return Ok(Decision::NotAsked) };
    let (id, asked) = (sent.id.clone(), Instant::now());
    let answer = tokio::select! {
        biased;
        () = context.ct.cancelled() => {
            let withdrawn = CancelledNotificationParam::new(Some(id), Some("the call was cancelled".to_owned()));
            // A connection that takes nothing more ends by itself.
            let _ = connection.while_open(context.peer.notify_cancelled(withdrawn)).await;
            return Err(ErrorData::internal_error("the call was cancelled", None));
        }
        () = connection.closing.cancelled() => return Err(ErrorData::internal_error("the connection ends", None)),
        answer = sent.await_response() => answer,
    };
    Ok(match answer {
        Ok(ClientResult::ElicitResult(result)) => judge(question, &result, asked.elapsed()),
        // It timed out, or the client could not ask after all.
        _ => unanswered(&question),
    })
}

/// Returns whether the client has declared that it can show a form.
pub(super) fn can_ask(context: &RequestContext<RoleServer>) -> bool {
    let capabilities = context.client_capabilities();
    let elicitation = capabilities.and_then(|capabilities| capabilities.elicitation);
    elicitation.is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none())
}

fn form(question: &Question) -> ElicitRequestParams {
    // Without a default, a person has to choose. Hosts of both eras can show a list of plain words.
    let choice =
        |options: Vec<String>| PrimitiveSchemaDefinition::Enum(EnumSchema::builder(options).untitled().build());
    let (fields, required) = match &question.form {
        Form::Confirm => (vec![(NAME, choice(vec![NO.to_owned(), YES.to_owned()]))], NAME),
        Form::Words { options } => {
            let words = StringSchema::new().title("Your answer").max_length(MAX_WORDS_CHARS);
            let typed = (WORDS, PrimitiveSchemaDefinition::String(words));
            match options.is_empty() {
                true => (vec![typed], WORDS),
                false => {
                    let options = std::iter::once(OTHER.to_owned()).chain(options.iter().cloned()).collect();
                    (vec![(NAME, choice(options)), typed], NAME)
                }
            }
        }
    };
    let fields = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect::<BTreeMap<_, _>>();
    let schema = ElicitationSchema::new(fields).with_required(vec![required.to_owned()]);
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
        Question { message, otherwise, terms: json!(["a-1"]), form: Form::Confirm }
    }

    fn object(value: Value) -> JsonObject {
        let Value::Object(object) = value else { panic!("no object") };
        object
    }

    /// Calls a tool again, with the answer to a question that was asked for the tool `remove` of `a`.
    fn again(questions: &OpenQuestions, token: Option<&str>, tool: &'static str, of: &str, response: Value) -> String {
        let asked = hand_over(questions, "remove", &object(json!({ "of": "a" })), question()).unwrap();
        let token = token.map_or(asked.request_state, |token| Some(token.to_owned())).unwrap();
        let call = CallToolRequestParams::new(tool)
            .with_arguments(object(json!({ "of": of })))
            .with_input_responses(BTreeMap::from([(NAME.to_owned(), response)]))
            .with_request_state(token);
        let first = in_words(decision(questions, &call));
        assert_eq!(in_words(decision(questions, &call)), "not asked", "an answer counts once");
        first
    }

    fn in_words(decision: Decision) -> String {
        match decision {
            Decision::Agreed(terms) => format!("yes to {terms}"),
            Decision::Refused(reason) => reason,
            Decision::NotAsked => "not asked".to_owned(),
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
            let words = in_words(judge(question(), &result, READING_TIME));
            assert!(words.contains(meant), "{response}: {words}");
            assert_eq!(words.ends_with(": not done"), meant == "not answered", "{words}");
            let at_once = in_words(judge(question(), &result, Duration::ZERO));
            assert!(
                at_once.starts_with("yes") || at_once == format!("{UNANSWERED}: not done"),
                "{response}: {at_once}"
            );
        }
    }

    #[test]
    fn only_what_a_person_chose_or_typed_is_an_answer() {
        let asked = || Question {
            terms: json!({ "run": "a-1" }),
            form: Form::Words { options: vec!["main".into(), "dev".into()] },
            ..question()
        };
        let cases = [
            ("accept", json!({ "confirm": "dev" }), "yes to {\"run\":\"a-1\",\"text\":\"dev\"}"),
            ("accept", json!({ "confirm": "dev", "text": " neither\n" }), "\"text\":\"neither\""),
            ("accept", json!({ "confirm": OTHER, "text": "neither" }), "\"text\":\"neither\""),
            ("accept", json!({ "confirm": OTHER }), NO_WORDS),
            ("accept", json!({ "confirm": OTHER, "text": " " }), NO_WORDS),
            ("accept", json!({}), NO_WORDS),
            ("decline", json!({ "confirm": "dev" }), "declined"),
            ("cancel", json!({ "text": "x" }), "not answered"),
        ];
        for (action, content, meant) in cases {
            let response = json!({ "action": action, "content": content });
            let result = serde_json::from_value(response.clone()).unwrap();
            let words = in_words(judge(asked(), &result, READING_TIME));
            assert!(words.contains(meant), "{response}: {words}");
            let at_once = in_words(judge(asked(), &result, Duration::ZERO));
            assert!(at_once.starts_with(TOO_SOON), "a host answers by itself: {at_once}");
        }
        let fields = |options: Vec<String>| {
            let form = form(&Question { form: Form::Words { options }, ..question() });
            let schema = serde_json::to_value(form).unwrap()["requestedSchema"].clone();
            (schema["required"].clone(), schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(fields(vec![]), (json!(["text"]), vec!["text".to_owned()]));
        assert_eq!(fields(vec!["a".into()]), (json!(["confirm"]), vec!["confirm".to_owned(), "text".to_owned()]));
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
        assert_eq!(again(&questions, None, "remove", "b", yes()), "not asked");
        assert_eq!(again(&questions, None, "keep", "a", yes()), "not asked");
        assert_eq!(again(&questions, Some("made up"), "remove", "a", yes()), "not asked");
    }
}
