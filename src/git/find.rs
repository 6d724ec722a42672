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
    /// Where git keeps its data.
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With its files beside `.git`.
    Ordinary { git_dir: PathBuf },
    /// The directory is the repository.
    Bare { git_dir: PathBuf },
    /// `.git` is a file, or a link, that names this directory: a linked worktree, a submodule, a separate git directory.
    Pointer { git_dir: PathBuf },
    /// It cannot be examined, for this reason.
    Odd(String),
}

impl Found {
    /// Where git keeps its data, if that is known.
    pub(super) fn git_dir(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Ordinary { git_dir } | Kind::Bare { git_dir } | Kind::Pointer { git_dir } => Some(git_dir.clone()),
            Kind::Odd(_) => None,
        }
    }
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
        let kind = kind_of(&directory);
        let is_bare = matches!(kind, Some(Kind::Bare { .. }));
        match kind {
            Some(_) if depth > MAX_DEPTH => {
                listing.skipped.push((path, format!("it is more than {MAX_DEPTH} directories deep")));
                continue;
            }
            _ if depth > MAX_DEPTH => continue,
            Some(_) if listing.found.len() >= MAX_REPOSITORIES => {
                listing.skipped.push((path.clone(), format!("there are more than {MAX_REPOSITORIES} repositories")));
            }
            Some(kind) => listing.found.push(Found { path: path.clone(), kind }),
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
fn kind_of(directory: &Path) -> Option<Kind> {
    let dot_git = directory.join(".git");
    match dot_git.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            // Sandboxes leave an empty one, so that nothing can be put there.
            let is_empty = std::fs::read_dir(&dot_git).is_ok_and(|mut files| files.next().is_none());
            (!is_empty).then_some(Kind::Ordinary { git_dir: dot_git })
        }
        Ok(metadata) if metadata.is_file() => Some(match pointed_to(directory, &dot_git, "gitdir: ") {
            Ok(git_dir) => Kind::Pointer { git_dir },
            Err(problem) => Kind::Odd(problem),
        }),
        Ok(metadata) if metadata.is_symlink() => Some(match dot_git.canonicalize() {
            Ok(git_dir) => Kind::Pointer { git_dir },
            Err(error) => Kind::Odd(format!("its .git is a link that leads nowhere: {error}")),
        }),
        Ok(_) => Some(Kind::Odd("its .git is neither a directory nor a file".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            is_bare(directory).then(|| Kind::Bare { git_dir: directory.to_owned() })
        }
        Err(error) => Some(Kind::Odd(format!("its .git cannot be looked at: {error}"))),
    }
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
