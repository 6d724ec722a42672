//! Reading an event without trusting its shape: what is missing, or of another type, is absent.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::screen::Screen;
use super::summary::Summary;
use crate::clock::UnixSeconds;

/// How the events of one agent are understood.
pub(super) trait Dialect: Send {
    /// Shows an event, and takes what it says into the summary.
    fn event(&mut self, event: &Value, to: &mut Sink<'_>) -> Known;
}

/// Whether an event is of a type that was seen before; one of another is shown raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Yes,
    No,
}

/// Where what an event says goes.
pub(super) struct Sink<'a> {
    pub summary: &'a mut Summary,
    pub screen: &'a mut Screen,
    pub now: UnixSeconds,
    pub zone: &'a TimeZone,
}

/// Returns a text by its JSON pointer; an empty one if there is none.
pub(super) fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(event: &Value, pointer: &str) -> Option<u64> {
    event.pointer(pointer).and_then(Value::as_u64)
}

pub(super) fn is_true(event: &Value, pointer: &str) -> bool {
    event.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// Returns a list by its JSON pointer; an empty one if there is none.
pub(super) fn list<'a>(event: &'a Value, pointer: &str) -> &'a [Value] {
    event.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the texts of a message's or tool result's content, which is one text, or a list of blocks.
pub(super) fn content_text(content: &Value) -> Cow<'_, str> {
    match content {
        Value::String(text) => text.into(),
        Value::Array(blocks) => {
            let block_text = |block: &Value| match text(block, "/text") {
                "" => format!("({})", block.get("type").and_then(Value::as_str).unwrap_or("block")),
                text => text.to_owned(),
            };
            blocks.iter().map(block_text).collect::<Vec<_>>().join("\n").into()
        }
        _ => "".into(),
    }
}
