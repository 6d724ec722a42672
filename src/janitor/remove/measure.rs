//! The purpose that only measures, for the dry run and for what still lies in the trash.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Stat, statat};
use rustix::io::Errno;

use super::walk::{Purpose, allocated_bytes};

/// How many files with several names are remembered; beyond that the sum is not complete.
const MAX_LINKED_FILES: usize = 1 << 20;

/// What a tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Allocated bytes that a removal would give back. A file with several names counts once all of them were met.
    pub bytes: u64,
    /// Entries, directories included.
    pub entries: u64,
    /// False when the walk was stopped, or something could not be read: then both sums are lower bounds.
    pub complete: bool,
}

/// The sums of a walk under way.
#[derive(Debug, Default)]
pub(super) struct Measuring {
    bytes: u64,
    entries: u64,
    failed: bool,
    /// Names not yet met of each file that has several. Its bytes count with the last one, as in a removal.
    names_left: HashMap<Inode, u64>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Inode {
    dev: u64,
    ino: u64,
}

impl Measuring {
    pub(super) fn measured(self, finished: bool) -> Measured {
        Measured { bytes: self.bytes, entries: self.entries, complete: finished && !self.failed }
    }

    fn is_last_name(&mut self, stat: &Stat) -> bool {
        let (inode, names) = identity(stat);
        if names <= 1 {
            return true;
        }
        if self.names_left.len() >= MAX_LINKED_FILES && !self.names_left.contains_key(&inode) {
            self.failed = true;
            return false;
        }
        let left = self.names_left.entry(inode).or_insert(names);
        *left = left.saturating_sub(1);
        *left == 0
    }
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between platforms")]
fn identity(stat: &Stat) -> (Inode, u64) {
    (Inode { dev: stat.st_dev as u64, ino: stat.st_ino as u64 }, stat.st_nlink as u64)
}

impl Purpose for Measuring {
    const REMOVES: bool = false;

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.entries += 1;
        if self.is_last_name(&stat) {
            self.bytes += allocated_bytes(&stat);
        }
        Ok(())
    }

    fn directory(&mut self, _: BorrowedFd<'_>, _: &CStr, bytes: u64) -> Result<(), Errno> {
        self.entries += 1;
        self.bytes += bytes;
        Ok(())
    }

    fn failed(&mut self, _: impl FnOnce() -> PathBuf, _: Errno) {
        self.failed = true;
    }
}
