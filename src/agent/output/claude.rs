//! Claude Code, and Qwen Code, which prints nearly the same.

use std::collections::VecDeque;

use serde_json::Value;

use super::calls::Calls;
use super::event::{Dialect, Known, Sink, content_text, is_true, list, number, text};
use super::question::AskedQuestion;
use super::summary::{Needs, RATE_LIMIT, Usage, limit_in_words};
use crate::agent::question_hook::QUESTION_TOOL;
use crate::clock::UnixSeconds;
use crate::money::MicroDollars;

/// Events that tell a person nothing.
const NOISE: [&str; 6] =
    ["attachment", "command_lifecycle", "control_response", "keep_alive", "stream_event", "tool_progress"];
const SYSTEM_NOISE: [&str; 5] = ["hook_started", "status", "task_started", "thinking_tokens", "ui_invalidate"];

/// The model that messages of the program itself name.
const SYNTHETIC: &str = "<synthetic>";

/// What an error is called that only the reset of an account's usage limit ends.
const USAGE_LIMIT_REACHED: &str = "usage_limit_reached";

/// How many messages may be under way at once: those of sub-agents run beside the main one.
const MAX_OPEN_MESSAGES: usize = 32;

/// What it says of a call that nobody is there to permit, where permission is asked for through stdio: no more than "denied".
const NOBODY_ASKED: &str = "Tool permission request failed";

#[derive(Default)]
pub(super) struct Claude {
    is_qwen: bool,
    /// Calls whose denial was shown already, when it happened.
    denied: Calls,
    calls: Calls,
    counted: CountedMessages,
}

/// What the messages so far used. Several lines share one message, and each repeats its usage.
#[derive(Default)]
struct CountedMessages {
    /// Of all but the recent ones.
    earlier: Usage,
    recent: VecDeque<(String, Usage)>,
}

impl CountedMessages {
    fn count(&mut self, id: &str, usage: Usage) {
        if let Some((_, known)) = self.recent.iter_mut().find(|(known, _)| known == id) {
            *known = usage;
            return;
        }
        if self.recent.len() == MAX_OPEN_MESSAGES
            && let Some((_, complete)) = self.recent.pop_front()
        {
            self.earlier.add(&complete);
        }
        self.recent.push_back((id.chars().take(128).collect(), usage));
    }

    fn sum(&self) -> Usage {
        let mut sum = self.earlier.clone();
        self.recent.iter().for_each(|(_, usage)| sum.add(usage));
        sum
    }
}

impl Claude {
    pub(super) fn qwen() -> Self {
        Self { is_qwen: true, ..Self::default() }
    }

    /// Reads a message's or result's `usage`. Claude counts what came from the cache or went into it beside the input; qwen counts
    /// it as input.
    fn usage(&self, usage: &Value) -> Option<Usage> {
        let cached = number(usage, "/cache_read_input_tokens");
        let beside = if self.is_qwen {
            0
        } else {
            cached.unwrap_or(0).saturating_add(number(usage, "/cache_creation_input_tokens").unwrap_or(0))
        };
        Some(Usage {
            input_tokens: number(usage, "/input_tokens")?.saturating_add(beside),
            output_tokens: number(usage, "/output_tokens")?,
            cached_tokens: cached,
            cost_usd: None,
        })
    }

    fn system(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        match text(event, "/subtype") {
            "init" => {
                to.summary.set_session(text(event, "/session_id"));
                to.summary.set_model(text(event, "/model"));
                to.screen.started(text(event, "/model"), text(event, "/session_id"));
            }
            "permission_denied" => {
                let tool = text(event, "/tool_name");
                self.denied.announce(text(event, "/tool_use_id"), tool);
                to.summary.count_denial(tool);
                to.screen.denied(tool, text(event, "/message"));
            }
            "api_retry" => {
                let attempt = number(event, "/attempt").zip(number(event, "/max_retries"));
                to.screen.retrying(attempt, text(event, "/error"));
            }
            "retry" => {
                let attempt = number(event, "/data/attempt").zip(number(event, "/data/maxRetries"));
                let delay = number(event, "/data/delayMs").map(|delay| format!("in {} s", delay.div_ceil(1000)));
                to.screen.retrying(attempt, &delay.unwrap_or_default());
            }
            "hook_response" if text(event, "/outcome") == "success" => {}
            subtype if SYSTEM_NOISE.contains(&subtype) => {}
            _ => return Known::No,
        }
        Known::Yes
    }

    fn assistant(&mut self, event: &Value, to: &mut Sink<'_>) {
        let is_sub_agent = !text(event, "/parent_tool_use_id").is_empty();
        let model = text(event, "/message/model");
        if to.summary.model.is_none() && !is_sub_agent && model != SYNTHETIC {
            to.summary.set_model(model);
        }
        if to.summary.ended.is_none()
            && let Some(usage) = event.pointer("/message/usage").and_then(|usage| self.usage(usage))
        {
            self.counted.count(text(event, "/message/id"), usage);
            to.summary.usage = Some(self.counted.sum());
        }
        let error = text(event, "/error");
        if !error.is_empty() {
            take_error(event, error, to);
        } else if !is_sub_agent && model != SYNTHETIC {
            // The model answered, so no limit stopped it.
            to.summary.go_on();
        }
        for block in list(event, "/message/content") {
            match text(block, "/type") {
                "text" if !error.is_empty() => {
                    to.summary.set_last_words(text(block, "/text"));
                    to.screen.error(text(block, "/text"));
                }
                "text" => {
                    if !is_sub_agent {
                        to.summary.set_result(text(block, "/text"));
                    }
                    to.screen.text(text(block, "/text"));
                }
                "thinking" | "redacted_thinking" => to.screen.thinking(),
                "tool_use" | "server_tool_use" => {
                    self.calls.announce(text(block, "/id"), text(block, "/name"));
                    to.screen.call(text(block, "/name"), block.get("input").unwrap_or(&Value::Null));
                }
                _ => to.screen.raw(&block.to_string()),
            }
        }
    }

    fn user(&mut self, event: &Value, to: &mut Sink<'_>) {
        for block in list(event, "/message/content") {
            match text(block, "/type") {
                "tool_result" => {
                    let id = text(block, "/tool_use_id");
                    let (tool, was_shown) = (self.calls.take(id), self.denied.take(id).is_some());
                    let content = content_text(block.get("content").unwrap_or(&Value::Null));
                    match is_true(block, "/is_error") {
                        true if was_shown => {}
                        true if is_rejected(event, id) => {
                            let (tool, why) = (tool.unwrap_or_default(), content.as_ref());
                            to.summary.count_denial(&tool);
                            to.screen.denied(&tool, if why.starts_with(NOBODY_ASKED) { "" } else { why });
                        }
                        true => to.screen.failed_result(&content),
                        false => to.screen.result(&content),
                    }
                }
                "text" if text(block, "/text").starts_with("[Request interrupted") => to.screen.note("interrupted"),
                _ => to.screen.note("prompt"),
            }
        }
        if event.pointer("/message/content").is_some_and(Value::is_string) {
            to.screen.note("prompt");
        }
    }

    fn result(&mut self, event: &Value, to: &mut Sink<'_>) {
        let summary = &mut *to.summary;
        summary.turns = number(event, "/num_turns");
        summary.denied.clear();
        for denial in list(event, "/permission_denials") {
            summary.count_denial(text(denial, "/tool_name"));
        }
        summary.usage = self.final_usage(event);
        summary.question = None;
        if is_true(event, "/is_error") {
            let words = words_for_failure(event);
            if self.is_qwen {
                take_qwen_error(&words, to);
            }
            to.summary.over_budget = text(event, "/subtype") == "error_max_budget_usd";
            if text(event, "/subtype").starts_with("error_max_") {
                // Its own bound ended it, whatever an account's limit said before.
                to.summary.limit = None;
            } else if text(event, "/api_error") == USAGE_LIMIT_REACHED && to.summary.lacks_usage_limit() {
                to.summary.set_limit("", None, to.now);
            }
            to.summary.fail(&words);
            to.screen.failed(&words);
        } else {
            // A failed one may name a session that does not exist.
            summary.set_session(text(event, "/session_id"));
            summary.set_result(text(event, "/result"));
            summary.succeed();
            if text(event, "/deferred_tool_use/name") == QUESTION_TOOL {
                summary.question = event.get("deferred_tool_use").and_then(AskedQuestion::of_claude);
                summary.question.iter().for_each(|asked| to.screen.question(asked));
            }
            to.screen.done(summary.turns, summary.usage.as_ref(), &summary.denied);
        }
    }

    /// `usage` counts this process alone, `modelUsage` and the cost the whole session, sub-agents included.
    fn final_usage(&self, event: &Value) -> Option<Usage> {
        let mut sum: Option<Usage> = None;
        let models = event.get("modelUsage").and_then(Value::as_object);
        for model in models.into_iter().flat_map(|models| models.values()) {
            let count = |name: &str| model.get(name).and_then(Value::as_u64);
            let (Some(input), Some(output)) = (count("inputTokens"), count("outputTokens")) else { continue };
            let (read, written) = (count("cacheReadInputTokens"), count("cacheCreationInputTokens"));
            let beside = read.unwrap_or(0).saturating_add(written.unwrap_or(0));
            sum.get_or_insert_default().add(&Usage {
                input_tokens: input.saturating_add(beside),
                output_tokens: output,
                cached_tokens: read,
                cost_usd: None,
            });
        }
        let usage = sum.or_else(|| self.usage(event.get("usage")?))?;
        // What is no amount is not known, and never nothing.
        let cost = event.get("total_cost_usd").and_then(Value::as_f64).filter(|&cost| cost >= 0.0);
        Some(Usage { cost_usd: cost.map(MicroDollars::from), ..usage })
    }
}

impl Dialect for Claude {
    fn event(&mut self, event: &Value, to: &mut Sink<'_>) -> Known {
        match text(event, "/type") {
            "system" => return self.system(event, to),
            "assistant" => self.assistant(event, to),
            "user" => self.user(event, to),
            "result" => self.result(event, to),
            "rate_limit_event" => take_rate_limit(event, to),
            kind if NOISE.contains(&kind) => {}
            "" if event.get("attachment").is_some() => {}
            _ => return Known::No,
        }
        Known::Yes
    }
}

/// Whether a call's result says that it was not permitted.
fn is_rejected(event: &Value, id: &str) -> bool {
    let is_it = |meta: &&Value| text(meta, "/id") == id;
    let meta = list(event, "/tool_result_meta").iter().find(is_it);
    meta.is_some_and(|meta| text(meta, "/permission_decision/decision") == "reject")
}

/// Every subscription reports its limits; only one that stops the run counts.
fn take_rate_limit(event: &Value, to: &mut Sink<'_>) {
    let kind = text(event, "/rate_limit_info/rateLimitType");
    match text(event, "/rate_limit_info/status") {
        "rejected" if !is_true(event, "/rate_limit_info/isUsingOverage") => {
            let resets_at = number(event, "/rate_limit_info/resetsAt").map(UnixSeconds);
            to.summary.set_limit(kind, resets_at, to.now);
            let limit = to.summary.limit.as_ref().map_or_else(String::new, |limit| limit_in_words(&limit.kind));
            to.screen.error(&format!("{limit} reached"));
        }
        "allowed_warning" => {
            let used = event.pointer("/rate_limit_info/utilization").and_then(Value::as_f64);
            let resets_at = number(event, "/rate_limit_info/resetsAt").map(UnixSeconds);
            to.summary.set_limit_warning(kind, used, resets_at, to.now);
            let limit = to.summary.limit_warning.as_ref().map_or_else(String::new, |limit| limit_in_words(&limit.kind));
            to.screen.note(&format!("near the {limit}"));
        }
        _ => {}
    }
}

/// Takes the name of an error that the program, not the model, wrote as a message.
fn take_error(event: &Value, error: &str, to: &mut Sink<'_>) {
    match error {
        "authentication_failed" | "oauth_org_not_allowed" => to.summary.needs = Some(Needs::Login),
        "billing_error" => to.summary.needs = Some(Needs::Money),
        RATE_LIMIT if text(event, "/api_error") == USAGE_LIMIT_REACHED => {
            let info = event.pointer("/api_error_params/rate_limit_info").unwrap_or(&Value::Null);
            let resets_at = number(info, "/resetsAt").map(UnixSeconds);
            if to.summary.lacks_usage_limit() {
                to.summary.set_limit(text(info, "/rateLimitType"), resets_at, to.now);
            }
        }
        RATE_LIMIT if to.summary.limit.is_none() => to.summary.set_limit(RATE_LIMIT, None, to.now),
        _ => {}
    }
}

/// What Qwen Code says that lacks a login, in lower case.
const QWEN_NO_LOGIN: [&str; 3] = ["no auth type is selected", "missing api key for", "[api error: 401"];

/// Qwen says what is wrong in a sentence only, and its last message is that sentence.
fn take_qwen_error(words: &str, to: &mut Sink<'_>) {
    let lower = words.to_lowercase();
    if QWEN_NO_LOGIN.iter().any(|said| lower.contains(said)) {
        to.summary.needs = Some(Needs::Login);
    } else if lower.contains("billing") {
        to.summary.needs = Some(Needs::Money);
    } else if lower.contains("[api error: 429") {
        to.summary.set_limit(RATE_LIMIT, None, to.now);
    }
    if to.summary.result.as_deref() == Some(words.trim()) {
        to.summary.result = None;
    }
}

/// The first of: the message, the errors that are meant for a person, why it ended.
fn words_for_failure(event: &Value) -> String {
    let errors = list(event, "/errors").iter().filter_map(Value::as_str);
    let errors: Vec<&str> = errors.filter(|error| !error.starts_with("[ede_diagnostic]")).collect();
    let errors = errors.join("; ");
    let words = [
        text(event, "/result"),
        text(event, "/error/message"),
        &errors,
        text(event, "/terminal_reason"),
        text(event, "/subtype"),
    ];
    words.into_iter().find(|words| !words.trim().is_empty()).unwrap_or_default().to_owned()
}
