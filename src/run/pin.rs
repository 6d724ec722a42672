//! Pins keep a run's workbench until it is unpinned. They lie in the home, out of reach of the agents whose workbenches they
//! keep.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::continuation::index::Continuations;
use super::entry::Entry;
use super::id::RunId;
use super::workbench::Workbench;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};

/// A run could not be pinned or unpinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is nothing to keep.
    #[error("cannot pin run '{0}': it has no workbench; list_runs shows the runs that have one")]
    NotFound(RunId),
    /// The pin cannot be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Pins a run, so that no sweep removes its workbench. Pinning twice is fine.
///
/// # Errors
/// The run has no workbench, or the system refuses.
pub fn pin(home: &Home, run: &RunId) -> Result<(), PinError> {
    let there = || Workbench::of(home, run).exists() || Entry::of(home, run).exists();
    if !there() {
        return Err(PinError::NotFound(run.clone()));
    }
    let path = file(home, run)?;
    if !is_there(&path) {
        atomic_file::write(&path, format!("pinned at {}\n", UnixSeconds::now()).as_bytes())?;
    }
    // A sweep looks at pins again after it has moved a workbench to the trash, so one of the two sees the other.
    if there() {
        return Ok(());
    }
    unpin(home, run)?;
    Err(PinError::NotFound(run.clone()))
}

/// Removes a pin. Unpinning twice is fine.
///
/// # Errors
/// The system refuses.
pub fn unpin(home: &Home, run: &RunId) -> Result<(), FileError> {
    atomic_file::remove_if_present(&file(home, run)?).map(drop)
}

/// Whether a workbench is pinned. A pin that cannot be looked at counts as there.
pub fn is_pinned(home: &Home, workbench: &Workbench) -> bool {
    is_there(&workbench.pin_file(home))
}

fn is_there(pin: &Path) -> bool {
    pin.symlink_metadata().map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

/// A pin keeps the workbench, so all runs in it share one.
fn file(home: &Home, run: &RunId) -> Result<PathBuf, FileError> {
    Ok(Workbench::named(home, Continuations::read(home)?.workbench_of(run)).pin_file(home))
}

/// Lists the pinned workbenches by the runs that they were made for. Any file with such a name is a pin: a person may make one by hand.
///
/// # Errors
/// The folder is there and cannot be listed: then nothing may be removed.
pub(crate) fn list(home: &Home) -> Result<BTreeSet<RunId>, FileError> {
    let directory = home.pins();
    let fail = |source| FileError::io("list", &directory, source);
    let files = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        files => files.map_err(fail)?,
    };
    let mut pins = BTreeSet::new();
    for file in files {
        pins.extend(file.map_err(fail)?.file_name().to_str().and_then(|name| name.parse::<RunId>().ok()));
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pin_is_private_and_stays_until_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let run: RunId = "a-1".parse().unwrap();
        assert!(matches!(pin(&home, &run), Err(PinError::NotFound(_))));
        assert!(!is_pinned(&home, &Workbench::of(&home, &run)));
        Workbench::of(&home, &run).make().unwrap();
        pin(&home, &run).unwrap();
        pin(&home, &run).unwrap();
        assert_eq!(list(&home).unwrap(), BTreeSet::from([run.clone()]));
        let mode = home.pins().join("a-1").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        unpin(&home, &run).unwrap();
        unpin(&home, &run).unwrap();
        assert!(!is_pinned(&home, &Workbench::of(&home, &run)));
    }

    #[test]
    fn pins_that_cannot_be_listed_are_an_error_and_not_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::remove_dir(home.pins()).unwrap();
        std::fs::write(home.pins(), "").unwrap();
        assert!(list(&home).is_err());
    }
}
