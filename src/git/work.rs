//! What a repository holds that its remotes do not have, as people and other programs see it.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a repository of a workbench holds that its remotes do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Work {
    /// The repository, relative to the workbench; "." is the workbench itself.
    pub path: String,
    /// The branch that is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The URL of its remote, without a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Commits that no remote has.
    #[serde(skip_serializing_if = "is_zero")]
    pub unpushed_commits: u64,
    /// Tracked files with changes that are not committed.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed_files: u64,
    /// Files that are neither tracked nor ignored.
    #[serde(skip_serializing_if = "is_zero")]
    pub untracked_files: u64,
    /// Entries of the stash.
    #[serde(skip_serializing_if = "is_zero")]
    pub stashes: u64,
    /// Lines added since the newest commit that a remote has; untracked files not counted.
    #[serde(skip_serializing_if = "is_zero")]
    pub insertions: u64,
    /// Lines removed since then.
    #[serde(skip_serializing_if = "is_zero")]
    pub deletions: u64,
    /// Branches that were pushed since the repository was cloned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pushed_branches: Vec<String>,
    /// Why it could not be examined; it then counts as unsaved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Why it cannot be archived, as far as that is known at the end of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_archivable: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Work {
    pub(crate) fn unreadable(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self { path: shown(path), unreadable: Some(reason.to_string()), ..Self::default() }
    }

    /// Returns what is unsaved, without what does not matter in a list.
    pub(crate) fn in_brief(self) -> Self {
        Self { head: None, remote: None, insertions: 0, deletions: 0, ..self }
    }

    /// Whether something would be lost with the repository.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        let counts = [self.unpushed_commits, self.changed_files, self.untracked_files, self.stashes];
        self.unreadable.is_some() || counts.iter().any(|count| *count > 0)
    }
}

impl fmt::Display for Work {
    /// Says what is unsaved, as in "2 commits that were not pushed, 1 stash in repo"; nothing if nothing is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.unreadable {
            return write!(f, "{} could not be examined: {reason}", self.path);
        }
        let counts = [
            (self.unpushed_commits, "commit that was not pushed", "commits that were not pushed"),
            (self.changed_files, "changed file", "changed files"),
            (self.untracked_files, "untracked file", "untracked files"),
            (self.stashes, "stash", "stashes"),
        ];
        let parts = counts.iter().filter(|(count, ..)| *count > 0);
        let parts: Vec<String> =
            parts.map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many })).collect();
        if parts.is_empty() {
            return Ok(());
        }
        write!(f, "{} in {}", parts.join(", "), self.path)?;
        self.not_archivable.iter().try_for_each(|reason| write!(f, ", which cannot be archived: {reason}"))
    }
}

/// Shows where a repository is, below its workbench.
pub(crate) fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() { ".".to_owned() } else { path.to_string_lossy().into_owned() }
}
