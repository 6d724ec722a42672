//! Runs as tasks of the extension `io.modelcontextprotocol/tasks`, for modern clients that declare it.

use crate::harness::{Era, PATIENCE, Server, TestHome, text, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

const LEGACY: Era = Era::Legacy("2025-11-25");

fn declaring(home: &TestHome) -> Server {
    Server::start_able(home, Era::Modern, json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } }))
}

fn call(server: &mut Server, tool: &str, arguments: Value) -> Value {
    server.request("tools/call", json!({ "name": tool, "arguments": arguments })).unwrap()
}

fn get(server: &mut Server, task: &str) -> Value {
    server.request("tasks/get", json!({ "taskId": task })).unwrap()
}

/// Looks at a task until it is over.
fn follow(server: &mut Server, task: &str) -> Value {
    wait_for(PATIENCE, &format!("the task {task} to end"), || {
        let seen = get(server, task);
        (seen["status"] != "working").then_some(seen)
    })
}

#[test]
fn a_run_that_is_waited_for_is_a_task_of_its_name() {
    let home = TestHome::detached("");
    let mut server = declaring(&home);
    server.create("Slow", "until [ -e go ]; do sleep 0.05; done; echo done; exit 5", json!({}));
    let task = call(&mut server, "trigger_routine", json!({ "routine": "slow", "wait": true }));
    let run = text(&task["taskId"]);
    assert_eq!((&task["resultType"], &task["status"]), (&json!("task"), &json!("working")), "{task}");
    assert!(task["pollIntervalMs"].is_u64() && task["ttlMs"].is_null(), "{task}");
    let same = call(&mut server, "wait_run", json!({ "run": run }));
    assert_eq!((&same["resultType"], &same["taskId"]), (&json!("task"), &json!(run)), "{same}");
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    let over = follow(&mut server, &run);
    assert_eq!(over["status"], "completed", "{over}");
    let answer = &over["result"]["structuredContent"];
    assert_eq!((&answer["finished"], &answer["run"]["exit_code"]), (&json!(true), &json!(5)), "{over}");
    assert!(text(&over["statusMessage"]).contains("failed"), "{over}");
    // Of a run that was not waited for, too.
    let run =
        text(&call(&mut server, "trigger_routine", json!({ "routine": "slow" }))["structuredContent"]["run"]["id"]);
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    assert_eq!(follow(&mut server, &run)["status"], "completed");
}

#[test]
fn a_task_outlives_the_server_that_it_was_made_by() {
    let home = TestHome::detached("");
    let mut server = declaring(&home);
    server.create("Long", "until [ -e go ]; do sleep 0.05; done; echo survived", json!({}));
    let run = text(&call(&mut server, "trigger_routine", json!({ "routine": "long", "wait": true }))["taskId"]);
    server.signal(Signal::KILL);
    server.wait();
    std::fs::write(home.workbench(&run).join("go"), "").unwrap();
    let mut next = declaring(&home);
    let over = follow(&mut next, &run);
    assert_eq!(over["result"]["structuredContent"]["run"]["status"], "succeeded", "{over}");
    assert_eq!(over["createdAt"], next.run(&run)["triggered_at"]);
}

#[test]
fn cancelling_a_task_stops_its_run() {
    let home = TestHome::detached("");
    let mut server = declaring(&home);
    let run = server.start_run("Endless", "trap '' TERM; while :; do sleep 0.1; done", json!({}));
    call(&mut server, "wait_run", json!({ "run": run }));
    server.request("tasks/cancel", json!({ "taskId": run })).unwrap();
    let over = follow(&mut server, &run);
    assert_eq!(over["status"], "cancelled", "{over}");
    assert!(text(&over["statusMessage"]).contains("its task was cancelled"), "{over}");
    assert_eq!(server.run(&run)["status"], "stopped");
    // Again, it changes nothing.
    server.request("tasks/cancel", json!({ "taskId": run })).unwrap();
    server.request("tasks/update", json!({ "taskId": run, "inputResponses": {} })).unwrap();
}

#[test]
fn what_is_no_task_is_refused_by_name() {
    let home = TestHome::detached("");
    let mut server = declaring(&home);
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        for task in ["missing-7", "nonsense", "../x-1"] {
            let error = server.request(method, json!({ "taskId": task, "inputResponses": {} })).unwrap_err();
            assert_eq!((error.code, &error.data["taskId"]), (-32602, &json!(task)), "{method}: {error:?}");
        }
    }
    let result = call(&mut server, "wait_run", json!({ "run": "missing-7" }));
    assert_eq!(result["isError"], true, "{result}");
}

#[test]
fn a_client_that_declares_nothing_waits_as_before() {
    for era in [LEGACY, Era::Modern] {
        let home = TestHome::detached("");
        let mut server = Server::start_in(&home, era);
        server.create("Slow", "until [ -e \"$HOME/go\" ]; do sleep 0.05; done; exit 5", json!({}));
        let params = json!({
            "name": "trigger_routine", "arguments": { "routine": "slow", "wait": true }, "_meta": { "progressToken": "p" },
        });
        let call = server.send("tools/call", params);
        let progress = server.next_unasked();
        assert_eq!(progress["method"], "notifications/progress", "{progress}");
        std::fs::write(home.user().join("go"), "").unwrap();
        let result = server.answer(call).unwrap();
        let answer = &result["structuredContent"];
        assert_eq!((&answer["finished"], &answer["run"]["exit_code"]), (&json!(true), &json!(5)), "{result}");
        let run = text(&answer["run"]["id"]);
        assert_eq!(server.ok("wait_run", json!({ "run": run }))["finished"], true);
        assert_eq!(server.request("tasks/get", json!({ "taskId": run })).unwrap_err().code, -32021);
    }
}

#[test]
fn a_legacy_session_gets_no_task_whatever_its_client_declares() {
    let home = TestHome::detached("");
    let declared = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let mut server = Server::start_able(&home, LEGACY, declared);
    let extensions = &server.handshake["capabilities"]["extensions"];
    assert_eq!(extensions.get("io.modelcontextprotocol/tasks"), None, "{extensions}");
    let run = server.start_run("Quick", "true", json!({}));
    assert_eq!(server.ok("wait_run", json!({ "run": run }))["finished"], true);
    let waited = server.ok("trigger_routine", json!({ "routine": "quick", "wait": true }));
    assert_eq!((&waited["finished"], &waited["run"]["status"]), (&json!(true), &json!("succeeded")), "{waited}");
}

#[test]
fn where_runs_cannot_be_stopped_tasks_cannot_be_cancelled() {
    let home = TestHome::detached("");
    let run = Server::start(&home).start_run("Endless", "exec sleep 300", json!({}));
    let mut command = home.command();
    command.arg("--read-only");
    let mut server = Server::spawn_able(command, json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } }));
    server.introduce(Era::Modern);
    let error = server.request("tasks/cancel", json!({ "taskId": run })).unwrap_err();
    assert!(error.message.contains("stop_run"), "{error:?}");
    assert_eq!(get(&mut server, &run)["status"], "working");
    Server::start(&home).stop(&run);
}
