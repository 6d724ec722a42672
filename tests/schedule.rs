//! Routines fire by themselves: once for each occurrence, whoever is there, and as their fields say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod harness;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use harness::{PATIENCE, Server, TestHome, text, wait_for};
use moadim_mcp::clock::UnixSeconds;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z, from which these tests count.
const START: u64 = 1_767_225_600;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

fn at(secs: u64) -> String {
    UnixSeconds(START + secs).to_string()
}

/// A home whose scheduler has a clock that the test moves.
struct Stage {
    home: TestHome,
    clock: PathBuf,
}

impl Stage {
    fn new(settings: &str) -> Self {
        let home = TestHome::detached(settings);
        home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
        let clock = home.scratch().join("clock");
        let stage = Self { home, clock };
        stage.set_clock(0);
        stage
    }

    fn set_clock(&self, secs: u64) {
        let staged = self.clock.with_extension("new");
        std::fs::write(&staged, (START + secs).to_string()).unwrap();
        std::fs::rename(staged, &self.clock).unwrap();
    }

    fn server(&self) -> Server {
        let mut command = self.home.command();
        command.env("MOADIM_TEST_CLOCK", &self.clock);
        Server::start_with(command)
    }

    /// Writes a routine by hand; `fields` are further lines of its file.
    fn routine(&self, slug: &str, prompt: &str, fields: &str) {
        let made = at(0);
        let head = format!(
            "title = \"{slug}\"\nagent = \"quick\"\ncreated_at = \"{made}\"\nupdated_at = \"{made}\"\ntimezone = \"UTC\"\n"
        );
        self.home.write(format!("routines/{slug}/prompt.md"), prompt);
        self.home.write(format!("routines/{slug}/routine.toml"), &format!("{head}{fields}\n"));
    }

    fn ledger(&self, slug: &str) -> Value {
        self.home.json(format!("routines/{slug}/ledger.json")).unwrap_or_default()
    }

    /// Waits until the scheduler follows a routine's schedule.
    fn wait_until_followed(&self, slug: &str, schedule: &str) {
        wait_for(PATIENCE, "the schedule to be followed", || {
            (self.ledger(slug)["schedule"]["schedule"] == schedule).then_some(())
        });
    }

    /// Returns the lines of the history that are about a routine.
    fn history(&self, slug: &str) -> Vec<Value> {
        let lines = std::fs::read_to_string(self.home.root().join("history.jsonl")).unwrap_or_default();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of the history"));
        let of_routine = |line: &Value| match line["id"].as_str() {
            Some(run) => run.rsplit_once('-').unwrap().0 == slug,
            None => line["routine"] == slug,
        };
        lines.filter(of_routine).collect()
    }

    /// Returns the runs of a routine that have ended.
    fn ended(&self, slug: &str) -> Vec<Value> {
        self.history(slug).into_iter().filter(|line| line["id"].is_string()).collect()
    }

    fn missed(&self, slug: &str) -> Vec<Value> {
        self.history(slug).into_iter().filter(|line| line["kind"] == "missed").collect()
    }

    /// Waits until so many runs of a routine have ended, and none is alive.
    fn wait_for_ended(&self, slug: &str, count: usize) -> Vec<Value> {
        wait_for(PATIENCE, &format!("{count} runs of {slug} to end"), || {
            let ended = self.ended(slug);
            (ended.len() >= count && self.alive(slug).is_empty()).then_some(ended)
        })
    }

    fn wait_for_missed(&self, slug: &str, count: usize) -> Vec<Value> {
        wait_for(PATIENCE, &format!("{count} misses of {slug}"), || {
            let missed = self.missed(slug);
            (missed.len() >= count).then_some(missed)
        })
    }

    /// Returns the unfinished runs of a routine.
    fn alive(&self, slug: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.home.root().join("running")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.rsplit_once('-').is_some_and(|(of, _)| of == slug)).collect()
    }

    fn wait_for_alive(&self, slug: &str, count: usize) -> Vec<String> {
        wait_for(PATIENCE, &format!("{count} runs of {slug} to be alive"), || {
            let alive = self.alive(slug);
            (alive.len() == count).then_some(alive)
        })
    }

    fn open_the_gate(&self) {
        std::fs::write(self.home.scratch().join("gate"), "").unwrap();
    }

    /// Returns a prompt that ends once the gate is open.
    fn until_the_gate_opens(&self) -> String {
        format!("while [ ! -e {}/gate ]; do sleep 0.05; done", self.home.scratch().display())
    }
}

fn view(server: &mut Server, slug: &str) -> Value {
    server.ok("list_routines", json!({ "query": slug }))["routines"][0].clone()
}

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
    if std::env::var_os("MOADIM_LONG_TESTS").is_some_and(|value| value == "1") {
        fires_each_once(8, 10, 20);
    } else {
        fires_each_once(4, 2, 10);
    }
}

#[test]
fn servers_that_are_killed_while_they_fire_lose_nothing_and_double_nothing() {
    let rounds = if std::env::var_os("MOADIM_LONG_TESTS").is_some_and(|value| value == "1") { 60 } else { 8 };
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
        wait_for(PATIENCE, "the occurrence to be dealt with", || {
            let dealt_with = stage.ledger("job")["fired_until"] == at(round * MINUTE);
            (dealt_with && stage.alive("job").is_empty()).then_some(())
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
    assert_eq!((&missed["occurrence"], &missed["version"]), (&json!(at(2 * HOUR)), &json!(1)));
    assert!(text(&missed["reason"]).contains(&run), "{missed}");
    let told = json!({ "at": at(2 * HOUR), "reason": missed["reason"] });
    wait_for(PATIENCE, "the list to tell", || (view(&mut server, "job")["last_missed"] == told).then_some(()));
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
    stage.wait_for_alive("job", 1);
    stage.set_clock(2 * HOUR);
    wait_for(PATIENCE, "it to wait", || view(&mut server, "job")["waiting"].is_string().then_some(()));
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
    assert_eq!((&ended["id"], &ended["status"]), (&json!(old), &json!("stopped")));
    assert!(text(&ended["reason"]).contains("replaced"), "{ended}");
    let new = wait_for(PATIENCE, "the new run", || stage.alive("job").into_iter().find(|run| *run != old));
    assert_eq!(server.wait_for_run(&new, "running")["origin"]["occurrence"], at(2 * HOUR));
    server.stop(&new);
    assert_eq!(stage.missed("job").len(), 0);
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
        wait_for(PATIENCE, "it to wait", || stage.ledger(slug)["waiting"].is_object().then_some(()));
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

/// Returns how it went for an hourly routine that nobody fired for some hours: the occurrences fired, and those missed.
fn after_a_gap(fields: &str, settings: &str) -> (Vec<String>, Vec<Value>) {
    let stage = Stage::new(settings);
    stage.routine("job", ":", &format!("schedule = \"@hourly\"\n{fields}"));
    let server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    drop(server);
    stage.set_clock(5 * HOUR + 30 * MINUTE);
    let _server = stage.server();
    wait_for(PATIENCE, "the gap to be dealt with", || {
        (stage.ledger("job")["fired_until"] == at(5 * HOUR) && stage.alive("job").is_empty()).then_some(())
    });
    stage.set_clock(6 * HOUR);
    wait_for(PATIENCE, "the next fire", || {
        stage.ended("job").iter().any(|run| run["origin"]["occurrence"] == at(6 * HOUR)).then_some(())
    });
    (stage.ended("job").iter().map(|run| text(&run["origin"]["occurrence"])).collect(), stage.missed("job"))
}

#[test]
fn what_nobody_fired_is_made_up_for_once_and_told_in_the_history() {
    let (fired, missed) = after_a_gap("", "");
    assert_eq!(fired, [at(5 * HOUR), at(6 * HOUR)]);
    let told: Vec<String> = missed.iter().map(|line| text(&line["occurrence"])).collect();
    assert_eq!(told, [at(HOUR), at(2 * HOUR), at(3 * HOUR), at(4 * HOUR)]);
}

#[test]
fn without_catching_up_all_are_missed() {
    let (fired, missed) = after_a_gap("catch_up = \"none\"", "");
    assert_eq!((fired, missed.len()), (vec![at(6 * HOUR)], 5));
    let (fired, missed) = after_a_gap("", "catch_up_window_secs = 600");
    assert_eq!((fired, missed.len()), (vec![at(6 * HOUR)], 5));
    assert!(text(&missed[4]["reason"]).contains("catch_up_window_secs = 600"));
}

#[test]
fn a_snoozed_routine_is_left_alone_until_then() {
    let stage = Stage::new("");
    stage.routine("job", ":", "schedule = \"@hourly\"");
    stage.routine("quiet", ":", "");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    let until = UnixSeconds::now().plus_secs(HOUR).to_string();
    let snoozed = server.ok("snooze_routine", json!({ "routine": "job", "until": until }));
    assert_eq!(snoozed["snoozed_until"], until, "{snoozed}");
    stage.set_clock(HOUR);
    assert_eq!(stage.wait_for_missed("job", 1)[0]["reason"], format!("snoozed until {until}"));
    server.ok("snooze_routine", json!({ "routine": "job", "skip_next": true }));
    stage.set_clock(2 * HOUR);
    assert_eq!(stage.wait_for_missed("job", 2)[1]["reason"], "skipped once, as asked");
    stage.set_clock(3 * HOUR);
    stage.wait_for_ended("job", 1);
    server.ok("snooze_routine", json!({ "routine": "job", "skip_next": true }));
    let cleared = server.ok("snooze_routine", json!({ "routine": "job" }));
    assert_eq!(cleared["next_fires"].as_array().unwrap().len(), 3);
    stage.set_clock(4 * HOUR);
    stage.wait_for_ended("job", 2);
    assert_eq!(stage.missed("job").len(), 2);
    let past = json!({ "routine": "job", "until": "2020-01-01T00:00:00Z" });
    assert!(server.error("snooze_routine", past).contains("`until`"));
    assert!(server.error("snooze_routine", json!({ "routine": "quiet" })).contains("no schedule"));
}

#[test]
fn failures_in_a_row_disable_a_routine_and_enabling_it_begins_anew() {
    let stage = Stage::new("");
    stage.routine("job", "exit 3", "schedule = \"@hourly\"\nmax_consecutive_failures = 2 # enough");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    for hour in [1, 2] {
        stage.set_clock(hour * HOUR);
        stage.wait_for_ended("job", hour.try_into().unwrap());
    }
    let file = stage.home.root().join("routines/job/routine.toml");
    let shown = wait_for(PATIENCE, "it to be disabled", || {
        let shown = view(&mut server, "job");
        (shown["enabled"] == false && shown["disabled_because"].is_string()).then_some(shown)
    });
    assert!(text(&shown["disabled_because"]).contains("2 runs in a row"), "{shown}");
    assert!(shown["next_fires"].is_null() && shown["schedule"] == "@hourly", "{shown}");
    let disabled = std::fs::read_to_string(&file).unwrap();
    assert!(disabled.contains("max_consecutive_failures = 2 # enough"), "{disabled}");
    let refused = server.error("trigger_routine", json!({ "routine": "job" }));
    assert!(refused.contains("disabled") && refused.contains("2 runs in a row"), "{refused}");
    wait_for(PATIENCE, "its schedule to rest", || stage.ledger("job")["schedule"].is_null().then_some(()));
    stage.set_clock(5 * HOUR);
    std::fs::write(&file, disabled.replace("enabled = false", "enabled = true")).unwrap();
    stage.wait_until_followed("job", "@hourly");
    let enabled = view(&mut server, "job");
    assert!(enabled["disabled_because"].is_null(), "{enabled}");
    assert_eq!(enabled["next_fires"].as_array().unwrap().len(), 3);
    assert!(text(&enabled["schedule_description"]).contains("(UTC)"));
    stage.set_clock(6 * HOUR);
    assert_eq!(stage.wait_for_ended("job", 3)[2]["origin"]["occurrence"], at(6 * HOUR));
    wait_for(PATIENCE, "its failure to be counted", || {
        (stage.ledger("job")["consecutive_failures"] == 1).then_some(())
    });
    assert_eq!(view(&mut server, "job")["enabled"], true);
    assert_eq!(stage.missed("job").len(), 0, "the time while it was disabled counts for nothing");
}

#[test]
fn a_failed_run_is_tried_again_as_often_as_it_says() {
    let stage = Stage::new("");
    stage.routine("job", "exit 3", "[retry]\nmax_attempts = 3\nbackoff_secs = 0");
    let mut server = Server::start(&stage.home);
    let first = server.trigger("job");
    let ended = stage.wait_for_ended("job", 3);
    assert_eq!(ended[0]["origin"], json!({ "by": "call" }));
    assert_eq!(ended[1]["origin"], json!({ "by": "retry", "of": first, "attempt": 2 }));
    assert_eq!(ended[2]["origin"], json!({ "by": "retry", "of": first, "attempt": 3 }));
    wait_for(PATIENCE, "the last to be counted", || {
        (stage.ledger("job")["counted"].as_array()?.len() == 3).then_some(())
    });
    assert!(stage.ledger("job")["waiting"].is_null());
    assert_eq!(server.run(&text(&ended[2]["id"]))["origin"]["attempt"], 3);
}

#[test]
fn an_edit_by_hand_needs_no_restart() {
    let stage = Stage::new("");
    stage.routine("job", ":", "");
    let mut server = stage.server();
    stage.set_clock(10 * MINUTE);
    stage.routine("job", ":", "schedule = \"30 * * * *\"");
    stage.wait_until_followed("job", "30 * * * *");
    stage.set_clock(30 * MINUTE);
    stage.wait_for_ended("job", 1);
    stage.routine("job", ":", "schedule = \"0 0 30 2 *\"");
    let told = wait_for(PATIENCE, "the mistake to be told", || server.problems().into_iter().next());
    assert!(text(&told["path"]).ends_with("routines/job/routine.toml"), "{told}");
    assert!(text(&told["problem"]).contains("`schedule` is '0 0 30 2 *'"), "{told}");
    stage.routine("job", ":", "schedule = \"40 * * * *\"");
    stage.wait_until_followed("job", "40 * * * *");
    stage.set_clock(40 * MINUTE);
    stage.wait_for_ended("job", 2);
    assert_eq!(stage.missed("job").len(), 0);
}

#[test]
fn a_damaged_ledger_fires_nothing_and_is_told() {
    let stage = Stage::new("");
    stage.routine("job", ":", "schedule = \"@hourly\"");
    stage.routine("other", ":", "schedule = \"@hourly\"");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.wait_until_followed("other", "@hourly");
    let good = stage.ledger("job").to_string();
    stage.home.write("routines/job/ledger.json", "{");
    let told = wait_for(PATIENCE, "the damage to be told", || server.problems().into_iter().next());
    assert!(text(&told["problem"]).contains("ledger.json is damaged"), "{told}");
    assert!(text(&view(&mut server, "job")["schedule_problem"]).contains("ledger.json is damaged"));
    stage.set_clock(HOUR);
    stage.wait_for_ended("other", 1);
    assert_eq!(stage.history("job").len(), 0);
    stage.home.write("routines/job/ledger.json", &good);
    stage.wait_for_ended("job", 1);
}

#[test]
fn a_ledger_that_was_not_written_after_a_claim_fires_nothing_twice() {
    let stage = Stage::new("");
    stage.routine("job", ":", "schedule = \"@hourly\"");
    let server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    let before = stage.ledger("job");
    stage.set_clock(HOUR);
    stage.wait_for_ended("job", 1);
    drop(server);
    stage.home.write("routines/job/ledger.json", &before.to_string());
    let _server = stage.server();
    wait_for(PATIENCE, "it to be dealt with", || (stage.ledger("job")["fired_until"] == at(HOUR)).then_some(()));
    stage.set_clock(2 * HOUR);
    stage.wait_for_ended("job", 2);
    assert_eq!((stage.ended("job").len(), stage.missed("job").len()), (2, 0));
}

#[test]
fn what_cannot_start_is_missed_with_the_reason() {
    let stage = Stage::new("");
    stage.routine("job", ":", "schedule = \"@hourly\"");
    let _server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    std::fs::remove_file(stage.home.root().join("agents/quick.toml")).unwrap();
    stage.set_clock(HOUR);
    let missed = stage.wait_for_missed("job", 1).remove(0);
    assert!(text(&missed["reason"]).contains("quick"), "{missed}");
}

/// A janitor without a server; killed if a test fails.
struct Janitor(Child);

impl Drop for Janitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_janitor_without_a_host_fires_too_and_goes_when_told() {
    let stage = Stage::new("");
    stage.routine("job", ":", "schedule = \"@hourly\"");
    let mut command = stage.home.command();
    command.arg("janitor").env("MOADIM_TEST_CLOCK", &stage.clock);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut janitor = Janitor(command.spawn().unwrap());
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    stage.wait_for_ended("job", 1);
    kill_process(Pid::from_child(&janitor.0), Signal::TERM).unwrap();
    let status = wait_for(Duration::from_secs(10), "the janitor to go", || janitor.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
