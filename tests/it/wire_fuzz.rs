//! Raw lines of every kind to the real server: it never dies, never blocks, and never prints a line that is not JSON.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::TestHome;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{TestError, TestRunner};
use serde_json::{Value, json};

/// How long an answer may take: generous, for the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection whose answers are looked at line by line, and not counted: of two requests with one id both are answered.
struct Connection {
    server: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    probes: u64,
}

impl Connection {
    fn open(home: &TestHome) -> Self {
        let mut command = home.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().expect("the server");
        let stdout = BufReader::new(server.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.split(b'\n') {
                if line.is_err() || sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Self { stdin: server.stdin.take(), server, lines, probes: 0 }
    }

    fn send(&mut self, line: &[u8]) {
        let stdin = self.stdin.as_mut().expect("it is open");
        // A server that is gone is noticed by the probe.
        let _ = stdin.write_all(line).and_then(|()| stdin.write_all(b"\n")).and_then(|()| stdin.flush());
    }

    /// Asks something simple, and looks at whatever comes until that is answered.
    fn probe(&mut self, method: &str) -> Result<(), String> {
        self.probes += 1;
        let id = json!(format!("probe-{}", self.probes));
        self.send(request(&id, method, &json!({})).as_bytes());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .map_err(|error| format!("no answer to {method}: {error}; the server: {:?}", self.server.try_wait()))?;
            let shown = || String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned();
            let message: Value = serde_json::from_slice(&line).map_err(|error| format!("{error}: {}", shown()))?;
            if message["jsonrpc"] != "2.0" {
                return Err(format!("no JSON-RPC: {}", shown()));
            }
            if message["id"] == id && message.get("method").is_none() {
                // Before a handshake an error is an answer too.
                return Ok(());
            }
        }
    }

    fn shake_hands(&mut self) {
        let client = json!({ "name": "test", "version": "0" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
        self.send(request(&json!("hands"), "initialize", &params).as_bytes());
        self.send(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn request(id: &Value, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

fn valid() -> impl Strategy<Value = String> {
    let call = |name: &str, arguments: Value| ("tools/call", json!({ "name": name, "arguments": arguments }));
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} });
    let all = [
        ("ping", json!({})),
        ("tools/list", json!({})),
        ("tools/list", json!({ "_meta": meta })),
        ("server/discover", json!({ "_meta": meta })),
        ("initialize", json!({ "protocolVersion": "2025-06-18", "capabilities": {} })),
        call("create_routine", json!({ "title": "A routine", "agent": "shell", "prompt": "exit 0", "ttl_secs": 60 })),
        call("list_routines", json!({ "limit": 20, "query": "a" })),
        call("list_runs", json!({ "limit": 20, "status": "running" })),
        call("read_log", json!({ "run": "a-routine-1780000000", "tail_lines": 10 })),
        call("stop_run", json!({ "run": "a-routine-1780000000" })),
        call("trigger_routine", json!({ "routine": "nobody-made-this" })),
        call("cleanup_workbenches", json!({ "dry_run": true })),
    ];
    (0..all.len(), 0..50u32).prop_map(move |(n, id)| request(&json!(id), all[n].0, &all[n].1))
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..4u8, any::<u8>(), 0..40usize);
    (valid(), vec(change, 1..4)).prop_map(|(line, changes)| {
        let mut bytes = line.into_bytes();
        for (at, kind, byte, length) in changes {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + length).min(bytes.len());
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..end)),
                _ => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        bytes
    })
}

fn nested() -> impl Strategy<Value = Vec<u8>> {
    (select(vec![("[", "]"), ("{\"a\":", "}")]), 1..200_000usize, any::<bool>(), any::<bool>()).prop_map(
        |((open, close), depth, whole, in_a_call)| {
            let inner = format!("{}1{}", open.repeat(depth), if whole { close.repeat(depth) } else { String::new() });
            let call = |it| {
                format!(
                    r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"health","arguments":{it}}}}}"#
                )
            };
            if in_a_call { call(inner).into_bytes() } else { inner.into_bytes() }
        },
    )
}

fn odd_values() -> impl Strategy<Value = Vec<u8>> {
    const ODD: [&str; 14] = [
        "1e400",
        "-1e400",
        "99999999999999999999999999999999999999",
        "18446744073709551616",
        "-9223372036854775809",
        "0.1e-999",
        "-0",
        "null",
        "true",
        "[]",
        "{}",
        "\"\"",
        r#""\ud800""#,
        r#""\u0000""#,
    ];
    let odd = || select(ODD.to_vec());
    (odd(), odd(), select(vec!["ping", "tools/list", "tools/call", "notifications/cancelled"])).prop_map(
        |(id, value, method)| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"name":"list_runs","requestId":{value},"arguments":{{"limit":{value},"cursor":{value}}}}}}}"#
            )
            .into_bytes()
        },
    )
}

fn large() -> impl Strategy<Value = Vec<u8>> {
    (select(vec!["title", "prompt", "agent", "unknown"]), select(vec![1usize << 16, 1 << 20, 10 << 20])).prop_map(
        |(field, size)| {
            let mut arguments = json!({ "title": "Large", "agent": "shell", "prompt": "exit 0" });
            arguments[field] = json!("x".repeat(size));
            request(&json!(8), "tools/call", &json!({ "name": "create_routine", "arguments": arguments })).into_bytes()
        },
    )
}

fn cancellation() -> impl Strategy<Value = Vec<u8>> {
    (0..50u32).prop_map(|id| {
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id, "reason": "why not" } })
            .to_string()
            .into_bytes()
    })
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let unknown = (any::<String>(), any::<i64>())
        .prop_map(|(method, id)| request(&json!(id), &method, &json!({ "x": [1, null] })).into_bytes());
    let batch = vec(valid(), 0..4).prop_map(|all| format!("[{}]", all.join(",")).into_bytes());
    prop_oneof![
        4 => vec(any::<u8>(), 0..300),
        20 => mutated(),
        10 => valid().prop_map(String::into_bytes),
        2 => nested(),
        6 => odd_values(),
        1 => large(),
        10 => cancellation(),
        4 => unknown,
        2 => batch,
    ]
}

#[test]
fn whatever_lines_come_the_server_lives_answers_and_speaks_json() {
    let long = std::env::var("MOADIM_LONG_TESTS").is_ok_and(|value| value == "1");
    let home = TestHome::detached("");
    let config = ProptestConfig {
        cases: if long { 300 } else { 30 },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let mut connection = None;
    let case = |lines: Vec<Vec<u8>>| {
        // A new one after a failure, and now and then without a failure too: the first lines are a state of their own.
        let shakes_hands = !lines.len().is_multiple_of(3);
        let mut current: Connection = connection.take().unwrap_or_else(|| Connection::open(&home));
        if current.probes == 0 && shakes_hands {
            current.shake_hands();
        }
        lines.iter().for_each(|line| current.send(line));
        current.probe("ping").and_then(|()| current.probe("tools/list")).map_err(TestCaseError::fail)?;
        if current.probes < 40 {
            connection = Some(current);
        }
        Ok(())
    };
    let case = std::cell::RefCell::new(case);
    let result = TestRunner::new(config).run(&vec(line(), 1..10), |lines| case.borrow_mut()(lines));
    match result {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("{reason}"),
        Err(TestError::Fail(reason, lines)) => {
            let shown = |line: &Vec<u8>| String::from_utf8_lossy(&line[..line.len().min(400)]).into_owned();
            panic!("{reason}; after {:#?}", lines.iter().map(shown).collect::<Vec<_>>());
        }
    }
}
