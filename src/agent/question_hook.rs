//! What a hook before Claude Code's tool for questions decides: the run ends with the question, or gets a person's answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The only tool that is decided about.
pub(super) const QUESTION_TOOL: &str = "AskUserQuestion";

/// More is not read of a call.
pub(crate) const MAX_CALL_BYTES: u64 = 4 * 1024 * 1024;

/// A question with more is not kept, and could never be answered.
pub(super) const MAX_INPUT_BYTES: usize = 64 * 1024;

/// What a person answered, for the run that continues.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PersonsAnswer {
    /// The id of the call that asked; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The input of that call.
    pub(crate) input: Value,
    pub(crate) text: String,
}

/// What a hook is given on stdin, as far as it matters.
#[derive(Deserialize)]
struct Call {
    tool_name: String,
    #[serde(default)]
    tool_input: Value,
    /// A call that was deferred keeps its id when the session goes on.
    #[serde(default)]
    tool_use_id: Option<Value>,
}

impl Call {
    /// Whether it may be the one that was answered: the same question may be asked once more, and is another call then.
    fn may_be(&self, id: Option<&str>) -> bool {
        let own = self.tool_use_id.as_ref().and_then(Value::as_str);
        own.zip(id).is_none_or(|(own, answered)| own == answered)
    }
}

/// Returns what the hook prints about a call. What cannot be read is deferred: the hook is asked about questions alone.
pub(crate) fn decide(call: &[u8], answer: Option<&PersonsAnswer>) -> Option<Value> {
    let Ok(call) = serde_json::from_slice::<Call>(call) else {
        return Some(decision(json!({"permissionDecision": "defer"})));
    };
    if call.tool_name != QUESTION_TOOL {
        return None;
    }
    let answer = answer.filter(|answer| call.may_be(answer.id.as_deref()));
    let answers = answer.and_then(|answer| answers(&call.tool_input, answer));
    Some(decision(match answers {
        Some(answers) => {
            let input = json!({"questions": call.tool_input.get("questions"), "answers": answers});
            json!({"permissionDecision": "allow", "updatedInput": input})
        }
        None if is_too_long(&call.tool_input) => {
            let reason = "The questions are too long to be kept. Ask again in at most 4,000 characters.";
            json!({"permissionDecision": "deny", "permissionDecisionReason": reason})
        }
        None => json!({"permissionDecision": "defer"}),
    }))
}

/// Whether the input of a call is larger than what is kept of a question.
pub(super) fn is_too_long(input: &Value) -> bool {
    // Compact, whatever it was like before.
    input.to_string().len() > MAX_INPUT_BYTES
}

/// Gives each of the questions the answer, if they are those that it was given to.
fn answers(input: &Value, answer: &PersonsAnswer) -> Option<Map<String, Value>> {
    let questions = input.get("questions").filter(|questions| Some(*questions) == answer.input.get("questions"))?;
    let texts = questions.as_array()?.iter().map(|question| question.get("question")?.as_str());
    let answers: Option<Map<String, Value>> =
        texts.map(|text| Some((text?.to_owned(), Value::from(answer.text.as_str())))).collect();
    answers.filter(|answers| !answers.is_empty())
}

fn decision(mut decided: Value) -> Value {
    decided["hookEventName"] = "PreToolUse".into();
    json!({"hookSpecificOutput": decided})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Value {
        let option = |label| json!({"label": label, "description": "d"});
        json!({"questions": [
            {"question": "Which branch?", "header": "Branch", "options": [option("main"), option("dev")], "multiSelect": false},
            {"question": "When?", "header": "Time", "options": [option("now"), option("later")], "multiSelect": false},
        ]})
    }

    fn call(input: &Value) -> Vec<u8> {
        json!({"hook_event_name": "PreToolUse", "tool_name": QUESTION_TOOL, "tool_input": input, "tool_use_id": "toolu_1"})
            .to_string()
            .into()
    }

    fn answer(input: Value) -> PersonsAnswer {
        PersonsAnswer { id: None, input, text: "dev, {now}\n".into() }
    }

    fn decided(call: &[u8], answer: Option<&PersonsAnswer>) -> String {
        let printed = decide(call, answer).unwrap();
        assert_eq!(printed.pointer("/hookSpecificOutput/hookEventName"), Some(&json!("PreToolUse")));
        printed.pointer("/hookSpecificOutput/permissionDecision").unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn the_question_that_was_answered_gets_the_answer_and_any_other_ends_the_run() {
        // In another order, and with a key that the agent added.
        let asked = json!({"metadata": {}, "questions": input()["questions"]});
        let printed = decide(&call(&input()), Some(&answer(asked))).unwrap();
        let updated = json!({"questions": input()["questions"],
            "answers": {"Which branch?": "dev, {now}\n", "When?": "dev, {now}\n"}});
        let expected = json!({"hookEventName": "PreToolUse", "permissionDecision": "allow", "updatedInput": updated});
        assert_eq!(printed, json!({ "hookSpecificOutput": expected }));

        let mut other = input();
        other["questions"][1]["question"] = "Who?".into();
        for answer in [None, Some(answer(other)), Some(answer(json!({}))), Some(answer(Value::Null))] {
            assert_eq!(decided(&call(&input()), answer.as_ref()), "defer");
        }
    }

    #[test]
    fn the_same_question_asked_once_more_ends_the_run_where_ids_tell_the_calls_apart() {
        let answer = |id: Option<&str>| PersonsAnswer { id: id.map(str::to_owned), ..answer(input()) };
        let call_of = |id: &Value| {
            let call = json!({"tool_name": QUESTION_TOOL, "tool_input": input(), "tool_use_id": id});
            call.to_string().into_bytes()
        };
        let known = [(Some("toolu_1"), "allow"), (Some("toolu_2"), "defer"), (Some(""), "defer"), (None, "allow")];
        for (id, expected) in known {
            assert_eq!(decided(&call_of(&json!("toolu_1")), Some(&answer(id))), expected, "{id:?}");
        }
        for unknown in [json!(null), json!(5)] {
            assert_eq!(decided(&call_of(&unknown), Some(&answer(Some("toolu_1")))), "allow", "{unknown}");
        }
        let read: PersonsAnswer = serde_json::from_value(json!({"input": input(), "text": "dev"})).unwrap();
        assert_eq!(decided(&call(&input()), Some(&read)), "allow", "as it was kept before");
    }

    #[test]
    fn a_call_without_questions_or_that_cannot_be_read_is_deferred() {
        for input in
            [json!({}), json!(null), json!({"questions": []}), json!({"questions": [{}]}), json!({"questions": 5})]
        {
            assert_eq!(decided(&call(&input), Some(&answer(input.clone()))), "defer", "{input}");
        }
        let mut cut = call(&json!({"questions": [{"question": "x".repeat(10 << 20)}]}));
        cut.truncate(MAX_CALL_BYTES as usize);
        for bytes in [&cut, b"".as_slice(), b"yes", b"[]", b"\xff\xfe", b"{\"tool_name\": 5}"] {
            assert_eq!(decided(bytes, Some(&answer(input()))), "defer");
        }
    }

    #[test]
    fn a_question_that_would_not_be_kept_is_asked_again() {
        let of_bytes = |bytes| json!({"questions": [{"question": "x".repeat(bytes)}]});
        assert_eq!(decided(&call(&of_bytes(1 << 20)), None), "deny");
        assert_eq!(decided(&call(&of_bytes(MAX_INPUT_BYTES - 100)), None), "defer");
    }

    #[test]
    fn nothing_is_said_about_another_tool() {
        for name in ["Bash", "", "askuserquestion"] {
            assert_eq!(decide(json!({"tool_name": name, "tool_input": input()}).to_string().as_bytes(), None), None);
        }
    }
}
