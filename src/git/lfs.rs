//! Contents that Git LFS keeps outside of git's objects, and has not pushed.

use std::collections::BTreeSet;
use std::fs::File;
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
pub(super) fn store(shadow: &Shadow<'_>) -> Option<PathBuf> {
    let store = shadow.common_dir.join("lfs/objects");
    store.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()).then_some(store)
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
            let what = format!("has {bytes} bytes or more to archive, and there is room for {}", target.max_lfs_bytes);
            return Err(GitError::odd(store, what));
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
    oid.parse::<ObjectId>().ok().map(|id| id.to_string()).filter(|oid| oid.len() == 64)
}
