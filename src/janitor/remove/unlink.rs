//! The purpose that removes: unlinks what the walk meets, and counts.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, statat, unlinkat};
use rustix::io::Errno;

use super::walk::{Purpose, allocated_bytes};

/// How many failures are kept; all are counted.
const MAX_FAILURES: usize = 100;

/// What a removal did.
#[derive(Debug, Default)]
#[must_use]
pub struct Removal {
    /// Bytes given back to the file system: its allocated blocks; a file that has another name gives back none.
    pub freed_bytes: u64,
    /// Entries removed, directories included.
    pub removed_entries: u64,
    /// What could not be removed: the first 100. A directory that is only not empty because of another failure is not
    /// among them.
    pub failures: Vec<Failure>,
    /// How many failures there were in all.
    pub failure_count: u64,
    /// Whether the walk came to its end; false when it was stopped, or could not start. Finished without a failure
    /// means that nothing is left.
    pub finished: bool,
}

/// An entry that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}: {source}; {}", next_step(.source))]
pub struct Failure {
    /// The entry. A path longer than any system call takes is shortened in its middle.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

fn next_step(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::XDEV | Errno::BUSY) => "something is mounted there: unmount it, and the next sweep removes it",
        Some(Errno::PERM) => "it may be immutable (lsattr shows, chattr -i undoes it) or belong to another user",
        Some(Errno::ACCESS) => "its directory belongs to another user: remove it as that user",
        _ => "the next sweep tries again",
    }
}

impl Removal {
    /// Reports a removal that could not start.
    pub(super) fn failed(path: PathBuf, error: Errno) -> Self {
        let mut removal = Self::default();
        Purpose::failed(&mut removal, || path, error);
        removal
    }
}

impl Purpose for Removal {
    const REMOVES: bool = true;

    // A look at each file costs up to a tenth of the time on ext4 and makes the freed sum right; with it a removal still
    // takes no longer than `rm -rf`, which looks at none.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        unlinkat(dir, name, AtFlags::empty())?;
        self.removed_entries += 1;
        if stat.st_nlink == 1 {
            self.freed_bytes += allocated_bytes(&stat);
        }
        Ok(())
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, bytes: u64) -> Result<(), Errno> {
        unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        self.removed_entries += 1;
        self.freed_bytes += bytes;
        Ok(())
    }

    fn failed(&mut self, path: impl FnOnce() -> PathBuf, error: Errno) {
        self.failure_count += 1;
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(Failure { path: path(), source: error.into() });
        }
    }
}
