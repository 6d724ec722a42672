//! The program and the home.

use serde::Serialize;

use super::Found;
use super::content::Content;

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct ServerHead<'a> {
    /// The version of this program.
    program: &'static str,
    home: String,
    time_zone: Option<&'a str>,
    tools: &'a [&'a str],
}

/// # Errors
/// It cannot be written as JSON.
pub(super) fn content(found: &Found, tools: &[&str]) -> serde_json::Result<Content> {
    Content::default().with_head(&ServerHead {
        program: env!("CARGO_PKG_VERSION"),
        home: found.context.home.root().display().to_string(),
        time_zone: found.calendar.zone.as_deref(),
        tools,
    })
}
