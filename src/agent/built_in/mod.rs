//! Agents that work without a file: a file here for each, in the form of a person's own.
//!
//! A plain shell is deliberately not one of them: it would let any model that reaches the tools run any command.

/// The names of the built-in agents, with the text of their files.
const FILES: [(&str, &str); 6] = [
    ("claude", include_str!("claude.toml")),
    ("codex", include_str!("codex.toml")),
    ("copilot", include_str!("copilot.toml")),
    ("gemini", include_str!("gemini.toml")),
    ("opencode", include_str!("opencode.toml")),
    ("qwen", include_str!("qwen.toml")),
];

/// Returns their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// Returns the text of each one's file.
#[cfg(test)]
pub(crate) fn texts() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(_, text)| *text)
}

/// Returns the text of one's file.
pub(super) fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| *text)
}
