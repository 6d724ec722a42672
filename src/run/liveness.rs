//! Whether an unfinished run lives: by its lock, and by its processes. No window, and no missing one, says anything.

use std::time::{Duration, Instant};

use super::entry::Entry;
use super::judge_locks::{Hold, JudgeLocks};
use super::record::{EndRequest, Ending, Manifest, RecordError};
use super::recorded_processes::RecordedProcesses;
use super::this_machine::Here;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::process_tree::{Process, Scan, start_at};

/// What is known of the life of an unfinished run (rule 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// Alive: an owner (its trigger, its supervisor) holds its lock.
    Owned,
    /// Alive: nobody holds its lock, yet these processes are left of it.
    Unsupervised(Vec<Process>),
    /// Finished: nobody holds its lock, and nothing of it is left.
    Dead,
    /// Nobody owns it, and another process has been judging it for longer than this one waited. It may be any of the other
    /// states, and soon is known to be one. In words, who judges it.
    Judging(String),
    /// Nobody can say, for this reason. It is never ended and never reaped.
    Unknown(String),
}

/// An unfinished run, looked at.
#[derive(Debug)]
pub struct Assessment {
    pub entry: Entry,
    pub manifest: Result<Manifest, RecordError>,
    pub liveness: Liveness,
    /// Its locks, held while nobody owns the run, so that the judgement stays true for as long as they are kept.
    locks: Option<JudgeLocks>,
}

impl Assessment {
    /// Returns how the run ended, if it is dead and nobody wrote it down. A request for its end that is not on disk is `unwritten`.
    pub fn abandoned_ending(
        &self,
        unwritten: Option<&EndRequest>,
        last_output: UnixSeconds,
        now: UnixSeconds,
    ) -> Ending {
        let started = self.entry.started().ok().flatten();
        let request = self.entry.end_request().ok().flatten();
        let exit = self.entry.terminal_exit().ok().flatten();
        let started = match &self.manifest {
            Ok(manifest) => manifest.may_have_started(started.as_ref()),
            Err(_) => started.is_some(),
        };
        Ending::of_abandoned(started, request.as_ref().or(unwritten), exit, last_output, now)
    }

    fn let_go(self) -> Self {
        Self { locks: None, ..self }
    }

    /// Returns the judge's hold on a dead run, which alone permits recording its end.
    pub fn into_judgement(self) -> Option<Judgement> {
        match (self.liveness, self.manifest, self.locks) {
            (Liveness::Dead, Ok(manifest), Some(locks)) => {
                Some(Judgement { entry: self.entry, manifest, _locks: locks })
            }
            _ => None,
        }
    }
}

/// A dead run whose locks we hold.
#[derive(Debug)]
pub struct Judgement {
    pub entry: Entry,
    pub manifest: Manifest,
    _locks: JudgeLocks,
}

/// How long a judge is waited for, all runs of one look together. It holds a run for some milliseconds, and longer only while it
/// records an end.
pub const JUDGE_LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long each single run is waited for at least, unless the caller does not wait at all: most judges are done by then.
const LEAST_JUDGE_TIMEOUT: Duration = Duration::from_millis(20);

/// How many runs are held, and so how many files are open, at once.
const RUNS_AT_ONCE: usize = 64;

/// Looks at unfinished runs and holds none of them afterwards; those that finish meanwhile are left out.
pub fn look(home: &Home, mut entries: Vec<Entry>, timeout: Duration) -> Vec<Assessment> {
    let deadline = Instant::now() + timeout;
    let mut seen = Vec::with_capacity(entries.len());
    while !entries.is_empty() {
        let some = entries.drain(..entries.len().min(RUNS_AT_ONCE)).collect();
        let rest = deadline.saturating_duration_since(Instant::now());
        let least = if timeout.is_zero() { timeout } else { LEAST_JUDGE_TIMEOUT };
        seen.extend(judge(home, some, rest.max(least)).into_iter().map(Assessment::let_go));
    }
    seen
}

/// Looks at a few unfinished runs, and holds those that nobody owns for as long as their assessments are kept; those that finish
/// meanwhile are left out. Processes are listed only if nobody owns one of them.
pub fn judge(home: &Home, mut entries: Vec<Entry>, timeout: Duration) -> Vec<Assessment> {
    let deadline = Instant::now() + timeout;
    // All who hold several runs take them in one order, so that none waits for another in a circle.
    entries.sort_by(|a, b| a.id().cmp(b.id()));
    let held: Vec<(Entry, Hold)> = entries
        .into_iter()
        .map(|entry| {
            let least = if timeout.is_zero() { timeout } else { LEAST_JUDGE_TIMEOUT };
            let hold = Hold::take(&entry, deadline.max(Instant::now() + least));
            (entry, hold)
        })
        .filter(|(_, hold)| !matches!(hold, Hold::Gone))
        .collect();
    let here = Here::of(home);
    // After the locks are taken, so that what a dying supervisor still started is seen; twice, for a process that is
    // just becoming another program shows no environment for a moment.
    let scan = held.iter().any(|(_, hold)| matches!(hold, Hold::Unowned(_))).then(Scan::take_twice);
    held.into_iter()
        .map(|(entry, hold)| {
            let manifest = entry.manifest();
            let alive = |manifest: &Manifest| match &scan {
                Some(Ok(scan)) => left_of(&entry, manifest, &here, scan),
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(Vec::new()),
            };
            let liveness = decide(&hold, manifest.as_ref(), &here, alive);
            let locks = match hold {
                Hold::Unowned(locks) => Some(locks),
                _ => None,
            };
            Assessment { entry, manifest, liveness, locks }
        })
        .collect()
}

/// Returns the processes that are left of a run: those with its cookie, those below them, and those that were written down
/// and are still the same.
///
/// # Errors
/// Nobody can say, for this reason.
fn left_of(entry: &Entry, manifest: &Manifest, here: &Here, scan: &Scan) -> Result<Vec<Process>, String> {
    let written = RecordedProcesses::read(entry, manifest, here).map_err(|error| error.to_string())?;
    let mut left = scan.carriers(&manifest.cookie);
    let below = scan.members(&manifest.cookie, &written.belonging());
    left.extend(below.into_iter().filter(|process| !left.contains(process)).collect::<Vec<_>>());
    for (id, name) in written.named() {
        if id.is_alive() && !left.iter().any(|process| process.id == id) {
            left.push(Process { id, name: name.to_owned() });
        }
    }
    if left.is_empty() && here.is_same_boot(manifest) {
        let reapers = written.reaper.into_iter().collect();
        let hidden = scan.hidden_orphans(start_at(manifest.triggered.since_boot_ms), &reapers);
        if let Some(one) = hidden.first() {
            return Err(format!("{one} hides its environment and started after the run; it may belong to it"));
        }
    }
    Ok(left)
}

fn decide(
    hold: &Hold,
    manifest: Result<&Manifest, &RecordError>,
    here: &Here,
    left: impl FnOnce(&Manifest) -> Result<Vec<Process>, String>,
) -> Liveness {
    // Before the locks: those of a copied home say nothing of the original's runs, nor do its processes.
    if let Some(cause) = manifest.ok().and_then(|manifest| here.another_home(manifest)) {
        return Liveness::Unknown(cause);
    }
    match (hold, manifest) {
        (Hold::Owned, _) => Liveness::Owned,
        (Hold::Judging(by), _) => Liveness::Judging(by.clone()),
        (Hold::Unreadable(cause), _) => Liveness::Unknown(cause.clone()),
        (Hold::Unowned(_) | Hold::Gone, Err(error)) => Liveness::Unknown(error.to_string()),
        (Hold::Unowned(_) | Hold::Gone, Ok(manifest)) => match here.another_machine(manifest) {
            Some(cause) => Liveness::Unknown(cause),
            None => match left(manifest) {
                Ok(processes) if processes.is_empty() => Liveness::Dead,
                Ok(processes) => Liveness::Unsupervised(processes),
                Err(cause) => Liveness::Unknown(cause),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{AgentCommand, StdinSource};
    use crate::clock::Moment;
    use crate::home::atomic_file;
    use crate::home::identity::HomeIdentity;
    use crate::home::lock::{FileLock, Mode};
    use crate::process_tree::{COOKIE_VARIABLE, Cookie, KnownProcesses, ProcessId};
    use crate::run::id::RunId;
    use crate::run::record::{Machine, Origin, ProcessesRecord, RECORD_VERSION, Started};
    use crate::session::HostKind;
    use proptest::prelude::*;

    fn manifest(home: &Home, id: &RunId) -> Manifest {
        Manifest {
            version: RECORD_VERSION,
            id: id.clone(),
            triggered: Moment::now(),
            cookie: Cookie::random().unwrap(),
            machine: Machine::this(),
            home: Some(home.identity().unwrap()),
            max_runtime_secs: None,
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
            missing_env: vec![],
        }
    }

    struct Fixture {
        _dir: tempfile::TempDir,
        home: Home,
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
        let mut manifest = manifest(&home, &id);
        change(&mut manifest);
        atomic_file::write_json(&entry.directory().join("run.json"), &manifest).unwrap();
        Fixture { _dir: dir, home, entry, manifest }
    }

    fn liveness(fixture: &Fixture) -> Liveness {
        look(&fixture.home, vec![fixture.entry.clone()], JUDGE_LOCK_TIMEOUT).pop().unwrap().liveness
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
        let started = |agent| Started { supervisor: gone, agent, at: UnixSeconds::now(), machine: None };
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
        let started = Started { supervisor: innocent, agent: innocent, at: UnixSeconds::now(), machine: None };
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
            assert!(
                judge(&unknown.home, vec![unknown.entry.clone()], JUDGE_LOCK_TIMEOUT)
                    .pop()
                    .unwrap()
                    .into_judgement()
                    .is_none()
            );
        }
    }

    #[test]
    fn rule_2_a_record_that_cannot_be_read_is_unknown_and_a_damaged_one_is_none() {
        for name in ["supervisor.json", "started.json", "processes.json", "doomed.json"] {
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
        assert!(look(&fixture.home, vec![fixture.entry.clone()], JUDGE_LOCK_TIMEOUT).is_empty());
    }

    #[test]
    fn looking_at_a_dead_run_never_makes_it_look_alive() {
        let fixture = fixture(|_| {});
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        // On a machine that is very busy a look may not get its turn.
                        let found = liveness(&fixture);
                        assert!(matches!(found, Liveness::Dead | Liveness::Judging(_)), "{found:?}");
                    }
                });
            }
        });
    }

    #[test]
    fn a_judge_that_takes_long_is_waited_for_and_no_owner() {
        let fixture = fixture(|_| {});
        let judge = Hold::take(&fixture.entry, Instant::now());
        assert!(matches!(judge, Hold::Unowned(_)));
        assert!(matches!(liveness(&fixture), Liveness::Judging(_)));
        std::thread::scope(|scope| {
            let look = scope.spawn(|| liveness(&fixture));
            drop(judge);
            assert_eq!(look.join().unwrap(), Liveness::Dead);
        });
    }

    #[test]
    fn a_run_of_another_home_is_unknown_even_where_its_processes_are_seen() {
        let elsewhere =
            |change: fn(&mut HomeIdentity)| fixture(move |manifest| change(manifest.home.as_mut().unwrap()));
        let of_a_copy = elsewhere(|home| home.inode += 1);
        let of_another_path = elsewhere(|home| home.path.push('x'));
        let moved_between_boots = fixture(|manifest| {
            manifest.home.as_mut().unwrap().device += 1;
            manifest.triggered.boot_id.push('x');
        });
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(COOKIE_VARIABLE, of_a_copy.manifest.cookie.to_string())
            .spawn()
            .unwrap();
        let owner = FileLock::try_existing(&of_another_path.entry.lock_file(), Mode::Shared).unwrap();
        let found = [&of_a_copy, &of_another_path].map(liveness);
        drop(owner);
        child.kill().unwrap();
        child.wait().unwrap();
        for unknown in found {
            assert!(matches!(&unknown, Liveness::Unknown(cause) if cause.contains("belongs to")), "{unknown:?}");
        }
        assert_eq!(liveness(&moved_between_boots), Liveness::Dead);
    }

    #[test]
    fn a_process_that_was_written_down_is_life_here_and_now_only() {
        let fixture = fixture(|_| {});
        let mut child = std::process::Command::new("sleep").arg("60").env_clear().spawn().unwrap();
        let id = ProcessId::of(child.id().try_into().unwrap()).unwrap();
        let here = Here::of(&fixture.home);
        let record = here.processes_record(KnownProcesses::of([id]));
        let elsewhere = Machine { machine_id: "x".into(), ..Machine::this() };
        let found = [
            record.clone(),
            ProcessesRecord { boot_id: "x".into(), ..record.clone() },
            ProcessesRecord { machine: elsewhere, ..record },
        ]
        .map(|record| {
            fixture.entry.set_processes(&record).unwrap();
            liveness(&fixture)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(&found[0], Liveness::Unsupervised(left) if left[0].id == id), "{found:?}");
        assert_eq!(found[1..], [Liveness::Dead, Liveness::Dead]);
    }

    proptest! {
        #[test]
        fn nothing_is_dead_unless_its_lock_is_free_and_a_scan_found_nothing(
            hold in 0..4u8, readable: bool, here: bool, ours: bool, scan in 0..3u8
        ) {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::open(dir.path().join("home")).unwrap();
            let id = RunId::new("a".parse().unwrap(), UnixSeconds(1));
            let mut manifest = manifest(&home, &id);
            if !here { manifest.machine.machine_id.push('x'); }
            if !ours { manifest.home.as_mut().unwrap().path.push('x'); }
            let error = RecordError::Newer { path: String::new(), version: RECORD_VERSION + 1 };
            let hold = match hold {
                0 => Hold::Owned,
                1 => {
                    let owners = FileLock::acquire(&dir.path().join("lock"), Mode::Exclusive, Duration::ZERO).unwrap();
                    Hold::Unowned(JudgeLocks { _owners: owners, _judges: None })
                }
                2 => Hold::Judging("x".into()),
                _ => Hold::Unreadable("x".into()),
            };
            let process = Process { id: ProcessId { pid: 2, start: 2 }, name: String::new() };
            let manifest = if readable { Ok(&manifest) } else { Err(&error) };
            let found = decide(&hold, manifest, &Here::of(&home), |_| match scan {
                0 => Ok(vec![]),
                1 => Ok(vec![process]),
                _ => Err("x".into()),
            });
            let free = matches!(hold, Hold::Unowned(_));
            prop_assert_eq!(found == Liveness::Dead, free && readable && here && ours && scan == 0);
            prop_assert_eq!(found == Liveness::Owned, matches!(hold, Hold::Owned) && (!readable || ours));
        }
    }
}
