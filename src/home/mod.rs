//! The home: where everything lives, and who may touch it.

pub mod atomic_file;
pub mod config;
pub mod file_cache;
pub mod holder;
pub mod identity;
pub mod lock;
pub mod names;
pub mod neighbour;
pub mod single_mount;
pub mod toml_text;

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// A home could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `MOADIM_HOME` nor a home directory is known.
    #[error("no home: set MOADIM_HOME to a directory of your own")]
    Nowhere,
    /// The path is relative, so that it would mean another place for each process.
    #[error("the home '{path}' is not an absolute path; set MOADIM_HOME to one")]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// Others may write there, so nothing in it can be trusted.
    #[error("the home {path} {problem}; mend it with: {fix}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// The command that mends it.
        fix: String,
    },
    /// The system refused.
    #[error("cannot use the home directory {path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// The paths of a home (`MOADIM_HOME`, default `~/.moadim`). Cheap to clone; it holds nothing open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

const DIRECTORIES: [&str; 7] = ["agents", "routines", "running", "workbenches", "pins", "trash", "locks"];

/// The files that hold keys, as `.gitignore` names them.
const KEY_FILES: &str = "agents/*.env";

impl Home {
    /// Returns the home that the environment names: `MOADIM_HOME`, else `.moadim` in the user's home directory.
    ///
    /// # Errors
    /// [`HomeError::Nowhere`] where neither is set.
    pub fn from_environment() -> Result<PathBuf, HomeError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        match set("MOADIM_HOME") {
            Some(root) => Ok(root.into()),
            None => Self::default_root().ok_or(HomeError::Nowhere),
        }
    }

    /// Has `.gitignore` name the files that hold keys, as a home may be kept in git. What a person wrote there stays.
    fn keep_keys_out_of_git(&self) -> Result<(), atomic_file::FileError> {
        let path = self.root.join(".gitignore");
        match atomic_file::read_text(&path) {
            Ok(text) if text.lines().any(|line| line.trim() == KEY_FILES) => Ok(()),
            Ok(_) => atomic_file::append_line(&path, KEY_FILES).map(drop),
            Err(error) if error.is_not_found() => {
                atomic_file::write_once(&path, format!("# These hold keys.\n{KEY_FILES}\n").as_bytes()).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the home of a user who set nothing.
    fn default_root() -> Option<PathBuf> {
        std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".moadim"))
    }

    /// Opens a home, making what is missing of it: directories 0700, owned by us, writable by nobody else.
    ///
    /// # Errors
    /// A relative path, a directory that others own or may write, or the system's refusal.
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
        let _ = home.keep_keys_out_of_git();
        Ok(home)
    }

    /// Returns the home's own directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of `config.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Returns the directory of agent files.
    #[must_use]
    pub fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    /// Returns the directory of routines.
    #[must_use]
    pub fn routines(&self) -> PathBuf {
        self.root.join("routines")
    }

    /// Returns the directory of the entries of unfinished runs.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.root.join("running")
    }

    /// Returns the directory of workbenches.
    #[must_use]
    pub fn workbenches(&self) -> PathBuf {
        self.root.join("workbenches")
    }

    /// Returns the directory of pins, each named after the run that it keeps.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// Returns the directory of what is being deleted.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Returns the directory of routines that were deleted. It may be missing.
    #[must_use]
    pub fn archived_routines(&self) -> PathBuf {
        self.root.join("archive").join("routines")
    }

    /// Returns the directory of the mirrors that runs are given clones of. It may be missing, and removed at any time.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Returns the file of ended runs.
    #[must_use]
    pub fn history_file(&self) -> PathBuf {
        self.root.join("history.jsonl")
    }

    /// Returns the directory of the locks that all processes share.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// Returns the lock that guards routines and the claim of a trigger.
    #[must_use]
    pub fn routines_lock(&self) -> PathBuf {
        self.locks().join("routines")
    }

    /// Returns the lock of a sweep's plan and renames.
    #[must_use]
    pub fn janitor_lock(&self) -> PathBuf {
        self.locks().join("janitor")
    }

    /// Returns the lock of the history.
    #[must_use]
    pub fn history_lock(&self) -> PathBuf {
        self.locks().join("history")
    }

    /// Returns the file by which it is found out whether locks work.
    #[must_use]
    pub fn lock_probe(&self) -> PathBuf {
        self.locks().join("probe")
    }

    /// Returns the directory in which servers and janitors register. It may be missing.
    #[must_use]
    pub fn servers(&self) -> PathBuf {
        self.locks().join("servers")
    }

    /// Returns the lock of a listing of processes, which stands in it for those that wait for one.
    #[must_use]
    pub fn listing_lock(&self) -> PathBuf {
        self.locks().join("listing")
    }

    /// Finds out whether locks work here: without them, a run that is just being launched looks dead.
    ///
    /// # Errors
    /// They do not, with the way out.
    pub fn check_lockable(&self) -> Result<(), UnsafeHome> {
        lock::probe(&self.lock_probe()).map_err(|source| UnsafeHome::LocksDoNotWork { home: self.root.clone(), source })
    }

    /// Finds out whether this home is safe for starting and removing runs: locks work, what is renamed between its folders
    /// gets there, and no other program sweeps it.
    ///
    /// # Errors
    /// Why not, with the way out.
    pub fn check_sole_and_lockable(&self) -> Result<(), UnsafeHome> {
        self.check_lockable()?;
        let apart = single_mount::folders_apart(&self.root, &[self.running(), self.workbenches(), self.trash()]);
        if let Some(folder) = apart.into_iter().next() {
            return Err(UnsafeHome::Apart { folder, home: self.root.clone() });
        }
        match neighbour::sweeping(&self.root) {
            Some(pid) => Err(UnsafeHome::SweptByAnother { home: self.root.clone(), pid }),
            None => Ok(()),
        }
    }
}

/// A home on which runs can be neither started nor removed safely.
#[derive(Debug, thiserror::Error)]
pub enum UnsafeHome {
    /// The file system does not keep two processes apart.
    #[error("locks do not work in {home} ({source}); set MOADIM_HOME to a directory on a local disk")]
    LocksDoNotWork {
        /// The home.
        home: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Runs move between the folders by rename, which no file system does to another.
    #[error(
        "{folder} is on another file system than {home}, or a mount of its own, so runs cannot be recorded or removed; \
         unmount it (umount '{folder}'), or set MOADIM_HOME to a directory that is all on one file system"
    )]
    Apart {
        /// The folder.
        folder: PathBuf,
        /// The home.
        home: PathBuf,
    },
    /// The original moadim daemon would remove our live workbenches, for it knows nothing of our sessions.
    #[error("the moadim daemon (pid {pid}) sweeps {home} too; stop it, or set MOADIM_HOME to another directory")]
    SweptByAnother {
        /// The home.
        home: PathBuf,
        /// The daemon's process.
        pid: i32,
    },
}

/// Returns a name part that no other process will think of.
#[must_use]
pub fn random_suffix() -> String {
    format!("{:016x}", getrandom::u64().unwrap_or_else(|_| fallback_random()))
}

/// Returns the 64-bit FNV-1a hash (RFC 9923): the same in every version of this program, as the standard library's is not.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Where the system's randomness fails, the time and the pid still tell processes apart.
fn fallback_random() -> u64 {
    let nanoseconds: u64 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos().into());
    nanoseconds.rotate_left(32) ^ u64::from(std::process::id())
}

/// Makes a directory (0700), and those above it; one that is there already is fine.
///
/// # Errors
/// The system's.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes sure that nobody else can even enter: then nothing below can be read or changed by others, whatever its own mode.
fn close_to_others(root: &Path) -> io::Result<()> {
    let mode = std::fs::symlink_metadata(root)?.mode();
    if mode & 0o077 == 0 { Ok(()) } else { std::fs::set_permissions(root, Permissions::from_mode(0o700)) }
}

/// Gives the owner of a directory back all rights to it: without them neither can a file be put into it, nor can it be
/// moved to another directory. A symlink, and anything but a directory, stays as it is.
///
/// # Errors
/// The system's.
pub fn restore_access(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() && metadata.mode() & 0o700 != 0o700 {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

fn check_private(path: &Path) -> Result<(), HomeError> {
    let metadata = std::fs::symlink_metadata(path).map_err(|source| HomeError::Io { path: path.to_owned(), source })?;
    let refuse = |problem: String, fix: String| Err(HomeError::Unsafe { path: path.to_owned(), problem, fix });
    let shown = path.display();
    if !metadata.is_dir() {
        return refuse("is not a directory".into(), format!("mv '{shown}' '{shown}.old'"));
    }
    match intruder(&metadata) {
        Some(Intruder::Owner(uid)) => refuse(
            format!("belongs to the user with id {uid}, not to you"),
            format!("sudo chown -R \"$(id -u)\" '{shown}'"),
        ),
        Some(Intruder::Writers) => refuse("is writable by others".into(), format!("chmod go-w '{shown}'")),
        None => Ok(()),
    }
}

enum Intruder {
    Owner(u32),
    Writers,
}

fn intruder(metadata: &Metadata) -> Option<Intruder> {
    if metadata.uid() != geteuid().as_raw() {
        Some(Intruder::Owner(metadata.uid()))
    } else if metadata.mode() & 0o022 != 0 {
        Some(Intruder::Writers)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
