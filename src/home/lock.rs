//! Locks between processes, by flock: they die with their holder and survive the deletion of their file.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

pub(crate) use super::holder::LockError;
use super::holder::{self, Signature};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Together with others that hold it so.
    Shared,
    /// Alone.
    Exclusive,
}

/// A held lock; dropping it, or dying, releases it. Its descriptor is close-on-exec, as all that std opens.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    signed: bool,
}

impl FileLock {
    /// Takes the lock on `path` within `timeout`, creating the file if need be. A process that takes it alone signs the file, so that
    /// others can name the holder.
    ///
    /// # Errors
    /// `LockError::Held` after `timeout`, with the holder unless it is zero; else the system's.
    pub fn acquire(path: &Path, mode: Mode, timeout: Duration) -> Result<Self, LockError> {
        let mut lock = Self::wait_for(path, mode, timeout)?;
        if mode == Mode::Exclusive {
            lock.signed = true;
            // On a full disk, or a read-only one, the holder stays unnamed.
            let _ = serde_json::to_string(&Signature::of_this_process()).map(|text| lock.set_content(&text));
        }
        Ok(lock)
    }

    /// Takes the lock alone as [`FileLock::acquire`] does, and leaves the file's content to the caller.
    pub fn acquire_unsigned(path: &Path, timeout: Duration) -> Result<Self, LockError> {
        Self::wait_for(path, Mode::Exclusive, timeout)
    }

    fn wait_for(path: &Path, mode: Mode, timeout: Duration) -> Result<Self, LockError> {
        let deadline = Instant::now() + timeout;
        loop {
            match Self::attempt(path, mode, true) {
                Err(error) if error.is_held() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                // A caller that does not wait comes again, and has no use for a name.
                Err(LockError::Held { path, .. }) if !timeout.is_zero() => {
                    let holder = holder::of(&path).map(Box::new);
                    return Err(LockError::Held { path, holder });
                }
                result => return result,
            }
        }
    }

    /// Takes the lock on a file that exists, without waiting.
    pub fn try_existing(path: &Path, mode: Mode) -> Result<Self, LockError> {
        Self::attempt(path, mode, false)
    }

    /// Returns whether `path` still names the file that this lock holds.
    fn still_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), std::fs::symlink_metadata(path)) {
            (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
            _ => false,
        }
    }

    /// Replaces the file's content, in which others read who holds it. A process that dies in between leaves the end of the
    /// old content behind the new one.
    pub fn set_content(&mut self, text: &str) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        // The other way round a full disk, or a kill, would leave nothing.
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// Closes the file to other users, whatever its mode was.
    pub fn close_to_others(&self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o600))
    }

    fn attempt(path: &Path, mode: Mode, create: bool) -> Result<Self, LockError> {
        let fail = |source| LockError::Io { path: path.to_owned(), source };
        // A holder may delete the file between our open and our lock; then ours is a lock on nothing, so try again.
        for _ in 0..16 {
            let file = open(path, create).map_err(fail)?;
            let taken = match mode {
                Mode::Shared => file.try_lock_shared(),
                Mode::Exclusive => file.try_lock(),
            };
            match taken {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held { path: path.to_owned(), holder: None }),
                Err(TryLockError::Error(source)) => return Err(fail(source)),
            }
            let lock = Self { file, signed: false };
            if lock.still_at(path) {
                return Ok(lock);
            }
            if !create {
                break;
            }
        }
        Err(fail(io::Error::from(io::ErrorKind::NotFound)))
    }
}

impl Drop for FileLock {
    /// Closing would release it only once no child that another thread is starting has a copy of the descriptor. The
    /// close that follows is what there is where the system refuses this. Our signature goes first: it must not name us
    /// while another process holds the lock.
    fn drop(&mut self) {
        if self.signed {
            let _ = self.set_content("{}\n");
        }
        let _ = self.file.unlock();
    }
}

/// Opens a lock's file for writing, or for reading where that is all that may be done, as on a read-only file system: a lock
/// can be taken on either.
fn open(path: &Path, create: bool) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let options = || OpenOptions::new().read(true).custom_flags(flags).to_owned();
    let opened = options().write(true).create(create).truncate(false).mode(0o600).open(path);
    opened.or_else(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => options().open(path).map_err(|_| error),
        _ => Err(error),
    })
}

/// Finds out whether locks work where `path` is: two descriptors of one file must not both be locked exclusively. The file
/// stays, so that the next probe needs no room on a full disk.
pub fn probe(path: &Path) -> io::Result<()> {
    loop {
        let first = open(path, true)?;
        match first.try_lock() {
            Ok(()) => {}
            // Another process probes it: its lock kept us out, which is the answer.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let second = open(path, true)?;
        match second.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) if first.metadata()?.ino() == second.metadata()?.ino() => {
                return Err(io::Error::other("two processes were both granted the same lock"));
            }
            // Somebody deleted the file between the two.
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn owners_overlap_and_a_judge_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let trigger = FileLock::acquire(&path, Mode::Shared, NOW).unwrap();
        let supervisor = FileLock::try_existing(&path, Mode::Shared).unwrap();
        assert!(FileLock::try_existing(&path, Mode::Exclusive).unwrap_err().is_held());
        drop(trigger);
        assert!(FileLock::try_existing(&path, Mode::Exclusive).unwrap_err().is_held());
        drop(supervisor);
        let _judge = FileLock::try_existing(&path, Mode::Exclusive).unwrap();
        assert!(FileLock::try_existing(&path, Mode::Shared).unwrap_err().is_held());
    }

    #[test]
    fn a_dropped_lock_is_free_even_while_a_child_that_starts_has_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::acquire(&path, Mode::Exclusive, NOW).unwrap();
        // What any thread's fork makes, for as long as it has not become its program.
        let _of_the_child = lock.file.try_clone().unwrap();
        drop(lock);
        FileLock::try_existing(&path, Mode::Exclusive).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_content_that_cannot_be_replaced_stays() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        use std::io::Read;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut lock = FileLock { file: memfd_create("lock", flags).unwrap().into(), signed: false };
        lock.set_content("longer").unwrap();
        lock.set_content("old").unwrap();
        // What is there can be cut off, and nothing can be written.
        fcntl_add_seals(&lock.file, SealFlags::WRITE).unwrap();
        lock.set_content("new").unwrap_err();
        let mut content = String::new();
        std::io::Seek::rewind(&mut lock.file).unwrap();
        lock.file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "old");
    }

    #[test]
    fn a_holder_is_named_while_it_holds_the_lock_alone_and_not_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "what is longer than any signature, ".repeat(9)).unwrap();
        let held = FileLock::acquire(&path, Mode::Exclusive, NOW).unwrap();
        let error = FileLock::acquire(&path, Mode::Shared, Duration::from_millis(5)).unwrap_err().to_string();
        let us = format!("(pid {}) since ", std::process::id());
        assert!(error.contains(&us), "{error}");
        drop(held);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
        let _shared = FileLock::acquire(&path, Mode::Shared, NOW).unwrap();
        let error = FileLock::acquire(&path, Mode::Exclusive, Duration::from_millis(5)).unwrap_err().to_string();
        assert!(!error.contains("since"), "those who share it do not sign: {error}");
    }

    #[test]
    fn a_lock_that_cannot_be_written_is_taken_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        let _held = FileLock::acquire(&path, Mode::Exclusive, NOW).unwrap();
        assert!(FileLock::try_existing(&path, Mode::Shared).unwrap_err().is_held());
        probe(&path).unwrap();
    }

    #[test]
    fn a_missing_lock_is_not_created_by_a_judge() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("lock");
        assert!(FileLock::try_existing(&missing, Mode::Exclusive).unwrap_err().is_not_found());
        assert!(!missing.exists());
    }

    #[test]
    fn counting_survives_the_deletion_of_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, counter) = (dir.path().join("lock"), dir.path().join("counter"));
        std::fs::write(&counter, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let held = FileLock::acquire(&path, Mode::Exclusive, Duration::from_secs(120)).unwrap();
                        let count: u32 = std::fs::read_to_string(&counter).unwrap().parse().unwrap();
                        std::fs::write(&counter, (count + 1).to_string()).unwrap();
                        std::fs::remove_file(&path).unwrap();
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&counter).unwrap(), "200");
    }

    #[test]
    fn locks_work_here_while_others_probe_or_delete_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("probe");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..200 {
                        probe(path).unwrap();
                        if thread == 0 {
                            let _ = std::fs::remove_file(path);
                        }
                    }
                });
            }
        });
        std::fs::write(&path, "").unwrap();
        let before = path.metadata().unwrap().ino();
        probe(&path).unwrap();
        assert_eq!(path.metadata().unwrap().ino(), before, "a full disk has no room for another");
    }
}
