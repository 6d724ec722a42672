//! Our own program in the home, where every node finds it: an update must not break runs that wait in the queue.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::clock::UnixSeconds;
use crate::home::{make_directory, random_suffix, stable_hash};

/// How the name of each copy begins.
const PREFIX: &str = "moadim-mcp-";

/// Returns the copy of `program` in `directory`, and makes it if it is not there yet.
///
/// # Errors
/// The system's.
pub(super) fn copy(program: &Path, directory: &Path) -> io::Result<PathBuf> {
    let metadata = program.metadata()?;
    // A build differs from another in one of these; a copy from another machine is merely one more.
    let build = format!("{} {} {}", metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    let path = directory.join(format!("{PREFIX}{:016x}", stable_hash(build.as_bytes())));
    if path.metadata().is_ok_and(|copied| copied.len() == metadata.len()) {
        // It is in use again; a copy of another user's cannot be dated, and is not ours to remove either.
        let _ = File::open(&path).and_then(|copy| copy.set_modified(SystemTime::now()));
        return Ok(path);
    }
    if !directory.is_dir() {
        make_directory(directory)?;
    }
    let temporary = directory.join(format!(".{}.tmp", random_suffix()));
    let copied = write(program, &temporary).and_then(|()| put(&temporary, &path, metadata.len()));
    // Gone already where it was renamed.
    let _ = std::fs::remove_file(&temporary);
    copied.map(|()| path)
}

/// How long a copy is kept that no run was submitted with.
const KEPT_SECS: u64 = 7 * 24 * 60 * 60;

/// Removes the copies that no run was submitted with for a week. The caller knows that no run waits or is alive.
///
/// # Errors
/// The system's; a directory that is not there has no copies.
pub fn remove_unused(directory: &Path, now: UnixSeconds) -> io::Result<()> {
    let listed = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    for file in listed {
        let file = file?;
        let is_copy = file.file_name().to_string_lossy().starts_with(PREFIX);
        if is_copy && UnixSeconds::from(file.metadata()?.modified()?).age_secs_at(now) > KEPT_SECS {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// Gives a copy its name, unless another process has put a whole one there by now, which supervisors may be executing: one that is
/// replaced cannot find its own program any more.
fn put(temporary: &Path, path: &Path, size: u64) -> io::Result<()> {
    match std::fs::hard_link(temporary, path) {
        Err(_) if path.metadata().is_ok_and(|there| there.len() == size) => Ok(()),
        // What is there is damaged, or this file system has no hard links.
        Err(_) => std::fs::rename(temporary, path),
        Ok(()) => Ok(()),
    }
}

fn write(program: &Path, to: &Path) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o700).open(to)?;
    io::copy(&mut File::open(program)?, &mut copy)?;
    copy.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_build_is_copied_once_and_can_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let (program, bin) = (dir.path().join("program"), dir.path().join("bin"));
        std::fs::write(&program, "one").unwrap();
        let first = copy(&program, &bin).unwrap();
        assert_eq!(copy(&program, &bin).unwrap(), first);
        assert_eq!(std::fs::read_to_string(&first).unwrap(), "one");
        assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(&program, "another").unwrap();
        let second = copy(&program, &bin).unwrap();
        assert_ne!(second, first, "queued runs keep the program that they were submitted with");
        assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 2);
        let later = UnixSeconds::now().plus_secs(KEPT_SECS + 60);
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(later.0);
        File::open(&second).unwrap().set_modified(at).unwrap();
        std::fs::write(bin.join("other"), "").unwrap();
        remove_unused(&bin, later).unwrap();
        assert!(!first.exists() && second.exists() && bin.join("other").exists());
        remove_unused(&dir.path().join("none"), later).unwrap();
    }

    #[test]
    fn of_many_who_copy_it_at_once_none_replaces_what_another_executes() {
        let dir = tempfile::tempdir().unwrap();
        let (program, bin) = (dir.path().join("program"), dir.path().join("bin"));
        std::fs::write(&program, "one").unwrap();
        let files: Vec<u64> = std::thread::scope(|scope| {
            let copy = || copy(&program, &bin).unwrap().metadata().unwrap().ino();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(copy)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(files.iter().all(|file| *file == files[0]), "{files:?}");
        assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 1);
        // One that is damaged is replaced.
        let path = copy(&program, &bin).unwrap();
        std::fs::write(&path, "half of it").unwrap();
        assert_eq!(std::fs::read_to_string(copy(&program, &bin).unwrap()).unwrap(), "one");
    }
}
