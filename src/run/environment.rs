//! The environment of a run: what it inherits, what is set for it, and who may set it.

use std::path::PathBuf;

use super::record::Environment;
use crate::agent::{Agent, AgentName, AgentSource, Choice, env_file};
use crate::environment::{self, EnvName, Variables};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::quote::quote;
use crate::routine::model::Definition;
use crate::routine::slug::Slug;
use crate::routine::store;

/// A routine sets variables that its agent does not accept. Tools write a routine's `env`, and a variable can make an agent run
/// something else, or send a key away: only a person can say that one is harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the agent '{agent}' does not accept {names} in `env`; {}", self.ways_out())]
pub struct NotAccepted {
    pub(crate) agent: AgentName,
    /// The variables as a list in words.
    pub(crate) names: String,
    accepting: String,
    routine_file: PathBuf,
}

/// The most names that are shown.
const SHOWN_NAMES: usize = 5;

impl NotAccepted {
    /// Returns what a person can do about it.
    pub fn ways_out(&self) -> String {
        let Self { accepting, routine_file, .. } = self;
        format!(
            "only a person can allow it: list it in accept_env of {accepting}, or move it to [trusted.env] in {}",
            routine_file.display()
        )
    }
}

/// Checks that an agent accepts the variables that a routine's `env` sets.
///
/// # Errors
/// Those that it does not.
pub fn check_accepted<'a>(
    home: &Home,
    slug: &Slug,
    env: impl IntoIterator<Item = &'a EnvName>,
    agent: &Agent,
) -> Result<(), NotAccepted> {
    let refused: Vec<String> = env
        .into_iter()
        .filter(|name| !agent.definition.accept_env.contains(name))
        .map(|name| quote(&name.to_string(), 64))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let more = refused.len().saturating_sub(SHOWN_NAMES);
    let shown = refused[..refused.len() - more].join(", ");
    let names = if more == 0 { shown } else { format!("{shown} and {more} more") };
    let accepting = match &agent.source {
        AgentSource::File(path) => path.display().to_string(),
        AgentSource::BuiltIn => format!(
            "{} (the agent is built in; begin that file with extends = \"{}\")",
            home.agents().join(format!("{}.toml", agent.name)).display(),
            agent.name
        ),
    };
    let routine_file = store::definition_file(home, slug);
    Err(NotAccepted { agent: agent.name.clone(), names, accepting, routine_file })
}

/// Composes the environment of a run. What a person wrote in the routine wins over what its options set, that over what tools wrote
/// there, and that over the agent's files.
///
/// # Errors
/// The agent's `.env` file cannot be read.
pub fn compose(home: &Home, agent: &Agent, definition: &Definition, choice: &Choice) -> Result<Environment, FileError> {
    let inherited = environment::inherited(&environment::of_this_process(), &agent.definition.inherit_env);
    let mut set: Variables = env_file::read(home, &agent.name)?;
    let trusted = &definition.trusted.env;
    let secret = agent.definition.inherit_env.iter().chain(set.keys()).chain(trusted.keys()).cloned().collect();
    set.extend(agent.definition.env.clone());
    set.extend(definition.env.clone());
    set.extend(choice.env.clone());
    set.extend(trusted.clone());
    Ok(Environment { inherited, set, secret })
}

/// Returns what an agent wants to inherit and neither a process with the variables `present` nor anything else gives it.
pub fn missing<'a>(
    agent: &'a Agent,
    present: impl Fn(&EnvName) -> bool + 'a,
) -> impl Iterator<Item = &'a EnvName> + 'a {
    agent.definition.inherit_env.iter().filter(move |name| !name.is_ours() && !present(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::definition::AgentDefinition;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), (*value).to_owned())).collect()
    }

    fn agent(accept_env: &[&str], env: Variables) -> Agent {
        let accept_env = accept_env.iter().map(|name| name.parse().unwrap()).collect();
        let definition = AgentDefinition { command: "x".into(), accept_env, env, ..AgentDefinition::default() };
        Agent { name: "a".parse().unwrap(), definition, source: AgentSource::BuiltIn }
    }

    #[test]
    fn only_names_that_the_agent_lists_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let slug = "r".parse().unwrap();
        let check = |names: &[&str], agent: &Agent| {
            let env = variables(&names.iter().map(|name| (*name, "")).collect::<Vec<_>>());
            check_accepted(&home, &slug, env.keys(), agent)
        };
        let open = agent(&["A", "B"], Variables::new());
        assert_eq!(check(&[], &agent(&[], Variables::new())), Ok(()));
        assert_eq!(check(&["A", "B"], &open), Ok(()));
        let error = check(&["A", "a", "C"], &open).unwrap_err();
        assert_eq!(error.names, "C, a");
        let text = error.to_string();
        for part in
            ["'a'", "accept_env", "agents/a.toml", "extends = \"a\"", "[trusted.env]", "routines/r/routine.toml"]
        {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert_eq!(check(&["C", "D", "E", "F", "G", "H", "I"], &open).unwrap_err().names, "C, D, E, F, G and 2 more");
    }

    #[test]
    fn what_a_person_wrote_counts_most() {
        let agent = agent(&["A", "B"], variables(&[("A", "agent"), ("B", "agent"), ("C", "agent")]));
        let mut definition =
            Definition { env: variables(&[("A", "routine"), ("B", "routine")]), ..Definition::default() };
        definition.trusted.env = variables(&[("A", "trusted")]);
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let file = env_file::path(&home, &agent.name);
        std::fs::write(&file, "C=file\nD=file\n").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let expected = variables(&[("A", "trusted"), ("B", "routine"), ("C", "agent"), ("D", "file")]);
        assert_eq!(compose(&home, &agent, &definition, &Choice::default()).unwrap().set, expected);
    }
}
