//! Claiming a run's name: staged in a directory of its own, locked from birth, and renamed into place.

#![allow(missing_docs, reason = "a field without a comment is what its name says")]

use std::io;
use std::path::Path;
use std::time::Duration;

use super::context::Context;
use super::continuation::predecessor::NotContinuable;
use super::continuation::{self, Continuation, was_claimed};
use super::entry::Entry;
use super::id::RunId;
use super::record::{Environment, Manifest, Outcome, RecordError};
use super::workbench::Workbench;
use crate::agent::CommandError;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::names;
use crate::home::{self, Home};
use crate::routine::slug::Slug;

/// A claimed run: its entry, and the trigger's share of its lock.
#[derive(Debug)]
pub struct Claim {
    pub entry: Entry,
    pub manifest: Manifest,
    /// Keeps the run alive until its supervisor holds a share too.
    pub lock: FileLock,
}

/// A run could not be claimed; nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The agent's command line would not be taken.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The new lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another run continues the same one, or its workbench is gone.
    #[error(transparent)]
    NotContinuable(#[from] NotContinuable),
    /// It is not known whether another run continues the same one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// No second was free.
    #[error(
        "cannot name a run of '{routine}': each of the {SECONDS_TRIED} s from {from} on has one already; wait, and try again"
    )]
    NoFreeSecond { routine: Slug, from: UnixSeconds },
}

const SECONDS_TRIED: u64 = 60;

/// The age from which a staged directory without an owner is removed: the trigger of a younger one may be about to lock it.
pub const STAGED_MIN_AGE: Duration = Duration::from_secs(60);

/// What is claimed, beside the name.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub routine: &'a Slug,
    /// The first second that may be claimed.
    pub from: UnixSeconds,
    pub environment: &'a Environment,
    /// The run that it goes on from. The caller holds the lock under which runs are claimed.
    pub continues: Option<&'a Outcome>,
}

/// Claims the first second from a given one on that no run of the routine ever had.
///
/// # Errors
/// The system refuses, no second is free, or another run continues the same one.
pub fn claim(
    context: &Context,
    wanted: &Wanted<'_>,
    manifest_of: impl Fn(&RunId) -> Result<Manifest, CommandError>,
) -> Result<Claim, ClaimError> {
    let staged = context.home.running().join(format!(".{}", home::random_suffix()));
    let claimed = stage_and_claim(context, &staged, wanted, manifest_of);
    if claimed.is_err() {
        // It never had a run's name, and holds only our own three files.
        let _ = std::fs::remove_dir_all(&staged);
    }
    claimed
}

fn stage_and_claim(
    context: &Context,
    staged: &Path,
    Wanted { routine, from, environment, continues }: &Wanted<'_>,
    manifest_of: impl Fn(&RunId) -> Result<Manifest, CommandError>,
) -> Result<Claim, ClaimError> {
    let home = &context.home;
    home::make_directory(staged).map_err(|source| FileError::io("make", staged, source))?;
    let lock = FileLock::acquire(&staged.join("lock"), Mode::Shared, Duration::ZERO)?;
    // Made now, so that a judge can lock it on a full disk.
    atomic_file::write_in_place(&staged.join("judge"), b"")?;
    // Nobody asks for the environment of a run that a power cut has ended.
    atomic_file::write_json_in_place(&staged.join("env.json"), environment)?;
    let record = staged.join("run.json");
    // A chain has an order also where the clock was set back.
    let from = &continues.map_or(*from, |predecessor| predecessor.id.stamp().plus_secs(1).max(*from));
    for later in 0..SECONDS_TRIED {
        let id = RunId::new((*routine).clone(), from.plus_secs(later));
        let entry = Entry::of(home, &id);
        // A finished run of the same second has no entry any more, but its workbench is its own, and so is its archive; a reaped
        // one is in the history.
        // An id names one run forever, also if the clock is set back, or this process was stopped for hours.
        if entry.exists()
            || Workbench::named(home, &id).directory().symlink_metadata().is_ok()
            || home.archive().join(id.to_string()).symlink_metadata().is_ok()
            || context.history.find(home, &id)?.is_some()
        {
            continue;
        }
        let manifest = manifest_of(&id)?;
        let file = atomic_file::write_json_in_place(&record, &manifest)?;
        file.sync_all().map_err(|source| FileError::io("sync", &record, source))?;
        if let Some(predecessor) = continues {
            reserve(context, &id, predecessor)?;
        }
        match std::fs::rename(staged, entry.directory()) {
            Ok(()) => {
                // The names within it are synced only now: most file systems write both directories down at once.
                atomic_file::sync_directory(entry.directory())?;
                atomic_file::sync_directory(&home.running())?;
                return Ok(Claim { entry, manifest, lock });
            }
            Err(error) if is_taken(&error) => withdraw(home, &id, *continues)?,
            Err(source) => {
                withdraw(home, &id, *continues)?;
                return Err(FileError::io("claim", entry.directory(), source).into());
            }
        }
    }
    Err(ClaimError::NoFreeSecond { routine: (*routine).clone(), from: *from })
}

/// Makes a run the one that continues another, and that owns its workbench from now on. One that was to, and never came to be because
/// its process died, gives way: nobody else claims runs now.
fn reserve(context: &Context, id: &RunId, predecessor: &Outcome) -> Result<(), ClaimError> {
    let home = &context.home;
    // A sweep takes it under the same lock, unless an entry says that it is in use.
    if !predecessor.workbench(home).exists() {
        return Err(NotContinuable::Reaped(predecessor.id.clone()).into());
    }
    let continuation = Continuation::now(id, &predecessor.id, predecessor.workbench_name());
    if !continuation.create(home)? {
        match continuation::after(home, &predecessor.id)? {
            Some(other) if was_claimed(context, &other.run) => {
                return Err(NotContinuable::Continued { run: predecessor.id.clone(), next: other.run }.into());
            }
            Some(other) => {
                continuation::withdraw(home, &other.run, &predecessor.id)?;
                continuation.create(home)?;
            }
            None => drop(continuation.create(home)?),
        }
    }
    let linked = continuation.link(home);
    if linked.is_err() {
        continuation::withdraw(home, id, &predecessor.id)?;
    }
    Ok(linked?)
}

/// Takes back that a run continues another: it does not come to be.
fn withdraw(home: &Home, id: &RunId, predecessor: Option<&Outcome>) -> Result<(), ClaimError> {
    match predecessor {
        Some(predecessor) => Ok(continuation::withdraw(home, id, &predecessor.id)?),
        None => Ok(()),
    }
}

/// Of several renames of filled directories to one name, one succeeds, and the others fail with one of these errors.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

/// Removes what triggers staged that died before they claimed a run: a free lock, older than [`STAGED_MIN_AGE`].
///
/// # Errors
/// The folder cannot be listed.
pub fn remove_stale(home: &Home, now: UnixSeconds) -> Result<(), FileError> {
    let running = home.running();
    let mut staged = Vec::new();
    names::scan(&running, |name, _| staged.extend(name.starts_with('.').then(|| running.join(name))))?;
    for directory in staged {
        let made = directory.symlink_metadata().and_then(|metadata| metadata.modified()).map(UnixSeconds::from);
        if made.is_ok_and(|made| made.age_secs_at(now) > STAGED_MIN_AGE.as_secs()) {
            let lock = FileLock::try_existing(&directory.join("lock"), Mode::Exclusive);
            // Any other error, such as a lack of descriptors, says nothing about its trigger.
            if lock.as_ref().map_or_else(LockError::is_not_found, |_| true) {
                let _ = std::fs::remove_dir_all(directory);
            }
        }
    }
    Ok(())
}
