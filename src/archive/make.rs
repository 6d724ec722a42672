//! Looking at a workbench, and archiving what would be lost with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use super::files;
use super::record::{Archive, ArchivedRepository, PathText, VERSION};
use super::store;
use crate::clock::UnixSeconds;
use crate::git::{self, Cloned, Found, Git, GitError, Place, Seen, Shadow, Target, Work};
use crate::home::atomic_file::{self, FileError};
use crate::home::{Home, make_directory, random_suffix, stable_hash};
use crate::run::entry::Workbench;
use crate::run::id::RunId;

/// How long looking at one repository may take, and at all of a workbench.
pub(crate) const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const LOOK_ALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long archiving one repository may take, and files.
const PACK_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Objects, the pack made of them, and what is compared with it.
const SPACE_FACTOR: u64 = 3;

/// What would be lost could not be archived, so the workbench stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("{0}")]
    Git(#[from] GitError),
    #[error("its repository {} cannot be archived: {source}", shown(path))]
    Repository { path: PathBuf, source: GitError },
    #[error("its work takes {bytes} bytes, more than max_run_archive_bytes ({max})")]
    TooLarge { bytes: u64, max: u64 },
    #[error("archiving it takes up to {needed} bytes of disk, and {free} are free")]
    NoSpace { needed: u64, free: u64 },
    #[error(transparent)]
    File(#[from] FileError),
}

fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() { ".".to_owned() } else { path.display().to_string() }
}

/// A directory of ours that goes with this value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in a home's archive: of the same file system, and on disk only while it is used.
    pub(crate) fn make(home: &Home) -> Result<Self, FileError> {
        let path = home.archive().join(format!(".{}", random_suffix()));
        make_directory(&path).map_err(|source| FileError::io("make", &path, source))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn sub(&self, name: &str) -> Result<PathBuf, FileError> {
        let path = self.0.join(name);
        make_directory(&path).map_err(|source| FileError::io("make", &path, source))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) run: &'a RunId,
    /// Globs of files.
    pub(crate) files: &'a [String],
}

/// What a workbench holds that is nowhere else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unsaved {
    /// Every repository, saved ones included.
    pub(crate) work: Vec<Work>,
    /// The files that the routine asks to archive.
    pub(crate) files: Vec<PathBuf>,
    /// Names everything that was seen.
    pub(crate) fingerprint: String,
}

impl Unsaved {
    /// Whether an archive has to be made before the workbench goes.
    pub(crate) fn is_something(&self) -> bool {
        !self.files.is_empty() || self.work.iter().any(Work::is_unsaved)
    }
}

/// Looks at a workbench.
///
/// # Errors
/// There is no git although there is a repository, or the workbench cannot be read.
pub(crate) fn examine(home: &Home, wanted: &Wanted<'_>) -> Result<Unsaved, ArchiveError> {
    let workbench = Workbench::of(home, wanted.run);
    let root = workbench.directory();
    let deadline = Instant::now() + LOOK_ALL_TIMEOUT;
    let listing = git::find(root, deadline)?;
    let files = files::find(root, wanted.files, deadline)?;
    let mut unsaved = Unsaved { files, ..Unsaved::default() };
    let mut print = String::new();
    if !listing.found.is_empty() {
        let scratch = Scratch::make(home)?;
        let git = git_for(home, &scratch)?;
        let cloned = store::clones_of(home, wanted.run)?;
        let place = Place { root, doomed: &home.workbenches(), listed: &listing.found };
        for (number, found) in listing.found.iter().enumerate() {
            let look = || -> Result<Seen, ArchiveError> {
                let deadline = deadline.min(Instant::now() + LOOK_TIMEOUT);
                let shadow = Shadow::of(&git, root, found, &scratch.sub(&number.to_string())?, deadline)?;
                Ok(git::look(&shadow, found, &place, cloned.get(&found.path), deadline)?)
            };
            unsaved.work.push(match look() {
                Ok(seen) => {
                    let _ = write!(print, "{}\n", seen.fingerprint());
                    seen.work
                }
                Err(error) => Work::unreadable(&found.path, error),
            });
        }
    }
    unsaved.work.extend(listing.skipped.iter().map(|(path, reason)| Work::unreadable(path, reason)));
    let _ = write!(print, "{:?}{:?}", unsaved.work, stamps(root, &unsaved.files));
    unsaved.fingerprint = format!("{:016x}", stable_hash(print.as_bytes()));
    Ok(unsaved)
}
