//! What agents print in their machine-readable modes: made readable for a person, and summed up in a [`Summary`].
//!
//! Only events at the top level of stdout count. What a tool printed is inside an event, as text, and stays text.

mod calls;
mod claude;
mod codex;
mod copilot;
mod event;
mod exit;
mod format;
mod gemini;
mod lines;
mod opencode;
mod plain;
mod question;
mod reader;
mod reset_time;
mod screen;
mod summary;
#[cfg(test)]
mod tests;

pub(crate) use exit::needs_of_exit;
pub use format::OutputFormat;
pub(crate) use format::is_usage_of_whole_session;
pub(crate) use lines::MAX_LINE_BYTES;
pub(crate) use plain::{one_line, plain};
pub use question::AskedQuestion;
pub(crate) use reader::Reader;
pub(crate) use screen::grouped;
#[cfg(test)]
pub(crate) use summary::Denied;
pub(crate) use summary::MAX_RESET_AHEAD_SECS;
pub use summary::{FinalEvent, Limit, LimitWarning, Needs, Summary, Usage, limit_in_words};
