//! Proves that an archive is complete.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Instant;

use super::pack::Target;
use super::packed::{Packed, WORK_PACK};
use super::program::{Git, GitError, Input, ObjectId};
use super::roots::range;

/// Restores the packs into an empty repository, walks from everything that is wanted to everything that it consists of,
/// and makes sure that each commit of the work is there.
pub(super) fn verify(
    git: &Git,
    packed: &Packed,
    target: &Target<'_>,
    base: Option<&Path>,
    wanted: &[ObjectId],
    work: &BTreeSet<ObjectId>,
    deadline: Instant,
) -> Result<(), GitError> {
    let directory = target.scratch.join("verify.git");
    // Of an attempt that failed.
    let _ = std::fs::remove_dir_all(&directory);
    let run =
        |arguments: &[&OsStr], input: Input<'_>| git.command(arguments).env("GIT_DIR", &directory).run(input, deadline);
    let format = format!("--object-format={}", packed.object_format);
    run(
        &["init".as_ref(), "--quiet".as_ref(), "--bare".as_ref(), "--template=".as_ref(), format.as_ref()],
        Input::Nothing,
    )?;
    let packs = directory.join("objects/pack");
    for (name, pack) in [("work", Some(target.directory.join(WORK_PACK))), ("base", base.map(Path::to_owned))] {
        let Some(pack) = pack else { continue };
        // A link and not a copy: what is verified is the file itself, and the disk may be short.
        let link = packs.join(format!("pack-{name}.pack"));
        std::fs::hard_link(&pack, &link).map_err(|source| GitError::io("link", &pack, source))?;
        run(&["index-pack".as_ref(), link.as_os_str()], Input::Nothing)?;
    }
    // What was not wanted by mistake cannot be missed by a walk.
    let ids: String = work.iter().map(|id| format!("{id}\n")).collect();
    let check: Vec<&OsStr> = ["cat-file", "--batch-check=%(objectname)"].map(OsStr::new).to_vec();
    let printed = run(&check, Input::Bytes(ids.as_bytes()))?;
    if let Some(missing) = String::from_utf8_lossy(&printed).lines().find(|line| line.ends_with(" missing")) {
        return Err(GitError::Odd(format!("the archive is not complete: {missing}")));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let graft: String = packed.base.iter().chain(&packed.shallow).map(|id| format!("{id}\n")).collect();
    let shallow = directory.join("shallow");
    if !graft.is_empty() {
        std::fs::write(&shallow, graft).map_err(|source| GitError::io("write", &shallow, source))?;
    }
    let mut roots = wanted.to_vec();
    let mut walk: Vec<&OsStr> = ["rev-list", "--objects", "--quiet", "--stdin"].map(OsStr::new).to_vec();
    if packed.needs_remote {
        // What the remote has was left out on purpose.
        walk.push("--missing=allow-any".as_ref());
    } else {
        roots.extend(packed.base.iter().cloned());
    }
    run(&walk, Input::Bytes(&range(&roots, &[])))?;
    let _ = std::fs::remove_dir_all(&directory);
    Ok(())
}
