//! Reading a log as it grows.

use std::io;
use std::os::unix::fs::FileExt;

use super::readable::reader_of;
use super::source::{Log, format_of};
use super::text::clean;
use crate::agent::output::{OutputFormat, Reader};
use crate::home::atomic_file::{self, FileError};
use crate::run::workbench::Workbench;

/// How much of stderr one look reads at most.
const MAX_STDERR_BYTES: u64 = 64 * 1024;

/// A reader of one run's log, as a person reads it: for agents that print for programs.
pub struct Follower {
    workbench: Workbench,
    reader: Reader,
    offset: u64,
    /// What was shown of a line that lost its end.
    cut_off: String,
    /// Whether `offset` may be within a line, the rest of which is not shown.
    within_line: bool,
    stderr_offset: u64,
}

impl Follower {
    /// Reads from a byte of the log on; `None` where the log is text, and there is nothing to understand.
    pub fn new(workbench: &Workbench, offset: u64) -> Option<Self> {
        let format = format_of(workbench);
        (format != OutputFormat::Text).then(|| Self {
            workbench: workbench.clone(),
            reader: reader_of(format),
            offset,
            cut_off: String::new(),
            within_line: false,
            stderr_offset: 0,
        })
    }

    /// Goes on from a byte that may be within a line.
    pub fn skip_to(&mut self, offset: u64) {
        self.offset = offset;
        self.cut();
    }

    /// What comes next is not the rest of what came before.
    fn cut(&mut self) {
        self.within_line = true;
        self.reader.read(b"\n", &mut self.cut_off);
    }

    /// Leaves out what is on stderr already.
    pub fn pass_over_stderr(&mut self) {
        let metadata = self.workbench.stderr_log().symlink_metadata();
        self.stderr_offset = metadata.map_or(0, |metadata| metadata.len());
    }

    /// Returns the size of the log, and what of it was read.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn progress(&self) -> Result<(u64, u64), FileError> {
        Ok((Log::open_raw(&self.workbench)?.size, self.offset))
    }

    /// Returns what a person reads of what was added, to stdout and to stderr; empty if nothing was.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn read_more(&mut self) -> Result<String, FileError> {
        let mut shown = self.read_stderr();
        let (bytes, next) = Log::open_raw(&self.workbench)?.raw(self.offset)?;
        // What comes after a hole is not the rest of what came before it.
        if next.saturating_sub(bytes.len() as u64) != self.offset {
            // A hole, or another file.
            self.cut();
            self.within_line &= next > bytes.len() as u64;
        }
        self.offset = next;
        shown += &std::mem::take(&mut self.cut_off);
        let mut bytes = bytes.as_slice();
        if self.within_line && !bytes.is_empty() {
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            bytes = newline.map_or(&[], |newline| &bytes[newline + 1..]);
            self.within_line = newline.is_none();
        }
        self.reader.read(bytes, &mut shown);
        Ok(shown)
    }

    /// Returns the rest of a last line without an end.
    pub fn finish(&mut self) -> String {
        let mut shown = String::new();
        self.reader.finish(&mut shown);
        shown
    }

    /// Returns what was added to stderr, in whole lines where it ends with one; a problem with it hides nothing else.
    fn read_stderr(&mut self) -> String {
        let read = || -> io::Result<(Vec<u8>, u64)> {
            let file = atomic_file::open_regular(&self.workbench.stderr_log()).map_err(io::Error::other)?;
            let size = file.metadata()?.len();
            let known = if self.stderr_offset > size { 0 } else { self.stderr_offset };
            let from = known.max(size.saturating_sub(MAX_STDERR_BYTES));
            let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
            let count = file.read_at(&mut bytes, from)?;
            bytes.truncate(count);
            Ok((bytes, from + count as u64))
        };
        let Ok((bytes, next)) = read() else { return String::new() };
        self.stderr_offset = next;
        clean(&bytes)
    }
}
