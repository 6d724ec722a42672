//! What a run's output said, as data. Its texts are an agent's: bounded, and free of control characters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plain::{one_line, plain, push_bounded};
use super::question::AskedQuestion;
use crate::agent::session_id::is_session_id;
use crate::clock::UnixSeconds;
use crate::money::MicroDollars;

const MAX_RESULT_BYTES: usize = 16 * 1024;
const MAX_MODEL_CHARS: usize = 100;
const MAX_LAST_WORDS_CHARS: usize = 300;
const MAX_TOOL_CHARS: usize = 64;
const MAX_LIMIT_KIND_CHARS: usize = 40;
/// The last of them sums up those that found no place of their own.
const MAX_DENIED_TOOLS: usize = 50;
/// How far ahead a reset is believed: a week is the longest window, and clocks and zones differ.
pub(crate) const MAX_RESET_AHEAD_SECS: u64 = 8 * 24 * 60 * 60;
/// How far back: it may have been printed in whole minutes, a moment before.
const MAX_RESET_AGO_SECS: u64 = 10 * 60;
/// A share of a window in percent that is higher says nothing.
const MAX_USED_PERCENT: f64 = 1_000.0;

/// What a run's output said. What it did not say is absent.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Summary {
    /// The agent's own id of the session, by which it can be continued.
    pub session_id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// What the run used.
    pub usage: Option<Usage>,
    /// How many times the model answered, as the agent counts.
    pub turns: Option<u64>,
    /// Tool calls that were denied. Empty, too, if the agent does not report denials: only claude, qwen, copilot and opencode do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denied>,
    /// The agent's last message; its beginning, if it is longer than 16 KiB.
    pub result: Option<String>,
    /// The limit that stopped the run.
    pub limit: Option<Limit>,
    /// The newest warning that a limit is near.
    pub limit_warning: Option<LimitWarning>,
    /// What the agent asked a person, with which it ended: only claude does.
    pub question: Option<AskedQuestion>,
    /// What a person must do before the agent can work.
    pub needs: Option<Needs>,
    /// Whether no final event came, so that the figures are those up to an interruption.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub so_far: bool,
    /// How the agent said that it ended.
    pub ended: Option<FinalEvent>,
    /// The agent's own words for what went wrong, in one line.
    pub last_words: Option<String>,
    /// Whether the agent ended itself because the run had cost more than it was allowed to.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub over_budget: bool,
    /// Whether the model said or did something, as far as these lines of its output show: before that, its program may keep no session.
    #[serde(skip)]
    pub(crate) has_answered: bool,
}

/// What a run used.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// All tokens that were sent to the model, those from its cache included, whatever the agent itself calls its input.
    pub input_tokens: u64,
    /// All tokens that the model wrote, its thinking included.
    pub output_tokens: u64,
    /// Those of `input_tokens` that came from the model's cache.
    pub cached_tokens: Option<u64>,
    /// The list price that the agent reports; for a subscription not money spent.
    pub cost_usd: Option<MicroDollars>,
}

/// How often calls of a tool were denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Denied {
    /// The tool, as the agent calls it; `other` for all beyond the first 49.
    pub tool: String,
    pub count: u64,
}

/// A limit of the model's provider that was hit.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// The agent's own word, such as `five_hour`; else `usage` or `daily` for a plan's limit, `rate_limit` for too many requests.
    pub kind: String,
    /// When it no longer holds.
    pub resets_at: Option<UnixSeconds>,
}

/// A warning that an account's usage limit is near.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitWarning {
    /// The agent's own word, such as `five_hour`.
    pub kind: String,
    /// How much of the window is used.
    pub used_percent: Option<u64>,
    /// When the window ends.
    pub resets_at: Option<UnixSeconds>,
}

/// What only a person can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Needs {
    /// A login, or a valid key.
    Login,
    /// Credit or a plan.
    Money,
}

/// How an agent said that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinalEvent {
    Succeeded,
    Failed,
}

/// The kind of a limit on requests in a short time, which every key has.
pub(super) const RATE_LIMIT: &str = "rate_limit";

impl Limit {
    /// Whether an account's usage limit is used up. A rate limit is another thing: the agent retries by itself,
    /// and nobody knows when the next would be let through.
    pub fn is_of_usage(&self) -> bool {
        self.kind != RATE_LIMIT
    }
}

/// Names a kind of limit, as what follows "the".
pub fn limit_in_words(kind: &str) -> String {
    match kind {
        "five_hour" => "5-hour limit".to_owned(),
        "seven_day" => "weekly limit".to_owned(),
        "usage" | "daily" => format!("{kind} limit"),
        RATE_LIMIT => "rate limit".to_owned(),
        other => format!("limit '{other}'"),
    }
}

impl Usage {
    /// Returns what was used since `earlier`, the figures of the same session's earlier run.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let difference = |now: Option<u64>, before: Option<u64>| now.map(|now| now.saturating_sub(before.unwrap_or(0)));
        let micros = |cost: Option<MicroDollars>| cost.map(|cost| cost.0);
        Self {
            input_tokens: self.input_tokens.saturating_sub(earlier.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(earlier.output_tokens),
            cached_tokens: difference(self.cached_tokens, earlier.cached_tokens),
            cost_usd: difference(micros(self.cost_usd), micros(earlier.cost_usd)).map(MicroDollars),
        }
    }

    /// Adds what another request used.
    pub(crate) fn add(&mut self, other: &Self) {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        let micros = |cost: Option<MicroDollars>| cost.map(|cost| cost.0);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cached_tokens = sum(self.cached_tokens, other.cached_tokens);
        self.cost_usd = sum(micros(self.cost_usd), micros(other.cost_usd)).map(MicroDollars);
    }
}

impl Summary {
    /// Bounds its texts as if they had just been read, in a summary that comes from a file others may have written.
    pub fn in_plain_words(self) -> Self {
        let mut plain = Self { denied: Vec::new(), ..self.clone() };
        (plain.session_id, plain.model, plain.result, plain.last_words) = (None, None, None, None);
        self.session_id.iter().for_each(|id| plain.set_session(id));
        self.model.iter().for_each(|model| plain.set_model(model));
        self.result.iter().for_each(|result| plain.set_result(result));
        self.last_words.iter().for_each(|words| plain.set_last_words(words));
        plain.denied = self.denied;
        plain.denied.truncate(MAX_DENIED_TOOLS);
        plain.denied.iter_mut().for_each(|denied| denied.tool = one_line(&denied.tool, MAX_TOOL_CHARS));
        plain.question = self.question.map(AskedQuestion::in_plain_words);
        let kind = |kind: &str| one_line(kind, MAX_LIMIT_KIND_CHARS);
        plain.limit = self.limit.map(|limit| Limit { kind: kind(&limit.kind), ..limit });
        plain.limit_warning = self.limit_warning.map(|warning| LimitWarning { kind: kind(&warning.kind), ..warning });
        plain
    }

    /// Leaves out what is long.
    pub fn in_brief(self) -> Self {
        let question = self.question.map(AskedQuestion::in_brief);
        Self { session_id: None, result: None, last_words: None, question, ..self }
    }

    /// Takes a session's id, if a person may be shown a command line with it.
    pub(super) fn set_session(&mut self, id: &str) {
        if is_session_id(id) {
            self.session_id = Some(id.to_owned());
        }
    }

    pub(super) fn set_model(&mut self, model: &str) {
        self.model = said(one_line(model, MAX_MODEL_CHARS)).or(self.model.take());
    }

    pub(super) fn set_result(&mut self, message: &str) {
        let mut result = String::new();
        push_bounded(&mut result, plain(message).trim_end(), MAX_RESULT_BYTES);
        self.result = said(result).or(self.result.take());
    }

    /// Adds a piece to the last message.
    pub(super) fn continue_result(&mut self, piece: &str) {
        push_bounded(self.result.get_or_insert_default(), &plain(piece), MAX_RESULT_BYTES);
    }

    /// Takes an error that need not be the end.
    pub(super) fn set_last_words(&mut self, words: &str) {
        self.last_words = said(one_line(words, MAX_LAST_WORDS_CHARS)).or(self.last_words.take());
    }

    pub(super) fn fail(&mut self, words: &str) {
        self.ended = Some(FinalEvent::Failed);
        self.set_last_words(words);
    }

    /// What stood in the way before did not stop the run.
    pub(super) fn succeed(&mut self) {
        self.ended = Some(FinalEvent::Succeeded);
        (self.last_words, self.limit, self.needs) = (None, None, None);
    }

    /// The agent works on: what stood in its way before did not stop it.
    pub(super) fn go_on(&mut self) {
        if self.ended.is_none() {
            (self.last_words, self.limit, self.needs) = (None, None, None);
        }
    }

    /// Takes a limit that was hit. A reset that is past or more than 8 days ahead is not believed.
    pub(super) fn set_limit(&mut self, kind: &str, resets_at: Option<UnixSeconds>, now: UnixSeconds) {
        self.limit = Some(Limit { kind: limit_kind(kind), resets_at: believed(resets_at, now) });
    }

    /// Takes a warning that a limit is near; `used` is the share of its window, 1 being all.
    pub(super) fn set_limit_warning(
        &mut self,
        kind: &str,
        used: Option<f64>,
        resets_at: Option<UnixSeconds>,
        now: UnixSeconds,
    ) {
        let percent =
            used.map(|used| (used * 100.0).round()).filter(|percent| (0.0..=MAX_USED_PERCENT).contains(percent));
        self.limit_warning = Some(LimitWarning {
            kind: limit_kind(kind),
            used_percent: percent.map(|percent| percent as u64),
            resets_at: believed(resets_at, now),
        });
    }

    /// Whether no usage limit is known yet: one of requests says less.
    pub(super) fn lacks_usage_limit(&self) -> bool {
        !self.limit.as_ref().is_some_and(Limit::is_of_usage)
    }

    pub(super) fn count_denial(&mut self, tool: &str) {
        let tool = said(one_line(tool, MAX_TOOL_CHARS)).unwrap_or_else(|| "unknown".to_owned());
        let known = self.denied.iter().position(|denied| denied.tool == tool);
        let at = known.unwrap_or_else(|| {
            if self.denied.len() < MAX_DENIED_TOOLS {
                let is_last = self.denied.len() == MAX_DENIED_TOOLS - 1;
                self.denied.push(Denied { tool: if is_last { "other".to_owned() } else { tool }, count: 0 });
            }
            self.denied.len() - 1
        });
        self.denied[at].count = self.denied[at].count.saturating_add(1);
    }

    /// Returns the summary as it is now, after that many tool calls.
    pub(super) fn as_of_now(&self, calls: u64) -> Self {
        let has_begun = *self != Self::default();
        let has_answered = calls > 0 || self.result.is_some() || self.ended == Some(FinalEvent::Succeeded);
        Self { so_far: self.ended.is_none() && has_begun, has_answered, ..self.clone() }
    }
}

fn limit_kind(kind: &str) -> String {
    said(one_line(kind, MAX_LIMIT_KIND_CHARS)).unwrap_or_else(|| "usage".to_owned())
}

fn believed(resets_at: Option<UnixSeconds>, now: UnixSeconds) -> Option<UnixSeconds> {
    let is_near =
        |at: &UnixSeconds| *at <= now.plus_secs(MAX_RESET_AHEAD_SECS) && at.age_secs_at(now) <= MAX_RESET_AGO_SECS;
    resets_at.filter(is_near)
}

fn said(text: String) -> Option<String> {
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MAX_MICRO_DOLLARS;
    use serde_json::json;

    const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

    #[test]
    fn an_id_that_a_shell_would_not_take_as_a_word_is_dropped() {
        let mut summary = Summary::default();
        for id in ["", "a b", "$(x)", "--help", "é", &"x".repeat(65)] {
            summary.set_session(id);
            assert_eq!(summary.session_id, None, "{id}");
        }
        summary.set_session(&"x".repeat(64));
        assert_eq!(summary.session_id.map(|id| id.len()), Some(64));
    }

    #[test]
    fn a_reset_far_off_is_dropped_and_the_limit_stays() {
        let day = 24 * 60 * 60;
        for (at, kept) in [
            (NOW.0 + 8 * day, true),
            (NOW.0 + 8 * day + 1, false),
            (NOW.0, true),
            (NOW.0 - 600, true),
            (NOW.0 - 601, false),
            (0, false),
            (NOW.0 * 1000, false),
            (u64::MAX, false),
        ] {
            let mut summary = Summary::default();
            summary.set_limit("five_hour", Some(UnixSeconds(at)), NOW);
            let limit = summary.limit.unwrap();
            assert_eq!((limit.kind.as_str(), limit.resets_at.is_some()), ("five_hour", kept), "{at}");
        }
    }

    #[test]
    fn a_warning_says_how_much_is_used() {
        for (used, percent) in
            [(Some(0.95), Some(95)), (Some(1.2), Some(120)), (Some(1e9), None), (Some(f64::NAN), None), (None, None)]
        {
            let mut summary = Summary::default();
            summary.set_limit_warning("five_hour", used, Some(UnixSeconds(0)), NOW);
            let warning = summary.limit_warning.unwrap();
            assert_eq!((warning.used_percent, warning.resets_at), (percent, None), "{used:?}");
        }
    }

    #[test]
    fn only_a_rate_limit_is_no_usage_limit() {
        for kind in ["five_hour", "seven_day", "usage", "daily", "", "something_new"] {
            let mut summary = Summary::default();
            summary.set_limit(kind, None, NOW);
            assert!(summary.limit.is_some_and(|limit| limit.is_of_usage()), "{kind}");
        }
        let mut summary = Summary::default();
        summary.set_limit(RATE_LIMIT, None, NOW);
        assert!(!summary.limit.unwrap().is_of_usage());
        assert_eq!(limit_in_words("five_hour"), "5-hour limit");
        assert_eq!(limit_in_words(RATE_LIMIT), "rate limit");
        assert_eq!(limit_in_words("seven_day_opus"), "limit 'seven_day_opus'");
    }

    #[test]
    fn denials_of_many_tools_are_summed_up_in_the_last() {
        let mut summary = Summary::default();
        for tool in 0..60 {
            summary.count_denial(&format!("tool{tool}"));
        }
        summary.count_denial("tool3");
        summary.count_denial(&"x".repeat(1000));
        assert_eq!(summary.denied.len(), 50);
        assert_eq!(summary.denied[3].count, 2);
        assert_eq!(summary.denied[49], Denied { tool: "other".into(), count: 12 });
    }

    #[test]
    fn texts_are_bounded_and_free_of_control_characters() {
        let mut summary = Summary::default();
        let hostile = format!("\u{1b}[31m\u{202e}{}\0", "é".repeat(1 << 16));
        summary.set_model(&hostile);
        summary.set_result(&hostile);
        summary.fail(&hostile);
        summary.count_denial(&hostile);
        summary.set_limit(&hostile, None, NOW);
        assert_eq!(summary.model.unwrap().chars().count(), MAX_MODEL_CHARS);
        assert_eq!(summary.result.unwrap().len(), MAX_RESULT_BYTES);
        assert_eq!(summary.last_words.unwrap().chars().count(), MAX_LAST_WORDS_CHARS);
        assert_eq!(summary.denied[0].tool.chars().count(), MAX_TOOL_CHARS);
        assert_eq!(summary.limit.unwrap().kind.chars().count(), MAX_LIMIT_KIND_CHARS);
    }

    #[test]
    fn what_is_unknown_is_not_written_and_money_is_a_number_of_dollars() {
        assert_eq!(serde_json::to_value(Summary::default()).unwrap(), json!({}));
        let usage = Usage { input_tokens: 3, cost_usd: Some(MicroDollars(15_000)), ..Usage::default() };
        let summary = Summary { usage: Some(usage), ended: Some(FinalEvent::Failed), ..Summary::default() };
        let written = serde_json::to_value(&summary).unwrap();
        let expected = json!({"input_tokens": 3, "output_tokens": 0, "cost_usd": 0.015});
        assert_eq!(written, json!({"usage": expected, "ended": "failed"}));
        assert_eq!(serde_json::from_value::<Summary>(written).unwrap(), summary);
        assert_eq!(schemars::schema_for!(MicroDollars).get("type"), Some(&json!("number")));
        assert_eq!([f64::NAN, -1.0, 1e300].map(MicroDollars::from), [0, 0, MAX_MICRO_DOLLARS].map(MicroDollars));
    }

    #[test]
    fn only_what_a_resumed_run_added_counts() {
        let usage = |input_tokens, cached_tokens, cost: Option<u64>| Usage {
            input_tokens,
            output_tokens: 5,
            cached_tokens,
            cost_usd: cost.map(MicroDollars),
        };
        let since = usage(30, Some(9), Some(100)).since(&usage(10, None, Some(30)));
        assert_eq!(since, Usage { output_tokens: 0, ..usage(20, Some(9), Some(70)) });
        assert_eq!(usage(1, None, None).since(&usage(2, Some(1), Some(1))).input_tokens, 0);
    }
}
