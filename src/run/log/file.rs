//! A log's file, which may have a hole where its middle was dropped.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::home::atomic_file::{self, FileError};
use crate::run::entry::Workbench;

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Its size when it was opened; what is written later is not looked at.
    pub(super) bytes: u64,
}

impl LogFile {
    /// Opens a run's log; `None` where there is none.
    ///
    /// # Errors
    /// It is unreadable, or something else than a regular file has taken its place.
    pub(super) fn open(workbench: &Workbench) -> Result<Option<Self>, FileError> {
        let path = workbench.log();
        let file = match atomic_file::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.metadata() {
            Ok(metadata) => Ok(Some(Self { path, file, bytes: metadata.len() })),
            Err(source) => Err(FileError::io("read", &path, source)),
        }
    }

    /// Returns the part that was dropped; an empty range where nothing was, or where that cannot be told.
    pub(super) fn first_hole(&self) -> Range<u64> {
        let start = seek(&self.file, SeekFrom::Hole(0)).ok().filter(|start| *start < self.bytes);
        let end = start.and_then(|start| seek(&self.file, SeekFrom::Data(start)).ok());
        start.zip(end).map_or(0..0, |(start, end)| start..end)
    }

    /// Returns the next part from `offset` on that was not dropped, which is empty at the end.
    pub(super) fn data_from(&self, offset: u64) -> Range<u64> {
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start.min(self.bytes),
            Err(Errno::NXIO) => self.bytes,
            // This file system does not tell.
            Err(_) => offset.min(self.bytes),
        };
        let end = seek(&self.file, SeekFrom::Hole(start)).map_or(self.bytes, |end| end.min(self.bytes));
        start..end.max(start)
    }

    /// Reads up to `length` bytes from `start` on, and nothing beyond the size that the log had.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, FileError> {
        let length = length.min(self.bytes.saturating_sub(start));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(FileError::io("read", &self.path, source)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}
