//! Many servers on one home, all at work at the same time, while the files of their locks are deleted under them.
//!
//! 3 seconds by default, 30 with `MOADIM_LONG_TESTS=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Scene, Server, TestHome, may_take_long, text, wait_until};
use moadim_mcp::home::lock::{FileLock, Mode};
use serde_json::{Value, json};

const SERVERS: u32 = 8;

/// So many runs are started at most: a busy machine is no reason to flood it.
const RUNS_A_SERVER: usize = 60;

fn duration() -> Duration {
    Duration::from_secs(if may_take_long() { 30 } else { 3 })
}

/// What the servers said, for the books to be checked against.
#[derive(Default)]
struct Books {
    /// Slugs that a call to create was answered with.
    created: Vec<String>,
    triggered: Vec<String>,
    /// Runs that a call to trigger said had not started: they were claimed, and are over.
    not_started: Vec<String>,
    /// The servers.
    pids: BTreeSet<String>,
    /// Runs that a clean-up said it had removed.
    removed: Vec<String>,
    /// The longest answer to each tool.
    longest: BTreeMap<&'static str, Duration>,
    /// The longest clean-up that only reported another one's sweep.
    longest_beside: Duration,
    beside: usize,
    /// Who swept then.
    sweeping: BTreeSet<String>,
    refused: BTreeMap<String, usize>,
}

/// One client: a mix of calls, the same for each, in an order of its own.
fn drive(home: &TestHome, number: u32, begin: &Barrier, books: &Mutex<Books>) {
    let mut server = Server::start(home);
    books.lock().unwrap().pids.insert(server.pid().to_string());
    begin.wait();
    let until = Instant::now() + duration();
    let mut runs = 0;
    for step in 0.. {
        if Instant::now() >= until {
            return;
        }
        let known_removed: BTreeSet<String> = books.lock().unwrap().removed.iter().cloned().collect();
        let (tool, arguments) = match (step + number) % 7 {
            // A title that all of them want, and one of its own.
            0 => ("create_routine", json!({ "title": format!("Shared {step}"), "agent": "quick", "prompt": "true" })),
            1 => {
                let title = format!("Own {number} {step}");
                ("create_routine", json!({ "title": title, "agent": "quick", "prompt": "exit 3", "ttl_secs": 1 }))
            }
            // Of one routine, no more runs than seconds can begin.
            2 if runs < RUNS_A_SERVER => ("trigger_routine", json!({ "routine": "first", "overlap": "allow" })),
            3 if runs < RUNS_A_SERVER => {
                ("trigger_routine", json!({ "routine": format!("own-{number}"), "overlap": "allow" }))
            }
            2 | 3 => ("list_routines", json!({ "limit": 200 })),
            4 => ("list_runs", json!({ "limit": 200 })),
            5 => ("list_routines", json!({ "limit": 200 })),
            _ => ("cleanup_workbenches", json!({})),
        };
        let began = Instant::now();
        let answer = server.call_tool(tool, arguments);
        let took = began.elapsed();
        let mut books = books.lock().unwrap();
        let longest = books.longest.entry(tool).or_default();
        *longest = (*longest).max(took);
        if answer.is_error {
            let kind = ["exists already", "is held by", "nothing was heard", "every second from"];
            let kind = kind.into_iter().find(|kind| answer.text.contains(kind));
            let named = answer.text.split_once("the run '").and_then(|(_, rest)| rest.split_once('\''));
            books.not_started.extend(named.map(|(run, _)| run.to_owned()));
            *books.refused.entry(kind.unwrap_or(&answer.text).to_owned()).or_default() += 1;
            continue;
        }
        match tool {
            "create_routine" => books.created.push(text(&answer.structured["routine"]["slug"])),
            "trigger_routine" => {
                books.triggered.push(text(&answer.structured["run"]["id"]));
                runs += 1;
            }
            "list_runs" => {
                for run in answer.structured["runs"].as_array().unwrap() {
                    let removed = known_removed.contains(run["id"].as_str().unwrap());
                    assert!(!removed || run["status"] == "reaped", "removed, and listed: {run}");
                }
            }
            "cleanup_workbenches" => {
                if let Some(note) = answer.structured["note"].as_str() {
                    let pid = note.strip_prefix("a sweep is under way in pid ").and_then(|rest| rest.split_once(','));
                    books.sweeping.insert(pid.unwrap_or_else(|| panic!("{note}")).0.to_owned());
                    books.longest_beside = books.longest_beside.max(took);
                    books.beside += 1;
                }
                for removed in answer.structured["removed"].as_array().unwrap() {
                    books.removed.push(text(&removed["run"]));
                }
            }
            _ => {}
        }
    }
}

#[track_caller]
fn without_doubles(all: &[String], what: &str) -> BTreeSet<String> {
    let set: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "{what} twice");
    set
}

/// Lists all of something, page by page.
fn all_of(server: &mut Server, tool: &str, list: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut arguments = json!({ "limit": 200 });
        if cursor.is_string() {
            arguments["cursor"] = cursor;
        }
        let page = server.ok(tool, arguments);
        all.extend(page[list].as_array().unwrap().iter().cloned());
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return all;
        }
    }
}

#[test]
fn many_servers_on_one_home_lose_and_double_nothing() {
    let (home, mut first) = Scene::new()
        .config("watchdog_interval_secs = 1\ncleanup_interval_secs = 1\n")
        .agent("quick", "login_shell = false")
        .start();
    first.ok("create_routine", json!({ "title": "First", "agent": "quick", "prompt": "exit 3", "ttl_secs": 1 }));
    for number in 0..SERVERS {
        let title = format!("Own {number}");
        first.ok("create_routine", json!({ "title": title, "agent": "quick", "prompt": "exit 3", "ttl_secs": 1 }));
    }
    let books = Mutex::new(Books::default());
    let begin = Barrier::new(SERVERS as usize + 1);
    std::thread::scope(|scope| {
        for number in 0..SERVERS {
            let (home, begin, books) = (&home, &begin, &books);
            scope.spawn(move || drive(home, number, begin, books));
        }
        // The locks of the home, not those of the runs: an entry's files are nobody's to delete.
        let (home, begin) = (&home, &begin);
        scope.spawn(move || {
            begin.wait();
            let until = Instant::now() + duration();
            for step in 0.. {
                if Instant::now() >= until {
                    return;
                }
                let name = ["janitor", "routines", "history", "probe", "session"][step % 5];
                let _ = std::fs::remove_file(home.root().join("locks").join(name));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    });
    let books = books.into_inner().unwrap();
    eprintln!(
        "{} routines, {} runs, {} removed, {} clean-ups beside another's sweep (longest {:?}); refused: {:?}; longest: {:?}",
        books.created.len(),
        books.triggered.len(),
        books.removed.len(),
        books.beside,
        books.longest_beside,
        books.refused,
        books.longest
    );
    let created = without_doubles(&books.created, "a slug was given");
    let listed = all_of(&mut first, "list_routines", "routines");
    let listed: Vec<String> = listed.iter().map(|routine| text(&routine["slug"])).collect();
    let listed = without_doubles(&listed, "a routine is listed");
    assert!(created.is_subset(&listed), "lost: {:?}", created.difference(&listed));
    assert!(!books.triggered.is_empty() && !books.created.is_empty());

    wait_until("the last runs to end", || {
        first.clean_up();
        let left = std::fs::read_dir(home.root().join("running")).unwrap();
        // What is staged belongs to a server that was killed at the end.
        let left = left.filter(|file| !file.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
        left.count() == 0
    });
    let triggered = without_doubles(&books.triggered, "a run was started");
    let removed = without_doubles(&books.removed, "a run was removed");
    let started: BTreeSet<String> = triggered.iter().chain(&books.not_started).cloned().collect();
    assert!(removed.is_subset(&started), "removed, and never started: {:?}", removed.difference(&started));
    let history = home.read("history.jsonl");
    let lines: Vec<String> =
        history.lines().map(|line| text(&serde_json::from_str::<Value>(line).expect("a whole line")["id"])).collect();
    let ended = without_doubles(&lines, "a run is in the history");
    assert!(triggered.is_subset(&ended), "not in the history: {:?}", triggered.difference(&ended));
    for run in all_of(&mut first, "list_runs", "runs") {
        assert!(!removed.contains(&text(&run["id"])) || run["status"] == "reaped", "removed, and listed: {run}");
    }
    for run in &removed {
        assert!(!home.workbench(run).exists(), "removed, and there: {run}");
    }
    // A lock's file that was just deleted tells nothing of its holder.
    let sweeping = |pid: &String| pid == "unknown" || books.pids.contains(pid) || *pid == first.pid().to_string();
    assert!(books.sweeping.iter().all(sweeping), "{:?}", books.sweeping);
}

#[test]
fn no_call_waits_for_another_process_that_sweeps() {
    let (home, mut server) = Scene::new().agent("quick", "login_shell = false").start_swept();
    server.ok("create_routine", json!({ "title": "First", "agent": "quick", "prompt": "true" }));
    let run = server.run_to("first", "succeeded");
    let calls = [
        ("cleanup_workbenches", json!({})),
        ("cleanup_workbenches", json!({ "dry_run": true })),
        ("list_runs", json!({})),
        ("health", json!({})),
        ("trigger_routine", json!({ "routine": "first" })),
    ];
    let timed = |server: &mut Server, tool, arguments: &Value| {
        let began = Instant::now();
        let timed = (server.ok(tool, arguments.clone()), began.elapsed());
        // Its run is over, so that the next trigger is not refused.
        wait_until("the end of its runs", || is_idle(&home));
        timed
    };
    let alone = calls.clone().map(|(tool, arguments)| timed(&mut server, tool, &arguments).1);
    let mut sweeping = FileLock::acquire(&home.root().join("locks/janitor"), Mode::Exclusive, PATIENCE).unwrap();
    sweeping.set_content(&json!({ "pid": 4_000_000 }).to_string()).unwrap();
    for ((tool, arguments), alone) in calls.into_iter().zip(alone) {
        // The shortest of three, for the machine may be busier now.
        let three = [(); 3].map(|()| timed(&mut server, tool, &arguments));
        let (answer, took) = three.into_iter().min_by_key(|(_, took)| *took).unwrap();
        // It waits for a second at most; the rest is what it takes anyway.
        let limit = Duration::from_secs(1) + alone * 3 + Duration::from_millis(500);
        assert!(took < limit, "{tool} {arguments} took {took:?}, and {alone:?} alone");
        if tool == "cleanup_workbenches" && arguments == json!({}) {
            assert!(text(&answer["note"]).contains("a sweep is under way in pid 4000000"), "{answer}");
            let kept = answer["kept"].as_array().unwrap();
            assert!(kept.iter().any(|one| one["run"] == run), "what it knows all the same: {answer}");
        }
    }
}

fn is_idle(home: &TestHome) -> bool {
    std::fs::read_dir(home.root().join("running")).unwrap().count() == 0
}
