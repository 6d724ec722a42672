//! Archives on disk: `archive/<run>/`, there only once it is whole; `archive/bases/`, what runs share; `archive/clones/<run>.json`,
//! what a run's clones had when they were made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::record::{Archive, ArchivedRepository, PathText, VERSION};
use super::scratch::Scratch;
use crate::git::{Cloned, ObjectId, base_pack};
use crate::home::atomic_file::{self, FileError};
use crate::home::{Home, make_directory, make_parent, names, random_suffix};
use crate::run::id::RunId;

/// Where the files that a routine asks for are, below an archive.
pub(super) const FILES: &str = "files";
const RECORD: &str = "archive.json";

/// Returns an archive's directory.
pub(crate) fn directory(home: &Home, run: &RunId) -> PathBuf {
    home.archive().join(run.to_string())
}

/// Returns the place of an archived file of the workbench; it need not be there.
pub(crate) fn file(home: &Home, run: &RunId, path: &str) -> PathBuf {
    directory(home, run).join(FILES).join(path)
}

/// Reads the record of a run's archive; `None` if there is none.
///
/// # Errors
/// It is damaged, or of a newer version.
pub(crate) fn read(home: &Home, run: &RunId) -> Result<Option<Archive>, FileError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let path = directory(home, run).join(RECORD);
    let Some(bytes) = read_if_present(&path)? else { return Ok(None) };
    let Version { version } = parse(&path, &bytes)?;
    if version > VERSION {
        let problem = format!("it is of version {version}, newer than this program knows ({VERSION})");
        return Err(FileError::damaged(&path, problem));
    }
    parse(&path, &bytes).map(Some)
}

/// A record has a line for each file or ref, of which there may be very many.
const MAX_RECORD_BYTES: u64 = 1024 * 1024 * 1024;

fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    atomic_file::if_present(atomic_file::read(path, MAX_RECORD_BYTES))
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, FileError> {
    serde_json::from_slice(bytes).map_err(|error| FileError::damaged(path, error))
}

/// Whether the parts that an archive's record names are there.
pub(crate) fn is_whole(home: &Home, archive: &Archive) -> bool {
    let directory = directory(home, &archive.run);
    let is_there = |(number, repository): (usize, &ArchivedRepository)| {
        let base = repository.packed.base_name.as_ref().map(|name| base_pack(&home.archive_bases(), name));
        directory.join((number + 1).to_string()).is_dir() && base.is_none_or(|base| base.is_file())
    };
    archive.repositories.iter().enumerate().all(is_there)
}

/// Moves an archive into place, complete and synced, and replaces an older one.
pub(super) fn put(home: &Home, staging: Scratch, archive: &Archive) -> Result<(), FileError> {
    let record = staging.path().join(RECORD);
    atomic_file::write_json(&record, archive)?;
    let written = read_if_present(&record)?.unwrap_or_default();
    if parse::<Archive>(&record, &written)? != *archive {
        return Err(FileError::damaged(&record, "it does not say what was written"));
    }
    sync_all(staging.path()).map_err(|source| FileError::io("sync", staging.path(), source))?;
    let target = directory(home, &archive.run);
    if target.symlink_metadata().is_ok() {
        // At no moment is there none: a sweep may rely on it. The earlier one goes with the staging.
        staging.exchange_with(&target).map_err(|source| FileError::io("replace", &target, source))?;
    } else {
        staging.keep_as(&target).map_err(|source| FileError::io("make", &target, source))?;
    }
    atomic_file::sync_directory(&home.archive_bases())?;
    atomic_file::sync_directory(&home.archive())
}

/// Adds to an archive that is made in `staging` what only an earlier one has: repositories and files that somebody removed or
/// undid in the workbench since, perhaps because they were archived.
pub(super) fn take_over(
    home: &Home,
    earlier: &Archive,
    staging: &Path,
    archive: &mut Archive,
) -> Result<(), FileError> {
    let from = directory(home, &earlier.run);
    for (number, repository) in earlier.repositories.iter().enumerate() {
        if !archive.repositories.iter().any(|one| one.path == repository.path) {
            let to = staging.join((archive.repositories.len() + 1).to_string());
            link_tree(&from.join((number + 1).to_string()), &to)?;
            archive.repositories.push(repository.clone());
        }
    }
    for file in &earlier.files {
        let path = file.path.path();
        if !archive.files.iter().any(|one| one.path == file.path) {
            link_tree(&from.join(FILES).join(path), &staging.join(FILES).join(path))?;
            archive.files.push(file.clone());
        }
    }
    Ok(())
}

/// Links a file, or all files below a directory, to another place. Nothing writes to a file of an archive.
fn link_tree(from: &Path, to: &Path) -> Result<(), FileError> {
    let fail = |source| FileError::io("link", from, source);
    if !from.symlink_metadata().map_err(fail)?.is_dir() {
        make_parent(to)?;
        return std::fs::hard_link(from, to).map_err(fail);
    }
    make_directory(to).map_err(fail)?;
    for file in std::fs::read_dir(from).map_err(fail)? {
        let file = file.map_err(fail)?;
        link_tree(&file.path(), &to.join(file.file_name()))?;
    }
    Ok(())
}

/// Syncs every directory below one; files were synced when they were written.
fn sync_all(directory: &Path) -> io::Result<()> {
    for file in std::fs::read_dir(directory)? {
        let file = file?;
        if file.file_type()?.is_dir() {
            sync_all(&file.path())?;
        }
    }
    File::open(directory)?.sync_all()
}

/// The bytes that everything below a directory takes on disk.
pub(crate) fn allocated(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let bytes = |file: std::fs::DirEntry| match file.metadata() {
        Ok(metadata) if metadata.is_dir() => allocated(&file.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    files.map(bytes).sum()
}

/// Returns all archives, oldest first, and those that cannot be read.
///
/// # Errors
/// They cannot be listed.
pub(crate) fn all(home: &Home) -> Result<(Vec<Archive>, Vec<FileError>), FileError> {
    let (mut archives, mut damaged) = (Vec::new(), Vec::new());
    for run in list(home)? {
        match read(home, &run) {
            Ok(archive) => archives.extend(archive),
            Err(error) => damaged.push(error),
        }
    }
    archives.sort_by_key(|archive| archive.made_at);
    Ok((archives, damaged))
}

/// The runs of which there is an archive.
fn list(home: &Home) -> Result<Vec<RunId>, FileError> {
    let mut runs: Vec<RunId> = Vec::new();
    atomic_file::if_present(names::scan(&home.archive(), |name, kind| {
        if kind == names::Kind::Directory {
            runs.extend(name.parse::<RunId>());
        }
    }))?;
    runs.sort_unstable();
    Ok(runs)
}

/// The size of each base, which archives share.
pub(crate) fn bases(home: &Home) -> BTreeMap<ObjectId, u64> {
    let files = std::fs::read_dir(home.archive_bases()).into_iter().flatten().filter_map(Result::ok);
    let base = |file: std::fs::DirEntry| {
        let name = file.path().file_stem()?.to_str()?.parse().ok()?;
        Some((name, file.metadata().ok()?.blocks() * 512))
    };
    files.filter_map(base).collect()
}

/// Moves an archive to the trash.
///
/// # Errors
/// The rename's.
pub(crate) fn remove(home: &Home, run: &RunId) -> Result<(), FileError> {
    let path = directory(home, run);
    let aside = home.trash().join(format!("{run}.{}", random_suffix()));
    std::fs::rename(&path, aside).map_err(|source| FileError::io("remove", &path, source))
}

/// Removes what nothing needs any more: the bases that no archive stands on, and what is known of the clones of gone runs. Nothing
/// may be archived meanwhile.
///
/// # Errors
/// The system's.
pub(crate) fn remove_unused(home: &Home, is_gone: impl Fn(&RunId) -> bool) -> Result<(), FileError> {
    let (archives, damaged) = all(home)?;
    let used: BTreeSet<PathBuf> =
        archives.iter().flat_map(Archive::bases).map(|name| base_pack(&home.archive_bases(), name)).collect();
    let files = |directory: PathBuf| std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    // Nobody knows what a damaged one stands on.
    let bases = files(home.archive_bases()).map(|file| file.path());
    let bases = bases.filter(|path| damaged.is_empty() && !used.contains(path));
    let run_of = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<RunId>().ok());
    let notes = ["clones", "recovered"].into_iter().flat_map(|part| files(home.archive().join(part)));
    let clones = notes.map(|file| file.path());
    let clones = clones.filter(|path| run_of(path).is_some_and(|run| is_gone(&run)));
    for path in bases.chain(clones) {
        std::fs::remove_file(&path).map_err(|source| FileError::io("remove", &path, source))?;
    }
    Ok(())
}

fn recovered_file(home: &Home, run: &RunId) -> PathBuf {
    home.archive().join("recovered").join(run.to_string())
}

/// Notes that a person has a copy of a workbench that cannot be archived, as it was then.
///
/// # Errors
/// The note cannot be written.
pub(super) fn set_recovered(home: &Home, run: &RunId, fingerprint: &str) -> Result<(), FileError> {
    let path = recovered_file(home, run);
    make_parent(&path)?;
    atomic_file::write(&path, fingerprint.as_bytes())
}

/// Whether a person ever copied a workbench that cannot be archived.
pub(crate) fn has_been_recovered(home: &Home, run: &RunId) -> bool {
    recovered_file(home, run).exists()
}

/// Whether a person has a copy of a workbench as it is now.
pub(crate) fn is_recovered(home: &Home, run: &RunId, fingerprint: &str) -> bool {
    atomic_file::read_text(&recovered_file(home, run)).is_ok_and(|recovered| recovered == fingerprint)
}

/// What a run's clones had when they were made.
type Clones = BTreeMap<PathText, Cloned>;

fn clones_file(home: &Home, run: &RunId) -> PathBuf {
    home.archive().join("clones").join(format!("{run}.json"))
}

/// Returns what each of a run's clones had when it was made.
///
/// # Errors
/// The record cannot be read: without it, everything would seem to be work.
pub(super) fn clones_of(home: &Home, run: &RunId) -> Result<BTreeMap<PathBuf, Cloned>, FileError> {
    let clones = read_clones(&clones_file(home, run))?;
    Ok(clones.into_iter().map(|(path, cloned)| (path.path().to_owned(), cloned)).collect())
}

fn read_clones(file: &Path) -> Result<Clones, FileError> {
    read_if_present(file)?.map_or_else(|| Ok(Clones::default()), |bytes| parse(file, &bytes))
}

/// Records what a clone of a run has.
///
/// # Errors
/// The record cannot be written.
pub(crate) fn add_clone(home: &Home, run: &RunId, path: &Path, cloned: Cloned) -> Result<(), FileError> {
    let file = clones_file(home, run);
    let mut clones = read_clones(&file)?;
    clones.insert(PathText::from(path), cloned);
    make_parent(&file)?;
    atomic_file::write_json(&file, &clones)
}
