//! Sweeps, watchdog passes and removals, in this process.

use std::process::Command;
use std::time::{Duration, Instant};

use moadim_mcp::janitor::{remove, sweep, watchdog as passes};

use crate::harness::{PATIENCE, Server, TestHome, wait_for};
use crate::population;
use crate::timing::{Times, memory_mib, row, row_of_ratio, run};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A sweep that finds nothing due, against listing the directory.
pub fn sweep() {
    let mut medians = Vec::new();
    for (count, rounds) in [(10_000, 20), (100_000, 5)] {
        let home = TestHome::with_config("session_host = \"detached\"\n");
        let context = population::context(&home.root());
        population::add_routines(&home.root(), 20);
        population::add_retained(&home.root(), count);
        let (mut ours, mut listing) = (Times::default(), Times::default());
        for _ in 0..rounds {
            let report = ours.measure(|| sweep::sweep(&context, None, Instant::now() + HOUR, &mut |_| {}).unwrap());
            assert_eq!((report.kept.len() as u64, report.removed.len()), (count, 0));
            listing.measure(|| run(Command::new("ls").arg("-f").arg(context.home.workbenches())));
        }
        row_of_ratio(&format!("sweep over {count} retained workbenches, against `ls -f`"), &ours, &listing, "<= 2x");
        medians.push(ours.median());
        let most = memory_of_a_sweep(&home);
        row(&format!("most memory of a server that swept {count}"), "", "", &format!("{most:.1} MiB"), "< 64 MiB");
    }
    row("sweep, 100,000 against 10,000", "", "", &format!("{:.1}x", medians[1] / medians[0]), "linear: 10x");
    tmux_processes();
}

/// Starts a server, and returns its largest size when its sweep at the start is over.
fn memory_of_a_sweep(home: &TestHome) -> f64 {
    let lock = home.root().join("locks/janitor");
    let noted = || std::fs::metadata(&lock).and_then(|file| file.modified()).ok();
    let before = noted();
    let server = Server::start(home);
    wait_for(PATIENCE, "its sweep", || (noted() != before).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    memory_mib(server.pid(), "VmHWM").unwrap_or(f64::NAN)
}

/// Counts the tmux processes of a clean-up call, by a tmux that writes itself down.
fn tmux_processes() {
    let home = TestHome::with_config("session_host = \"tmux\"\n");
    population::context(&home.root());
    population::add_retained(&home.root(), 10_000);
    let count = home.scratch().join("count");
    let real = String::from_utf8(Command::new("which").arg("tmux").output().unwrap().stdout).unwrap();
    home.script("tmux", &format!("echo x >> '{}'; exec {} \"$@\"", count.display(), real.trim()));
    let mut command = home.command();
    command.env("PATH", home.path_with_scripts());
    let mut server = Server::start_with(command);
    server.ok("health", serde_json::json!({}));
    wait_for(PATIENCE, "the first passes", || {
        server.ok("health", serde_json::json!({}))["sweep"]["last"].is_string().then_some(())
    });
    let so_far = || std::fs::read_to_string(&count).unwrap_or_default().lines().count();
    let before = so_far();
    server.clean_up();
    let during = so_far() - before;
    row("tmux processes of that sweep, called for", &during.to_string(), "", &during.to_string(), "<= 1");
}

/// A pass over 20 live runs, with many workbenches and with none.
pub fn watchdog() {
    let (full, empty) = (TestHome::new(), TestHome::new());
    let workplaces = [&full, &empty].map(|home| population::context(&home.root()));
    population::add_retained(&full.root(), 10_000);
    let locks = [&workplaces[0], &workplaces[1]].map(|context| population::add_live(&context.home, 20));
    let mut times = [Times::default(), Times::default()];
    for _ in 0..200 {
        for (context, times) in workplaces.iter().zip(&mut times) {
            let report = times.measure(|| passes::pass(context, None).unwrap());
            assert_eq!(report, passes::WatchReport::default());
        }
    }
    row_of_ratio("watchdog pass over 20 live runs, 10,000 workbenches against none", &times[0], &times[1], "1x");
    drop(locks);
    for context in &workplaces {
        std::fs::remove_dir_all(context.home.running()).unwrap();
    }
}

/// A sweep that removes everything, against `rm -rf`. Both take turns in being filled and in being removed first, and
/// all is on the disk before anything is removed: what is not there yet is the cheapest to remove, and ext4 is slow to
/// create what it has just removed.
pub fn remove_expired() {
    let fill = |round: usize| {
        let home = TestHome::new();
        let context = population::context(&home.root());
        let baseline = home.scratch().join("baseline");
        let fill_ours = || population::add_expired(&home.root(), 1_000, 19);
        let fill_baseline = || population::add_directories(&baseline, 1_000, 19);
        in_order(round.is_multiple_of(2), fill_ours, fill_baseline);
        (home, context, baseline)
    };
    let filled: Vec<_> = (0..8).map(fill).collect();
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for (round, (home, context, baseline)) in filled.iter().enumerate() {
        run(Command::new("sync").arg("-f").arg(home.scratch()));
        let sweep = || {
            let report = ours.measure(|| sweep::sweep(context, None, Instant::now() + HOUR, &mut |_| {}).unwrap());
            assert_eq!(report.removed.len(), 1_000);
        };
        let rm = || theirs.measure(|| run(Command::new("rm").arg("-rf").arg(baseline)));
        in_order((round / 2).is_multiple_of(2), sweep, rm);
    }
    row_of_ratio("sweep that removes 20,000 files in 1,000 workbenches, against `rm -rf`", &ours, &theirs, "<= 1.1x");
}

/// Deleting one directory of a million files, against `rm -rf`.
pub fn flat() {
    let home = TestHome::new();
    let [ours, theirs] = ["ours", "theirs"].map(|name| home.scratch().join(name));
    for directory in [&ours, &theirs] {
        std::fs::create_dir(directory).unwrap();
        for file in 0..1_000_000 {
            std::fs::File::create(directory.join(file.to_string())).unwrap();
        }
    }
    run(Command::new("sync").arg("-f").arg(home.scratch()));
    let (mut our_time, mut their_time) = (Times::default(), Times::default());
    let removal = our_time.measure(|| remove::remove(home.scratch(), ours.file_name().unwrap(), &|| false));
    assert!(removal.finished && removal.failures.is_empty() && removal.removed_entries == 1_000_001, "{removal:?}");
    their_time.measure(|| run(Command::new("rm").arg("-rf").arg(&theirs)));
    row_of_ratio("removal of a flat directory of 1,000,000 files, against `rm -rf`", &our_time, &their_time, "");
}

fn in_order(forwards: bool, first: impl FnOnce(), second: impl FnOnce()) {
    if forwards {
        first();
        second();
    } else {
        second();
        first();
    }
}
