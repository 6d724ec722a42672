//! Resources, their completion and the prompts: what a host shows, embeds and offers, in both eras.

use crate::harness::{Era, Server, TestHome, text};
use serde_json::{Value, json};

const ERAS: [Era; 2] = [Era::Legacy("2025-11-25"), Era::Modern];

fn in_both_eras(test: impl Fn(&TestHome, &mut Server, &Era)) {
    for era in ERAS {
        let home = TestHome::detached("");
        let mut server = Server::start_in(&home, era.clone());
        test(&home, &mut server, &era);
    }
}

fn uris(listed: &Value) -> Vec<String> {
    listed["resources"].as_array().unwrap().iter().map(|resource| text(&resource["uri"])).collect()
}

/// Returns a resource's text, and checks that it carries the name it was asked for by.
#[track_caller]
fn read(server: &mut Server, uri: &str) -> String {
    let answer = server.request("resources/read", json!({ "uri": uri })).unwrap();
    let contents = answer["contents"].as_array().unwrap();
    assert_eq!((contents.len(), &contents[0]["uri"]), (1, &json!(uri)));
    text(&contents[0]["text"])
}

fn read_json(server: &mut Server, uri: &str) -> Value {
    serde_json::from_str(&read(server, uri)).unwrap()
}

#[test]
fn what_there_is_can_be_listed_and_read() {
    in_both_eras(|_, server, era| {
        assert_eq!(uris(&server.request("resources/list", json!({})).unwrap()), ["moadim://health", "moadim://usage"]);
        let run = server.start_run("Says", "echo hello; exit 3", json!({}));
        server.wait_for_run(&run, "failed");
        let listed = server.request("resources/list", json!({})).unwrap();
        let (of_run, log) = (format!("moadim://runs/{run}"), format!("moadim://runs/{run}/log"));
        assert_eq!(uris(&listed), ["moadim://health", "moadim://usage", &of_run, &log, "moadim://routines/says"]);
        if *era == Era::Modern {
            assert_eq!((&listed["ttlMs"], &listed["cacheScope"]), (&json!(0), &json!("private")), "{listed}");
            assert_eq!(listed["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "moadim-mcp");
        }
        assert_eq!(read(server, &log), "hello\n");
        let seen = read_json(server, &of_run);
        assert_eq!((&seen["run"]["status"], &seen["run"]["exit_code"]), (&json!("failed"), &json!(3)), "{seen}");
        let routine = read_json(server, "moadim://routines/says");
        assert_eq!((&routine["prompt"], &routine["routine"]["slug"]), (&json!("echo hello; exit 3"), &json!("says")));
        assert_eq!(read_json(server, "moadim://health")["problems"], json!([]));
        let usage = read_json(server, "moadim://usage");
        assert_eq!((&usage["total"]["runs"], &usage["routines"][0]["name"]), (&json!(1), &json!("says")), "{usage}");
    });
}

#[test]
fn a_resource_says_what_the_tool_says() {
    in_both_eras(|_, server, _| {
        let run = server.start_run("Same", "echo x", json!({}));
        server.wait_for_run(&run, "succeeded");
        let same = [
            ("get_run", json!({ "run": run }), format!("moadim://runs/{run}")),
            ("get_routine", json!({ "routine": "same" }), "moadim://routines/same".to_owned()),
        ];
        for (tool, arguments, uri) in same {
            assert_eq!(read_json(server, &uri), server.ok(tool, arguments), "{uri}");
        }
    });
}

#[test]
fn a_log_that_is_cut_says_so() {
    in_both_eras(|_, server, _| {
        let run = server.start_run("Long", "seq 1 5000", json!({}));
        server.wait_for_run(&run, "succeeded");
        let log = read(server, &format!("moadim://runs/{run}/log"));
        let (note, lines) = log.split_once('\n').unwrap();
        assert!(note.starts_with("[cut: these are the last 200 lines"), "{note}");
        assert!(lines.starts_with("4801\n") && lines.ends_with("5000\n"), "{lines}");
    });
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    in_both_eras(|_, server, era| {
        let code = if *era == Era::Modern { -32602 } else { -32002 };
        for uri in ["moadim://routines/missing", "moadim://runs/missing-7", "moadim://runs/../x-1/log", "file:///etc"] {
            let error = server.request("resources/read", json!({ "uri": uri })).unwrap_err();
            assert_eq!((error.code, &error.data["uri"]), (code, &json!(uri)), "{error:?}");
        }
        let error = server.request("resources/read", json!({})).unwrap_err();
        assert!(error.code == -32602 && error.message.contains("uri"), "{error:?}");
        let error = server.request("resources/list", json!({ "cursor": "No Slug" })).unwrap_err();
        assert!(error.code == -32602 && error.message.contains("nextCursor"), "{error:?}");
    });
}

#[test]
fn many_routines_come_in_pages_and_each_once() {
    let home = TestHome::detached("");
    for n in 0..230 {
        home.write(format!("routines/r-{n}/routine.toml"), "title = \"R\"\nagent = \"shell\"\n");
        home.write(format!("routines/r-{n}/prompt.md"), "true");
    }
    let mut server = Server::start(&home);
    let (mut seen, mut pages, mut params) = (Vec::new(), 0, json!({}));
    loop {
        let page = server.request("resources/list", params).unwrap();
        seen.extend(uris(&page));
        pages += 1;
        match page.get("nextCursor") {
            Some(cursor) => params = json!({ "cursor": cursor }),
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (232, 3));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 232);
}

#[test]
fn names_are_completed() {
    in_both_eras(|_, server, _| {
        let run = server.start_run("Nightly build", "true", json!({}));
        server.create("Build docs", "true", json!({}));
        let mut complete = |reference: Value, name: &str, typed: &str| {
            let params = json!({ "ref": reference, "argument": { "name": name, "value": typed } });
            server.request("completion/complete", params).map(|answer| answer["completion"].clone())
        };
        let template = |uri: &str| json!({ "type": "ref/resource", "uri": uri });
        let found = complete(template("moadim://routines/{routine}"), "routine", "build").unwrap();
        assert_eq!(found["values"], json!(["build-docs", "nightly-build"]), "what begins so comes first");
        assert_eq!((&found["total"], &found["hasMore"]), (&json!(2), &json!(false)));
        for reference in [template("moadim://runs/{run}/log"), json!({ "type": "ref/prompt", "name": "diagnose_run" })]
        {
            assert_eq!(complete(reference, "run", "nightly").unwrap()["values"], json!([run]));
        }
        let error = complete(template("moadim://x/{y}"), "y", "").unwrap_err();
        assert!(error.code == -32602 && error.message.contains("moadim://x/{y}"), "{error:?}");
    });
}

#[test]
fn prompts_bring_what_they_speak_of() {
    in_both_eras(|_, server, _| {
        let run = server.start_run("Breaks", "echo the disk is full; exit 4", json!({}));
        server.wait_for_run(&run, "failed");
        let listed = server.request("prompts/list", json!({})).unwrap();
        let names: Vec<_> = listed["prompts"].as_array().unwrap().iter().map(|prompt| text(&prompt["name"])).collect();
        assert_eq!(names, ["diagnose_run", "morning_report", "new_routine"]);
        let mut get = |name: &str, arguments: Value| {
            let answer = server.request("prompts/get", json!({ "name": name, "arguments": arguments }));
            answer.map(|answer| answer["messages"].as_array().unwrap().clone())
        };
        let diagnosis = get("diagnose_run", json!({ "run": run })).unwrap();
        let embedded: Vec<_> = diagnosis.iter().filter_map(|message| message["content"].get("resource")).collect();
        let uris: Vec<_> = embedded.iter().map(|resource| text(&resource["uri"])).collect();
        let of_run = format!("moadim://runs/{run}");
        assert_eq!(uris, [of_run.clone(), format!("{of_run}/log"), "moadim://routines/breaks".to_owned()]);
        assert_eq!(embedded[1]["text"], "the disk is full\n");
        let report = get("morning_report", json!({})).unwrap();
        assert!(
            report.iter().any(|message| message["content"]["text"].as_str().is_some_and(|text| text.contains(&run)))
        );
        assert!(
            text(&get("new_routine", json!({ "goal": "water the plants" })).unwrap()[0]["content"]["text"])
                .contains("water the plants")
        );
        let error = get("diagnose_run", json!({})).unwrap_err();
        assert!(error.code == -32602 && error.message.contains("`run` is missing"), "{error:?}");
        let error = get("nonsense", json!({})).unwrap_err();
        assert!(error.message.contains("morning_report"), "{error:?}");
    });
}

#[test]
fn a_server_that_offers_less_says_so_everywhere() {
    let home = TestHome::detached("");
    let mut command = home.command();
    command.arg("--read-only");
    let mut server = Server::spawn(command);
    let introduced = server.introduce(Era::Legacy("2025-11-25"));
    let tools = server.request("tools/list", json!({})).unwrap()["tools"].as_array().unwrap().clone();
    assert!(tools.iter().all(|tool| tool["annotations"]["readOnlyHint"] == true));
    let names: Vec<_> = tools.iter().map(|tool| text(&tool["name"])).collect();
    assert!(
        text(&introduced["instructions"]).ends_with(&format!("offered here: {}.", names.join(", "))),
        "{introduced}"
    );
    let error = server.request("tools/call", json!({ "name": "trigger_routine", "arguments": {} })).unwrap_err();
    assert!(error.message.contains("no tool `trigger_routine`"), "{error:?}");
    let prompts = server.request("prompts/list", json!({})).unwrap();
    assert!(!prompts.to_string().contains("new_routine"), "{prompts}");
    assert!(server.request("prompts/get", json!({ "name": "new_routine" })).is_err());

    let mut command = home.command();
    command.args(["--tools", "health,list_runs"]);
    let mut server = Server::start_with(command);
    let listed = server.request("tools/list", json!({})).unwrap();
    assert_eq!(listed["tools"].as_array().unwrap().len(), 2);
    assert_eq!(server.request("tools/list", json!({})).unwrap(), listed);

    for wrong in [&["--tools", "helth"][..], &["--read-only", "--tools", "stop_run"], &["--read-only", "health"]] {
        let output = home.command().args(wrong).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{wrong:?}: {output:?}");
    }
}
