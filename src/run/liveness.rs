//! Whether an unfinished run lives: by its lock, and by its processes. No window, and no missing one, says anything.

use std::path::Path;

use super::entry::Entry;
use super::record::{Ending, Machine, Manifest, RecordError, Started};
use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, LockError, Mode};
use crate::process_tree::{KnownProcesses, Process, Scan, machine_id, pid_namespace};

/// What is known of the life of an unfinished run (rule 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// Alive: an owner (its trigger, its supervisor) holds its lock.
    Owned,
    /// Alive: nobody holds its lock, yet these processes are left of it.
    Unsupervised(Vec<Process>),
    /// Finished: nobody holds its lock, and nothing of it is left.
    Dead,
    /// Neither can be told, for this reason. It is never ended and never reaped.
    Unknown(String),
}

/// An unfinished run, looked at.
#[derive(Debug)]
pub struct Assessment {
    /// Its entry.
    pub entry: Entry,
    /// Its manifest.
    pub manifest: Result<Manifest, RecordError>,
    /// Whether it lives.
    pub liveness: Liveness,
    /// Its lock, held alone while nobody owns the run, so that the judgement stays true for as long as this is kept.
    lock: Option<FileLock>,
}

impl Assessment {
    /// Tells how the run ended, if it is dead and nobody wrote it down.
    #[must_use]
    pub fn abandoned_ending(&self, last_output: UnixSeconds, now: UnixSeconds) -> Ending {
        let started = self.entry.started().ok().flatten();
        let request = self.entry.end_request().ok().flatten();
        let exit = self.entry.terminal_exit().ok().flatten();
        Ending::of_abandoned(started.is_some(), request.as_ref(), exit, last_output, now)
    }

    /// Returns the judge's hold on a dead run, which alone permits recording its end.
    #[must_use]
    pub fn into_judgement(self) -> Option<Judgement> {
        match (self.liveness, self.manifest, self.lock) {
            (Liveness::Dead, Ok(manifest), Some(lock)) => Some(Judgement { entry: self.entry, manifest, _lock: lock }),
            _ => None,
        }
    }
}

/// A dead run whose lock we hold alone.
#[derive(Debug)]
pub struct Judgement {
    /// Its entry.
    pub entry: Entry,
    /// Its manifest.
    pub manifest: Manifest,
    _lock: FileLock,
}

/// What trying the lock told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LockState {
    Held,
    Free,
    Unreadable(String),
}

impl Machine {
    /// Returns where we are.
    #[must_use]
    pub fn this() -> Self {
        Self { machine_id: machine_id(), pid_namespace: pid_namespace() }
    }
}

/// Looks at unfinished runs; those that finish meanwhile are left out. Processes are listed only if some lock is free.
#[must_use]
pub fn assess(entries: Vec<Entry>) -> Vec<Assessment> {
    let tried: Vec<_> = entries.into_iter().filter_map(try_lock).collect();
    let some_free = tried.iter().any(|(_, state, _)| *state == LockState::Free);
    let this_machine = Machine::this();
    // After the locks are taken, so that what a dying supervisor still started is seen; twice, for a process that is
    // just becoming another program shows no environment for a moment.
    let scan = some_free.then(Scan::take_twice);
    tried
        .into_iter()
        .map(|(entry, state, lock)| {
            let manifest = entry.manifest();
            let alive = |manifest: &Manifest| match &scan {
                Some(Ok(scan)) => left_of(&entry, manifest, scan).map_err(|error| error.to_string()),
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(Vec::new()),
            };
            let liveness = decide(&state, manifest.as_ref(), &this_machine, alive);
            Assessment { entry, manifest, liveness, lock }
        })
        .collect()
}

fn try_lock(entry: Entry) -> Option<(Entry, LockState, Option<FileLock>)> {
    let path = entry.lock_file();
    match FileLock::try_existing(&path, Mode::Exclusive) {
        Ok(lock) => match FileLock::try_existing(&path, Mode::Exclusive) {
            Err(LockError::Held { .. }) => Some((entry, LockState::Free, Some(lock))),
            // Its owner may have been granted the same lock as well.
            Ok(_) => Some((entry, LockState::Unreadable(granted_twice(&path)), None)),
            Err(_) if !entry.exists() => None,
            Err(error) => Some((entry, LockState::Unreadable(error.to_string()), None)),
        },
        Err(LockError::Held { .. }) => Some((entry, LockState::Held, None)),
        Err(_) if !entry.exists() => None,
        Err(error) => Some((entry, LockState::Unreadable(error.to_string()), None)),
    }
}

fn granted_twice(path: &Path) -> String {
    format!(
        "locks do not work here: {} was granted twice, so that nobody can tell who owns the run; set MOADIM_HOME to a \
         directory on a local disk",
        path.display()
    )
}

/// Returns the processes that are left of a run: those with its cookie, those below them, and those that were written
/// down when it started, or when it was being ended.
fn left_of(entry: &Entry, manifest: &Manifest, scan: &Scan) -> Result<Vec<Process>, FileError> {
    let started = written_down(entry, manifest)?;
    let mut left = scan.carriers(&manifest.cookie);
    let known = started.iter().map(|started| started.supervisor).chain(doomed(entry, manifest)?.known).collect();
    let below = scan.members(&manifest.cookie, &known);
    left.extend(below.into_iter().filter(|process| !left.contains(process)).collect::<Vec<_>>());
    if let Some(started) = started {
        for (id, name) in [(started.supervisor, "supervisor"), (started.agent, "agent")] {
            if id.is_alive() && !left.iter().any(|process| process.id == id) {
                left.push(Process { id, name: name.to_owned() });
            }
        }
    }
    Ok(left)
}

/// Returns the processes that were written down when the run started, if they mean anything now: start times are told
/// apart within one boot only. A damaged record is none, for the cookie tells the same.
///
/// # Errors
/// There is one that cannot be read just now.
pub(super) fn written_down(entry: &Entry, manifest: &Manifest) -> Result<Option<Started>, FileError> {
    if is_of_this_boot(manifest) { atomic_file::unless_damaged(entry.started()) } else { Ok(None) }
}

/// Returns the processes that were written down when the run was being ended, in the same way.
///
/// # Errors
/// As [`written_down`].
pub(super) fn doomed(entry: &Entry, manifest: &Manifest) -> Result<KnownProcesses, FileError> {
    let noted = if is_of_this_boot(manifest) { atomic_file::unless_damaged(entry.doomed().map(Some))? } else { None };
    Ok(noted.unwrap_or_default())
}

fn is_of_this_boot(manifest: &Manifest) -> bool {
    manifest.triggered.boot_id == Moment::now().boot_id
}

fn decide(
    lock: &LockState,
    manifest: Result<&Manifest, &RecordError>,
    this_machine: &Machine,
    left: impl FnOnce(&Manifest) -> Result<Vec<Process>, String>,
) -> Liveness {
    match (lock, manifest) {
        (LockState::Held, _) => Liveness::Owned,
        (LockState::Unreadable(cause), _) => Liveness::Unknown(cause.clone()),
        (LockState::Free, Err(error)) => Liveness::Unknown(error.to_string()),
        (LockState::Free, Ok(manifest)) if manifest.machine != *this_machine => Liveness::Unknown(
            "it was started on another machine or in another process namespace, where alone its processes can be seen"
                .to_owned(),
        ),
        (LockState::Free, Ok(manifest)) => match left(manifest) {
            Ok(processes) if processes.is_empty() => Liveness::Dead,
            Ok(processes) => Liveness::Unsupervised(processes),
            Err(cause) => Liveness::Unknown(cause),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{AgentCommand, StdinSource};
    use crate::clock::UnixSeconds;
    use crate::home::Home;
    use crate::process_tree::{COOKIE_VARIABLE, Cookie, ProcessId};
    use crate::run::id::RunId;
    use crate::run::record::{Origin, RECORD_VERSION};
    use crate::session::HostKind;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn manifest(id: &RunId) -> Manifest {
        Manifest {
            version: RECORD_VERSION,
            id: id.clone(),
            triggered: Moment::now(),
            cookie: Cookie::random().unwrap(),
            machine: Machine::this(),
            command: AgentCommand {
                agent: "a".into(),
                command: "true".into(),
                args: vec![],
                setup: vec![],
                stdin: StdinSource::None,
                login_shell: false,
                terminal: false,
                max_silence_secs: None,
            },
            session_host: HostKind::Detached,
            origin: Origin::Call,
            repositories: vec![],
        }
    }

    struct Fixture {
        _dir: tempfile::TempDir,
        entry: Entry,
        manifest: Manifest,
    }

    fn fixture(change: impl FnOnce(&mut Manifest)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let id = RunId::new("a".parse().unwrap(), UnixSeconds::now());
        let entry = Entry::of(&home, &id);
        std::fs::create_dir(entry.directory()).unwrap();
        std::fs::write(entry.lock_file(), "").unwrap();
        let mut manifest = manifest(&id);
        change(&mut manifest);
        atomic_file::write_json(&entry.directory().join("run.json"), &manifest).unwrap();
        Fixture { _dir: dir, entry, manifest }
    }

    fn liveness(fixture: &Fixture) -> Liveness {
        assess(vec![fixture.entry.clone()]).pop().unwrap().liveness
    }

    #[test]
    fn rule_2_a_held_lock_is_life_and_a_free_one_without_processes_is_not() {
        let fixture = fixture(|_| {});
        let owner = FileLock::try_existing(&fixture.entry.lock_file(), Mode::Shared).unwrap();
        assert_eq!(liveness(&fixture), Liveness::Owned);
        drop(owner);
        assert_eq!(liveness(&fixture), Liveness::Dead);
    }

    #[test]
    fn rule_2_a_process_with_the_cookie_is_life() {
        let fixture = fixture(|_| {});
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(COOKIE_VARIABLE, fixture.manifest.cookie.to_string())
            .spawn()
            .unwrap();
        // In the midst of its exec it shows no cookie.
        let deadline = Instant::now() + Duration::from_secs(20);
        while Scan::take().unwrap().carriers(&fixture.manifest.cookie).is_empty() && Instant::now() < deadline {}
        let found = liveness(&fixture);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(found, Liveness::Unsupervised(processes) if processes.len() == 1));
        assert_eq!(liveness(&fixture), Liveness::Dead);
    }

    #[test]
    fn rule_2_a_recorded_agent_is_life_even_without_a_cookie_and_a_recycled_pid_is_not() {
        let fixture = fixture(|_| {});
        let mut child = std::process::Command::new("sleep").arg("60").env_clear().spawn().unwrap();
        let agent = ProcessId::of(child.id().try_into().unwrap()).unwrap();
        let gone = ProcessId { start: agent.start + 1, ..agent };
        let started = |agent| Started { supervisor: gone, agent, at: UnixSeconds::now() };
        let path = fixture.entry.directory().join("started.json");
        atomic_file::write_json(&path, &started(agent)).unwrap();
        let found = liveness(&fixture);
        atomic_file::write_json(&path, &started(gone)).unwrap();
        let recycled = liveness(&fixture);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(found, Liveness::Unsupervised(_)));
        assert_eq!(recycled, Liveness::Dead);
    }

    #[test]
    fn what_an_earlier_boot_wrote_down_names_nobody_now() {
        let fixture = fixture(|manifest| manifest.triggered.boot_id.push('x'));
        let mut child = std::process::Command::new("sleep").arg("60").env_clear().spawn().unwrap();
        let innocent = ProcessId::of(child.id().try_into().unwrap()).unwrap();
        let started = Started { supervisor: innocent, agent: innocent, at: UnixSeconds::now() };
        atomic_file::write_json(&fixture.entry.directory().join("started.json"), &started).unwrap();
        let found = liveness(&fixture);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Liveness::Dead);
    }

    #[test]
    fn rule_2_what_cannot_be_judged_is_unknown() {
        let newer = fixture(|manifest| manifest.version = RECORD_VERSION + 1);
        let elsewhere = fixture(|manifest| manifest.machine.machine_id.push('x'));
        let other_namespace = fixture(|manifest| manifest.machine.pid_namespace.push('x'));
        let damaged = fixture(|_| {});
        std::fs::write(damaged.entry.directory().join("run.json"), "{").unwrap();
        let unlockable = fixture(|_| {});
        std::fs::remove_file(unlockable.entry.lock_file()).unwrap();
        for unknown in [newer, elsewhere, other_namespace, damaged, unlockable] {
            assert!(matches!(liveness(&unknown), Liveness::Unknown(_)));
            assert!(assess(vec![unknown.entry.clone()]).pop().unwrap().into_judgement().is_none());
        }
    }

    #[test]
    fn rule_2_a_record_that_cannot_be_read_is_unknown_and_a_damaged_one_is_none() {
        for name in ["started.json", "doomed.json"] {
            let fixture = fixture(|_| {});
            let path = fixture.entry.directory().join(name);
            std::fs::write(&path, "{").unwrap();
            assert_eq!(liveness(&fixture), Liveness::Dead);
            std::fs::remove_file(&path).unwrap();
            // The system refuses to open it.
            std::os::unix::fs::symlink(name, &path).unwrap();
            assert!(matches!(liveness(&fixture), Liveness::Unknown(cause) if cause.contains(name)));
        }
        let before = fixture(|manifest| manifest.triggered.boot_id.push('x'));
        std::os::unix::fs::symlink("started.json", before.entry.directory().join("started.json")).unwrap();
        assert_eq!(liveness(&before), Liveness::Dead, "it would mean nothing now");
    }

    #[test]
    fn a_finished_run_is_left_out() {
        let fixture = fixture(|_| {});
        std::fs::remove_dir_all(fixture.entry.directory()).unwrap();
        assert!(assess(vec![fixture.entry.clone()]).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_dead_unless_its_lock_is_free_and_a_scan_found_nothing(
            lock in 0..3u8, readable: bool, here: bool, scan in 0..3u8
        ) {
            let id = RunId::new("a".parse().unwrap(), UnixSeconds(1));
            let mut manifest = manifest(&id);
            let this_machine = Machine::this();
            if !here { manifest.machine.machine_id.push('x'); }
            let error = RecordError::Newer { path: String::new(), version: 2 };
            let state = match lock {
                0 => LockState::Held,
                1 => LockState::Free,
                _ => LockState::Unreadable("x".into()),
            };
            let process = Process { id: ProcessId { pid: 2, start: 2 }, name: String::new() };
            let found = decide(&state, if readable { Ok(&manifest) } else { Err(&error) }, &this_machine, |_| match scan {
                0 => Ok(vec![]),
                1 => Ok(vec![process]),
                _ => Err("x".into()),
            });
            prop_assert_eq!(found == Liveness::Dead, lock == 1 && readable && here && scan == 0);
        }
    }
}
