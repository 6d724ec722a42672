//! What the refs, the stash and the files of a repository name. A name that cannot be read is unknown, never absent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::base::REMOTE_REFS;
use super::program::{GitError, Input, ObjectId};
use super::shadow::{Shadow, names_in};
use crate::home::atomic_file;

/// What a ref names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) id: ObjectId,
    /// What an annotated tag leads to.
    pub(super) peeled: Option<ObjectId>,
    /// `commit`, or what else it is or leads to.
    pub(super) kind: String,
}

/// The newest entry of the stash.
pub(super) const STASH: &str = "refs/stash";

pub(super) fn refs_of(
    shadow: &Shadow<'_>,
    is_saved: &dyn Fn(&str) -> bool,
    deadline: Instant,
) -> Result<BTreeMap<String, Reference>, GitError> {
    let format = "--format=%(objectname) %(objecttype) %(refname)";
    let (printed, complaints) = shadow.git(&["for-each-ref", format]).run_with_complaints(Input::Nothing, deadline)?;
    // Git goes on without a ref whose file is empty or garbage, as after a power cut: what it named is unknown, not
    // absent.
    if let Some(complaint) = complaints.lines().find(|line| !is_about_saved_ref(line, is_saved)) {
        return Err(GitError::complaint(complaint));
    }
    let unexpected = |line: &str| GitError::Unexpected { command: "for-each-ref".to_owned(), what: line.to_owned() };
    let parse = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let id = words.next()?.parse::<ObjectId>().ok()?;
        let (kind, name) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some((name, Reference { id, peeled: None, kind }))
    };
    // Two names must not become one.
    let printed = String::from_utf8(printed).map_err(|_| GitError::Odd("a ref's name is not UTF-8".to_owned()))?;
    let refs: Result<BTreeMap<_, _>, _> =
        printed.lines().map(|line| parse(line).ok_or_else(|| unexpected(line))).collect();
    let mut refs = refs?;
    peel(shadow, refs.values_mut().filter(|reference| reference.kind == "tag").collect(), deadline)?;
    Ok(refs)
}

/// Finds what annotated tags lead to. `for-each-ref` itself follows a tag of a tag in new versions of git only.
fn peel(shadow: &Shadow<'_>, tags: Vec<&mut Reference>, deadline: Instant) -> Result<(), GitError> {
    if tags.is_empty() {
        return Ok(());
    }
    let input: String = tags.iter().map(|tag| format!("{}^{{}}\n", tag.id)).collect();
    let check = shadow.git(&["cat-file", "--batch-check=%(objectname) %(objecttype)"]);
    let printed = check.run(Input::Bytes(input.as_bytes()), deadline)?;
    let printed = String::from_utf8_lossy(&printed);
    for (tag, line) in tags.into_iter().zip(printed.lines()) {
        let peeled = line.split_once(' ').and_then(|(id, kind)| Some((id.parse::<ObjectId>().ok()?, kind)));
        let Some((id, kind)) = peeled else { return Err(GitError::Odd(format!("the tag {} leads nowhere", tag.id))) };
        (tag.peeled, tag.kind) = (Some(id), kind.to_owned());
    }
    Ok(())
}

/// Whether git complains about a ref that nothing depends on: a remote has what it named, or it is only a remote's
/// default branch.
fn is_about_saved_ref(complaint: &str, is_saved: &dyn Fn(&str) -> bool) -> bool {
    let kinds = ["warning: ignoring broken ref ", "warning: ignoring dangling symref "];
    kinds
        .iter()
        .find_map(|kind| complaint.strip_prefix(kind))
        .is_some_and(|name| is_saved(name) || (name.starts_with(REMOTE_REFS) && name.ends_with("/HEAD")))
}

/// Every entry of the stash is in its reflog alone, but for the newest.
pub(super) fn stashes_of(
    shadow: &Shadow<'_>,
    refs: &BTreeMap<String, Reference>,
    deadline: Instant,
) -> Result<Vec<ObjectId>, GitError> {
    if shadow.settings.has_reftable() {
        // Its logs are in its tables.
        if !refs.contains_key(STASH) {
            return Ok(Vec::new());
        }
        let printed = shadow.git(&["log", "-g", "--format=%H", STASH]).run(Input::Nothing, deadline)?;
        let ids = String::from_utf8_lossy(&printed).into_owned();
        return ids.lines().map(|id| id.parse().map_err(GitError::Odd)).collect();
    }
    let log = shadow.directory().join("logs").join(STASH);
    let text = match std::fs::read(&log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(GitError::io("read", &log, source)),
    };
    let second = |line: &str| {
        let id = line.split(' ').nth(1).and_then(|word| word.parse::<ObjectId>().ok());
        // Git passes over such a line, and with it over an entry of the stash.
        id.ok_or_else(|| {
            GitError::odd(&shadow.common_dir().join("logs").join(STASH), "is damaged: a line names no entry")
        })
    };
    let ids: Result<Vec<ObjectId>, GitError> = text.lines().rev().map(second).collect();
    let mut ids: Vec<ObjectId> = ids?.into_iter().filter(|id| !id.is_null()).collect();
    if let Some(newest) = refs.get(STASH).filter(|newest| !ids.contains(&newest.id)) {
        ids.insert(0, newest.id.clone());
    }
    Ok(ids)
}

/// Files of a git directory that name the commits which something under way needs.
pub(super) const UNDER_WAY: [&str; 5] =
    ["CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "MERGE_AUTOSTASH", "MERGE_HEAD"];

/// Commits that something under way needs, or that another working tree has checked out.
pub(super) fn heads_elsewhere(
    shadow: &Shadow<'_>,
    is_kept_outside: bool,
    deadline: Instant,
) -> Result<Vec<ObjectId>, GitError> {
    let mut ids = Vec::new();
    for name in UNDER_WAY {
        ids.extend(shadow.ids_in(name)?);
        if shadow.settings.has_reftable() {
            // Most of these are in its tables.
            let id = shadow.ask(&["rev-parse", "--verify", "--quiet", name], deadline)?;
            ids.extend(id.map(|id| id.parse::<ObjectId>()).transpose().map_err(GitError::Odd)?);
        }
    }
    for directory in ["rebase-merge", "rebase-apply"].map(Path::new) {
        if shadow.git_dir().join(directory).symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            for name in ["orig-head", "autostash"] {
                ids.extend(shadow.ids_in(directory.join(name))?);
            }
            let names = names_in(&shadow.git_dir().join(directory))?;
            ids.extend(names.iter().filter_map(|name| shadow.id_in(directory.join(name))));
        }
    }
    let worktrees = shadow.common_dir().join("worktrees");
    if !is_kept_outside && worktrees.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        for name in names_in(&worktrees)? {
            let path = worktrees.join(name).join("HEAD");
            let head = match atomic_file::read_text(&path) {
                Ok(head) => head,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(GitError::Odd(error.to_string())),
            };
            match head.trim().parse::<ObjectId>() {
                Ok(id) => ids.push(id),
                Err(_) if head.starts_with("ref: ") => {}
                Err(_) => return Err(GitError::odd(&path, "is damaged: it names neither a branch nor a commit")),
            }
        }
    }
    Ok(ids)
}

/// What `rev-list --stdin` reads: everything of `roots` without what is in `saved`.
pub(super) fn range(roots: &[ObjectId], saved: &[ObjectId]) -> Vec<u8> {
    let wanted = roots.iter().map(|id| format!("{id}\n"));
    wanted.chain(saved.iter().map(|id| format!("^{id}\n"))).collect::<String>().into_bytes()
}
