//! In which form an agent prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The form of what an agent prints on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutputFormat {
    /// `claude -p --output-format stream-json --verbose`.
    ClaudeStreamJson,
    /// `codex exec --json`.
    CodexJson,
    /// `gemini --output-format stream-json`.
    GeminiStreamJson,
    /// `opencode run --format json`.
    OpencodeJson,
    /// `qwen --output-format stream-json`.
    QwenStreamJson,
    /// `copilot --output-format json`.
    CopilotJson,
    /// Text for a person, passed on as it is.
    #[default]
    Text,
}

/// Returns whether the figures of a final event count the whole session, so that those of a resumed run include its predecessor's.
/// Figures that are "so far" ([`Summary::so_far`](super::Summary::so_far)) count their own process alone in every format.
pub(crate) fn is_usage_of_whole_session(format: OutputFormat) -> bool {
    matches!(format, OutputFormat::ClaudeStreamJson | OutputFormat::CodexJson | OutputFormat::QwenStreamJson)
}

impl OutputFormat {
    /// Whether its program names a session that it may not keep: one in which the model never answered. Gemini CLI drops it where the
    /// first request is refused, Qwen Code where it is killed before.
    pub(super) fn keeps_answered_sessions_alone(self) -> bool {
        matches!(self, Self::GeminiStreamJson | Self::QwenStreamJson)
    }

    /// Whether an agent that prints so says what a run cost: only then can a ceiling on cost be kept.
    pub fn reports_cost(self) -> bool {
        matches!(self, Self::ClaudeStreamJson | Self::OpencodeJson)
    }
}
