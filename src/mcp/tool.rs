//! A tool: its definition as clients see it, and the synchronous function behind it.

use std::sync::{Arc, LazyLock, OnceLock};

use rmcp::model::{CallToolResult, ContentBlock, JsonObject, MetaObject, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::arguments::ArgumentParser;
use super::call::{Call, Reply};
use super::schema::{self, SchemaOf};
use crate::run::context::App;

/// What a host may assume about a tool before it asks the person. MCP's defaults are the worst case, so each is stated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hints {
    pub(crate) read_only: bool,
    /// It may take something away, not only add.
    pub(crate) destructive: bool,
    /// A second call with the same arguments changes nothing more.
    pub(crate) idempotent: bool,
    /// It reaches what is outside this program's own files and processes.
    pub(crate) open_world: bool,
}

impl Hints {
    /// Those of a tool that only reads.
    pub(super) const READS: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: false };
}

/// The arguments of a tool that takes none.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(crate) struct NoArguments {}

/// A tool.
pub struct Tool {
    name: &'static str,
    hints: Hints,
    is_for_models: bool,
    meta: Arc<OnceLock<MetaObject>>,
    contract: LazyLock<Contract, Box<dyn FnOnce() -> Contract + Send>>,
    function: Box<Function>,
    check: Check,
    waits: Waits,
}

type Function = dyn Fn(&App, &ArgumentParser, JsonObject, &Call) -> anyhow::Result<Reply<CallToolResult>> + Send + Sync;

/// Looks at the arguments before they are parsed.
type Check = fn(&App, &JsonObject) -> anyhow::Result<()>;

/// Whether a call with these arguments waits for something that another call may bring about.
type Waits = fn(&JsonObject) -> bool;

/// What is made of a tool's types. That takes most of the time of a start, whose first answer needs none of it.
struct Contract {
    definition: rmcp::model::Tool,
    parser: ArgumentParser,
}

impl Contract {
    fn new(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        hints: Hints,
        arguments: SchemaOf,
        answer: SchemaOf,
    ) -> Self {
        let arguments = schema::of_arguments(arguments);
        let parser = ArgumentParser::new(name, &arguments);
        let annotations = ToolAnnotations::new()
            .read_only(hints.read_only)
            .destructive(hints.destructive)
            .idempotent(hints.idempotent)
            .open_world(hints.open_world);
        let definition = rmcp::model::Tool::new(name, description, arguments)
            .with_title(title)
            .with_annotations(annotations)
            .with_raw_output_schema(schema::of_answer(answer).into());
        Self { definition, parser }
    }
}

impl Tool {
    /// Makes a tool from a function that may block; the schemas come from its types.
    ///
    /// Structs *within* `Args` need `deny_unknown_fields`; for `Args` itself it is implied. In `Answer` an absent
    /// `Option` needs to be an absent key.
    pub(crate) fn new<Args, Answer>(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        hints: Hints,
        function: impl Fn(&App, Args) -> anyhow::Result<Answer> + Send + Sync + 'static,
    ) -> Self
    where
        Args: DeserializeOwned + JsonSchema + 'static,
        Answer: Serialize + JsonSchema + 'static,
    {
        let function = move |app: &App, arguments, _: &Call| function(app, arguments).map(Reply::Answer);
        Self::with_call(name, title, description, hints, function)
    }

    /// Makes a tool from a function that also gets the call: to report progress, to stop when the client is gone, to ask a
    /// person first, or to reply with a task.
    pub(crate) fn with_call<Args, Answer>(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        hints: Hints,
        function: impl Fn(&App, Args, &Call) -> anyhow::Result<Reply<Answer>> + Send + Sync + 'static,
    ) -> Self
    where
        Args: DeserializeOwned + JsonSchema + 'static,
        Answer: Serialize + JsonSchema + 'static,
    {
        let meta: Arc<OnceLock<MetaObject>> = Arc::default();
        let of_definition = Arc::clone(&meta);
        let contract = move || {
            let mut contract = Contract::new(name, title, description, hints, Args::json_schema, Answer::json_schema);
            contract.definition.meta = of_definition.get().cloned();
            contract
        };
        let function = move |app: &App, parser: &ArgumentParser, arguments: JsonObject, call: &Call| {
            let arguments = parser.parse(arguments).map_err(anyhow::Error::msg)?;
            Ok(match function(app, arguments, call)? {
                Reply::Answer(answer) => Reply::Answer(result_of(&answer)?),
                Reply::Ask(question) => Reply::Ask(question),
                Reply::Task(run) => Reply::Task(run),
            })
        };
        let check = |_: &App, _: &JsonObject| Ok(());
        Self {
            name,
            hints,
            is_for_models: true,
            meta,
            contract: LazyLock::new(Box::new(contract)),
            function: Box::new(function),
            check,
            waits: |_| false,
        }
    }

    /// Adds what tells a host how to show the tool.
    pub(super) fn with_meta(self, meta: MetaObject) -> Self {
        // The definition is made when it is first asked for.
        let _ = self.meta.set(meta);
        self
    }

    /// Keeps the tool from clients that show no panels, which would give it to a model.
    pub(super) fn for_panels_alone(self) -> Self {
        Self { is_for_models: false, ..self }
    }

    /// Checks the arguments before they are parsed, to refuse some with better words than that they are unknown.
    pub(super) fn checking(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// Says which calls wait for something that another call may bring about.
    pub(crate) fn waiting_if(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// Whether a call with these arguments waits for something that another call may bring about, such as the end of a run.
    pub(crate) fn waits(&self, arguments: &JsonObject) -> bool {
        (self.waits)(arguments)
    }

    /// Returns the definition that `tools/list` shows.
    pub(crate) fn definition(&self) -> &rmcp::model::Tool {
        &self.contract.definition
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_for_models(&self) -> bool {
        self.is_for_models
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.hints.read_only
    }

    /// Calls the tool; it may block for as long as its function does.
    pub(crate) fn call(&self, app: &App, arguments: JsonObject, call: &Call) -> anyhow::Result<Reply<CallToolResult>> {
        (self.check)(app, &arguments)?;
        (self.function)(app, &self.contract.parser, arguments, call)
    }
}

/// Calls a tool by its name from within this program, as a person; returns its structured answer.
pub(crate) fn call_by_name(app: &App, name: &str, arguments: JsonObject) -> anyhow::Result<Value> {
    let mut tools = super::tools::all();
    tools.sort_unstable_by_key(Tool::name);
    let call = Call::new(tools.iter().map(Tool::name).collect()).by_a_person();
    let tool = tools.iter().find(|tool| tool.name == name);
    let reply = tool.map(|tool| tool.call(app, arguments, &call)).transpose();
    // In the words of the answer alone, as a model gets it.
    match reply.map_err(|error| anyhow::Error::msg(error.to_string()))? {
        Some(Reply::Answer(CallToolResult { structured_content: Some(answer), .. })) => Ok(answer),
        _ => anyhow::bail!("{name} gave no answer"),
    }
}

/// Puts an answer into both forms: some hosts give the model only the text, others only the structure.
pub(super) fn result_of(answer: &impl Serialize) -> anyhow::Result<CallToolResult> {
    // In the text, keys keep their order. The structure is read from it: code that makes one of each answer is large.
    let text = serde_json::to_string(answer)?;
    let structure: Value = serde_json::from_str(&text)?;
    debug_assert!(!schema::holds_null(&structure), "an `Option` that is `None` must be absent: {structure}");
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(structure);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize, JsonSchema)]
    struct Args {
        text: String,
    }

    #[serde_with::skip_serializing_none]
    #[derive(Serialize, JsonSchema)]
    struct Answer {
        said: String,
        none: Option<u8>,
        also: u8,
    }

    fn tool() -> Tool {
        let echo = |_: &App, Args { text }| Ok(Answer { said: text, none: None, also: 1 });
        Tool::new("echo", "Echo", "Repeat a text.", Hints::READS, echo)
    }

    #[test]
    fn an_answer_has_both_forms_and_no_empty_keys() {
        let (_dir, app) = App::example();
        let arguments = json!({ "text": "a \"b\"" }).as_object().unwrap().clone();
        let Ok(Reply::Answer(result)) = tool().call(&app, arguments, &Call::new(Arc::default())) else {
            panic!("no answer")
        };
        assert_eq!(result.structured_content, Some(json!({ "said": "a \"b\"", "also": 1 })));
        assert_eq!(result.content[0].as_text().unwrap().text, r#"{"said":"a \"b\"","also":1}"#);
        assert_eq!(result.is_error, Some(false));
    }

    #[test]
    fn every_definition_is_complete() {
        let file = serde_json::to_value(tool().definition()).unwrap();
        for key in ["name", "title", "description", "annotations", "inputSchema", "outputSchema"] {
            assert!(file.get(key).is_some(), "{key}");
        }
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(file["annotations"][hint].is_boolean(), "{hint}");
        }
        assert!(file["outputSchema"]["properties"]["said"].is_object());
    }
}
