//! The files that a routine asks to archive, and the count of those that nobody does.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::record::{ArchivedFile, PathText};
use crate::git::has_real_parents;
use crate::home::atomic_file::{self, FileError};
use crate::home::{WORKBENCH_FILES, make_directory, make_parent, random_suffix, stable_hash, stable_hash_on};
use crate::run::id::RunId;
use crate::run::report::REPORT_FILE;
use crate::run::workbench::PREVIOUS;

/// Characters that make a pattern of a path.
const PATTERN: [char; 5] = ['*', '?', '[', '{', '!'];

/// Finds the files and symlinks below a directory that one of the patterns matches, sorted; all below a directory that one names.
/// A pattern without `*` and the like is looked up; any other costs a walk through all of the directory. Follows no link, enters
/// no mount, and takes nothing of what git keeps: a hook that came back would run.
///
/// # Errors
/// A directory cannot be listed, or it takes too long.
pub(super) fn find(root: &Path, patterns: &[String], deadline: Instant) -> Result<Vec<PathBuf>, FileError> {
    let patterns = patterns.iter().map(|one| one.strip_prefix("./").unwrap_or(one).trim_end_matches('/'));
    let (wild, plain): (Vec<&str>, Vec<&str>) = patterns.partition(|one| one.contains(PATTERN));
    let mut found = Vec::new();
    let moved = if plain.contains(&REPORT_FILE) { reports_of_previous_runs(root) } else { Vec::new() };
    let plain = plain.into_iter().map(PathBuf::from).chain(moved);
    for path in plain.filter(|path| is_ordinary(path)) {
        let path = path.as_path();
        let full = root.join(path);
        match full.symlink_metadata() {
            Ok(_) if !has_real_parents(root, &full) => {}
            Ok(metadata) if metadata.is_dir() => {
                walk(&full, &is_ordinary, deadline, &mut |below, _| found.push(path.join(below)))?;
            }
            Ok(metadata) if metadata.is_file() || metadata.is_symlink() => found.push(path.to_owned()),
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(FileError::io("look at", &full, error));
            }
            _ => {}
        }
    }
    if !wild.is_empty() {
        walk(root, &is_ordinary, deadline, &mut |path, _| {
            let bytes = path.as_os_str().as_bytes();
            if wild.iter().any(|pattern| fast_glob::glob_match(pattern.as_bytes(), bytes)) && is_ordinary(path) {
                found.push(path.to_owned());
            }
        })?;
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Names the reports of runs that others continued in this workbench, which may be there or not.
fn reports_of_previous_runs(root: &Path) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(root.join(PREVIOUS)).into_iter().flatten().filter_map(Result::ok);
    let runs = runs.filter(|run| run.file_name().to_str().is_some_and(|name| name.parse::<RunId>().is_ok()));
    runs.map(|run| Path::new(PREVIOUS).join(run.file_name()).join(REPORT_FILE)).collect()
}

/// Whether a path is that of a file of ours, of the newest run or of one before it.
fn is_ours(path: &Path) -> bool {
    let below = path.strip_prefix(PREVIOUS).ok().and_then(|below| below.components().next().map(|run| (run, below)));
    let own = below.and_then(|(run, below)| below.strip_prefix(run.as_os_str()).ok()).unwrap_or(path);
    own.parent() == Some(Path::new("")) && WORKBENCH_FILES.iter().any(|name| own == Path::new(name))
}

/// Whether a path stays below where it begins, and out of what git keeps.
fn is_ordinary(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(name) if name != ".git"))
}

/// Files that are not in a repository, and that nobody asked to archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unarchived {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Counts the files below a directory that are in none of the repositories and not among `archived`, nor ours.
///
/// # Errors
/// A directory cannot be listed, or it takes too long.
pub(super) fn count_others(
    root: &Path,
    repositories: &[PathBuf],
    archived: &[PathBuf],
    deadline: Instant,
) -> Result<Unarchived, FileError> {
    let mut others = Unarchived::default();
    let enters = |path: &Path| !repositories.iter().any(|repository| repository == path);
    if !enters(Path::new("")) {
        return Ok(others);
    }
    walk(root, &enters, deadline, &mut |path, metadata| {
        if !is_ours(path) && archived.binary_search_by(|one| one.as_path().cmp(path)).is_err() {
            others.files += 1;
            others.bytes += metadata.blocks() * 512;
        }
    })?;
    Ok(others)
}

fn walk(
    root: &Path,
    enters: &dyn Fn(&Path) -> bool,
    deadline: Instant,
    each: &mut dyn FnMut(&Path, &Metadata),
) -> Result<(), FileError> {
    let device = root.symlink_metadata().map_err(|source| FileError::io("look at", root, source))?.dev();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        if Instant::now() >= deadline {
            return Err(FileError::io("list", root, io::ErrorKind::TimedOut.into()));
        }
        let path = root.join(&directory);
        let fail = |source| FileError::io("list", &path, source);
        for file in std::fs::read_dir(&path).map_err(fail)? {
            let file = file.map_err(fail)?;
            let name = directory.join(file.file_name());
            let Ok(metadata) = file.metadata() else { continue };
            if metadata.is_dir() {
                if metadata.dev() == device && enters(&name) {
                    waiting.push(name);
                }
            } else if metadata.is_file() || metadata.is_symlink() {
                each(&name, &metadata);
            }
        }
    }
    Ok(())
}

/// Names everything below a directory by its times and sizes; never the same twice if that takes too long.
pub(super) fn print_of(root: &Path, deadline: Instant) -> String {
    let mut all = Vec::new();
    let walked = walk(root, &|_| true, deadline, &mut |path, metadata| {
        all.push((path.to_owned(), metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec()));
    });
    all.sort_unstable();
    match walked {
        Ok(()) => format!("{:016x}", stable_hash(format!("{all:?}").as_bytes())),
        Err(_) => random_suffix(),
    }
}

/// Copies a file or a symlink below `root` to the same place below `target`, and reads it again: what is there is what was read.
pub(super) fn copy(root: &Path, path: &Path, target: &Path) -> Result<ArchivedFile, FileError> {
    let (from, to) = (root.join(path), target.join(path));
    make_parent(&to)?;
    let metadata = from.symlink_metadata().map_err(|source| FileError::io("look at", &from, source))?;
    if metadata.is_symlink() {
        let link = std::fs::read_link(&from).map_err(|source| FileError::io("read", &from, source))?;
        std::os::unix::fs::symlink(&link, &to).map_err(|source| FileError::io("make", &to, source))?;
        let checksum = in_words(stable_hash(link.as_os_str().as_bytes()));
        return Ok(ArchivedFile { path: path.into(), bytes: 0, checksum });
    }
    let mut source = atomic_file::open_regular(&from)?;
    let mut write = || -> io::Result<(u64, String)> {
        let file = File::create(&to)?;
        file.set_permissions(PermissionsExt::from_mode(metadata.mode() & 0o777 | 0o600))?;
        let mut target = Summing::new(file);
        let bytes = io::copy(&mut source, &mut target)?;
        target.0.sync_all()?;
        Ok((bytes, in_words(target.1)))
    };
    let (bytes, checksum) = write().map_err(|source| FileError::io("copy", &from, source))?;
    check(target, &ArchivedFile { path: path.into(), bytes, checksum: checksum.clone() })?;
    Ok(ArchivedFile { path: PathText::from(path), bytes, checksum })
}

/// Copies everything below a directory: files, symlinks and directories, with their permissions. Returns what could not be copied.
///
/// # Errors
/// The directory itself cannot be listed, or the copy cannot be made.
pub(super) fn copy_all(from: &Path, to: &Path) -> Result<Vec<String>, FileError> {
    make_directory(to).map_err(|source| FileError::io("make", to, source))?;
    let mut failures = Vec::new();
    for file in std::fs::read_dir(from).map_err(|source| FileError::io("list", from, source))? {
        let copied = file.map_err(|source| FileError::io("list", from, source)).and_then(|file| {
            let (source, target) = (file.path(), to.join(file.file_name()));
            copy_one(&source, &target, &mut failures)
        });
        failures.extend(copied.err().map(|error| error.to_string()));
    }
    Ok(failures)
}

fn copy_one(source: &Path, target: &Path, failures: &mut Vec<String>) -> Result<(), FileError> {
    let fail = |error| FileError::io("copy", source, error);
    let metadata = source.symlink_metadata().map_err(fail)?;
    if metadata.is_dir() {
        failures.extend(copy_all(source, target)?);
        let mode = PermissionsExt::from_mode(metadata.mode() & 0o7777 | 0o700);
        return std::fs::set_permissions(target, mode).map_err(fail);
    }
    if metadata.is_symlink() {
        return std::fs::read_link(source).and_then(|link| std::os::unix::fs::symlink(link, target)).map_err(fail);
    }
    if metadata.is_file() { std::fs::copy(source, target).map(drop).map_err(fail) } else { Ok(()) }
}

/// Makes sure that an archived file is still what was archived.
pub(super) fn check(directory: &Path, file: &ArchivedFile) -> Result<(), FileError> {
    let path = directory.join(file.path.path());
    let fail = |source| FileError::io("read", &path, source);
    let sum = if path.symlink_metadata().map_err(fail)?.is_symlink() {
        stable_hash(std::fs::read_link(&path).map_err(fail)?.as_os_str().as_bytes())
    } else {
        let mut read = Summing::new(io::sink());
        io::copy(&mut atomic_file::open_regular(&path)?, &mut read).map_err(fail)?;
        read.1
    };
    if in_words(sum) == file.checksum { Ok(()) } else { Err(FileError::damaged(&path, "its checksum is another")) }
}

/// The sum of what was archived: against a disk's mistakes, not against an attacker, who could write it too.
fn in_words(sum: u64) -> String {
    format!("{sum:016x}")
}

/// A writer with the sum of what was written.
struct Summing<W>(W, u64);

impl<W: Write> Summing<W> {
    fn new(writer: W) -> Self {
        Self(writer, stable_hash(b""))
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1 = stable_hash_on(self.1, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
