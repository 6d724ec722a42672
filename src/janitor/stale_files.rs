//! Removes what killed processes left behind: temporary files, staged routines, registrations and marks; and holds that are over.
//!
//! Workbenches are skipped: nothing temporary of ours is in one, unless it is a mount of its own. Staged entries are left to
//! `run::claim`, because they may be locked.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::{attention, registration, remove};
use crate::clock::UnixSeconds;
use crate::engine::slurm::remove_unused_programs;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::names::{self, Kind};
use crate::run::entry::Entry;
use crate::run::hold;
use crate::run::job_order::is_on_slurm;

/// The age from which a temporary file is stale: before, its writer may still rename it.
const STALE_AGE: Duration = Duration::from_secs(60);

/// How many directories of routines and runs one pass looks into; the next pass goes on after them.
const DIRECTORIES_PER_PASS: usize = 1_000;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Removes what is stale; returns what could not be removed or read.
#[must_use]
pub(super) fn remove(home: &Home, now: UnixSeconds) -> Vec<FileError> {
    let mut errors = hold::remove_old(home, now);
    registration::remove_stale(home);
    attention::remove_stale(home);
    if Entry::list(home).is_ok_and(|entries| !entries.iter().any(is_on_slurm)) {
        let removed = remove_unused_programs(&home.bin(), now);
        errors.extend(removed.err().map(|source| FileError::io("tidy", &home.bin(), source)));
    }
    let directories = [
        home.root().to_owned(),
        home.bin(),
        home.agents(),
        home.pins(),
        home.holds(),
        home.questions(),
        home.open_questions(),
        home.continuations(),
        home.routines(),
        home.running(),
        home.webhook_tokens(),
        home.locks(),
    ];
    for directory in directories {
        remove_from(&directory, now, &mut errors);
    }
    let first = NEXT.load(Relaxed);
    let mut directories = 0..;
    for parent in [home.routines(), home.running()] {
        let is_in_turn = |_: &str, kind| {
            kind == Kind::Directory
                && directories.next().is_some_and(|at| (first..first + DIRECTORIES_PER_PASS).contains(&at))
        };
        for name in list(&parent, &mut errors, is_in_turn) {
            remove_from(&parent.join(name), now, &mut errors);
        }
    }
    let next = first + DIRECTORIES_PER_PASS;
    NEXT.store(if next < directories.start { next } else { 0 }, Relaxed);
    errors
}

fn remove_from(directory: &Path, now: UnixSeconds, errors: &mut Vec<FileError>) {
    for name in list(directory, errors, |name, _| atomic_file::is_temporary(name)) {
        if is_old(&directory.join(&name), now) {
            let removal = remove::remove(directory, name.as_ref(), &|| false);
            let failed = removal.failures.into_iter();
            errors.extend(failed.map(|failure| FileError::io("remove", &failure.path, failure.source)));
        }
    }
}

/// Lists the wanted names in a directory, which may be gone by now.
fn list(directory: &Path, errors: &mut Vec<FileError>, mut is_wanted: impl FnMut(&str, Kind) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    let listed = names::scan(directory, |name, kind| {
        if is_wanted(name, kind) {
            names.push(name.to_owned());
        }
    });
    errors.extend(listed.err().filter(|error| !error.is_not_found()));
    names
}

fn is_old(path: &Path, now: UnixSeconds) -> bool {
    let written = path.symlink_metadata().and_then(|metadata| metadata.modified()).map(UnixSeconds::from);
    written.is_ok_and(|written| written.age_secs_at(now) > STALE_AGE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_files_of_our_own_making_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let root = home.root();
        let suffix = crate::home::random_suffix();
        let files = [
            format!(".config.toml.{suffix}.tmp"),
            format!("agents/.a.toml.{suffix}.tmp"),
            format!("webhook_tokens/.1.json.{suffix}.tmp"),
            format!("routines/.{suffix}.tmp/prompt.md"),
            format!("routines/r/.routine.toml.{suffix}.tmp"),
            format!("running/r-1/.end.json.{suffix}.tmp"),
        ];
        let others = [
            format!("workbenches/r-1/.outcome.json.{suffix}.tmp"),
            "routines/r/.swap.tmp".to_owned(),
            format!("running/.{suffix}/lock"),
            "running/r-1/run.json".to_owned(),
        ];
        for file in files.iter().chain(&others) {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "{").unwrap();
        }
        let now = UnixSeconds::now();
        assert!(remove(&home, now).is_empty());
        assert!(files.iter().all(|file| root.join(file).exists()), "their writers may be alive");
        assert!(remove(&home, now.plus_secs(STALE_AGE.as_secs() + 5)).is_empty());
        for file in &files {
            assert!(!root.join(file).exists(), "{file}");
        }
        assert!(!root.join(format!("routines/.{suffix}.tmp")).exists());
        assert!(others.iter().all(|file| root.join(file).exists()));
    }
}
