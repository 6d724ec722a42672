//! Knowing that a file has not changed since it was read, and keeping what was parsed of it until then.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// How many files of a kind are kept: the longest page of a list and more.
const MOST_FILES: usize = 256;

/// How many bytes those files have in all: what is parsed takes a multiple of that.
const MOST_BYTES: u64 = 1 << 20;

/// What files of one kind said when they were last parsed.
#[derive(Debug)]
pub struct FileCache<T> {
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    // Not by path: those are compared part by part.
    by_path: BTreeMap<OsString, (Stamp, T)>,
    bytes: u64,
}

impl<T> Kept<T> {
    const fn new() -> Self {
        Self { by_path: BTreeMap::new(), bytes: 0 }
    }

    /// Keeps what a file says, in place of all others if that would be too much.
    fn keep(&mut self, path: &OsStr, stamp: Stamp, parsed: T) {
        self.forget(path);
        if stamp.size() > MOST_BYTES {
            return;
        }
        if self.by_path.len() >= MOST_FILES || self.bytes + stamp.size() > MOST_BYTES {
            *self = Self::new();
        }
        self.bytes += stamp.size();
        self.by_path.insert(path.to_owned(), (stamp, parsed));
    }

    fn forget(&mut self, path: &OsStr) {
        if let Some((stamp, _)) = self.by_path.remove(path) {
            self.bytes -= stamp.size();
        }
    }
}

impl<T: Clone> FileCache<T> {
    /// Makes an empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: Mutex::new(Kept::new()) }
    }

    /// Returns what a file says, which `parse` reads unless the file is as it was when it was last parsed; `None` if there is
    /// no such file.
    ///
    /// # Errors
    /// Those of `parse`.
    pub fn get<E>(&self, path: &Path, parse: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        let Some(stamp) = Stamp::of(path) else { return Ok(None) };
        if let Some((_, known)) = self.kept().by_path.get(path.as_os_str()).filter(|(known, _)| *known == stamp) {
            return Ok(Some(known.clone()));
        }
        let parsed = parse()?;
        if stamp.is_settled(SystemTime::now()) {
            self.kept().keep(path.as_os_str(), stamp, parsed.clone());
        }
        Ok(Some(parsed))
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Default for FileCache<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs::File;
    use std::io;
    use std::time::Duration;

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

    #[test]
    fn a_file_that_changed_is_parsed_anew_and_one_that_is_gone_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let (files, times) = (FileCache::new(), Cell::new(0));
        let now = SystemTime::now();
        let write = |text: &str, modified: SystemTime| {
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
        };
        let secs = Duration::from_secs;
        // Too late for a busy machine to get there.
        let fresh = now + secs(50);
        let get = || {
            let parse = || {
                times.set(times.get() + 1);
                std::fs::read_to_string(&path)
            };
            files.get(&path, parse).unwrap()
        };
        assert_eq!(get(), None);
        // In this order: settled, another settled one of the same size, two fresh ones of the same size.
        let written = [("one", now - secs(100), 1), ("two", now - secs(50), 1), ("abc", fresh, 2), ("def", fresh, 2)];
        for (text, modified, parsed) in written {
            write(text, modified);
            times.set(0);
            assert_eq!(get().as_deref(), Some(text));
            assert_eq!(get().as_deref(), Some(text), "asked again");
            assert_eq!(times.get(), parsed, "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(get(), None);
    }

    #[test]
    fn neither_many_files_nor_large_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = FileCache::new();
        let get = |name: String, size: usize| {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
            files.get(&path, || std::fs::read(&path)).unwrap();
            let kept = files.kept();
            let bytes: u64 = kept.by_path.values().map(|(stamp, _)| stamp.size()).sum();
            assert_eq!(kept.bytes, bytes);
            (kept.by_path.len(), bytes)
        };
        for n in 0..600 {
            assert!((1..=MOST_FILES).contains(&get(format!("small-{n}"), 10).0));
        }
        for n in 0..10 {
            assert!((300_000..=MOST_BYTES).contains(&get(format!("large-{n}"), 300_000).1));
        }
        let before = get("large-9".into(), 300_001);
        assert_eq!(get("too-large".into(), 2 << 20), before);
        assert_eq!(get("large-9".into(), 2 << 20).0, before.0 - 1, "it is not kept as it was");
    }

    #[test]
    fn what_cannot_be_parsed_is_not_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files: FileCache<u8> = FileCache::new();
        assert!(files.get(file.path(), || Err(io::Error::other("no"))).is_err());
        assert_eq!(files.get(file.path(), || Ok::<_, io::Error>(7)).unwrap(), Some(7));
    }
}
