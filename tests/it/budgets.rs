//! What runs may cost and how many there may be in a day. The agents are scripts that print what claude prints.

use std::sync::Barrier;

use crate::harness::{
    HOUR, MINUTE, PATIENCE, Run, Scene, Server, Stage, TestHome, assert_has, assert_says, at, text, wait_for,
    wait_until,
};
use serde_json::{Value, json};

const DAY: u64 = 24 * HOUR;

/// An agent that executes its prompt and reports what it cost.
const PRICED: &str = "output = \"claude-stream-json\"\nlogin_shell = false";

/// A prompt that ends as claude does, at this list price.
fn costing(dollars: f64) -> String {
    let result = json!({
        "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "result": "Done.", "total_cost_usd": dollars,
        "usage": { "input_tokens": 1000, "cache_read_input_tokens": 200, "output_tokens": 50 },
    });
    format!("echo '{result}'")
}

/// A zone in which it is about noon, so that no midnight comes during a test.
fn zone_at_noon() -> String {
    let hour = i64::try_from(moadim_mcp::clock::UnixSeconds::now().0 / HOUR % 24).unwrap();
    match 12 - hour {
        0 => "Etc/UTC".to_owned(),
        // Their names count the other way round.
        ahead @ 1.. => format!("Etc/GMT-{ahead}"),
        behind => format!("Etc/GMT+{}", -behind),
    }
}

fn of_routine(home: &TestHome, slug: &str) -> std::path::PathBuf {
    home.root().join("routines").join(slug).join("routine.toml")
}

fn edit(home: &TestHome, slug: &str, from: &str, to: &str) {
    let file = of_routine(home, slug);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains(from), "{from} is missing in: {written}");
    std::fs::write(&file, written.replace(from, to)).unwrap();
}

fn occurrences(lines: &[Value]) -> Vec<String> {
    let occurrence =
        |line: &Value| line["origin"]["occurrence"].as_str().or(line["occurrence"].as_str()).map(str::to_owned);
    let mut all: Vec<String> = lines.iter().map(|line| occurrence(line).unwrap()).collect();
    all.sort();
    all
}

#[test]
fn eight_servers_start_exactly_as_many_as_a_day_may_have_and_the_next_day_goes_on() {
    let stage = Stage::new("max_concurrent_runs = 50");
    stage.routine("job", ":", "schedule = \"@hourly\"\nmax_daily_runs = 3");
    let _servers: Vec<Server> = (0..8).map(|_| stage.server()).collect();
    stage.wait_until_followed("job", "@hourly");
    for hour in [1, 2, 3, 4, 5, 24, 25, 26, 27] {
        stage.set_clock(hour * HOUR);
        wait_until("the occurrence to be dealt with", || {
            let ledger = stage.ledger("job");
            ledger["fired_until"] == at(hour * HOUR) && ledger["waiting"].is_null() && stage.alive("job").is_empty()
        });
    }
    let hours = |hours: &[u64]| hours.iter().map(|hour| at(hour * HOUR)).collect::<Vec<_>>();
    wait_until("the last end", || stage.ended("job").len() >= 6);
    assert_eq!(occurrences(&stage.ended("job")), hours(&[1, 2, 3, 24, 25, 26]));
    let missed = stage.missed("job");
    let of_budget: Vec<Value> = missed.iter().filter(|line| line["why"] == "budget").cloned().collect();
    assert_eq!(occurrences(&of_budget), hours(&[4, 5, 27]), "{missed:?}");
    // The clock was put forward by most of a day.
    assert!(missed.iter().all(|line| line["why"] == "budget" || line["why"] == "late"), "{missed:?}");
    assert_says(
        &text(&of_budget[0]["reason"]),
        &["3 runs of 'job'", "max_daily_runs is 3", &at(DAY), "moadim-mcp edit job"],
    );
}

#[test]
fn the_home_has_a_ceiling_for_all_routines_together() {
    let stage = Stage::new("max_concurrent_runs = 50\nmax_daily_runs = 5");
    let slugs = ["a", "b", "c", "d"];
    // No zone's midnight is at these minutes.
    let schedule = "10,11 0 * * *";
    slugs.iter().for_each(|slug| stage.routine(slug, ":", &format!("schedule = \"{schedule}\"")));
    let mut servers: Vec<Server> = (0..8).map(|_| stage.server()).collect();
    slugs.iter().for_each(|slug| stage.wait_until_followed(slug, schedule));
    for day in 0..2 {
        for (minute, started) in [(10, 4), (11, 1)] {
            let now = day * DAY + minute * MINUTE;
            stage.set_clock(now);
            wait_until("all to be dealt with", || {
                slugs.iter().all(|slug| {
                    let ledger = stage.ledger(slug);
                    ledger["fired_until"] == at(now) && ledger["waiting"].is_null() && stage.alive(slug).is_empty()
                })
            });
            let fired = slugs.iter().flat_map(|slug| stage.ended(slug));
            let fired = fired.filter(|run| run["origin"]["occurrence"] == at(now)).count();
            let missed = slugs.iter().flat_map(|slug| stage.missed(slug));
            let missed = missed.filter(|line| line["occurrence"] == at(now) && line["why"] == "budget").count();
            assert_eq!((fired, missed), (started, 4 - started), "day {day}, minute {minute}");
        }
    }
    let missed = slugs.iter().flat_map(|slug| stage.missed(slug)).next().unwrap();
    assert_says(&text(&missed["reason"]), &["5 runs of all routines", "max_daily_runs is 5", "config.toml"]);
    // By the machine's clock it is another day.
    assert_eq!(servers[0].ok("health", json!({}))["used_today"]["max_daily_runs"], 5);
}

#[test]
fn calls_at_the_same_time_start_no_more_than_allowed_and_the_refusal_says_all() {
    let (home, mut server) = Scene::new().agent("quick", "login_shell = false").start();
    let zone = zone_at_noon();
    let made = json!({ "agent": "quick", "max_daily_runs": 5, "timezone": zone });
    server.routine("Job", "sleep 0.2").with(made).create();
    let begin = Barrier::new(8);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let call = || {
            let mut server = Server::start(&home);
            begin.wait();
            [(); 2].map(|()| server.call_tool("trigger_routine", json!({ "routine": "job", "overlap": "allow" })))
        };
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(call)).collect();
        calls.into_iter().flat_map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| !answer.is_error).count(), 5);
    let refused = answers.into_iter().find(|answer| answer.is_error).unwrap().text;
    assert_says(
        &refused,
        &[
            "nothing was started: daily ceiling reached",
            "5 runs of 'job'",
            "max_daily_runs is 5",
            "the day ends at",
            &zone,
        ],
    );
    wait_until("all to end", || server.ok("list_runs", json!({ "status": "succeeded" }))["total"] == 5);
    let by_command = home.moadim(&["trigger", "job"]).failed(1);
    assert_says(&by_command, &["daily ceiling reached", "to allow more, a person runs: moadim-mcp edit job"]);
    let shown = server.ok("list_routines", json!({}))["routines"][0]["used_today"].clone();
    assert_has(&shown, json!({ "runs": 5, "max_daily_runs": 5, "unknown_cost_runs": 5, "cost_usd": null }));
    assert!(home.moadim(&["show", "job"]).ok().contains("5 runs of 5, cost unknown"));
    // A ceiling that does its work is no problem.
    assert!(!server.problems().iter().any(|problem| text(&problem["problem"]).contains("max_daily_runs")));
    let found: Value = serde_json::from_str(&home.moadim(&["doctor", "--json"]).stdout).unwrap();
    let found = found["checks"].as_array().unwrap().iter().find(|finding| finding["what"] == "budget").unwrap();
    assert!(found["well"] == true && text(&found["fix"]).contains("routines/job/routine.toml"), "{found}");
}

#[test]
fn tools_lower_a_ceiling_and_only_a_person_raises_it() {
    let (home, mut server) = Scene::new().config("max_daily_runs = 50\n").agent("quick", "login_shell = false").start();
    let zone = zone_at_noon();
    let above = json!({ "title": "Job", "agent": "quick", "prompt": "true", "max_daily_runs": 51 });
    assert_says(
        &server.error("create_routine", above),
        &["`max_daily_runs` is 51", "50 for the whole home", "config.toml"],
    );
    server.routine("Job", "true").with(json!({ "agent": "quick", "timezone": zone })).create();
    let change = |change: Value| {
        let mut arguments = json!({ "routine": "job" });
        arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        arguments
    };
    server.ok("update_routine", change(json!({ "max_daily_runs": 3 })));
    server.ok("update_routine", change(json!({ "max_daily_runs": 1 })));
    for (refused, says) in [
        (json!({ "max_daily_runs": 2 }), "tools can only lower it, and it is 1"),
        (json!({ "max_daily_runs": 0 }), "at least 1"),
        (json!({ "clear": ["max_daily_runs"] }), "tools cannot clear it"),
        // Whatever the hour is: the routine has another kind of name for its zone.
        (json!({ "timezone": "Asia/Kolkata", "title": "x" }), "its day would begin again"),
    ] {
        assert_says(&server.error("update_routine", change(refused)), &[says]);
    }
    server.ok("update_routine", change(json!({ "title": "Still changes" })));
    server.run_to("job", "succeeded");
    assert_says(&server.error("trigger_routine", json!({ "routine": "job" })), &["max_daily_runs is 1"]);
    let editor = home.script("raise", "sed -i 's/max_daily_runs = 1/max_daily_runs = 2/' \"$@\"");
    let edited = home.command().args(["edit", "job"]).env("EDITOR", editor).output().unwrap();
    assert!(edited.status.success(), "{edited:?}");
    server.run_to("job", "succeeded");
    assert_says(&server.error("trigger_routine", json!({ "routine": "job" })), &["max_daily_runs is 2"]);
}

#[test]
fn an_agents_run_with_few_permissions_raises_nothing_by_a_command_either() {
    let (home, mut server) = Scene::new().agent("quick", "login_shell = false").start();
    server.routine("Job", "true").with(json!({ "agent": "quick", "max_daily_runs": 1 })).create();
    let editor = home.script("raise", "sed -i \"s/max_daily_runs = 1/max_daily_runs = 9/\" \"$@\"");
    let program = env!("CARGO_BIN_EXE_moadim-mcp");
    // Its cookie tells whose process it is, however the environment is cleared.
    let script = format!(
        "EDITOR='{}' TMPDIR=\"$PWD\" HOME=\"$HOME\" MOADIM_HOME=\"$MOADIM_HOME\" '{program}' edit job < /dev/null > said 2>&1; {}",
        editor.display(),
        costing(0.1)
    );
    let agent = home.script("claude", &script);
    home.add_agent("claude", &format!("extends = \"claude\"\ncommand = \"{}\"\n", agent.display()));
    let options = json!({ "agent": "claude", "options": { "permissions": "read-only" } });
    let run = server.routine("Caller", "Go.").with(options).run_to("succeeded");
    let said = std::fs::read_to_string(home.workbench(&run).join("said")).unwrap();
    assert_says(&said, &["tools can only lower it, and it is 1"]);
    assert!(std::fs::read_to_string(of_routine(&home, "job")).unwrap().contains("max_daily_runs = 1\n"));
}

#[test]
fn a_days_cost_is_added_up_from_what_agents_report() {
    let (home, mut server) = Scene::new().agent("priced", PRICED).start();
    let made = json!({ "agent": "priced", "max_daily_cost_usd": 1, "timezone": zone_at_noon() });
    server.routine("Job", &costing(0.4)).with(made).create();
    for _ in 0..3 {
        server.run_to("job", "succeeded");
    }
    let refused = server.error("trigger_routine", json!({ "routine": "job" }));
    assert_says(&refused, &["cost $1.20 at list prices", "max_daily_cost_usd is 1", "moadim-mcp edit job"]);
    let used = server.ok("get_routine", json!({ "routine": "job" }))["routine"]["used_today"].clone();
    assert_has(&used, json!({ "runs": 3, "cost_usd": 1.2, "max_daily_cost_usd": 1.0, "unknown_cost_runs": 0 }));
    // One that goes before it has said what it cost counts for nothing, and is no zero.
    edit(&home, "job", "max_daily_cost_usd = 1.0", "max_daily_cost_usd = 5");
    home.write("routines/job/prompt.md", "exec sleep 300");
    let run = server.trigger("job");
    server.wait_for_run(&run, "running");
    server.stop(&run);
    let used = server.ok("get_routine", json!({ "routine": "job" }))["routine"]["used_today"].clone();
    assert_has(&used, json!({ "runs": 4, "cost_usd": 1.2, "unknown_cost_runs": 1 }));
    let problem =
        server.problems().into_iter().find(|problem| text(&problem["problem"]).contains("without reporting a cost"));
    assert_says(&text(&problem.expect("a problem")["problem"]), &["1 run of today", "max_daily_cost_usd"]);
}

#[test]
fn a_ceiling_on_cost_refuses_agents_that_report_none() {
    let (home, mut server) = Scene::new().agent("priced", PRICED).agent("plain", "login_shell = false").start();
    for agent in ["codex", "gemini", "qwen", "copilot", "plain"] {
        let made = json!({ "title": "New", "agent": agent, "prompt": "x", "max_daily_cost_usd": 5 });
        assert_says(
            &server.error("create_routine", made),
            &[
                "max_daily_cost_usd",
                &format!("'{agent}' reports no cost"),
                "set max_daily_runs instead",
                "claude or opencode",
            ],
        );
    }
    server.routine("Job", &costing(0.1)).with(json!({ "agent": "priced", "max_daily_cost_usd": 5 })).create();
    assert_says(
        &server.error("update_routine", json!({ "routine": "job", "agent": "plain" })),
        &["'plain' reports no cost"],
    );
    server.routine("Free", "true").with(json!({ "agent": "plain" })).create();
    assert_says(
        &server.error("update_routine", json!({ "routine": "free", "max_daily_cost_usd": 5 })),
        &["`max_daily_cost_usd` is 5: the agent 'plain' reports no cost, so this ceiling"],
    );
    // By hand it can be written, and then it does not start.
    edit(&home, "free", "agent = \"plain\"", "agent = \"plain\"\nmax_daily_cost_usd = 5");
    assert_says(&server.error("trigger_routine", json!({ "routine": "free" })), &["cannot run", "reports no cost"]);
    wait_until("it to be reported", || {
        server.problems().iter().any(|problem| text(&problem["problem"]).contains("its agent 'plain' reports no cost"))
    });
    server.ok("update_routine", json!({ "routine": "free", "enabled": false }));
    edit(&home, "free", "max_daily_cost_usd = 5", "");
    // The home's ceiling can only be kept if the cost of every run is known.
    home.configure_detached("max_daily_cost_usd = 0.3\n");
    server.ok("update_routine", json!({ "routine": "free", "enabled": true }));
    assert_says(
        &server.error("trigger_routine", json!({ "routine": "free" })),
        &["max_daily_cost_usd = 0.3", "config.toml"],
    );
    let made = json!({ "title": "New", "agent": "codex", "prompt": "x" });
    assert_says(&server.error("create_routine", made), &["'codex' reports no cost", "config.toml"]);
    server.run_to("job", "succeeded");
    // Unless midnight came in between, on this machine.
    assert_eq!(server.ok("health", json!({}))["used_today"]["max_daily_cost_usd"], 0.3);
}

#[test]
fn a_run_that_its_agent_ends_for_its_budget_keeps_its_result_and_is_not_tried_again() {
    let (home, mut server) = Scene::new().start();
    let said = json!({ "type": "assistant", "message": { "id": "m", "model": "opus", "content": [{ "type": "text", "text": "Half of it." }] } });
    let result = json!({
        "type": "result", "subtype": "error_max_budget_usd", "is_error": true, "num_turns": 2, "total_cost_usd": 0.52,
        "usage": { "input_tokens": 2000, "output_tokens": 100 }, "errors": ["Reached maximum budget ($0.5)"],
        "terminal_reason": "budget_exhausted",
    });
    let agent = home.script("claude", &format!("echo '{said}'; echo '{result}'; exit 1"));
    home.add_agent("claude", &format!("extends = \"claude\"\ncommand = \"{}\"\n", agent.display()));
    let made = json!({ "agent": "claude", "options": { "max_budget_usd": 0.5 }, "retry": { "max_attempts": 3, "backoff_secs": 0 } });
    let run: Run = server.routine("Dear", "Do it.").with(made).run_to("failed");
    assert_eq!(run["status_reason"], "over budget: it cost $0.52, and max_budget_usd is 0.5");
    assert_has(&run["output"], json!({ "over_budget": true, "ended": "failed" }));
    let shown = server.ok("get_run", json!({ "run": run }))["run"]["output"].clone();
    assert_has(
        &shown,
        json!({ "result": "Half of it.", "usage": { "input_tokens": 2000, "output_tokens": 100, "cost_usd": 0.52 } }),
    );
    assert_has(&home.history(&run)[0], json!({ "reason": run["status_reason"] }));
    wait_until("its end to be counted", || {
        home.json("routines/dear/ledger.json").is_some_and(|ledger| ledger["counted"][0] == run)
    });
    assert!(home.json("routines/dear/ledger.json").unwrap()["waiting"].is_null());
}

#[test]
fn a_retry_over_budget_is_missed_and_a_launch_that_failed_counts() {
    let broken = "setup = [\"false\"]\nlogin_shell = false";
    let (home, mut server) = Scene::new().agent("quick", "login_shell = false").agent("broken", broken).start();
    let retry = json!({ "max_attempts": 3, "backoff_secs": 0 });
    let ceiling = json!({ "agent": "quick", "max_daily_runs": 2, "timezone": zone_at_noon(), "retry": retry });
    server.routine("Job", "exit 3").with(ceiling).run_to("failed");
    let missed = wait_for(PATIENCE, "the third attempt to be missed", || {
        home.readable_history().into_iter().find(|line| line["kind"] == "missed")
    });
    assert_has(&missed, json!({ "routine": "job", "why": "budget" }));
    assert_says(&text(&missed["reason"]), &["attempt 3 of job-", "daily ceiling reached: 2 runs of 'job'"]);
    assert_eq!(server.ok("list_runs", json!({ "routine": "job" }))["total"], 2);
    let ceiling = json!({ "agent": "broken", "max_daily_runs": 1, "timezone": zone_at_noon() });
    server.routine("Broken", "x").with(ceiling).create();
    // It may answer before or after that is known.
    let _ = server.call_tool("trigger_routine", json!({ "routine": "broken" }));
    wait_until("its end", || {
        server.ok("list_runs", json!({ "routine": "broken", "status": "launch_failed" }))["total"] == 1
    });
    assert_says(&server.error("trigger_routine", json!({ "routine": "broken" })), &["max_daily_runs is 1"]);
    let used = server.ok("get_routine", json!({ "routine": "broken" }))["routine"]["used_today"].clone();
    assert_has(&used, json!({ "runs": 1, "cost_usd": 0.0, "unknown_cost_runs": 0 }));
}

#[test]
fn a_fire_over_budget_does_not_end_the_run_that_it_would_replace() {
    let stage = Stage::new("");
    let fields = "schedule = \"@hourly\"\noverlap = \"replace\"\nmax_daily_runs = 1";
    stage.routine("job", &stage.until_the_gate_opens(), fields);
    let mut server = stage.server();
    stage.wait_until_followed("job", "@hourly");
    stage.set_clock(HOUR);
    let run = stage.wait_for_alive("job", 1).remove(0);
    server.wait_for_run(&run, "running");
    stage.set_clock(2 * HOUR);
    let missed = stage.wait_for_missed("job", 1).remove(0);
    assert_has(&missed, json!({ "why": "budget", "occurrence": at(2 * HOUR) }));
    assert_says(&text(&missed["reason"]), &["1 of them still alive"]);
    assert_eq!(server.run(&run)["status"], "running");
    stage.open_the_gate();
    assert_eq!(stage.wait_for_ended("job", 1)[0]["status"], "succeeded");
}

#[test]
fn usage_is_shown_by_routine_and_agent_with_what_is_unknown_apart() {
    let (home, mut server) = Scene::unwatched().agent("priced", PRICED).agent("plain", "login_shell = false").start();
    server.routine("Dear", &costing(2.5)).with(json!({ "agent": "priced", "ttl_secs": 1 })).create();
    let reaped = server.run_to("dear", "succeeded");
    server.run_to("dear", "succeeded");
    server.routine("Cheap", &costing(0.5)).with(json!({ "agent": "priced" })).run_to("succeeded");
    server.routine("Unknown", "true").with(json!({ "agent": "plain" })).run_to("succeeded");
    wait_until("a workbench to go", || {
        server.clean_up();
        !home.workbench(&reaped).exists()
    });
    let usage = home.moadim(&["usage", "--json"]).json();
    assert_has(&usage["total"], json!({ "runs": 4, "cost_usd": 5.5, "unknown_cost_runs": 1, "unknown_token_runs": 1 }));
    // Claude counts what came from its cache beside the input.
    assert_has(&usage["total"], json!({ "input_tokens": 3600, "cached_tokens": 600, "output_tokens": 150 }));
    let names = |list: &str| usage[list].as_array().unwrap().iter().map(|one| text(&one["name"])).collect::<Vec<_>>();
    assert_eq!(
        (names("routines"), names("agents")),
        (["dear", "cheap", "unknown"].map(str::to_owned).into(), ["priced", "plain"].map(str::to_owned).into())
    );
    assert_eq!(usage["routines"][2]["cost_usd"], Value::Null, "unknown, and no zero");
    let read = server.request("resources/read", json!({ "uri": "moadim://usage" })).unwrap();
    let resource: Value = serde_json::from_str(&text(&read["contents"][0]["text"])).unwrap();
    for part in ["total", "routines", "agents"] {
        assert_eq!(resource[part], usage[part], "{part}");
    }
    let shown = home.moadim(&["usage", "--since", "1d"]).ok();
    assert_says(
        &shown,
        &["list price", "ROUTINE", "AGENT", "$5.00", "Total: 4 runs, $5.50; the cost of 1 run is unknown"],
    );
    let row = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("dear").ends_with("########") && row("unknown").contains("unknown"), "{shown}");
    assert!(shown.is_ascii(), "{shown}");
    let none = home.moadim(&["usage", "--since", "2099-01-01"]).ok();
    assert_says(&none, &["No run has ended since then."]);
}
