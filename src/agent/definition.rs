//! `agents/<name>.toml`: what a person says an agent is.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::built_in;
use super::options::{self, AgentOption};
use super::output::OutputFormat;
use crate::environment::{EnvName, Variables};
use crate::home::atomic_file::{self, FileError};
use crate::home::toml_text;
use crate::options::OptionValue;

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
    /// The built-in agent that it is like: what this file does not say is said there. Tables are merged, everything else is replaced.
    pub extends: Option<String>,
    /// The program: a name on PATH, or an absolute path.
    pub command: String,
    /// Its arguments. `{prompt}`, `{prompt_file}`, `{workbench}`, `{run}` and `{uuid}` (a new one for each run) are filled in, and
    /// `{options}` becomes what the options add; no shell is involved.
    pub args: Vec<String>,
    /// The arguments with which a run continues the session of an earlier one unattended: like `args`, with `{session_id}` as well. If
    /// empty, it cannot, and starts with `args`; so it is, too, in a file that extends an agent and has `args` of its own.
    pub continue_args: Vec<String>,
    /// A command and its arguments, run in the workbench before the agent, with the placeholders of `args`. If it fails, the
    /// agent does not start.
    pub setup: Vec<String>,
    /// A command and its arguments, run in the workbench once the agent has ended well; the run succeeds only if it exits with 0. A
    /// routine's own `verify` replaces it. `{prompt_file}`, `{workbench}` and `{run}` are filled in.
    pub verify: Vec<String>,
    /// How long `verify` may take. If absent, 300.
    pub verify_secs: Option<u64>,
    /// What the agent reads from stdin.
    pub stdin: StdinSource,
    /// What the agent prints on stdout.
    pub output: OutputFormat,
    /// The arguments with which a person continues a run's session by hand, with `{session_id}`.
    pub resume: Vec<String>,
    /// The arguments with which it prints its version, for `moadim-mcp doctor`.
    pub version: Vec<String>,
    /// What `moadim-mcp doctor` advises about it, with `{workbenches}`.
    pub hint: Option<String>,
    /// Whether it prints nothing for minutes while it works, so that a short `max_silence_secs` would end it.
    pub often_silent: bool,
    /// Whether its prompt is prose, so text may be added before and after it. Leave it false if prompts are scripts.
    pub preamble: bool,
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
    /// What a routine may choose, by name.
    pub options: BTreeMap<String, AgentOption>,
}

impl Default for AgentDefinition {
    fn default() -> Self {
        Self {
            extends: None,
            command: String::new(),
            args: Vec::new(),
            continue_args: Vec::new(),
            setup: Vec::new(),
            verify: Vec::new(),
            verify_secs: None,
            stdin: StdinSource::default(),
            output: OutputFormat::default(),
            resume: Vec::new(),
            version: Vec::new(),
            hint: None,
            often_silent: false,
            preamble: false,
            env: Variables::new(),
            inherit_env: Vec::new(),
            accept_env: Vec::new(),
            login_shell: true,
            terminal: false,
            max_silence_secs: None,
            options: BTreeMap::new(),
        }
    }
}

impl AgentDefinition {
    /// Whether a run can continue an earlier session of its own accord.
    pub(crate) fn can_continue(&self) -> bool {
        !self.continue_args.is_empty()
    }
}

pub(super) fn read(path: &Path) -> Result<AgentDefinition, FileError> {
    let text = atomic_file::read_text(path)?;
    parse(&text).map_err(|problem| FileError::damaged(path, problem))
}

/// Parses the text of an agent's file, and completes it where it extends a built-in agent.
pub(super) fn parse(text: &str) -> Result<AgentDefinition, String> {
    // As it is, because only then has a mistake a line.
    let own: AgentDefinition = toml_text::parse(text)?;
    let definition = match &own.extends {
        None => own,
        Some(name) => {
            let known = || built_in::names().collect::<Vec<_>>().join(", ");
            let base =
                built_in::text(name).ok_or_else(|| format!("extends must name a built-in agent: {}", known()))?;
            let mut merged: Table = toml_text::parse(base)?;
            for (name, option) in &own.options {
                // The largest number is the default's again, not that of the built-in agent.
                if option.max.is_none()
                    && option.default.as_ref().is_some_and(OptionValue::is_number)
                    && let Some(inherited) = merged.get_mut("options").and_then(|all| all.get_mut(name)?.as_table_mut())
                {
                    inherited.remove("max");
                }
            }
            let own: Table = toml_text::parse(text)?;
            if own.contains_key("args") {
                // Those of the built-in agent would start something else, and might allow what these do not.
                merged.remove("continue_args");
            }
            merge(&mut merged, own);
            merged.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?
        }
    };
    check(&definition)?;
    Ok(definition)
}

fn merge(base: &mut Table, own: Table) {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(own)) => merge(base, own),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Where the arguments of options go.
pub(super) const OPTIONS_PLACEHOLDER: &str = "{options}";

/// Where the session goes that is continued.
pub(super) const SESSION_PLACEHOLDER: &str = "{session_id}";

fn check(definition: &AgentDefinition) -> Result<(), String> {
    check_program("command", &definition.command)?;
    for (key, command) in [("setup", &definition.setup), ("verify", &definition.verify)] {
        command.first().map_or(Ok(()), |program| check_program(key, program))?;
    }
    if definition.verify_secs == Some(0) {
        return Err("verify_secs is 0; give at least 1, or leave it out for 300".into());
    }
    if definition.max_silence_secs == Some(0) {
        return Err("max_silence_secs is 0; give at least 1, or leave it out for no limit".into());
    }
    if definition.terminal && definition.output != OutputFormat::Text {
        return Err("output must be \"text\" for an agent with terminal = true".into());
    }
    let lists = [
        ("args", &definition.args),
        ("continue_args", &definition.continue_args),
        ("setup", &definition.setup),
        ("verify", &definition.verify),
        ("resume", &definition.resume),
    ];
    if let Some((key, _)) = lists.iter().find(|(_, words)| words.iter().any(|word| word.contains('\0'))) {
        return Err(format!("{key} holds a NUL character"));
    }
    options::check(&definition.options)?;
    let add_args =
        |option: &AgentOption| !option.args.is_empty() || option.adds.values().any(|adds| !adds.args.is_empty());
    let takes_options = |words: &[String]| words.iter().any(|word| word == OPTIONS_PLACEHOLDER);
    let lists = [
        ("args", Some(&definition.args)),
        ("continue_args", definition.can_continue().then_some(&definition.continue_args)),
    ];
    let lacking = lists.iter().find(|(_, words)| words.is_some_and(|words| !takes_options(words)));
    if let Some((key, _)) = lacking.filter(|_| definition.options.values().any(add_args)) {
        return Err(format!("{key} lacks \"{OPTIONS_PLACEHOLDER}\", where what its options add goes"));
    }
    if definition.can_continue() && !definition.continue_args.iter().any(|word| word.contains(SESSION_PLACEHOLDER)) {
        return Err(format!("continue_args lacks {SESSION_PLACEHOLDER}, the session to continue"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_agent_is_sound() {
        for name in built_in::names() {
            let definition = parse(built_in::text(name).unwrap()).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert_eq!(definition.command, name);
            assert!(
                definition.options.contains_key("model") && definition.options.contains_key("permissions"),
                "{name}"
            );
            assert!(
                definition.preamble && definition.output != OutputFormat::Text && !definition.resume.is_empty(),
                "{name}"
            );
            assert!(definition.can_continue(), "{name}");
            // A session that is continued has its id.
            assert!(!definition.continue_args.iter().any(|word| word.contains("{uuid}")), "{name}");
        }
    }

    #[test]
    fn claude_s_hook_for_questions_is_in_all_settings() {
        let claude = parse(built_in::text("claude").unwrap()).unwrap();
        let levels = &claude.options["permissions"].adds;
        let lists = [&claude.args, &claude.continue_args].into_iter().chain(levels.values().map(|adds| &adds.args));
        let settings =
            lists.flat_map(|words| words.windows(2).filter(|pair| pair[0] == "--settings").map(|pair| &pair[1]));
        let hooks = settings.map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap()["hooks"].take());
        let hooks: Vec<_> = hooks.collect();
        assert_eq!(hooks.len(), 3, "with and without a session, and at the level that has settings of its own");
        assert!(hooks.iter().all(|hook| *hook == hooks[0]));
        let hook = &hooks[0]["PreToolUse"][0];
        let command = format!("\"${}\" question-hook || true", crate::env_vars::PROGRAM);
        assert_eq!((&hook["matcher"], &hook["hooks"][0]["command"]), (&"AskUserQuestion".into(), &command.into()));
    }

    #[test]
    fn a_file_that_extends_a_built_in_agent_changes_single_keys() {
        let base = parse(built_in::text("claude").unwrap()).unwrap();
        let text = "extends = 'claude'\ncommand = '/opt/claude'\n[options.max_turns]\nmax = 5000\n[options.permissions.adds.files]\nargs = ['--mine']";
        let changed = parse(text).unwrap();
        assert_eq!((changed.command.as_str(), &changed.args), ("/opt/claude", &base.args));
        assert_eq!(changed.options["max_turns"].args, base.options["max_turns"].args);
        assert_eq!(changed.options["max_turns"].max.as_ref().unwrap().0, "5000");
        let own = parse("extends = 'claude'\n[options.max_budget_usd]\ndefault = 2.0").unwrap();
        assert_eq!(own.options["max_budget_usd"].largest().unwrap().0, "2.0", "that of the built-in agent is gone");
        assert_eq!(changed.options["permissions"].adds["files"].args, ["--mine"]);
        assert_eq!(changed.options["permissions"].adds["edit"], base.options["permissions"].adds["edit"]);
    }

    #[test]
    fn arguments_of_ones_own_are_not_continued_with_those_of_the_built_in_agent() {
        let base = parse(built_in::text("codex").unwrap()).unwrap();
        assert_eq!(parse("extends = 'codex'\ncommand = '/opt/codex'").unwrap().continue_args, base.continue_args);
        assert!(!parse("extends = 'codex'\nargs = ['exec', '{options}']").unwrap().can_continue());
        let own = "extends = 'codex'\nargs = ['{options}']\ncontinue_args = ['--again={session_id}', '{options}']";
        assert_eq!(parse(own).unwrap().continue_args, ["--again={session_id}", "{options}"]);
    }

    #[test]
    fn a_file_that_extends_badly_is_refused_with_the_reason() {
        for (text, words) in [
            ("extends = 'sh'", "claude, codex"),
            ("extends = 'codex'\nresume = [\"a\\u0000\"]", "NUL"),
            ("extends = 'codex'\ncontinue_args = [\"a\\u0000\"]", "continue_args holds a NUL"),
            ("extends = 'codex'\ncontinue_args = ['{session_id}']", "continue_args lacks \"{options}\""),
            ("command = 'x'\ncontinue_args = ['--continue']", "continue_args lacks {session_id}"),
            ("extends = 'claude'\nterminal = true", "output"),
            ("extends = 'claude'\nverify = ['./check']", "verify './check' is a relative path"),
            ("extends = 'claude'\nverify_secs = 0", "verify_secs is 0"),
            ("extends = 'claude'\nargs = ['-p']", "{options}"),
            ("extends = 'claude'\n[options.model]\nmax = 5", "options.model"),
            ("extends = 'claude'\n[options.permissions.adds.root]", "read-only, files, edit and full"),
            ("extends = 'claude'\noptions = 5", "line 2"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
