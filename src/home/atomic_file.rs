//! Reading and writing whole files so that nobody ever sees half of one.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file_cache::Stamp;

/// The largest record that is read: more than any honest one, little enough to never hurt.
pub const MAX_RECORD_BYTES: u64 = 4 * 1024 * 1024;

/// Opening follows no symlink, waits for no fifo, and makes no terminal ours.
const FLAGS: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).bits().cast_signed();

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {problem}; fix or remove it")]
    Damaged { path: PathBuf, problem: String },
}

impl FileError {
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    pub fn damaged(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.to_string() }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Opens a regular file for reading, and nothing else: a symlink, a fifo or a device in its place is refused without
/// following it or waiting for it.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    open_with_stamp(path).map(|(file, _)| file)
}

pub fn open_with_stamp(path: &Path) -> Result<(File, Stamp), FileError> {
    let file = OpenOptions::new().read(true).custom_flags(FLAGS).open(path);
    let file = file.map_err(|source| FileError::io("open", path, source))?;
    let metadata = file.metadata().map_err(|source| FileError::io("look at", path, source))?;
    if !metadata.is_file() {
        return Err(FileError::damaged(path, "it is not a regular file"));
    }
    Ok((file, Stamp::from(&metadata)))
}

/// Reads a whole regular file; one of more than `max_bytes` is [`FileError::Damaged`].
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    read_with_stamp(path, max_bytes).map(|(bytes, _)| bytes)
}

fn read_with_stamp(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, Stamp), FileError> {
    let (file, stamp) = open_with_stamp(path)?;
    let bytes = read_to_end(file, stamp.size(), max_bytes).map_err(|source| FileError::io("read", path, source))?;
    if bytes.len() as u64 > max_bytes {
        return Err(FileError::damaged(path, format_args!("it is larger than {max_bytes} bytes")));
    }
    Ok((bytes, stamp))
}

pub fn read_text(path: &Path) -> Result<String, FileError> {
    read_text_with_stamp(path, MAX_RECORD_BYTES).map(|(text, _)| text)
}

/// Reads a file to its end, or a byte more than `max_bytes`; with one call if it has its size, since very many are read.
fn read_to_end(mut file: File, size: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size.min(max_bytes)).unwrap_or_default() + 1];
    let read = file.read(&mut bytes)?;
    bytes.truncate(read);
    if read as u64 != size {
        file.take(max_bytes.saturating_add(1).saturating_sub(read as u64)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Returns a file's text, and the stamp of the file that was read.
pub fn read_text_with_stamp(path: &Path, max_bytes: u64) -> Result<(String, Stamp), FileError> {
    let (bytes, stamp) = read_with_stamp(path, max_bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| FileError::damaged(path, "it is not UTF-8 text"))?;
    Ok((text, stamp))
}

/// Reads a JSON record; JSON of another form is [`FileError::Damaged`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    read_json_with_stamp(path).map(|(value, _)| value)
}

/// Returns a JSON record, and the stamp of the file that was read.
pub fn read_json_with_stamp<T: DeserializeOwned>(path: &Path) -> Result<(T, Stamp), FileError> {
    let (bytes, stamp) = read_with_stamp(path, MAX_RECORD_BYTES)?;
    let value = serde_json::from_slice(&bytes).map_err(|error| FileError::damaged(path, error))?;
    Ok((value, stamp))
}

/// Reads a JSON record that need not be there.
pub fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    if_present(read_json(path))
}

/// Takes a file that is not there for none.
pub fn if_present<T>(read: Result<T, FileError>) -> Result<Option<T>, FileError> {
    match read {
        Err(error) if error.is_not_found() => Ok(None),
        read => read.map(Some),
    }
}

/// Removes a file; returns whether it was there.
///
/// # Errors
/// The system's.
pub fn remove_if_present(path: &Path) -> Result<bool, FileError> {
    let removed = std::fs::remove_file(path).map_err(|source| FileError::io("remove", path, source));
    Ok(if_present(removed)?.is_some())
}

/// Takes a damaged record for one that is not there, where that is no loss. One that cannot be read just now stays an error.
pub fn unless_damaged<T>(read: Result<Option<T>, FileError>) -> Result<Option<T>, FileError> {
    match read {
        Err(FileError::Damaged { .. }) => Ok(None),
        read => read,
    }
}

/// Replaces a file's content: temp, fsync, rename, fsync of the directory. Mode 0600. After an error the old content is still
/// there, and no temporary file is left.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    put(path, bytes, Put::SYNCED, |temporary| std::fs::rename(temporary, path))
}

/// Replaces a file's content like [`write()`], with another mode, if `still` says so once all the rest is done, which may take
/// seconds; returns whether it was replaced.
pub fn write_if(path: &Path, bytes: &[u8], mode: u32, still: impl FnOnce() -> bool) -> Result<bool, FileError> {
    put(path, bytes, Put::SYNCED, |temporary| {
        std::fs::set_permissions(temporary, Permissions::from_mode(mode))?;
        let is_wanted = still();
        if is_wanted { std::fs::rename(temporary, path) } else { std::fs::remove_file(temporary) }?;
        Ok(is_wanted)
    })
}

pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    write(path, &json_line(path, value)?)
}

/// Replaces a file's content with a JSON record as [`write_json`] does, with the temporary file in the directory `staging`:
/// where `path` is an agent's, a crash then leaves nothing there, and nothing can be put in its way. Where `path` is on another
/// file system, or on a mount of its own, the temporary file is beside it all the same.
pub fn write_json_by_way_of<T: Serialize>(staging: &Path, path: &Path, value: &T) -> Result<(), FileError> {
    let bytes = json_line(path, value)?;
    let staged = Put { staging: Some(staging), ..Put::SYNCED };
    match put(path, &bytes, staged, |temporary| std::fs::rename(temporary, path)) {
        Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => write(path, &bytes),
        written => written,
    }
}

/// Writes a file where nobody looks yet, or that nobody needs after a power cut: in place, and not synced. Mode 0600.
/// Returns it, so that a caller can sync it. After an error, a part of it may be there.
pub fn write_in_place(path: &Path, bytes: &[u8]) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let written = options.open(path).and_then(|mut file| file.write_all(bytes).map(|()| file));
    written.map_err(|source| FileError::io("write", path, source))
}

pub fn write_json_in_place<T: Serialize>(path: &Path, value: &T) -> Result<File, FileError> {
    write_in_place(path, &json_line(path, value)?)
}

/// Writes a JSON record unless one is there: of any number of writers exactly one gets `true`.
pub fn write_json_once<T: Serialize>(path: &Path, value: &T) -> Result<bool, FileError> {
    write_once(path, &json_line(path, value)?)
}

/// Writes a file unless one is there, as [`write_json_once`] does.
pub fn write_once(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    put(path, bytes, Put::SYNCED, |temporary| link_unless_present(temporary, path))
}

/// Replaces a JSON record like [`write_json`], but unsynced: for what nobody needs after a power cut, which may leave it empty.
pub fn replace_json_unsynced<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    put(path, &json_line(path, value)?, Put::UNSYNCED, |temporary| std::fs::rename(temporary, path))
}

/// Writes a JSON record unless one is there like [`write_json_once`], but unsynced.
pub fn create_json_unsynced<T: Serialize>(path: &Path, value: &T) -> Result<bool, FileError> {
    put(path, &json_line(path, value)?, Put::UNSYNCED, |temporary| link_unless_present(temporary, path))
}

/// Gives a finished file its name unless that is taken, and takes the temporary one away; returns whether it has it.
fn link_unless_present(temporary: &Path, path: &Path) -> io::Result<bool> {
    let won = match std::fs::hard_link(temporary, path) {
        Ok(()) => true,
        // Over NFS also if the server did it, its answer was lost, and the client asked again: then both names are of one file.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Stamp::of(path).zip(Stamp::of(temporary)).is_some_and(|(one, other)| one.is_same_file(&other))
        }
        Err(error) => return Err(error),
    };
    std::fs::remove_file(temporary)?;
    Ok(won)
}

/// Appends one line with one write; a last line that has no end gets one, so that it cannot swallow ours.
pub fn append_line(path: &Path, line: &str) -> Result<(), FileError> {
    let (file, metadata) = open_to_append(path)?;
    write_line(path, &file, metadata.len(), line)
}

/// Appends one line as [`append_line`], and refuses a file that has another name, elsewhere perhaps, and one in a directory that is
/// a symlink.
pub fn append_line_to_sole_name(path: &Path, line: &str) -> Result<(), FileError> {
    let (file, metadata) = open_sole_name(path)?;
    write_line(path, &file, metadata.len(), line)
}

/// Opens a file to append to it, and makes it where it is gone; refuses one that has another name, elsewhere perhaps, and one in a
/// directory that is a symlink.
pub fn open_sole_to_append(path: &Path) -> Result<File, FileError> {
    open_sole_name(path).map(|(file, _)| file)
}

fn open_sole_name(path: &Path) -> Result<(File, Metadata), FileError> {
    let fail = |source| FileError::io("append to", path, source);
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    let file = open_in_real_directory(path, flags).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(FileError::damaged(path, "it is not a regular file"));
    }
    if metadata.nlink() > 1 {
        return Err(FileError::damaged(path, "it has another name, so that writing here would write there"));
    }
    Ok((file, metadata))
}

/// Opens a file as [`open_regular`] does, though of any type, in a directory that is no symlink either; a new one has the mode 0600.
pub fn open_in_real_directory(path: &Path, flags: OFlags) -> io::Result<File> {
    // Linux asks for no right to list it.
    #[cfg(target_os = "linux")]
    let only_to_reach_it = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let only_to_reach_it = OFlags::RDONLY;
    let directory_flags = only_to_reach_it | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, directory_of(path), directory_flags, Mode::empty())?;
    let flags = flags | OFlags::from_bits_retain(FLAGS.cast_unsigned()) | OFlags::CLOEXEC;
    Ok(openat(directory, path.file_name().unwrap_or_default(), flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Appends a JSON record as one line with one write; a part of one at the end stays on a line of its own. The file's name is
/// on disk before its first line is written; the line is once the returned file is synced.
pub fn append_record<T: Serialize>(path: &Path, record: &T) -> Result<File, FileError> {
    let record = serde_json::to_string(record).map_err(|error| FileError::io("write", path, error.into()))?;
    let (file, metadata) = open_to_append(path)?;
    if metadata.len() == 0 {
        sync_directory(directory_of(path))?;
    }
    write_line(path, &file, metadata.len(), &record)?;
    Ok(file)
}

fn open_to_append(path: &Path) -> Result<(File, Metadata), FileError> {
    let fail = |source| FileError::io("append to", path, source);
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(FLAGS);
    let file = options.open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(FileError::damaged(path, "it is not a regular file")) }
}

fn write_line(path: &Path, mut file: &File, size: u64, line: &str) -> Result<(), FileError> {
    let fail = |source| FileError::io("append to", path, source);
    let start = if is_at_line_start(file, size).map_err(fail)? { "" } else { "\n" };
    file.write_all(format!("{start}{line}\n").as_bytes()).map_err(fail)
}

fn is_at_line_start(file: &File, size: u64) -> io::Result<bool> {
    let mut last = *b"\n";
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    Ok(last == *b"\n")
}

/// Makes a rename or a new entry in `directory` survive a power cut.
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

struct Put<'a> {
    /// The directory of the temporary file; that of the file itself if absent.
    staging: Option<&'a Path>,
    /// Whether content and name are on disk in the end.
    is_synced: bool,
}

impl Put<'static> {
    const SYNCED: Self = Self { staging: None, is_synced: true };
    const UNSYNCED: Self = Self { staging: None, is_synced: false };
}

/// Writes a temporary file, which `name` gives its name; after an error none is left.
fn put<T>(path: &Path, bytes: &[u8], how: Put<'_>, name: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, FileError> {
    let directory = directory_of(path);
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = format!(".{file_name}.{}.tmp", super::random_suffix());
    let temporary = how.staging.unwrap_or(directory).join(temporary);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if how.is_synced {
            file.sync_all()?;
        }
        name(&temporary)
    };
    let named = write().map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        FileError::io("write", path, source)
    })?;
    if how.is_synced {
        sync_directory(directory)?;
    }
    Ok(named)
}

/// Returns whether a name is that of a temporary file, or of a staged directory, as this program makes them.
pub fn is_temporary(name: &str) -> bool {
    let suffix = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let suffix = suffix.map(|middle| middle.rsplit('.').next().unwrap_or(middle));
    suffix.is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
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
        append_record(&path, &[1]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ntor\nnext\n[1]\n");
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

    #[test]
    fn no_line_is_added_through_a_directory_that_is_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (dir.path().join("elsewhere"), dir.path().join("link"));
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        assert!(append_line_to_sole_name(&link.join("log"), "a note").is_err());
        assert!(open_in_real_directory(&link.join("log"), OFlags::RDWR | OFlags::CREATE).is_err());
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
        append_line_to_sole_name(&elsewhere.join("log"), "a note").unwrap();
        append_line_to_sole_name(&elsewhere.join("log"), "another").unwrap();
        assert_eq!(std::fs::read_to_string(elsewhere.join("log")).unwrap(), "a note\nanother\n");
        assert_eq!(elsewhere.join("log").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
