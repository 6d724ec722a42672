//! A tool: its definition as clients see it, and the synchronous function behind it.

use std::fmt;
use std::sync::LazyLock;

use rmcp::model::{JsonObject, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::call::Call;
use super::consent::Question;
use super::{Core, schema};
use crate::quote::{end, quote};
use crate::run::id::RunId;

/// The longest piece of a caller's value that is repeated in an error, in characters.
const SHOWN_VALUE_CHARS: usize = 80;
/// The longest explanation of a caller's mistake, in characters: serde repeats the whole value in some.
const SHOWN_RULE_CHARS: usize = 300;

/// Why a tool call failed, in words for the model that made it: what was wrong, and what to do next.
///
/// Like `anyhow::Error` it is made from every error, and is none itself.
#[derive(Debug)]
pub struct ToolError(String);

impl ToolError {
    /// Makes an error from a text that is complete by itself.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl<E: std::error::Error> From<E> for ToolError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a host may assume about a tool before it asks the person. MCP's defaults are the worst case, so each is stated.
#[derive(Debug, Clone, Copy)]
pub struct Hints {
    /// It changes nothing.
    pub read_only: bool,
    /// It may take something away, not only add.
    pub destructive: bool,
    /// A second call with the same arguments changes nothing more.
    pub idempotent: bool,
    /// It reaches what is outside this program's own files and processes.
    pub open_world: bool,
}

/// The arguments of a tool that takes none.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// What a tool says to a call.
#[derive(Debug, PartialEq)]
pub enum Reply<Answer> {
    /// What was asked for.
    Answer(Answer),
    /// A person has to agree first. The tool is called again once they have: [`Call::agreed_to`].
    Ask(Question),
    /// The client looks by itself how far this run is, as a task: [`Call::takes_tasks`].
    Task(RunId),
}

type Function = dyn Fn(&Core, &ArgumentParser, JsonObject, &Call) -> Result<Reply<Json>, ToolError> + Send + Sync;

/// A tool: what clients are told of it, and what it does.
pub struct Tool {
    name: &'static str,
    hints: Hints,
    contract: LazyLock<Contract, Box<dyn FnOnce() -> Contract + Send>>,
    function: Box<Function>,
    check: Check,
}

/// What looks at the arguments before they are parsed.
type Check = fn(&Core, &JsonObject) -> Result<(), ToolError>;

/// What is made of a tool's types. That takes most of the time of a start, whose first answer needs none of it.
struct Contract {
    definition: rmcp::model::Tool,
    parser: ArgumentParser,
}

impl Tool {
    /// Makes a tool from a function that may block; the schemas come from its types.
    ///
    /// Structs *within* `Args` need `deny_unknown_fields`; for `Args` itself it is implied. In `Answer` an absent
    /// `Option` needs to be an absent key.
    pub fn new<Args, Answer>(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        hints: Hints,
        function: impl Fn(&Core, Args) -> Result<Answer, ToolError> + Send + Sync + 'static,
    ) -> Self
    where
        Args: DeserializeOwned + JsonSchema + 'static,
        Answer: Serialize + JsonSchema + 'static,
    {
        let function = move |core: &Core, arguments, _: &Call| function(core, arguments).map(Reply::Answer);
        Self::conversing(name, title, description, hints, function)
    }

    /// Makes a tool from a function that is given the call: to tell how far it is, to stop when nobody waits for its
    /// answer any more, to ask a person first, or to answer with a task.
    pub fn conversing<Args, Answer>(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        hints: Hints,
        function: impl Fn(&Core, Args, &Call) -> Result<Reply<Answer>, ToolError> + Send + Sync + 'static,
    ) -> Self
    where
        Args: DeserializeOwned + JsonSchema + 'static,
        Answer: Serialize + JsonSchema + 'static,
    {
        let contract = move || {
            let arguments = schema::of_arguments::<Args>();
            let parser = ArgumentParser::new(name, &arguments);
            let annotations = ToolAnnotations::new()
                .read_only(hints.read_only)
                .destructive(hints.destructive)
                .idempotent(hints.idempotent)
                .open_world(hints.open_world);
            let definition = rmcp::model::Tool::new(name, description, arguments)
                .with_title(title)
                .with_annotations(annotations)
                .with_raw_output_schema(schema::of_answer::<Answer>().into());
            Contract { definition, parser }
        };
        let function = move |core: &Core, parser: &ArgumentParser, arguments: JsonObject, call: &Call| {
            Ok(match function(core, parser.parse(arguments)?, call)? {
                Reply::Answer(answer) => Reply::Answer(Json::of(&answer)?),
                Reply::Ask(question) => Reply::Ask(question),
                Reply::Task(run) => Reply::Task(run),
            })
        };
        let check = |_: &Core, _: &JsonObject| Ok(());
        Self { name, hints, contract: LazyLock::new(Box::new(contract)), function: Box::new(function), check }
    }

    /// Has the arguments looked at before they are parsed, to refuse some with better words than that these are unknown.
    #[must_use]
    pub fn checking(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// Returns the definition that `tools/list` shows.
    #[must_use]
    pub fn definition(&self) -> &rmcp::model::Tool {
        &self.contract.definition
    }

    /// Returns the tool's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tells whether the tool changes nothing.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.hints.read_only
    }

    /// Calls the tool; it may block for as long as the tool's function does.
    ///
    /// # Errors
    /// Arguments that do not fit, or what the tool's function reports.
    pub fn call(&self, core: &Core, arguments: JsonObject, call: &Call) -> Result<Reply<Json>, ToolError> {
        (self.check)(core, &arguments)?;
        (self.function)(core, &self.contract.parser, arguments, call)
    }
}

/// An answer as JSON, made once for everybody who is to have it.
#[derive(Debug, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Puts an answer into JSON.
    pub(super) fn of(answer: &impl Serialize) -> Result<Self, ToolError> {
        let text = serde_json::to_string(answer)?;
        debug_assert!(!schema::holds_null(&text), "an `Option` is to be absent where it is `None`: {text}");
        Ok(Self(text))
    }

    /// Returns it as a text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Returns one file for each tool, as (file name, text): what is compared with the golden files in `schemas/`.
#[must_use]
pub fn schema_files(tools: &[Tool]) -> Vec<(String, String)> {
    let text = |tool: &Tool| serde_json::to_string_pretty(tool.definition()).unwrap_or_default() + "\n";
    tools.iter().map(|tool| (format!("{}.json", tool.name()), text(tool))).collect()
}

/// Turns a call's arguments into a tool's type, or says which argument is wrong.
struct ArgumentParser {
    known: Vec<String>,
    /// The sentence that names all arguments: the next step after every mistake.
    takes: String,
}

impl ArgumentParser {
    fn new(tool: &str, schema: &JsonObject) -> Self {
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

    fn parse<Args: DeserializeOwned>(&self, arguments: JsonObject) -> Result<Args, ToolError> {
        if let Some(unknown) = arguments.keys().find(|key| !self.known.contains(key)) {
            let unknown = shortened(unknown, SHOWN_VALUE_CHARS);
            return Err(ToolError::new(format!("unknown argument `{unknown}`. {}", self.takes)));
        }
        let mut arguments = Value::Object(arguments);
        make_whole_numbers_integers(&mut arguments);
        serde_path_to_error::deserialize(&arguments).map_err(|error| self.explain(&arguments, &error))
    }

    fn explain(&self, arguments: &Value, error: &serde_path_to_error::Error<serde_json::Error>) -> ToolError {
        let rule = shortened(&in_plain_words(error.inner().to_string()), SHOWN_RULE_CHARS);
        let path = error.path();
        let text = match (path.iter().next(), value_at(arguments, path)) {
            (None, _) => format!("{rule}. {}", self.takes),
            // A structure that lacks something is named, not repeated.
            (Some(_), None | Some(Value::Object(_) | Value::Array(_))) => {
                format!("argument `{}`: {rule}. {}", shortened(&path.to_string(), SHOWN_VALUE_CHARS), self.takes)
            }
            (Some(_), Some(value)) => format!(
                "argument `{}` is {}: {rule}. {}",
                shortened(&path.to_string(), SHOWN_VALUE_CHARS),
                shortened(&value.to_string(), SHOWN_VALUE_CHARS),
                self.takes
            ),
        };
        ToolError(text)
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

/// Says Rust's number types in words that a model of any language knows.
fn in_plain_words(rule: String) -> String {
    let types = [
        ("u8", "a whole number, 0 or more"),
        ("u16", "a whole number, 0 or more"),
        ("u32", "a whole number, 0 or more"),
        ("u64", "a whole number, 0 or more"),
        ("usize", "a whole number, 0 or more"),
        ("i32", "a whole number"),
        ("i64", "a whole number"),
        ("f64", "a number"),
    ];
    for (rust, plain) in types {
        if let Some(start) = rule.strip_suffix(rust).and_then(|start| start.strip_suffix("expected ")) {
            return format!("{start}expected {plain}");
        }
    }
    rule
}

/// Cuts the middle out of a text that is too long to repeat, so that it fits into so many columns.
pub(super) fn shortened(text: &str, columns: usize) -> String {
    let whole = quote(text, columns);
    if !whole.ends_with('…') || text.ends_with('…') {
        return whole;
    }
    let (head, tail) = (columns * 2 / 3, columns / 3);
    format!("{}{}", quote(text, head), quote(end(text, tail), columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Overlap {
        Skip,
        Allow,
    }

    #[derive(Deserialize, JsonSchema)]
    struct Args {
        routine: String,
        limit: Option<u64>,
        #[serde(default)]
        tags: Vec<String>,
        overlap: Option<Overlap>,
    }

    #[derive(Serialize, JsonSchema)]
    struct Answer {
        said: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        none: Option<u8>,
    }

    fn tool() -> Tool {
        let hints = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
        Tool::new("echo", "Echo", "Says it again.", hints, |_, args: Args| {
            let overlap = match args.overlap {
                Some(Overlap::Allow) => "allow",
                Some(Overlap::Skip) | None => "skip",
            };
            Ok(Answer { said: format!("{} {:?} {:?} {overlap}", args.routine, args.limit, args.tags), none: None })
        })
    }

    fn call(arguments: Value) -> Result<Value, String> {
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        let (_dir, core) = Core::example();
        match tool().call(&core, arguments, &Call::default()) {
            Ok(Reply::Answer(answer)) => Ok(serde_json::from_str(&answer.into_text()).unwrap()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_call_that_fits_is_answered_without_empty_keys() {
        assert_eq!(call(json!({ "routine": "a", "limit": null })), Ok(json!({ "said": "a None [] skip" })));
    }

    #[test]
    fn a_mistake_names_the_argument_the_value_the_rule_and_the_way_on() {
        let takes = "`echo` takes: `limit`, `overlap`, `routine` (required), `tags`.";
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
                json!({ "routine": "a", "overlap": "both" }),
                "argument `overlap` is \"both\": unknown variant `both`, expected `skip` or `allow`.",
            ),
            (json!({}), "missing field `routine`."),
            (json!({ "routine": "a", "limits": 3 }), "unknown argument `limits`."),
        ];
        for (arguments, expected) in cases {
            assert_eq!(call(arguments), Err(format!("{expected} {takes}")));
        }
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        for (written, number) in
            [("5.0", 5_u64), ("5e0", 5), ("0.0", 0), ("-0.0", 0), ("9007199254740992.0", 1_u64 << 53)]
        {
            let limit: Value = serde_json::from_str(written).unwrap();
            let said = format!("a Some({number}) [] skip");
            assert_eq!(call(json!({ "routine": "a", "limit": limit })), Ok(json!({ "said": said })), "{written}");
        }
        for written in ["5.5", "-5.0", "1e300", "1e-300"] {
            let limit: Value = serde_json::from_str(written).unwrap();
            let error = call(json!({ "routine": "a", "limit": limit })).unwrap_err();
            assert!(error.contains("`limit`") && error.contains("a whole number, 0 or more"), "{error}");
        }
        let mut nested = json!({ "a": [{ "b": 2.0, "c": "2.0", "d": 2.5 }] });
        make_whole_numbers_integers(&mut nested);
        assert_eq!(nested, json!({ "a": [{ "b": 2, "c": "2.0", "d": 2.5 }] }));
    }

    #[test]
    fn a_huge_value_is_not_repeated() {
        let error = call(json!({ "routine": "a", "limit": "x".repeat(1_000_000) })).unwrap_err();
        assert!(error.len() < 1000 && error.contains("`limit`"), "{error}");
        let error = call(json!({ "x".repeat(1_000_000): 1 })).unwrap_err();
        assert!(error.len() < 1000, "{error}");
    }

    #[test]
    fn every_definition_is_complete() {
        let files = schema_files(&[tool()]);
        assert_eq!(files[0].0, "echo.json");
        let file: Value = serde_json::from_str(&files[0].1).unwrap();
        for key in ["name", "title", "description", "annotations", "inputSchema", "outputSchema"] {
            assert!(file.get(key).is_some(), "{key}");
        }
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(file["annotations"][hint].is_boolean(), "{hint}");
        }
        assert!(file["outputSchema"]["properties"]["said"].is_object());
    }
}
