//! What becomes of a schedule when nobody was there, when somebody interferes, and when something is broken.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::harness::{HOUR, MINUTE, PATIENCE, Server, Stage, assert_has, at, routine_view, text, wait_for, wait_until};
use moadim_mcp::clock::UnixSeconds;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Returns how it went for an hourly routine that nobody fired for some hours: the occurrences fired, and those missed.
fn after_a_gap(fields: &str, settings: &str) -> (Vec<String>, Vec<Value>) {
    let stage = Stage::new(settings);
    stage.routine("job", ":", &format!("schedule = \"@hourly\"\n{fields}"));
    let server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    drop(server);
    stage.set_clock(5 * HOUR + 30 * MINUTE);
    let _server = stage.server();
    wait_until("the gap to be dealt with", || {
        stage.ledger("job")["fired_until"] == at(5 * HOUR) && stage.alive("job").is_empty()
    });
    stage.set_clock(6 * HOUR);
    wait_until("the next fire", || stage.ended("job").iter().any(|run| run["origin"]["occurrence"] == at(6 * HOUR)));
    (stage.ended("job").iter().map(|run| text(&run["origin"]["occurrence"])).collect(), stage.missed("job"))
}

#[test]
fn what_nobody_fired_is_made_up_for_once_and_told_in_the_history() {
    let (fired, missed) = after_a_gap("", "");
    assert_eq!(fired, [at(5 * HOUR), at(6 * HOUR)]);
    let reported: Vec<String> = missed.iter().map(|line| text(&line["occurrence"])).collect();
    assert_eq!(reported, [at(HOUR), at(2 * HOUR), at(3 * HOUR), at(4 * HOUR)]);
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
fn a_fire_without_a_prompt_is_missed_for_that_reason() {
    let stage = Stage::new("");
    stage.routine("job", "", "schedule = \"@hourly\"");
    let prompt = stage.home.root().join("routines/job/prompt.md");
    // Not one that is just being saved.
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(prompt).unwrap().set_modified(long_ago).unwrap();
    let _server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    let missed = &stage.wait_for_missed("job", 1)[0];
    assert_eq!(missed["occurrence"], at(HOUR));
    assert!(text(&missed["reason"]).contains("prompt.md is empty"), "{missed}");
    assert_eq!(stage.ended("job"), Vec::<Value>::new());
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
fn a_snoozed_home_fires_nothing_and_says_so_everywhere() {
    let stage = Stage::new("");
    let slugs = ["a", "b"];
    slugs.iter().for_each(|slug| stage.routine(slug, ":", "schedule = \"@hourly\""));
    let (mut server, mut other) = (stage.server(), stage.server());
    slugs.iter().for_each(|slug| stage.wait_until_followed(slug, "@hourly"));
    let until = UnixSeconds::now().plus_secs(30 * 24 * HOUR).to_string();
    let refused = server.error("snooze_routine", json!({ "skip_next": true }));
    assert!(refused.contains("`skip_next`") && refused.contains("name it"), "{refused}");
    assert!(server.error("snooze_routine", json!({ "until": "2020-01-01T00:00:00Z" })).contains("later"));
    let snoozed = server.ok("snooze_routine", json!({ "until": until }));
    assert_eq!(snoozed, json!({ "snoozed_until": until }));
    stage.set_clock(HOUR);
    for slug in slugs {
        let missed = stage.wait_for_missed(slug, 1).remove(0);
        assert_eq!((&missed["why"], &missed["occurrence"]), (&json!("snoozed"), &json!(at(HOUR))), "{missed}");
        assert!(text(&missed["reason"]).contains(&until), "{missed}");
        let view = routine_view(&mut other, slug);
        assert_eq!(view["snoozed_until"], until, "{view}");
        assert!(text(&view["next_fires"][0]) > until, "{view}");
    }
    assert_eq!(other.ok("health", json!({}))["snoozed_until"], until);
    assert_eq!(other.ok("list_routines", json!({}))["snoozed_until"], until);
    assert!(stage.home.moadim(&["routines"]).stderr.contains("no schedule fires until"));
    let run = server.trigger("a");
    server.wait_for_run(&run, "succeeded");

    stage.home.write("snooze.json", "{");
    stage.set_clock(2 * HOUR);
    wait_until("the damage to be told", || {
        server.problems().iter().any(|one| text(&one["problem"]).contains("snooze.json is damaged"))
    });
    assert_eq!(stage.ended("b").len(), 0, "what cannot be read lifts nothing");
    assert!(stage.home.moadim(&["snooze", "--off"]).ok().contains("again"));
    for slug in slugs {
        wait_until("the hour to be made up for", || {
            stage.ended(slug).iter().any(|run| run["origin"]["occurrence"] == at(2 * HOUR))
        });
    }
    assert!(other.ok("health", json!({}))["snoozed_until"].is_null());
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
        let shown = routine_view(&mut server, "job");
        (shown["enabled"] == false && shown["disabled_because"].is_string()).then_some(shown)
    });
    assert!(text(&shown["disabled_because"]).contains("in a row reached 2"), "{shown}");
    assert!(shown["next_fires"].is_null() && shown["schedule"] == "@hourly", "{shown}");
    let disabled = std::fs::read_to_string(&file).unwrap();
    assert!(disabled.contains("max_consecutive_failures = 2 # enough"), "{disabled}");
    let refused = server.error("trigger_routine", json!({ "routine": "job" }));
    assert!(refused.contains("disabled") && refused.contains("in a row reached 2"), "{refused}");
    wait_until("its schedule to rest", || stage.ledger("job")["schedule"].is_null());
    stage.set_clock(5 * HOUR);
    std::fs::write(&file, disabled.replace("enabled = false", "enabled = true")).unwrap();
    stage.wait_until_followed("job", "@hourly");
    let enabled = routine_view(&mut server, "job");
    assert!(enabled["disabled_because"].is_null(), "{enabled}");
    assert_eq!(enabled["next_fires"].as_array().unwrap().len(), 3);
    assert!(text(&enabled["schedule_description"]).contains("(UTC)"));
    stage.set_clock(6 * HOUR);
    assert_eq!(stage.wait_for_ended("job", 3)[2]["origin"]["occurrence"], at(6 * HOUR));
    wait_until("its failure to be counted", || stage.ledger("job")["consecutive_failures"] == 1);
    assert_eq!(routine_view(&mut server, "job")["enabled"], true);
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
fn a_run_that_is_stopped_while_its_supervisor_finishes_is_not_tried_again() {
    let stage = Stage::new("");
    stage.home.configure("session_host = \"detached\"\nkill_grace_secs = 5\n");
    let stubborn = "sh -c 'trap \"\" TERM; echo deaf; exec sleep 300' &\nuntil [ -e go ] && grep -q deaf agent.log; do sleep 0.05; done; exit 3";
    stage.routine("job", stubborn, "[retry]\nmax_attempts = 2\nbackoff_secs = 0");
    let mut server = Server::start(&stage.home);
    let run = server.trigger("job");
    let agent = stage.home.noted(&run, "agent");
    std::fs::write(stage.home.workbench(&run).join("go"), "").unwrap();
    wait_until("the agent to end", || !agent.id.is_alive());
    let stopped = server.stop(&run);
    assert_has(&stopped, json!({ "status": "stopped", "exit_code": 3 }));
    wait_for(PATIENCE, "it to be counted", || (stage.ledger("job")["counted"].as_array()?.len() == 1).then_some(()));
    assert!(stage.ledger("job")["waiting"].is_null(), "{}", stage.ledger("job"));
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
    let reported = wait_for(PATIENCE, "the mistake to be reported", || server.problems().into_iter().next());
    assert!(text(&reported["path"]).ends_with("routines/job/routine.toml"), "{reported}");
    assert!(text(&reported["problem"]).contains("`schedule` is '0 0 30 2 *'"), "{reported}");
    stage.routine("job", ":", "schedule = \"40 * * * *\"");
    stage.wait_until_followed("job", "40 * * * *");
    stage.set_clock(40 * MINUTE);
    stage.wait_for_ended("job", 2);
    assert_eq!(stage.missed("job").len(), 0);
}

#[test]
fn a_damaged_ledger_fires_nothing_and_is_reported() {
    let stage = Stage::new("");
    stage.routine("job", ":", "schedule = \"@hourly\"");
    stage.routine("other", ":", "schedule = \"@hourly\"");
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.wait_until_followed("other", "@hourly");
    let good = stage.ledger("job").to_string();
    stage.home.write("routines/job/ledger.json", "{");
    let reported = wait_for(PATIENCE, "the damage to be reported", || server.problems().into_iter().next());
    assert!(text(&reported["problem"]).contains("ledger.json is damaged"), "{reported}");
    assert!(text(&routine_view(&mut server, "job")["schedule_problem"]).contains("ledger.json is damaged"));
    stage.set_clock(HOUR);
    stage.wait_for_ended("other", 1);
    assert_eq!(stage.history("job").len(), 0);
    stage.home.write("routines/job/ledger.json", &good);
    stage.wait_for_ended("job", 1);
}

/// Takes the ledger back to before a fire, as if its writer had died after the claim; the run is over by then, or is not.
fn fires_nothing_twice(overlap: &str, over: bool) {
    let stage = Stage::new("");
    stage.routine("job", &stage.until_the_gate_opens(), &format!("schedule = \"@hourly\"\noverlap = \"{overlap}\""));
    let server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    let before = stage.ledger("job");
    stage.set_clock(HOUR);
    let run = stage.wait_for_alive("job", 1).remove(0);
    wait_until("the fire to be written down", || stage.ledger("job")["fired_until"] == at(HOUR));
    wait_until("its agent", || stage.home.entry(&run).join("started.json").exists());
    drop(server);
    if over {
        stage.open_the_gate();
        stage.wait_for_ended("job", 1);
    }
    stage.home.write("routines/job/ledger.json", &before.to_string());
    let _server = stage.server();
    wait_until("it to be dealt with", || stage.ledger("job")["fired_until"] == at(HOUR));
    stage.open_the_gate();
    assert_eq!(stage.wait_for_ended("job", 1)[0]["status"], "succeeded", "{overlap}");
    stage.set_clock(2 * HOUR);
    stage.wait_for_ended("job", 2);
    assert_eq!((stage.ended("job").len(), stage.missed("job").len()), (2, 0), "{overlap}");
}

#[test]
fn a_ledger_that_was_not_written_after_a_claim_fires_nothing_twice() {
    fires_nothing_twice("skip", true);
    for overlap in ["skip", "queue", "replace", "allow"] {
        fires_nothing_twice(overlap, false);
    }
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

#[test]
fn long_gaps_of_dense_schedules_keep_no_other_routine_waiting() {
    let stage = Stage::new("");
    let slugs = ["a", "b", "c"];
    for slug in slugs {
        stage.routine(slug, ":", "schedule = \"* * * * *\"\ncatch_up = \"none\"");
        let schedule = json!({ "schedule": "* * * * *", "timezone": "UTC" });
        let ledger = json!({ "version": 1, "schedule": schedule, "fired_until": at(0) });
        stage.home.write(format!("routines/{slug}/ledger.json"), &ledger.to_string());
    }
    stage.routine("due", ":", "schedule = \"@hourly\"");
    // A machine that was away for two months.
    let back = 60 * 24 * HOUR;
    stage.set_clock(back);
    let _server = stage.server();
    stage.wait_until_followed("due", "@hourly");
    stage.set_clock(back + HOUR);
    stage.wait_for_ended("due", 1);
    for slug in slugs {
        wait_until("the gap to be dealt with", || text(&stage.ledger(slug)["fired_until"]) >= at(back));
        let missed = stage.missed(slug);
        let count: u64 = missed.iter().map(|one| one["count"].as_u64().unwrap_or(1)).sum();
        assert!((5_000..20_000).contains(&count), "{slug}: {count}");
    }
}

#[test]
fn a_routine_that_is_enabled_after_its_moment_says_that_it_never_fires_again() {
    let stage = Stage::new("");
    stage.routine("once", ":", "enabled = false\nrun_at = \"2026-01-01T09:00:00Z\"");
    let answer = stage.home.moadim(&["enable", "once"]);
    assert!(answer.stderr.contains("its run_at is past"), "{answer:?}");
}
