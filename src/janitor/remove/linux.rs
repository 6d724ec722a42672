//! Opening and listing directories on Linux.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, chmodat, openat2};
use rustix::io::Errno;

use super::walk::Platform;

/// Room for some 2,000 entries at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Linux 5.6 or newer: the kernel itself refuses to leave the directory, to follow a link and to enter a mount. (A bind
/// mount has the device number of what it shows, so that comparing those cannot tell.)
pub(super) struct Linux {
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Default for Linux {
    fn default() -> Self {
        Self { buffer: Box::new_uninit_slice(BUFFER_BYTES) }
    }
}

/// Returns whether `openat2` works here: older kernels lack it, and some containers forbid what they do not know.
pub(super) fn has_openat2(dir: &OwnedFd) -> bool {
    !matches!(open_beneath(dir.as_fd(), c".", OFlags::PATH), Err(Errno::NOSYS | Errno::PERM))
}

fn open_beneath(parent: BorrowedFd<'_>, name: &CStr, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(parent, name, flags, Mode::empty(), resolve)
}

impl Platform for Linux {
    fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        open_beneath(parent, name, OFlags::RDONLY)
    }

    /// A directory that may not be read can still be named by a descriptor, but such a descriptor takes no `fchmod`; its
    /// entry in `/proc` does, and means this directory whatever its name means by now.
    fn open_by_force(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let handle = open_beneath(parent, name, OFlags::PATH)?;
        let itself = format!("/proc/self/fd/{}", handle.as_raw_fd());
        chmodat(CWD, itself, Mode::RWXU, AtFlags::empty())?;
        open_beneath(handle.as_fd(), c".", OFlags::RDONLY)
    }

    fn read(
        &mut self,
        dir: BorrowedFd<'_>,
        mut each: impl FnMut(&CStr, FileType) -> ControlFlow<()>,
    ) -> Result<bool, Errno> {
        let mut entries = RawDir::new(dir, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if each(entry.file_name(), entry.file_type()).is_break() || entries.is_buffer_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
