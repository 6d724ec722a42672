//! The janitor's turn: of all processes on a home, one sweeps at a time, and each knows when the last one did.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::home::Home;
use crate::home::atomic_file;
use crate::home::lock::{FileLock, LockError, Mode};

/// Another process has its turn, or nobody can have one.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// Another process is sweeping.
    #[error("a sweep is under way in pid {pid}, which removes what is due; nothing was removed by this one")]
    Taken {
        /// That process, as it wrote itself down.
        pid: String,
    },
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
}

/// What the lock's file holds: only a courtesy, for the lock itself is not in its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: u32,
    last_sweep: Option<Moment>,
}

/// A turn, over when dropped.
#[derive(Debug)]
pub struct Turn {
    lock: FileLock,
    last_sweep: Option<Moment>,
}

/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

impl Turn {
    /// Waits up to a second for a turn.
    ///
    /// # Errors
    /// Another process has it, or the lock cannot be taken.
    pub fn take(home: &Home) -> Result<Self, TurnError> {
        let path = home.janitor_lock();
        match FileLock::acquire(&path, Mode::Exclusive, PATIENCE) {
            Ok(lock) => {
                let mut turn = Self { lock, last_sweep: read(&path).last_sweep };
                turn.write();
                Ok(turn)
            }
            Err(LockError::Held { .. }) => {
                let pid = read(&path).pid;
                Err(TurnError::Taken { pid: if pid == 0 { "unknown".to_owned() } else { pid.to_string() } })
            }
            Err(error) => Err(TurnError::Lock(error)),
        }
    }

    /// Notes that this turn is a sweep, and returns by how many seconds the wall clock has been set since the last one,
    /// if it was.
    pub fn begin_sweep(&mut self, now: &Moment) -> Option<u64> {
        let jump = self.last_sweep.as_ref().and_then(|last| last.clock_jump_secs(now));
        self.last_sweep = Some(now.clone());
        self.write();
        jump
    }

    fn write(&mut self) {
        let note = Note { pid: std::process::id(), last_sweep: self.last_sweep.clone() };
        // On a full disk a sweep is most wanted, and does not depend on this.
        let _ = serde_json::to_string(&note).map(|text| self.lock.set_content(&text));
    }
}

/// Returns what [`Turn::begin_sweep`] would, without a turn.
#[must_use]
pub fn clock_jump_secs(home: &Home, now: &Moment) -> Option<u64> {
    read(&home.janitor_lock()).last_sweep?.clock_jump_secs(now)
}

fn read(path: &Path) -> Note {
    let bytes = atomic_file::read(path, atomic_file::MAX_RECORD_BYTES).unwrap_or_default();
    // The first of what stands there: whoever was killed while writing left the end of an older note behind it.
    let mut notes = serde_json::Deserializer::from_slice(&bytes).into_iter();
    notes.next().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;

    #[test]
    fn one_process_at_a_time_and_the_other_is_told_which() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let turn = Turn::take(&home).unwrap();
        let error = Turn::take(&home).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(turn);
        Turn::take(&home).unwrap();
    }

    #[test]
    fn the_next_sweep_sees_a_clock_that_was_set_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let moment = |at, since_boot_ms| Moment { at: UnixSeconds(at), boot_id: "b".into(), since_boot_ms };
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&moment(1_000, 0)), None);
        let later = moment(500_000, 10_000);
        assert_eq!(clock_jump_secs(&home, &later), Some(498_990));
        drop(Turn::take(&home).unwrap());
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&later), Some(498_990), "other turns do not count");
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&moment(500_010, 20_000)), None);
    }

    #[test]
    fn a_note_whose_writer_was_killed_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let moment = |at, since_boot_ms| Moment { at: UnixSeconds(at), boot_id: "b".into(), since_boot_ms };
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&moment(1_000, 0)), None);
        let note = std::fs::read_to_string(home.janitor_lock()).unwrap();
        std::fs::write(home.janitor_lock(), note + "0}}").unwrap();
        assert_eq!(clock_jump_secs(&home, &moment(500_000, 10_000)), Some(498_990));
    }
}
