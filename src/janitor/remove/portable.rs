//! Opening and listing directories wherever there is POSIX: macOS, and Linux without `openat2`.
//!
//! The weaker promise: a mount is recognised by its device number and, where the system has one, its mount id. A bind mount
//! on a system that does neither (gVisor) is not seen. Forcing open a directory that its owner may not even read goes by
//! its name, and not at all on Linux.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, chmodat, fstat, openat, statat};
use rustix::io::Errno;

use super::walk::Platform;

#[derive(Default)]
pub(super) struct Portable;

impl Platform for Portable {
    fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let dir = openat(parent, name, flags, Mode::empty())?;
        let same_mount = fstat(parent)?.st_dev == fstat(&dir)?.st_dev && mount_id(parent) == mount_id(dir.as_fd());
        if same_mount { Ok(dir) } else { Err(Errno::XDEV) }
    }

    /// Between the look and the change the name can come to mean a file of the same user, never what a symlink shows.
    fn open_by_force(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        if stat.st_dev != fstat(parent)?.st_dev {
            return Err(Errno::XDEV);
        }
        chmodat(parent, name, Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW)?;
        Self::open(parent, name)
    }

    /// Reads to the end at once, because the place in a directory belongs to the reader here.
    fn read(
        &mut self,
        dir: BorrowedFd<'_>,
        mut each: impl FnMut(&CStr, FileType) -> ControlFlow<()>,
    ) -> Result<bool, Errno> {
        let mut entries = Dir::read_from(dir)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            if each(entry.file_name(), entry.file_type()).is_break() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns the mount's id, which Linux has since 3.15; proc(5).
fn mount_id(dir: BorrowedFd<'_>) -> Option<String> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|id| id.trim().to_owned())
}
