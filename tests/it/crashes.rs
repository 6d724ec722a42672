//! Whoever is killed at whatever moment: the home loads, every run ends once, nothing half-written is believed, and nothing
//! temporary stays.
//!
//! 10 rounds by default, 200 with `MOADIM_LONG_TESTS=1`. The seed is printed; `MOADIM_SEED` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::harness::{Scene, Server, TestHome, may_take_long, text, tmux_is_there, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A sequence of numbers that its seed tells (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Waits for a moment that may be any: mostly short, for that is when things happen.
    fn moment(&mut self) {
        let longest = [2_000, 20_000, 150_000, 500_000][usize::try_from(self.below(4)).unwrap()];
        std::thread::sleep(Duration::from_micros(self.below(longest)));
    }
}

const ROUTINES: [(&str, &str); 4] = [
    ("Quick", "echo quick"),
    ("Failing", "echo failing; exit 3"),
    ("Leaving", "sleep 300 & echo left one behind"),
    ("Long", "sleep 0.3; echo over; mkdir -p d/e/f; touch d/e/f/g h i j"),
];

#[test]
fn killing_anybody_at_any_moment_loses_and_doubles_nothing() {
    let seed = std::env::var("MOADIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1);
    let long = may_take_long();
    let rounds = if long { 200 } else { 10 };
    eprintln!("seed: {seed}; MOADIM_SEED={seed} repeats the choices, though not the moments");
    let mut dice = Dice(seed | 1);
    let host = if tmux_is_there() { "tmux" } else { "detached" };
    let home = TestHome::with_config(&format!("session_host = \"{host}\"\nkill_grace_secs = 1\n"));
    home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    let mut server = Server::start(&home);
    for (title, prompt) in ROUTINES {
        let more = json!({ "title": title, "agent": "quick", "prompt": prompt, "ttl_secs": 1, "max_runtime_secs": 2 });
        server.ok("create_routine", more);
    }
    drop(server);

    let mut hit: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..rounds {
        let mut server = Server::start(&home);
        for _ in 0..1 + dice.below(2) {
            let routine = ROUTINES[usize::try_from(dice.below(4)).unwrap()].0.to_lowercase();
            let call = server.send_call("trigger_routine", json!({ "routine": routine, "overlap": "allow" }));
            if dice.below(2) == 0 {
                server.tool_answer(call);
            }
        }
        let victim = dice.below(6);
        let mut judging = None;
        dice.moment();
        match victim {
            0 => {}
            1 => *hit.entry("supervisor").or_default() += kill_one(&home, "supervise"),
            2 => *hit.entry("tmux").or_default() += kill_one(&home, "tmux"),
            // A judge: the runs that were left behind so far are recorded and removed by it.
            3 => {
                *hit.entry("supervisor").or_default() += kill_one(&home, "supervise");
                judging = Some(server.send_call("cleanup_workbenches", json!({})));
                dice.moment();
            }
            4 => {
                judging = Some(server.send_call("cleanup_workbenches", json!({})));
                dice.moment();
            }
            _ => {
                server.send_call(
                    "create_routine",
                    json!({ "title": format!("R{round}"), "agent": "quick", "prompt": "x" }),
                );
                dice.moment();
            }
        }
        server.signal(Signal::KILL);
        server.wait();
        *hit.entry("server").or_default() += 1;
        // Killed at work if it had not answered.
        *hit.entry("judge").or_default() += usize::from(judging.is_some_and(|call| !server.has_answer(call)));
        believe(&home);
    }
    settle(&home);
    eprintln!("killed: {hit:?}");
    let wanted = ["server", "supervisor", "judge", "tmux"];
    for who in wanted.iter().filter(|who| **who != "tmux" || host == "tmux") {
        assert!(!long || hit.get(who).is_some_and(|count| *count > 0), "no {who} was ever killed: {hit:?}");
    }
}

/// Kills one of the home's processes whose command line has this word; returns how many that were.
fn kill_one(home: &TestHome, word: &str) -> usize {
    let found = home.processes();
    let found = found.iter().find(|process| process.command.split([' ', '/']).any(|part| part == word));
    found.into_iter().inspect(|process| process.kill()).count()
}

/// Makes sure that whatever has a final name is whole.
fn believe(home: &TestHome) {
    for directory in ["running", "workbenches", "routines"] {
        for entry in fs::read_dir(home.root().join(directory)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let names = fs::read_dir(entry.path()).map(|files| files.map(|file| file.unwrap().path()).collect());
            let names: Vec<PathBuf> = names.unwrap_or_default();
            for path in names.iter().filter(|path| !is_temporary(path)) {
                let Ok(bytes) = fs::read(path) else { continue };
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => {
                        serde_json::from_slice::<Value>(&bytes)
                            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    }
                    Some("toml") => {
                        assert!(bytes.ends_with(b"\n") && bytes.starts_with(b"title"), "{}", path.display())
                    }
                    _ => {}
                }
            }
            if directory == "running" {
                assert!(
                    entry.path().join("run.json").exists() || !entry.path().exists(),
                    "an entry without a manifest"
                );
            }
            if directory == "routines" {
                assert!(entry.path().join("prompt.md").exists(), "half a routine");
            }
        }
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with('.')
}

/// Lists all hidden files and directories that our own program could have made anywhere in the home. The supervisors of
/// the last round may be at work.
fn hidden(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        entries => entries.unwrap(),
    };
    for entry in entries.flatten() {
        if entry.file_name() == ".gitignore" {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            hidden(&entry.path(), found);
        }
    }
}

/// With a new server, everything comes to its end: once.
fn settle(home: &TestHome) {
    // Time is injected: what was left over counts as old.
    let mut left = Vec::new();
    hidden(&home.root(), &mut left);
    for path in &left {
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            file => file.unwrap().set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap(),
        }
    }
    let mut everything: BTreeSet<String> = BTreeSet::new();
    for directory in ["running", "workbenches"] {
        let names = fs::read_dir(home.root().join(directory)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        everything.extend(names.filter(|name| !name.starts_with('.')));
    }
    let mut server = Server::start(home);
    wait_until("every run to end", || {
        server.clean_up();
        // Only a trigger that was killed just now is staged still.
        let mut left = fs::read_dir(home.root().join("running")).unwrap();
        left.next().is_none()
    });
    // A server's first sweep does both, some time after its start.
    wait_until("the trash to be emptied and temporary files to go", || {
        let mut left = Vec::new();
        hidden(&home.root(), &mut left);
        if left.is_empty() && fs::read_dir(home.root().join("trash")).unwrap().next().is_none() {
            return true;
        }
        eprintln!("left so far: {left:?}");
        server = Server::start_swept(home);
        false
    });
    let history = home.read("history.jsonl");
    let lines: Vec<String> =
        history.lines().map(|line| text(&serde_json::from_str::<Value>(line).expect("a whole line")["id"])).collect();
    let ended: BTreeSet<String> = lines.iter().cloned().collect();
    assert_eq!(ended.len(), lines.len(), "a run is in the history twice");
    assert!(everything.is_subset(&ended), "not in the history: {:?}", everything.difference(&ended));
    let listed = server.ok("list_runs", json!({ "limit": 200 }));
    for run in listed["runs"].as_array().unwrap() {
        if run["status"] == "reaped" {
            continue;
        }
        let outcome = home.outcome(run["id"].as_str().unwrap()).expect("an outcome");
        assert_eq!(outcome["status"], run["status"], "{run}");
        let line = &home.history(run["id"].as_str().unwrap())[0];
        for (key, value) in outcome.as_object().unwrap() {
            assert_eq!(&line[key], value, "the history tells the same: {key}");
        }
    }
    eprintln!("{} runs ended: {}", ended.len(), statuses(&history));
    assert_eq!(server.problems(), Vec::<Value>::new());
    server.run_to("quick", "succeeded");
}

fn statuses(history: &str) -> String {
    let mut counts = BTreeMap::new();
    for line in history.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        *counts.entry(line["status"].to_string()).or_insert(0) += 1;
    }
    format!("{counts:?}")
}

#[test]
fn a_removal_that_was_killed_is_finished_by_the_next_start() {
    const FILES: usize = 1_000;
    let (home, mut server) = Scene::new().agent("quick", "login_shell = false").start();
    server.ok("create_routine", json!({ "title": "Full", "agent": "quick", "prompt": "true", "ttl_secs": 1 }));
    for round in 0..3_u64 {
        let run = server.run_to("full", "succeeded");
        for directory in 0..20 {
            let directory = home.workbench(&run).join(format!("d{directory}"));
            fs::create_dir(&directory).unwrap();
            (0..FILES / 20).for_each(|n| drop(File::create(directory.join(n.to_string())).unwrap()));
        }
        wait_until("it to be due", || {
            let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
            foreseen["removed"].as_array().unwrap().iter().any(|one| one["run"] == run)
        });
        server.send_call("cleanup_workbenches", json!({}));
        let in_trash = || fs::read_dir(home.root().join("trash")).unwrap().flatten().next().map(|entry| entry.path());
        if round > 0 {
            wait_until("the rename", || !home.workbench(&run).exists());
        }
        std::thread::sleep(Duration::from_millis(round * 10));
        server.signal(Signal::KILL);
        server.wait();
        if home.workbench(&run).exists() {
            let count: usize =
                (0..20).map(|n| fs::read_dir(home.workbench(&run).join(format!("d{n}"))).unwrap().count()).sum();
            assert_eq!(count, FILES, "under its own name it is whole");
            assert!(home.outcome(&run).is_some());
        }
        eprintln!("round {round}: killed with {:?} in the trash", in_trash().map(|path| path.display().to_string()));
        server = Server::start(&home);
        wait_until("the next start to finish it", || !home.workbench(&run).exists() && in_trash().is_none());
        assert_eq!(home.history(&run).len(), 1);
    }
}
