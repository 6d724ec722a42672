//! Files as they were last parsed. Lists are asked for again and again, and parsing would be most of their work.
//!
//! For looking only: whatever acts on what a file says reads it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::stamp::Stamp;

/// How many files of a kind are kept: the longest page of a list and more.
const MOST_FILES: usize = 256;

/// How many bytes those files have in all: what is parsed takes a multiple of that.
const MOST_BYTES: u64 = 1 << 20;

/// What files of one kind said when they were last parsed.
#[derive(Debug)]
pub struct ParsedFiles<T> {
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

impl<T: Clone> ParsedFiles<T> {
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

impl<T: Clone> Default for ParsedFiles<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io;
    use std::time::Duration;

    #[test]
    fn a_file_that_changed_is_parsed_anew_and_one_that_is_gone_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let (files, times) = (ParsedFiles::new(), Cell::new(0));
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
        let files = ParsedFiles::new();
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
        let files: ParsedFiles<u8> = ParsedFiles::new();
        assert!(files.get(file.path(), || Err(io::Error::other("no"))).is_err());
        assert_eq!(files.get(file.path(), || Ok::<_, io::Error>(7)).unwrap(), Some(7));
    }
}
