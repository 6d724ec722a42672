//! What a repository holds that nobody else has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::base::{self, Cloned, REMOTE_REFS};
use super::config_text::RemoteSettings;
use super::find::Found;
use super::packed::RemoteUrl;
use super::program::{GitError, Input, ObjectId};
use super::roots::{Reference, STASH, heads_elsewhere, range, refs_of, stashes_of};
use super::shadow::{Shadow, names_in};
use super::status::{self, GITLINK, IndexEntry, Status};
use super::work::{Work, shown};
use crate::home::{atomic_file, stable_hash};
use crate::routine::repository::masked;

/// A repository that was looked at, with what an archive of it needs.
pub(crate) struct Seen {
    pub(crate) work: Work,
    /// Names everything that was seen.
    pub(crate) fingerprint: String,
    /// What must be kept, except for the stash.
    pub(super) roots: Vec<ObjectId>,
    /// Those of them that something under way needs, or that another working tree has checked out.
    pub(super) elsewhere: BTreeSet<ObjectId>,
    /// From the newest to the oldest.
    pub(super) stashes: Vec<ObjectId>,
    /// What remotes have.
    pub(super) saved: Vec<ObjectId>,
    pub(super) refs: BTreeMap<String, Reference>,
    pub(super) head: Option<ObjectId>,
    /// Those that outlive the repository.
    pub(super) remotes: Vec<RemoteUrl>,
    pub(super) status: Status,
    pub(super) index: Vec<IndexEntry>,
    /// The same as git printed it.
    pub(super) index_as_printed: Vec<u8>,
}

/// What a look needs to know about the place it looks at.
pub(crate) struct Place<'a> {
    /// The directory that the repositories were found in.
    pub(crate) root: &'a Path,
    /// Everything below it may go at any time: a remote there keeps nothing.
    pub(crate) doomed: &'a Path,
    /// All repositories that are looked at.
    pub(crate) listed: &'a [Found],
}

/// How long counting lines may take.
const SHORTSTAT_TIMEOUT: Duration = Duration::from_secs(3);

/// Looks at a repository through its shadow. `cloned` says what it had when it was cloned, if it is a clone of ours.
///
/// # Errors
/// Git cannot read it, or takes longer than it may.
pub(crate) fn look(
    shadow: &Shadow<'_>,
    found: &Found,
    place: &Place<'_>,
    cloned: Option<&Cloned>,
    deadline: Instant,
) -> Result<Seen, GitError> {
    if let Some(problem) = files_elsewhere(shadow, found, place, deadline)? {
        return Err(GitError::Odd(problem));
    }
    let head = shadow.ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], deadline)?;
    let head = head.map(|id| id.parse::<ObjectId>()).transpose().map_err(GitError::Odd)?;
    let branch = shadow.ask(&["symbolic-ref", "--quiet", "HEAD"], deadline)?;
    let branch = branch.map(|name| name.strip_prefix("refs/heads/").map_or(name.clone(), str::to_owned));

    let is_kept_outside = shadow.is_kept_outside(place.root);
    let outliving = outliving_remotes(shadow, found, place);
    let all = || shadow.settings.remotes.iter().map(|remote| remote.name.as_str());
    let is_saved = |name: &str| {
        is_kept_outside
            || base::remote_of(name, all()).is_some_and(|of| outliving.iter().any(|(remote, _)| remote == of))
    };
    let refs = refs_of(shadow, &is_saved, deadline)?;
    let mut saved: BTreeSet<ObjectId> = cloned.iter().flat_map(|cloned| cloned.refs.values().cloned()).collect();
    saved.extend(refs.iter().filter(|(name, _)| is_saved(name)).map(|(_, reference)| reference.id.clone()));
    // What the repository lacks cannot be subtracted from what it has.
    let saved = shadow.present(saved, deadline)?;

    let stashes = if is_kept_outside { Vec::new() } else { stashes_of(shadow, &refs, deadline)? };
    let mut roots: BTreeSet<ObjectId> = refs
        .iter()
        .filter(|(name, _)| !is_saved(name) && *name != STASH)
        .map(|(_, reference)| reference.id.clone())
        .collect();
    roots.extend(head.clone());
    let elsewhere: BTreeSet<ObjectId> = heads_elsewhere(shadow, is_kept_outside, deadline)?.into_iter().collect();
    roots.extend(elsewhere.iter().cloned());
    let roots: Vec<ObjectId> = roots.into_iter().collect();

    let Tracked { status, index, index_as_printed } = match shadow.tree() {
        Some(_) => status_of(shadow, deadline)?,
        None => Default::default(),
    };
    if shadow.settings.has_reftable() && (shadow.git_dir() != shadow.common_dir() || has_worktrees(shadow)) {
        return Err(GitError::Odd("it has several working trees and a reftable, which is not supported".to_owned()));
    }
    if !is_kept_outside && let Some(hidden) = unlisted_parts(shadow, place)? {
        return Err(GitError::Odd(format!("what belongs to it in {} was not examined", hidden.display())));
    }
    if let Some(nested) = unlisted(&status, &index, found, place) {
        return Err(GitError::Odd(format!("the repository {} in it was not examined", nested.display())));
    }

    let unpushed_commits = count(shadow, &roots, &saved, deadline)? + odd_refs(&refs, cloned, is_saved);
    let mut work = Work {
        path: shown(&found.path),
        branch,
        head: head.clone().map(|id| id.to_string()),
        remote: remote_url(shadow, cloned).map(|url| masked(&url)),
        unpushed_commits,
        changed_files: status.changed.len() as u64,
        untracked_files: status.untracked.len() as u64,
        stashes: stashes.len() as u64,
        pushed_branches: cloned.map(|cloned| pushed(&refs, cloned)).unwrap_or_default(),
        ..Work::default()
    };
    if work.is_unsaved() {
        // Nice to know: no reason to call the repository unreadable.
        (work.insertions, work.deletions) = lines(shadow, &work, &saved, deadline).unwrap_or_default();
    }
    let remotes = outliving.into_iter().map(|(name, url)| RemoteUrl { name, url }).collect();
    let fingerprint = String::new();
    let mut seen = Seen {
        work,
        fingerprint,
        roots,
        elsewhere,
        stashes,
        saved,
        refs,
        head,
        remotes,
        status,
        index,
        index_as_printed,
    };
    seen.fingerprint = fingerprint_of(shadow, &seen);
    Ok(seen)
}

/// Says where the files of a repository are, if they are not where they were looked for.
fn files_elsewhere(
    shadow: &Shadow<'_>,
    found: &Found,
    place: &Place<'_>,
    deadline: Instant,
) -> Result<Option<String>, GitError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let named = shadow.settings.worktree.as_ref().map(|worktree| shadow.git_dir().join(worktree));
    if let Some(tree) = shadow.tree() {
        let named = named.filter(|named| real(named) != real(tree));
        return Ok(named.map(|named| format!("core.worktree says that its files are in {}", named.display())));
    }
    // What a `.git` file leads to is looked at from there.
    let git_dir = real(shadow.git_dir());
    let is_it =
        |other: &&Found| other.path != found.path && other.git_dir().is_some_and(|other| real(&other) == git_dir);
    if place.listed.iter().any(|other| is_it(&other)) {
        return Ok(None);
    }
    if let Some(named) = named {
        return Ok(Some(format!("it is bare, and core.worktree says that its files are in {}", named.display())));
    }
    let entries = shadow.git(&["ls-files", "-z", "-s"]).run(Input::Nothing, deadline)?;
    Ok((!entries.is_empty()).then(|| "it is bare and has an index, so its files are anywhere else".to_owned()))
}

/// The remotes that are still there, with their URLs, once everything in the workbenches is gone.
fn outliving_remotes(shadow: &Shadow<'_>, found: &Found, place: &Place<'_>) -> Vec<(String, String)> {
    let from = shadow.tree().map_or_else(|| place.root.join(&found.path), Path::to_owned);
    if shadow.settings.rewrites_urls {
        // Git pushes somewhere else than the URLs say.
        return Vec::new();
    }
    let outlives = |remote: &&RemoteSettings| {
        remote.urls.iter().chain(&remote.push_urls).all(|url| base::outlives(url, &from, place.doomed))
    };
    let remotes = shadow.settings.remotes.iter().filter(outlives);
    remotes.filter_map(|remote| Some((remote.name.clone(), remote.urls.first()?.clone()))).collect()
}

fn remote_url(shadow: &Shadow<'_>, cloned: Option<&Cloned>) -> Option<String> {
    let remotes = &shadow.settings.remotes;
    let configured = remotes.iter().find(|remote| remote.name == "origin").or(remotes.first());
    let configured = configured.and_then(|remote| remote.urls.first().cloned());
    configured.or_else(|| cloned.map(|cloned| cloned.url.clone()))
}

/// What a working tree and its index say.
#[derive(Default)]
struct Tracked {
    status: Status,
    index: Vec<IndexEntry>,
    index_as_printed: Vec<u8>,
}

fn status_of(shadow: &Shadow<'_>, deadline: Instant) -> Result<Tracked, GitError> {
    let index_as_printed = shadow.git(&["ls-files", "-z", "-s", "-v"]).run(Input::Nothing, deadline)?;
    let index = status::parse_index(&index_as_printed)?;
    let is_there = |entry: &&IndexEntry| {
        let path = shadow.tree().map(|tree| tree.join(OsStr::from_bytes(&entry.path)));
        path.is_some_and(|path| path.symlink_metadata().is_ok())
    };
    // Either flag hides a change, and an agent may have set it.
    let flags = [
        ("--no-assume-unchanged", index.iter().filter(|entry| entry.is_assumed_unchanged).collect::<Vec<_>>()),
        ("--no-skip-worktree", index.iter().filter(|entry| entry.is_skipped).filter(is_there).collect()),
    ];
    for (flag, entries) in flags.into_iter().filter(|(_, entries)| !entries.is_empty()) {
        let paths: Vec<u8> = entries.iter().flat_map(|entry| [&entry.path[..], b"\0"].concat()).collect();
        let update = ["update-index", "--no-split-index", "--force-write-index", flag, "-z", "--stdin"];
        shadow.git(&update).run(Input::Bytes(&paths), deadline)?;
    }
    let arguments =
        ["status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=dirty", "--no-renames"];
    let (printed, complaints) = shadow.git(&arguments).run_with_complaints(Input::Nothing, deadline)?;
    if complaints.lines().any(|line| !status::is_harmless(line)) {
        return Err(GitError::complaint(&complaints));
    }
    let mut status = status::parse_status(&printed)?;
    let submodules = index.iter().filter(|entry| entry.mode == GITLINK).map(|entry| &entry.path);
    for submodule in submodules {
        add_files_of(shadow, submodule, &mut status.untracked)?;
    }
    Ok(Tracked { status, index, index_as_printed })
}

/// Adds the files below a submodule's directory that is no repository: git itself looks at nothing there.
fn add_files_of(shadow: &Shadow<'_>, submodule: &[u8], untracked: &mut Vec<Vec<u8>>) -> Result<(), GitError> {
    let Some(tree) = shadow.tree() else { return Ok(()) };
    let mut waiting = vec![submodule.to_owned()];
    while let Some(path) = waiting.pop() {
        let directory = tree.join(OsStr::from_bytes(&path));
        let is_directory = directory.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if !is_directory || directory.join(".git").symlink_metadata().is_ok() {
            continue;
        }
        let fail = |source| GitError::io("list", &directory, source);
        for file in std::fs::read_dir(&directory).map_err(fail)? {
            let file = file.map_err(fail)?;
            let path = [&path[..], b"/", file.file_name().as_bytes()].concat();
            if file.file_type().map_err(fail)?.is_dir() { waiting.push(path) } else { untracked.push(path) }
        }
    }
    Ok(())
}

/// Returns a repository in this one that is not looked at on its own: its content is in no tree.
fn unlisted(status: &Status, index: &[IndexEntry], found: &Found, place: &Place<'_>) -> Option<PathBuf> {
    let submodules = index.iter().filter(|entry| entry.mode == GITLINK).map(|entry| &entry.path);
    let paths = submodules.chain(&status.nested).map(|path| found.path.join(OsStr::from_bytes(path)));
    let is_listed = |path: &PathBuf| place.listed.iter().any(|found| found.path == *path);
    // A submodule that is not checked out is an empty directory.
    let is_one = |path: &PathBuf| place.root.join(path).join(".git").symlink_metadata().is_ok();
    paths.filter(|path| !is_listed(path) && is_one(path)).min()
}

fn has_worktrees(shadow: &Shadow<'_>) -> bool {
    std::fs::read_dir(shadow.common_dir().join("worktrees")).is_ok_and(|mut names| names.next().is_some())
}

/// Returns a working tree or a submodule whose data is in this repository, and that is not looked at: one too many, or
/// one that is not checked out any more.
fn unlisted_parts(shadow: &Shadow<'_>, place: &Place<'_>) -> Result<Option<PathBuf>, GitError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let listed: BTreeSet<PathBuf> =
        place.listed.iter().filter_map(|found| found.git_dir()).map(|git_dir| real(&git_dir)).collect();
    let (common, root) = (shadow.common_dir(), real(place.root));
    let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let worktrees = common.join("worktrees");
    if is_dir(&worktrees) {
        for name in names_in(&worktrees)? {
            let git_dir = worktrees.join(name);
            let pointer = atomic_file::read_text(&git_dir.join("gitdir")).unwrap_or_default();
            let tree = Path::new(pointer.trim_end()).parent().map(|tree| git_dir.join(tree));
            let is_there = tree.is_some_and(|tree| real(&tree).starts_with(&root) && tree.join(".git").exists());
            if is_there && !listed.contains(&real(&git_dir)) {
                return Ok(Some(git_dir));
            }
        }
    }
    let mut waiting = vec![common.join("modules")];
    while let Some(directory) = waiting.pop().filter(|directory| is_dir(directory)) {
        for name in names_in(&directory)? {
            let path = directory.join(name);
            if !is_dir(&path) {
                continue;
            }
            if path.join("HEAD").symlink_metadata().is_err() {
                waiting.push(path);
            } else if !listed.contains(&real(&path)) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

fn count(shadow: &Shadow<'_>, roots: &[ObjectId], saved: &[ObjectId], deadline: Instant) -> Result<u64, GitError> {
    if roots.is_empty() {
        return Ok(0);
    }
    let printed = shadow.git(&["rev-list", "--count", "--stdin"]).run(Input::Bytes(&range(roots, saved)), deadline)?;
    let printed = String::from_utf8_lossy(&printed);
    printed
        .trim()
        .parse()
        .map_err(|_| GitError::Unexpected { command: "rev-list".to_owned(), what: printed.to_string() })
}

/// Counts the refs to trees and blobs, which no walk over commits meets.
fn odd_refs(refs: &BTreeMap<String, Reference>, cloned: Option<&Cloned>, is_saved: impl Fn(&str) -> bool) -> u64 {
    let was_cloned = |name: &str, id: &ObjectId| cloned.is_some_and(|cloned| cloned.refs.get(name) == Some(id));
    refs.iter()
        .filter(|(name, reference)| reference.kind != "commit" && !is_saved(name) && !was_cloned(name, &reference.id))
        .count() as u64
}

/// The branches whose remote-tracking ref has moved to where they are since they were cloned.
fn pushed(refs: &BTreeMap<String, Reference>, cloned: &Cloned) -> Vec<String> {
    let tracking = |branch: &str| format!("{REMOTE_REFS}origin/{branch}");
    refs.iter()
        .filter_map(|(name, reference)| Some((name.strip_prefix("refs/heads/")?, reference)))
        .filter(|(branch, reference)| {
            let tracking = tracking(branch);
            refs.get(&tracking).is_some_and(|there| there.id == reference.id)
                && cloned.refs.get(&tracking) != Some(&reference.id)
        })
        .map(|(branch, _)| branch.to_owned())
        .collect()
}

/// Counts the lines of everything since the newest commit that a remote has.
fn lines(shadow: &Shadow<'_>, work: &Work, saved: &[ObjectId], deadline: Instant) -> Option<(u64, u64)> {
    shadow.tree()?;
    let head: ObjectId = work.head.as_ref()?.parse().ok()?;
    let deadline = deadline.min(Instant::now() + SHORTSTAT_TIMEOUT);
    let walk = shadow.git(&["rev-list", "--boundary", "--stdin"]);
    let printed = walk.run(Input::Bytes(&range(std::slice::from_ref(&head), saved)), deadline).ok()?;
    let printed = String::from_utf8_lossy(&printed);
    let boundary = printed.lines().find_map(|line| line.strip_prefix('-')).unwrap_or(head.as_str());
    let arguments = [
        "diff",
        "--shortstat",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        "--ignore-submodules=all",
        boundary,
        "--",
    ];
    let printed = shadow.git(&arguments).run(Input::Nothing, deadline).ok()?;
    Some(status::parse_shortstat(&String::from_utf8_lossy(&printed)))
}

/// Names everything that was seen: another look with the same saw the same.
pub(super) fn fingerprint_of(shadow: &Shadow<'_>, seen: &Seen) -> String {
    // Lines are counted only as long as there is time.
    let work = Work { insertions: 0, deletions: 0, ..seen.work.clone() };
    let mut print = format!("{work:?}{:?}{:?}{:?}{:?}", seen.roots, seen.stashes, seen.refs, seen.head);
    let Some(tree) = shadow.tree() else { return print };
    for path in seen.status.changed.iter().chain(&seen.status.untracked) {
        let _ = write!(print, "{path:?}{:?}", stamp(&tree.join(OsStr::from_bytes(path))));
    }
    print.push_str(&stable_hash(&seen.index_as_printed).to_string());
    print
}

/// What changes with a file's content: its inode, mode, size and times.
pub(crate) fn stamp(path: &Path) -> Option<(u64, u32, u64, i64, i64, i64)> {
    let metadata = path.symlink_metadata().ok()?;
    Some((metadata.ino(), metadata.mode(), metadata.size(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime()))
}
