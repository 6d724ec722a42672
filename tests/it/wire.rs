//! The wire, against the real binary: both eras, every line that a client may send, and every way to end.

use std::time::{Duration, Instant};

use crate::harness::{Era, Server, TestHome};
use rustix::process::Signal;
use serde_json::{Value, json};

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const UNSUPPORTED_VERSION: i64 = -32022;

const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn names(tools: &Value) -> Vec<&str> {
    tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn every_legacy_version_shakes_hands() {
    for version in LEGACY {
        let home = TestHome::new();
        let mut server = Server::spawn(home.command());
        let answer = server.introduce(Era::Legacy(version));
        assert_eq!(answer["protocolVersion"], version);
        assert_eq!(answer["serverInfo"]["name"], "moadim-mcp");
        assert_eq!(answer["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(answer["serverInfo"]["title"].is_string() && answer["instructions"].is_string());
        assert!(server.request("ping", json!({})).is_ok());
        let tools = server.request("tools/list", json!({})).unwrap();
        assert!(names(&tools).contains(&"health"));
        assert!(tools.get("ttlMs").is_none() && tools.get("resultType").is_none(), "legacy: {tools}");
        assert_eq!(server.call_tool("health", json!({})).ok()["version"], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn a_version_that_nobody_knows_is_answered_with_the_newest_that_shakes_hands() {
    for version in ["1999-01-01", "2099-01-01", "2026-07-28"] {
        let home = TestHome::new();
        let mut server = Server::spawn(home.command());
        assert_eq!(server.introduce(Era::Legacy(version))["protocolVersion"], "2025-11-25", "{version}");
        assert!(server.request("ping", json!({})).is_ok(), "what was agreed on counts");
        assert!(server.request("tools/list", json!({})).unwrap().get("resultType").is_none());
    }
}

#[test]
fn a_modern_client_needs_no_handshake() {
    let home = TestHome::new();
    let mut server = Server::start_modern(&home);
    let found = server.request("server/discover", json!({})).unwrap();
    let versions = found["supportedVersions"].as_array().unwrap();
    assert_eq!(versions.len(), LEGACY.len() + 1);
    assert!(versions.contains(&json!("2026-07-28")));
    let tools = server.request("tools/list", json!({})).unwrap();
    let called = server.request("tools/call", json!({ "name": "health", "arguments": {} })).unwrap();
    for result in [&found, &tools, &called] {
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "moadim-mcp", "{result}");
    }
    for result in [&found, &tools] {
        assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{result}");
    }
    // Whatever their parameters.
    for gone in ["ping", "resources/subscribe", "resources/unsubscribe"] {
        for params in [json!({}), json!({ "uri": 7 }), json!({ "uri": "moadim://health" })] {
            assert_eq!(server.request(gone, params).unwrap_err().code, METHOD_NOT_FOUND, "{gone} is gone");
        }
    }
}

#[test]
fn a_request_without_an_introduction_is_refused() {
    let home = TestHome::new();
    let mut server = Server::spawn(home.command());
    let error = server.request("tools/list", json!({})).unwrap_err();
    assert_eq!(error.code, INVALID_PARAMS);
    assert!(error.message.contains("io.modelcontextprotocol/protocolVersion"), "{}", error.message);
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
    let error = server.request("tools/list", json!({ "_meta": meta })).unwrap_err();
    assert_eq!(error.code, INVALID_PARAMS);
    assert!(error.message.contains("clientCapabilities"), "{}", error.message);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2031-01-01",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let error = server.request("tools/list", json!({ "_meta": meta })).unwrap_err();
    assert_eq!(error.code, UNSUPPORTED_VERSION);
    assert!(error.data["supported"].is_array(), "{error:?}");
}

#[test]
fn both_eras_mix_in_one_process_in_any_order() {
    let home = TestHome::new();
    let mut server = Server::start_modern(&home);
    let modern = server.request("tools/list", json!({})).unwrap();
    server.introduce(Era::Legacy("2025-06-18"));
    let legacy = server.request("tools/list", json!({})).unwrap();
    assert_eq!(legacy["tools"], modern["tools"]);
    assert!(legacy.get("resultType").is_none() && modern["resultType"] == "complete");
    server.call_tool("health", json!({})).ok();
    server.introduce(Era::Modern);
    assert_eq!(server.request("tools/list", json!({})).unwrap(), modern);
    server.call_tool("health", json!({})).ok();
}

#[test]
fn requests_right_behind_the_handshake_are_served() {
    let home = TestHome::new();
    let mut server = Server::spawn(home.command());
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" },
    });
    let ids: Vec<u64> = std::iter::once(server.send("initialize", params))
        .chain((0..20).map(|_| server.send("tools/list", json!({}))).collect::<Vec<_>>())
        .collect();
    // Read before the input ends: a server that leaves answers for a second, and a busy machine takes longer.
    for id in ids {
        server.answer(id).unwrap();
    }
    server.close_stdin();
    assert!(server.wait().0.success());
}

#[test]
fn the_list_of_tools_never_changes_and_is_clean() {
    let home = TestHome::new();
    let mut server = Server::start(&home);
    let first = server.request("tools/list", json!({})).unwrap();
    assert_eq!(server.request("tools/list", json!({})).unwrap(), first);
    assert_eq!(Server::start(&home).request("tools/list", json!({})).unwrap(), first);
    assert!(names(&first).is_sorted());
    for tool in first["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(tool["title"].is_string() && tool["description"].is_string(), "{name}");
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean(), "{name}: {hint}");
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        for schema in ["inputSchema", "outputSchema"] {
            assert_eq!(tool[schema]["type"], "object", "{name}: {schema}");
            let text = tool[schema].to_string();
            for stumble in ["\"null\"", ":null", "$ref", "$defs", "\"uint", "\"int64", "\"int32"] {
                assert!(!text.contains(stumble), "{name}: {schema} holds {stumble}: {text}");
            }
        }
    }
}

#[test]
fn notifications_may_come_first() {
    for era in [Era::Legacy("2025-11-25"), Era::Modern] {
        let home = TestHome::new();
        let mut server = Server::spawn(home.command());
        for _ in 0..50 {
            server.notify("notifications/initialized", json!({}));
            server.notify("notifications/cancelled", json!({ "requestId": 3 }));
            server.notify("notifications/of-our-own", json!({ "x": 1 }));
            server.notify("$/lspThing", json!({}));
        }
        server.send_line(r#"{"jsonrpc":"2.0","id":99,"result":{}}"#);
        server.send_line(r#"{"jsonrpc":"2.0","id":99,"error":{"code":1,"message":"x"}}"#);
        server.introduce(era);
        server.call_tool("health", json!({})).ok();
        assert!(server.nothing_unasked());
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_the_server_lives_on() {
    for era in [Era::None, Era::Legacy("2025-11-25"), Era::Modern] {
        let home = TestHome::new();
        let mut server = Server::start_in(&home, era);
        let lines: [(&[u8], i64); 6] = [
            (b"{", PARSE_ERROR),
            (b"Content-Length: 52", PARSE_ERROR),
            (b"\xff\xfe\x00", PARSE_ERROR),
            (b"[]", INVALID_REQUEST),
            (b"null", INVALID_REQUEST),
            (b"{}", INVALID_REQUEST),
        ];
        for (line, code) in lines {
            server.send_line(line);
            let refusal = server.next_unasked();
            assert_eq!(refusal["error"]["code"], code, "{refusal}");
            assert!(refusal.get("id").is_none(), "{refusal}");
        }
        server.send_line("");
        server.send_line("\r");
        server.introduce(Era::Legacy("2025-11-25"));
        server.call_tool("health", json!({})).ok();
        assert!(server.nothing_unasked());
    }
}

#[test]
fn a_request_that_cannot_be_read_is_refused_by_its_id() {
    let home = TestHome::new();
    let mut server = Server::start(&home);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let call = |id: &str, arguments: &[u8]| {
        let mut line =
            format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/call","params":{{"name":"health","arguments":"#)
                .into_bytes();
        line.extend_from_slice(arguments);
        line.extend_from_slice(b"}}");
        line
    };
    server.send_line(call("deep", format!(r#"{{"a":{deep}}}"#).as_bytes()));
    assert_eq!(server.answer_to(&json!("deep")).unwrap_err().code, INVALID_REQUEST);
    server.send_line(call("bytes", b"{\"a\":\"\xff\"}"));
    assert_eq!(server.answer_to(&json!("bytes")).unwrap_err().code, INVALID_REQUEST);
    server.send_line(r#"{"id":"old","method":"ping"}"#);
    assert_eq!(server.answer_to(&json!("old")).unwrap_err().code, INVALID_REQUEST);
    server.send_line(call("number", b"{\"a\":1e999999}"));
    assert!(server.answer_to(&json!("number")).is_err());
    server.call_tool("health", json!({})).ok();
}

#[test]
fn malformed_parameters_and_unknown_names_are_told_apart() {
    for era in [Era::Legacy("2025-11-25"), Era::Modern] {
        let home = TestHome::new();
        let mut server = Server::start_in(&home, era);
        let error = server.request("tools/call", json!({ "name": "frobnicate", "arguments": {} })).unwrap_err();
        assert_eq!(error.code, INVALID_PARAMS);
        assert!(error.message.contains("frobnicate") && error.message.contains("health"), "{}", error.message);
        for params in [json!({}), json!({ "name": 7 }), json!({ "name": "health", "arguments": [1] })] {
            let error = server.request("tools/call", params).unwrap_err();
            assert_eq!(error.code, INVALID_PARAMS);
            assert!(error.message.contains("tools/call"), "{}", error.message);
        }
        let error = server.request("frobnicate", json!({})).unwrap_err();
        assert_eq!(error.code, METHOD_NOT_FOUND);
        assert!(error.message.contains("frobnicate"), "{}", error.message);
        let error = server.request("initialize", json!({ "protocolVersion": 7 })).unwrap_err();
        assert_eq!(error.code, INVALID_PARAMS);
        server.call_tool("health", json!({})).ok();
    }
}

#[test]
fn a_tool_without_arguments_rejects_them() {
    let home = TestHome::new();
    let mut server = Server::start(&home);
    let text = server.call_tool("health", json!({ "bogus": 1 })).error();
    assert!(text.contains("`bogus`") && text.contains("takes no arguments"), "{text}");
    assert!(server.request("tools/call", json!({ "name": "health" })).is_ok(), "arguments may be absent");
}

#[test]
fn ten_mebibytes_of_argument_are_read_and_an_overlong_line_is_skipped() {
    let home = TestHome::new();
    let mut server = Server::start(&home);
    let text = server.call_tool("health", json!({ "big": "x".repeat(10 << 20) })).error();
    assert!(text.contains("`big`") && text.len() < 1000);
    server.send_line("x".repeat(17 << 20));
    let refusal = server.next_unasked();
    assert_eq!(refusal["error"]["code"], INVALID_REQUEST);
    server.call_tool("health", json!({})).ok();
    assert!(server.nothing_unasked());
}

#[test]
fn many_calls_at_once_are_all_answered() {
    let home = TestHome::new();
    let mut server = Server::start(&home);
    let ids: Vec<u64> = (0..200).map(|_| server.send_call("health", json!({}))).collect();
    for (n, id) in ids.iter().enumerate() {
        if n % 3 == 0 {
            server.notify("notifications/cancelled", json!({ "requestId": id }));
        }
    }
    for (n, id) in ids.into_iter().enumerate() {
        // A cancelled call is answered only where its answer was quicker.
        if n % 3 != 0 {
            server.tool_answer(id).ok();
        }
    }
    server.call_tool("health", json!({})).ok();
}

#[test]
fn the_end_of_input_is_the_end() {
    let home = TestHome::new();
    for era in [Era::None, Era::Legacy("2025-11-25"), Era::Modern] {
        let mut server = Server::start_in(&home, era);
        server.close_stdin();
        server.assert_leaves();
    }
    let mut server = Server::spawn(home.command());
    server.notify("notifications/initialized", json!({}));
    server.close_stdin();
    server.assert_leaves();
    assert_eq!(server.stderr(), "");
}

#[test]
fn the_end_of_input_ends_an_open_subscription() {
    let home = TestHome::new();
    let mut server = Server::start_modern(&home);
    server.send("subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }));
    assert_eq!(server.next_unasked()["method"], "notifications/subscriptions/acknowledged");
    server.close_stdin();
    server.assert_leaves();
}

#[test]
fn answers_under_way_at_the_end_of_input_are_sent_even_without_a_last_newline() {
    let home = TestHome::new();
    let script = r#"printf '%s\n%s' "$1" "$2" | "$0""#;
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" },
    } });
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "health" } });
    let program = home.command();
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(script).arg(program.get_program()).arg(initialize.to_string()).arg(call.to_string());
    shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut ids: Vec<u64> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2], "{text}");
}

#[test]
fn signals_end_it_cleanly() {
    let home = TestHome::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        for era in [Era::Legacy("2025-11-25"), Era::Modern] {
            let mut server = Server::start_in(&home, era.clone());
            server.call_tool("health", json!({})).ok();
            if era == Era::Modern {
                server.send("subscriptions/listen", json!({ "notifications": {} }));
                server.next_unasked();
            }
            server.signal(signal);
            server.assert_leaves();
        }
    }
}

#[test]
fn a_signal_before_the_first_request_ends_it_cleanly() {
    let home = TestHome::new();
    let mut command = home.command();
    command.env("RUST_LOG", "warn,rmcp=info");
    let mut server = Server::spawn(command);
    // Its first log line says that it is up; before that a signal is the system's to answer.
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while server.stderr().is_empty() {
        assert!(Instant::now() < deadline, "it never came up");
        std::thread::sleep(Duration::from_millis(2));
    }
    server.signal(Signal::TERM);
    server.assert_leaves();
}

#[test]
fn logs_go_to_stderr_only() {
    let home = TestHome::new();
    let mut command = home.command();
    command.env("RUST_LOG", "trace");
    let mut server = Server::spawn(command);
    server.introduce(Era::Legacy("2025-11-25"));
    server.call_tool("health", json!({})).ok();
    let (status, _) = server.close_stdin_and_wait();
    assert!(status.success() && server.nothing_unasked());
    assert!(!server.stderr().is_empty());
}

#[test]
fn a_host_that_reads_nothing_more_is_left() {
    let home = TestHome::new();
    let mut child = home
        .command()
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n").unwrap();
    let deadline = Instant::now() + crate::harness::PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = child.kill();
    let _ = child.wait();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}
