//! The home: where everything lives, and who may touch it.

pub(crate) mod atomic_file;
mod checks;
pub mod config;
pub(crate) mod file_cache;
pub(crate) mod holder;
pub(crate) mod identity;
pub mod lock;
pub(crate) mod mark;
pub(crate) mod names;
mod original_daemon;
pub(crate) mod single_mount;
pub(crate) mod toml_text;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atomic_file::FileError;
pub(crate) use checks::{HomeError, UnsafeHome};
use checks::{check_private, close_to_others};

/// The paths of a home (`MOADIM_HOME`, default `~/.moadim`). Cheap to clone; it holds nothing open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

const DIRECTORIES: [&str; 7] = ["agents", "routines", "running", "workbenches", "pins", "trash", "locks"];

/// The files that hold keys and tokens, as `.gitignore` names them.
const SECRET_FILES: [&str; 2] = ["agents/*.env", "locks/dashboard.json"];

impl Home {
    /// Returns the home that the environment names: `MOADIM_HOME`, else `.moadim` in the user's home directory.
    pub(crate) fn from_environment() -> Result<PathBuf, HomeError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        match set(crate::env_vars::HOME) {
            Some(root) => Ok(root.into()),
            None => Self::default_root().ok_or(HomeError::Nowhere),
        }
    }

    /// Has `.gitignore` name the files that hold secrets, as a home may be kept in git. What a person wrote there stays.
    fn keep_secrets_out_of_git(&self) -> Result<(), atomic_file::FileError> {
        let path = self.root.join(".gitignore");
        let Some(text) = atomic_file::if_present(atomic_file::read_text(&path))? else {
            let text = format!("# These hold secrets.\n{}\n", SECRET_FILES.join("\n"));
            return atomic_file::write_once(&path, text.as_bytes()).map(drop);
        };
        let is_missing = |file: &&&str| !text.lines().any(|line| line.trim() == **file);
        SECRET_FILES.iter().filter(is_missing).try_for_each(|file| atomic_file::append_line(&path, file))
    }

    fn default_root() -> Option<PathBuf> {
        std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".moadim"))
    }

    /// Opens a home, making what is missing of it: directories 0700, owned by us, writable by no other user.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let root = root.into();
        if !root.is_absolute() {
            return Err(HomeError::Relative { path: root });
        }
        let fail = |path: &Path, source| HomeError::Io { path: path.to_owned(), source };
        make_directory(&root).map_err(|source| fail(&root, source))?;
        // A home that is reached through a symlink has one name for all processes: sockets and locks depend on it.
        let root = root.canonicalize().map_err(|source| fail(&root, source))?;
        check_private(&root)?;
        close_to_others(&root).map_err(|source| fail(&root, source))?;
        for name in DIRECTORIES {
            let path = root.join(name);
            make_directory(&path).map_err(|source| fail(&path, source))?;
            check_private(&path)?;
        }
        let home = Self { root };
        // A home that cannot be written now gets these the next time.
        let _ = make_directory(&home.archived_routines());
        let _ = home.keep_secrets_out_of_git();
        Ok(home)
    }

    /// Names the places of a home that is neither made nor checked, for looking at the names in it.
    pub(crate) fn unopened(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the home's own directory, canonical if it was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Gives a home a function for each of its files and directories.
macro_rules! places {
    ($($(#[$doc:meta])* $visibility:vis $name:ident = $path:literal;)*) => {
        impl Home {
            $($(#[$doc])* $visibility fn $name(&self) -> PathBuf { self.root.join($path) })*
        }
    };
}

places! {
    /// It need not be there.
    pub config_file = "config.toml";
    /// What agents read before their prompts. It need not be there.
    pub(crate) preamble_file = "preamble.md";
    /// Each agent's file is named after it.
    pub agents = "agents";
    /// Each routine has a directory named after its slug.
    pub routines = "routines";
    /// The entries of unfinished runs.
    pub running = "running";
    /// Each is named after its run.
    pub workbenches = "workbenches";
    /// Each pin is named after the run that it keeps.
    pub(crate) pins = "pins";
    /// What each agent waits for that is at its usage limit. It may be missing.
    pub(crate) holds = "holds";
    /// The tokens by which programs trigger routines, as hashes. It may be missing.
    pub(crate) webhook_tokens = "webhook_tokens";
    /// Our own program, for nodes. It may be missing.
    pub(crate) bin = "bin";
    /// How each question was closed, named after the run that asked. It may be missing.
    pub(crate) questions = "questions";
    /// A mark for each question from which something still follows. It may be missing.
    pub(crate) open_questions = "questions/open";
    /// Which run continues each one, named after that. It may be missing.
    pub(crate) continuations = "continuations";
    pub(crate) trash = "trash";
    /// What was archived. It may be missing.
    pub(crate) archive = "archive";
    /// The commits that archived work stands on. It may be missing.
    pub(crate) archive_bases = "archive/bases";
    /// Routines that were deleted. It may be missing.
    pub(crate) archived_routines = "archive/routines";
    /// The mirrors that runs are given clones of. It may be missing, and removed at any time.
    pub(crate) cache = "cache";
    /// The file of ended runs.
    pub history_file = "history.jsonl";
    /// The locks that all processes share.
    pub(crate) locks = "locks";
    /// It guards routines and the claim of a trigger.
    pub(crate) routines_lock = "locks/routines";
    pub(crate) janitor_lock = "locks/janitor";
    /// It belongs to the process that archives.
    pub(crate) archive_lock = "locks/archive";
    /// It guards the history's files.
    pub history_lock = "locks/history";
    /// The file by which it is found out whether locks work.
    pub(crate) lock_probe = "locks/probe";
    /// The directory in which servers and janitors register. It may be missing.
    pub(crate) servers = "locks/servers";
    /// When a scheduler last made a pass, and its lock.
    pub(crate) heartbeat = "locks/heartbeat";
    /// Until when no schedule of the home fires. It need not be there.
    pub(crate) snooze_file = "snooze.json";
    /// A mark for each run that a person was called for, while it is unfinished. It may be missing.
    pub(crate) attention = "locks/attention";
    /// The lock of a listing of processes, which stands in it for those that wait for one.
    pub(crate) listing_lock = "locks/listing";
    /// Which machine schedules and cleans up, where runs take place on Slurm. It need not be there.
    pub(crate) machine_file = "locks/machine.json";
    /// A file for each machine whose locks were seen to reach others. It may be missing.
    pub(crate) locks_reach = "locks/reach";
    /// The address and the token of the dashboard that is running, which holds its lock.
    pub(crate) dashboard_file = "locks/dashboard.json";
}

/// Returns a name part that no other process will think of.
pub(crate) fn random_suffix() -> String {
    format!("{:016x}", getrandom::u64().unwrap_or_else(|_| fallback_random()))
}

/// The names of our own files at the top of a workbench.
pub(crate) const WORKBENCH_FILES: [&str; 9] = [
    "prompt.md",
    "answer.md",
    "question.md",
    "agent.log",
    "agent.stderr.log",
    "agent.format",
    "agent.sizes",
    "outcome.json",
    "previous",
];

/// Returns a random UUID (RFC 9562, version 4).
pub(crate) fn random_uuid() -> String {
    let (high, low) = (random_suffix(), random_suffix());
    // The version is one digit, the variant the first two bits of another.
    let variant = ['8', '9', 'a', 'b'][usize::from(low.as_bytes()[0] & 3)];
    format!("{}-{}-4{}-{variant}{}-{}", &high[..8], &high[8..12], &high[13..], &low[1..4], &low[4..])
}

/// Returns the 64-bit FNV-1a hash (RFC 9923): the same in every version of this program, as the standard library's is not.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    stable_hash_on(0xcbf2_9ce4_8422_2325, bytes)
}

/// Returns the hash of what has the hash `before`, followed by `bytes`.
pub(crate) fn stable_hash_on(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Where the system's randomness fails, processes still differ in time and pid.
fn fallback_random() -> u64 {
    let nanoseconds: u64 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos().into());
    nanoseconds.rotate_left(32) ^ u64::from(std::process::id())
}

/// Makes a directory (0700), and those above it; one that is there already is fine.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the directory that a file is to lie in.
pub(crate) fn make_parent(path: &Path) -> Result<(), FileError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    make_directory(parent).map_err(|source| FileError::io("make", parent, source))
}

/// Gives the owner of a directory back all rights to it: without them neither can a file be put into it, nor can it be
/// moved to another directory. A symlink, and anything but a directory, stays as it is.
pub(crate) fn restore_access(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() && metadata.mode() & 0o700 != 0o700 {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_new_home_is_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("deep/home")).unwrap();
        for path in [home.root().to_owned(), home.running(), home.workbenches(), home.trash()] {
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_home_that_others_may_write_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        Home::open(&root).unwrap();
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o777)).unwrap();
        let error = Home::open(&root).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
    }

    #[test]
    fn a_home_that_others_may_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("home");
        std::fs::create_dir(&root).unwrap();
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
        Home::open(&root).unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!((stable_hash(b""), stable_hash(b"a")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c));
    }

    #[test]
    fn a_relative_home_is_refused() {
        assert!(matches!(Home::open("here"), Err(HomeError::Relative { .. })));
    }
}
