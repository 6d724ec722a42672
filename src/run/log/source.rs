//! Where a log's bytes are: in the workbench's file, which may have a hole where its middle was dropped, or in what the history
//! kept.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::agent::output::OutputFormat;
use crate::home::atomic_file::{self, FileError};
use crate::run::workbench::Workbench;

/// A run's log as it was when it was opened; what is written later is not looked at.
#[derive(Debug)]
pub struct Log {
    bytes: Bytes,
    /// In bytes.
    pub(crate) size: u64,
    /// Where the sizes of the agent's terminal are, if it has one.
    pub(super) sizes_file: Option<PathBuf>,
    /// What its lines are.
    pub(super) format: OutputFormat,
    /// Whether nothing will be added.
    pub(super) is_over: bool,
}

#[derive(Debug)]
enum Bytes {
    InFile {
        path: PathBuf,
        file: File,
    },
    /// What lies from this offset on.
    Kept {
        from: u64,
        bytes: Vec<u8>,
    },
}

impl Log {
    /// Opens the log in a workbench, to be read as a person reads it. One that is not there is empty.
    ///
    /// # Errors
    /// It is unreadable, or something else than a regular file has taken its place.
    pub fn open(workbench: &Workbench) -> Result<Self, FileError> {
        Ok(Self { format: format_of(workbench), ..Self::open_raw(workbench)? })
    }

    /// Opens it to be read as it is, with the lines that are for programs.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_raw(workbench: &Workbench) -> Result<Self, FileError> {
        let path = workbench.log();
        let opened = atomic_file::if_present(atomic_file::open_regular(&path))?;
        let Some(file) = opened else { return Ok(Self::kept(String::new(), 0)) };
        match file.metadata() {
            Ok(metadata) => {
                let sizes_file = Some(workbench.sizes_file());
                Ok(Self {
                    bytes: Bytes::InFile { path, file },
                    size: metadata.len(),
                    sizes_file,
                    format: OutputFormat::Text,
                    is_over: workbench.outcome_file().exists(),
                })
            }
            Err(source) => Err(FileError::io("read", &path, source)),
        }
    }

    /// Takes what was written to an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn of_file(file: File, path: PathBuf) -> Result<Self, FileError> {
        let size = file.metadata().map_err(|source| FileError::io("read", &path, source))?.len();
        let bytes = Bytes::InFile { path, file };
        Ok(Self { bytes, size, sizes_file: None, format: OutputFormat::Text, is_over: true })
    }

    /// Takes the end that the history kept of a log which had so many bytes, or at least as many as that.
    #[must_use]
    pub fn kept(end: String, size: u64) -> Self {
        let size = size.max(end.len() as u64);
        let bytes = Bytes::Kept { from: size - end.len() as u64, bytes: end.into_bytes() };
        Self { size, sizes_file: None, bytes, format: OutputFormat::Text, is_over: true }
    }

    /// Returns the part that was dropped; empty if nothing was, or if the file system cannot say.
    pub(super) fn first_hole(&self) -> Range<u64> {
        let file = match &self.bytes {
            Bytes::InFile { file, .. } => file,
            Bytes::Kept { from, .. } => return 0..*from,
        };
        let start = seek(file, SeekFrom::Hole(0)).ok().filter(|start| *start < self.size);
        let end = start.and_then(|start| seek(file, SeekFrom::Data(start)).ok());
        start.zip(end).map_or(0..0, |(start, end)| start..end)
    }

    /// Returns the next part from `offset` on that was not dropped, which is empty at the end.
    pub(super) fn data_from(&self, offset: u64) -> Range<u64> {
        let file = match &self.bytes {
            Bytes::InFile { file, .. } => file,
            Bytes::Kept { from, .. } => return offset.clamp(*from, self.size)..self.size,
        };
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start.min(self.size),
            Err(Errno::NXIO) => self.size,
            // This file system cannot say.
            Err(_) => offset.min(self.size),
        };
        let end = seek(file, SeekFrom::Hole(start)).map_or(self.size, |end| end.min(self.size));
        start..end.max(start)
    }

    /// Reads up to `length` bytes from `start` on, and nothing beyond the size that the log had.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, FileError> {
        let start = start.min(self.size);
        let length = length.min(self.size - start);
        let (path, file) = match &self.bytes {
            Bytes::InFile { path, file } => (path, file),
            Bytes::Kept { from, bytes } => {
                let of =
                    |offset: u64| usize::try_from(offset.saturating_sub(*from)).unwrap_or(usize::MAX).min(bytes.len());
                return Ok(bytes[of(start)..of(start + length)].to_vec());
            }
        };
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(FileError::io("read", path, source)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// Writes down what the agent prints, for every later reader of its log.
///
/// # Errors
/// The system's.
pub fn write_format(workbench: &Workbench, format: OutputFormat) -> Result<(), FileError> {
    atomic_file::write_in_place(&workbench.format_file(), &serde_json::to_vec(&format).unwrap_or_default()).map(drop)
}

/// Reads what the agent of a run prints; text if nothing says otherwise.
pub(crate) fn format_of(workbench: &Workbench) -> OutputFormat {
    atomic_file::read_json(&workbench.format_file()).unwrap_or_default()
}
