//! The repositories below a directory.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::program::GitError;
use crate::home::{atomic_file, restore_access};

/// How deep below the directory a repository may be, and how many there may be.
pub(crate) const MAX_DEPTH: usize = 4;
pub(crate) const MAX_REPOSITORIES: usize = 64;

/// A `.git` file, or a `commondir`, says one path.
const MAX_POINTER_BYTES: u64 = 64 * 1024;

/// What was found below a directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Sorted by path; no more than [`MAX_REPOSITORIES`].
    pub(crate) found: Vec<Found>,
    /// Directories that could not be listed, and repositories beyond the most.
    pub(crate) skipped: Vec<(PathBuf, String)>,
}

/// A repository, or what is one by its looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it is, below the directory that was searched; empty for that directory itself.
    pub(crate) path: PathBuf,
    /// Where git keeps its data, or why it cannot be examined.
    pub(crate) git_dir: Result<PathBuf, String>,
    /// Whether the directory is the repository; else its files are beside `.git`, which may be a file or a link: a linked
    /// worktree, a submodule, a separate git directory.
    pub(crate) is_bare: bool,
}

/// Finds the repositories at most [`MAX_DEPTH`] below a directory. Follows no symlink and enters no other file system.
///
/// # Errors
/// It takes too long, or the directory itself cannot be read.
pub(crate) fn find(root: &Path, deadline: Instant) -> Result<Listing, GitError> {
    let metadata = root.symlink_metadata().map_err(|source| GitError::io("look at", root, source))?;
    let mut listing = Listing::default();
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        if Instant::now() >= deadline {
            return Err(GitError::Odd("looking for repositories timed out".to_owned()));
        }
        let directory = root.join(&path);
        // An agent may close what it made; nothing is alive there by now. What stays closed shows below.
        if directory.symlink_metadata().is_ok_and(|metadata| metadata.mode() & 0o500 != 0o500) {
            let _ = restore_access(&directory);
        }
        let found = look_at(&path, &directory);
        let is_bare = found.as_ref().is_some_and(|found| found.is_bare);
        match found {
            Some(_) if depth > MAX_DEPTH => {
                listing.skipped.push((path, format!("it is more than {MAX_DEPTH} directories deep")));
                continue;
            }
            _ if depth > MAX_DEPTH => continue,
            Some(_) if listing.found.len() >= MAX_REPOSITORIES => {
                listing.skipped.push((path.clone(), format!("there are more than {MAX_REPOSITORIES} repositories")));
            }
            Some(found) => listing.found.push(found),
            None => {}
        }
        match directories_in(&directory, &metadata, is_bare) {
            Ok(names) => waiting.extend(names.into_iter().map(|name| (path.join(name), depth + 1))),
            Err(source) if path.as_os_str().is_empty() => return Err(GitError::io("list", root, source)),
            Err(source) => listing.skipped.push((path, format!("it cannot be listed: {source}"))),
        }
    }
    listing.found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(listing)
}

/// What is git's own in a bare repository; anything else in it may be a working tree.
const PARTS_OF_A_REPOSITORY: [&str; 9] =
    ["objects", "refs", "hooks", "logs", "info", "worktrees", "modules", "lfs", "reftable"];

fn directories_in(directory: &Path, root: &Metadata, is_bare: bool) -> std::io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(directory)? {
        let file = file?;
        let is_gits = |name: &str| name == ".git" || (is_bare && PARTS_OF_A_REPOSITORY.contains(&name));
        if !file.file_type()?.is_dir() || file.file_name().to_str().is_some_and(is_gits) {
            continue;
        }
        match file.metadata() {
            Ok(metadata) if metadata.dev() == root.dev() => names.push(file.file_name()),
            // A mount, or gone meanwhile.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// Returns what a directory is to git, `None` if nothing.
fn look_at(path: &Path, directory: &Path) -> Option<Found> {
    let (dot_git, path) = (directory.join(".git"), path.to_owned());
    let git_dir = match dot_git.symlink_metadata() {
        // Sandboxes leave an empty one, so that nothing can be put there.
        Ok(metadata) if metadata.is_dir() => {
            let is_empty = std::fs::read_dir(&dot_git).is_ok_and(|mut files| files.next().is_none());
            (!is_empty).then_some(Ok(dot_git))?
        }
        Ok(metadata) if metadata.is_file() => pointed_to(directory, &dot_git, "gitdir: "),
        Ok(metadata) if metadata.is_symlink() => {
            dot_git.canonicalize().map_err(|error| format!("its .git is a link that leads nowhere: {error}"))
        }
        Ok(_) => Err("its .git is neither a directory nor a file".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return is_bare(directory).then(|| Found { path, git_dir: Ok(directory.to_owned()), is_bare: true });
        }
        Err(error) => Err(format!("its .git cannot be looked at: {error}")),
    };
    Some(Found { path, git_dir, is_bare: false })
}

/// As git itself tells a bare repository from any other directory.
fn is_bare(directory: &Path) -> bool {
    let is_dir = |name: &str| directory.join(name).symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    is_dir("objects") && is_dir("refs") && directory.join("HEAD").symlink_metadata().is_ok()
}

/// Reads a file that holds a path, relative to the directory that it is in; returns that path without links.
pub(super) fn pointed_to(directory: &Path, file: &Path, prefix: &str) -> Result<PathBuf, String> {
    let bytes = atomic_file::read(file, MAX_POINTER_BYTES).map_err(|error| error.to_string())?;
    let path = bytes.strip_prefix(prefix.as_bytes()).unwrap_or_default();
    let path = path.strip_suffix(b"\n").unwrap_or(path);
    if path.is_empty() {
        return Err(format!("{} names no directory", file.display()));
    }
    let named = directory.join(OsStr::from_bytes(path));
    named.canonicalize().map_err(|error| format!("{} names {}: {error}", file.display(), named.display()))
}
