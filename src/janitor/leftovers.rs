//! What a process that was killed left behind: temporary files, staged routines, and its registration.
//!
//! Workbenches are not looked into: nothing temporary of ours is in one, unless it is a mount of its own. An entry that is staged is its claim's
//! business, for it may be locked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{registration, remove};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};

/// How old a temporary file must be to be removed: its writer may be about to rename it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Removes what is left over; returns what could not be removed or looked at.
#[must_use]
pub fn remove(home: &Home, now: UnixSeconds) -> Vec<FileError> {
    let mut errors = Vec::new();
    registration::remove_stale(home);
    let mut directories = vec![home.root().to_owned(), home.agents(), home.pins()];
    for parent in [home.routines(), home.running()] {
        directories.extend(below(&parent, &mut errors));
        directories.push(parent);
    }
    for directory in directories {
        for path in list(&directory, &mut errors) {
            let name = path.file_name().unwrap_or_default();
            if name.to_str().is_some_and(atomic_file::is_temporary) && is_old(&path, now) {
                let removal = remove::remove(&directory, name, &|| false);
                let failed = removal.failures.into_iter();
                errors.extend(failed.map(|failure| FileError::io("remove", &failure.path, failure.source)));
            }
        }
    }
    errors
}

fn below(parent: &Path, errors: &mut Vec<FileError>) -> Vec<PathBuf> {
    let mut paths = list(parent, errors);
    paths.retain(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()));
    paths
}

/// Lists a directory; one that is gone by now is empty.
fn list(directory: &Path, errors: &mut Vec<FileError>) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).and_then(|files| files.map(|file| Ok(file?.path())).collect());
    listed.unwrap_or_else(|source| {
        if source.kind() != std::io::ErrorKind::NotFound {
            errors.push(FileError::io("list", directory, source));
        }
        Vec::new()
    })
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
