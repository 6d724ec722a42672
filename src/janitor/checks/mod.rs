//! What is checked in a home, each rule once: `health` reports the problems that are found quickly, `doctor` everything.

mod agents;
mod background;
mod budgets;
mod home;
mod locks;
mod program;
mod routines;
mod slurm;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::peers::{self, Peer};
use super::stores::GoesNext;
use crate::agent::{Registry, SearchPath};
use crate::home::HomeError;
use crate::home::atomic_file::FileError;
use crate::query::listing;
use crate::query::view::RunView;
use crate::routine::known::Look;
use crate::run::context::{App, Context};
use crate::run::status::Status as RunStatus;

#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a word or two, or a path.
    pub what: String,
    /// Whether it is as it should be.
    pub well: bool,
    pub found: String,
    /// The command or the change that fixes it, or that would make it better.
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

    /// Reports that a check could not be made.
    fn unchecked(what: &str, error: &FileError) -> Self {
        let path = path_of(error);
        let fix = format!("make it readable: ls -ld '{}'", path.display());
        Self::problem_at(path, format!("cannot check {what}: {error}"), fix)
    }

    fn damaged(error: &FileError) -> Self {
        let path = path_of(error);
        let shown = path.display();
        let fix = format!("correct the file, or move it away: mv '{shown}' '{shown}.damaged'");
        Self::problem_at(path, error.to_string(), fix)
    }
}

fn path_of(error: &FileError) -> &Path {
    let (FileError::Io { path, .. } | FileError::Damaged { path, .. }) = error;
    path
}

/// What the checks look at, read once.
pub(super) struct Subject<'a> {
    pub(super) app: &'a App,
    pub(super) context: Context,
    pub(super) search_path: &'a SearchPath,
    pub(super) peers: Vec<Peer>,
    /// `None` where the agents cannot be listed.
    pub(super) registry: Option<Registry>,
    pub(super) runs: Vec<RunView>,
    unchecked: Vec<Finding>,
}

impl<'a> Subject<'a> {
    pub(super) fn read(app: &'a App, search_path: &'a SearchPath) -> Self {
        let context = app.context_for_looking();
        let home = &context.home;
        let mut unchecked = Vec::new();
        let mut fail = |what, error: FileError| unchecked.push(Finding::unchecked(what, &error));
        if let Err(error) = context.routines.refresh(home, Look::All) {
            fail("routines", error);
        }
        let registry = Registry::load(home).map_err(|error| fail("agents", error)).ok();
        let runs = listing::all(&context).map_err(|error| fail("runs", error)).unwrap_or_default();
        Self { app, search_path, peers: peers::of(home), registry, runs, context, unchecked }
    }

    pub(super) fn readable_routines(&self) -> usize {
        self.context.routines.known().summaries.iter().filter(|routine| routine.readable().is_some()).count()
    }

    /// Whether some routine fires by itself, or waits for another attempt.
    pub(super) fn is_anything_scheduled(&self) -> bool {
        let known = self.context.routines.known();
        known.summaries.iter().any(|routine| routine.plan().is_ok_and(|plan| plan.next_need().is_some()))
    }

    /// Returns which workbench goes next.
    pub(super) fn next_workbench(&self) -> Option<GoesNext> {
        let going = self.runs.iter().filter_map(|run| Some((run.reap_at?, &run.id)));
        going.min().map(|(at, run)| GoesNext { name: run.to_string(), at })
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

type Check = fn(&Subject<'_>) -> Vec<Finding>;

/// All checks, in the order in which `doctor` shows what they find.
const CHECKS: &[(By, Check)] = &[
    (By::Health, home::place),
    (By::Health, home::settings),
    (By::Health, home::program),
    (By::Health, home::windows),
    (By::Doctor, home::tmux),
    (By::Health, agents::login_shell),
    (By::Doctor, agents::commands),
    (By::Health, agents::definitions),
    (By::Health, agents::hiding),
    (By::Health, agents::preamble),
    (By::Health, agents::environments),
    (By::Health, agents::holds),
    (By::Doctor, background::peers),
    (By::Health, background::versions),
    (By::Doctor, background::service),
    (By::Health, background::passes),
    (By::Health, background::heartbeat),
    (By::Health, background::unarchived),
    (By::Health, background::log),
    (By::Health, locks::locks),
    (By::Health, slurm::cluster),
    // A lock that it found to reach counts for the next one.
    (By::Doctor, slurm::node),
    (By::Health, slurm::machine),
    (By::Doctor, home::clock),
    (By::Doctor, home::disk),
    (By::Doctor, home::stores),
    (By::Health, home::history),
    (By::Health, routines::routines),
    (By::Health, routines::runs),
    (By::Health, budgets::budgets),
];

/// Returns the problems that `health` reports.
pub(super) fn problems(subject: &Subject<'_>) -> Vec<Finding> {
    let checks = CHECKS.iter().filter(|(by, _)| *by == By::Health);
    let found = checks.flat_map(|(_, check)| check(subject));
    subject.unchecked.iter().cloned().chain(found.filter(|finding| !finding.well)).collect()
}

/// Returns everything that `doctor` shows; takes some seconds at most, and half a minute more for a job where runs take place on Slurm.
pub fn all(app: &App, search_path: &SearchPath) -> Vec<Finding> {
    let subject = Subject::read(app, search_path);
    let found = CHECKS.iter().flat_map(|(_, check)| check(&subject));
    subject.unchecked.iter().cloned().chain(found).collect()
}

/// Returns what `doctor` shows where the home cannot be opened.
#[must_use]
pub fn without_home(root: &Path, error: &HomeError) -> Vec<Finding> {
    vec![home::unopened(root, error), background::service_state()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listed_hides_nothing_else() {
        let (_dir, app) = App::example();
        let home = &app.home;
        let search_path = app.search_path();
        let sound = all(&app, &search_path);
        for folder in [home.routines(), home.agents(), home.running()] {
            std::fs::remove_dir(&folder).unwrap();
            std::fs::write(&folder, "").unwrap();
        }
        let found = all(&app, &search_path);
        for what in ["routines", "agents", "runs"] {
            let finding = found.iter().find(|finding| finding.found.starts_with(&format!("cannot check {what}: ")));
            let finding = finding.unwrap_or_else(|| panic!("{what}: {found:?}"));
            assert!(!finding.well && finding.path.is_some() && finding.fix.is_some(), "{finding:?}");
        }
        for what in ["home", "locks", "disk", "clock"] {
            assert_eq!(
                found.iter().find(|finding| finding.what == what).map(|finding| finding.well),
                sound.iter().find(|finding| finding.what == what).map(|finding| finding.well),
                "{what}: {found:?}"
            );
        }
        let problems = problems(&Subject::read(&app, &search_path));
        assert!(problems.iter().any(|problem| problem.found.starts_with("cannot check runs: ")), "{problems:?}");
    }
}
