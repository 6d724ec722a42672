//! The form in which a repository is archived: files beside a record, written by `pack` and read by `restore`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::program::{GitError, ObjectId};
use super::status;

/// The files of an archived repository, beside its record.
pub(super) const WORK_PACK: &str = "work.pack";
/// `git ls-files -z -s -v`.
pub(super) const INDEX: &str = "index";
/// A line for each ref: its object and its name.
pub(super) const REFS: &str = "refs";
/// Commits that had no name come back under this prefix and their id.
pub(super) const RECOVERED: &str = "refs/recovered/";
/// Tracked paths that are not there, each ended by NUL.
pub(super) const DELETED: &str = "deleted";
/// Paths that were added without their content, each ended by NUL.
pub(super) const INTENDED: &str = "intended";
/// Permissions that git does not keep: octal digits, a space, the path, NUL.
pub(super) const MODES: &str = "modes";
/// A merge or a rebase under way, as git keeps it.
pub(super) const STATE: &str = "state";

/// What is under way, in files of the git directory.
pub(super) const STATE_FILES: [&str; 8] = [
    "MERGE_HEAD",
    "MERGE_MSG",
    "MERGE_MODE",
    "MERGE_AUTOSTASH",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "SQUASH_MSG",
    "AUTO_MERGE",
];
/// The same in directories. What they say may be commands.
pub(super) const STATE_DIRECTORIES: [&str; 3] = ["rebase-merge", "rebase-apply", "sequencer"];

/// What is known of an archived repository beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packed {
    pub(crate) is_bare: bool,
    /// `sha1` or `sha256`.
    pub(crate) object_format: String,
    /// Name and URL of each remote that git reaches by itself.
    pub(crate) remotes: Vec<RemoteUrl>,
    /// The full name of the branch that is checked out; `None` where a commit is.
    pub(crate) branch: Option<String>,
    /// The commit that is checked out; `None` before the first one.
    pub(crate) head: Option<ObjectId>,
    /// From the newest to the oldest.
    pub(crate) stashes: Vec<Stash>,
    /// The commits that are in the base.
    pub(crate) base: Vec<ObjectId>,
    /// What its pack is called, which follows from these commits.
    pub(crate) base_name: Option<ObjectId>,
    /// Commits whose parents the repository did not have.
    pub(crate) shallow: Vec<ObjectId>,
    /// The tree of all files that differ from the index, or are not in it.
    pub(crate) files: Option<ObjectId>,
    /// Objects of the base are missing, so that nothing can be restored without the remote: a partial clone.
    pub(crate) needs_remote: bool,
    /// How many files of LFS could not be found.
    pub(crate) missing_lfs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteUrl {
    pub(crate) name: String,
    pub(crate) url: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stash {
    pub(crate) id: ObjectId,
    pub(crate) message: String,
}

impl Packed {
    /// What a person who restores it should know.
    pub(crate) fn caveat(&self) -> Option<String> {
        let lfs = self.missing_lfs;
        (lfs > 0).then(|| format!("{lfs} files that Git LFS keeps were not in it, and are not in the archive"))
    }
}

/// The pack of a base, by the commits in it.
pub(crate) fn base_pack(bases: &Path, name: &ObjectId) -> PathBuf {
    bases.join(format!("{name}.pack"))
}

/// Takes apart what a list of NUL-terminated paths holds.
pub(super) fn paths(list: &[u8]) -> impl Iterator<Item = &OsStr> {
    list.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(OsStr::from_bytes)
}

/// Takes apart the list of permissions.
pub(super) fn modes(list: &[u8]) -> impl Iterator<Item = (std::fs::Permissions, &OsStr)> {
    list.split(|byte| *byte == 0).filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let mode = u32::from_str_radix(std::str::from_utf8(&line[..space]).ok()?, 8).ok()?;
        Some((std::fs::Permissions::from_mode(mode & 0o7777), OsStr::from_bytes(&line[space + 1..])))
    })
}

/// Returns the entries of an index as `update-index --index-info` reads them, and the paths that were left out on purpose.
pub(super) fn index_info(printed: &[u8]) -> Result<(Vec<u8>, Vec<u8>), GitError> {
    let (mut info, mut skipped) = (Vec::new(), Vec::new());
    for entry in status::parse_index(printed)? {
        info.extend_from_slice(format!("{:o} {} {}\t", entry.mode, entry.id, entry.stage).as_bytes());
        info.extend_from_slice(&entry.path);
        info.push(0);
        if entry.is_skipped {
            skipped.extend_from_slice(&entry.path);
            skipped.push(0);
        }
    }
    Ok((info, skipped))
}
