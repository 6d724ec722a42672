//! Marks: whether what something was made from has changed, by facts and by the stamps of files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::file_cache::Stamp;

/// A hash of everything that was added to it. It is of this process alone.
#[derive(Debug)]
pub struct Mark {
    hasher: DefaultHasher,
    newest: Option<SystemTime>,
    is_settled: bool,
    now: SystemTime,
}

impl Default for Mark {
    fn default() -> Self {
        Self { hasher: DefaultHasher::new(), newest: None, is_settled: true, now: SystemTime::now() }
    }
}

impl Mark {
    pub fn add_fact(&mut self, fact: &impl Hash) {
        fact.hash(&mut self.hasher);
    }

    /// Adds a file's identity, its size and when it was written; of a directory, which names it has.
    pub fn add_file(&mut self, path: &Path) {
        let stamp = Stamp::of(path);
        self.is_settled &= stamp.is_none_or(|stamp| stamp.is_settled(self.now));
        self.add_time(stamp.map(|stamp| stamp.modified()));
        self.add_fact(&stamp);
    }

    /// Adds a directory and each of its entries.
    pub fn add_files(&mut self, directory: &Path) {
        self.add_file(directory);
        let listed = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
        // The system may list them in any order.
        paths.sort_unstable();
        paths.iter().for_each(|path| self.add_file(path));
    }

    /// Adds when something else was written.
    pub fn add_time(&mut self, written: Option<SystemTime>) {
        self.newest = self.newest.max(written);
    }

    #[must_use]
    pub fn fact(mut self, fact: &impl Hash) -> Self {
        self.add_fact(fact);
        self
    }

    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        self.add_file(path);
        self
    }

    #[must_use]
    pub fn files(mut self, directory: &Path) -> Self {
        self.add_files(directory);
        self
    }

    /// Returns when the newest of the files was written.
    pub fn newest(&self) -> Option<SystemTime> {
        self.newest
    }

    pub fn fingerprint(&self) -> u64 {
        self.hasher.finish()
    }

    /// Returns the fingerprint; `None` while another change of a file would not show.
    pub fn settled(&self) -> Option<u64> {
        self.is_settled.then(|| self.fingerprint())
    }
}
