//! Archiving what would be lost with a workbench.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use super::files;
use super::look::{ArchiveError, Haste, Wanted, file_bytes, visit};
use super::record::{Archive, ArchivedRepository, PathText, VERSION, recover_command};
use super::scratch::Scratch;
use super::store;
use crate::clock::UnixSeconds;
use crate::git::{self, Closed, GitError, Target};
use crate::home::atomic_file::FileError;
use crate::home::{Home, make_directory};
use crate::run::workbench::Workbench;

/// How long archiving one repository may take, and files.
const PACK_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Objects, the pack made of them, and what is compared with it.
const SPACE_FACTOR: u64 = 3;

/// An archive that is on disk and proven complete, but not in its place.
pub(crate) struct Staged {
    pub(crate) archive: Archive,
    staging: Scratch,
}

impl Staged {
    /// Where its parts are.
    pub(super) fn directory(&self) -> &Path {
        self.staging.path()
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// It is not there; an earlier one of the run is.
    pub(crate) fn put(self, home: &Home) -> Result<Archive, FileError> {
        store::put(home, self.staging, &self.archive)?;
        Ok(self.archive)
    }
}

/// Archives what a workbench holds that is nowhere else. An earlier archive of the run may hold what the workbench no longer
/// has: that is taken over.
///
/// # Errors
/// There is no archive; a workbench that cannot be archived has to stay.
pub(crate) fn make(home: &Home, wanted: &Wanted<'_>, closed: Closed, max_bytes: u64) -> Result<Staged, ArchiveError> {
    let workbench = Workbench::of(home, wanted.run);
    let staging = Scratch::make(home)?;
    let bases = home.archive_bases();
    make_directory(&bases).map_err(|source| FileError::io("make", &bases, source))?;
    let mut repositories = Vec::new();
    let mut spent = 0;
    let unsaved = visit(home, wanted, closed, &Haste::none(), Scratch::make, &mut |scratch, found, shadow, seen| {
        let fail = |source| ArchiveError::Repository { path: found.path.clone(), source };
        let deadline = Instant::now() + PACK_TIMEOUT;
        let size = git::size(shadow, seen, deadline).map_err(fail)?;
        spent += size.work_bytes;
        if spent > max_bytes {
            return Err(ArchiveError::TooLarge { bytes: spent, max: max_bytes });
        }
        let needed = SPACE_FACTOR * size.work_bytes + size.base_bytes;
        let spare = check_space(home, needed)?;
        let directory = staging.path().join((repositories.len() + 1).to_string());
        let max_lfs_bytes = spare.min(max_bytes - spent);
        let target = Target { directory: &directory, bases: &bases, scratch, max_lfs_bytes };
        let packed = git::pack(shadow, seen, &target, deadline).map_err(fail)?;
        let packed_bytes = store::allocated(staging.path());
        if packed_bytes > max_bytes {
            return Err(ArchiveError::TooLarge { bytes: packed_bytes, max: max_bytes });
        }
        repositories.push(ArchivedRepository { path: PathText::from(&*found.path), work: seen.work.clone(), packed });
        Ok(())
    })?;
    if let Some(work) = unsaved.work.iter().find(|work| work.unreadable.is_some()) {
        let reason = work.unreadable.clone().unwrap_or_default();
        return Err(ArchiveError::Repository { path: work.path.clone().into(), source: GitError::Odd(reason) });
    }
    let file_bytes = file_bytes(workbench.directory(), &unsaved.files);
    if spent + file_bytes > max_bytes {
        return Err(ArchiveError::TooLarge { bytes: spent + file_bytes, max: max_bytes });
    }
    check_space(home, file_bytes)?;
    let target = staging.path().join(store::FILES);
    let copied = unsaved.files.iter().map(|path| files::copy(workbench.directory(), path, &target));
    let mut archive = Archive {
        version: VERSION,
        run: wanted.run.clone(),
        made_at: UnixSeconds::now(),
        fingerprint: unsaved.fingerprint,
        bytes: 0,
        repositories,
        files: copied.collect::<Result<_, _>>()?,
        recover_command: recover_command(wanted.run),
    };
    if let Some(earlier) = store::read(home, wanted.run)? {
        store::take_over(home, &earlier, staging.path(), &mut archive)?;
    }
    archive.bytes = store::allocated(staging.path());
    Ok(Staged { archive, staging })
}

/// Makes sure that the disk has as much, and returns what it has beyond.
fn check_space(home: &Home, needed: u64) -> Result<u64, ArchiveError> {
    let archive = home.archive();
    let disk = statvfs(&archive).map_err(|errno| FileError::io("look at", &archive, errno.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    free.checked_sub(needed).ok_or(ArchiveError::NoSpace { needed, free })
}
