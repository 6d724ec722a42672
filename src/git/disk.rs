//! The disk as `restore` finds it: what is read from an archive, and where there is room for what comes back.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::program::GitError;
use super::shadow::names_in;
use crate::home::make_directory;

/// Returns the directory, or one beside it, where no repository is yet. One may be there by way of another's untracked
/// files: with the agent's configuration and hooks, which git would heed.
pub(super) fn vacant(wanted: &Path, is_bare: bool) -> Result<PathBuf, GitError> {
    let is_vacant = |target: &Path| match (is_bare, target.symlink_metadata()) {
        (_, Err(error)) if error.kind() == ErrorKind::NotFound => Ok(true),
        (_, Err(source)) => Err(GitError::io("look at", target, source)),
        (_, Ok(metadata)) if !metadata.is_dir() => Ok(false),
        (true, Ok(_)) => names_in(target).map(|names| names.is_empty()),
        (false, Ok(_)) => Ok(target.join(".git").symlink_metadata().is_err()),
    };
    let mut target = wanted.to_owned();
    for number in 2_u64.. {
        if is_vacant(&target)? {
            break;
        }
        let mut name = wanted.file_name().unwrap_or_default().to_owned();
        name.push(format!("-{number}"));
        target.set_file_name(name);
    }
    Ok(target)
}

/// Names what is not there yet, beside a directory.
pub(super) fn free(directory: &Path, name: &str) -> PathBuf {
    let beside = |number: usize| {
        let mut beside = OsString::from(directory);
        beside.push(if number == 0 { format!(".{name}") } else { format!(".{name}.{number}") });
        PathBuf::from(beside)
    };
    (0..).map(beside).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| beside(0))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, GitError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| GitError::io("read", path, source)),
    }
}

pub(super) fn remove(path: &Path) -> Result<(), GitError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || path.is_dir() => Ok(()),
        removed => removed.map_err(|source| GitError::io("remove", path, source)),
    }
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<(), GitError> {
    std::fs::copy(from, to).map(drop).map_err(|source| GitError::io("copy", from, source))
}

pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), GitError> {
    make_directory(to).map_err(|source| GitError::io("make", to, source))?;
    for name in names_in(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { copy_tree(&from, &to)? } else { copy(&from, &to)? }
    }
    Ok(())
}
