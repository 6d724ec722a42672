//! The registered servers and janitors of a home: each has a file in `locks/servers`, locked while its process lives.
//!
//! 0.1.0 does not register, which is how it is recognised.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::home::holder::{self, Signature};
use crate::home::lock::{FileLock, Mode};
use crate::home::names;
use crate::home::{self, Home};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    signature: Signature,
    version: Option<String>,
}

/// This process's registration, gone when dropped.
#[derive(Debug)]
pub struct Registration {
    path: PathBuf,
    _lock: FileLock,
}

/// How long a process waits for its own registration's lock: others hold it only while they list.
const REGISTRATION_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

impl Registration {
    /// Registers this process. On a full or read-only disk it stays unregistered, and works nevertheless.
    #[must_use]
    pub fn enter(home: &Home) -> Option<Self> {
        let directory = home.servers();
        home::make_directory(&directory).ok()?;
        let path = directory.join(std::process::id().to_string());
        let mut lock = FileLock::acquire_unsigned(&path, REGISTRATION_LOCK_TIMEOUT).ok()?;
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let note = Note { signature: Signature::of_this_process(), version };
        let _ = serde_json::to_string(&note).map(|text| lock.set_content(&text));
        Some(Self { path, _lock: lock })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The version of each that is registered, by its pid; `None` where it could not write it.
pub(super) type Registered = HashMap<u32, Option<String>>;

/// Lists those that are registered and alive.
pub(super) fn list(home: &Home) -> Registered {
    let mut registered = Registered::new();
    each(home, |pid, path| {
        // Shared: two that look must not take each other for its owner.
        if FileLock::try_existing(&path, Mode::Shared).is_err_and(|error| error.is_held()) {
            registered.insert(pid, holder::read::<Note>(&path).version);
        }
    });
    registered
}

/// Removes the registrations of processes that were killed.
pub(super) fn remove_stale(home: &Home) {
    each(home, |_, path| {
        // Held while it goes: a process that registers under the same pid meanwhile makes a new file.
        let removed = FileLock::try_existing(&path, Mode::Exclusive).map(|_stale| std::fs::remove_file(&path));
        if let Ok(Err(error)) = removed {
            tracing::debug!(%error, path = %path.display(), "cannot remove a stale registration");
        }
    });
}

fn each(home: &Home, mut see: impl FnMut(u32, PathBuf)) {
    let directory = home.servers();
    let mut pids = Vec::new();
    // The folder is missing until a process registers.
    let _ = names::scan(&directory, |name, _| pids.extend(name.parse::<u32>()));
    for pid in pids {
        see(pid, directory.join(pid.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_registered_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        assert_eq!(list(&home), Registered::new());
        remove_stale(&home);
        let registration = Registration::enter(&home).unwrap();
        let ours = Registered::from([(std::process::id(), Some(env!("CARGO_PKG_VERSION").to_owned()))]);
        let stale = home.servers().join("4000000");
        std::fs::write(&stale, r#"{"version":"0.0.1"}"#).unwrap();
        assert_eq!(list(&home), ours);
        remove_stale(&home);
        assert!(!stale.exists());
        assert_eq!(list(&home), ours);
        drop(registration);
        assert_eq!(std::fs::read_dir(home.servers()).unwrap().count(), 0);
    }

    #[test]
    fn a_registration_that_cannot_be_read_counts() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::create_dir(home.servers()).unwrap();
        let _lock = FileLock::acquire_unsigned(&home.servers().join("7"), Duration::ZERO).unwrap();
        assert_eq!(list(&home), Registered::from([(7, None)]));
    }
}
