//! Restores a repository from its archive.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::base::REMOTE_REFS;
use super::disk::{copy, copy_tree, free, read, remove, vacant};
use super::lfs;
use super::pack::has_real_parents;
use super::packed::{
    DELETED, INDEX, INTENDED, MODES, Packed, REFS, RemoteUrl, STATE, STATE_DIRECTORIES, STATE_FILES, Stash, WORK_PACK,
    index_info, modes, paths,
};
use super::program::{Git, GitError, Input, ObjectId};
use super::shadow::{BYTES_AS_THEY_ARE, names_in};
use super::status::{self, GITLINK};
use crate::bounded_command;
use crate::home::make_directory;

/// A restored repository, and what it lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Where it is.
    pub(crate) directory: PathBuf,
    /// In words, such as one for each remote that could not be reached.
    pub(crate) notes: Vec<String>,
}

/// Where an archived repository lies.
pub(crate) struct Source<'a> {
    pub(crate) directory: &'a Path,
    /// The pack of its base, where it has one.
    pub(crate) base: Option<PathBuf>,
}

/// The settings that hold while files are written: every name is one, nothing runs.
const SETTINGS: [&str; 6] = [
    "core.protectNTFS=false",
    "core.protectHFS=false",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "advice.detachedHead=false",
];

const FROM_ARCHIVE: &str = "restored from the archive alone, without older history";

/// How long a remote may take. What does not come from there comes from the archive.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10 * 60);

struct Restoring<'a> {
    git: &'a Git,
    target: &'a Path,
    git_dir: PathBuf,
    is_bare: bool,
    deadline: Instant,
}

/// How many names a note has.
const NAMES_IN_NOTE: usize = 5;

/// Makes the repository in a directory, or beside it if there is a repository already. With `fetch`, what its remotes
/// have comes from there.
///
/// # Errors
/// Git or the disk refuses; what is there of the repository then is not whole.
pub(crate) fn restore(
    git: &Git,
    packed: &Packed,
    source: &Source<'_>,
    wanted: &Path,
    fetch: bool,
    deadline: Instant,
) -> Result<Restored, GitError> {
    let target = &vacant(wanted, packed.is_bare)?;
    make_directory(target).map_err(|source| GitError::io("make", target, source))?;
    let git_dir = if packed.is_bare { target.clone() } else { target.join(".git") };
    let restoring = Restoring { git, target, git_dir, is_bare: packed.is_bare, deadline };
    let mut notes = Vec::new();
    if target != wanted {
        notes.push(format!("something is in its place, so it is in {}", target.display()));
    }
    restoring.init(packed)?;
    if fetch {
        notes.extend(packed.remotes.iter().filter_map(|remote| restoring.fetch(remote)));
    }
    restoring.unpack(&source.directory.join(WORK_PACK))?;
    if let Some(base) = &source.base {
        restoring.unpack(base)?;
    }
    restoring.graft(packed)?;
    restoring.set_refs(packed, source.directory, &mut notes)?;
    restoring.set_head(packed, &mut notes)?;
    restoring.store_stashes(packed, &mut notes)?;
    if !packed.is_bare {
        restoring.write_files(packed, source.directory, &mut notes)?;
        restoring.write_state(source.directory)?;
    }
    restoring.copy_lfs(source.directory)?;
    Ok(Restored { directory: target.clone(), notes })
}

impl Restoring<'_> {
    fn run(&self, arguments: &[&str], input: Input<'_>) -> Result<Vec<u8>, GitError> {
        self.run_with_index(None, arguments, input)
    }

    fn run_with_index(&self, index: Option<&Path>, arguments: &[&str], input: Input<'_>) -> Result<Vec<u8>, GitError> {
        let settings = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
        let arguments: Vec<&OsStr> = settings.chain(arguments.iter().copied()).map(OsStr::new).collect();
        let mut command = self.git.command(&arguments).env("GIT_DIR", &self.git_dir).directory(self.target);
        if !self.is_bare {
            command = command.env("GIT_WORK_TREE", self.target);
        }
        // A stash has an author.
        for role in ["AUTHOR", "COMMITTER"] {
            command = command
                .env(&format!("GIT_{role}_NAME"), "moadim-mcp")
                .env(&format!("GIT_{role}_EMAIL"), "moadim-mcp@localhost");
        }
        if let Some(index) = index {
            command = command.env("GIT_INDEX_FILE", index);
        }
        command.run(input, self.deadline)
    }

    fn init(&self, packed: &Packed) -> Result<(), GitError> {
        let format = format!("--object-format={}", packed.object_format);
        let mut arguments = vec!["init", "--quiet", "--template=", &format];
        arguments.extend(self.is_bare.then_some("--bare"));
        self.run(&arguments, Input::Nothing)?;
        for RemoteUrl { name, url } in &packed.remotes {
            // Not `remote add`, which refuses names that a repository may have.
            self.run(&["config", "--add", &format!("remote.{name}.url"), url], Input::Nothing)?;
            let fetch = format!("+refs/heads/*:{REMOTE_REFS}{name}/*");
            // One refspec that git does not take keeps it from every remote.
            if self.run(&["check-ref-format", &format!("{REMOTE_REFS}{name}/x")], Input::Nothing).is_ok() {
                self.run(&["config", "--add", &format!("remote.{name}.fetch"), &fetch], Input::Nothing)?;
            }
        }
        Ok(())
    }

    /// Fetches as the person would, with their own settings and keys: the repository's settings are ours, and no hook
    /// runs. Returns what went wrong.
    fn fetch(&self, remote: &RemoteUrl) -> Option<String> {
        let mut command = Command::new("git");
        command
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .args(["-c", "maintenance.auto=false"])
            .args(["fetch", "--quiet", "--no-recurse-submodules", "--"])
            .arg(&remote.name)
            .env("GIT_DIR", &self.git_dir)
            .env("GIT_ALLOW_PROTOCOL", "https:ssh:git:file")
            .env("GIT_TERMINAL_PROMPT", "0")
            // A process of a group of its own cannot read an answer from the terminal.
            .envs([("SSH_ASKPASS", "false"), ("SSH_ASKPASS_REQUIRE", "force")])
            .current_dir(self.target);
        match bounded_command::run(&mut command, self.deadline.min(Instant::now() + FETCH_TIMEOUT)) {
            Ok(finished) if finished.succeeded == Some(true) => None,
            Ok(finished) => {
                let said = crate::quote::saying(&String::from_utf8_lossy(&finished.stderr), 200);
                Some(format!("{} cannot be reached{said}; {FROM_ARCHIVE}", remote.name))
            }
            Err(error) => Some(format!("{} cannot be reached: {error}; {FROM_ARCHIVE}", remote.name)),
        }
    }

    fn unpack(&self, pack: &Path) -> Result<(), GitError> {
        self.run(&["index-pack", "--stdin"], Input::File(pack)).map(drop)
    }

    /// Commits whose parents are not here have none.
    fn graft(&self, packed: &Packed) -> Result<(), GitError> {
        let mut graft = packed.shallow.clone();
        let missing = self.missing(&packed.base)?;
        // Where the base did not come, the work itself begins with such commits.
        let edge = if missing.is_empty() { packed.base.clone() } else { self.commits()? };
        let ids: String = edge.iter().map(|id| format!("{id}\n")).collect();
        let arguments = ["cat-file", "--batch"];
        let parents = parents(&self.run(&arguments, Input::Bytes(ids.as_bytes()))?);
        let all: Vec<ObjectId> = parents.values().flatten().cloned().collect();
        let missing = self.missing(&all)?;
        let is_edge = |(_, parents): &(&ObjectId, &Vec<ObjectId>)| parents.iter().any(|id| missing.contains(id));
        graft.extend(parents.iter().filter(is_edge).map(|(id, _)| id.clone()));
        let missing = self.missing(&graft)?;
        let known: String = graft.iter().filter(|id| !missing.contains(id)).map(|id| format!("{id}\n")).collect();
        if known.is_empty() {
            return Ok(());
        }
        let path = self.git_dir.join("shallow");
        std::fs::write(&path, known).map_err(|source| GitError::io("write", &path, source))
    }

    /// Lists every commit that is here.
    fn commits(&self) -> Result<Vec<ObjectId>, GitError> {
        let arguments = ["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"];
        let printed = self.run(&arguments, Input::Nothing)?;
        let printed = String::from_utf8_lossy(&printed);
        let ids = printed.lines().filter_map(|line| line.strip_prefix("commit "));
        ids.map(|id| id.parse().map_err(GitError::Odd)).collect()
    }

    /// Returns those that are not here.
    fn missing(&self, ids: &[ObjectId]) -> Result<BTreeSet<ObjectId>, GitError> {
        let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let printed = self.run(&["cat-file", "--batch-check=."], Input::Bytes(input.as_bytes()))?;
        let printed = String::from_utf8_lossy(&printed);
        Ok(ids.iter().zip(printed.lines()).filter(|(_, line)| *line != ".").map(|(id, _)| id.clone()).collect())
    }

    /// Sets every ref whose object is here. Those of remotes come from there.
    fn set_refs(&self, packed: &Packed, directory: &Path, notes: &mut Vec<String>) -> Result<(), GitError> {
        let refs = read(&directory.join(REFS))?;
        let refs = String::from_utf8_lossy(&refs).into_owned();
        let mut wanted: BTreeMap<&str, &str> =
            refs.lines().filter_map(|line| line.split_once(' ')).map(|(id, name)| (name, id)).collect();
        let remotes: Vec<String> =
            packed.remotes.iter().map(|remote| format!("{REMOTE_REFS}{}/", remote.name)).collect();
        wanted.retain(|name, _| !remotes.iter().any(|prefix| name.starts_with(prefix)));
        let ids: Result<Vec<ObjectId>, String> = wanted.values().map(|id| id.parse()).collect();
        let missing = self.missing(&ids.map_err(GitError::Odd)?)?;
        let is_missing = |id: &str| missing.iter().any(|missing| missing.as_str() == id);
        let (lost, here): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, id)| is_missing(id));
        if !lost.is_empty() {
            let names = named(lost.iter().map(|(name, _)| *name));
            notes
                .push(format!("refs not restored, because only a remote has what they name ({}): {names}", lost.len()));
        }
        let updates: String = here.iter().map(|(name, id)| format!("update {name} {id}\n")).collect();
        // A branch that is checked out may be updated: nothing is.
        if self.run(&["update-ref", "--stdin"], Input::Bytes(updates.as_bytes())).is_err() {
            // One that git refuses must not cost the others.
            for update in updates.lines() {
                if let Err(error) = self.run(&["update-ref", "--stdin"], Input::Bytes(update.as_bytes())) {
                    notes.push(format!("a ref is not restored ({update}): {error}"));
                }
            }
        }
        Ok(())
    }

    fn set_head(&self, packed: &Packed, notes: &mut Vec<String>) -> Result<(), GitError> {
        if let Some(head) = &packed.head
            && !self.missing(std::slice::from_ref(head))?.is_empty()
        {
            notes.push(format!("HEAD has no commit, because only a remote has {head}"));
        } else if let (None, Some(head)) = (&packed.branch, &packed.head) {
            return self.run(&["update-ref", "--no-deref", "HEAD", head.as_str()], Input::Nothing).map(drop);
        }
        match &packed.branch {
            Some(branch) => self.run(&["symbolic-ref", "HEAD", branch], Input::Nothing).map(drop),
            None => Ok(()),
        }
    }

    fn store_stashes(&self, packed: &Packed, notes: &mut Vec<String>) -> Result<(), GitError> {
        for Stash { id, message } in packed.stashes.iter().rev() {
            if self.run(&["stash", "store", "--quiet", "-m", message, id.as_str()], Input::Nothing).is_ok() {
                continue;
            }
            if !self.missing(std::slice::from_ref(id))?.is_empty() {
                notes.push(format!("the stash entry {id} is not restored, because only a remote has it"));
                continue;
            }
            // An agent may have put anything there.
            notes.push(format!("the stash entry {id} is no stash; it is the tag stash-{id}"));
            self.run(&["update-ref", &format!("refs/tags/stash-{id}"), id.as_str()], Input::Nothing)?;
        }
        Ok(())
    }

    fn write_files(&self, packed: &Packed, directory: &Path, notes: &mut Vec<String>) -> Result<(), GitError> {
        let index = read(&directory.join(INDEX))?;
        let (info, skipped) = index_info(&index)?;
        self.run(&["update-index", "-z", "--index-info"], Input::Bytes(&info))?;
        if !skipped.is_empty() {
            self.run(&["update-index", "--skip-worktree", "-z", "--stdin"], Input::Bytes(&skipped))?;
        }
        let missing = self.missing_files(&index)?;
        let checked_out = self.run(&["checkout-index", "--all", "--force", "--quiet"], Input::Nothing);
        if missing.is_empty() {
            checked_out?;
        }
        let deleted = read(&directory.join(DELETED))?;
        for path in paths(&deleted).filter_map(|path| self.inside(path)) {
            remove(&path)?;
        }
        if let Some(tree) = &packed.files {
            let attributes = self.git_dir.join("info/attributes");
            let index = self.git_dir.join("files.index");
            make_directory(&self.git_dir.join("info")).map_err(|source| GitError::io("make", &attributes, source))?;
            std::fs::write(&attributes, BYTES_AS_THEY_ARE)
                .map_err(|source| GitError::io("write", &attributes, source))?;
            self.run_with_index(Some(&index), &["read-tree", tree.as_str()], Input::Nothing)?;
            self.run_with_index(Some(&index), &["checkout-index", "--all", "--force", "--quiet"], Input::Nothing)?;
            for path in [&attributes, &index] {
                std::fs::remove_file(path).map_err(|source| GitError::io("remove", path, source))?;
            }
        }
        let deleted: BTreeSet<&OsStr> = paths(&deleted).collect();
        let is_lost = |path: &&OsStr| !deleted.contains(path) && self.target.join(path).symlink_metadata().is_err();
        let lost: Vec<&OsStr> = missing.iter().map(OsString::as_os_str).filter(is_lost).collect();
        if !lost.is_empty() {
            let names = named(lost.iter().map(|path| path.to_string_lossy()));
            notes
                .push(format!("files not restored, because only a remote has their content ({}): {names}", lost.len()));
        }
        let list = read(&directory.join(MODES))?;
        for (mode, path) in modes(&list) {
            let Some(path) = self.inside(path).filter(|path| !path.is_symlink()) else { continue };
            std::fs::set_permissions(&path, mode)
                .map_err(|source| GitError::io("change the mode of", &path, source))?;
        }
        let intended = read(&directory.join(INTENDED))?;
        if !intended.is_empty() {
            self.run(&["update-index", "--force-remove", "-z", "--stdin"], Input::Bytes(&intended))?;
            let add =
                ["add", "--intent-to-add", "--force", "--sparse", "--pathspec-from-file=-", "--pathspec-file-nul"];
            self.run(&add, Input::Bytes(&intended))?;
        }
        // The flag hides a change of a file that is there.
        let hidden: Vec<u8> = paths(&skipped)
            .filter(|path| self.target.join(path).symlink_metadata().is_ok())
            .flat_map(|path| [path.as_bytes(), b"\0"].concat())
            .collect();
        if !hidden.is_empty() {
            self.run(&["update-index", "--no-skip-worktree", "-z", "--stdin"], Input::Bytes(&hidden))?;
        }
        // So that the first `git status` is quick; it fails where files differ, as they should.
        let _ = self.run(&["update-index", "-q", "--refresh"], Input::Nothing);
        Ok(())
    }

    /// Returns the paths of the index that should be checked out and have no content here.
    fn missing_files(&self, index: &[u8]) -> Result<Vec<OsString>, GitError> {
        let entries = status::parse_index(index)?;
        let files = || entries.iter().filter(|entry| entry.mode != GITLINK && entry.stage == 0 && !entry.is_skipped);
        let missing = self.missing(&files().map(|entry| entry.id.clone()).collect::<Vec<_>>())?;
        let paths = files().filter(|entry| missing.contains(&entry.id));
        Ok(paths.map(|entry| OsStr::from_bytes(&entry.path).to_owned()).collect())
    }

    /// Returns a path in the repository, unless a link that was restored leads elsewhere on the way.
    fn inside(&self, path: &OsStr) -> Option<PathBuf> {
        let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        Some(self.target.join(path)).filter(|path| is_plain && has_real_parents(self.target, path))
    }

    /// A merge goes on where it was. What a rebase has to do is laid beside the repository, because it may be commands.
    fn write_state(&self, directory: &Path) -> Result<(), GitError> {
        let state = directory.join(STATE);
        for name in STATE_FILES.map(|name| state.join(name)).iter().filter(|path| path.exists()) {
            copy(name, &self.git_dir.join(name.file_name().unwrap_or_default()))?;
        }
        for name in STATE_DIRECTORIES.iter().filter(|name| state.join(name).exists()) {
            copy_tree(&state.join(name), &free(self.target, name))?;
        }
        Ok(())
    }

    fn copy_lfs(&self, directory: &Path) -> Result<(), GitError> {
        let lfs = directory.join(lfs::LFS);
        if !lfs.exists() {
            return Ok(());
        }
        for oid in names_in(&lfs)? {
            let name = oid.to_string_lossy();
            let to = self.git_dir.join("lfs/objects").join(&name[..2]).join(&name[2..4]);
            make_directory(&to).map_err(|source| GitError::io("make", &to, source))?;
            copy(&lfs.join(&oid), &to.join(&oid))?;
        }
        Ok(())
    }
}

/// Lists the first of some names.
fn named<T: AsRef<str>>(names: impl ExactSizeIterator<Item = T>) -> String {
    let more = names.len().saturating_sub(NAMES_IN_NOTE);
    let names: Vec<T> = names.take(NAMES_IN_NOTE).collect();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

/// Finds the parents of commits in what `git cat-file --batch` prints: `rev-list` stops at a parent that is not there.
fn parents(mut printed: &[u8]) -> BTreeMap<ObjectId, Vec<ObjectId>> {
    let mut found = BTreeMap::new();
    while let Some(end) = printed.iter().position(|byte| *byte == b'\n') {
        let header = String::from_utf8_lossy(&printed[..end]).into_owned();
        printed = &printed[end + 1..];
        let [id, kind, size] = header.split(' ').collect::<Vec<_>>()[..] else { continue };
        let Some((content, rest)) = size.parse().ok().and_then(|size| printed.split_at_checked(size)) else { break };
        printed = rest.get(1..).unwrap_or_default();
        let Ok(id) = id.parse::<ObjectId>() else { continue };
        let headers = String::from_utf8_lossy(content);
        let headers = headers.lines().take_while(|line| kind == "commit" && !line.is_empty());
        let parents = headers.filter_map(|line| line.strip_prefix("parent ")?.parse::<ObjectId>().ok());
        found.insert(id, parents.collect());
    }
    found
}
