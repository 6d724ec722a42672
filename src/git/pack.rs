//! Archives everything that only this repository has, so that it can be restored even without its remotes.
//!
//! `work.pack` has the objects that no remote has. The *base* has the commits that these stand on, with their files and without
//! history; runs of one repository share it. Together they are complete: this is what [`verify`] proves, in an empty repository.
//! Everything else is in plain files beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use super::lfs;
use super::look::Seen;
use super::packed::{
    DELETED, INDEX, INTENDED, MODES, Packed, RECOVERED, REFS, STATE, STATE_DIRECTORIES, STATE_FILES, Stash, WORK_PACK,
    base_pack,
};
use super::program::{GitError, Input, ObjectId};
use super::roots::{Reference, STASH, UNDER_WAY, range};
use super::shadow::{Shadow, names_in};
use super::status::GITLINK;
use super::verify::verify;
use crate::home::atomic_file;
use crate::home::{make_directory, random_suffix};

const MAX_STATE_BYTES: u64 = 4 * 1024 * 1024;
const MAX_STATE_FILES: usize = 10_000;

/// Where an archive of a repository goes.
pub(crate) struct Target<'a> {
    /// An empty directory.
    pub(crate) directory: &'a Path,
    /// The directory of all bases.
    pub(crate) bases: &'a Path,
    /// For what is not kept.
    pub(crate) scratch: &'a Path,
    /// How much the contents that Git LFS keeps may take: their size is known late.
    pub(crate) max_lfs_bytes: u64,
}

/// About how much disk an archive takes.
pub(crate) struct Size {
    pub(crate) work_bytes: u64,
    pub(crate) base_bytes: u64,
}

/// Estimates an archive's size: objects as they are packed now, files as they are.
///
/// # Errors
/// Git cannot read the repository.
pub(crate) fn size(shadow: &Shadow<'_>, seen: &Seen, deadline: Instant) -> Result<Size, GitError> {
    let usage = |ids: &[ObjectId], saved: &[ObjectId], option: &[&str]| -> Result<u64, GitError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut arguments = vec!["rev-list", "--objects", "--disk-usage"];
        arguments.extend(option);
        if shadow.settings.is_partial {
            arguments.push("--missing=allow-any");
        }
        arguments.push("--stdin");
        let printed = shadow.git(&arguments).run(Input::Bytes(&range(ids, saved)), deadline)?;
        let printed = String::from_utf8_lossy(&printed);
        let unexpected = || GitError::Unexpected { command: "rev-list".to_owned(), what: printed.to_string() };
        printed.trim().parse().map_err(|_| unexpected())
    };
    let roots = [&seen.roots[..], &seen.stashes[..]].concat();
    let objects = usage(&roots, &seen.saved, &[])?;
    let files = shadow.tree().into_iter().flat_map(|tree| {
        let paths = seen.status.changed.iter().chain(&seen.status.untracked);
        paths.filter_map(|path| Some(tree.join(OsStr::from_bytes(path)).symlink_metadata().ok()?.len()))
    });
    let base = grounds_of(shadow, seen, deadline)?.base;
    Ok(Size { work_bytes: objects + files.sum::<u64>(), base_bytes: usage(&base, &[], &["--no-walk"])? })
}

/// Writes down a repository that was looked at, and proves that it can be restored.
///
/// # Errors
/// Something cannot be read or written, or is not complete; nothing in `target` counts then.
pub(crate) fn pack(
    shadow: &Shadow<'_>,
    seen: &Seen,
    target: &Target<'_>,
    deadline: Instant,
) -> Result<Packed, GitError> {
    make_directory(target.directory).map_err(|source| GitError::io("make", target.directory, source))?;
    let files = pack_files(shadow, seen, target, deadline)?;
    let staged = staged_blobs(shadow, seen, deadline)?;
    let Grounds { base, work } = grounds_of(shadow, seen, deadline)?;
    let stashes = stashes(shadow, seen, deadline)?;
    let unnamed = unnamed(shadow, seen, deadline)?;
    let shallow = shadow.shallow()?;
    // From here on the commits of the base have no parents, so that nothing is left out that the base does not have.
    shadow.set_shallow(&[&base[..], &shallow[..]].concat())?;
    let wanted = {
        // A root that is no work, such as a tag of a commit that remotes have, would bring all of its history.
        let leads_to: BTreeMap<&ObjectId, &Reference> =
            seen.refs.values().map(|reference| (&reference.id, reference)).collect();
        let is_work = |id: &&ObjectId| match leads_to.get(id) {
            Some(reference) if reference.kind == "commit" => work.contains(reference.peeled.as_ref().unwrap_or(id)),
            Some(_) => true,
            None => work.contains(id),
        };
        let mut wanted: BTreeSet<ObjectId> =
            seen.roots.iter().filter(is_work).chain(&seen.stashes).chain(&files).cloned().collect();
        wanted.extend(staged);
        let (base, saved): (BTreeSet<_>, BTreeSet<_>) = (base.iter().collect(), seen.saved.iter().collect());
        let is_elsewhere = |id: &ObjectId| base.contains(id) || saved.contains(id);
        wanted.into_iter().filter(|id| !is_elsewhere(id)).collect::<Vec<_>>()
    };
    // A partial clone need not lack anything here.
    let needs_remote =
        shadow.settings.is_partial && is_something_missing(shadow, &[&wanted[..], &base[..]].concat(), deadline)?;
    let packed = Packed {
        is_bare: shadow.tree().is_none(),
        object_format: shadow.settings.object_format.clone().unwrap_or_else(|| "sha1".to_owned()),
        remotes: seen.remotes.clone(),
        branch: shadow.ask(&["symbolic-ref", "--quiet", "HEAD"], deadline)?,
        head: seen.head.clone(),
        stashes,
        shallow,
        base_name: if needs_remote { None } else { base_name(shadow, &base, deadline)? },
        base,
        files,
        needs_remote,
        missing_lfs: 0,
    };
    let pack = target.directory.join(WORK_PACK);
    write_pack(shadow, &range(&wanted, &packed.base), needs_remote, &pack, deadline)?;
    let base_file = packed.base_name.as_ref().map(|name| base_pack(target.bases, name));
    let is_new = base_file.as_ref().is_some_and(|path| !path.exists());
    if let Some(path) = base_file.as_ref().filter(|_| is_new) {
        write_base(shadow, &packed, path, deadline)?;
    }
    write_lists(seen, &unnamed, target.directory)?;
    copy_state(shadow, target.directory, deadline)?;
    let missing_lfs = match lfs::store(shadow)? {
        Some(store) => {
            let objects = objects_of(shadow, &wanted, &packed, deadline)?;
            lfs::copy(shadow, &store, &objects, target, deadline)?
        }
        None => 0,
    };
    let packed = Packed { missing_lfs, ..packed };
    let proven = verify(shadow.program(), &packed, target, base_file.as_deref(), &wanted, &work, deadline);
    match (proven, base_file.as_ref().filter(|_| !is_new)) {
        (Err(GitError::Failed { .. }), Some(path)) => {
            // The base that others stand on may be damaged: this repository has all of it.
            write_base(shadow, &packed, path, deadline)?;
            verify(shadow.program(), &packed, target, Some(path), &wanted, &work, deadline)?;
        }
        (proven, _) => proven?,
    }
    Ok(packed)
}

/// Returns what the base is called: everything in it follows from the commits in it.
fn base_name(shadow: &Shadow<'_>, base: &[ObjectId], deadline: Instant) -> Result<Option<ObjectId>, GitError> {
    if base.is_empty() {
        return Ok(None);
    }
    let list: String = base.iter().map(|id| format!("{id}\n")).collect();
    let name = shadow.git(&["hash-object", "--stdin"]).run(Input::Bytes(list.as_bytes()), deadline)?;
    String::from_utf8_lossy(&name).trim().parse().map(Some).map_err(GitError::Odd)
}

fn write_base(shadow: &Shadow<'_>, packed: &Packed, path: &Path, deadline: Instant) -> Result<(), GitError> {
    let new = path.with_extension(format!("{}.new", random_suffix()));
    write_pack(shadow, &range(&packed.base, &[]), false, &new, deadline)?;
    std::fs::rename(&new, path).map_err(|source| GitError::io("make", path, source))
}

/// Writes a pack that needs no other to be read, and syncs it.
fn write_pack(
    shadow: &Shadow<'_>,
    range: &[u8],
    may_lack: bool,
    path: &Path,
    deadline: Instant,
) -> Result<(), GitError> {
    let mut arguments = vec!["pack-objects", "--revs", "--stdout", "--quiet", "--no-use-bitmap-index"];
    if may_lack {
        arguments.push("--missing=allow-any");
    }
    shadow.git(&arguments).run_into(path, Input::Bytes(range), deadline)?;
    sync(path)
}

fn sync(path: &Path) -> Result<(), GitError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| GitError::io("sync", path, source))
}

/// The commits of the work, and those that it stands on: where it begins, and what is checked out or a branch's and not work itself.
#[derive(Default)]
struct Grounds {
    base: Vec<ObjectId>,
    work: BTreeSet<ObjectId>,
}

fn grounds_of(shadow: &Shadow<'_>, seen: &Seen, deadline: Instant) -> Result<Grounds, GitError> {
    let roots = [&seen.roots[..], &seen.stashes[..]].concat();
    if roots.is_empty() {
        return Ok(Grounds::default());
    }
    let walk =
        shadow.git(&["rev-list", "--boundary", "--stdin"]).run(Input::Bytes(&range(&roots, &seen.saved)), deadline)?;
    let printed = String::from_utf8_lossy(&walk);
    let (mut base, mut work) = (BTreeSet::new(), BTreeSet::new());
    for line in printed.lines() {
        let (list, id) = line.strip_prefix('-').map_or((&mut work, line), |id| (&mut base, id));
        list.insert(id.parse::<ObjectId>().map_err(GitError::Odd)?);
    }
    let branches = seen.refs.iter().filter(|(name, _)| name.starts_with("refs/heads/"));
    let tips = branches.map(|(_, reference)| &reference.id).chain(&seen.head);
    // A merge of what a remote has cannot go on without it.
    let tips = tips.chain(&seen.elsewhere);
    base.extend(tips.filter(|tip| !work.contains(*tip)).cloned());
    Ok(Grounds { base: base.into_iter().collect(), work })
}

/// Returns the commits under way that nothing leads to which has a name: restored without one, they would be lost with
/// the next `git gc`.
fn unnamed(shadow: &Shadow<'_>, seen: &Seen, deadline: Instant) -> Result<Vec<ObjectId>, GitError> {
    if seen.elsewhere.is_empty() {
        return Ok(Vec::new());
    }
    let elsewhere: Vec<ObjectId> = seen.elsewhere.iter().cloned().collect();
    let of_commits = seen.refs.values().filter(|reference| reference.kind == "commit");
    let named = of_commits.map(|reference| &reference.id).chain(&seen.head).chain(&seen.stashes);
    let walk = range(&elsewhere, &named.cloned().collect::<Vec<_>>());
    let printed = shadow.git(&["rev-list", "--stdin"]).run(Input::Bytes(&walk), deadline)?;
    let printed = String::from_utf8_lossy(&printed);
    let unreached: BTreeSet<&str> = printed.lines().collect();
    Ok(elsewhere.into_iter().filter(|id| unreached.contains(id.as_str())).collect())
}

/// Whether a partial clone lacks some of what these consist of.
fn is_something_missing(shadow: &Shadow<'_>, ids: &[ObjectId], deadline: Instant) -> Result<bool, GitError> {
    let walk = shadow.git(&["rev-list", "--objects", "--missing=print", "--no-object-names", "--stdin"]);
    let printed = walk.run(Input::Bytes(&range(ids, &[])), deadline)?;
    Ok(printed.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"?")))
}

/// Makes a tree of the files that are not as the index has them. Their bytes are taken as they are.
fn pack_files(
    shadow: &Shadow<'_>,
    seen: &Seen,
    target: &Target<'_>,
    deadline: Instant,
) -> Result<Option<ObjectId>, GitError> {
    let Some(tree) = shadow.tree() else { return Ok(None) };
    let (mut present, mut deleted, mut modes) = (Vec::new(), Vec::new(), Vec::new());
    for path in seen.status.changed.iter().chain(&seen.status.untracked) {
        let full = tree.join(OsStr::from_bytes(path));
        match full.symlink_metadata() {
            // What is behind a link is not the repository's.
            Ok(_) if !has_real_parents(tree, &full) => {
                deleted.extend_from_slice(path);
                deleted.push(0);
            }
            Ok(metadata) if metadata.is_file() || metadata.is_symlink() => {
                present.extend_from_slice(path);
                present.push(0);
                let mode = metadata.mode() & 0o7777;
                if metadata.is_file() && !matches!(mode, 0o644 | 0o755) {
                    modes.extend_from_slice(format!("{mode:o} ").as_bytes());
                    modes.extend_from_slice(path);
                    modes.push(0);
                }
            }
            // A submodule is a repository of its own.
            Ok(metadata) if metadata.is_dir() && full.join(".git").symlink_metadata().is_ok() => {}
            Err(source) if !matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(GitError::io("look at", &full, source));
            }
            // A fifo or a directory in its place: neither is kept by git.
            _ => {
                deleted.extend_from_slice(path);
                deleted.push(0);
            }
        }
    }
    let intended: Vec<u8> = seen.status.intended.iter().flat_map(|path| [&path[..], b"\0"].concat()).collect();
    for (name, list) in [(DELETED, &deleted), (MODES, &modes), (INTENDED, &intended)] {
        write_file(&target.directory.join(name), list)?;
    }
    if present.is_empty() {
        return Ok(None);
    }
    shadow.take_bytes_as_they_are()?;
    let index = target.scratch.join("files.index");
    let update = shadow.git(&["update-index", "-z", "--add", "--stdin"]).env("GIT_INDEX_FILE", &index);
    // It leaves out what it will not have, such as `.GIT/x`, and succeeds.
    let (_, complaints) = update.run_with_complaints(Input::Bytes(&present), deadline)?;
    if !complaints.is_empty() {
        return Err(GitError::complaint(&complaints));
    }
    let tree = shadow.git(&["write-tree"]).env("GIT_INDEX_FILE", &index).run(Input::Nothing, deadline)?;
    String::from_utf8_lossy(&tree).trim().parse().map(Some).map_err(GitError::Odd)
}

/// Whether each directory between `top` and a path in it is one, and no link.
pub(crate) fn has_real_parents(top: &Path, path: &Path) -> bool {
    let parents = path.ancestors().skip(1).take_while(|parent| *parent != top);
    parents.into_iter().all(|parent| parent.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()))
}

/// The contents that only the index names: what was staged, and the sides of a conflict.
fn staged_blobs(shadow: &Shadow<'_>, seen: &Seen, deadline: Instant) -> Result<Vec<ObjectId>, GitError> {
    let changed: BTreeSet<&Vec<u8>> = seen.status.changed.iter().collect();
    let blobs = seen.index.iter().filter(|entry| entry.mode != GITLINK && changed.contains(&entry.path));
    // What was added without its content has none.
    shadow.present(blobs.map(|entry| entry.id.clone()).collect(), deadline)
}

fn stashes(shadow: &Shadow<'_>, seen: &Seen, deadline: Instant) -> Result<Vec<Stash>, GitError> {
    let message = |id: &ObjectId| -> Result<Stash, GitError> {
        let printed = shadow.ask(&["log", "-1", "--format=%s", id.as_str()], deadline)?;
        Ok(Stash { id: id.clone(), message: printed.unwrap_or_default() })
    };
    seen.stashes.iter().map(message).collect()
}

fn write_lists(seen: &Seen, unnamed: &[ObjectId], directory: &Path) -> Result<(), GitError> {
    write_file(&directory.join(INDEX), &seen.index_as_printed)?;
    let refs = seen.refs.iter().filter(|(name, _)| *name != STASH);
    let refs = refs.map(|(name, reference)| format!("{} {name}\n", reference.id));
    let recovered = unnamed.iter().map(|id| format!("{id} {RECOVERED}{id}\n"));
    let refs: String = refs.chain(recovered).collect();
    write_file(&directory.join(REFS), refs.as_bytes())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), GitError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| GitError::io("write", path, source))
}

fn copy_state(shadow: &Shadow<'_>, directory: &Path, deadline: Instant) -> Result<(), GitError> {
    let (from, to) = (shadow.git_dir(), directory.join(STATE));
    let mut left = MAX_STATE_FILES;
    for name in STATE_FILES.iter().chain(&STATE_DIRECTORIES) {
        copy_tree(&from.join(name), &to.join(name), &mut left)?;
    }
    for name in UNDER_WAY.iter().filter(|name| shadow.settings.has_reftable() && STATE_FILES.contains(name)) {
        // It is in the tables, and comes back as a file.
        if let Some(id) = shadow.ask(&["rev-parse", "--verify", "--quiet", name], deadline)? {
            make_directory(&to).map_err(|source| GitError::io("make", &to, source))?;
            write_file(&to.join(name), format!("{id}\n").as_bytes())?;
        }
    }
    Ok(())
}

/// Copies a regular file, or a directory of them, if it is there.
fn copy_tree(from: &Path, to: &Path, files_left: &mut usize) -> Result<(), GitError> {
    let Ok(metadata) = from.symlink_metadata() else { return Ok(()) };
    *files_left = files_left.checked_sub(1).ok_or_else(|| GitError::odd(from, "has too many files"))?;
    if metadata.is_dir() {
        for name in names_in(from)? {
            copy_tree(&from.join(&name), &to.join(&name), files_left)?;
        }
        return Ok(());
    }
    let bytes = atomic_file::read(from, MAX_STATE_BYTES).map_err(|error| GitError::Odd(error.to_string()))?;
    if let Some(parent) = to.parent() {
        make_directory(parent).map_err(|source| GitError::io("make", parent, source))?;
    }
    write_file(to, &bytes)
}

/// Lists what `rev-list` says belongs to the work.
fn objects_of(
    shadow: &Shadow<'_>,
    wanted: &[ObjectId],
    packed: &Packed,
    deadline: Instant,
) -> Result<Vec<ObjectId>, GitError> {
    let mut arguments = vec!["rev-list", "--objects", "--no-object-names", "--stdin"];
    if packed.needs_remote {
        arguments.push("--missing=allow-any");
    }
    let printed = shadow.git(&arguments).run(Input::Bytes(&range(wanted, &packed.base)), deadline)?;
    String::from_utf8_lossy(&printed).lines().map(|line| line.parse().map_err(GitError::Odd)).collect()
}
