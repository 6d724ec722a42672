//! Agents that work without a file.
//!
//! A plain shell is deliberately not one of them: it would let any model that reaches the tools run any command.

use super::definition::AgentDefinition;

pub(super) fn definitions() -> [(&'static str, AgentDefinition); 2] {
    let run = |command: &str, args: &[&str]| AgentDefinition {
        command: command.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..AgentDefinition::default()
    };
    // `claude -p` and `codex exec -` read the prompt from stdin (their own documentation).
    [("claude", run("claude", &["-p"])), ("codex", run("codex", &["exec", "-"]))]
}
