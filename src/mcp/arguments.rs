//! Parsing the arguments of a call, with errors that name the argument, the value, the rule and the tool's arguments.

use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::quote::shortened;

/// The longest piece of a caller's value that an error repeats, in columns.
const SHOWN_VALUE_COLUMNS: usize = 80;
/// The longest explanation by serde, in columns: some repeat the whole value.
const SHOWN_RULE_COLUMNS: usize = 300;

pub(super) struct ArgumentParser {
    known: Vec<String>,
    /// The sentence that names all arguments: the next step after every mistake.
    takes: String,
}

impl ArgumentParser {
    /// Takes the arguments from the tool's input schema.
    pub(super) fn new(tool: &str, schema: &JsonObject) -> Self {
        let known: Vec<String> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|map| map.keys().cloned())
            .collect();
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let named: Vec<String> = known
            .iter()
            .map(|name| format!("`{name}`{}", if required.contains(&name.as_str()) { " (required)" } else { "" }))
            .collect();
        let takes = match named.as_slice() {
            [] => format!("`{tool}` takes no arguments."),
            named => format!("`{tool}` takes: {}.", named.join(", ")),
        };
        Self { known, takes }
    }

    /// Parses arguments, or returns what is wrong with them in words for a model.
    pub(super) fn parse<Args: DeserializeOwned>(&self, arguments: JsonObject) -> Result<Args, String> {
        if let Some(unknown) = arguments.keys().find(|key| !self.known.contains(key)) {
            let unknown = shortened(unknown, SHOWN_VALUE_COLUMNS);
            return Err(format!("unknown argument `{unknown}`. {}", self.takes));
        }
        let mut arguments = Value::Object(arguments);
        make_whole_numbers_integers(&mut arguments);
        serde_path_to_error::deserialize(&arguments).map_err(|error| self.explain(&arguments, &error))
    }

    fn explain(&self, arguments: &Value, error: &serde_path_to_error::Error<serde_json::Error>) -> String {
        let rule = shortened(&in_plain_words(error.inner().to_string()), SHOWN_RULE_COLUMNS);
        let path = error.path();
        match (path.iter().next(), value_at(arguments, path)) {
            (None, _) => format!("{rule}. {}", self.takes),
            // A structure that lacks something is named, not repeated.
            (Some(_), None | Some(Value::Object(_) | Value::Array(_))) => {
                format!("argument `{}`: {rule}. {}", shortened(&path.to_string(), SHOWN_VALUE_COLUMNS), self.takes)
            }
            (Some(_), Some(value)) => format!(
                "argument `{}` is {}: {rule}. {}",
                shortened(&path.to_string(), SHOWN_VALUE_COLUMNS),
                shortened(&value.to_string(), SHOWN_VALUE_COLUMNS),
                self.takes
            ),
        }
    }
}

/// Turns `5.0` into `5`, at any depth: JSON Schema calls both an integer, and hosts send both. No argument is a fraction.
fn make_whole_numbers_integers(value: &mut Value) {
    /// Up to here each integer has a floating-point number of its own (2^53).
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Object(map) => map.values_mut().for_each(make_whole_numbers_integers),
        Value::Array(items) => items.iter_mut().for_each(make_whole_numbers_integers),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT);
            if let Some(float) = whole {
                #[allow(clippy::cast_possible_truncation, reason = "it is whole and within i64")]
                let integer = float as i64;
                *number = integer.into();
            }
        }
        _ => {}
    }
}

fn value_at<'a>(value: &'a Value, path: &serde_path_to_error::Path) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

/// Replaces Rust's number types by words that a model of any language knows.
fn in_plain_words(rule: String) -> String {
    let Some((start, kind)) = rule.rsplit_once("expected ") else { return rule };
    let plain = match kind {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        _ => return rule,
    };
    format!("{start}expected {plain}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Side {
        Left,
        Right,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Args {
        routine: String,
        limit: Option<u64>,
        #[serde(default)]
        tags: Vec<String>,
        side: Option<Side>,
    }

    fn parse(arguments: Value) -> Result<Args, String> {
        let schema = json!({
            "properties": { "limit": {}, "routine": {}, "side": {}, "tags": {} }, "required": ["routine"],
        });
        let parser = ArgumentParser::new("echo", schema.as_object().unwrap());
        parser.parse(arguments.as_object().unwrap().clone())
    }

    fn args(limit: Option<u64>) -> Args {
        Args { routine: "a".into(), limit, tags: Vec::new(), side: None }
    }

    #[test]
    fn a_null_counts_as_absent() {
        assert_eq!(parse(json!({ "routine": "a", "limit": null, "side": "left" })), {
            Ok(Args { side: Some(Side::Left), ..args(None) })
        });
        assert_eq!(parse(json!({ "routine": "a", "side": "right" })).unwrap().side, Some(Side::Right));
    }

    #[test]
    fn a_mistake_names_the_argument_the_value_the_rule_and_the_way_on() {
        let takes = "`echo` takes: `limit`, `routine` (required), `side`, `tags`.";
        let cases = [
            (
                json!({ "routine": "a", "limit": "x" }),
                "argument `limit` is \"x\": invalid type: string \"x\", expected a whole number, 0 or more.",
            ),
            (
                json!({ "routine": "a", "limit": -1 }),
                "argument `limit` is -1: invalid value: integer `-1`, expected a whole number, 0 or more.",
            ),
            (
                json!({ "routine": "a", "tags": ["b", 7] }),
                "argument `tags[1]` is 7: invalid type: integer `7`, expected a string.",
            ),
            (
                json!({ "routine": "a", "side": "both" }),
                "argument `side` is \"both\": unknown variant `both`, expected `left` or `right`.",
            ),
            (json!({}), "missing field `routine`."),
            (json!({ "routine": "a", "limits": 3 }), "unknown argument `limits`."),
        ];
        for (arguments, expected) in cases {
            assert_eq!(parse(arguments), Err(format!("{expected} {takes}")));
        }
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        for (written, number) in
            [("5.0", 5_u64), ("5e0", 5), ("0.0", 0), ("-0.0", 0), ("9007199254740992.0", 1_u64 << 53)]
        {
            let limit: Value = serde_json::from_str(written).unwrap();
            assert_eq!(parse(json!({ "routine": "a", "limit": limit })), Ok(args(Some(number))), "{written}");
        }
        for written in ["5.5", "-5.0", "1e300", "1e-300"] {
            let limit: Value = serde_json::from_str(written).unwrap();
            let error = parse(json!({ "routine": "a", "limit": limit })).unwrap_err();
            assert!(error.contains("`limit`") && error.contains("a whole number, 0 or more"), "{error}");
        }
        let mut nested = json!({ "a": [{ "b": 2.0, "c": "2.0", "d": 2.5 }] });
        make_whole_numbers_integers(&mut nested);
        assert_eq!(nested, json!({ "a": [{ "b": 2, "c": "2.0", "d": 2.5 }] }));
    }

    #[test]
    fn a_huge_value_is_not_repeated() {
        let error = parse(json!({ "routine": "a", "limit": "x".repeat(1_000_000) })).unwrap_err();
        assert!(error.len() < 1000 && error.contains("`limit`"), "{error}");
        let error = parse(json!({ "x".repeat(1_000_000): 1 })).unwrap_err();
        assert!(error.len() < 1000, "{error}");
    }
}
