//! What is checked in a home, each rule once: `health` reports the problems that are found quickly, `doctor` everything.

mod agents;
mod background;
mod home;
mod locks;
mod routines;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::peers::{self, Peer};
use crate::agent::{Registry, SearchPath};
use crate::home::HomeError;
use crate::home::atomic_file::FileError;
use crate::query::listing;
use crate::query::view::RunView;
use crate::routine::known::Look;
use crate::run::context::{App, Context};
use crate::run::status::Status as RunStatus;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a word or two, or a path.
    pub what: String,
    /// Whether it is as it should be.
    pub well: bool,
    pub found: String,
    /// The command or the change that fixes it, or that would make it better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The file or directory of a problem.
    #[serde(skip)]
    pub(super) path: Option<String>,
}

impl Finding {
    fn well(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.to_owned(), well: true, found: found.into(), fix: None, path: None }
    }

    fn hint(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    fn problem(what: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { well: false, ..Self::well(what, found) }.hint(fix)
    }

    fn problem_at(path: impl AsRef<Path>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        let path = path.as_ref().display().to_string();
        Self { path: Some(path.clone()), ..Self::problem(&path, found, fix) }
    }

    fn damaged(error: &FileError) -> Self {
        let (FileError::Io { path, .. } | FileError::Damaged { path, .. }) = error;
        let shown = path.display();
        let fix = format!("correct the file, or move it away: mv '{shown}' '{shown}.damaged'");
        Self::problem_at(path, error.to_string(), fix)
    }
}

type Findings = Result<Vec<Finding>, FileError>;

/// What the checks look at, read once.
pub(super) struct Subject<'a> {
    pub(super) app: &'a App,
    pub(super) context: Context,
    pub(super) search_path: &'a SearchPath,
    pub(super) peers: Vec<Peer>,
    pub(super) registry: Registry,
    pub(super) runs: Vec<RunView>,
}

impl<'a> Subject<'a> {
    pub(super) fn read(app: &'a App, search_path: &'a SearchPath) -> Result<Self, FileError> {
        let context = app.context_for_looking();
        context.routines.refresh(&context.home, Look::All)?;
        Ok(Self {
            app,
            search_path,
            peers: peers::of(&context.home),
            registry: Registry::load(&context.home)?,
            runs: listing::all(&context)?,
            context,
        })
    }

    pub(super) fn readable_routines(&self) -> usize {
        let mut count = 0;
        self.context.routines.each(|routine| count += usize::from(routine.limits().is_some()));
        count
    }

    pub(super) fn runs_by_status(&self) -> BTreeMap<RunStatus, usize> {
        let mut counts = BTreeMap::new();
        for run in &self.runs {
            *counts.entry(run.status).or_insert(0) += 1;
        }
        counts
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// `health`, which takes the problems alone, and `doctor`.
    Health,
    Doctor,
}

type Check = fn(&Subject<'_>) -> Findings;

/// All checks, in the order in which `doctor` shows what they find.
const CHECKS: [(By, Check); 19] = [
    (By::Health, home::place),
    (By::Health, home::settings),
    (By::Health, home::program),
    (By::Health, home::windows),
    (By::Doctor, home::tmux),
    (By::Health, agents::login_shell),
    (By::Doctor, agents::commands),
    (By::Health, agents::definitions),
    (By::Health, agents::environments),
    (By::Health, background::peers),
    (By::Doctor, background::service),
    (By::Health, background::passes),
    (By::Health, background::log),
    (By::Health, locks::locks),
    (By::Doctor, home::clock),
    (By::Doctor, home::disk),
    (By::Health, home::history),
    (By::Health, routines::routines),
    (By::Health, routines::runs),
];

/// Returns the problems that `health` reports.
pub(super) fn problems(subject: &Subject<'_>) -> Findings {
    let mut problems = Vec::new();
    for (_, check) in CHECKS.iter().filter(|(by, _)| *by == By::Health) {
        problems.extend(check(subject)?.into_iter().filter(|finding| !finding.well));
    }
    Ok(problems)
}

/// Returns everything that `doctor` shows; takes some seconds at most.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn all(app: &App, search_path: &SearchPath) -> Findings {
    let subject = Subject::read(app, search_path)?;
    let mut findings = Vec::new();
    for (_, check) in CHECKS {
        findings.extend(check(&subject)?);
    }
    Ok(findings)
}

/// Returns what `doctor` shows where the home cannot be opened.
#[must_use]
pub fn without_home(root: &Path, error: &HomeError) -> Vec<Finding> {
    vec![home::unopened(root, error), background::service_state()]
}
