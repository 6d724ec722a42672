//! The janitor's turn: of all processes on a home, one sweeps at a time, and each knows when the last one did.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_doubt::{self, ClockDoubt, Evidence};
use crate::clock::Moment;
use crate::home::Home;
use crate::home::holder::{self, Holder, Signature};
use crate::home::lock::{FileLock, LockError};

/// Another process has its turn, or nobody can have one.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// Another process is sweeping.
    #[error("{}", .0.in_words())]
    Taken(Sweeper),
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
}

/// Who has the turn that we wanted.
#[derive(Debug)]
pub struct Sweeper {
    /// That process, if the system shows it.
    holder: Option<Holder>,
    /// The pid in the note of a sweeper of 0.1.0, which cannot be verified; else 0.
    noted_pid: i32,
}

impl Sweeper {
    fn in_words(&self) -> String {
        let pid = match (&self.holder, self.noted_pid) {
            (Some(holder), _) if holder.is_stopped() => {
                return format!("the sweep of {holder} is stopped, so nothing is removed: {}", holder.way_out());
            }
            (_, noted) if noted > 0 => noted.to_string(),
            (Some(holder), _) => holder.pid.to_string(),
            (None, _) => "unknown".to_owned(),
        };
        format!("a sweep is under way in pid {pid}, which removes what is due; nothing was removed by this one")
    }
}

/// What the lock's file holds: who has the turn, and what is known of the last sweep, which outlives it. 0.1.0 reads `pid` and
/// `last_sweep` and writes nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    signature: Signature,
    #[serde(default)]
    last_sweep: Option<Moment>,
    /// Whether the last sweep did not trust the clock that the machine was started with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    doubted: bool,
}

impl Note {
    fn evidence(&self, home: &Home) -> Evidence {
        Evidence {
            last_sweep: self.last_sweep.clone(),
            doubted: self.doubted,
            changed: clock_doubt::last_changes(home),
        }
    }
}

/// A turn, over when dropped.
#[derive(Debug)]
pub struct Turn {
    lock: FileLock,
    home: Home,
    note: Note,
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
        match FileLock::acquire_unsigned(&path, PATIENCE) {
            Ok(lock) => {
                let note = Note { signature: Signature::of_this_process(), ..holder::read(&path) };
                let mut turn = Self { lock, home: home.clone(), note };
                turn.write();
                Ok(turn)
            }
            Err(LockError::Held { holder, .. }) => {
                let Note { signature, .. } = holder::read(&path);
                let noted_pid = if signature.since.is_none() { signature.pid } else { 0 };
                Err(TurnError::Taken(Sweeper { holder: holder.map(|holder| *holder), noted_pid }))
            }
            Err(error) => Err(TurnError::Lock(error)),
        }
    }

    /// Notes that this turn is a sweep, and returns why it may not trust the wall clock, if it may not.
    pub fn begin_sweep(&mut self, now: &Moment) -> Option<ClockDoubt> {
        let doubt = clock_doubt::doubt(&self.note.evidence(&self.home), now);
        self.note.last_sweep = Some(now.clone());
        self.note.doubted = matches!(doubt, Some(ClockDoubt::AheadAtBoot { .. }));
        self.write();
        doubt
    }

    fn write(&mut self) {
        // On a full disk a sweep is most wanted, and does not depend on this.
        let _ = serde_json::to_string(&self.note).map(|text| self.lock.set_content(&text));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.note.signature = Signature::default();
        self.write();
    }
}

/// Returns what [`Turn::begin_sweep`] would, without a turn.
#[must_use]
pub fn clock_doubt(home: &Home, now: &Moment) -> Option<ClockDoubt> {
    clock_doubt::doubt(&holder::read::<Note>(&home.janitor_lock()).evidence(home), now)
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
        let set = Some(ClockDoubt::Set { by_secs: 498_990 });
        assert_eq!(clock_doubt(&home, &later), set);
        drop(Turn::take(&home).unwrap());
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&later), set, "other turns do not count");
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&moment(500_010, 20_000)), None);
    }

    #[test]
    fn the_sweep_after_one_that_doubted_the_clock_of_a_start_goes_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let moment = |at, boot: &str| Moment { at: UnixSeconds(at), boot_id: boot.into(), since_boot_ms: 1_000 };
        Turn::take(&home).unwrap().begin_sweep(&moment(1_000_000, "a"));
        let now = moment(9_000_000, "b");
        assert!(matches!(clock_doubt(&home, &now), Some(ClockDoubt::AheadAtBoot { .. })), "looking changes nothing");
        let doubt = Turn::take(&home).unwrap().begin_sweep(&now);
        assert_eq!(doubt, Some(ClockDoubt::AheadAtBoot { last_seen: UnixSeconds(1_000_000), by_secs: 8_000_000 }));
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&now), None);
    }

    #[test]
    fn a_note_of_0_1_0_is_read_and_ours_is_read_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let old = r#"{"pid":7,"last_sweep":{"at":"1970-01-01T00:16:40Z","boot_id":"b","since_boot_ms":0}}"#;
        std::fs::write(home.janitor_lock(), old).unwrap();
        drop(Turn::take(&home).unwrap());
        #[derive(Deserialize)]
        struct Old {
            pid: u32,
            last_sweep: Option<Moment>,
        }
        let ours: Old = serde_json::from_slice(&std::fs::read(home.janitor_lock()).unwrap()).unwrap();
        assert_eq!((ours.pid, ours.last_sweep.unwrap().at), (0, UnixSeconds(1_000)));
    }

    #[test]
    fn a_note_whose_writer_was_killed_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let moment = |at, since_boot_ms| Moment { at: UnixSeconds(at), boot_id: "b".into(), since_boot_ms };
        assert_eq!(Turn::take(&home).unwrap().begin_sweep(&moment(1_000, 0)), None);
        let note = std::fs::read_to_string(home.janitor_lock()).unwrap();
        std::fs::write(home.janitor_lock(), note + "0}}").unwrap();
        let set = Some(ClockDoubt::Set { by_secs: 498_990 });
        assert_eq!(clock_doubt(&home, &moment(500_000, 10_000)), set);
    }
}
