//! Contents that Git LFS keeps outside of git's objects, and has not pushed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::pack::Target;
use super::program::{GitError, Input, ObjectId};
use super::shadow::Shadow;
use crate::home::{atomic_file, make_directory};

/// The first line of a file that stands for one that LFS keeps.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
const MAX_LFS_POINTER_BYTES: u64 = 1024;

/// Where the contents are in an archived repository, each named by its id.
pub(super) const LFS: &str = "lfs";

/// Returns where a repository keeps its contents, if it does.
///
/// # Errors
/// They are not in its git directory: what is elsewhere may be anybody's, and is not only this run's.
pub(super) fn store(shadow: &Shadow<'_>) -> Result<Option<PathBuf>, GitError> {
    let common_dir = shadow.common_dir();
    let storage = common_dir.join(shadow.settings.lfs_storage.as_deref().unwrap_or(Path::new("lfs")));
    let store = storage.join("objects");
    let is_inside = |path: &Path| {
        let common_dir = common_dir.canonicalize();
        path.canonicalize().is_ok_and(|path| common_dir.is_ok_and(|common_dir| path.starts_with(common_dir)))
    };
    match store.symlink_metadata() {
        Ok(_) if is_inside(&store) => Ok(Some(store).filter(|store| store.is_dir())),
        Err(error) if error.kind() == ErrorKind::NotFound && storage.starts_with(common_dir) => Ok(None),
        _ => Err(GitError::odd(&storage, "is where Git LFS keeps contents, and is not in the git directory")),
    }
}

/// Copies the contents that pointers among these objects name. Returns how many are not there.
pub(super) fn copy(
    shadow: &Shadow<'_>,
    store: &Path,
    objects: &[ObjectId],
    target: &Target<'_>,
    deadline: Instant,
) -> Result<u64, GitError> {
    let input = |ids: &[&str]| ids.iter().map(|id| format!("{id}\n")).collect::<String>().into_bytes();
    let ids: Vec<&str> = objects.iter().map(ObjectId::as_str).collect();
    let check = shadow.git(&["cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"]);
    let printed = check.run(Input::Bytes(&input(&ids)), deadline)?;
    let printed = String::from_utf8_lossy(&printed);
    let small_blob = |line: &'_ str| -> Option<String> {
        let (id, rest) = line.split_once(' ')?;
        let size: u64 = rest.strip_prefix("blob ")?.parse().ok()?;
        (size <= MAX_LFS_POINTER_BYTES).then(|| id.to_owned())
    };
    let small: Vec<String> = printed.lines().filter_map(small_blob).collect();
    let small: Vec<&str> = small.iter().map(String::as_str).collect();
    let contents = shadow.git(&["cat-file", "--batch"]).run(Input::Bytes(&input(&small)), deadline)?;
    let to = target.directory.join(LFS);
    let (mut missing, mut bytes) = (0, 0);
    for oid in oids(&contents) {
        let from = store.join(&oid[..2]).join(&oid[2..4]).join(&oid);
        bytes += from.symlink_metadata().map_or(0, |metadata| metadata.len());
        if bytes > target.max_lfs_bytes {
            return Err(GitError::TooMuchLfs { bytes, max: target.max_lfs_bytes });
        }
        make_directory(&to).map_err(|source| GitError::io("make", &to, source))?;
        let to = to.join(&oid);
        match atomic_file::open_regular(&from) {
            Ok(mut file) => {
                let mut copy = File::create(&to).map_err(|source| GitError::io("write", &to, source))?;
                std::io::copy(&mut file, &mut copy)
                    .and_then(|_| copy.sync_all())
                    .map_err(|source| GitError::io("copy", &from, source))?;
            }
            Err(error) if error.is_not_found() => missing += 1,
            Err(error) => return Err(GitError::Odd(error.to_string())),
        }
    }
    Ok(missing)
}

/// Finds the pointers in what `git cat-file --batch` prints: a line `<id> blob <size>`, the content, a line feed.
fn oids(mut printed: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    while let Some(end) = printed.iter().position(|byte| *byte == b'\n') {
        let size = printed[..end]
            .rsplit(|byte| *byte == b' ')
            .next()
            .and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
        let Some(size) = size else { break };
        let Some((content, rest)) = printed[end + 1..].split_at_checked(size) else { break };
        found.extend(oid(content));
        printed = rest.get(1..).unwrap_or_default();
    }
    found
}

fn oid(pointer: &[u8]) -> Option<String> {
    let rest = std::str::from_utf8(pointer.strip_prefix(LFS_POINTER)?).ok()?;
    let oid = rest.lines().find_map(|line| line.strip_prefix("oid sha256:"))?;
    oid.parse::<ObjectId>().ok().map(|oid| oid.to_string()).filter(|oid| oid.len() == 64)
}
