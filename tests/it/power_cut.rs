//! Power cuts: a home on an ext4 of its own, whose device is copied while the home is busy. What a copy holds is what a power
//! cut at that moment would have left. It needs root.
//!
//! 3 cuts by default, 25 with `MOADIM_LONG_TESTS=1`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    MINUTE, PATIENCE, Seen, SetOnDrop, Stage, at, is_body, may_take_long, skip, text, wait_for, wait_until, with_mounts,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const CLIENTS: usize = 4;

fn cuts() -> usize {
    if may_take_long() { 25 } else { 3 }
}

/// Nothing reaches the disk by itself while a test runs: only what is synced.
const MOUNT_OPTIONS: &str = "loop,commit=600";

/// A home on a device of its own, whose file is in memory, so that it is copied in a moment.
struct Disk {
    // Dropped after the disk is unmounted by hand.
    stage: Stage,
    images: PathBuf,
}

impl Disk {
    /// Makes one; `None` where that is not allowed.
    fn new() -> Option<Self> {
        let stage = Stage::unconfigured();
        let images = stage.home.scratch().join("images");
        fs::create_dir(&images).unwrap();
        fs::create_dir(stage.home.root()).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=300m", "none"], &[&images]).expect("a tmpfs");
        let disk = Self { stage, images };
        run("truncate", &["-s", "96M"], &[&disk.image("disk")]).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-O", "^metadata_csum_seed"], &[&disk.image("disk")]).unwrap();
        if let Err(said) = disk.mount("disk") {
            skip("a_power_cut_takes_nothing_that_was_told", &said);
            return None;
        }
        disk.stage.configure("");
        Some(disk)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.images.join(name)
    }

    fn mount(&self, image: &str) -> Result<(), String> {
        let root = self.stage.home.root();
        run("mount", &["-t", "ext4", "-o", MOUNT_OPTIONS], &[&self.image(image), &root])?;
        run("chmod", &["700"], &[&root])
    }

    fn unmount(&self) {
        let root = self.stage.home.root();
        // Its last user may not be quite gone yet.
        wait_for(PATIENCE, "the disk to be unmounted", || run("umount", &[], &[&root]).ok());
    }

    /// Lets the power go: copies the disk as it is, ends everything, and goes on with the copy.
    fn cut(&self) {
        self.stop_all();
        let (disk, cut, again) = (self.image("disk"), self.image("cut"), self.image("again"));
        // Whatever the kernel was writing is written: two copies in a row are the same.
        wait_for(PATIENCE, "a copy of one moment", || {
            for copy in [&cut, &again] {
                run("cp", &["--sparse=always"], &[&disk, copy]).unwrap();
            }
            run("cmp", &[], &[&cut, &again]).ok()
        });
        wait_until("the end of everything", || {
            let left = self.stage.home.processes();
            left.iter().for_each(Seen::kill);
            left.is_empty()
        });
        self.unmount();
        fs::rename(cut, disk).unwrap();
        self.mount("disk").unwrap();
    }

    /// Stops every process of the home, those too that others start meanwhile.
    fn stop_all(&self) {
        let mut stopped = 0;
        loop {
            let all = self.stage.home.processes();
            // Some end at this very moment.
            all.iter().for_each(|one| drop(one.id.signal(Signal::STOP)));
            if all.len() == stopped {
                return;
            }
            stopped = all.len();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for path in [self.stage.home.root(), self.images.clone()] {
            let _ = Command::new("umount").arg("--lazy").arg(path).output();
        }
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).args(paths).output().map_err(|error| error.to_string())?;
    let said = || format!("{program} {arguments:?} {paths:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said()) }
}

/// What clients were answered.
#[derive(Default)]
struct Reported {
    /// How runs ended.
    ended: BTreeMap<String, String>,
    /// Runs that are pinned.
    pinned: Vec<String>,
    /// How many occurrences of the routine `skipped` have been missed.
    missed: usize,
}

/// Starts runs, one after the other, until the power is cut; each is waited for.
fn trigger_on_and_on(stage: &Stage, client: usize, reported: &Mutex<Reported>, over: &AtomicBool) {
    let routine = format!("job-{client}");
    while !over.load(Ordering::Relaxed) {
        let mut command = stage.home.command();
        command.args(["trigger", &routine, "--overlap", "allow", "--wait", "--json"]).stderr(Stdio::null());
        let output = command.output().unwrap();
        // Not if it was killed.
        let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout) else { continue };
        let (run, status) = (text(&answer["run"]["id"]), text(&answer["run"]["status"]));
        let mut pin = stage.home.command();
        let is_pinned = client == 0 && pin.args(["pin", &run]).output().unwrap().status.success();
        let mut reported = reported.lock().unwrap();
        if over.load(Ordering::Relaxed) {
            // The answer may have come after the cut.
            return;
        }
        reported.ended.insert(run.clone(), status);
        if is_pinned {
            reported.pinned.push(run);
        }
    }
}

/// Lets time pass on the scheduler's clock: each minute an occurrence is missed, for the run before is still alive.
fn pass_the_time(stage: &Stage, clock_secs: &AtomicU64, reported: &Mutex<Reported>, over: &AtomicBool) {
    let before = stage.missed("skipped").len();
    for missed in before + 1.. {
        let now = clock_secs.fetch_add(MINUTE, Ordering::Relaxed) + MINUTE;
        stage.set_clock(now);
        // The ledger is written after the line.
        while stage.ledger("skipped")["fired_until"] != at(now) {
            if over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut reported = reported.lock().unwrap();
        if !over.load(Ordering::Relaxed) {
            reported.missed = missed;
        }
    }
}

fn janitor(stage: &Stage) -> Child {
    let mut command = stage.home.command();
    command.arg("janitor").env("MOADIM_TEST_CLOCK", &stage.clock).stdin(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn a_power_cut_takes_nothing_that_was_told() {
    with_mounts("power_cut::cut");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn cut() {
    if !is_body() {
        return;
    }
    let Some(disk) = Disk::new() else { return };
    let stage = &disk.stage;
    for client in 0..CLIENTS {
        stage.routine(&format!("job-{client}"), if client % 2 == 0 { "echo done" } else { "echo bad; exit 3" }, "");
    }
    stage.routine("skipped", "exec sleep 1000", "schedule = \"* * * * *\"\noverlap = \"skip\"");
    run("sync", &[], &[]).unwrap();
    let (reported, clock_secs) = (Mutex::new(Reported::default()), AtomicU64::new(0));
    let began = Instant::now();
    for round in 0..cuts() {
        let mut janitor = janitor(stage);
        stage.wait_until_followed("skipped", "* * * * *");
        // The run that is in the way of all the others.
        let now = clock_secs.fetch_add(MINUTE, Ordering::Relaxed) + MINUTE;
        stage.set_clock(now);
        stage.wait_for_alive("skipped", 1);
        wait_until("the ledger", || stage.ledger("skipped")["fired_until"] == at(now));
        reported.lock().unwrap().missed = stage.missed("skipped").len();
        let over = AtomicBool::new(false);
        let enough = reported.lock().unwrap().ended.len() + CLIENTS * 2;
        std::thread::scope(|scope| {
            let _over = SetOnDrop(&over);
            for client in 0..CLIENTS {
                let (reported, over) = (&reported, &over);
                scope.spawn(move || trigger_on_and_on(stage, client, reported, over));
            }
            scope.spawn(|| pass_the_time(stage, &clock_secs, &reported, &over));
            wait_until("some runs", || reported.lock().unwrap().ended.len() >= enough);
            // At no particular moment.
            std::thread::sleep(Duration::from_millis(u64::from(began.elapsed().subsec_nanos()) % 500));
            let reported = reported.lock().unwrap();
            over.store(true, Ordering::Relaxed);
            disk.cut();
            assert_all_is_there(stage, &reported, round);
        });
        janitor.wait().unwrap();
        assert_the_rest_is_recorded(stage, round);
    }
    let reported = reported.lock().unwrap();
    eprintln!("{} cuts, {} runs, {} misses", cuts(), reported.ended.len(), reported.missed);
}

/// Looks at what the cut has left, before any program of ours does.
fn assert_all_is_there(stage: &Stage, reported: &Reported, round: usize) {
    let mut lines: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in stage.home.readable_history() {
        if let Some(run) = line["id"].as_str() {
            lines.entry(run.to_owned()).or_default().push(line);
        }
    }
    for (run, status) in &reported.ended {
        let found = lines.get(run).map_or(&[][..], Vec::as_slice);
        assert!(matches!(found, [line] if line["status"] == **status), "cut {round}: {run} {status}: {found:?}");
        assert_eq!(stage.home.outcome(run).unwrap()["status"], **status, "cut {round}: {run}");
    }
    for run in &reported.pinned {
        assert!(stage.home.root().join("pins").join(run).exists(), "cut {round}: {run} is not pinned");
    }
    let missed = stage.missed("skipped");
    assert!(missed.len() >= reported.missed, "cut {round}: {} misses of {}", missed.len(), reported.missed);
    let mut once: Vec<String> = missed.iter().map(|line| text(&line["occurrence"])).collect();
    once.dedup();
    assert_eq!(once.len(), missed.len(), "cut {round}: {missed:?}");
}

/// Starts a server on what is left, which records what was going on, and no run is without a line.
fn assert_the_rest_is_recorded(stage: &Stage, round: usize) {
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(stage.home.root().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let mut server = stage.server();
    wait_until("all that was going on to be recorded", || {
        server.clean_up();
        // That one may be started again. What was only staged has a name of another kind, and is removed when it is older.
        names("running").iter().all(|run| run.starts_with("skipped-") || run.starts_with('.'))
    });
    let running = names("running");
    for run in names("workbenches").iter().filter(|run| !running.contains(run)) {
        let (lines, outcome) = (stage.home.history(run), stage.home.outcome(run));
        assert!(
            matches!((&lines[..], &outcome), ([line], Some(outcome)) if line["status"] == outcome["status"]),
            "cut {round}: {run}: {lines:?} {outcome:?}"
        );
    }
    assert_eq!(server.ok("list_routines", json!({}))["total"], CLIENTS + 1, "cut {round}");
    // A line of which only a part reached the disk was never reported; it stays, on a line of its own.
    let mut problems = server.problems();
    problems.retain(|problem| !text(&problem["problem"]).contains("lines of the history cannot be read"));
    assert_eq!(problems, Vec::<Value>::new(), "cut {round}");
    // The disk goes before the home knows who accounts for it.
    stage.alive("skipped").iter().for_each(|run| drop(server.stop(run)));
    server.close_stdin_and_wait();
}
