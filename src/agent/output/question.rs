//! A question to a person with which an agent ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::{list, text};
use super::plain::{cut, one_line, plain, push_bounded};
use crate::agent::question_hook::is_too_long;

const MAX_TEXT_BYTES: usize = 4 * 1024;
const MAX_OPTIONS: usize = 20;
const MAX_OPTION_CHARS: usize = 200;
const MAX_BRIEF_CHARS: usize = 300;
/// An id that is longer is not kept: cut, it would be another's.
const MAX_ID_BYTES: usize = 256;

/// What an agent asked a person, as the last thing that it did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AskedQuestion {
    /// The question; if it asked several at once, each in a line. Its beginning, if it is longer than 4 KiB.
    pub text: String,
    /// The answers that it offers; any other may be given as well. Empty if it asked several questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The agent's own form of it, to which the answer is returned. Absent if it is larger than 64 KiB.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub input: Value,
    /// The agent's id of the call, which tells it from one that asks the same later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl AskedQuestion {
    /// Reads a call of Claude's tool for questions; `None` if it asks nothing.
    pub(super) fn of_claude(call: &Value) -> Option<Self> {
        let input = call.get("input").unwrap_or(&Value::Null);
        let questions = list(input, "/questions");
        let texts = questions.iter().map(|question| one_line(text(question, "/question"), MAX_TEXT_BYTES));
        let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
        let options = match questions {
            [only] => list(only, "/options").iter().map(|option| text(option, "/label").to_owned()).collect(),
            _ => Vec::new(),
        };
        let id = call.get("id").and_then(Value::as_str).map(str::to_owned);
        let asked = Self { text: texts.join("\n"), options, input: input.clone(), id };
        (!texts.is_empty()).then(|| asked.in_plain_words())
    }

    /// Bounds what it holds as if it had just been read.
    pub(super) fn in_plain_words(self) -> Self {
        let mut text = String::new();
        push_bounded(&mut text, plain(&self.text).trim(), MAX_TEXT_BYTES);
        let options = self.options.iter().map(|option| one_line(option, MAX_OPTION_CHARS));
        let options = options.filter(|option| !option.is_empty()).take(MAX_OPTIONS).collect();
        let input = if is_too_long(&self.input) { Value::Null } else { self.input };
        let id = self.id.filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES);
        Self { text, options, input, id }
    }

    /// Leaves the beginning of the text alone.
    pub(super) fn in_brief(self) -> Self {
        Self { text: cut(&self.text, MAX_BRIEF_CHARS), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn question(text: &str, labels: &[&str]) -> Value {
        let options: Vec<Value> = labels.iter().map(|label| json!({"label": label, "description": "d"})).collect();
        json!({"question": text, "header": "h", "options": options})
    }

    fn call(input: &Value) -> Value {
        json!({"id": "toolu_1", "name": "AskUserQuestion", "input": input})
    }

    #[test]
    fn several_questions_are_lines_and_only_one_has_options() {
        let one = json!({"questions": [question("Which\n\u{1b}[1mbranch?", &["main", "", "d\nev"])]});
        let asked = AskedQuestion::of_claude(&call(&one)).unwrap();
        assert_eq!(
            (asked.text.as_str(), asked.options.as_slice()),
            ("Which branch?", ["main", "d ev"].map(str::to_owned).as_slice())
        );
        assert_eq!((&asked.input, asked.id.as_deref()), (&one, Some("toolu_1")), "as it was");
        for id in [json!(null), json!(5), json!(""), json!("x".repeat(300))] {
            let asked = AskedQuestion::of_claude(&json!({"id": id, "input": one})).unwrap();
            assert_eq!((&asked.input, asked.id), (&one, None), "{id}");
        }
        let two = json!({"questions": [question("A?", &["a"]), question("B?", &["b"])]});
        let asked = AskedQuestion::of_claude(&call(&two)).unwrap();
        assert_eq!((asked.text.as_str(), asked.options.len()), ("A?\nB?", 0));
        for nothing in
            [json!(null), json!({}), json!({"questions": []}), json!({"questions": [question(" ", &["a"]), 5]})]
        {
            assert_eq!(AskedQuestion::of_claude(&call(&nothing)), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_kept_of_a_question_is_bounded() {
        let labels = vec!["\u{202e}é".repeat(1000); 50];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let asked =
            AskedQuestion::of_claude(&call(&json!({"questions": [question(&"é".repeat(1 << 16), &labels)]}))).unwrap();
        assert!(asked.text.len() <= MAX_TEXT_BYTES && asked.text.len() > MAX_TEXT_BYTES - 4);
        assert_eq!((asked.options.len(), asked.options[0].chars().count()), (MAX_OPTIONS, MAX_OPTION_CHARS));
        assert_eq!(asked.input, Value::Null);
        let brief = asked.in_brief();
        assert_eq!((brief.text.chars().count(), brief.options.len()), (MAX_BRIEF_CHARS, 0));
        let written =
            json!({"text": "x\ry\0".repeat(9_000), "options": vec!["a"; 90], "input": {"x": "x".repeat(70_000)}});
        let read = serde_json::from_value::<AskedQuestion>(written).unwrap().in_plain_words();
        assert_eq!((read.text.as_str(), read.options.len(), read.input), ("y", MAX_OPTIONS, Value::Null));
    }
}
