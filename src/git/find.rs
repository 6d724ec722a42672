//! The repositories below a directory.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{DirEntry, FileType};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::program::GitError;
use crate::home::{atomic_file, restore_access};

/// How many repositories are examined: those nearest to the directory.
pub(crate) const MAX_REPOSITORIES: usize = 64;

/// A `.git` file, or a `commondir`, says one path.
const MAX_POINTER_BYTES: u64 = 64 * 1024;

/// What is done about a directory that its owner may not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It is opened: the run is over, and its workbench is examined before it goes.
    Open,
    /// It stays as it is, and is reported: somebody may be at work there, or a dry run may change nothing.
    Report,
}

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

/// Finds the repositories below a directory, however deep. Follows no symlink and enters no other file system.
///
/// # Errors
/// It takes too long, or the directory itself cannot be read.
pub(crate) fn find(root: &Path, closed: Closed, deadline: Instant) -> Result<Listing, GitError> {
    let device = root.symlink_metadata().map_err(|source| GitError::io("look at", root, source))?.dev();
    let mut listing = Listing::default();
    // The nearest first, since only so many are examined.
    let mut waiting = VecDeque::from([PathBuf::new()]);
    while let Some(path) = waiting.pop_front() {
        if Instant::now() >= deadline {
            return Err(GitError::Odd("looking for repositories timed out".to_owned()));
        }
        let directory = root.join(&path);
        let files = match files_in(&directory, device, closed) {
            Ok(Some(files)) => files,
            Ok(None) if path.as_os_str().is_empty() => return Err(GitError::odd(root, "is not a directory")),
            Ok(None) => continue,
            Err(source) if path.as_os_str().is_empty() => return Err(GitError::io("list", root, source)),
            Err(source) => {
                listing.skipped.push((path, format!("it cannot be listed: {source}")));
                continue;
            }
        };
        let kind = kind_of(&directory, &files);
        let is_bare = matches!(kind, Some(Kind::Bare { .. }));
        let is_gits = |name: &&OsString| {
            let name = name.to_str().unwrap_or_default();
            name == ".git" || (is_bare && PARTS_OF_A_REPOSITORY.contains(&name))
        };
        match kind {
            Some(_) if listing.found.len() >= MAX_REPOSITORIES => {
                listing.skipped.push((path.clone(), format!("there are more than {MAX_REPOSITORIES} repositories")));
            }
            Some(kind) => listing.found.push(Found { path: path.clone(), kind }),
            None => {}
        }
        let inner = files.iter().filter(|(_, kind)| kind.is_dir()).map(|(name, _)| name);
        waiting.extend(inner.filter(|name| !is_gits(name)).map(|name| path.join(name)));
    }
    listing.found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(listing)
}

/// What is git's own in a bare repository; anything else in it may be a working tree.
const PARTS_OF_A_REPOSITORY: [&str; 9] =
    ["objects", "refs", "hooks", "logs", "info", "worktrees", "modules", "lfs", "reftable"];

/// Lists a directory, unless it is a mount or gone. The kinds of its files come with their names, so that none of them
/// is looked at.
fn files_in(directory: &Path, device: u64, closed: Closed) -> std::io::Result<Option<BTreeMap<OsString, FileType>>> {
    let metadata = match directory.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() && metadata.dev() == device => metadata,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if closed == Closed::Open && metadata.mode() & 0o500 != 0o500 {
        // What stays closed shows below.
        let _ = restore_access(directory);
    }
    let kind_of = |file: std::io::Result<DirEntry>| file.and_then(|file| Ok((file.file_name(), file.file_type()?)));
    match std::fs::read_dir(directory).and_then(|files| files.map(kind_of).collect()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        files => files.map(Some),
    }
}

/// Returns what a directory with these files is to git, `None` if nothing.
fn kind_of(directory: &Path, files: &BTreeMap<OsString, FileType>) -> Option<Kind> {
    let dot_git = directory.join(".git");
    match files.get(OsStr::new(".git")) {
        Some(kind) if kind.is_dir() => {
            // Sandboxes leave an empty one, so that nothing can be put there.
            let is_empty = std::fs::read_dir(&dot_git).is_ok_and(|mut files| files.next().is_none());
            (!is_empty).then_some(Kind::Ordinary { git_dir: dot_git })
        }
        Some(kind) if kind.is_file() => Some(match pointed_to(directory, &dot_git, "gitdir: ") {
            Ok(git_dir) => Kind::Pointer { git_dir },
            Err(problem) => Kind::Odd(problem),
        }),
        Some(kind) if kind.is_symlink() => Some(match dot_git.canonicalize() {
            Ok(git_dir) => Kind::Pointer { git_dir },
            Err(error) => Kind::Odd(format!("its .git is a link that leads nowhere: {error}")),
        }),
        Some(_) => Some(Kind::Odd("its .git is neither a directory nor a file".to_owned())),
        None => is_bare(files).then(|| Kind::Bare { git_dir: directory.to_owned() }),
    }
}

/// As git itself tells a bare repository from any other directory.
fn is_bare(files: &BTreeMap<OsString, FileType>) -> bool {
    let is_dir = |name: &str| files.get(OsStr::new(name)).is_some_and(FileType::is_dir);
    is_dir("objects") && is_dir("refs") && files.contains_key(OsStr::new("HEAD"))
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
