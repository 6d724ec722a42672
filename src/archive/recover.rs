//! Getting back what was archived, or what a workbench still holds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files;
use super::look::{ArchiveError, Wanted, examine, search_path};
use super::make::make;
use super::record::{Archive, ArchivedFile};
use super::scratch::Scratch;
use super::store;
use crate::git::{self, Closed, Git, Source};
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::{Home, make_directory, make_parent};
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::workbench::Workbench;

/// A person waits, and may interrupt.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long another process may archive before a person has to try again.
const ARCHIVE_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Nothing was recovered, or not all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("the run {0} has neither an archive nor a workbench; see what is archived: moadim-mcp recover --list")]
    Nothing(RunId),
    #[error("{} already exists; give another directory", .0.display())]
    Exists(PathBuf),
    #[error("{} is in the home of moadim-mcp, where it would not stay; give another directory", .0.display())]
    InHome(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("another process is archiving; try again in a few minutes: {0}")]
    Lock(#[from] LockError),
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) repositories: Vec<PathBuf>,
    pub(crate) files: Vec<PathBuf>,
    /// What a person should know, in sentences.
    pub(crate) notes: Vec<String>,
    /// What did not come back, and why.
    pub(crate) failures: Vec<String>,
}

/// Brings everything of a run back into a directory that is not there yet. From a workbench that still stands, by way of an
/// archive that is made for this alone, unless there is one of it as it is.
///
/// # Errors
/// There is nothing, or it cannot be read at all. A part that cannot be restored does not stop the others.
pub(crate) fn recover(home: &Home, wanted: &Wanted<'_>, target: &Path) -> Result<Recovered, RecoverError> {
    let run = wanted.run;
    if target.symlink_metadata().is_ok() {
        return Err(RecoverError::Exists(target.to_owned()));
    }
    if target.starts_with(home.root()) {
        return Err(RecoverError::InHome(target.to_owned()));
    }
    let workbench = Workbench::of(home, run);
    if !workbench.exists() {
        let archive = store::read(home, run)?.ok_or_else(|| RecoverError::Nothing(run.clone()))?;
        return restore(home, &archive, &store::directory(home, run), target);
    }
    // While a run is under way, what it closed is left closed.
    let closed = if Entry::of(home, run).exists() { Closed::Report } else { Closed::Open };
    // The bases that it is about to use must not go.
    let _lock = FileLock::acquire(&home.archive_lock(), Mode::Exclusive, ARCHIVE_LOCK_TIMEOUT)?;
    if !workbench.exists() {
        // The process that held the lock has archived and removed it.
        return recover(home, wanted, target);
    }
    if let Ok(Some(archive)) = store::read(home, run)
        && examine(home, wanted, closed).is_ok_and(|unsaved| unsaved.fingerprint == archive.fingerprint)
        && store::is_whole(home, &archive)
    {
        return restore(home, &archive, &store::directory(home, run), target);
    }
    match make(home, wanted, closed, u64::MAX) {
        Ok(staged) => restore(home, &staged.archive, staged.directory(), target),
        Err(error) => copy_workbench(home, wanted, closed, target, &error),
    }
}

/// Restores an archive whose parts are in a directory.
fn restore(home: &Home, archive: &Archive, parts: &Path, target: &Path) -> Result<Recovered, RecoverError> {
    make_directory(target).map_err(|source| FileError::io("make", target, source))?;
    let mut recovered = Recovered::default();
    if let Err(error) = restore_repositories(home, archive, parts, target, &mut recovered) {
        recovered.failures.push(error.to_string());
    }
    let from = parts.join(store::FILES);
    for file in &archive.files {
        match files::check(&from, file).and_then(|()| copy(&from, file, target)) {
            Ok(()) => recovered.files.push(file.path.path().to_owned()),
            Err(error) => recovered.failures.push(error.to_string()),
        }
    }
    Ok(recovered)
}

/// Copies a workbench as it is, because no archive of it can be made. From then on it may go as far as it could be looked at.
fn copy_workbench(
    home: &Home,
    wanted: &Wanted<'_>,
    closed: Closed,
    target: &Path,
    error: &ArchiveError,
) -> Result<Recovered, RecoverError> {
    let workbench = Workbench::of(home, wanted.run);
    let before = examine(home, wanted, closed);
    let failures = files::copy_all(workbench.directory(), target)?;
    let mut notes = vec![format!("{error}; the whole workbench was copied as it is")];
    if let Some(before) = before.ok().filter(|_| failures.is_empty()) {
        // The note must not outlive the copy.
        rustix::fs::sync();
        store::set_recovered(home, wanted.run, &before.fingerprint)?;
        notes.push("a sweep may remove the workbench now, unless it changes".to_owned());
    }
    Ok(Recovered { files: vec![PathBuf::from("")], notes, failures, ..Recovered::default() })
}

fn restore_repositories(
    home: &Home,
    archive: &Archive,
    parts: &Path,
    target: &Path,
    recovered: &mut Recovered,
) -> Result<(), ArchiveError> {
    if archive.repositories.is_empty() {
        return Ok(());
    }
    let scratch = Scratch::anywhere(home)?;
    let git = Git::find(search_path(), Vec::new(), scratch.path())?;
    for (number, repository) in archive.repositories.iter().enumerate() {
        let path = repository.path.path();
        let directory = parts.join((number + 1).to_string());
        let base = repository.packed.base_name.as_ref().map(|name| git::base_pack(&home.archive_bases(), name));
        let source = Source { directory: &directory, base };
        let mut into = target.join(path);
        if !is_free_of_links(target, &into) {
            // A repository that came back before has a link there, which may lead anywhere.
            into = target.join(format!("repository-{}", number + 1));
        }
        match git::restore(&git, &repository.packed, &source, &into, true, Instant::now() + RESTORE_TIMEOUT) {
            Ok(restored) => {
                let notes = restored.notes.into_iter().chain(repository.packed.caveat());
                recovered.notes.extend(notes.map(|note| format!("{}: {note}", into.display())));
                recovered.repositories.push(restored.directory);
            }
            Err(error) => recovered.failures.push(format!("cannot restore all of {}: {error}", into.display())),
        }
    }
    Ok(())
}

/// Whether nothing on the way from a directory to a path in it is a link. What is not there yet is none.
fn is_free_of_links(top: &Path, path: &Path) -> bool {
    path.ancestors().take_while(|part| *part != top).all(|part| !part.is_symlink())
}

fn copy(from: &Path, file: &ArchivedFile, target: &Path) -> Result<(), FileError> {
    let (from, mut to) = (from.join(file.path.path()), target.join(file.path.path()));
    if to.parent().is_some_and(|parent| !is_free_of_links(target, parent)) {
        to = target.join("files").join(file.path.path());
    }
    while to.symlink_metadata().is_ok() {
        // In a repository that has another version of it.
        let mut name: OsString = to.file_name().unwrap_or_default().to_owned();
        name.push(".archived");
        to.set_file_name(name);
    }
    make_parent(&to)?;
    let metadata = from.symlink_metadata().map_err(|source| FileError::io("look at", &from, source))?;
    let copied = if metadata.is_symlink() {
        std::fs::read_link(&from).and_then(|link| std::os::unix::fs::symlink(link, &to))
    } else {
        std::fs::copy(&from, &to).map(drop)
    };
    copied.map_err(|source| FileError::io("copy", &from, source))
}
