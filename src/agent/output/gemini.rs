//! Gemini CLI.

use serde_json::Value;

use super::event::{Dialect, Known, Sink, is_true, number, text};
use super::summary::{Needs, RATE_LIMIT, Usage};

/// A first piece shorter than this may come twice in one message.
const MIN_REPEATED_CHARS: usize = 16;
const MAX_FIRST_PIECE_CHARS: usize = 1000;

#[derive(Default)]
pub(super) struct Gemini {
    /// The first piece of the message that goes on. If it comes again, the stream broke and is repeated.
    first_piece: Option<String>,
}

impl Dialect for Gemini {
    fn event(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        let kind = text(event, "/type");
        if kind == "message" && text(event, "/role") == "assistant" {
            self.message(event, to);
            return Known::Yes;
        }
        self.first_piece = None;
        match kind {
            "init" => {
                to.summary.set_session(text(event, "/session_id"));
                to.summary.set_model(text(event, "/model"));
                to.screen.started(text(event, "/model"), text(event, "/session_id"));
            }
            // The prompt.
            "message" if text(event, "/role") == "user" => {}
            "tool_use" => {
                to.screen.call(text(event, "/tool_name"), event.get("parameters").unwrap_or(&Value::Null));
            }
            "tool_result" if text(event, "/status") == "error" => {
                let words = [text(event, "/error/message"), text(event, "/output")];
                to.screen.failed_result(words.into_iter().find(|words| !words.is_empty()).unwrap_or_default());
            }
            "tool_result" => to.screen.result(text(event, "/output")),
            "error" => {
                to.summary.set_last_words(text(event, "/message"));
                to.screen.error(text(event, "/message"));
            }
            "result" => result(event, to),
            _ => return Known::No,
        }
        Known::Yes
    }
}

impl Gemini {
    fn message(&mut self, event: &Value, to: &mut Sink<'_>) {
        let content = text(event, "/content");
        if !is_true(event, "/delta") {
            self.first_piece = None;
            to.summary.set_result(content);
            to.screen.text(content);
            return;
        }
        let is_repeated = content.chars().nth(MIN_REPEATED_CHARS - 1).is_some()
            && self
                .first_piece
                .as_deref()
                .is_some_and(|first| content.chars().take(MAX_FIRST_PIECE_CHARS).eq(first.chars()));
        if is_repeated || self.first_piece.is_none() {
            to.screen.close();
            to.summary.result = None;
            self.first_piece = Some(content.chars().take(MAX_FIRST_PIECE_CHARS).collect());
        }
        to.summary.continue_result(content);
        to.screen.piece(content);
    }
}

fn result(event: &Value, to: &mut Sink<'_>) {
    let usage = number(event, "/stats/input_tokens").zip(number(event, "/stats/output_tokens"));
    // What came from the cache is counted as input, too.
    to.summary.usage = usage.map(|(input_tokens, output_tokens)| Usage {
        input_tokens,
        output_tokens,
        cached_tokens: number(event, "/stats/cached"),
        cost_usd: None,
    });
    // The model of `init` is the one that was asked for; this is the one that did most.
    let models = event.pointer("/stats/models").and_then(Value::as_object);
    let total = |usage: &Value| number(usage, "/total_tokens").unwrap_or(0);
    let answered = models.into_iter().flatten().filter(|(_, usage)| total(usage) > 0);
    if let Some((model, _)) = answered.max_by_key(|(_, usage)| total(usage)) {
        to.summary.set_model(model);
    }
    if text(event, "/status") == "success" {
        to.summary.succeed();
        to.screen.done(None, to.summary.usage.as_ref(), &[]);
        return;
    }
    let message = text(event, "/error/message");
    let words = inner_message(message).unwrap_or_else(|| message.to_owned());
    take_reason(message, to);
    to.summary.fail(&words);
    to.screen.failed(&words);
}

/// Returns the message in the answer of the server that an error may quote: `[API Error: {"error":{"message":"…"}}]`.
fn inner_message(message: &str) -> Option<String> {
    let quoted = message.get(message.find('{')?..=message.rfind('}')?)?;
    let answer: Value = serde_json::from_str(quoted).ok()?;
    let inner = text(&answer, "/error/message");
    (!inner.is_empty()).then(|| inner.to_owned())
}

/// Gemini says what is wrong in a message only, which may quote the server's answer.
fn take_reason(message: &str, to: &mut Sink<'_>) {
    let compact: String = message.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.contains("API_KEY_INVALID") || compact.contains("\"code\":401") {
        to.summary.needs = Some(Needs::Login);
    } else if message.contains("exhausted your daily quota") {
        to.summary.set_limit("daily", None, to.now);
    } else if compact.contains("RESOURCE_EXHAUSTED") || compact.contains("\"code\":429") {
        to.summary.set_limit(RATE_LIMIT, None, to.now);
    } else if message.to_lowercase().contains("billing") {
        to.summary.needs = Some(Needs::Money);
    }
}
