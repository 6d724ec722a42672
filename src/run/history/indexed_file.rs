//! A file of the history, held open, and how far it was read.

use std::cmp::Ordering;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::files::HistoryFile;
use super::tally::Tally;
use crate::home::file_cache::Stamp;
use crate::home::stable_hash;

/// A file of which every whole line was read. It is held open: it gets another name when it is closed, and none when it is
/// removed.
#[derive(Debug)]
pub(super) struct IndexedFile {
    pub(super) file: Arc<File>,
    /// As it was last listed.
    pub(super) path: PathBuf,
    /// As it was after reading: what is added from then on makes the file longer than what was read of it.
    pub(super) stamp: Stamp,
    pub(super) read_bytes: u64,
    /// The hash of the last bytes that were read: lines are only ever added behind them.
    pub(super) end_hash: u64,
    pub(super) damaged: u64,
    pub(super) tally: Tally,
}

/// How much before the end of what was read is compared when a file has grown: several lines.
const COMPARED_BYTES: u64 = 4 * 1024;

impl IndexedFile {
    pub(super) fn is_in(&self, listed: &[HistoryFile]) -> bool {
        listed.iter().any(|file| file.stamp.is_same_file(&self.stamp))
    }

    /// Whether it has no name any more.
    pub(super) fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Whether the file was changed other than by adding lines.
    pub(super) fn is_edited(&self, now: &Stamp) -> bool {
        match self.read_bytes.cmp(&now.size()) {
            Ordering::Greater => true,
            Ordering::Equal => self.stamp.modified() != now.modified(),
            Ordering::Less => self.hash_of_end() != Some(self.end_hash),
        }
    }

    pub(super) fn hash_of_end(&self) -> Option<u64> {
        let start = self.read_bytes.saturating_sub(COMPARED_BYTES);
        let mut end = vec![0; usize::try_from(self.read_bytes - start).ok()?];
        self.file.read_exact_at(&mut end, start).ok()?;
        Some(stable_hash(&end))
    }
}
