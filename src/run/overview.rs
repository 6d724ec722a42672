//! A routine as everybody is shown it, with its runs.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::id::RunId;
use super::listing;
use super::record::Status;
use super::view::RunView;
use super::workplace::Workplace;
use crate::agent::{AgentName, Registry, SearchPath};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::routine::bounds::{Bounds, RoutineState};
use crate::routine::model::Routine;
use crate::routine::slug::Slug;

/// What is known of one routine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutineView {
    /// Its permanent name.
    pub slug: Slug,
    /// What people call it.
    pub title: String,
    /// The agent that runs it.
    pub agent: String,
    /// Whether that agent's command is to be found.
    pub agent_available: bool,
    /// Whether it may be triggered.
    pub enabled: bool,
    /// The retention in force.
    pub ttl_secs: u64,
    /// The runtime in force.
    pub max_runtime_secs: u64,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The names of the variables that it sets; never their values.
    pub env_keys: Vec<String>,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When it was last changed.
    pub updated_at: UnixSeconds,
    /// Its unfinished runs.
    pub running: Vec<RunId>,
    /// Its newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
}

/// A routine's newest run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// Its id.
    pub run: RunId,
    /// How it is, or how it ended.
    pub status: Status,
    /// When it was triggered.
    pub triggered_at: UnixSeconds,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<UnixSeconds>,
}

impl From<RunView> for LastRun {
    fn from(run: RunView) -> Self {
        Self { run: run.id, status: run.status, triggered_at: run.triggered_at, finished_at: run.finished_at }
    }
}

/// What is read once to show any number of routines.
#[derive(Debug)]
pub struct Overview<'a> {
    workplace: &'a Workplace,
    registry: Registry,
    search_path: &'a SearchPath,
    running: BTreeMap<Slug, Vec<RunId>>,
    newest: HashMap<Slug, UnixSeconds>,
}

impl<'a> Overview<'a> {
    /// Reads which runs and agents there are.
    ///
    /// # Errors
    /// A folder of the home cannot be listed.
    pub fn read(workplace: &'a Workplace, search_path: &'a SearchPath) -> Result<Self, FileError> {
        let mut newest: HashMap<Slug, UnixSeconds> = HashMap::new();
        let mut running: BTreeMap<Slug, Vec<RunId>> = BTreeMap::new();
        // There may be very many, so that nothing is made of a name unless it is the first of its routine.
        listing::scan_workbenches(&workplace.home, |slug, stamp| match newest.get_mut(slug) {
            Some(newest) => *newest = stamp.max(*newest),
            None => newest.extend(slug.parse().ok().map(|slug: Slug| (slug, stamp))),
        })?;
        for entry in Entry::list(&workplace.home)? {
            let newest = newest.entry(entry.id().routine().clone()).or_default();
            *newest = entry.id().stamp().max(*newest);
            running.entry(entry.id().routine().clone()).or_default().push(entry.id().clone());
        }
        let registry = Registry::load(&workplace.home)?;
        Ok(Self { workplace, registry, search_path, running, newest })
    }

    /// Shows a routine.
    #[must_use]
    pub fn view(&self, routine: &Routine) -> RoutineView {
        let Routine { slug, definition } = routine;
        let bounds = Bounds::decide(RoutineState::Present(definition), &self.workplace.config);
        RoutineView {
            slug: slug.clone(),
            title: definition.title.clone(),
            agent: definition.agent.clone(),
            agent_available: self.is_available(&definition.agent),
            enabled: definition.enabled,
            ttl_secs: bounds.ttl_secs,
            max_runtime_secs: bounds.max_runtime_secs,
            tags: definition.tags.clone(),
            env_keys: definition.env.keys().map(ToString::to_string).collect(),
            created_at: definition.created_at,
            updated_at: definition.updated_at,
            running: self.running.get(slug).cloned().unwrap_or_default(),
            last_run: self.newest.get(slug).and_then(|stamp| self.last_run(&RunId::new(slug.clone(), *stamp))),
        }
    }

    fn is_available(&self, agent: &str) -> bool {
        let agent = agent.parse::<AgentName>().and_then(|name| self.registry.get(&name));
        agent.is_ok_and(|agent| self.search_path.find(&agent.definition).is_ok())
    }

    fn last_run(&self, id: &RunId) -> Option<LastRun> {
        listing::find(self.workplace, id).ok().map(LastRun::from)
    }
}
