//! A run keeps its bound while everything around it goes: its routine, its home, its login shell, the disk.

use std::time::Instant;

use crate::harness::{PATIENCE, Scene, Server, TestHome, may_take_long, text, wait_for, wait_until};
use serde_json::json;

#[test]
fn with_its_home_gone_a_run_ends_at_its_bound_all_the_same() {
    let (home, mut server) = Scene::new().config("default_max_runtime_secs = 7200\n").start();
    let run = server.start_run("Homeless", "sleep 300 & exec sleep 301", json!({ "max_runtime_secs": 3600 }));
    let processes = ["supervisor", "agent"].map(|who| home.noted(&run, who));
    home.set_bound("homeless", 6);
    // Its supervisor reads it within a second, and is then on its own.
    let stamp: u64 = run.rsplit_once('-').unwrap().1.parse().unwrap();
    let age_secs = || moadim_mcp::clock::UnixSeconds::now().0 - stamp;
    wait_until("the bound to be read", || age_secs() >= 3);
    drop(server);
    assert!(processes[1].id.is_alive());
    std::fs::rename(home.root(), home.scratch().join("gone")).unwrap();
    wait_until("its end", || processes.iter().all(|process| !process.id.is_alive()));
    let left: Vec<_> = home.processes().into_iter().filter(|one| one.name == "sleep").collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!home.root().exists(), "a home that was taken away is not made again");
}

#[test]
fn with_its_routine_gone_a_run_ends_at_the_bound_it_had_with_and_without_its_supervisor() {
    let (home, mut server) = Scene::new().config("watchdog_interval_secs = 1\n").start();
    for supervised in [true, false] {
        let title = format!("Orphan {supervised}");
        let run = server.start_run(&title, "exec sleep 300", json!({ "max_runtime_secs": 4 }));
        if !supervised {
            home.noted(&run, "supervisor").kill();
        }
        let slug = run.rsplit_once('-').unwrap().0;
        std::fs::remove_dir_all(home.root().join("routines").join(slug)).unwrap();
        let seen = server.wait_for_run(&run, "timed_out");
        assert!(text(&seen["status_reason"]).contains("4 s allowed"), "{seen}");
    }
}

#[test]
fn the_bound_holds_while_a_login_shell_hangs_and_while_a_setup_runs() {
    let home = TestHome::detached("");
    home.add_agent("slow", "command = \"true\"\nlogin_shell = false\nsetup = [\"sleep\", \"300\"]\n");
    home.add_agent("hung", "command = \"true\"\nsetup = [\"true\"]\n");
    std::fs::write(home.user().join(".profile"), "sleep 300\n").unwrap();
    let mut server = Server::start(&home);
    for agent in ["slow", "hung"] {
        let arguments = json!({ "title": agent, "agent": agent, "prompt": "x", "max_runtime_secs": 3 });
        server.ok("create_routine", arguments);
        let began = Instant::now();
        let answer = server.call_tool("trigger_routine", json!({ "routine": agent }));
        let run = wait_for(PATIENCE, "its line in the history", || {
            home.whole_history().into_iter().find(|line| line["routine"] == agent)
        });
        assert_eq!(run["status"], "timed_out", "{run} {}", answer.text);
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        assert!(text(&run["reason"]).contains("3 s allowed"), "{run}");
    }
    // The shell that is asked for its PATH hangs as well, and nobody would end it this soon.
    drop(server);
    home.processes_named("sleep").iter().for_each(crate::harness::Seen::kill);
}

#[test]
fn an_id_that_the_history_has_is_never_used_again() {
    let (home, mut server) = Scene::new().start();
    let first = server.routine("Ids", "true").run_to("succeeded");
    let line = home.read("history.jsonl");
    // As if the clock had been ahead, and its runs were reaped since; also in a file that was closed.
    let stamp: u64 = first.rsplit_once('-').unwrap().1.parse().unwrap();
    let ahead = |secs: std::ops::Range<u64>| -> String {
        secs.map(|secs| line.replace(&*first, &format!("ids-{}", stamp + secs))).collect()
    };
    home.write("history.jsonl", &(line.clone() + &ahead(1..25)));
    home.write(format!("history.{stamp}.jsonl"), &ahead(25..40));
    let next = server.trigger("ids");
    let next_stamp: u64 = next.rsplit_once('-').unwrap().1.parse().unwrap();
    assert!(next_stamp >= stamp + 40, "{first} {next}");
    server.wait_for_run(&next, "succeeded");
}

/// Takes a minute, so it runs with `MOADIM_LONG_TESTS=1` only.
#[test]
fn a_run_whose_entry_was_removed_is_ended_and_recorded_a_minute_later() {
    if may_take_long() {
        let (home, mut server) = Scene::new().start();
        let run = server.start_run("Entry", "sleep 300 & exec sleep 301", json!({}));
        let supervisor = home.noted(&run, "supervisor");
        std::fs::remove_dir_all(home.entry(&run)).unwrap();
        wait_for(2 * PATIENCE, "the end of its supervisor", || (!supervisor.id.is_alive()).then_some(()));
        assert!(home.processes_named("sleep").is_empty());
        let outcome = home.outcome(&run).unwrap();
        assert_eq!((&outcome["status"], home.history(&run).len()), (&json!("interrupted"), 1), "{outcome}");
        assert!(!home.entry(&run).exists());
    }
}
