//! Keeping `agent.log` within its size on disk, so that one agent cannot fill the disk.
//!
//! On Linux the middle of the log becomes a hole: its beginning and its end, and every offset, stay as they are, and the
//! agent never notices. Elsewhere the log is emptied, with a note, which is all that can be done to a file that somebody
//! else appends to.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::silence::LogMark;
use crate::home::atomic_file::{FileError, open_in_real_directory};
use crate::run::log::Log;
use crate::run::workbench::Workbench;

/// The pauses between two looks: short while the log grows fast, else long enough to cost nothing. The longest is also how
/// often the supervisor looks at the bound.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Holes begin and end at blocks; this is a multiple of every usual block size.
const ALIGNMENT: u64 = 64 * 1024;

/// The logs of a run, held open: the agent may remove their names, and go on writing.
#[derive(Debug)]
pub(super) struct LogCap {
    stdout: Option<Watched>,
    /// That of stderr, which is there only beside a log for programs, and what else is kept small.
    others: Vec<Watched>,
    max_bytes: u64,
    pause: Duration,
}

#[derive(Debug)]
struct Watched {
    log: File,
    seen_bytes: u64,
    mark: Option<LogMark>,
}

impl LogCap {
    /// Starts watching the logs. One that cannot be opened cannot be kept small; the agent could not open it either.
    pub(super) fn watch(workbench: &Workbench, max_bytes: u64) -> Self {
        let stderr = workbench.stderr_log();
        let others = Vec::from_iter(stderr.exists().then(|| open(&stderr)).flatten());
        Self { stdout: open(&workbench.log()), others, max_bytes, pause: SHORTEST_PAUSE }
    }

    /// Watches the files that have the names of the logs by now: something may have replaced them. One whose name is gone is still
    /// what its writer has open.
    pub(super) fn watch_again(&mut self, workbench: &Workbench, max_bytes: u64) {
        let Self { stdout, others, .. } = std::mem::replace(self, Self::watch(workbench, max_bytes));
        self.stdout = self.stdout.take().or(stdout);
        if self.others.is_empty() {
            self.others = others;
        }
    }

    /// Keeps one more file within its size.
    pub(super) fn watch_also(&mut self, path: &Path) {
        self.others.extend(open(path));
    }

    /// Looks at the logs, makes them smaller if need be, and returns after what time to look again.
    pub(super) fn look(&mut self) -> Duration {
        let max_bytes = self.max_bytes;
        let logs = self.stdout.iter_mut().chain(&mut self.others);
        let growth = logs.filter_map(|watched| watched.look(max_bytes)).max();
        self.pause = growth.map_or(LONGEST_PAUSE, |growth| next_pause(self.pause, growth, max_bytes));
        self.pause
    }

    /// Returns the log of stdout as it is now, whatever has its name.
    pub(super) fn stdout(&self, path: PathBuf) -> Result<Log, FileError> {
        let log = self.stdout.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let log = log.and_then(|watched| watched.log.try_clone());
        Log::of_file(log.map_err(|source| FileError::io("read", &path, source))?, path)
    }

    /// Returns how the logs were at the last look; `None` for one that could not be looked at, and nothing if there is none.
    pub(super) fn marks(&self) -> Vec<Option<LogMark>> {
        self.stdout.iter().chain(&self.others).map(|watched| watched.mark).collect()
    }
}

fn open(path: &Path) -> Option<Watched> {
    let log = open_in_real_directory(path, OFlags::RDWR | OFlags::APPEND)
        .inspect_err(|error| tracing::warn!(%error, log = %path.display(), "the log's size is not watched"))
        .ok()?;
    Some(Watched { log, seen_bytes: 0, mark: None })
}

impl Watched {
    /// Looks at the log, and makes it smaller if need be; returns by how much it has grown.
    fn look(&mut self, max_bytes: u64) -> Option<u64> {
        let Ok(metadata) = self.log.metadata() else {
            self.mark = None;
            return None;
        };
        self.mark = metadata.modified().ok().map(|written| (metadata.len(), written));
        let growth = metadata.len().saturating_sub(self.seen_bytes);
        self.seen_bytes = metadata.len();
        // It may be a file elsewhere that the agent gave this name too.
        if metadata.nlink() <= 1
            && let Some((start, end)) = surplus(metadata.len(), metadata.blocks() * 512, max_bytes)
            && let Err(error) = drop_middle(&self.log, start, end)
        {
            tracing::warn!(%error, "the log cannot be made smaller");
        }
        Some(growth)
    }
}

/// Returns the part of a log to drop: what lies between its first quarter and its last half of what is allowed, once it
/// takes up more on disk.
fn surplus(bytes: u64, allocated_bytes: u64, max_bytes: u64) -> Option<(u64, u64)> {
    if allocated_bytes <= max_bytes {
        return None;
    }
    let start = (max_bytes / 4).next_multiple_of(ALIGNMENT);
    let end = bytes.saturating_sub(max_bytes / 2) / ALIGNMENT * ALIGNMENT;
    (start < end).then_some((start, end))
}

/// Looks more often while the log grows so fast that a pause could take it past its size, else ever less often.
fn next_pause(pause: Duration, growth: u64, max_bytes: u64) -> Duration {
    if growth > max_bytes / 16 { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) }
}

#[cfg(target_os = "linux")]
fn drop_middle(log: &File, start: u64, end: u64) -> std::io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(log, hole, start, end - start)?)
}

#[cfg(not(target_os = "linux"))]
fn drop_middle(log: &File, _start: u64, end: u64) -> std::io::Result<()> {
    use std::io::Write;
    log.set_len(0)?;
    let mut log = log;
    writeln!(log, "[moadim] the log had grown beyond max_log_bytes; about {end} bytes before this line were dropped")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;
    use crate::home::Home;
    use crate::run::id::RunId;
    use proptest::prelude::*;

    #[test]
    fn a_log_within_its_size_is_left_alone() {
        assert_eq!(surplus(u64::MAX, 100, 100), None, "a log that is mostly a hole already");
        assert_eq!(surplus(100, 101, 100), None, "nothing to drop in the middle");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_middle_of_a_large_log_goes_and_its_ends_and_size_stay() {
        const MAX: u64 = 4 << 20;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &RunId::new("a".parse().unwrap(), UnixSeconds(1)));
        std::fs::create_dir(workbench.directory()).unwrap();
        let lines: Vec<u8> = (0..1_000_000).flat_map(|n: u32| format!("{n:015}\n").into_bytes()).collect();
        std::fs::write(workbench.log(), &lines).unwrap();
        let mut cap = LogCap::watch(&workbench, MAX);
        std::fs::rename(workbench.log(), workbench.directory().join("moved")).unwrap();
        assert_eq!(cap.look(), SHORTEST_PAUSE);
        let log = std::fs::metadata(workbench.directory().join("moved")).unwrap();
        assert!(log.blocks() * 512 <= MAX, "{} blocks", log.blocks());
        assert_eq!(log.len(), lines.len() as u64);
        let kept = std::fs::read(workbench.directory().join("moved")).unwrap();
        assert_eq!(kept[..1 << 20], lines[..1 << 20]);
        assert_eq!(kept[kept.len() - (2 << 20)..], lines[lines.len() - (2 << 20)..]);
    }

    #[test]
    fn a_log_whose_name_is_gone_stays_what_its_writer_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &RunId::new("a".parse().unwrap(), UnixSeconds(1)));
        std::fs::create_dir(workbench.directory()).unwrap();
        let read = |cap: &LogCap| cap.stdout(workbench.log()).map(|log| log.raw(0).unwrap().0);
        std::fs::write(workbench.log(), "first").unwrap();
        std::fs::write(workbench.stderr_log(), "stderr").unwrap();
        let mut cap = LogCap::watch(&workbench, 1 << 20);
        std::fs::remove_file(workbench.log()).unwrap();
        cap.watch_again(&workbench, 1 << 20);
        assert_eq!(read(&cap).unwrap(), b"first");
        std::fs::write(workbench.log(), "second").unwrap();
        cap.watch_again(&workbench, 1 << 20);
        assert_eq!(read(&cap).unwrap(), b"second");
        std::fs::remove_file(workbench.log()).unwrap();
        assert!(read(&LogCap::watch(&workbench, 1 << 20)).is_err(), "stderr never passes for it");
    }

    #[test]
    fn a_file_that_has_another_name_is_left_whole() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let workbench = Workbench::of(&home, &RunId::new("a".parse().unwrap(), UnixSeconds(1)));
        std::fs::create_dir(workbench.directory()).unwrap();
        let (elsewhere, content) = (dir.path().join("elsewhere"), vec![b'x'; 4 << 20]);
        std::fs::write(&elsewhere, &content).unwrap();
        std::fs::hard_link(&elsewhere, workbench.log()).unwrap();
        let mut cap = LogCap::watch(&workbench, 1 << 20);
        cap.look();
        assert!(std::fs::read(&elsewhere).unwrap() == content);
        std::fs::remove_file(&elsewhere).unwrap();
        cap.look();
        assert!(std::fs::read(workbench.log()).unwrap() != content, "once it is the only name");
    }

    proptest! {
        #[test]
        fn what_is_dropped_is_never_the_beginning_nor_the_end(bytes in 0..1u64 << 50, max in 0..1u64 << 40) {
            if let Some((start, end)) = surplus(bytes, bytes, max) {
                prop_assert!(start >= max / 4 && end <= bytes - max / 2 && start < end);
            }
        }
    }
}
