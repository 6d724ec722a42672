use super::*;
use crate::agent::{AgentCommand, StdinSource};
use crate::clock::Moment;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file;
use crate::home::config::Config;
use crate::home::identity::HomeIdentity;
use crate::home::lock::{FileLock, Mode};
use crate::process_tree::{COOKIE_VARIABLE, Cookie, KnownProcesses, ProcessId};
use crate::routine::resources::Resources;
use crate::run::context::Program;
use crate::run::entry::LOCK;
use crate::run::id::RunId;
use crate::run::record::{Gone, JobOrder, Machine, Origin, ProcessesRecord, RECORD_VERSION, Started};
use crate::session::HostKind;
use proptest::prelude::*;

fn manifest(home: &Home, id: &RunId) -> Manifest {
    Manifest {
        precheck: None,
        verify: None,
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
            stdin: StdinSource::None,
            ..AgentCommand::default()
        },
        session_host: HostKind::Detached,
        origin: Origin::Call,
        text: None,
        continues: None,
        workbench: None,
        asks_for_report: false,
        repositories: vec![],
        missing_env: vec![],
        job: None,
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    context: Context,
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
    std::fs::write(entry.file(LOCK), "").unwrap();
    let mut manifest = manifest(&home, &id);
    change(&mut manifest);
    atomic_file::write_json(&entry.directory().join("run.json"), &manifest).unwrap();
    let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
    Fixture { _dir: dir, context, home, entry, manifest }
}

fn liveness(fixture: &Fixture) -> Liveness {
    look(&fixture.context, vec![fixture.entry.clone()], JUDGE_LOCK_TIMEOUT).pop().unwrap().liveness
}

#[test]
fn rule_2_a_held_lock_is_life_and_a_free_one_without_processes_is_not() {
    let fixture = fixture(|_| {});
    let owner = FileLock::try_existing(&fixture.entry.file(LOCK), Mode::Shared).unwrap();
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
    std::fs::remove_file(unlockable.entry.file(LOCK)).unwrap();
    for unknown in [newer, elsewhere, other_namespace, damaged, unlockable] {
        assert!(matches!(liveness(&unknown), Liveness::Unknown(_)));
        assert!(
            judge(&unknown.context, vec![unknown.entry.clone()], JUDGE_LOCK_TIMEOUT)
                .pop()
                .unwrap()
                .into_judgement()
                .is_err()
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
    assert!(look(&fixture.context, vec![fixture.entry.clone()], JUDGE_LOCK_TIMEOUT).is_empty());
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
    let elsewhere = |change: fn(&mut HomeIdentity)| fixture(move |manifest| change(manifest.home.as_mut().unwrap()));
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
    let owner = FileLock::try_existing(&of_another_path.entry.file(LOCK), Mode::Shared).unwrap();
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

/// The lock, and what the node attested, decide without Slurm; what only Slurm knows is unknown until it was asked.
#[test]
fn rule_2_a_run_that_slurm_placed_is_judged_by_its_lock_its_records_and_slurm() {
    let order =
        JobOrder { token: "t".to_owned(), resources: Resources::default(), excluded: Vec::new(), limit_secs: 600 };
    let fixture = fixture(|manifest| {
        manifest.job = Some(order);
        manifest.machine.machine_id.push('x');
    });
    let liveness = || look(&fixture.context, vec![fixture.entry.clone()], Duration::ZERO).pop().unwrap().liveness;
    assert!(matches!(liveness(), Liveness::Unknown(cause) if cause.contains("not asked")));
    let owner = FileLock::try_existing(&fixture.entry.file(LOCK), Mode::Shared).unwrap();
    assert_eq!(liveness(), Liveness::Owned);
    drop(owner);
    let mut taken = Here::of(&fixture.home).supervisor_record(ProcessId::current().unwrap(), 1);
    taken.machine.machine_id.push('x');
    fixture.entry.take(&taken).unwrap();
    assert!(matches!(liveness(), Liveness::Unknown(_)), "its process is seen only there");
    fixture.entry.set_gone(&Gone { machine: taken.machine, at: Moment::now(), has_outcome: false }).unwrap();
    assert_eq!(liveness(), Liveness::Dead);
    let owner = FileLock::try_existing(&fixture.entry.file(LOCK), Mode::Shared).unwrap();
    assert_eq!(liveness(), Liveness::Owned, "whatever is attested");
    drop(owner);
}
