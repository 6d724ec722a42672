//! Reading and writing whole files so that nobody ever sees half of one.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::{Errno, retry_on_intr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file_cache::Stamp;

/// The largest record that is read: more than any honest one, little enough to never hurt.
pub const MAX_RECORD_BYTES: u64 = 4 * 1024 * 1024;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("{path} is damaged: {problem}; mend or remove it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl FileError {
    /// Wraps the system's error with what was tried and where.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Tells that a file's content is not what it should be.
    pub fn damaged(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.to_string() }
    }

    /// Tells whether the file simply is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Opens a regular file for reading, and nothing else: a symlink, a fifo or a device in its place is refused without
/// following it or waiting for it.
///
/// # Errors
/// The system's error, or [`FileError::Damaged`] for anything but a regular file.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    open_with_stamp(&path).map(|(file, _)| file)
}

/// Where a file is read from.
pub trait Source {
    /// Opens it.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno>;

    /// Returns its path, by which errors name it.
    fn path(&self) -> PathBuf;
}

impl Source for &Path {
    fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        open(*self, flags, Mode::empty())
    }

    fn path(&self) -> PathBuf {
        (*self).to_owned()
    }
}

/// A file below an open directory, which takes less time to get to than by its whole path.
#[derive(Debug, Clone, Copy)]
pub struct Below<'a> {
    /// The directory, open.
    pub directory: BorrowedFd<'a>,
    /// Its path.
    pub at: &'a Path,
    /// The file's path in it.
    pub name: &'a str,
}

impl Source for Below<'_> {
    fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(self.directory, self.name, flags, Mode::empty())
    }

    fn path(&self) -> PathBuf {
        self.at.join(self.name)
    }
}

fn open_with_stamp(source: &dyn Source) -> Result<(File, Stamp), FileError> {
    let fail = |action, error: Errno| FileError::Io { action, path: source.path(), source: error.into() };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = retry_on_intr(|| source.open(flags)).map_err(|error| fail("open", error))?;
    let stat = fstat(&file).map_err(|error| fail("look at", error))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(FileError::damaged(&source.path(), "it is not a regular file"));
    }
    Ok((file.into(), Stamp::from_stat(&stat)))
}

/// Room beside a file's size, so that one read takes it in and is seen to be short.
const ROOM_TO_SEE_THE_END: u64 = 64;

/// Reads a whole regular file of at most `max_bytes`.
///
/// # Errors
/// As [`open_regular`]; a larger file is [`FileError::Damaged`].
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    read_with_stamp(&path, max_bytes).map(|(bytes, _)| bytes)
}

fn read_with_stamp(source: &dyn Source, max_bytes: u64) -> Result<(Vec<u8>, Stamp), FileError> {
    let (file, stamp) = open_with_stamp(source)?;
    let bytes = read_to_end(&file, stamp.size(), max_bytes).map_err(|error| FileError::Io {
        action: "read",
        path: source.path(),
        source: error,
    })?;
    if bytes.len() as u64 > max_bytes {
        return Err(FileError::damaged(&source.path(), format_args!("it is larger than {max_bytes} bytes")));
    }
    Ok((bytes, stamp))
}

/// Reads a file to its end, or a byte more than `max_bytes`. One read does for a file that has its size: asking again whether it
/// has ended would be a good part of the work where very many are read.
fn read_to_end(mut file: &File, size: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    let expected = size.min(max_bytes) + ROOM_TO_SEE_THE_END;
    let mut bytes = vec![0; usize::try_from(expected).unwrap_or_default()];
    let read = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    bytes.truncate(read);
    if read as u64 != size {
        file.take(max_bytes + 1 - (read as u64).min(max_bytes)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads a text file of at most [`MAX_RECORD_BYTES`].
///
/// # Errors
/// As [`read`]; text that is not UTF-8 is [`FileError::Damaged`].
pub fn read_text(path: &Path) -> Result<String, FileError> {
    read_text_with_stamp(&path, MAX_RECORD_BYTES).map(|(text, _)| text)
}

/// Reads a text file of at most `max_bytes`, and returns what the file that was read is known by.
///
/// # Errors
/// As [`read_text`].
pub fn read_text_with_stamp(source: &dyn Source, max_bytes: u64) -> Result<(String, Stamp), FileError> {
    let (bytes, stamp) = read_with_stamp(source, max_bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| FileError::damaged(&source.path(), "it is not UTF-8 text"))?;
    Ok((text, stamp))
}

/// Reads a JSON record.
///
/// # Errors
/// As [`read`]; JSON of another form is [`FileError::Damaged`], with the place.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    read_json_with_stamp(&path).map(|(value, _)| value)
}

/// Reads a JSON record, and returns what the file that was read is known by.
///
/// # Errors
/// As [`read_json`].
pub fn read_json_with_stamp<T: DeserializeOwned>(source: &dyn Source) -> Result<(T, Stamp), FileError> {
    let (bytes, stamp) = read_with_stamp(source, MAX_RECORD_BYTES)?;
    let value = serde_json::from_slice(&bytes).map_err(|error| FileError::damaged(&source.path(), error))?;
    Ok((value, stamp))
}

/// Reads a JSON record that need not be there.
///
/// # Errors
/// As [`read_json`], but a missing file is `None`.
pub fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    match read_json(path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes a damaged record for one that is not there, where that is no loss. One that cannot be read just now stays an error.
///
/// # Errors
/// The others of [`read_json_if_present`].
pub fn unless_damaged<T>(read: Result<Option<T>, FileError>) -> Result<Option<T>, FileError> {
    match read {
        Err(FileError::Damaged { .. }) => Ok(None),
        read => read,
    }
}

/// Replaces a file's content: temp, fsync, rename, fsync of the directory. Mode 0600.
///
/// # Errors
/// The system's; the old content is then still there, and no temporary file is left.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    publish(directory_of(path), path, bytes, |temporary| std::fs::rename(temporary, path))
}

/// Replaces a file's content like [`write()`], with another mode, if it is still to be replaced once all the rest is done, for
/// that may take seconds; returns whether it was.
///
/// # Errors
/// As [`write()`].
pub fn write_if(path: &Path, bytes: &[u8], mode: u32, still: impl FnOnce() -> bool) -> Result<bool, FileError> {
    let mut written = true;
    publish(directory_of(path), path, bytes, |temporary| {
        std::fs::set_permissions(temporary, Permissions::from_mode(mode))?;
        written = still();
        if written { std::fs::rename(temporary, path) } else { std::fs::remove_file(temporary) }
    })?;
    Ok(written)
}

/// Replaces a file's content with a JSON record.
///
/// # Errors
/// As [`write()`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    write(path, &json_line(path, value)?)
}

/// Replaces a file's content with a JSON record as [`write_json`] does, with the temporary file in the directory `staging`:
/// where `path` is an agent's, a crash then leaves nothing there, and nothing can be put in its way. Where `path` is on another
/// file system, or on a mount of its own, the temporary file is beside it all the same.
///
/// # Errors
/// As [`write()`].
pub fn write_json_by_way_of<T: Serialize>(staging: &Path, path: &Path, value: &T) -> Result<(), FileError> {
    let bytes = json_line(path, value)?;
    let written = publish(staging, path, &bytes, |temporary| std::fs::rename(temporary, path));
    match written {
        Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => write(path, &bytes),
        written => written,
    }
}

/// Writes a file where nobody looks yet, or that nobody needs after a power cut: in place, and not synced. Mode 0600.
/// Returns it, for those that are to be synced.
///
/// # Errors
/// The system's; a part of it may be there then.
pub fn write_in_place(path: &Path, bytes: &[u8]) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let written = options.open(path).and_then(|mut file| file.write_all(bytes).map(|()| file));
    written.map_err(|source| FileError::io("write", path, source))
}

/// Writes a JSON record like [`write_in_place`].
///
/// # Errors
/// As [`write_in_place`].
pub fn write_json_in_place<T: Serialize>(path: &Path, value: &T) -> Result<File, FileError> {
    write_in_place(path, &json_line(path, value)?)
}

/// Writes a JSON record unless one is there: of any number of writers exactly one gets `true`.
///
/// # Errors
/// As [`write()`].
pub fn write_json_once<T: Serialize>(path: &Path, value: &T) -> Result<bool, FileError> {
    write_once(path, &json_line(path, value)?)
}

/// Writes a file unless one is there, as [`write_json_once`] does.
///
/// # Errors
/// As [`write()`].
pub fn write_once(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let mut won = true;
    publish(directory_of(path), path, bytes, |temporary| {
        won = link_unless_present(temporary, path)?;
        Ok(())
    })?;
    Ok(won)
}

/// Gives a finished file its name unless that is taken, and takes the temporary one away; returns whether it has it.
fn link_unless_present(temporary: &Path, path: &Path) -> io::Result<bool> {
    let won = match std::fs::hard_link(temporary, path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    std::fs::remove_file(temporary)?;
    Ok(won)
}

/// Replaces a JSON record like [`write_json`], but unsynced: for what nobody needs after a power cut, which may leave it empty.
///
/// # Errors
/// As [`write()`].
pub fn replace_json_unsynced<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    put_unsynced(path, &json_line(path, value)?, |temporary| std::fs::rename(temporary, path))
}

/// Writes a JSON record unless one is there like [`write_json_once`], but unsynced.
///
/// # Errors
/// As [`write()`].
pub fn create_json_unsynced<T: Serialize>(path: &Path, value: &T) -> Result<bool, FileError> {
    let mut won = true;
    put_unsynced(path, &json_line(path, value)?, |temporary| {
        won = link_unless_present(temporary, path)?;
        Ok(())
    })?;
    Ok(won)
}

/// Appends one line with one write; a last line that a crash cut short is ended first, so that it cannot swallow ours. The
/// file's name is on disk before its first line is written; the line is once the returned file is synced.
///
/// # Errors
/// The system's. The caller holds the file's lock.
pub fn append_line(path: &Path, line: &str) -> Result<File, FileError> {
    append(path, line, u64::MAX, sync_directory)
}

/// Appends one line as [`append_line`], unless the file has another name, elsewhere perhaps; its name is not synced.
///
/// # Errors
/// The system's, or [`FileError::Damaged`] for a file with another name.
pub fn append_line_to_sole_name(path: &Path, line: &str) -> Result<(), FileError> {
    append(path, line, 1, |_| Ok(())).map(drop)
}

fn append(
    path: &Path,
    line: &str,
    max_names: u64,
    keep_name: impl FnOnce(&Path) -> Result<(), FileError>,
) -> Result<File, FileError> {
    use std::os::unix::fs::FileExt;
    let fail = |source| FileError::io("append to", path, source);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(FileError::damaged(path, "it is not a regular file"));
    }
    if metadata.nlink() > max_names {
        return Err(FileError::damaged(path, "it has another name, so that writing here would write there"));
    }
    let mut text = String::with_capacity(line.len() + 2);
    if metadata.size() > 0 {
        let mut last = [0u8];
        file.read_exact_at(&mut last, metadata.size() - 1).map_err(fail)?;
        if last != *b"\n" {
            text.push('\n');
        }
    } else {
        keep_name(directory_of(path))?;
    }
    text.push_str(line);
    text.push('\n');
    file.write_all(text.as_bytes()).map_err(fail)?;
    Ok(file)
}

/// Makes a rename or a new entry in `directory` survive a power cut.
///
/// # Errors
/// The system's.
pub fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(|source| FileError::io("sync", directory, source))
}

fn json_line<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, FileError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| FileError::io("write", path, error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn publish(
    staging: &Path,
    path: &Path,
    bytes: &[u8],
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), FileError> {
    let written = |temporary: &Path| {
        write_temporary(temporary, bytes)?.sync_all()?;
        put(temporary)
    };
    by_way_of_temporary(staging, path, written)?;
    sync_directory(directory_of(path))
}

fn put_unsynced(path: &Path, bytes: &[u8], put: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), FileError> {
    let written = |temporary: &Path| {
        write_temporary(temporary, bytes)?;
        put(temporary)
    };
    by_way_of_temporary(directory_of(path), path, written)
}

/// Has a file written under a temporary name, and leaves none of that name after an error.
fn by_way_of_temporary(
    staging: &Path,
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = staging.join(format!(".{name}.{}.tmp", super::random_suffix()));
    write(&temporary).map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        FileError::io("write", path, source)
    })
}

/// Tells whether a name is that of a temporary file, or of a staged directory, as this program makes them.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    let suffix = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let suffix = suffix.map(|middle| middle.rsplit('.').next().unwrap_or(middle));
    suffix.is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn write_temporary(temporary: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_writers_of_a_record_the_first_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("end.json");
        let winners = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..16)
                .map(|n| {
                    scope.spawn({
                        let path = &path;
                        move || write_json_once(path, &n).unwrap()
                    })
                })
                .collect();
            writers.into_iter().filter(|_| true).map(|w| w.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(winners, 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_record_gets_to_another_file_system_than_its_staging_directory() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), Path::new("/dev/shm"));
        if !elsewhere.is_dir() || elsewhere.metadata().unwrap().dev() == dir.path().metadata().unwrap().dev() {
            return;
        }
        let target = tempfile::tempdir_in(elsewhere).unwrap();
        let path = target.path().join("outcome.json");
        std::fs::write(&path, "old").unwrap();
        write_json_by_way_of(dir.path(), &path, &7).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7\n");
        for directory in [dir.path(), target.path()] {
            let names = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
            assert!(names.into_iter().all(|name| name == "outcome.json"), "a temporary file is left");
        }
    }

    #[test]
    fn whether_a_file_is_to_be_replaced_is_asked_when_all_the_rest_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings");
        std::fs::write(&path, "old").unwrap();
        for answer in [false, true] {
            let still = || {
                let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
                let texts: Vec<String> = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
                assert!(texts.contains(&"new".to_owned()) && texts.contains(&"old".to_owned()), "{texts:?}");
                answer
            };
            assert_eq!(write_if(&path, b"new", 0o640, still).unwrap(), answer);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), if answer { "new" } else { "old" });
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        }
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn only_names_of_our_own_making_are_temporary() {
        for ours in [".run.json.0123456789abcdef.tmp".to_owned(), format!(".{}.tmp", crate::home::random_suffix())] {
            assert!(is_temporary(&ours), "{ours}");
        }
        for other in ["run.json", ".tmp", ".a.tmp", "x.0123456789abcdef.tmp", ".0123456789abcdeF.tmp", ".git", ""] {
            assert!(!is_temporary(other), "{other}");
        }
    }

    #[test]
    fn a_line_after_a_torn_one_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "whole\ntor").unwrap();
        append_line(&path, "next").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ntor\nnext\n");
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::fs::write(dir.path().join("secret"), "{}").unwrap();
        std::os::unix::fs::symlink("secret", &link).unwrap();
        assert!(read(&link, 10).is_err());
        assert!(matches!(read(dir.path(), 10), Err(FileError::Damaged { .. })));
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(matches!(read(&fifo, 10), Err(FileError::Damaged { .. })));
        assert!(append_line(&fifo, "x").is_err());
    }

    #[test]
    fn an_oversized_file_is_damaged_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        std::fs::write(&path, vec![b'x'; 11]).unwrap();
        assert!(matches!(read(&path, 10), Err(FileError::Damaged { .. })));
    }
}
