//! opencode. It has no final event: the last step that stopped is the end.

use serde_json::Value;

use super::event::{Dialect, Known, Sink, number, text};
use super::summary::{Needs, RATE_LIMIT, Usage};
use crate::clock::UnixSeconds;
use crate::money::MicroDollars;

/// What a denied call's error begins with; after the first the run ends, without a word.
const REJECTED: &str = "The user rejected permission to use this specific tool call";
const DENIED_BY_RULE: &str = "The user has specified a rule which prevents you from using this specific tool call";

#[derive(Default)]
pub(super) struct Opencode {
    /// What was rejected in this step.
    rejected: Option<String>,
}

impl Dialect for Opencode {
    fn event(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        if to.summary.session_id.is_none() {
            to.summary.set_session(text(event, "/sessionID"));
        }
        match text(event, "/type") {
            // Neither a step that stopped nor an error was the end then.
            "step_start" => {
                self.rejected = None;
                (to.summary.ended, to.summary.last_words) = (None, None);
            }
            "text" => {
                to.summary.set_result(text(event, "/part/text"));
                to.screen.text(text(event, "/part/text"));
            }
            "reasoning" => to.screen.thinking(),
            "tool_use" => self.tool_use(event, to),
            "step_finish" => self.step_finish(event, to),
            "error" => error(event, to),
            _ => return Known::No,
        }
        Known::Yes
    }
}

impl Opencode {
    fn tool_use(&mut self, event: &Value, to: &mut Sink<'_>) {
        let tool = text(event, "/part/tool");
        let problem = text(event, "/part/state/error");
        let is_rejected = problem.starts_with(REJECTED);
        to.screen.call(tool, event.pointer("/part/state/input").unwrap_or(&Value::Null));
        let code = event.pointer("/part/state/metadata/exit").and_then(Value::as_i64).filter(|&code| code != 0);
        let output = text(event, "/part/state/output");
        if is_rejected || problem.starts_with(DENIED_BY_RULE) {
            to.summary.count_denial(tool);
            to.screen.denied(tool, problem);
            if is_rejected {
                self.rejected = Some(format!("{tool}: {problem}"));
            }
        } else if text(event, "/part/state/status") == "error" {
            to.screen.failed_result(problem);
        } else if let Some(code) = code {
            to.screen.failed_result(&format!("exit code {code}\n{output}"));
        } else {
            to.screen.result(output);
        }
    }

    fn step_finish(&mut self, event: &Value, to: &mut Sink<'_>) {
        if let Some(usage) = usage(event) {
            to.summary.usage.get_or_insert_default().add(&usage);
        }
        to.summary.turns = Some(to.summary.turns.unwrap_or(0).saturating_add(1));
        if text(event, "/part/reason") == "stop" {
            to.summary.succeed();
            // The figures here are those of one step.
            to.screen.done(None, None, &[]);
        } else if let Some(words) = self.rejected.take() {
            to.summary.fail(&words);
        }
    }
}

/// Reads what a step used. Its input is without what came from the cache or went into it, its output without its thinking.
fn usage(event: &Value) -> Option<Usage> {
    let count = |name: &str| number(event, &format!("/part/tokens/{name}"));
    let cached = count("cache/read");
    let input = [count("input")?, cached.unwrap_or(0), count("cache/write").unwrap_or(0)];
    let output = [count("output")?, count("reasoning").unwrap_or(0)];
    let sum = |parts: &[u64]| parts.iter().fold(0_u64, |sum, &part| sum.saturating_add(part));
    // Models without a known price cost 0 by its count.
    let cost = event.pointer("/part/cost").and_then(Value::as_f64).filter(|&cost| cost > 0.0);
    Some(Usage {
        input_tokens: sum(&input),
        output_tokens: sum(&output),
        cached_tokens: cached,
        cost_usd: cost.map(MicroDollars::from),
    })
}

fn error(event: &Value, to: &mut Sink<'_>) {
    let message = text(event, "/error/data/message");
    let words = if message.is_empty() { text(event, "/error/name") } else { message };
    let answer = text(event, "/error/data/responseBody").to_lowercase();
    match number(event, "/error/data/statusCode") {
        Some(401) => to.summary.needs = Some(Needs::Login),
        _ if message.to_lowercase().contains("billing") || answer.contains("insufficient_quota") => {
            to.summary.needs = Some(Needs::Money);
        }
        Some(429) => {
            let wait = text(event, "/error/data/responseHeaders/retry-after").parse::<u64>().ok();
            let printed_at = number(event, "/timestamp").map_or(to.now, |ms| UnixSeconds(ms / 1000));
            to.summary.set_limit(RATE_LIMIT, wait.map(|wait| printed_at.plus_secs(wait)), to.now);
        }
        _ => {}
    }
    to.summary.fail(words);
    to.screen.error(words);
}
