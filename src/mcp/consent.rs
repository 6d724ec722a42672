//! Asking a person before something is done that cannot be undone.
//!
//! The two eras ask differently. A legacy session gets a request from us, and the call waits for its answer. A modern
//! client gets the question as the call's result, and calls again with the answer. A client that can ask nobody gets an
//! error that names the argument with which it says that the person agreed.

use std::collections::BTreeMap;
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{
    BooleanSchema, CancelledNotificationParam, ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationSchema, InputRequest, InputRequiredResult, InputResponses, PrimitiveSchemaDefinition,
    ServerRequest,
};
use rmcp::service::{PeerRequestOptions, RequestContext, RoleServer};
use tokio_util::sync::CancellationToken;

/// What a person is asked, and what a client is told that can ask nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The question, complete in itself.
    pub message: String,
    /// Why nothing was done, and the way on.
    pub otherwise: String,
}

/// What became of a question.
pub(super) enum Asked {
    /// The person agreed.
    Yes,
    /// The person did not, in these words.
    No(&'static str),
    /// There is nobody to ask, or nobody answered.
    Nobody,
    /// The client asks, and calls again.
    ByClient(InputRequiredResult),
}

/// The name of the question, and of its only field: that of the argument which says the same.
const NAME: &str = "confirm";
/// How long an answer is waited for: hosts give a call a minute.
const PATIENCE: Duration = Duration::from_secs(50);

const DECLINED: &str = "the person declined, so it was not done. Do not try it another way without asking them";
const DISMISSED: &str = "the person dismissed the question, so it was not done. Ask them what they want";

/// Reads the answer that a modern client brings along; `None` where there is none.
pub(super) fn brought(responses: Option<&InputResponses>) -> Option<Asked> {
    let response = responses?.get(NAME)?;
    // What makes no sense is no yes.
    Some(serde_json::from_value(response.clone()).map_or(Asked::No(DISMISSED), |result| judge(&result)))
}

fn judge(result: &ElicitResult) -> Asked {
    let ticked = result.content.as_ref().and_then(|content| content.get(NAME)) == Some(&serde_json::Value::Bool(true));
    match result.action {
        ElicitationAction::Accept if ticked => Asked::Yes,
        ElicitationAction::Cancel => Asked::No(DISMISSED),
        _ => Asked::No(DECLINED),
    }
}

/// Asks the person behind a call.
///
/// # Errors
/// The call was cancelled, or the connection ends.
pub(super) async fn ask(
    question: &Question,
    is_modern: bool,
    context: &RequestContext<RoleServer>,
    closing: &CancellationToken,
) -> Result<Asked, ErrorData> {
    if !can_be_asked(context) {
        return Ok(Asked::Nobody);
    }
    let request = ElicitRequest::new(form(question));
    if is_modern {
        let questions = BTreeMap::from([(NAME.to_owned(), InputRequest::Elicitation(request))]);
        return Ok(Asked::ByClient(InputRequiredResult::from_input_requests(questions)));
    }
    let options = PeerRequestOptions::with_timeout(PATIENCE);
    let sent = context.peer.send_request_with_option(ServerRequest::ElicitRequest(request), options).await;
    let Ok(sent) = sent else { return Ok(Asked::Nobody) };
    let id = sent.id.clone();
    let answer = tokio::select! {
        answer = sent.await_response() => answer,
        () = context.ct.cancelled() => {
            let withdrawn = CancelledNotificationParam::new(Some(id), Some("the call was cancelled".to_owned()));
            // A connection that takes nothing more ends by itself.
            let _ = context.peer.notify_cancelled(withdrawn).await;
            return Err(ErrorData::internal_error("the call was cancelled", None));
        }
        () = closing.cancelled() => return Err(ErrorData::internal_error("the connection ends", None)),
    };
    Ok(match answer {
        Ok(ClientResult::ElicitResult(result)) => judge(&result),
        // It timed out, or the client could not ask after all.
        _ => Asked::Nobody,
    })
}

/// Tells whether the client said that it can show a form.
fn can_be_asked(context: &RequestContext<RoleServer>) -> bool {
    let capabilities = context.client_capabilities();
    let elicitation = capabilities.and_then(|capabilities| capabilities.elicitation);
    elicitation.is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none())
}

fn form(question: &Question) -> ElicitRequestParams {
    let tick = BooleanSchema::new().title("Yes, do it").with_default(false);
    let fields = BTreeMap::from([(NAME.to_owned(), PrimitiveSchemaDefinition::Boolean(tick))]);
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
    use serde_json::{Value, json};

    fn brings(response: Value) -> &'static str {
        match brought(Some(&InputResponses::from([(NAME.to_owned(), response)]))) {
            Some(Asked::Yes) => "yes",
            Some(Asked::No(DECLINED)) => "declined",
            Some(Asked::No(_)) => "dismissed",
            _ => "nothing",
        }
    }

    #[test]
    fn only_a_plain_yes_is_a_yes() {
        let cases = [
            (json!({ "action": "accept", "content": { "confirm": true } }), "yes"),
            (json!({ "action": "accept", "content": { "confirm": false } }), "declined"),
            (json!({ "action": "accept", "content": { "confirm": "true" } }), "declined"),
            (json!({ "action": "accept" }), "declined"),
            (json!({ "action": "decline", "content": { "confirm": true } }), "declined"),
            (json!({ "action": "cancel" }), "dismissed"),
            (json!({ "action": "maybe" }), "dismissed"),
            (json!(true), "dismissed"),
        ];
        for (response, meant) in cases {
            assert_eq!(brings(response.clone()), meant, "{response}");
        }
        assert!(brought(None).is_none());
        assert!(brought(Some(&InputResponses::from([("other".to_owned(), json!({}))]))).is_none());
    }
}
