//! The interface for programs, over real sockets.

use std::time::{Duration, Instant};

use crate::harness::{Dashboard, PATIENCE, TestHome, assert_says, text, wait_for, wait_until};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");

impl Dashboard {
    fn create(&self, title: &str, prompt: &str) -> String {
        let arguments = json!({ "title": title, "agent": "shell", "prompt": prompt });
        text(&self.tool("create_routine", &arguments)["routine"]["slug"])
    }

    fn trigger(&self, routine: &str) -> String {
        text(&self.send("POST", &format!("/api/routines/{routine}/trigger"), &[], b"").ok()["run"]["id"])
    }

    fn wait_for_run(&self, run: &str, status: &str) -> Value {
        wait_for(PATIENCE, &format!("{run} to be {status}"), || {
            let run = self.get(&format!("/api/runs/{run}")).ok()["run"].clone();
            (run["status"] == status).then_some(run)
        })
    }
}

#[test]
fn each_path_answers_as_its_tool() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let routine = dashboard.create("Daily", "echo done");
    let runs: Vec<String> = (0..2)
        .map(|_| {
            let run = dashboard.trigger(&routine);
            dashboard.wait_for_run(&run, "succeeded");
            run
        })
        .collect();
    let run = &runs[0];
    for (path, tool, arguments) in [
        ("/api/routines", "list_routines", json!({})),
        ("/api/routines?query=dai&limit=1", "list_routines", json!({ "query": "dai", "limit": 1 })),
        ("/api/routines/daily", "get_routine", json!({ "routine": "daily" })),
        ("/api/routines/daily?preview=true", "get_routine", json!({ "routine": "daily", "preview": true })),
        ("/api/runs", "list_runs", json!({})),
        ("/api/runs?limit=1", "list_runs", json!({ "limit": 1 })),
        ("/api/runs?status=failed&routine=daily", "list_runs", json!({ "status": "failed", "routine": "daily" })),
        (
            "/api/runs?since=2026-01-01T00%3A00%3A00Z&until=2099-01-01T00:00:00Z",
            "list_runs",
            json!({ "since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z" }),
        ),
        (&format!("/api/runs?cursor={}", runs[1]), "list_runs", json!({ "cursor": runs[1] })),
        (&format!("/api/runs/{run}"), "get_run", json!({ "run": run })),
    ] {
        let answer = dashboard.get(path).ok();
        // What is looked up at each call differs: how long ago something was.
        let by_tool = dashboard.tool(tool, &arguments);
        assert_eq!(without_moments(answer), without_moments(by_tool), "{path}");
    }
    let health = dashboard.get("/api/health").ok();
    assert_eq!((&health["routines"], &health["runs"]["succeeded"]), (&json!(1), &json!(2)), "{health}");
    let usage = dashboard.get("/api/usage").ok();
    assert_eq!((&usage["total"]["runs"], &usage["routines"][0]["name"]), (&json!(2), &json!("daily")), "{usage}");
    let log = dashboard.get(&format!("/api/runs/{run}/log"));
    assert_eq!((log.status, log.text()), (200, "done\n"));
    assert_eq!(log.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(log.header("Moadim-Next-Offset"), Some("5"));
    let head = dashboard.send("HEAD", "/api/runs", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

/// Takes out what another look may see differently.
fn without_moments(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(map) => {
            map.remove("processes");
            // A run's name may be ahead of the clock where two were triggered in one second; it counts as ended now until then.
            map.remove("reap_at");
            map.values_mut().for_each(|value| *value = without_moments(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| *value = without_moments(value.take())),
        _ => {}
    }
    answer
}

#[test]
fn a_run_is_triggered_with_a_text_and_stopped() {
    let (home, dashboard) = Dashboard::at_new_home();
    home.add_agent("reader", "command = 'sh'\npreamble = true\nargs = ['-c', 'cat; exec sleep 300']\n");
    let arguments = json!({ "title": "Long", "agent": "reader", "prompt": "Think." });
    let routine = text(&dashboard.tool("create_routine", &arguments)["routine"]["slug"]);
    let trigger = format!("/api/routines/{routine}/trigger");
    let run = text(&dashboard.post(&trigger, &json!({ "text": "about this" })).ok()["run"]["id"]);
    wait_until("the agent to have read it", || {
        dashboard.get(&format!("/api/runs/{run}/log")).text().contains("about this")
    });
    let refused = dashboard.post(&trigger, &json!({})).refused(422);
    assert_says(&refused, &[&run]);
    let beside = text(&dashboard.post(&trigger, &json!({ "overlap": "allow" })).ok()["run"]["id"]);
    for run in [&run, &beside] {
        let stopped = dashboard.post(&format!("/api/runs/{run}/stop"), &json!({ "reason": "enough" })).ok();
        assert_eq!(
            (&stopped["run"]["status"], &stopped["run"]["status_reason"]),
            (&json!("stopped"), &json!("enough"))
        );
    }
    let again = dashboard.send("POST", &format!("/api/runs/{run}/stop"), &[], b"").ok();
    assert_eq!(again["run"]["status"], "stopped");
}

#[test]
fn what_is_not_done_has_its_status_and_says_why() {
    let (_home, dashboard) = Dashboard::at_new_home();
    dashboard.create("Daily", "true");
    for (path, says) in [
        ("/api/routines/missing", "missing"),
        ("/api/routines/No%20Slug", "No Slug"),
        ("/api/runs/missing-7", "missing-7"),
        ("/api/runs/missing-7/log", "missing-7"),
        ("/api/runs/..%2F..%2Fetc", "etc"),
        ("/api/other", "/api/openapi.json"),
        ("/api/", "/api/openapi.json"),
    ] {
        assert_says(&dashboard.get(path).refused(404), &[says]);
    }
    for path in ["/api/routines/missing/trigger", "/api/runs/missing-7/stop"] {
        assert_says(&dashboard.post(path, &json!({})).refused(404), &["missing"]);
    }
    assert_says(&dashboard.post("/api/tools/list_run", &json!({})).refused(404), &["`list_run`", "list_runs"]);

    for (method, path, allowed) in [
        ("POST", "/api/runs", "GET,HEAD"),
        ("DELETE", "/api/routines/daily", "GET,HEAD"),
        ("GET", "/api/routines/daily/trigger", "POST"),
        ("GET", "/api/tools/list_runs", "POST"),
        ("PUT", "/metrics", "GET,HEAD"),
    ] {
        let answer = dashboard.send(method, path, &[], b"");
        assert_says(&answer.refused(405), &[method]);
        assert_eq!(answer.header("Allow"), Some(allowed), "{method} {path}");
    }

    for (kind, body) in [("text/plain", "{}"), ("application/x-www-form-urlencoded", "a=1"), (JSON.1, "{a:1}")] {
        let answer = dashboard.send("POST", "/api/tools/list_runs", &[("Content-Type", kind)], body.as_bytes());
        assert!(!answer.refused(415).is_empty());
    }
    let large = "x".repeat(2 * 1024 * 1024);
    dashboard.send("POST", "/api/tools/list_runs", &[JSON], large.as_bytes()).refused(413);

    for (path, says) in [
        ("/api/runs?limits=3", "`limits`"),
        ("/api/runs?limit=many", "`limit`"),
        ("/api/runs?limit=3&limit=4", "`limit` is given twice"),
        ("/api/runs?limit=0", "between 1 and 200"),
        ("/api/runs?status=happy", "happy"),
        ("/api/runs?routine=missing", "missing"),
        ("/api/runs?cursor=x", "next_cursor"),
        ("/api/routines/daily?routine=daily", "`routine` is in the path"),
        ("/api/usage?days=3", "`days`"),
    ] {
        assert_says(&dashboard.get(path).refused(422), &[says]);
    }
    for (path, body, says) in [
        ("/api/tools/list_runs", json!({ "limits": 3 }), "`limits`"),
        ("/api/tools/list_runs", json!([]), "object"),
        ("/api/tools/get_run", json!({}), "`run`"),
        ("/api/tools/create_routine", json!({ "trusted": {} }), "only a person"),
        ("/api/routines/daily/trigger", json!({ "txt": "x" }), "`txt`"),
        ("/api/routines/daily/trigger", json!({ "routine": "other" }), "`routine` is in the path"),
        ("/api/routines/daily/trigger?text=x", json!({}), "`text`"),
    ] {
        assert_says(&dashboard.post(path, &body).refused(422), &[says]);
    }
}

#[test]
fn only_tools_that_are_served_answer() {
    let home = TestHome::detached("");
    Dashboard::start(&home).create("Daily", "true");
    let dashboard = Dashboard::start_with(&home, &["--read-only"]);
    assert_eq!(dashboard.get("/api/routines").ok()["total"], 1);
    for path in ["/api/tools/trigger_routine", "/api/routines/daily/trigger"] {
        assert_says(&dashboard.post(path, &json!({})).refused(404), &["`trigger_routine`"]);
    }
    assert!(dashboard.get("/api/openapi.json").ok()["paths"].get("/api/routines/{routine}/trigger").is_none());
    let token = home.moadim(&["token", "new", "--routine", "daily"]).ok();
    let bearer = format!("Bearer {}", token.trim());
    let answer = dashboard.send("POST", "/api/routines/daily/trigger", &[("Authorization", &bearer)], b"");
    let refused = answer.refused(403);
    assert_says(&refused, &["read-only", "--read-only"]);
    assert!(!refused.contains("list_runs"), "{refused}");
}

#[test]
fn what_a_person_must_agree_to_is_asked_and_done_once_they_did() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let delete = "/api/tools/delete_routine";
    let busy = ["One", "Two"].map(|title| {
        let routine = dashboard.create(title, "exec sleep 300");
        let run = dashboard.trigger(&routine);
        (routine, run)
    });
    let ask = |routine: &str, agreement: &str| {
        let body = json!({ "routine": routine }).to_string();
        dashboard.send("POST", delete, &[JSON, ("Moadim-Agreement", agreement)], body.as_bytes())
    };
    let question = |routine: &str, run: &str, agreement: &str| {
        let asked = ask(routine, agreement);
        assert_says(&asked.refused(409), &["Moadim-Agreement"]);
        let asked = asked.json();
        assert_says(&text(&asked["question"]), &[routine, run]);
        text(&asked["agreement"])
    };
    let [(one, run), (two, other)] = &busy;
    let agreement = question(one, run, "");
    // It is for this call alone.
    question(two, other, &agreement);
    assert_eq!(dashboard.get(&format!("/api/runs/{other}")).ok()["run"]["status"], "running");
    let done = ask(one, &agreement).ok();
    assert_eq!((&done["deleted"], &done["stopped"]), (&json!(one), &json!([run])), "{done}");
    dashboard.wait_for_run(run, "stopped");
    // Nothing more is done than was agreed to.
    let agreement = question(two, other, "");
    let trigger = format!("/api/routines/{two}/trigger");
    let later = text(&dashboard.post(&trigger, &json!({ "overlap": "allow" })).ok()["run"]["id"]);
    let agreement = question(two, &later, &agreement);
    let done = ask(two, &agreement).ok();
    assert_eq!(done["stopped"].as_array().map(Vec::len), Some(2), "{done}");
}

#[test]
fn the_life_of_a_run_is_streamed() {
    let (home, mut dashboard) = Dashboard::at_new_home();
    let gate = home.scratch().join("gate");
    let until = |name: &str| format!("while [ ! -e {}-{name} ]; do sleep 0.02; done; echo {name}", gate.display());
    let mut events = dashboard.events();
    let routine = dashboard.create("Told", &["print", "end"].map(until).join("; "));
    let of_routine = format!("moadim://routines/{routine}");
    events.wait_for(&["moadim://", &of_routine]);
    let run = dashboard.trigger(&routine);
    let (of_run, log) = (format!("moadim://runs/{run}"), format!("moadim://runs/{run}/log"));
    let announced = events.wait_for(&["moadim://", &of_routine, &of_run]);
    assert!(announced.iter().all(|topic| topic.starts_with("moadim://")), "{announced:?}");
    // Another client hears the same, from now on.
    let mut other = dashboard.events();
    std::fs::write(format!("{}-print", gate.display()), "").unwrap();
    for events in [&mut events, &mut other] {
        events.wait_for(&[&log]);
    }
    std::fs::write(format!("{}-end", gate.display()), "").unwrap();
    for events in [&mut events, &mut other] {
        events.wait_for(&["moadim://", &of_routine, &of_run, "moadim://usage"]);
    }
    // In this order: what was announced is there.
    assert_eq!(dashboard.get(&format!("/api/runs/{run}")).ok()["run"]["status"], "succeeded");
    dashboard.tool("pin_run", &json!({ "run": run, "pinned": true }));
    events.wait_for(&[&of_run]);
    dashboard.tool("update_routine", &json!({ "routine": routine, "title": "Retold" }));
    events.wait_for(&[&of_routine]);
    let began = Instant::now();
    dashboard.end();
    while events.next().is_some() {}
    assert!(began.elapsed() < Duration::from_secs(20), "a stream holds up the end of the server");
}

#[test]
fn a_chatty_agent_costs_a_client_two_events_a_second() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let routine = dashboard.create("Chatty", "while :; do echo line; sleep 0.005; done");
    let run = dashboard.trigger(&routine);
    let log = format!("moadim://runs/{run}/log");
    let mut events = dashboard.events();
    let (began, mut count) = (Instant::now(), 0);
    while count < 6 {
        let announced = events.next().unwrap();
        count += u128::from(announced.contains(&log));
        let most = 2 * began.elapsed().as_millis() / 1000 + 1;
        assert!(count <= most, "{count} > {most}");
    }
    dashboard.post(&format!("/api/runs/{run}/stop"), &json!({})).ok();
}

#[test]
fn a_log_is_followed_by_its_offset() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let routine = dashboard.create("Follow", "for n in 1 2 3 4 5 6 7 8 9 10; do echo line $n; sleep 0.1; done");
    let run = dashboard.trigger(&routine);
    let (mut offset, mut all, mut is_over) = ("0".to_owned(), String::new(), false);
    wait_until("the log to be whole", || {
        let was_over = is_over;
        is_over = dashboard.get(&format!("/api/runs/{run}")).ok()["run"]["status"] == "succeeded";
        let part = dashboard.get(&format!("/api/runs/{run}/log?offset={offset}"));
        all += part.text();
        offset = part.header("Moadim-Next-Offset").unwrap().to_owned();
        was_over
    });
    let expected: String = (1..=10).map(|n| format!("line {n}\n")).collect();
    assert_eq!(all, expected);
    assert_eq!(dashboard.get(&format!("/api/runs/{run}/log?tail_lines=1")).text(), "line 10\n");
    assert_eq!(dashboard.get(&format!("/api/runs/{run}/log?grep=line%201$")).text(), "0:line 1\n");
}

#[test]
fn runs_are_counted_in_the_metrics() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let value = |name: &str| -> Option<f64> {
        let answer = dashboard.get("/metrics");
        assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let line = answer.text().lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.map(|value| value.parse().unwrap())
    };
    assert_eq!(value("moadim_runs_live"), Some(0.0));
    let (good, bad) = (dashboard.create("Good", "true"), dashboard.create("Bad", "exit 3"));
    for (routine, status) in [(&good, "succeeded"), (&bad, "failed"), (&good, "succeeded")] {
        let run = dashboard.trigger(routine);
        dashboard.wait_for_run(&run, status);
    }
    let live = dashboard.create("Live", "exec sleep 300");
    let live = dashboard.trigger(&live);
    for (name, expected) in [
        ("moadim_runs_total{routine=\"good\",status=\"succeeded\"}", 2.0),
        ("moadim_runs_total{routine=\"bad\",status=\"failed\"}", 1.0),
        ("moadim_run_duration_seconds_count{routine=\"good\"}", 2.0),
        ("moadim_runs_live", 1.0),
        ("moadim_runs_unknown", 0.0),
        ("moadim_routines", 3.0),
    ] {
        assert_eq!(value(name), Some(expected), "{name}");
    }
    assert!(value("moadim_store_bytes{store=\"history\"}").is_some());
    // A retry that is not due yet.
    assert_eq!(value("moadim_routines_waiting"), Some(0.0));
    let retry = json!({ "max_attempts": 2, "backoff_secs": 3600 });
    let again = json!({ "title": "Again", "agent": "shell", "prompt": "exit 3", "retry": retry });
    let again = text(&dashboard.tool("create_routine", &again)["routine"]["slug"]);
    dashboard.wait_for_run(&dashboard.trigger(&again), "failed");
    wait_until("the retry to wait", || value("moadim_routines_waiting") == Some(1.0));
    assert_eq!(value("moadim_last_sweep_timestamp_seconds"), None);
    dashboard.tool("cleanup_workbenches", &json!({}));
    assert!(value("moadim_last_sweep_timestamp_seconds").is_some_and(|at| at > 1.7e9));
    dashboard.post(&format!("/api/runs/{live}/stop"), &json!({})).ok();
    assert_eq!(value("moadim_runs_total{routine=\"live\",status=\"stopped\"}"), Some(1.0));
}

#[test]
fn the_interface_is_described_as_it_is() {
    let (_home, dashboard) = Dashboard::at_new_home();
    let description = dashboard.get("/api/openapi.json").ok();
    let golden: Value = serde_json::from_str(include_str!("../../schemas/openapi.json")).unwrap();
    assert_eq!(description, golden);
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path = path.replace("{routine}", "missing").replace("{run}", "missing-7");
        let method = methods.as_object().unwrap().keys().next().unwrap().to_uppercase();
        if path == "/api/events" {
            continue;
        }
        // No tool does anything with an argument that it does not know.
        let answer = match &*method {
            "GET" => dashboard.get(&path),
            _ => dashboard.post(&path, &json!({ "unknown": true })),
        };
        let is_named = path.contains("missing");
        let expected = if is_named {
            404
        } else if method == "GET" {
            200
        } else {
            422
        };
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        assert!(!answer.text().contains("lists the paths"), "{method} {path}");
    }
}
