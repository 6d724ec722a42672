//! What a file is known by, to see without reading it whether it is still as it was read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What a file is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: SystemTime,
    /// When the file itself last became another, in seconds and nanoseconds: unlike the other it cannot be set back.
    changed: (i64, i64),
}

impl Stamp {
    /// Looks at a file; a symlink is looked at itself. `None` if there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = path.symlink_metadata().ok()?;
        let modified = metadata.modified().ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.len(), modified, changed })
    }

    /// Returns when it was last written.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// Tells whether another write would show: one in the same tick of the file system's clock may not.
    #[must_use]
    pub fn is_settled(&self, now: SystemTime) -> bool {
        now.duration_since(self.modified).is_ok_and(|age| age > Duration::from_secs(1))
    }
}
