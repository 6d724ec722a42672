//! A person is asked before a routine with live runs is deleted: in a legacy session, in a modern request, and where nobody can be asked.

use crate::harness::{Era, Server, TestHome, text};
use serde_json::{Value, json};

const LEGACY: Era = Era::Legacy("2025-11-25");

fn who_can_ask(home: &TestHome, era: Era) -> Server {
    Server::start_able(home, era, json!({ "elicitation": { "form": {} } }))
}

fn accept() -> Value {
    json!({ "action": "accept", "content": { "confirm": "Yes, do it" } })
}

/// Calls a tool that asks, answers the question as its client's era does, and returns the question and the tool's result.
fn ask_and_answer(server: &mut Server, era: &Era, tool: &str, arguments: Value, answer: Value) -> (Value, Value) {
    let call = server.send_call(tool, arguments.clone());
    if *era == Era::Modern {
        let asked = server.answer(call).unwrap();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let question = asked["inputRequests"]["confirm"].clone();
        let params = json!({
            "name": tool, "arguments": arguments, "inputResponses": { "confirm": answer }, "requestState": asked["requestState"],
        });
        (question, server.request("tools/call", params).unwrap())
    } else {
        let question = server.next_unasked();
        server.reply(&question, answer);
        (question, server.answer(call).unwrap())
    }
}

#[test]
fn a_routine_with_live_runs_goes_only_with_a_persons_consent() {
    for era in [LEGACY, Era::Modern] {
        let home = TestHome::detached("");
        let mut server = who_can_ask(&home, era.clone());
        let run = server.start_run("Busy", "exec sleep 300", json!({}));
        let arguments = json!({ "routine": "busy" });
        for no in [
            json!({ "action": "decline" }),
            json!({ "action": "cancel" }),
            json!({ "action": "accept", "content": { "confirm": "No, leave it" } }),
            json!({ "action": "accept", "content": { "confirm": true } }),
            json!({ "action": "accept" }),
        ] {
            let (question, result) = ask_and_answer(&mut server, &era, "delete_routine", arguments.clone(), no.clone());
            assert_eq!(question["method"], "elicitation/create", "{question}");
            let message = text(&question["params"]["message"]);
            assert!(message.contains(&run) && message.contains("'busy'"), "{message}");
            let schema = &question["params"]["requestedSchema"];
            assert_eq!(schema["required"], json!(["confirm"]), "{question}");
            let choice = json!({ "type": "string", "enum": ["No, leave it", "Yes, do it"] });
            assert_eq!(schema["properties"]["confirm"], choice, "a choice without a default, no first");
            assert_eq!(result["isError"], true, "{no}: {result}");
            // Sooner than anybody could have read it.
            let words = text(&result["content"][0]["text"]);
            assert!(words.contains("not answered, so it was not done") && words.contains("confirm = true"), "{words}");
            assert_eq!(server.run(&run)["status"], "running");
        }
        let (_, result) = ask_and_answer(&mut server, &era, "delete_routine", arguments, accept());
        let done = &result["structuredContent"];
        assert_eq!((&done["deleted"], &done["stopped"]), (&json!("busy"), &json!([run])), "{result}");
        assert_eq!(server.run(&run)["status"], "stopped");
    }
}

#[test]
fn nobody_is_asked_about_what_loses_nothing() {
    for era in [LEGACY, Era::Modern] {
        let home = TestHome::detached("");
        let mut server = who_can_ask(&home, era);
        let run = server.start_run("Done", "true", json!({ "ttl_secs": 1 }));
        server.wait_for_run(&run, "succeeded");
        crate::harness::wait_for(crate::harness::PATIENCE, "its removal", || {
            server.clean_up()["removed"][0].as_object().cloned()
        });
        server.ok("delete_routine", json!({ "routine": "done" }));
        assert!(server.nothing_unasked());
    }
}

#[test]
fn where_nobody_can_be_asked_the_argument_is_named() {
    for capabilities in [json!({}), json!({ "elicitation": { "url": {} } })] {
        for era in [LEGACY, Era::Modern] {
            let home = TestHome::detached("");
            let mut server = Server::start_able(&home, era, capabilities.clone());
            let run = server.start_run("Busy", "exec sleep 300", json!({}));
            let refused = server.error("delete_routine", json!({ "routine": "busy" }));
            assert!(refused.contains("confirm = true") && refused.contains(&run), "{refused}");
            assert_eq!(
                server.ok("delete_routine", json!({ "routine": "busy", "confirm": true }))["stopped"],
                json!([run])
            );
        }
    }
}

#[test]
fn a_question_is_withdrawn_with_its_call() {
    let home = TestHome::detached("");
    let mut server = who_can_ask(&home, LEGACY);
    let run = server.start_run("Busy", "exec sleep 300", json!({}));
    let call = server.send_call("delete_routine", json!({ "routine": "busy" }));
    let question = server.next_unasked();
    server.notify("notifications/cancelled", json!({ "requestId": call }));
    let withdrawn = server.next_unasked();
    assert_eq!(withdrawn["method"], "notifications/cancelled", "{withdrawn}");
    assert_eq!(withdrawn["params"]["requestId"], question["id"]);
    // An answer that comes too late changes nothing.
    server.reply(&question, accept());
    assert_eq!(server.run(&run)["status"], "running");
    assert!(!server.has_answer(call));
}

#[test]
fn the_end_of_a_connection_does_not_wait_for_an_answer() {
    let home = TestHome::detached("");
    let mut server = who_can_ask(&home, LEGACY);
    server.start_run("Busy", "exec sleep 300", json!({}));
    server.send_call("delete_routine", json!({ "routine": "busy" }));
    server.next_unasked();
    server.close_stdin();
    server.assert_leaves();
    assert!(home.root().join("routines/busy").is_dir());
}

#[test]
fn a_yes_is_to_what_was_shown_and_to_no_more() {
    for era in [LEGACY, Era::Modern] {
        let home = TestHome::detached("");
        let mut server = who_can_ask(&home, era.clone());
        let first = server.start_run("Busy", "exec sleep 300", json!({}));
        let mut other = Server::start(&home);
        let arguments = json!({ "routine": "busy" });
        let call = server.send_call("delete_routine", arguments.clone());
        let asked = if era == Era::Modern { server.answer(call).unwrap() } else { server.next_unasked() };
        let second = text(&other.ok("trigger_routine", json!({ "routine": "busy", "overlap": "allow" }))["run"]["id"]);
        // There is more now, so that the person is asked again.
        let again = if era == Era::Modern {
            let params = json!({
                "name": "delete_routine", "arguments": arguments, "inputResponses": { "confirm": accept() },
                "requestState": asked["requestState"],
            });
            let again = server.request("tools/call", params).unwrap();
            again["inputRequests"]["confirm"].clone()
        } else {
            server.reply(&asked, accept());
            server.next_unasked()
        };
        let message = text(&again["params"]["message"]);
        assert!(message.contains(&first) && message.contains(&second), "{message}");
        for run in [&first, &second] {
            assert_eq!(other.run(run)["status"], "running");
        }
        if era != Era::Modern {
            server.reply(&again, json!({ "action": "decline" }));
            assert!(server.tool_answer(call).error().contains("not answered"));
        }
    }
}

#[test]
fn a_yes_to_a_question_that_was_not_asked_is_none() {
    let home = TestHome::detached("");
    let mut server = who_can_ask(&home, Era::Modern);
    let runs = ["One", "Other"].map(|title| server.start_run(title, "exec sleep 300", json!({})));
    let asked =
        server.request("tools/call", json!({ "name": "delete_routine", "arguments": { "routine": "one" } })).unwrap();
    for (routine, state) in [("other", asked["requestState"].clone()), ("one", json!("made up")), ("one", Value::Null)]
    {
        let params = json!({
            "name": "delete_routine", "arguments": { "routine": routine }, "inputResponses": { "confirm": accept() },
            "requestState": state,
        });
        let result = server.request("tools/call", params).unwrap();
        assert_eq!(result["resultType"], "input_required", "{result}");
    }
    for era in [LEGACY, Era::Modern] {
        let mut unable = Server::start_in(&home, era);
        let params = json!({
            "name": "delete_routine", "arguments": { "routine": "one" }, "inputResponses": { "confirm": accept() },
            "requestState": asked["requestState"],
        });
        assert_eq!(unable.request("tools/call", params).unwrap()["isError"], true);
    }
    for run in &runs {
        assert_eq!(server.run(run)["status"], "running");
    }
}
