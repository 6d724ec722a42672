//! What tells a person: hooks of a routine and of the home, a heartbeat, and how long nothing was running.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{
    HOUR, MINUTE, PATIENCE, Scene, Server, Stage, TestHome, assert_says, at, cut_the_power, may_take_long, text,
    wait_for, wait_until,
};
use serde_json::{Value, json};

/// A hook that writes its environment to `<directory>/<word>`, once whole, and a line to `<word>.count` each time.
fn recording_hook(home: &TestHome) -> (PathBuf, PathBuf) {
    let said = home.scratch().join("said");
    fs::create_dir(&said).unwrap();
    let script = format!("echo x >> {0}/$1.count; env > {0}/$1.new.$$; mv {0}/$1.new.$$ {0}/$1", said.display());
    (home.script("record", &script), said)
}

fn count(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[test]
fn a_routine_s_hooks_replace_the_home_s_and_hear_what_the_run_says() {
    let home = TestHome::detached("");
    let (hook, said) = recording_hook(&home);
    let command = |word: &str| json!([hook, word]);
    home.configure_detached(&format!(
        "on_finish = {}\non_failure = {}\n",
        command("home-finish"),
        command("home-failure")
    ));
    home.add_agent("printer", "command = \"sh\"\noutput = \"claude-stream-json\"\n");
    let mut server = Server::start(&home);
    let result = json!({
        "type": "result", "subtype": "success", "is_error": true, "result": "no", "session_id": "s", "total_cost_usd": 0.0125,
        "num_turns": 1, "usage": { "input_tokens": 1, "output_tokens": 2 },
    });
    let prompt = format!("printf '# Nothing \"built\"\\nmore\\n' > report.md; echo '{result}'; exit 1");
    let routine = server.create("Own", &prompt, json!({ "agent": "printer" }));
    let file = home.root().join("routines/own/routine.toml");
    let trusted = format!("\n[trusted]\non_failure = {}\non_finish = [] # quiet\n", command("own-failure"));
    fs::write(&file, fs::read_to_string(&file).unwrap() + &trusted).unwrap();
    let run = server.run_to(&routine, "failed");
    wait_until("its own hook", || said.join("own-failure").exists());
    let facts = fs::read_to_string(said.join("own-failure")).unwrap();
    for fact in [&format!("MOADIM_RUN={run}"), "MOADIM_HEADLINE=Nothing \"built\"", "MOADIM_COST_USD=0.0125"] {
        assert!(facts.lines().any(|line| line == fact), "{fact} is not in {facts}");
    }
    let other = server.create("Other", "exit 1", json!({}));
    server.run_to(&other, "failed");
    for word in ["home-finish", "home-failure"] {
        wait_until(word, || said.join(word).exists());
        assert!(fs::read_to_string(said.join(word)).unwrap().contains("MOADIM_ROUTINE=other\n"));
        assert_eq!(count(&said.join(format!("{word}.count"))), 1, "{word}: not for the routine with its own");
    }

    let before = fs::read_to_string(&file).unwrap();
    for arguments in [
        json!({ "trusted": { "on_finish": ["sh"] } }),
        json!({ "trusted_on_finish": ["sh"] }),
        json!({ "trusted.on_attention": ["sh"] }),
        json!({ "clear": ["trusted.on_failure"] }),
    ] {
        let mut arguments = arguments;
        arguments["routine"] = json!(routine);
        assert_says(&server.error("update_routine", arguments), &["[trusted]", "own/routine.toml"]);
    }
    for hook in ["on_finish", "on_failure", "on_attention", "heartbeat"] {
        let created = json!({ "title": "New", "agent": "shell", "prompt": "true", hook: ["sh"] });
        assert_says(&server.error("create_routine", created), &[hook]);
        assert_says(&server.error("update_routine", json!({ "routine": routine, hook: ["sh"] })), &[hook]);
        assert_says(&server.error("update_routine", json!({ "routine": routine, "clear": [hook] })), &[hook]);
    }
    server.ok("update_routine", json!({ "routine": routine, "max_runtime_secs": 60 }));
    let after = fs::read_to_string(&file).unwrap();
    assert!(after.ends_with(&trusted) && before.ends_with(&trusted), "{after}");
}

#[test]
fn a_run_that_stays_unknown_calls_for_a_person_once_whichever_process_sees_it() {
    let (home, mut server) = Scene::unwatched().start();
    let (hook, said) = recording_hook(&home);
    let run = server.start_run("Elsewhere", "sleep 300", json!({}));
    cut_the_power(&home, &run);
    home.change_json(format!("running/{run}/run.json"), |record| record["machine"]["machine_id"] = json!("x"));
    server.close_stdin_and_wait();
    let attention = format!("watchdog_interval_secs = 1\non_attention = {}\n", json!([hook, "attention"]));
    home.configure_detached(&attention);
    let log = home.raw_log(&run);
    let mut servers: Vec<Server> = (0..3).map(|_| Server::start(&home)).collect();
    wait_until("the call", || said.join("attention").exists());
    let facts = fs::read_to_string(said.join("attention")).unwrap();
    assert_says(&facts, &[&format!("MOADIM_RUN={run}\n"), "MOADIM_STATUS=unknown\n", "another machine"]);
    assert!(!facts.contains("MOADIM_FINISHED_AT"), "{facts}");
    let passes = |server: &mut Server| {
        // A server has none at first.
        let last = || server.ok("health", json!({}))["watchdog"]["last"].as_str().map(str::to_owned);
        wait_for(PATIENCE, "its first pass", last)
    };
    let first = passes(&mut servers[0]);
    wait_until("more passes", || servers.iter_mut().all(|server| passes(server) > first));
    // One that starts later has seen it neither.
    servers.push(Server::start(&home));
    let begun = passes(&mut servers[3]);
    wait_until("two more passes", || passes(&mut servers[3]) > begun);
    assert_eq!(count(&said.join("attention.count")), 1);
    // A hook that fails says nothing in the log of a run that may be alive.
    home.configure_detached("watchdog_interval_secs = 1\non_attention = [\"false\"]\n");
    fs::remove_file(home.root().join(format!("locks/attention/{run}"))).unwrap();
    wait_until("another call", || home.root().join(format!("locks/attention/{run}")).exists());
    wait_until("its end", || home.processes().iter().all(|one| !one.command.contains(" hook ")));
    assert_eq!(home.raw_log(&run), log);
    let forgotten = home.moadim(&["forget", &run, "--yes"]);
    assert_says(&forgotten.ok(), &["lost"]);
}

#[test]
fn the_heart_of_a_home_beats_once_a_minute_however_many_servers_there_are() {
    let stage = Stage::new("");
    let beats = stage.home.scratch().join("beats");
    let beat = stage.home.script("beat", &format!("echo \"$(env | grep -c MOADIM_HOME=)\" >> {}", beats.display()));
    stage.configure(&format!("heartbeat = {}", json!([beat])));
    let count_of_servers = if may_take_long() { 8 } else { 4 };
    let mut servers: Vec<Server> = (0..count_of_servers).map(|_| stage.server()).collect();
    let passes = |server: &mut Server| {
        // A server has none at first.
        let last = || server.ok("health", json!({}))["scheduler"]["last"].as_str().map(str::to_owned);
        wait_for(PATIENCE, "its first pass", last)
    };
    wait_until("the first beat", || count(&beats) == 1);
    for minute in 1..=5 {
        // Before the minute is over, nobody beats again.
        stage.set_clock(minute * MINUTE - 1);
        let seen: Vec<String> = servers.iter_mut().map(passes).collect();
        wait_until("a pass of each", || servers.iter_mut().zip(&seen).all(|(server, seen)| passes(server) > *seen));
        assert_eq!(count(&beats), usize::try_from(minute).unwrap());
        stage.set_clock(minute * MINUTE);
        wait_until("a beat", || count(&beats) == usize::try_from(minute + 1).unwrap());
    }
    assert!(fs::read_to_string(&beats).unwrap().lines().all(|line| line == "1"), "it knows its home");
}

fn heartbeat_problem(server: &mut Server) -> Option<Value> {
    server.problems().into_iter().find(|one| text(&one["problem"]).contains("`heartbeat`"))
}

#[test]
fn a_heartbeat_that_fails_is_a_problem_until_it_works_and_keeps_no_fire_waiting() {
    let stage = Stage::new("heartbeat = [\"sh\", \"-c\", \"echo no route; sleep 300 & exit 4\"]");
    stage.routine("job", ":", "schedule = \"* * * * *\"");
    let (mut server, mut other) = (stage.server(), stage.server());
    stage.wait_until_followed("job", "* * * * *");
    stage.set_clock(MINUTE);
    stage.wait_for_ended("job", 1);
    for server in [&mut server, &mut other] {
        wait_until("the problem", || heartbeat_problem(server).is_some());
        let problem = heartbeat_problem(server).unwrap();
        assert_says(&text(&problem["problem"]), &["it exited with status 4", "no route"]);
        assert!(text(&problem["path"]).ends_with("config.toml"), "{problem}");
    }
    wait_until("what it started to be ended", || stage.home.processes_named("sleep").is_empty());
    stage.configure("heartbeat = [\"true\"]");
    stage.set_clock(2 * MINUTE);
    wait_until("it to be well", || heartbeat_problem(&mut server).is_none());
    assert!(stage.home.json("locks/heartbeat").unwrap()["failure"].is_null());
}

#[test]
fn a_process_says_for_how_long_nothing_was_running_before_it() {
    let stage = Stage::new("");
    let downtime = |server: &mut Server| {
        wait_until("a pass", || server.ok("health", json!({}))["scheduler"]["last"].is_string());
        server.ok("health", json!({}))["downtime"].clone()
    };
    let mut first = stage.server();
    assert_eq!(downtime(&mut first), Value::Null, "nothing is known of the time before");
    first.close_stdin_and_wait();
    stage.set_clock(4 * MINUTE);
    let mut soon = stage.server();
    assert_eq!(downtime(&mut soon), Value::Null, "that is no time");
    soon.close_stdin_and_wait();
    stage.set_clock(4 * MINUTE + 2 * HOUR + 20 * MINUTE);
    let mut late = stage.server();
    let said = downtime(&mut late);
    let (from, until) = (at(4 * MINUTE), at(4 * MINUTE + 2 * HOUR + 20 * MINUTE));
    assert_eq!(said, format!("no moadim-mcp was running from {from} until {until} (2 h 20 min)"));
    assert_eq!(late.problems(), Vec::<Value>::new());
    stage.set_clock(3 * HOUR);
    assert_eq!(downtime(&mut late), said, "as long as it lives");
    let mut after = stage.server();
    assert_eq!(downtime(&mut after), Value::Null, "there was one");
    assert_says(&stage.home.moadim(&["doctor"]).stdout, &["last pass about", "no moadim-mcp was running from"]);
}
