//! Which agents there are: the built-in ones, and `agents/<name>.toml`, which wins.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use super::built_in;
use super::definition::{self, AgentDefinition};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::file_cache::FileCache;
use crate::home::names;
use crate::quote::quote;
use crate::text_type::text_type;

/// An agent's name: the stem of its file; lower-case letters, digits, dashes and underscores, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct AgentName(String);

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("'{0}' is not an agent's name: lower-case letters, digits, dashes and underscores, 64 characters at most")]
    NotAName(String),
    #[error(
        "there is no agent '{name}'; known: {known}; to add it, a person writes {file}; see list_agents (moadim-mcp agents)"
    )]
    Unknown { name: AgentName, known: String, file: PathBuf },
    #[error(transparent)]
    File(Arc<FileError>),
}

impl FromStr for AgentName {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, AgentError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(AgentError::NotAName(quote(text, 64)))
        }
    }
}

text_type!(AgentName(text));

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSource {
    BuiltIn,
    File(PathBuf),
}

impl fmt::Display for AgentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub name: AgentName,
    pub definition: AgentDefinition,
    pub source: AgentSource,
}

/// The agents of a home, as its files are now.
#[derive(Debug)]
pub struct Registry {
    agents: BTreeMap<AgentName, Result<Agent, Arc<FileError>>>,
    directory: PathBuf,
    misnamed: Vec<PathBuf>,
}

impl Registry {
    /// Reads the agents; a broken file takes away the agent it names, and no other.
    pub fn load(home: &Home) -> Result<Self, FileError> {
        let directory = home.agents();
        let (mut agents, mut misnamed) = (BTreeMap::new(), Vec::new());
        for name in built_in::names().map(|name| AgentName(name.to_owned())) {
            if let Some(definition) = built_in_definition(&name) {
                agents.insert(name.clone(), Ok(Agent { name, definition, source: AgentSource::BuiltIn }));
            }
        }
        let fail = |source| FileError::io("list", &directory, source);
        for file in std::fs::read_dir(&directory).map_err(fail)? {
            let path = file.map_err(fail)?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<AgentName>().ok()) else {
                misnamed.push(path);
                continue;
            };
            let agent = definition::read(&path).map(|definition| Agent {
                name: name.clone(),
                definition,
                source: AgentSource::File(path),
            });
            agents.insert(name, agent.map_err(Arc::new));
        }
        Ok(Self { agents, directory, misnamed })
    }

    pub fn get(&self, name: &AgentName) -> Result<Agent, AgentError> {
        match self.agents.get(name) {
            Some(Ok(agent)) => Ok(agent.clone()),
            Some(Err(error)) => Err(AgentError::File(Arc::clone(error))),
            None => Err(AgentError::Unknown {
                known: self.agents.keys().map(AgentName::to_string).collect::<Vec<_>>().join(", "),
                file: file_of(&self.directory, name),
                name: name.clone(),
            }),
        }
    }

    /// Returns the usable agents by name.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().filter_map(|agent| agent.as_ref().ok())
    }

    /// Returns the files that hide a built-in agent without extending that one.
    pub fn hiding(&self) -> impl Iterator<Item = (&Agent, &Path)> {
        self.agents().filter_map(|agent| match &agent.source {
            AgentSource::File(path)
                if built_in::text(&agent.name.0).is_some()
                    && agent.definition.extends.as_deref() != Some(&agent.name.0) =>
            {
                Some((agent, path.as_path()))
            }
            _ => None,
        })
    }

    /// Returns the files that look like an agent's and have no agent's name.
    pub fn misnamed(&self) -> &[PathBuf] {
        &self.misnamed
    }

    pub fn problems(&self) -> impl Iterator<Item = &FileError> {
        self.agents.values().filter_map(|agent| agent.as_ref().err().map(AsRef::as_ref))
    }
}

/// Returns the names of the built-in agents and of those that have a file, readable or not.
pub fn agent_names(home: &Home) -> BTreeSet<AgentName> {
    let mut names: BTreeSet<AgentName> = built_in::names().map(|name| AgentName(name.to_owned())).collect();
    // Where the directory cannot be listed, the built-in ones are still there.
    let _ = names::scan(&home.agents(), |file, _| {
        names.extend(file.strip_suffix(".toml").and_then(|name| name.parse::<AgentName>().ok()));
    });
    names
}

/// Returns what the agent of that name runs, from a file that did not change as it was last parsed; `None` if there is no such
/// agent, or its file is wrong. Where the directory cannot be searched, only the built-in ones are found.
pub fn find_for_looking(home: &Home, name: &AgentName) -> Option<AgentDefinition> {
    static PARSED: FileCache<AgentDefinition> = FileCache::new();
    let file = file_of(&home.agents(), name);
    match PARSED.get(&file, || definition::read(&file)) {
        Ok(None) => built_in_definition(name),
        found => found.ok().flatten(),
    }
}

/// Returns the definition of a built-in agent; a test makes sure that each can be read.
fn built_in_definition(name: &AgentName) -> Option<AgentDefinition> {
    static PARSED: LazyLock<BTreeMap<&str, AgentDefinition>> = LazyLock::new(|| {
        let parsed = |name| Some((name, definition::parse(built_in::text(name)?).ok()?));
        built_in::names().filter_map(parsed).collect()
    });
    PARSED.get(name.0.as_str()).cloned()
}

fn file_of(directory: &Path, name: &AgentName) -> PathBuf {
    directory.join(format!("{name}.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        for (name, text) in files {
            std::fs::write(home.agents().join(name), text).unwrap();
        }
        (dir, home)
    }

    fn get(home: &Home, name: &str) -> Result<Agent, AgentError> {
        Registry::load(home).unwrap().get(&name.parse().unwrap())
    }

    #[test]
    fn the_built_in_agents_need_no_file_and_a_file_wins() {
        let (_dir, home) = home_with(&[("codex.toml", "command = '/opt/codex'\nargs = ['{prompt_file}']")]);
        assert_eq!(get(&home, "claude").unwrap().source, AgentSource::BuiltIn);
        assert_eq!(get(&home, "codex").unwrap().definition.command, "/opt/codex");
        assert!(matches!(get(&home, "sh"), Err(AgentError::Unknown { .. })));
        for name in ["claude", "codex", "sh"] {
            let looked_up = find_for_looking(&home, &name.parse().unwrap());
            assert_eq!(looked_up, get(&home, name).ok().map(|agent| agent.definition), "{name}");
        }
    }

    #[test]
    fn a_broken_file_takes_away_its_agent_alone() {
        let (_dir, home) = home_with(&[("bad.toml", "comand = 'x'"), ("good.toml", "command = 'x'"), ("UP.toml", "")]);
        let error = get(&home, "bad").unwrap_err().to_string();
        assert!(error.contains("bad.toml") && error.contains("comand"), "{error}");
        assert!(get(&home, "good").is_ok());
        assert_eq!(find_for_looking(&home, &"bad".parse().unwrap()), None);
        assert_eq!(Registry::load(&home).unwrap().problems().count(), 1);
    }

    #[test]
    fn senseless_definitions_are_refused() {
        for text in ["command = ''", "command = './x'", "command = 'x'\nenv = { MOADIM_COOKIE = '1' }"] {
            let (_dir, home) = home_with(&[("a.toml", text)]);
            assert!(get(&home, "a").is_err(), "{text}");
        }
    }
}
