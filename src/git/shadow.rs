//! A bare repository of ours in the place of one that is untrusted.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::config_text::{self, Settings};
use super::find::{Found, Kind, pointed_to};
use super::program::{Git, GitCommand, GitError, Input, ObjectId};
use crate::home::{atomic_file, make_directory};

/// Bounds for what is copied: more than any honest repository has, little enough to copy within the time there is.
const MAX_COPIED_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const MAX_REF_FILES: usize = 200_000;
/// A loose ref, or a `HEAD`.
const MAX_REF_BYTES: u64 = 64 * 1024;

/// Our own configuration: nothing runs, nothing is converted, no name of a file is refused, nothing is believed of what a
/// file system monitor or a cache said before.
const CONFIG: &str = "\
[core]
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tfsmonitor = false
\thooksPath = /dev/null
\tprotectHFS = false
\tprotectNTFS = false
\tuntrackedCache = false
[gc]
\tauto = 0
[advice]
\tsparseIndexExpanded = false
";

/// Attributes that undo every conversion, whatever a repository's own say.
pub(super) const BYTES_AS_THEY_ARE: &str = "* -text -crlf !eol -ident -filter !working-tree-encoding\n";

/// A shadow of a repository.
pub(crate) struct Shadow<'a> {
    git: &'a Git,
    /// The shadow itself.
    directory: PathBuf,
    /// Its files, unless it is bare.
    tree: Option<PathBuf>,
    /// What belongs to this working tree: `HEAD`, the index, a merge under way.
    git_dir: PathBuf,
    /// What linked working trees share: refs and objects.
    common_dir: PathBuf,
    pub(super) settings: Settings,
}

impl<'a> Shadow<'a> {
    /// Makes a shadow of a repository below `root` in the empty directory `scratch`.
    ///
    /// # Errors
    /// Something in the repository cannot be read, or is none of what git puts there.
    pub(crate) fn of(
        git: &'a Git,
        root: &Path,
        found: &Found,
        scratch: &Path,
        deadline: Instant,
    ) -> Result<Self, GitError> {
        let (git_dir, tree) = match &found.kind {
            Kind::Ordinary { git_dir } | Kind::Pointer { git_dir } => (git_dir.clone(), Some(root.join(&found.path))),
            Kind::Bare { git_dir } => (git_dir.clone(), None),
            Kind::Odd(problem) => return Err(GitError::Odd(problem.clone())),
        };
        let pointer = git_dir.join("commondir");
        let common_dir = match pointer.symlink_metadata() {
            Ok(_) => pointed_to(&git_dir, &pointer, "").map_err(GitError::Odd)?,
            Err(_) => git_dir.clone(),
        };
        let settings = config_text::read(git, &git_dir, &common_dir, scratch, deadline)?;
        let directory = scratch.join("shadow.git");
        let shadow = Self { git, directory, tree, git_dir, common_dir, settings };
        shadow.fill()?;
        Ok(shadow)
    }

    /// Whether refs and objects lie outside of `root`, so that they stay when it goes.
    pub(super) fn is_kept_outside(&self, root: &Path) -> bool {
        match (self.common_dir.canonicalize(), root.canonicalize()) {
            (Ok(common), Ok(root)) => !common.starts_with(root),
            _ => false,
        }
    }

    pub(super) fn tree(&self) -> Option<&Path> {
        self.tree.as_deref()
    }

    pub(super) fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    pub(super) fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The copy of the index. It need not be there.
    pub(super) fn index(&self) -> PathBuf {
        self.directory.join("index")
    }

    /// Where the shadow is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn fill(&self) -> Result<(), GitError> {
        for part in ["objects/info", "refs", "info", "logs/refs"] {
            let path = self.directory.join(part);
            make_directory(&path).map_err(|source| GitError::io("make", &path, source))?;
        }
        let mut budget = Budget { bytes: MAX_COPIED_BYTES, files: MAX_REF_FILES };
        self.copy(&self.git_dir, "HEAD", MAX_REF_BYTES, &mut budget)?;
        self.copy(&self.git_dir, "index", u64::MAX, &mut budget)?;
        // Before the packed ones, as git reads them: somebody may be packing refs now, and one must not be in neither.
        self.copy_directory(&self.common_dir, Path::new("refs"), &mut budget)?;
        self.copy_directory(&self.common_dir, Path::new("reftable"), &mut budget)?;
        if self.git_dir != self.common_dir {
            self.copy_directory(&self.git_dir, Path::new("refs"), &mut budget)?;
        }
        for name in ["packed-refs", "shallow", "logs/refs/stash", "info/exclude"] {
            self.copy(&self.common_dir, name, u64::MAX, &mut budget)?;
        }
        let packed_refs = self.directory.join("packed-refs");
        if packed_refs.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // Git writes a header there at least: this is what a power cut leaves, and git takes it for no refs at all.
            return Err(GitError::odd(&self.common_dir.join("packed-refs"), "is damaged: it is empty"));
        }
        for name in names_in(&self.git_dir)?.iter().filter(|name| name.as_bytes().starts_with(b"sharedindex.")) {
            self.copy(&self.git_dir, name, u64::MAX, &mut budget)?;
        }
        self.borrow_objects()?;
        let path = self.directory.join("config");
        std::fs::write(&path, self.config()?).map_err(|source| GitError::io("write", &path, source))
    }

    fn config(&self) -> Result<String, GitError> {
        let mut extensions = String::new();
        match self.settings.object_format.as_deref() {
            None | Some("sha1") => {}
            Some("sha256") => extensions.push_str("\tobjectFormat = sha256\n"),
            Some(other) => return Err(GitError::Odd(format!("its object format '{other}' is not known here"))),
        }
        match self.settings.ref_storage.as_deref() {
            None | Some("files") => {}
            Some("reftable") => extensions.push_str("\trefStorage = reftable\n"),
            Some(other) => return Err(GitError::Odd(format!("its ref storage '{other}' is not known here"))),
        }
        Ok(if extensions.is_empty() {
            CONFIG.to_owned()
        } else {
            format!("{CONFIG}[core]\n\trepositoryFormatVersion = 1\n[extensions]\n{extensions}")
        })
    }

    /// Names the run's objects as those to read from.
    fn borrow_objects(&self) -> Result<(), GitError> {
        let objects = self.common_dir.join("objects");
        // Git would wait for ever for a fifo there.
        let alternates = objects.join("info/alternates");
        match atomic_file::open_regular(&alternates) {
            Err(error) if !error.is_not_found() => return Err(GitError::Odd(error.to_string())),
            _ => {}
        }
        let path = self.directory.join("objects/info/alternates");
        let line = format!("{}\n", c_quoted(objects.as_os_str().as_bytes()));
        std::fs::write(&path, line).map_err(|source| GitError::io("write", &path, source))
    }

    /// Copies a regular file that need not be there.
    fn copy(&self, from: &Path, name: impl AsRef<Path>, max_bytes: u64, budget: &mut Budget) -> Result<(), GitError> {
        let (source, target) = (from.join(name.as_ref()), self.directory.join(name.as_ref()));
        if name.as_ref().components().count() > 1 {
            // Directories on the way may be links too.
            let parents = name.as_ref().ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            for parent in parents.map(|parent| from.join(parent)) {
                match parent.symlink_metadata() {
                    Ok(metadata) if metadata.is_dir() => {}
                    Ok(_) => return Err(GitError::odd(&parent, "is not a directory")),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    Err(error) => return Err(GitError::io("look at", &parent, error)),
                }
            }
        }
        let file = match atomic_file::open_regular(&source) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(GitError::Odd(error.to_string())),
        };
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let limit = max_bytes.min(budget.bytes);
        let mut copy = File::create(&target).map_err(|error| GitError::io("write", &target, error))?;
        let copied = io::copy(&mut file.take(limit.saturating_add(1)), &mut copy);
        let copied = copied.map_err(|error| GitError::io("copy", &source, error))?;
        if copied > limit {
            return Err(GitError::odd(&source, "is too large"));
        }
        budget.bytes -= copied;
        // Git compares the index's own time with those of the files in it: one that was changed in the same second is read again.
        let written = modified.and_then(|modified| copy.set_modified(modified));
        written.map_err(|error| GitError::io("set the time of", &target, error))
    }

    /// Copies the regular files below a directory that need not be there.
    fn copy_directory(&self, from: &Path, name: &Path, budget: &mut Budget) -> Result<(), GitError> {
        let directory = from.join(name);
        match directory.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(GitError::odd(&directory, "is not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(GitError::io("look at", &directory, error)),
        }
        let target = self.directory.join(name);
        make_directory(&target).map_err(|source| GitError::io("make", &target, source))?;
        for file in names_in(&directory)? {
            budget.files =
                budget.files.checked_sub(1).ok_or_else(|| GitError::odd(&directory, "has too many files"))?;
            let name = name.join(&file);
            let is_dir = from.join(&name).symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            if is_dir {
                self.copy_directory(from, &name, budget)?;
            } else if !file.as_bytes().ends_with(b".lock") {
                let max_bytes = if name.starts_with("refs") { MAX_REF_BYTES } else { u64::MAX };
                self.copy(from, &name, max_bytes, budget)?;
            }
        }
        Ok(())
    }

    /// A command of git on the shadow, with the repository's files as its working tree.
    pub(crate) fn git(&self, arguments: &[&str]) -> GitCommand<'a> {
        self.git_os(&arguments.iter().map(OsStr::new).collect::<Vec<_>>())
    }

    pub(super) fn git_os(&self, arguments: &[&OsStr]) -> GitCommand<'a> {
        let command = self.git.command(arguments).env("GIT_DIR", &self.directory).env("GIT_INDEX_FILE", self.index());
        match &self.tree {
            Some(tree) => command.env("GIT_WORK_TREE", tree).directory(tree),
            None => command.directory(&self.directory),
        }
    }

    /// Runs a command; returns `None` where it fails with 1, which means "no" or "nothing".
    pub(super) fn ask(&self, arguments: &[&str], deadline: Instant) -> Result<Option<String>, GitError> {
        match self.git(arguments).run(Input::Nothing, deadline) {
            Ok(printed) => Ok(Some(String::from_utf8_lossy(&printed).trim_end().to_owned())),
            Err(GitError::Failed { how, .. }) if how.code() == Some(1) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn program(&self) -> &'a Git {
        self.git
    }

    /// Returns those of the objects that the repository has.
    pub(super) fn present(&self, ids: BTreeSet<ObjectId>, deadline: Instant) -> Result<Vec<ObjectId>, GitError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let check = self.git(&["cat-file", "--batch-check=%(objectname)"]);
        let printed = check.run(Input::Bytes(input.as_bytes()), deadline)?;
        let printed = String::from_utf8_lossy(&printed);
        Ok(printed.lines().filter_map(|line| line.parse::<ObjectId>().ok()).collect())
    }

    /// The commits that have no parents here.
    pub(super) fn shallow(&self) -> Result<Vec<ObjectId>, GitError> {
        let path = self.directory.join("shallow");
        match std::fs::read_to_string(&path) {
            Ok(text) => text.lines().map(|line| line.parse().map_err(GitError::Odd)).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(GitError::io("read", &path, source)),
        }
    }

    /// From now on these commits have no parents in the shadow.
    pub(super) fn set_shallow(&self, commits: &[ObjectId]) -> Result<(), GitError> {
        let path = self.directory.join("shallow");
        let lines: String = commits.iter().map(|id| format!("{id}\n")).collect();
        std::fs::write(&path, lines).map_err(|source| GitError::io("write", &path, source))
    }

    /// From now on no attribute of the repository changes what is read from a file.
    pub(super) fn take_bytes_as_they_are(&self) -> Result<(), GitError> {
        let path = self.directory.join("info/attributes");
        std::fs::write(&path, BYTES_AS_THEY_ARE).map_err(|source| GitError::io("write", &path, source))
    }

    /// Reads a file of this working tree's git directory that is an object's name and nothing else; `None` for any other.
    pub(super) fn id_in(&self, name: impl AsRef<Path>) -> Option<ObjectId> {
        let bytes = atomic_file::read(&self.git_dir.join(name), MAX_REF_BYTES).ok()?;
        String::from_utf8(bytes).ok()?.trim().parse().ok()
    }

    /// Reads a file of this working tree's git directory that has an object's name on each line, if it is there. One
    /// that has anything else, or nothing as after a power cut, is damaged.
    pub(super) fn ids_in(&self, name: impl AsRef<Path>) -> Result<Vec<ObjectId>, GitError> {
        let path = self.git_dir.join(name);
        let bytes = match atomic_file::read(&path, MAX_REF_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(GitError::Odd(error.to_string())),
        };
        let text = String::from_utf8_lossy(&bytes);
        let ids: Result<Vec<_>, _> = text.lines().map(|line| line.trim().parse::<ObjectId>()).collect();
        ids.ok().filter(|ids| !ids.is_empty()).ok_or_else(|| GitError::odd(&path, "is damaged: it names no commit"))
    }
}

/// What may still be copied.
struct Budget {
    bytes: u64,
    files: usize,
}

pub(super) fn names_in(directory: &Path) -> Result<Vec<OsString>, GitError> {
    let names = std::fs::read_dir(directory).and_then(|files| files.map(|file| Ok(file?.file_name())).collect());
    names.map_err(|source| GitError::io("list", directory, source))
}

/// Quotes a path as git does in its own files.
fn c_quoted(path: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for &byte in path {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', byte.into()]),
            b' '..=b'~' => quoted.push(byte.into()),
            _ => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_as_git_reads_it() {
        assert_eq!(c_quoted(b"/a b/\"\\\n\xff"), r#""/a b/\"\\\012\377""#);
    }
}
