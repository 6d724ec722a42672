//! The two locks of an entry: owners share one, and a judge takes the other first and then the owners' alone.
//!
//! So judges wait for each other, and a held owners' lock means an owner: looking at a dead run never makes it look alive.

use std::path::Path;
use std::time::Instant;

use super::entry::{Entry, JUDGE_LOCK, LOCK};
use crate::home::lock::{FileLock, LockError, Mode};

/// The locks of a run that nobody owns, held by the one process that judges it.
#[derive(Debug)]
pub struct JudgeLocks {
    // Dropped in this order: the next in the queue must not find the owners' lock held by us.
    pub(super) _owners: FileLock,
    pub(super) _judges: Option<FileLock>,
}

/// What taking the locks of an entry showed.
#[derive(Debug)]
pub enum Hold {
    /// An owner has the run.
    Owned,
    /// Nobody owns it, and nobody else can judge it while these locks are held.
    Unowned(JudgeLocks),
    /// Another process is judging it: a sentence that names the process.
    Judging(String),
    /// The locks cannot be taken, or cannot be trusted, for this reason.
    Unreadable(String),
    /// The entry is gone: the run is finished.
    Gone,
}

impl Hold {
    /// Takes the locks of an entry as a judge does, waiting for another judge until `deadline`.
    pub fn take(entry: &Entry, deadline: Instant) -> Self {
        let gone_or = |error: LockError| {
            if entry.exists() { Self::Unreadable(error.to_string()) } else { Self::Gone }
        };
        let rest = deadline.saturating_duration_since(Instant::now());
        // Made here for an entry of release 0.1.0, which has none.
        let judges = match FileLock::acquire_unsigned(&entry.file(JUDGE_LOCK), rest) {
            Ok(lock) => Some(lock),
            Err(error @ LockError::Held { .. }) if entry.exists() => return Self::Judging(error.to_string()),
            // It cannot be made, as on a full disk. Then a judge may be taken for an owner, as 0.1.0 did.
            Err(LockError::Io { .. }) if entry.exists() && !entry.file(JUDGE_LOCK).exists() => None,
            Err(error) => return gone_or(error),
        };
        let path = entry.file(LOCK);
        match FileLock::try_existing(&path, Mode::Exclusive) {
            Ok(owners) => match FileLock::try_existing(&path, Mode::Exclusive) {
                Err(LockError::Held { .. }) => Self::Unowned(JudgeLocks { _owners: owners, _judges: judges }),
                // Its owner may have been granted the same lock as well.
                Ok(_) => Self::Unreadable(granted_twice(&path)),
                Err(error) => gone_or(error),
            },
            Err(LockError::Held { .. }) => Self::Owned,
            Err(error) => gone_or(error),
        }
    }
}

fn granted_twice(path: &Path) -> String {
    format!(
        "locks do not work here: {} was granted twice, so the run's owner cannot be determined; set MOADIM_HOME to a directory \
         on a local disk",
        path.display()
    )
}
