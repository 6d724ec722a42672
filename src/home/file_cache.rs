//! Recognising a file that has not changed since it was read, and keeping what was parsed of it until then.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::AtFlags;

/// What a file is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// In seconds and nanoseconds.
    modified: (i64, i64),
    /// When the file itself last became another, likewise: unlike `modified` it cannot be set back.
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// One number for a stamp: less to keep where there are tens of thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl From<Stamp> for Fingerprint {
    fn from(stamp: Stamp) -> Self {
        let mut hasher = DefaultHasher::new();
        stamp.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Stamp {
    /// Looks at a file; a symlink is looked at itself. `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().as_ref().map(Self::from)
    }

    /// Looks at a file below an open directory, which is quicker than a walk from the root. `None` if there is none.
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between platforms")]
    pub fn below(directory: &OwnedFd, path: &str) -> Option<Self> {
        let stat = rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        })
    }

    /// Looks at a file, through symlinks. `None` if there is none.
    pub fn of_target(path: &Path) -> Option<Self> {
        path.metadata().ok().as_ref().map(Self::from)
    }

    /// Whether both are of one file, whatever was written to it or how it was renamed.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn modified(&self) -> SystemTime {
        let (secs, nanos) = self.modified;
        let whole = Duration::from_secs(secs.unsigned_abs());
        let whole = if secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
        let nanos = Duration::from_nanos(nanos.try_into().unwrap_or_default());
        whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
    }

    /// Returns whether another write would show: one in the same tick of the file system's clock may not. A time far ahead is from
    /// before the clock was set back, so another write would show too.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        match now.duration_since(self.modified()) {
            Ok(age) => age > Duration::from_secs(1),
            Err(ahead) => ahead.duration() > Duration::from_secs(60),
        }
    }
}

/// How many files of a kind are kept: the longest page of a list and more.
const MOST_FILES: usize = 256;

/// Larger files are parsed each time: what is parsed takes a multiple of their size.
const MOST_BYTES: u64 = 4 * 1024;

/// What files of one kind said when they were last parsed.
#[derive(Debug)]
pub struct FileCache<T> {
    // Not by path: those are compared part by part.
    kept: Mutex<BTreeMap<OsString, (Stamp, T)>>,
}

impl<T: Clone> FileCache<T> {
    pub const fn new() -> Self {
        Self { kept: Mutex::new(BTreeMap::new()) }
    }

    /// Returns what a file says, which `parse` reads unless the file is as it was when it was last parsed; `None` if there is
    /// no such file.
    pub fn get<E>(&self, path: &Path, parse: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        let Some(stamp) = Stamp::of(path) else { return Ok(None) };
        if let Some((_, known)) = self.kept().get(path.as_os_str()).filter(|(known, _)| *known == stamp) {
            return Ok(Some(known.clone()));
        }
        let parsed = parse()?;
        let mut kept = self.kept();
        kept.remove(path.as_os_str());
        if stamp.is_settled(SystemTime::now()) && stamp.size() <= MOST_BYTES {
            if kept.len() >= MOST_FILES {
                kept.clear();
            }
            kept.insert(path.into(), (stamp, parsed.clone()));
        }
        Ok(Some(parsed))
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<OsString, (Stamp, T)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io;

    #[test]
    fn a_symlink_is_looked_at_itself_or_through() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert_ne!(Stamp::of(&link), Stamp::of(&file));
        assert!(Stamp::of(&file).is_some() && Stamp::of_target(&link) == Stamp::of(&file));
        assert_eq!(Stamp::of(&dir.path().join("gone")), None);
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
    fn a_file_that_changed_is_parsed_again_and_one_that_is_gone_is_gone() {
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
        let kept_after = |name: String, size: u64| {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![b'x'; size.try_into().unwrap()]).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
            files.get(&path, || std::fs::read(&path)).unwrap();
            files.kept().len()
        };
        for n in 0..600 {
            assert!((1..=MOST_FILES).contains(&kept_after(format!("small-{n}"), 10)));
        }
        let before = kept_after("grows".into(), MOST_BYTES);
        assert_eq!(kept_after("too-large".into(), MOST_BYTES + 1), before);
        assert_eq!(kept_after("grows".into(), MOST_BYTES + 1), before - 1, "it is not kept as it was");
    }

    #[test]
    fn what_cannot_be_parsed_is_not_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files: FileCache<u8> = FileCache::new();
        assert!(files.get(file.path(), || Err(io::Error::other("no"))).is_err());
        assert_eq!(files.get(file.path(), || Ok::<_, io::Error>(7)).unwrap(), Some(7));
    }
}
