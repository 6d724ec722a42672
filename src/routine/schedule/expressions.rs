//! `schedule` as it is written: one cron expression, or a list of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
pub enum CronExpressions {
    One(String),
    Several(Vec<String>),
}

impl CronExpressions {
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        }
    }

    /// Returns them as they are kept: what a person types around a name, and how, says nothing; nor does a list of one.
    pub fn tidied(self) -> Self {
        match self {
            Self::One(text) => Self::One(tidied(&text)),
            Self::Several(texts) => match &*texts {
                [text] => Self::One(tidied(text)),
                texts => Self::Several(texts.iter().map(|text| tidied(text)).collect()),
            },
        }
    }
}

impl From<&str> for CronExpressions {
    fn from(text: &str) -> Self {
        Self::One(text.to_owned())
    }
}

fn tidied(text: &str) -> String {
    let text = text.trim();
    if text.starts_with('@') { text.to_lowercase() } else { text.to_owned() }
}
