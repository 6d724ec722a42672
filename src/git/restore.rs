//! Restores a repository from its archive.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::base::REMOTE_REFS;
use super::lfs;
use super::pack::has_real_parents;
use super::packed::{
    DELETED, INDEX, INTENDED, MODES, Packed, REFS, RemoteUrl, STATE, STATE_DIRECTORIES, STATE_FILES, WORK_PACK,
    index_info, modes, paths,
};
use super::program::{Git, GitError, Input, ObjectId};
use super::shadow::{BYTES_AS_THEY_ARE, names_in};
use crate::bounded_command;
use crate::home::make_directory;

/// What a restored repository lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// In words, one for each remote that could not be reached.
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

/// Makes the repository in a directory that does not exist yet. With `fetch`, what its remotes have comes from there.
///
/// # Errors
/// Git or the disk refuses; what is there of the repository then is not whole.
pub(crate) fn restore(
    git: &Git,
    packed: &Packed,
    source: &Source<'_>,
    target: &Path,
    fetch: bool,
    deadline: Instant,
) -> Result<Restored, GitError> {
    make_directory(target).map_err(|source| GitError::io("make", target, source))?;
    let git_dir = if packed.is_bare { target.to_owned() } else { target.join(".git") };
    let restoring = Restoring { git, target, git_dir, is_bare: packed.is_bare, deadline };
    let mut restored = Restored::default();
    restoring.init(packed)?;
    if fetch {
        restored.notes = packed.remotes.iter().filter_map(|remote| restoring.fetch(remote)).collect();
    }
    restoring.unpack(&source.directory.join(WORK_PACK))?;
    if let Some(base) = &source.base {
        restoring.unpack(base)?;
    }
    restoring.graft(packed)?;
    restoring.set_refs(packed, source.directory, &mut restored.notes)?;
    for stash in packed.stashes.iter().rev() {
        let store = ["stash", "store", "--quiet", "-m", &stash.message, stash.id.as_str()];
        if restoring.run(&store, Input::Nothing).is_err() {
            // An agent may have put anything there.
            restored.notes.push(format!("the stash entry {} is no stash; it is the tag stash-{}", stash.id, stash.id));
            let tag = format!("refs/tags/stash-{}", stash.id);
            restoring.run(&["update-ref", &tag, stash.id.as_str()], Input::Nothing)?;
        }
    }
    if !packed.is_bare {
        restoring.write_files(packed, source.directory)?;
        restoring.write_state(source.directory)?;
    }
    restoring.copy_lfs(source.directory)?;
    Ok(restored)
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
            self.run(&["config", "--add", &format!("remote.{name}.fetch"), &fetch], Input::Nothing)?;
        }
        Ok(())
    }

    /// Fetches as the person would, with their own settings and keys: the repository's settings are ours. Returns what went
    /// wrong.
    fn fetch(&self, remote: &RemoteUrl) -> Option<String> {
        let mut command = Command::new("git");
        command
            .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
            .args(["fetch", "--quiet", "--no-recurse-submodules", "--"])
            .arg(&remote.name)
            .env("GIT_DIR", &self.git_dir)
            .env("GIT_ALLOW_PROTOCOL", "https:ssh:git:file")
            .env("GIT_TERMINAL_PROMPT", "0")
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
        if !packed.base.is_empty() {
            let mut ids = String::new();
            for id in &packed.base {
                if self.has_all(std::slice::from_ref(id))? {
                    ids.push_str(&format!("{id}\n"));
                }
            }
            let arguments = ["rev-list", "--no-walk", "--parents", "--stdin"];
            let printed = self.run(&arguments, Input::Bytes(ids.as_bytes()))?;
            for line in String::from_utf8_lossy(&printed).lines() {
                let mut commits = line.split(' ').map(|id| id.parse::<ObjectId>());
                let Some(Ok(commit)) = commits.next() else { continue };
                let parents: Vec<ObjectId> = commits.filter_map(Result::ok).collect();
                if !self.has_all(&parents)? {
                    graft.push(commit);
                }
            }
        }
        let mut known = Vec::new();
        for commit in graft {
            if self.has_all(std::slice::from_ref(&commit))? {
                known.push(format!("{commit}\n"));
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        let path = self.git_dir.join("shallow");
        std::fs::write(&path, known.concat()).map_err(|source| GitError::io("write", &path, source))
    }

    fn has_all(&self, ids: &[ObjectId]) -> Result<bool, GitError> {
        let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let printed = self.run(&["cat-file", "--batch-check=."], Input::Bytes(input.as_bytes()))?;
        Ok(String::from_utf8_lossy(&printed).lines().all(|line| line == "."))
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
        let ids: String = wanted.values().map(|id| format!("{id}\n")).collect();
        let printed = self.run(&["cat-file", "--batch-check=%(objectname)"], Input::Bytes(ids.as_bytes()))?;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let mut updates = String::new();
        for ((name, id), line) in wanted.iter().zip(printed.lines()) {
            if line == *id {
                updates.push_str(&format!("update {name} {id}\n"));
            }
        }
        // A branch that is checked out may be updated: nothing is.
        if self.run(&["update-ref", "--stdin"], Input::Bytes(updates.as_bytes())).is_err() {
            // One that git refuses must not cost the others.
            for update in updates.lines() {
                if let Err(error) = self.run(&["update-ref", "--stdin"], Input::Bytes(update.as_bytes())) {
                    notes.push(format!("a ref is not restored ({update}): {error}"));
                }
            }
        }
        match (&packed.branch, &packed.head) {
            (Some(branch), _) => self.run(&["symbolic-ref", "HEAD", branch], Input::Nothing).map(drop),
            (None, Some(head)) => {
                self.run(&["update-ref", "--no-deref", "HEAD", head.as_str()], Input::Nothing).map(drop)
            }
            (None, None) => Ok(()),
        }
    }

    fn write_files(&self, packed: &Packed, directory: &Path) -> Result<(), GitError> {
        let (info, skipped) = index_info(&read(&directory.join(INDEX))?)?;
        self.run(&["update-index", "-z", "--index-info"], Input::Bytes(&info))?;
        if !skipped.is_empty() {
            self.run(&["update-index", "--skip-worktree", "-z", "--stdin"], Input::Bytes(&skipped))?;
        }
        self.run(&["checkout-index", "--all", "--force", "--quiet"], Input::Nothing).or_else(if_unmerged)?;
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

/// Paths that are unmerged cannot be checked out, and come with the files instead.
fn if_unmerged(error: GitError) -> Result<Vec<u8>, GitError> {
    match error {
        GitError::Failed { how, .. } if how.code() == Some(1) => Ok(Vec::new()),
        error => Err(error),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, GitError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| GitError::io("read", path, source)),
    }
}

fn remove(path: &Path) -> Result<(), GitError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || path.is_dir() => Ok(()),
        removed => removed.map_err(|source| GitError::io("remove", path, source)),
    }
}

/// Names what is not there yet, beside a directory.
fn free(directory: &Path, name: &str) -> PathBuf {
    let beside = |number: usize| {
        let mut beside = OsString::from(directory);
        beside.push(if number == 0 { format!(".{name}") } else { format!(".{name}.{number}") });
        PathBuf::from(beside)
    };
    (0..).map(beside).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| beside(0))
}

fn copy(from: &Path, to: &Path) -> Result<(), GitError> {
    std::fs::copy(from, to).map(drop).map_err(|source| GitError::io("copy", from, source))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), GitError> {
    make_directory(to).map_err(|source| GitError::io("make", to, source))?;
    for name in names_in(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { copy_tree(&from, &to)? } else { copy(&from, &to)? }
    }
    Ok(())
}
