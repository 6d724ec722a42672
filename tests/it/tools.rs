//! The contract of the tools: their arguments, their answers, and what they say to a mistake.

use std::collections::BTreeSet;

use crate::harness::{Server, TestHome, text};
use serde_json::{Value, json};

/// The arguments that a routine can do without.
const SETTINGS: &str = "enabled? ttl_secs? failed_ttl_secs? keep_last? max_runtime_secs? max_silence_secs? schedule? run_at? \
                        timezone? overlap? catch_up? max_consecutive_failures? max_daily_runs? max_daily_cost_usd? retry? env? options? tags? repositories? unsaved_work? archive_files? continuity? engine? resources? when_asked? answer_within_secs?";
/// The keys of a routine and of a run, those that may be absent marked.
const ROUTINE: &str = "slug title agent agent_available enabled ttl_secs max_runtime_secs tags env_keys created_at \
                       updated_at running last_run? disabled_because? waiting? waiting_until? used_today? last_missed?";
const RUN: &str = "id routine status outcome? status_reason? exit_code? signal? origin? triggered_at started_at? finished_at? \
                   duration_secs? workbench session session_host attach_command? log_path log_bytes reap_at? \
                   kept_because? last_output? work? output? report? resume_command? pinned? verified? disagreements? job? question? continues? continued_by?";

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().cloned().collect()
}

/// Compares an object's schema with a list of its keys.
#[track_caller]
/// An answer is described by its keys alone.
fn assert_lists(schema: &Value, expected: &str) {
    let all: BTreeSet<String> = words(expected).iter().map(|key| key.trim_end_matches('?').to_owned()).collect();
    assert_eq!(keys(&schema["properties"]), all);
}

fn assert_shape(schema: &Value, expected: &str) {
    assert_lists(schema, expected);
    let required: BTreeSet<String> = words(expected).into_iter().filter(|key| !key.ends_with('?')).collect();
    let found = schema["required"].as_array().into_iter().flatten().map(text).collect::<BTreeSet<_>>();
    assert_eq!(found, required);
}

#[test]
fn arguments_and_answers_have_the_keys_of_the_contract() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let tools = server.request("tools/list", json!({})).unwrap()["tools"].clone();
    let tool = |name: &str| tools.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap().clone();
    let create = format!("title slug? agent prompt {SETTINGS}");
    let update = format!("routine title? agent? prompt? clear? {SETTINGS}");
    let contract = [
        ("create_routine", create.as_str(), "routine permissions? warnings?"),
        (
            "get_routine",
            "routine preview?",
            "routine prompt preview? settings trusted_env_keys? trusted_options? trusted_precheck? trusted_verify? recent_runs",
        ),
        ("update_routine", update.as_str(), "routine permissions? warnings?"),
        ("delete_routine", "routine confirm?", "deleted archived_to stopped"),
        ("list_routines", "query? tag? limit? cursor?", "routines total snoozed_until? next_cursor?"),
        ("trigger_routine", "routine overlap? wait? text?", "finished? run"),
        ("list_runs", "routine? status? since? until? limit? cursor?", "runs total next_cursor?"),
        ("wait_run", "run timeout_secs?", "finished run"),
        (
            "get_run",
            "run",
            "run chain? liveness liveness_reason retention agent? options? command? origin? window_problem? processes processes_total? last_output_at? \
             log_tail archive? recover_command?",
        ),
        ("read_log", "run tail_lines? offset? grep? raw?", "run text cut next_offset note? log_bytes stderr?"),
        ("stop_run", "run reason?", "note? run"),
        ("continue_run", "run text? dismiss?", "run"),
        ("pin_run", "run pinned", "run"),
        (
            "cleanup_workbenches",
            "routine? dry_run? confirm?",
            "dry_run killed killed_total removed removed_total kept kept_total failed failed_total freed_bytes \
             pending_bytes removable_bytes? scanned stores? note?",
        ),
        ("snooze_routine", "routine? until? skip_next?", "routine"),
        ("list_agents", "", "agents max_permissions config_file"),
        (
            "show_dashboard",
            "routine?",
            "running? queued? questions? unknown? live failed_24h next? problems removable_bytes? dashboard_hint?",
        ),
        (
            "health",
            "",
            "version home session_host session_host_reason tmux_version? watchdog sweep scheduler downtime? snoozed_until? routines runs \
             used_today? workbench_bytes workbench_bytes_complete held_agents? problems problems_total stores",
        ),
    ];
    assert_eq!(tools.as_array().unwrap().len(), contract.len());
    for (name, arguments, answer) in contract {
        assert_shape(&tool(name)["inputSchema"], arguments);
        assert_lists(&tool(name)["outputSchema"], answer);
    }
    assert_lists(&tool("list_routines")["outputSchema"]["properties"]["routines"]["items"], ROUTINE);
    // Said once, for every host pays for the list of tools.
    for name in ["create_routine", "get_routine", "update_routine"] {
        let routine = &tool(name)["outputSchema"]["properties"]["routine"];
        assert_eq!((&routine["type"], &routine["description"]), (&json!("object"), &json!("As in list_routines.")));
    }
    for name in ["trigger_routine", "get_run", "wait_run", "stop_run", "pin_run", "continue_run"] {
        let run = &tool(name)["outputSchema"]["properties"]["run"];
        assert_eq!(run["type"], "object", "{name}");
        assert!(text(&run["description"]).ends_with("s in list_runs."), "{name}: {run}");
    }
    assert_lists(&tool("list_runs")["outputSchema"]["properties"]["runs"]["items"], RUN);
    let report = &tool("cleanup_workbenches")["outputSchema"]["properties"];
    for (list, shape) in [
        ("killed", "run why reason"),
        ("removed", "run why reason age_secs retention_secs? bytes archived? not_archived?"),
        ("kept", "run why reason age_secs retention_secs? until?"),
        ("failed", "run path error"),
    ] {
        assert_lists(&report[list]["items"], shape);
    }
    let problem = &tool("health")["outputSchema"]["properties"]["problems"]["items"];
    assert_lists(problem, "path? problem fix");
    let held = &tool("health")["outputSchema"]["properties"]["held_agents"]["items"];
    assert_lists(held, "agent held_until because");
}

#[test]
fn what_may_be_absent_is_there_when_it_means_something() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let always = "id routine status triggered_at workbench session session_host log_path log_bytes";
    let run = server.start_run("Fails", "exit 9", json!({}));
    let ended = server.wait_for_run(&run, "failed");
    let ending = "status_reason exit_code started_at finished_at duration_secs reap_at";
    assert_eq!(keys(&ended), words(&format!("{always} {ending}")));
    // The agent itself, so that it cannot see a child end first and exit by itself.
    let run = server.start_run("Lives", "exec sleep 300", json!({}));
    assert_eq!(keys(&server.run(&run)), words(&format!("{always} started_at duration_secs kept_because")));
    let stopped = server.stop(&run);
    assert_eq!(
        keys(&stopped),
        words(&format!("{always} signal status_reason started_at finished_at duration_secs reap_at"))
    );
    for time in ["triggered_at", "started_at", "finished_at", "reap_at"] {
        let time = text(&stopped[time]);
        assert!(time.len() == 20 && time.ends_with('Z'), "RFC 3339 in UTC: {time}");
    }
    assert_eq!(stopped["log_path"], home.workbench(&run).join("agent.log").to_str().unwrap());
}

#[test]
fn a_mistake_in_a_routine_names_field_value_rule_and_next_step() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    server.create("Taken Name", "true", json!({}));
    let cases: [(Value, &[&str]); 17] = [
        (json!({ "ttl_secs": 0 }), &["`ttl_secs`", "is 0", "between 1 and 2592000", "leave it out"]),
        (json!({ "ttl_secs": 2_592_001 }), &["`ttl_secs`", "2592001", "ttl_ceiling_secs"]),
        (json!({ "max_runtime_secs": 86_401 }), &["`max_runtime_secs`", "86401", "between 1 and 86400"]),
        (json!({ "max_runtime_secs": -1 }), &["`max_runtime_secs`", "-1", "0 or more"]),
        (json!({ "max_runtime_secs": 1.5 }), &["`max_runtime_secs`", "1.5"]),
        (json!({ "title": "" }), &["`title`", "missing", "1 to 200 characters"]),
        (json!({ "title": "¡!…" }), &["`title`", "¡!…", "give a `slug`"]),
        (json!({ "slug": "Not a slug" }), &["`slug`", "Not a slug", "lower-case letters"]),
        (json!({ "title": "a\nb" }), &["`title`", "one line"]),
        (json!({ "title": "taken, name?" }), &["taken-name", "Taken Name", "another `title`"]),
        (json!({ "prompt": "  \n" }), &["`prompt`", "empty", "write it down"]),
        (json!({ "prompt": "x".repeat(1024 * 1024 + 1) }), &["`prompt`", "1048577", "at most 1048576"]),
        (
            json!({ "agent": "nobody" }),
            &["nobody", "claude, codex, copilot, gemini, opencode, qwen, shell", "list_agents"],
        ),
        (json!({ "env": { "PATH": "/x" } }), &["`env`", "PATH", "accept_env", "[trusted.env]"]),
        (json!({ "env": { "A-B": "x" } }), &["`env`", "A-B", "rename"]),
        (json!({ "tags": ["ok", ""] }), &["`tags`", "''", "1 to 50"]),
        (json!({ "shedule": "@daily" }), &["`shedule`", "`title` (required)"]),
    ];
    for (change, parts) in cases {
        let mut arguments = json!({ "title": "New One", "agent": "shell", "prompt": "true" });
        arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = server.error("create_routine", arguments);
        assert!(error.len() < 1000, "{} bytes", error.len());
        for part in parts {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }
    for name in ["LD_PRELOAD", "DYLD_LIBRARY_PATH", "MOADIM_COOKIE", "HOME", "SHELL", "BASH_ENV"] {
        let env = json!({ "title": "E", "agent": "shell", "prompt": "true", "env": { name: "x" } });
        assert!(server.error("create_routine", env).contains(name));
    }
    assert_eq!(server.ok("list_routines", json!({}))["total"], 1);
    let left: Vec<_> = std::fs::read_dir(home.root().join("routines")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_title_in_any_script_makes_a_slug_and_a_slug_can_be_given() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    for (title, slug) in
        [("日本語", "ri-ben-yu"), ("Ελληνικά", "ellenika"), ("  Täglicher Überblick\u{a0}", "taglicher-uberblick")]
    {
        let made =
            server.ok("create_routine", json!({ "title": title, "agent": "shell", "prompt": "true" }))["routine"]
                .clone();
        assert_eq!((&made["slug"], &made["title"]), (&json!(slug), &json!(title.trim())), "{made}");
    }
    let arguments = json!({ "title": "日本語", "slug": "japanese", "agent": "shell", "prompt": "true" });
    assert_eq!(server.ok("create_routine", arguments.clone())["routine"]["slug"], "japanese");
    let taken = server.error("create_routine", arguments);
    assert!(taken.contains("'japanese' exists already") && taken.contains("`slug`"), "{taken}");
    let renamed = server.ok("update_routine", json!({ "routine": "japanese", "title": " 日本 " }))["routine"].clone();
    assert_eq!((&renamed["slug"], &renamed["title"]), (&json!("japanese"), &json!("日本")));
}

#[test]
fn a_whole_number_may_be_written_with_a_point() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let arguments = json!({
        "title": "Points", "agent": "shell", "prompt": "true", "ttl_secs": 60.0, "keep_last": 2.0,
        "retry": { "max_attempts": 3.0, "backoff_secs": 1e2 },
    });
    let made = server.ok("create_routine", arguments);
    assert_eq!(made["routine"]["ttl_secs"], 60);
    let settings = server.ok("get_routine", json!({ "routine": "points" }))["settings"].clone();
    assert_eq!(settings["retry"], json!({ "max_attempts": 3, "backoff_secs": 100 }), "{settings}");
    server.ok("update_routine", json!({ "routine": "points", "max_runtime_secs": 7.0 }));
    let run = server.trigger("points");
    server.ok("wait_run", json!({ "run": run, "timeout_secs": 20.0 }));
    server.ok("read_log", json!({ "run": run, "offset": 0.0 }));
    assert_eq!(server.ok("list_runs", json!({ "limit": 1.0 }))["total"], 1);
}

#[test]
fn routines_are_found_by_text_and_tag_page_by_page() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    for n in 0..5 {
        let tags = if n % 2 == 0 { json!(["even", "n"]) } else { json!(["n"]) };
        server.create(&format!("Report {n} ÄÖ"), "true", json!({ "tags": tags, "ttl_secs": 60 + n }));
    }
    server.create("Other", "true", json!({}));
    let all = server.ok("list_routines", json!({}));
    assert_eq!((&all["total"], all.get("next_cursor")), (&json!(6), None));
    assert!(!all.to_string().contains("prompt"), "{all}");
    assert_eq!(all["routines"][0]["slug"], "other");
    assert_eq!(
        (&all["routines"][0]["ttl_secs"], &all["routines"][0]["max_runtime_secs"]),
        (&json!(86_400), &json!(3600))
    );
    assert_eq!(all["routines"][1]["ttl_secs"], 60);
    assert_eq!(server.ok("list_routines", json!({ "query": "REPORT" }))["total"], 5);
    assert_eq!(server.ok("list_routines", json!({ "query": "äö" }))["total"], 5);
    assert_eq!(server.ok("list_routines", json!({ "tag": "even" }))["total"], 3);
    assert_eq!(server.ok("list_routines", json!({ "tag": "eve" }))["total"], 0);
    let mut seen = Vec::new();
    let mut arguments = json!({ "query": "report", "limit": 2 });
    loop {
        let page = server.ok("list_routines", arguments.clone());
        assert_eq!(page["total"], 5);
        seen.extend(page["routines"].as_array().unwrap().iter().map(|one| text(&one["slug"])));
        let Some(cursor) = page.get("next_cursor") else { break };
        arguments["cursor"] = cursor.clone();
    }
    assert_eq!(seen, ["report-0-ao", "report-1-ao", "report-2-ao", "report-3-ao", "report-4-ao"]);
    for (change, part) in [(json!({ "limit": 0 }), "between 1 and 200"), (json!({ "cursor": "../x" }), "next_cursor")] {
        let error = server.error("list_routines", change);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn runs_are_listed_newest_first_by_routine_and_status_page_by_page() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let (good, bad) = (server.create("Good", "true", json!({})), server.create("Bad", "false", json!({})));
    let mut started = Vec::new();
    for routine in [&good, &bad, &good, &good] {
        let run = server.trigger(routine);
        let status = if *routine == good { "succeeded" } else { "failed" };
        server.wait_for_run(&run, status);
        started.push(run);
    }
    let ids = |page: &Value| page["runs"].as_array().unwrap().iter().map(|run| text(&run["id"])).collect::<Vec<_>>();
    let all = server.ok("list_runs", json!({}));
    assert_eq!(all["total"], 4);
    let stamps: Vec<u64> = ids(&all).iter().map(|id| id.rsplit_once('-').unwrap().1.parse().unwrap()).collect();
    assert!(stamps.is_sorted_by(|a, b| a >= b), "{stamps:?}");
    assert_eq!(ids(&server.ok("list_runs", json!({ "routine": bad }))), [started[1].clone()]);
    assert_eq!(ids(&server.ok("list_runs", json!({ "status": "failed" }))), [started[1].clone()]);
    assert_eq!(server.ok("list_runs", json!({ "routine": good, "status": "failed" }))["total"], 0);
    let newest_first: Vec<String> = [&started[3], &started[2], &started[0]].map(Clone::clone).to_vec();
    for filter in [json!({ "routine": good }), json!({ "routine": good, "status": "succeeded" })] {
        let mut seen = Vec::new();
        let mut arguments = filter.clone();
        arguments["limit"] = json!(2);
        loop {
            let page = server.ok("list_runs", arguments.clone());
            assert_eq!(page["total"], 3);
            seen.extend(ids(&page));
            let Some(cursor) = page.get("next_cursor") else { break };
            arguments["cursor"] = cursor.clone();
        }
        assert_eq!(seen, newest_first);
    }
    let error = server.error("list_runs", json!({ "status": "crashed" }));
    assert!(error.contains("`status`") && error.contains("crashed") && error.contains("`timed_out`"), "{error}");
    let error = server.error("list_runs", json!({ "routine": "goood" }));
    assert!(error.contains("no routine 'goood'") && error.contains("'good'"), "{error}");
    server.create("Idle", "true", json!({}));
    assert_eq!(server.ok("list_runs", json!({ "routine": "idle" }))["total"], 0);
    server.ok("delete_routine", json!({ "routine": "good" }));
    assert_eq!(server.ok("list_runs", json!({ "routine": "good" }))["total"], 3, "of a deleted routine");
    let error = server.error("list_runs", json!({ "routine": "Not A Slug" }));
    assert!(error.contains("`routine`") && error.contains("Not A Slug"), "{error}");
}

#[test]
fn a_log_is_clean_text_and_its_end() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let prompt = r"printf '\033[1;31mred\033[0m\ttab\r\n 10%%\r100%%\n\033]0;title\007\101\303\251\377\000\n'";
    let run = server.start_run("Colours", prompt, json!({}));
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), "red\ttab\n100%\nAé\u{fffd}\n");

    let run = server.start_run("Long", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line $i; done", json!({}));
    server.wait_for_run(&run, "succeeded");
    let tail = server.ok("read_log", json!({ "run": run, "tail_lines": 2 }));
    assert_eq!((&tail["text"], &tail["cut"]), (&json!("line 999\nline 1000\n"), &json!(true)));
    assert!(text(&tail["note"]).contains(home.workbench(&run).to_str().unwrap()), "{tail}");
    assert_eq!(text(&server.ok("read_log", json!({ "run": run }))["text"]).lines().count(), 200);
    let whole = server.ok("read_log", json!({ "run": run, "tail_lines": 1000 }));
    assert_eq!((&whole["cut"], whole.get("note")), (&json!(false), None));

    let log = home.workbench(&run).join("agent.log");
    std::fs::write(&log, "é".repeat(400_000) + "\nend\n").unwrap();
    let cut = server.ok("read_log", json!({ "run": run }));
    let shown = text(&cut["text"]);
    assert!(shown.len() <= 256 * 1024 && shown.len() > 255 * 1024 && shown.ends_with("é\nend\n"), "{}", shown.len());
    assert_eq!((&cut["cut"], &cut["log_bytes"]), (&json!(true), &json!(800_005)));
    for (arguments, part) in [
        (json!({ "run": run, "tail_lines": 0 }), "between 1 and 10000"),
        (json!({ "run": "colours-1" }), "list_runs"),
        (json!({ "run": "colours" }), "colours"),
    ] {
        let error = server.error("read_log", arguments);
        assert!(error.contains(part), "{error}");
    }
    std::fs::remove_file(&log).unwrap();
    assert_eq!(server.ok("read_log", json!({ "run": run }))["text"], "");
}

#[test]
fn health_counts_what_there_is() {
    let home = TestHome::detached("");
    let mut server = Server::start(&home);
    let health = server.ok("health", json!({}));
    assert_eq!((&health["routines"], &health["runs"], &health["problems"]), (&json!(0), &json!({}), &json!([])));
    assert_eq!(health["home"], home.root().to_str().unwrap());
    assert_eq!(health["session_host"], "detached");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let run = server.start_run("Big", "head -c 3000000 /dev/urandom > data; exit 1", json!({}));
    server.wait_for_run(&run, "failed");
    let run = server.start_run("Lives", "sleep 300", json!({}));
    let health = server.ok("health", json!({}));
    assert_eq!((&health["routines"], &health["runs"]), (&json!(2), &json!({ "failed": 1, "running": 1 })));
    assert!(health["workbench_bytes"].as_u64().unwrap() > 2_900_000, "{health}");
    assert_eq!(health["workbench_bytes_complete"], true);
    for round in ["watchdog", "sweep"] {
        crate::harness::wait_for(crate::harness::PATIENCE, round, || {
            let health = server.ok("health", json!({}));
            (health[round]["last"].is_string() && health[round]["next"].is_string()).then_some(())
        });
    }
    server.stop(&run);
    home.add_agent("broken", "comand = 'x'\n");
    let problems = server.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(text(&problems[0]["path"]).ends_with("agents/broken.toml"), "{problems:?}");
    assert!(text(&problems[0]["problem"]).contains("comand"), "{problems:?}");
}

#[test]
fn agents_are_listed_with_where_they_are() {
    let home = TestHome::detached("");
    home.add_agent("claude", "command = '/bin/echo'\n");
    let mut server = Server::start(&home);
    let agents = server.ok("list_agents", json!({}))["agents"].clone();
    let names: Vec<String> = agents.as_array().unwrap().iter().map(|agent| text(&agent["name"])).collect();
    assert_eq!(names, ["claude", "codex", "copilot", "gemini", "opencode", "qwen", "shell"]);
    assert_eq!((&agents[0]["available"], &agents[0]["command"]), (&json!(true), &json!("/bin/echo")));
    assert!(text(&agents[0]["defined_in"]).ends_with("agents/claude.toml"));
    assert_eq!(agents[1]["defined_in"], "built-in");
    assert_eq!(agents[1]["args"], json!(["exec", "--json", "--skip-git-repo-check", "{options}", "-"]));
    assert_eq!((&agents[6]["available"], &agents[6]["command"]), (&json!(true), &json!("sh")));
}
