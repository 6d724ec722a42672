//! Of all processes on a home, one sweeps at a time; its lock's file also says when the last sweep was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock_doubt::{self, ClockDoubt, LastUse};
use crate::clock::{Moment, UnixSeconds};
use crate::home::Home;
use crate::home::holder::{self, Holder, Signature};
use crate::home::lock::{FileLock, LockError};

/// The sweep lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SweepLockError {
    /// Another process is sweeping, which the text names.
    #[error("{0}")]
    Held(String),
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
}

/// What the lock's file holds: who has the lock, and what outlives it. 0.1.0 reads and writes `pid` and `last_sweep` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    signature: Signature,
    last_sweep: Option<Moment>,
    /// Whether the last sweep doubted the clock that the machine was started with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    doubted: bool,
}

impl Note {
    fn clock_doubt(&self, home: &Home, now: &Moment) -> Option<ClockDoubt> {
        let last_use = LastUse {
            last_sweep: self.last_sweep.clone(),
            doubted: self.doubted,
            changed: clock_doubt::last_changes(home),
        };
        clock_doubt::doubt(&last_use, now)
    }
}

/// Returns when a process of the home last began a sweep.
pub(crate) fn last_sweep(home: &Home) -> Option<UnixSeconds> {
    holder::read::<Note>(&home.janitor_lock()).last_sweep.map(|moment| moment.at)
}

/// The lock of a sweep, released when dropped.
#[derive(Debug)]
pub(super) struct SweepLock {
    lock: FileLock,
    home: Home,
    note: Note,
}

/// How long another sweep is waited for. Its lock covers the plan and the renames, not the deleting.
const SWEEP_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

impl SweepLock {
    pub(super) fn take(home: &Home) -> Result<Self, SweepLockError> {
        Self::take_within(home, SWEEP_LOCK_TIMEOUT)
    }

    pub(super) fn take_within(home: &Home, timeout: Duration) -> Result<Self, SweepLockError> {
        let path = home.janitor_lock();
        match FileLock::acquire_unsigned(&path, timeout) {
            Ok(lock) => {
                let note = Note { signature: Signature::of_this_process(), ..holder::read(&path) };
                let mut taken = Self { lock, home: home.clone(), note };
                taken.write();
                Ok(taken)
            }
            Err(LockError::Held { holder, .. }) => {
                let Note { signature, .. } = holder::read(&path);
                Err(SweepLockError::Held(describe_sweeper(holder.as_deref(), &signature)))
            }
            Err(error) => Err(SweepLockError::Lock(error)),
        }
    }

    /// Notes that a sweep begins now, and returns why it may not trust the wall clock, if so.
    pub(super) fn begin_sweep(&mut self, now: &Moment) -> Option<ClockDoubt> {
        let doubt = self.note.clock_doubt(&self.home, now);
        self.note.last_sweep = Some(now.clone());
        self.note.doubted = matches!(doubt, Some(ClockDoubt::AheadAtBoot { .. }));
        self.write();
        doubt
    }

    fn write(&mut self) {
        // A failure is ignored: a full disk needs the sweep most.
        let _ = serde_json::to_string(&self.note).map(|text| self.lock.set_content(&text));
    }
}

impl Drop for SweepLock {
    fn drop(&mut self) {
        self.note.signature = Signature::default();
        self.write();
    }
}

fn describe_sweeper(holder: Option<&Holder>, signature: &Signature) -> String {
    if let Some(holder) = holder.filter(|holder| holder.is_stopped()) {
        return format!("the sweep of {holder} is stopped, so nothing is removed: {}", holder.way_out());
    }
    // 0.1.0 signs with its pid alone, which cannot be verified.
    let signed = Some(signature.pid).filter(|pid| signature.since.is_none() && *pid > 0);
    let pid = signed.or(holder.map(|holder| holder.pid)).map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
    format!("a sweep is under way in pid {pid}, which removes what is due; nothing was removed by this one")
}

/// Returns what [`SweepLock::begin_sweep`] would, without the lock.
pub(super) fn clock_doubt(home: &Home, now: &Moment) -> Option<ClockDoubt> {
    holder::read::<Note>(&home.janitor_lock()).clock_doubt(home, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;

    #[test]
    fn one_process_at_a_time_and_the_other_is_told_which() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let held = SweepLock::take(&home).unwrap();
        let error = SweepLock::take(&home).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(held);
        SweepLock::take(&home).unwrap();
    }

    #[test]
    fn the_next_sweep_sees_a_clock_that_was_set_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let moment = |at, since_boot_ms| Moment { at: UnixSeconds(at), boot_id: "b".into(), since_boot_ms };
        assert_eq!(SweepLock::take(&home).unwrap().begin_sweep(&moment(1_000, 0)), None);
        let later = moment(500_000, 10_000);
        let set = Some(ClockDoubt::Set { by_secs: 498_990 });
        assert_eq!(clock_doubt(&home, &later), set);
        drop(SweepLock::take(&home).unwrap());
        assert_eq!(SweepLock::take(&home).unwrap().begin_sweep(&later), set, "only a sweep counts");
        assert_eq!(SweepLock::take(&home).unwrap().begin_sweep(&moment(500_010, 20_000)), None);
    }

    #[test]
    fn the_sweep_after_one_that_doubted_the_clock_of_a_start_goes_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let moment = |at, boot: &str| Moment { at: UnixSeconds(at), boot_id: boot.into(), since_boot_ms: 1_000 };
        SweepLock::take(&home).unwrap().begin_sweep(&moment(1_000_000, "a"));
        let now = moment(9_000_000, "b");
        assert!(matches!(clock_doubt(&home, &now), Some(ClockDoubt::AheadAtBoot { .. })), "looking changes nothing");
        let doubt = SweepLock::take(&home).unwrap().begin_sweep(&now);
        assert_eq!(doubt, Some(ClockDoubt::AheadAtBoot { last_seen: UnixSeconds(1_000_000), by_secs: 8_000_000 }));
        assert_eq!(SweepLock::take(&home).unwrap().begin_sweep(&now), None);
    }

    #[test]
    fn a_note_of_0_1_0_is_read_and_ours_is_read_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let old = r#"{"pid":7,"last_sweep":{"at":"1970-01-01T00:16:40Z","boot_id":"b","since_boot_ms":0}}"#;
        std::fs::write(home.janitor_lock(), old).unwrap();
        drop(SweepLock::take(&home).unwrap());
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
        assert_eq!(SweepLock::take(&home).unwrap().begin_sweep(&moment(1_000, 0)), None);
        let note = std::fs::read_to_string(home.janitor_lock()).unwrap();
        std::fs::write(home.janitor_lock(), note + "0}}").unwrap();
        let set = Some(ClockDoubt::Set { by_secs: 498_990 });
        assert_eq!(clock_doubt(&home, &moment(500_000, 10_000)), set);
    }
}
