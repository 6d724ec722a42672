//! Where our server's socket lies: in the home, or where that path is no good for one, in a directory below `/tmp`.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::SessionError;
use crate::home::atomic_file::FileError;
use crate::home::stable_hash;

/// The longest path that is used: `sun_path` holds 107 bytes on Linux and 103 on macOS.
const MAX_SOCKET_BYTES: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    socket: PathBuf,
    /// The directory made for the socket alone, where it cannot be in the home.
    refuge: Option<PathBuf>,
}

impl Place {
    /// Chooses the place for a home. `TMPDIR` plays no part: it differs between a login shell and a service.
    pub(super) fn of(root: &Path) -> Self {
        let socket = root.join("tmux.sock");
        if is_usable(&socket) {
            return Self { socket, refuge: None };
        }
        let hash = stable_hash(root.as_os_str().as_bytes());
        let refuge = PathBuf::from(format!("/tmp/moadim-{}-{hash:016x}", geteuid().as_raw()));
        Self { socket: refuge.join("tmux.sock"), refuge: Some(refuge) }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes the directory that the socket is in.
    ///
    /// # Errors
    /// The system's, a directory that somebody else could have prepared, or something else than a socket in its place.
    pub(super) fn prepare(&self) -> Result<(), SessionError> {
        if let Some(refuge) = &self.refuge {
            match DirBuilder::new().mode(0o700).create(refuge) {
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(FileError::io("make", refuge, source).into());
                }
                _ => check_private_directory(refuge)?,
            }
        }
        match std::fs::symlink_metadata(&self.socket) {
            Ok(found) if !found.file_type().is_socket() => Err(SessionError::InTheWay {
                path: self.socket.clone(),
                problem: "is not the socket it should be".into(),
            }),
            _ => Ok(()),
        }
    }
}

/// A path is also no good when a person could not paste it: the attach command is text.
fn is_usable(socket: &Path) -> bool {
    socket.as_os_str().len() <= MAX_SOCKET_BYTES
        && socket.to_str().is_some_and(|text| !text.chars().any(char::is_control))
}

/// Checks a directory below `/tmp`, where anybody may have made it first.
fn check_private_directory(path: &Path) -> Result<(), SessionError> {
    let found = path.symlink_metadata().map_err(|source| FileError::io("look at", path, source))?;
    let refuse = |problem: String| Err(SessionError::InTheWay { path: path.to_owned(), problem });
    if !found.is_dir() {
        refuse("is not a directory".into())
    } else if found.uid() != geteuid().as_raw() {
        refuse(format!("belongs to the user with id {}, not to you", found.uid()))
    } else if found.mode() & 0o777 != 0o700 {
        refuse(format!("has the mode {:03o} instead of 700", found.mode() & 0o777))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_socket_lies_in_the_home_if_the_path_fits() {
        let short = Place::of(Path::new("/home/someone/.moadim"));
        assert_eq!(short, Place { socket: "/home/someone/.moadim/tmux.sock".into(), refuge: None });
        let longest = format!("/{}", "x".repeat(MAX_SOCKET_BYTES - "//tmux.sock".len()));
        assert_eq!(Place::of(Path::new(&longest)).refuge, None);
        for bad in [format!("{longest}x"), "/home/new\nline".into(), "/home/\x1b[2J".into()] {
            let place = Place::of(Path::new(&bad));
            let refuge = place.refuge.clone().unwrap();
            assert!(refuge.to_str().unwrap().starts_with(&format!("/tmp/moadim-{}-", geteuid().as_raw())));
            assert_eq!(place, Place::of(Path::new(&bad)));
            assert_ne!(place, Place::of(Path::new(&format!("{bad}x"))));
        }
    }

    #[test]
    fn a_refuge_that_is_not_ours_alone_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refuge = dir.path().join("refuge");
        let place = Place { socket: refuge.join("tmux.sock"), refuge: Some(refuge.clone()) };
        place.prepare().unwrap();
        place.prepare().unwrap();
        std::fs::set_permissions(&refuge, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(place.prepare().unwrap_err().to_string().contains("755"));
        std::fs::remove_dir(&refuge).unwrap();
        symlink(dir.path(), &refuge).unwrap();
        assert!(place.prepare().unwrap_err().to_string().contains("not a directory"));
    }
}
