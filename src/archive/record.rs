//! `archive.json`: what an archive holds, and where each part came from.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::git::{ObjectId, Packed, Work};
use crate::run::id::RunId;

/// The newest version of `archive.json`, which this program writes.
pub(super) const VERSION: u32 = 1;

/// What was archived of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Archive {
    pub(super) version: u32,
    /// The run whose workbench it is from.
    pub(crate) run: RunId,
    /// When it was made.
    pub(crate) made_at: UnixSeconds,
    /// What the workbench looked like: an archive with the same is the same.
    pub(crate) fingerprint: String,
    /// Allocated bytes, without the bases that runs share.
    pub(crate) bytes: u64,
    /// The repositories with work, each in a directory named by its number, counted from 1.
    pub(crate) repositories: Vec<ArchivedRepository>,
    /// The files that the routine asks for.
    pub(crate) files: Vec<ArchivedFile>,
    /// How to get all of it back.
    pub(crate) recover_command: String,
}

/// The command that brings back the work of a run.
pub(crate) fn recover_command(run: &RunId) -> String {
    format!("moadim-mcp recover {run}")
}

impl Archive {
    /// The names of the bases that it stands on.
    pub(crate) fn bases(&self) -> impl Iterator<Item = &ObjectId> {
        self.repositories.iter().filter_map(|repository| repository.packed.base_name.as_ref())
    }

    #[cfg(test)]
    pub(crate) fn example(made_at: UnixSeconds, bytes: u64) -> Self {
        Self {
            version: VERSION,
            run: "a-1".parse().unwrap(),
            made_at,
            fingerprint: String::new(),
            bytes,
            repositories: Vec::new(),
            files: Vec::new(),
            recover_command: String::new(),
        }
    }

    pub(crate) fn unpushed_commits(&self) -> u64 {
        self.repositories.iter().map(|repository| repository.work.unpushed_commits).sum()
    }

    /// How many files are in it, changed ones in repositories included.
    pub(crate) fn file_count(&self) -> u64 {
        let changed = |one: &ArchivedRepository| one.work.changed_files + one.work.untracked_files;
        self.files.len() as u64 + self.repositories.iter().map(changed).sum::<u64>()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchivedRepository {
    /// Where it was, below the workbench.
    pub(crate) path: PathText,
    /// What was unsaved.
    pub(crate) work: Work,
    pub(crate) packed: Packed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchivedFile {
    /// Where it was, below the workbench.
    pub(crate) path: PathText,
    pub(crate) bytes: u64,
    /// FNV-1a of its content, in hexadecimal; of a symlink, of what it says.
    pub(crate) checksum: String,
}

/// A path as text, whatever its bytes: `%` and what is not UTF-8 is `%` and two hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) struct PathText(PathBuf);

impl PathText {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl From<&Path> for PathText {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl From<PathText> for String {
    fn from(PathText(path): PathText) -> Self {
        let mut text = Self::new();
        for chunk in path.as_os_str().as_bytes().utf8_chunks() {
            text.push_str(&chunk.valid().replace('%', "%25"));
            text.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02x}")));
        }
        text
    }
}

impl From<String> for PathText {
    fn from(text: String) -> Self {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, after @ ..] = rest {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &after[2..];
                }
                None => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        Self(OsString::from_vec(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_survives_its_text(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let path = PathText(OsString::from_vec(bytes).into());
            prop_assert_eq!(PathText::from(String::from(path.clone())), path);
        }
    }

    #[test]
    fn an_ordinary_path_is_its_own_text() {
        assert_eq!(String::from(PathText::from(Path::new("a b/ü\n100%"))), "a b/ü\n100%25");
    }
}
