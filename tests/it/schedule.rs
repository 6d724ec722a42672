//! Routines fire by themselves: once for each occurrence, however many servers there are, and beside other runs as they say.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{
    HOUR, MINUTE, PATIENCE, Server, Stage, assert_has, at, may_take_long, routine_view, text, wait_for, wait_until,
};
use serde_json::{Value, json};

/// Some processes on one home, and occurrences one after the other: each fires once.
fn fires_each_once(servers: usize, routines: usize, rounds: u64) {
    let stage = Stage::new(&format!("max_concurrent_runs = {}", routines * 2));
    let slugs: Vec<String> = (0..routines).map(|n| format!("r{n}")).collect();
    slugs.iter().for_each(|slug| stage.routine(slug, ":", "schedule = \"* * * * *\""));
    let _servers: Vec<Server> = (0..servers).map(|_| stage.server()).collect();
    slugs.iter().for_each(|slug| stage.wait_until_followed(slug, "* * * * *"));
    for round in 1..=rounds {
        stage.set_clock(round * MINUTE);
        for slug in &slugs {
            stage.wait_for_ended(slug, usize::try_from(round).unwrap());
        }
    }
    for slug in &slugs {
        let fired: Vec<String> = stage.ended(slug).iter().map(|run| text(&run["origin"]["occurrence"])).collect();
        let expected: BTreeSet<String> = (1..=rounds).map(|round| at(round * MINUTE)).collect();
        assert_eq!(fired.iter().cloned().collect::<BTreeSet<_>>(), expected);
        assert_eq!(fired.len(), expected.len(), "each once");
        assert_eq!(stage.missed(slug), Vec::<Value>::new());
        assert_eq!(stage.alive(slug), Vec::<String>::new());
    }
}

#[test]
fn every_occurrence_fires_once_however_many_servers_are_open() {
    if may_take_long() {
        fires_each_once(8, 10, 20);
    } else {
        fires_each_once(4, 2, 10);
    }
}

#[test]
fn servers_that_are_killed_while_they_fire_lose_nothing_and_double_nothing() {
    let rounds = if may_take_long() { 60 } else { 8 };
    let stage = Stage::new("watchdog_interval_secs = 1");
    stage.routine("job", ":", "schedule = \"* * * * *\"\noverlap = \"allow\"");
    let mut servers: Vec<Server> = (0..3).map(|_| stage.server()).collect();
    stage.wait_until_followed("job", "* * * * *");
    for round in 1..=rounds {
        stage.set_clock(round * MINUTE);
        // Somewhere between its look at the clock and its launch, or before or after both.
        std::thread::sleep(Duration::from_millis(10 + 7 * (round % 10)));
        drop(servers.remove(0));
        servers.push(stage.server());
        wait_until("the occurrence to be dealt with", || {
            let dealt_with = stage.ledger("job")["fired_until"] == at(round * MINUTE);
            dealt_with && stage.alive("job").is_empty()
        });
    }
    let fired: Vec<String> = stage.ended("job").iter().map(|run| text(&run["origin"]["occurrence"])).collect();
    let expected: BTreeSet<String> = (1..=rounds).map(|round| at(round * MINUTE)).collect();
    assert_eq!(fired.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!((fired.len(), stage.missed("job").len()), (expected.len(), 0));
}

#[test]
fn overlap_skip_misses_the_occurrence_and_says_so() {
    let stage = Stage::new("");
    stage.routine("job", &stage.until_the_gate_opens(), "schedule = \"@hourly\"");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    let run = stage.wait_for_alive("job", 1).remove(0);
    stage.set_clock(2 * HOUR);
    let missed = stage.wait_for_missed("job", 1).remove(0);
    assert_has(&missed, json!({ "occurrence": at(2 * HOUR), "version": 1 }));
    assert!(text(&missed["reason"]).contains(&run), "{missed}");
    let reported = json!({ "at": at(2 * HOUR), "reason": missed["reason"] });
    wait_until("the list to tell", || routine_view(&mut server, "job")["last_missed"] == reported);
    stage.open_the_gate();
    stage.wait_for_ended("job", 1);
    stage.set_clock(3 * HOUR);
    assert_eq!(stage.wait_for_ended("job", 2)[1]["origin"], json!({ "by": "schedule", "occurrence": at(3 * HOUR) }));
    assert_eq!(stage.missed("job").len(), 1);
}

#[test]
fn overlap_queue_lets_one_wait_and_a_restart_does_not_lose_it() {
    let stage = Stage::new("");
    stage.routine("job", &stage.until_the_gate_opens(), "schedule = \"@hourly\"\noverlap = \"queue\"");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    let first = stage.wait_for_alive("job", 1).remove(0);
    // One whose server goes before it has begun never does.
    server.wait_for_run(&first, "running");
    stage.set_clock(2 * HOUR);
    wait_until("it to wait", || routine_view(&mut server, "job")["waiting"].is_string());
    stage.set_clock(3 * HOUR);
    let missed = stage.wait_for_missed("job", 1).remove(0);
    assert!(text(&missed["reason"]).contains("still waits"), "{missed}");
    drop(server);
    stage.open_the_gate();
    stage.wait_for_ended("job", 1);
    assert_eq!(stage.alive("job").len(), 0);
    let _server = stage.server();
    let ended = stage.wait_for_ended("job", 2);
    assert_eq!(ended[1]["origin"]["occurrence"], at(2 * HOUR), "the one that waited");
}

#[test]
fn overlap_replace_ends_the_old_run_first() {
    let stage = Stage::new("");
    stage.routine("job", "sleep 600", "schedule = \"@hourly\"\noverlap = \"replace\"");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    let old = stage.wait_for_alive("job", 1).remove(0);
    server.wait_for_run(&old, "running");
    stage.set_clock(2 * HOUR);
    let ended = wait_for(PATIENCE, "the old run to end", || stage.ended("job").pop());
    assert_has(&ended, json!({ "id": old, "status": "stopped" }));
    assert!(text(&ended["reason"]).contains("replaced"), "{ended}");
    let new = wait_for(PATIENCE, "the new run", || stage.alive("job").into_iter().find(|run| *run != old));
    assert_eq!(server.wait_for_run(&new, "running")["origin"]["occurrence"], at(2 * HOUR));
    server.stop(&new);
    assert_eq!(stage.missed("job").len(), 0);
}

#[test]
fn overlap_replace_spares_a_run_in_whose_place_none_can_start() {
    let stage = Stage::new("");
    stage.routine("job", "sleep 600", "schedule = \"@hourly\"\noverlap = \"replace\"");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    let run = stage.wait_for_alive("job", 1).remove(0);
    server.wait_for_run(&run, "running");
    std::fs::remove_file(stage.home.root().join("agents/quick.toml")).unwrap();
    stage.set_clock(2 * HOUR);
    let missed = stage.wait_for_missed("job", 1).remove(0);
    assert!(text(&missed["reason"]).contains("quick"), "{missed}");
    assert_eq!(server.run(&run)["status"], "running");
    server.stop(&run);
}

#[test]
fn overlap_allow_starts_another_beside_it() {
    let stage = Stage::new("");
    stage.routine("job", &stage.until_the_gate_opens(), "schedule = \"@hourly\"\noverlap = \"allow\"");
    let _server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    stage.wait_for_alive("job", 1);
    stage.set_clock(2 * HOUR);
    stage.wait_for_alive("job", 2);
    stage.open_the_gate();
    stage.wait_for_ended("job", 2);
}

#[test]
fn fires_over_the_limit_wait_their_turn_in_order() {
    let stage = Stage::new("max_concurrent_runs = 1");
    stage.routine("holder", &stage.until_the_gate_opens(), "");
    for (slug, minute) in [("c", 1), ("a", 2), ("b", 3)] {
        stage.routine(slug, ":", &format!("schedule = \"{minute} * * * *\""));
    }
    let mut server = stage.server();
    let run = server.trigger("holder");
    for (slug, minute) in [("c", 1), ("a", 2), ("b", 3)] {
        stage.wait_until_followed(slug, &format!("{minute} * * * *"));
        stage.set_clock(minute * MINUTE);
        wait_until("it to wait", || stage.ledger(slug)["waiting"].is_object());
    }
    let manual = server.ok("trigger_routine", json!({ "routine": "holder", "overlap": "allow" }));
    assert_eq!(stage.alive("holder").len(), 2, "who asks does not wait: {manual}");
    stage.open_the_gate();
    server.wait_for_run(&run, "succeeded");
    ["a", "b", "c"].iter().for_each(|slug| drop(stage.wait_for_ended(slug, 1)));
    let begun = |slug: &str| text(&stage.ended(slug)[0]["id"]);
    let history = std::fs::read_to_string(stage.home.root().join("history.jsonl")).unwrap();
    let place = |slug: &str| history.find(&begun(slug)).unwrap();
    assert!(place("c") < place("a") && place("a") < place("b"), "{history}");
}

#[test]
fn no_more_than_the_limit_are_at_work_however_many_servers_fire() {
    let stage = Stage::new("max_concurrent_runs = 2");
    let book = stage.home.scratch().join("book");
    let prompt = format!("echo \"$(date +%s%N) +\" >> {0}; sleep 0.3; echo \"$(date +%s%N) -\" >> {0}", book.display());
    let slugs: Vec<String> = (0..6).map(|n| format!("r{n}")).collect();
    slugs.iter().for_each(|slug| stage.routine(slug, &prompt, "schedule = \"@hourly\""));
    let _servers: Vec<Server> = (0..4).map(|_| stage.server()).collect();
    slugs.iter().for_each(|slug| stage.wait_until_followed(slug, "@hourly"));
    stage.set_clock(HOUR);
    slugs.iter().for_each(|slug| drop(stage.wait_for_ended(slug, 1)));
    let text = std::fs::read_to_string(book).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 12, "each once: {text}");
    let mut at_work = 0;
    for line in lines {
        at_work += if line.ends_with('+') { 1 } else { -1 };
        assert!(at_work <= 2, "{text}");
    }
}

#[test]
fn a_list_fires_at_each_of_its_times_and_where_they_meet_once() {
    let stage = Stage::new("");
    let list = json!(["0 * * * *", "*/30 * * * *", "@hourly"]);
    stage.routine("job", ":", &format!("schedule = {list}"));
    let mut server = stage.server();
    wait_until("the schedule to be followed", || stage.ledger("job")["schedule"]["schedule"] == list);
    for half in 1..=4 {
        stage.set_clock(half * 30 * MINUTE);
        stage.wait_for_ended("job", usize::try_from(half).unwrap());
    }
    let fired: Vec<Value> = stage.ended("job").iter().map(|run| run["origin"]["occurrence"].clone()).collect();
    assert_eq!(fired, [1, 2, 3, 4].map(|half| json!(at(half * 30 * MINUTE))));
    let view = routine_view(&mut server, "job");
    assert_eq!((&view["schedule"], view["next_fires"].as_array().unwrap().len()), (&list, 3));
}

#[test]
fn a_moment_fires_once_however_many_servers_there_are_and_whatever_the_clock_does() {
    let servers = if may_take_long() { 8 } else { 4 };
    let stage = Stage::new("");
    stage.routine("once", ":", "run_at = 2026-01-01T01:00:00 # no quotes");
    stage.routine("both", ":", "run_at = \"2026-01-01T01:30\"\nschedule = \"@hourly\"");
    stage.routine("past", ":", "run_at = \"2025-12-31T23:00:00Z\"");
    let mut servers: Vec<Server> = (0..servers).map(|_| stage.server()).collect();
    for slug in ["once", "both", "past"] {
        wait_until("it to be followed", || stage.ledger(slug)["schedule"]["run_at"].is_string());
    }
    assert_eq!(routine_view(&mut servers[0], "once")["run_at"], "2026-01-01T01:00:00");
    stage.set_clock(HOUR);
    ["once", "both"].iter().for_each(|slug| drop(stage.wait_for_ended(slug, 1)));
    stage.set_clock(HOUR + 30 * MINUTE);
    stage.wait_for_ended("both", 2);
    // Back by more than a ledger is trusted, and on again.
    stage.set_clock(100 * HOUR);
    stage.wait_for_ended("both", 3);
    stage.set_clock(0);
    wait_until("the clock to be believed", || stage.ledger("both")["fired_until"] == at(0));
    stage.set_clock(2 * HOUR);
    stage.wait_for_ended("both", 4);
    let of = |slug: &str, occurrence: u64| {
        stage.ended(slug).iter().filter(|run| run["origin"]["occurrence"] == at(occurrence)).count()
    };
    assert_eq!((of("once", HOUR), of("both", HOUR + 30 * MINUTE)), (1, 1));
    assert_eq!((stage.ended("once").len(), stage.missed("once").len(), stage.ended("past").len()), (1, 0, 0));
    assert!(routine_view(&mut servers[0], "once")["next_fires"].is_null());
}
