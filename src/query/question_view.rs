//! A question as tools and commands show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::output::plain;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::run::id::RunId;
use crate::run::question::state::{Close, QuestionState, read_close};
use crate::run::question::{Question, QuestionKind};

/// What a run asks, and what became of that.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuestionView {
    /// What it needs: a decision, or a login.
    pub kind: QuestionKind,
    /// The question, as data; in a list its first line.
    pub text: String,
    /// Answers to choose from; others are as good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// When it was asked.
    pub asked_at: UnixSeconds,
    /// Until when it waits for an answer, while it does.
    pub expires_at: Option<UnixSeconds>,
    /// Whether it waits for an answer, or what became of it; absent where that cannot be read.
    pub state: Option<QuestionState>,
    /// The answer.
    pub answer: Option<String>,
    /// When it was answered, dismissed or expired.
    pub closed_at: Option<UnixSeconds>,
    /// Who did that.
    pub closed_by: Option<String>,
}

impl QuestionView {
    /// Shows the question of a run that ended, and whose workbench is there or not.
    pub(super) fn of(home: &Home, run: &RunId, question: Question, asked_at: UnixSeconds, is_there: bool) -> Self {
        let Question { kind, text, options } = question;
        let close = read_close(home, run);
        let state = match &close {
            Ok(Some(close)) => Some(close.state),
            Ok(None) if is_there => Some(QuestionState::Open),
            // Its close went with its workbench, and is in the history.
            Ok(None) | Err(_) => None,
        };
        let Close { text: answer, by, at, .. } = match close {
            Ok(Some(close)) => close,
            _ => {
                let (expires_at, answer, closed_at, closed_by) = (None, None, None, None);
                return Self { kind, text, options, asked_at, expires_at, state, answer, closed_at, closed_by };
            }
        };
        // Its agent reads it as it is.
        let answer = answer.map(|answer| plain(&answer));
        let (closed_at, closed_by) = (Some(at), Some(by));
        Self { kind, text, options, asked_at, expires_at: None, state, answer, closed_at, closed_by }
    }

    /// Records how long it waits.
    pub(super) fn expires_after_secs(&mut self, secs: u64) {
        self.expires_at = Some(self.asked_at.plus_secs(secs));
    }

    /// Whether it waits for an answer.
    pub fn is_open(&self) -> bool {
        self.state == Some(QuestionState::Open)
    }

    /// Leaves out what is long.
    pub(super) fn in_brief(self) -> Self {
        let Self { kind, text, options, .. } = &self;
        let question = Question { kind: *kind, text: text.clone(), options: options.clone() };
        Self { text: question.headline(), ..self }
    }
}
