//! Codex.

use serde_json::Value;

use super::calls::Calls;
use super::event::{Dialect, Known, Sink, content_text, list, number, text};
use super::reset_time::reset_time;
use super::summary::{Needs, RATE_LIMIT, Usage};

#[derive(Default)]
pub(super) struct Codex {
    /// Calls that were shown when they began.
    begun: Calls,
}

impl Dialect for Codex {
    fn event(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        match text(event, "/type") {
            "thread.started" => {
                to.summary.set_session(text(event, "/thread_id"));
                to.screen.started("", text(event, "/thread_id"));
            }
            "turn.started" => to.summary.ended = None,
            "item.started" => return self.started(event, to),
            "item.completed" => return self.completed(event, to),
            "error" => take_error(text(event, "/message"), to),
            "turn.failed" => {
                let words = text(event, "/error/message");
                take_reason(words, to);
                to.summary.fail(words);
                to.screen.failed(words);
            }
            "turn.completed" => {
                // What came from the cache is counted as input, too, and thinking as output.
                let usage = number(event, "/usage/input_tokens").zip(number(event, "/usage/output_tokens"));
                to.summary.usage = usage.map(|(input_tokens, output_tokens)| Usage {
                    input_tokens,
                    output_tokens,
                    cached_tokens: number(event, "/usage/cached_input_tokens"),
                    cost_usd: None,
                });
                to.summary.succeed();
                to.screen.done(None, to.summary.usage.as_ref(), &[]);
            }
            _ => return Known::No,
        }
        Known::Yes
    }
}

impl Codex {
    fn started(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        let Some((tool, detail)) = call(event) else { return Known::No };
        self.begun.announce(text(event, "/item/id"), &tool);
        to.screen.call_with(&tool, &detail);
        Known::Yes
    }

    fn completed(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        if let Some((tool, detail)) = call(event)
            && self.begun.take(text(event, "/item/id")).is_none()
        {
            to.screen.call_with(&tool, &detail);
        }
        let failed = text(event, "/item/status") == "failed";
        match text(event, "/item/type") {
            "agent_message" => {
                to.summary.set_result(text(event, "/item/text"));
                to.screen.text(text(event, "/item/text"));
            }
            "reasoning" => to.screen.thinking(),
            // A warning, such as one of a model that it does not know.
            "error" => to.screen.note(text(event, "/item/message")),
            "command_execution" if failed => {
                let code = event.pointer("/item/exit_code").and_then(Value::as_i64);
                let code = code.map_or_else(|| "failed".to_owned(), |code| format!("exit code {code}"));
                to.screen.failed_result(&format!("{code}\n{}", text(event, "/item/aggregated_output")));
            }
            "command_execution" => to.screen.result(text(event, "/item/aggregated_output")),
            "file_change" if failed => to.screen.failed_result(""),
            "file_change" => {}
            "mcp_tool_call" if failed => to.screen.failed_result(text(event, "/item/error/message")),
            "mcp_tool_call" => {
                to.screen.result(&content_text(event.pointer("/item/result/content").unwrap_or(&Value::Null)));
            }
            _ => return Known::No,
        }
        Known::Yes
    }
}

/// Returns the tool that an item is a call of, and what tells most of it.
fn call(event: &Value) -> Option<(String, String)> {
    match text(event, "/item/type") {
        "command_execution" => Some(("shell".to_owned(), command(text(event, "/item/command")).to_owned())),
        "file_change" => {
            let changes = list(event, "/item/changes").iter();
            let changes = changes.map(|change| format!("{} {}", text(change, "/kind"), text(change, "/path")));
            Some(("patch".to_owned(), changes.collect::<Vec<_>>().join(", ")))
        }
        "mcp_tool_call" => {
            let arguments = event.pointer("/item/arguments").filter(|arguments| **arguments != serde_json::json!({}));
            let tool = format!("{}.{}", text(event, "/item/server"), text(event, "/item/tool"));
            Some((tool, arguments.map(Value::to_string).unwrap_or_default()))
        }
        _ => None,
    }
}

/// Takes off the shell that every command is run through, unless that needs the quoting to be undone.
fn command(command: &str) -> &str {
    let inner = command.strip_prefix("/bin/bash -lc '").and_then(|rest| rest.strip_suffix('\''));
    inner.filter(|inner| !inner.contains('\'')).unwrap_or(command)
}

/// An error is not the end: most announce that the request is made again.
fn take_error(message: &str, to: &mut Sink<'_>) {
    let retry = message.strip_prefix("Reconnecting... ").and_then(|rest| rest.split_once(' '));
    let attempt = |(counts, why): (&str, &str)| {
        let (attempt, of) = counts.split_once('/')?;
        let why = why.strip_prefix('(').and_then(|why| why.strip_suffix(')')).unwrap_or(why);
        Some((attempt.parse().ok()?, of.parse().ok()?, why.to_owned()))
    };
    match retry.and_then(attempt) {
        Some((attempt, of, why)) => to.screen.retrying(Some((attempt, of)), &why),
        None => {
            to.summary.set_last_words(message);
            to.screen.error(message);
        }
    }
}

/// Codex says what is wrong in a sentence only.
fn take_reason(message: &str, to: &mut Sink<'_>) {
    let lower = message.to_lowercase();
    if lower.contains("hit your usage limit") {
        to.summary.set_limit("usage", reset_time(message, to.now, to.zone), to.now);
    } else if lower.contains("status 401 unauthorized") || lower.contains("missing environment variable") {
        to.summary.needs = Some(Needs::Login);
    } else if lower.contains("billing") {
        to.summary.needs = Some(Needs::Money);
    } else if lower.contains("429 too many requests") {
        to.summary.set_limit(RATE_LIMIT, None, to.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_without_its_shell() {
        for (whole, shown) in [
            ("/bin/bash -lc 'echo one; echo two'", "echo one; echo two"),
            ("/bin/bash -lc 'a' 'b'", "/bin/bash -lc 'a' 'b'"),
            ("/bin/bash -lc \"a\"", "/bin/bash -lc \"a\""),
            ("ls", "ls"),
        ] {
            assert_eq!(command(whole), shown);
        }
    }
}
