//! Whether a home is safe: nobody else may write there, locks work, and it is one file system that no other program sweeps.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::{Home, lock, original_daemon, single_mount};

#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("no home: set MOADIM_HOME to a directory of your own")]
    Nowhere,
    /// It would be another place for each process.
    #[error("the home '{path}' is not an absolute path; set MOADIM_HOME to one")]
    Relative { path: PathBuf },
    /// Others own it or may write there, so nothing in it can be trusted.
    #[error("the home {path} {problem}; fix it with: {fix}")]
    Unsafe { path: PathBuf, problem: String, fix: String },
    #[error("cannot use the home directory {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A home on which runs can be neither started nor removed safely.
#[derive(Debug, thiserror::Error)]
pub enum UnsafeHome {
    #[error("locks do not work in {home} ({source}); set MOADIM_HOME to a directory on a local disk")]
    LocksDoNotWork { home: PathBuf, source: io::Error },
    /// Runs move between the folders by rename, which never leaves a file system.
    #[error(
        "{folder} is on another file system than {home}, or a mount of its own, so runs cannot be recorded or removed; \
         unmount it (umount '{folder}'), or set MOADIM_HOME to a directory that is all on one file system"
    )]
    Apart { folder: PathBuf, home: PathBuf },
    /// The original moadim daemon knows nothing of our sessions, and would remove our live workbenches.
    #[error("the moadim daemon (pid {pid}) sweeps {home} too; stop it, or set MOADIM_HOME to another directory")]
    SweptByAnother { home: PathBuf, pid: i32 },
}

impl Home {
    /// Checks that locks work here: without them, a run that is just being launched looks dead.
    pub fn check_lockable(&self) -> Result<(), UnsafeHome> {
        lock::probe(&self.lock_probe())
            .map_err(|source| UnsafeHome::LocksDoNotWork { home: self.root().to_owned(), source })
    }

    /// Checks that runs can be started and removed safely: locks work, a rename between the folders does too, and no other
    /// program sweeps the home.
    pub(crate) fn check_sole_and_lockable(&self) -> Result<(), UnsafeHome> {
        self.check_lockable()?;
        let home = || self.root().to_owned();
        let apart = single_mount::folders_apart(self.root(), &[self.running(), self.workbenches(), self.trash()]);
        if let Some(folder) = apart.into_iter().next() {
            return Err(UnsafeHome::Apart { folder, home: home() });
        }
        match original_daemon::sweeping(self.root()) {
            Some(pid) => Err(UnsafeHome::SweptByAnother { home: home(), pid }),
            None => Ok(()),
        }
    }
}

/// Lets nobody else even enter: then nothing below can be read or changed by others, whatever its own mode.
pub(super) fn close_to_others(root: &Path) -> io::Result<()> {
    let mode = std::fs::symlink_metadata(root)?.mode();
    if mode & 0o077 == 0 { Ok(()) } else { std::fs::set_permissions(root, Permissions::from_mode(0o700)) }
}

pub(super) fn check_private(path: &Path) -> Result<(), HomeError> {
    let metadata = std::fs::symlink_metadata(path).map_err(|source| HomeError::Io { path: path.to_owned(), source })?;
    let refuse = |problem: String, fix: String| Err(HomeError::Unsafe { path: path.to_owned(), problem, fix });
    let shown = path.display();
    if !metadata.is_dir() {
        return refuse("is not a directory".into(), format!("mv '{shown}' '{shown}.old'"));
    }
    if metadata.uid() != geteuid().as_raw() {
        let problem = format!("belongs to the user with id {}, not to you", metadata.uid());
        return refuse(problem, format!("sudo chown -R \"$(id -u)\" '{shown}'"));
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse("is writable by others".into(), format!("chmod go-w '{shown}'"));
    }
    Ok(())
}
