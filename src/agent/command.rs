//! From an agent's definition to the exact command line of one run.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::choose::Choice;
use super::definition::{OPTIONS_PLACEHOLDER, SESSION_PLACEHOLDER, StdinSource};
use super::output::OutputFormat;
use super::registry::Agent;
use super::session_id::{MAX_SESSION_ID_CHARS, is_session_id};
use crate::options::Options;
use crate::quote::shell_word;

/// The largest argument that Linux passes to a program: 32 pages of 4 KiB, its final NUL included (execve(2)).
pub(crate) const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

#[derive(Debug, Clone, Copy)]
pub struct Placeholders<'a> {
    pub prompt: &'a str,
    /// `{prompt_file}`: its path in the workbench.
    pub prompt_file: &'a Path,
    pub workbench: &'a Path,
    pub run: &'a str,
    /// One that nothing else has.
    pub uuid: &'a str,
    /// `{session_id}`: the session that the run continues.
    pub session_id: Option<&'a str>,
}

/// The exact command of one run.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentCommand {
    /// The stem of its file in `agents/`, or the name of a built-in one.
    pub agent: String,
    /// A name on PATH, or an absolute path.
    pub command: String,
    /// Its arguments, placeholders filled in.
    pub args: Vec<String>,
    /// What is run in the workbench before it: a program and its arguments; nothing if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// What is connected to its standard input.
    pub stdin: StdinSource,
    /// What it prints on stdout.
    #[serde(default)]
    pub output: OutputFormat,
    /// The arguments that continue its session, with `{session_id}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<String>,
    /// The session that it was given, or that it continues.
    #[serde(default)]
    pub session_id: Option<String>,
    /// The values of its options.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// Whether it starts through the user's login shell.
    pub login_shell: bool,
    /// Whether it works on a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// How long it may print nothing, unless its routine says otherwise.
    pub max_silence_secs: Option<u64>,
}

/// A command line that no system would take.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(
        "the agent '{agent}' takes the prompt as an argument, and this one makes it {bytes} bytes long ({MAX_ARGUMENT_BYTES} \
         at most); shorten the prompt, or let the agent's file use stdin = \"prompt\" or the placeholder {{prompt_file}}"
    )]
    ArgumentTooLong { agent: String, bytes: usize },
}

impl AgentCommand {
    /// Fills in the placeholders, one argument at a time and never through a shell. With a session the agent is told to continue it,
    /// where it can; one that might be taken for something else is left out.
    pub fn build(agent: &Agent, choice: &Choice, values: Placeholders<'_>) -> Result<Self, CommandError> {
        let definition = &agent.definition;
        let session_id = values.session_id.filter(|id| definition.can_continue() && is_session_id(id));
        let values = Placeholders { session_id, ..values };
        let templates = if session_id.is_some() { &definition.continue_args } else { &definition.args };
        let options = || choice.args.iter().map(|(word, value)| fill(word, values, Some(value)));
        let filled = |words: &[String]| {
            let fill = |word: &String| match word.as_str() {
                OPTIONS_PLACEHOLDER => options().collect(),
                word => vec![fill(word, values, None)],
            };
            words.iter().flat_map(fill).collect::<Vec<_>>()
        };
        let (args, setup) = (filled(templates), filled(&definition.setup));
        let mut templates = templates.iter().chain(choice.args.iter().map(|(template, _)| template));
        let given = templates.any(|word| word.contains("{uuid}")).then_some(values.uuid);
        if let Some(long) = args.iter().chain(&setup).find(|arg| arg.len() > MAX_ARGUMENT_BYTES) {
            return Err(CommandError::ArgumentTooLong { agent: agent.name.to_string(), bytes: long.len() });
        }
        Ok(Self {
            agent: agent.name.to_string(),
            command: definition.command.clone(),
            args,
            setup,
            stdin: definition.stdin,
            output: definition.output,
            resume: definition.resume.clone(),
            session_id: session_id.or(given).map(str::to_owned),
            options: choice.values.clone(),
            login_shell: definition.login_shell,
            terminal: definition.terminal,
            max_silence_secs: definition.max_silence_secs,
        })
    }
}

impl AgentCommand {
    /// Returns the command line with which a person continues a session in a directory; `None` where the agent has none.
    pub(crate) fn resume_command(&self, session_id: &str, directory: &Path) -> Option<String> {
        if self.resume.is_empty() {
            return None;
        }
        let words = std::iter::once(self.command.clone())
            .chain(self.resume.iter().map(|word| word.replace(SESSION_PLACEHOLDER, session_id)));
        let words: Vec<String> = words.map(|word| shell_word(&word)).collect();
        Some(format!("cd {} && {}", shell_word(&directory.display().to_string()), words.join(" ")))
    }
}

/// Returns how long a prompt may be, so that no argument becomes too long, whether the run continues a session or not.
pub(crate) fn prompt_room_bytes(agent: &Agent, choice: &Choice, values: Placeholders<'_>) -> usize {
    let Agent { definition, .. } = agent;
    let longest = "x".repeat(MAX_SESSION_ID_CHARS);
    let values = Placeholders { prompt: "", session_id: Some(&longest), ..values };
    let own = definition.args.iter().chain(&definition.continue_args).chain(&definition.setup).map(|word| (word, None));
    let all = own.chain(choice.args.iter().map(|(word, value)| (word, Some(value.as_str()))));
    let room = |(word, value): (&String, Option<&str>)| {
        let prompts = word.matches("{prompt}").count();
        let rest = || fill(word, values, value).len();
        (prompts > 0).then(|| MAX_ARGUMENT_BYTES.saturating_sub(rest()) / prompts)
    };
    all.filter_map(room).min().unwrap_or(usize::MAX)
}

/// Fills the placeholders of a person's check, which has none for what tools write: a shell might be asked to execute it.
pub(crate) fn fill_check(command: &[String], workbench: &Path, prompt_file: &Path, run: &str) -> Vec<String> {
    let known = [
        ("{prompt_file}", prompt_file.display().to_string()),
        ("{workbench}", workbench.display().to_string()),
        ("{run}", run.to_owned()),
    ];
    command.iter().map(|word| replace(word, &known)).collect()
}

fn fill(argument: &str, values: Placeholders<'_>, option_value: Option<&str>) -> String {
    let known = [
        ("{value}", option_value.unwrap_or("{value}").to_owned()),
        ("{uuid}", values.uuid.to_owned()),
        (SESSION_PLACEHOLDER, values.session_id.unwrap_or(SESSION_PLACEHOLDER).to_owned()),
        ("{prompt}", values.prompt.to_owned()),
        ("{prompt_file}", values.prompt_file.display().to_string()),
        ("{workbench}", values.workbench.display().to_string()),
        ("{run}", values.run.to_owned()),
    ];
    replace(argument, &known)
}

/// Replaces the placeholders in one pass, so that a prompt that holds one keeps it. Other braces stay.
fn replace(argument: &str, known: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        filled.push_str(before);
        if let Some((name, value)) = known.iter().find(|(name, _)| from.starts_with(name)) {
            filled.push_str(value);
            rest = &from[name.len()..];
        } else {
            filled.push('{');
            rest = &from[1..];
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::definition::AgentDefinition;
    use crate::agent::registry::AgentSource;
    use proptest::prelude::*;

    fn values(prompt: &str) -> Placeholders<'_> {
        Placeholders {
            prompt,
            prompt_file: Path::new("/w/prompt.md"),
            workbench: Path::new("/w"),
            run: "a-1",
            uuid: "u-u",
            session_id: None,
        }
    }

    #[test]
    fn placeholders_are_filled_once_and_other_braces_stay() {
        let filled = fill("{run}:{prompt}:{prompt_file}:{workbench}:{uuid}:{json}{value}{", values("{run}"), None);
        assert_eq!(filled, "a-1:{run}:/w/prompt.md:/w:u-u:{json}{value}{");
    }

    #[test]
    fn a_prompt_too_long_for_an_argument_is_refused_with_advice() {
        let definition = AgentDefinition { command: "x".into(), args: vec!["{prompt}".into()], ..Default::default() };
        let agent = Agent { name: "a".parse().unwrap(), definition, source: AgentSource::BuiltIn };
        let prompt = "x".repeat(200_000);
        let error = AgentCommand::build(&agent, &Choice::default(), values(&prompt)).unwrap_err().to_string();
        assert!(error.contains("{prompt_file}") && error.contains("stdin"), "{error}");
    }

    #[test]
    fn the_arguments_of_options_stand_in_the_place_of_their_placeholder() {
        let args = ["exec", "{options}", "-"].map(str::to_owned).into();
        let definition = AgentDefinition { command: "x".into(), args, ..Default::default() };
        let agent = Agent { name: "a".parse().unwrap(), definition, source: AgentSource::BuiltIn };
        let choice = Choice {
            args: vec![
                ("-m".into(), "{run}".into()),
                ("{value}".into(), "{run}".into()),
                ("{workbench}/x".into(), String::new()),
            ],
            ..Choice::default()
        };
        let command = AgentCommand::build(&agent, &choice, values("hi")).unwrap();
        assert_eq!(command.args, ["exec", "-m", "{run}", "/w/x", "-"], "a value is not a template");
        assert_eq!(AgentCommand::build(&agent, &Choice::default(), values("hi")).unwrap().args, ["exec", "-"]);
    }

    fn resumable() -> Agent {
        let args = ["new", "{prompt}", "{uuid}", "{options}"].map(str::to_owned).into();
        let continue_args = ["{options}", "--resume={session_id}", "{prompt}{run}"].map(str::to_owned).into();
        let definition = AgentDefinition { command: "x".into(), args, continue_args, ..Default::default() };
        Agent { name: "a".parse().unwrap(), definition, source: AgentSource::BuiltIn }
    }

    #[test]
    fn a_session_is_continued_with_all_options_again() {
        let choice = Choice { args: vec![("--effort={value}".into(), "{session_id}".into())], ..Choice::default() };
        let build = |agent: &Agent, session_id| {
            AgentCommand::build(agent, &choice, Placeholders { session_id, ..values("{session_id}") }).unwrap()
        };
        let (mut agent, fresh) = (resumable(), ["new", "{session_id}", "u-u", "--effort={session_id}"]);
        let continued = build(&agent, Some("s-1"));
        assert_eq!(continued.args, ["--effort={session_id}", "--resume=s-1", "{session_id}a-1"], "in one pass");
        assert_eq!(continued.session_id.as_deref(), Some("s-1"));
        for id in [None, Some(""), Some("--help"), Some("a b"), Some("{prompt}")] {
            let started = build(&agent, id);
            assert_eq!(
                (started.args.as_slice(), started.session_id.as_deref()),
                (fresh.map(str::to_owned).as_slice(), Some("u-u"))
            );
        }
        agent.definition.continue_args.clear();
        assert_eq!(build(&agent, Some("s-1")).args, fresh, "it cannot");
        assert_eq!(build(&agent, Some("s-1")).session_id.as_deref(), Some("u-u"));
    }

    #[test]
    fn a_prompt_has_room_whether_a_session_is_continued_or_not() {
        let mut agent = resumable();
        let room = |agent: &Agent| prompt_room_bytes(agent, &Choice::default(), values(""));
        assert_eq!(room(&agent), MAX_ARGUMENT_BYTES - "a-1".len());
        agent.definition.continue_args = vec!["{prompt}{session_id}".into()];
        assert_eq!(room(&agent), MAX_ARGUMENT_BYTES - MAX_SESSION_ID_CHARS);
        agent.definition.continue_args = vec!["{session_id}".into()];
        assert_eq!(room(&agent), MAX_ARGUMENT_BYTES);
    }

    proptest! {
        #[test]
        fn a_prompt_arrives_unchanged(prompt: String) {
            prop_assert_eq!(fill("{prompt}", values(&prompt), None), prompt);
        }
    }
}
