//! What a process that was killed left behind: temporary files, staged routines, and its registration.
//!
//! Workbenches are not looked into: nothing temporary of ours is in one, unless it is a mount of its own. An entry that is staged is its claim's
//! business, for it may be locked.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{registration, remove};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::names::{self, Kind};

/// How old a temporary file must be to be removed: its writer may be about to rename it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How many directories are looked into at a time. After that comes a pause nine times as long as it took: there may be tens of
/// thousands, nothing is urgent, and what a server does when it starts is waited for.
const AT_A_TIME: usize = 100;

/// Removes what is left over; returns what could not be removed or looked at.
#[must_use]
pub fn remove(home: &Home, now: UnixSeconds) -> Vec<FileError> {
    let mut errors = Vec::new();
    registration::remove_stale(home);
    for directory in [home.root().to_owned(), home.agents(), home.pins(), home.routines(), home.running()] {
        look_into(&directory, now, &mut errors);
    }
    for parent in [home.routines(), home.running()] {
        let mut directories = list(&parent, &mut errors, |_, kind| kind == Kind::Directory);
        while !directories.is_empty() {
            let began = Instant::now();
            for name in directories.drain(directories.len().saturating_sub(AT_A_TIME)..) {
                look_into(&parent.join(name), now, &mut errors);
            }
            if !directories.is_empty() {
                std::thread::sleep(began.elapsed() * 9);
            }
        }
    }
    errors
}

fn look_into(directory: &Path, now: UnixSeconds, errors: &mut Vec<FileError>) {
    for name in list(directory, errors, |name, _| atomic_file::is_temporary(name)) {
        if is_old(&directory.join(&name), now) {
            let removal = remove::remove(directory, name.as_ref(), &|| false);
            let failed = removal.failures.into_iter();
            errors.extend(failed.map(|failure| FileError::io("remove", &failure.path, failure.source)));
        }
    }
}

/// Lists those names in a directory that are wanted; one that is gone by now is empty.
fn list(directory: &Path, errors: &mut Vec<FileError>, is_wanted: impl Fn(&str, Kind) -> bool) -> Vec<String> {
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
    written.is_ok_and(|written| written.age_secs_at(now) > PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_leftovers_of_our_own_making_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let root = home.root();
        let suffix = crate::home::random_suffix();
        let files = [
            format!(".config.toml.{suffix}.tmp"),
            format!("agents/.a.toml.{suffix}.tmp"),
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
        assert!(remove(&home, now.plus_secs(PATIENCE.as_secs() + 5)).is_empty());
        for file in &files {
            assert!(!root.join(file).exists(), "{file}");
        }
        assert!(!root.join(format!("routines/.{suffix}.tmp")).exists());
        assert!(others.iter().all(|file| root.join(file).exists()));
    }
}
