//! A directory of ours for what is made, and goes with the value that stands for it.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;

use crate::home::atomic_file::FileError;
use crate::home::{Home, make_directory, random_suffix};

/// What looking at a repository takes, but for a huge one: copies of its index and refs.
const ENOUGH_BYTES: u64 = 16 * 1024 * 1024;

/// A directory of ours that goes with this value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in a home's archive: of the same file system, and on disk only while it is used.
    pub(crate) fn make(home: &Home) -> Result<Self, FileError> {
        let path = home.archive().join(format!(".{}", random_suffix()));
        make_directory(&path).map_err(|source| FileError::io("make", &path, source))?;
        Ok(Self(path))
    }

    /// Makes one for what is not kept: elsewhere if the home's disk is full, because looking is what makes room there.
    pub(crate) fn anywhere(home: &Home) -> Result<Self, FileError> {
        let archive = home.archive();
        let has_room = statvfs(&archive).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ENOUGH_BYTES);
        let memory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let others = memory.into_iter().chain([PathBuf::from("/dev/shm"), std::env::temp_dir()]);
        let elsewhere = others.filter(|_| !has_room).find_map(|place| {
            let path = place.join(format!("moadim-mcp.{}", random_suffix()));
            make_directory(&path).ok().map(|()| Self(path))
        });
        elsewhere.map_or_else(|| Self::make(home), Ok)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Moves it to where it stays.
    pub(super) fn keep_as(mut self, path: &Path) -> std::io::Result<()> {
        std::fs::rename(&self.0, path)?;
        self.0 = PathBuf::new();
        Ok(())
    }

    /// Swaps it with a directory that is there, which goes then. In one step where the file system can.
    pub(super) fn exchange_with(self, path: &Path) -> std::io::Result<()> {
        match renameat_with(CWD, &self.0, CWD, path, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                let aside = self.0.with_extension("earlier");
                std::fs::rename(path, &aside)?;
                match self.keep_as(path) {
                    Ok(()) => std::fs::remove_dir_all(aside),
                    Err(error) => std::fs::rename(aside, path).and(Err(error)),
                }
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
