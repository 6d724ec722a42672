//! Which process holds a lock: as it wrote into the lock's file, else as the system shows.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus};

use super::atomic_file;
use crate::clock::Moment;
use crate::process_tree::{self, ProcessId};
use crate::quote::quote;

/// A lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another part of this one, holds it.
    #[error("{path} is held by {}", described(holder.as_deref()))]
    Held {
        path: PathBuf,
        /// The holder, if it was looked for and found.
        holder: Option<Box<Holder>>,
    },
    /// The system refused, so nothing is known about who holds it.
    #[error("cannot lock {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl LockError {
    /// Returns whether another holds the lock; else the system refused.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// Returns whether the lock's file is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn described(holder: Option<&Holder>) -> String {
    match holder {
        None => "another process".to_owned(),
        Some(holder) if holder.is_stopped() => format!("{holder}: {}", holder.way_out()),
        Some(holder) => holder.to_string(),
    }
}

/// What the holder of a lock writes into the lock's file. It only helps people: the lock itself is not in the content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signature {
    /// The holder's pid; 0 once it has let go.
    pub pid: i32,
    /// The holder's start time: a pid alone may have been reused since. 0.1.0 wrote none.
    pub start: u64,
    pub since: Option<Moment>,
}

impl Signature {
    /// Returns what this process writes when it takes a lock now.
    pub fn of_this_process() -> Self {
        static US: OnceLock<Option<ProcessId>> = OnceLock::new();
        let since = Some(Moment::now());
        match US.get_or_init(|| ProcessId::current().ok()) {
            Some(us) => Self { pid: us.pid, start: us.start, since },
            None => Self { since, ..Self::default() },
        }
    }

    /// Returns the process that signed, if it is still alive. A signature of an earlier boot, or of a process whose pid
    /// was reused since, is not believed.
    fn signer(&self) -> Option<ProcessId> {
        let since = self.since.as_ref()?;
        let signer = ProcessId { pid: self.pid, start: self.start };
        (self.pid > 0 && since.boot_id == Moment::now().boot_id && signer.is_alive()).then_some(signer)
    }
}

/// Reads a lock's file: the first JSON value in it, because a writer that was killed leaves the end of an older text behind
/// its own. What cannot be read is as good as empty.
pub fn read<T: DeserializeOwned + Default>(path: &Path) -> T {
    let bytes = atomic_file::read(path, atomic_file::MAX_RECORD_BYTES).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter();
    values.next().and_then(Result::ok).unwrap_or_default()
}

/// A living process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub name: String,
    pub condition: Condition,
    /// Since when it holds the lock; `None` for a process that does not write it down.
    pub since: Option<Moment>,
}

/// Whether a process can let go of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It runs, or waits for something that will come.
    AtWork,
    /// Somebody stopped it (SIGSTOP, a debugger): it does nothing until it is continued.
    Stopped,
    /// It waits for a disk, and takes no signal meanwhile.
    WaitsForDisk,
}

impl Holder {
    /// Returns how to free the lock.
    pub fn way_out(&self) -> String {
        let pid = self.pid;
        match self.condition {
            Condition::Stopped => format!("resume it with kill -CONT {pid}, or end it with kill -KILL {pid}"),
            Condition::AtWork => format!("if it hangs, end it with kill {pid}"),
            Condition::WaitsForDisk => format!("look at its disk (dmesg); if it hangs, end it with kill -KILL {pid}"),
        }
    }

    /// Returns whether it holds the lock until a person continues or ends it.
    pub fn is_stopped(&self) -> bool {
        self.condition == Condition::Stopped
    }
}

/// Longer than any name on Linux.
const SHOWN_NAME_CHARS: usize = 64;

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = match self.condition {
            Condition::AtWork => "",
            Condition::Stopped => ", stopped",
            Condition::WaitsForDisk => ", waiting for a disk",
        };
        write!(f, "{} (pid {}{condition})", quote(&self.name, SHOWN_NAME_CHARS), self.pid)?;
        self.since.as_ref().map_or(Ok(()), |since| write!(f, " since {}", since.at))
    }
}

/// Finds the holder of the lock at `path`, which is held; `None` where the system does not show it.
pub fn of(path: &Path) -> Option<Holder> {
    let signature: Signature = read(path);
    match signature.signer() {
        Some(signer) => look_at(signer.pid, signature.since),
        None => platform::holder(path).and_then(|pid| look_at(pid, None)),
    }
}

fn look_at(pid: i32, since: Option<Moment>) -> Option<Holder> {
    let id = Pid::from_u32(pid.try_into().ok()?);
    let system = process_tree::look_at(Some(&[id]), ProcessRefreshKind::nothing()).ok()?;
    let process = system.process(id)?;
    let condition = match process.status() {
        ProcessStatus::Stop | ProcessStatus::Tracing => Condition::Stopped,
        ProcessStatus::UninterruptibleDiskSleep => Condition::WaitsForDisk,
        _ => Condition::AtWork,
    };
    Some(Holder { pid, name: process.name().to_string_lossy().into_owned(), condition, since })
}

/// Linux lists all locks in `/proc/locks`, see proc_locks(5).
#[cfg(target_os = "linux")]
mod platform {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{major, minor};

    /// Returns a process that holds a lock on the file at `path`.
    pub(super) fn holder(path: &Path) -> Option<i32> {
        let file = path.symlink_metadata().ok()?;
        let name = format!("{:02x}:{:02x}:{}", major(file.dev()), minor(file.dev()), file.ino());
        holder_in(&std::fs::read_to_string("/proc/locks").ok()?, &name)
    }

    /// Finds a holder among the system's locks; a line with an arrow is about one that waits.
    pub(super) fn holder_in(locks: &str, file: &str) -> Option<i32> {
        let holder = |line: &str| match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, _, pid, of, ..] if of == file => pid.parse().ok(),
            _ => None,
        };
        locks.lines().find_map(holder).filter(|&pid| pid > 0)
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    pub(super) fn holder(_: &std::path::Path) -> Option<i32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_signer_is_believed() {
        let ours = Signature::of_this_process();
        assert_eq!(ours.signer(), ProcessId::current().ok());
        let recycled = Signature { start: ours.start + 1, ..ours.clone() };
        let before_this_boot = |since: &mut Moment| since.boot_id.push('x');
        let mut of_another_boot = ours.clone();
        of_another_boot.since.as_mut().map(before_this_boot).unwrap();
        let of_0_1_0 = Signature { since: None, start: 0, ..ours.clone() };
        let of_nobody = Signature { pid: 0, ..ours };
        for other in [recycled, of_another_boot, of_0_1_0, of_nobody, Signature::default()] {
            assert_eq!(other.signer(), None, "{other:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_who_holds_a_lock_and_not_who_waits_for_it() {
        let locks = "1: FLOCK  ADVISORY  WRITE 13600 fe:00:5309036 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 13602 fe:00:10346685 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 13601 fe:00:10346685 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 14143 fe:00:10346685 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE -1 fe:00:77 0 EOF\n\
                     garbage\n";
        let holder = |file| platform::holder_in(locks, file);
        assert_eq!(holder("fe:00:10346685"), Some(14143));
        assert_eq!(holder("fe:00:5309036"), Some(13600));
        assert_eq!((holder("fe:00:77"), holder("fe:00:1")), (None, None), "in another namespace; nobody");
    }

    #[test]
    fn a_holder_is_named_with_its_state_and_its_cure() {
        let holder = Holder { pid: 7, name: "x".into(), condition: Condition::Stopped, since: None };
        assert_eq!(holder.to_string(), "x (pid 7, stopped)");
        assert!(holder.way_out().contains("kill -CONT 7"));
        let since = Some(Moment { at: crate::clock::UnixSeconds(0), boot_id: "b".into(), since_boot_ms: 0 });
        let holder = Holder { condition: Condition::AtWork, since, ..holder };
        assert_eq!(holder.to_string(), "x (pid 7) since 1970-01-01T00:00:00Z");
    }
}
