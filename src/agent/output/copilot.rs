//! Copilot CLI.

use serde_json::Value;

use super::calls::Calls;
use super::event::{Dialect, Known, Sink, content_text, is_true, text};
use super::summary::{Needs, RATE_LIMIT};

/// Events that tell a person nothing; of others, too, those marked as ephemeral.
const NOISE: [&str; 5] = [
    "assistant.turn_start",
    "session.mcp_servers_loaded",
    "session.skills_loaded",
    "session.tools_updated",
    "user.message",
];

#[derive(Default)]
pub(super) struct Copilot {
    calls: Calls,
    /// The message that comes in pieces, and how many bytes of it came: at its end it comes again whole.
    in_pieces: Option<(String, usize)>,
}

impl Dialect for Copilot {
    fn event(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        let model = text(event, "/data/model");
        if !model.is_empty() {
            to.summary.set_model(model);
        }
        match text(event, "/type") {
            "assistant.message_delta" => self.piece(event, to),
            "assistant.message" => self.message(event, to),
            "assistant.reasoning_delta" => to.screen.thinking(),
            // The whole thought, after the message.
            "assistant.reasoning" => {}
            "assistant.turn_end" => to.summary.turns = Some(to.summary.turns.unwrap_or(0).saturating_add(1)),
            "assistant.turn_retry" => to.screen.retrying(None, text(event, "/data/reason")),
            "tool.execution_start" => {
                let tool = text(event, "/data/toolName");
                self.calls.announce(text(event, "/data/toolCallId"), tool);
                to.screen.call(tool, event.pointer("/data/arguments").unwrap_or(&Value::Null));
            }
            "tool.execution_complete" => self.complete(event, to),
            "session.error" => error(event, to),
            "result" => result(event, to),
            kind if NOISE.contains(&kind) || is_true(event, "/ephemeral") => {}
            _ => return Known::No,
        }
        Known::Yes
    }
}

impl Copilot {
    fn piece(&mut self, event: &Value, to: &mut Sink<'_>) {
        let (id, piece) = (text(event, "/data/messageId"), text(event, "/data/deltaContent"));
        match &mut self.in_pieces {
            Some((known, bytes)) if known == id => *bytes += piece.len(),
            other => {
                to.screen.close();
                to.summary.result = None;
                *other = Some((id.chars().take(128).collect(), piece.len()));
            }
        }
        to.summary.continue_result(piece);
        to.screen.piece(piece);
    }

    fn message(&mut self, event: &Value, to: &mut Sink<'_>) {
        let (id, content) = (text(event, "/data/messageId"), text(event, "/data/content"));
        to.summary.set_result(content);
        // One whose beginning came before this reader began is not there as a whole.
        if self.in_pieces.take() != Some((id.to_owned(), content.len())) {
            to.screen.text(content);
        }
    }

    fn complete(&mut self, event: &Value, to: &mut Sink<'_>) {
        let tool = self.calls.take(text(event, "/data/toolCallId"));
        let problem = text(event, "/data/error/message");
        let content = content_text(event.pointer("/data/result/content").unwrap_or(&Value::Null));
        let output = without_shell_note(&content);
        let code = event.pointer("/data/shellExecution/exitCode").and_then(Value::as_i64).filter(|&code| code != 0);
        if text(event, "/data/error/code") == "denied" {
            let tool = tool.as_deref().unwrap_or("unknown");
            to.summary.count_denial(tool);
            to.screen.denied(tool, problem);
        } else if event.pointer("/data/success") == Some(&Value::Bool(false)) {
            to.screen.failed_result(if problem.is_empty() { output } else { problem });
        } else if let Some(code) = code {
            to.screen.failed_result(&format!("exit code {code}\n{output}"));
        } else {
            to.screen.result(output);
        }
    }
}

/// Takes off the last line that the program adds to a command's output, `<shellId: 0 completed with exit code 0>`.
fn without_shell_note(output: &str) -> &str {
    let is_note = |line: &str| line.starts_with("<shellId: ") && line.ends_with('>');
    match output.rsplit_once('\n') {
        Some((before, last)) if is_note(last) => before,
        None if is_note(output) => "",
        _ => output,
    }
}

fn error(event: &Value, to: &mut Sink<'_>) {
    let message = text(event, "/data/message");
    match text(event, "/data/errorType") {
        "authentication" => to.summary.needs = Some(Needs::Login),
        _ if message.to_lowercase().contains("billing") => to.summary.needs = Some(Needs::Money),
        "rate_limit" => {
            let kind = if message.contains("premium request allowance") { "usage" } else { RATE_LIMIT };
            to.summary.set_limit(kind, None, to.now);
        }
        _ => {}
    }
    to.summary.fail(message);
    to.screen.error(message);
}

fn result(event: &Value, to: &mut Sink<'_>) {
    to.summary.set_session(text(event, "/sessionId"));
    if event.get("exitCode").and_then(Value::as_i64) == Some(0) {
        to.summary.succeed();
        // How many turns and denials there were, a reader that began late does not know.
        to.screen.done(None, None, &[]);
    } else {
        to.summary.fail("");
        to.screen.failed(&to.summary.last_words.clone().unwrap_or_default());
    }
}
