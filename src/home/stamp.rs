//! What a file is known by, to see without reading it whether it is still as it was read.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Stat, statat};

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

/// A stamp as one number, for those who keep very many and only compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(NonZeroU64);

impl Stamp {
    /// Looks at a file; a symlink is looked at itself. `None` if there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        Self::from_metadata(&path.symlink_metadata().ok()?)
    }

    /// Looks at a file, through symlinks. `None` if there is none.
    #[must_use]
    pub fn of_target(path: &Path) -> Option<Self> {
        Self::from_metadata(&path.metadata().ok()?)
    }

    /// Looks at a file by its path below an open directory, which takes a fraction of the time; otherwise like [`Self::of`].
    #[must_use]
    pub fn below(directory: BorrowedFd<'_>, path: &str) -> Option<Self> {
        statat(directory, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Self::from_stat(&stat))
    }

    /// Makes it from the answer of `stat`.
    #[must_use]
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the types differ between systems")]
    pub(super) fn from_stat(stat: &Stat) -> Self {
        let secs = Duration::from_secs(stat.st_mtime.unsigned_abs());
        let whole = if stat.st_mtime < 0 { UNIX_EPOCH.checked_sub(secs) } else { UNIX_EPOCH.checked_add(secs) };
        let sub_second = Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or_default());
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            // A time that the clock cannot hold.
            modified: whole.and_then(|whole| whole.checked_add(sub_second)).unwrap_or(UNIX_EPOCH),
            changed: (i64::from(stat.st_ctime), stat.st_ctime_nsec as i64),
        }
    }

    fn from_metadata(metadata: &Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.len(), modified, changed })
    }

    /// Returns the size of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns when it was last written.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// Returns it as one number.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Fingerprint(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }

    /// Says whether another write would show: one in the same tick of the file system's clock may not. A time far ahead is from
    /// before the clock was set back, so another write would show too.
    #[must_use]
    pub fn is_settled(&self, now: SystemTime) -> bool {
        match now.duration_since(self.modified) {
            Ok(age) => age > Duration::from_secs(1),
            Err(ahead) => ahead.duration() > Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_look_from_a_directory_sees_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let opened = File::open(dir.path()).unwrap();
        let below = |name: &str| Stamp::below(std::os::fd::AsFd::as_fd(&opened), name);
        for modified in [SystemTime::now(), UNIX_EPOCH - Duration::from_millis(1500), UNIX_EPOCH] {
            File::options().append(true).open(&file).unwrap().set_modified(modified).unwrap();
            assert_eq!(below("file"), Stamp::of(&file));
            assert!(below("file").is_some());
        }
        assert_eq!(below("link"), Stamp::of(&dir.path().join("link")));
        assert_ne!(below("link"), below("file"));
        assert_eq!(Stamp::of_target(&dir.path().join("link")), below("file"));
        assert_eq!(below("gone"), None);
    }

    #[test]
    fn what_was_written_just_now_may_be_written_again_unseen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stamp = Stamp::of(file.path()).unwrap();
        let (at, secs) = (stamp.modified(), Duration::from_secs);
        for (now, settled) in [(at, false), (at + secs(2), true), (at - secs(2), false), (at - secs(100), true)] {
            assert_eq!(stamp.is_settled(now), settled);
        }
    }
}
