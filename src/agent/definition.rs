//! `agents/<name>.toml`: what a person says an agent is.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::{EnvName, Variables};
use crate::home::atomic_file::{self, FileError};
use crate::home::toml_text;

/// What the agent reads from stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StdinSource {
    /// The prompt.
    #[default]
    Prompt,
    /// `/dev/null`.
    None,
}

/// What `agents/<name>.toml` holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentDefinition {
    /// The program: a name on PATH, or an absolute path.
    pub command: String,
    /// Its arguments. `{prompt}`, `{prompt_file}`, `{workbench}` and `{run}` are filled in; no shell is involved.
    pub args: Vec<String>,
    /// A command and its arguments, run in the workbench before the agent, with the same placeholders. If it fails, the
    /// agent does not start.
    pub setup: Vec<String>,
    /// What the agent reads from stdin.
    pub stdin: StdinSource,
    /// Variables to set for each run.
    pub env: Variables,
    /// Names of variables to take from the process that starts the run.
    pub inherit_env: Vec<EnvName>,
    /// Names of variables that a routine's `env`, which tools write, may set.
    pub accept_env: Vec<EnvName>,
    /// Start through your login shell, so that PATH is as in a terminal.
    pub login_shell: bool,
    /// Give the agent a terminal, in which you can type.
    pub terminal: bool,
    /// How long it may print nothing before it is ended, if its routine does not say. If absent, no limit.
    pub max_silence_secs: Option<u64>,
}

impl Default for AgentDefinition {
    fn default() -> Self {
        Self {
            command: String::new(),
            args: Vec::new(),
            setup: Vec::new(),
            stdin: StdinSource::default(),
            env: Variables::new(),
            inherit_env: Vec::new(),
            accept_env: Vec::new(),
            login_shell: true,
            terminal: false,
            max_silence_secs: None,
        }
    }
}

pub(super) fn read(path: &Path) -> Result<AgentDefinition, FileError> {
    let text = atomic_file::read_text(path)?;
    let definition: AgentDefinition = toml_text::parse(&text).map_err(|problem| FileError::damaged(path, problem))?;
    check(&definition).map_err(|problem| FileError::damaged(path, problem))?;
    Ok(definition)
}

fn check(definition: &AgentDefinition) -> Result<(), String> {
    check_program("command", &definition.command)?;
    definition.setup.first().map_or(Ok(()), |program| check_program("setup", program))?;
    if definition.max_silence_secs == Some(0) {
        return Err("max_silence_secs is 0; give at least 1, or leave it out for no limit".into());
    }
    let set = definition.env.keys().map(|name| ("env", name));
    let accepted = definition.accept_env.iter().map(|name| ("accept_env", name));
    match set.chain(accepted).find(|(_, name)| name.is_ours()) {
        Some((key, name)) => Err(format!("{key} has {name}; names that begin with MOADIM_ are this program's own")),
        None => Ok(()),
    }
}

fn check_program(key: &str, program: &str) -> Result<(), String> {
    if program.is_empty() || program.contains('\0') {
        return Err(format!("{key} names no program"));
    }
    if program.contains('/') && !program.starts_with('/') {
        return Err(format!("{key} '{program}' is a relative path; give a name on PATH or an absolute path"));
    }
    Ok(())
}
