//! A whole connection over pipes, with tools that misbehave.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::*;
use crate::home::Home;
use crate::mcp::call::Reply;
use crate::mcp::call_threads::CallThreads;
use crate::mcp::connection;
use crate::mcp::tool::{Hints, NoArguments, Tool};
use crate::run::context::App;

const DEADLINE: Duration = Duration::from_secs(30);

/// Less than [`LAST_ANSWERS_TIMEOUT`]: a server that leaves within it has waited for nothing.
const AT_ONCE: Duration = Duration::from_secs(4);

/// What the tools share with the test: a gate that the blocking ones wait at.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_timeout_while(open, DEADLINE, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

#[derive(Serialize, JsonSchema)]
struct Said {
    said: String,
}

#[derive(Deserialize, JsonSchema)]
struct Say {
    text: String,
}

fn tools(gate: &Arc<Gate>) -> Vec<Tool> {
    let hints = Hints::READS;
    let gate = Arc::clone(gate);
    vec![
        Tool::new("wait", "Wait", "Waits at the gate.", hints, move |_, _: NoArguments| {
            gate.wait();
            Ok(Said { said: "through".into() })
        }),
        Tool::with_call("watch", "Watch", "Waits until it is called off.", hints, |_, _: NoArguments, call| {
            while call.bell.wait(DEADLINE) {}
            Ok(Reply::Answer(Said { said: "called off".into() }))
        }),
        Tool::new("say", "Say", "Says it.", hints, |_, Say { text }| Ok(Said { said: text })),
        Tool::new("panic", "Panic", "Panics.", hints, |_, _: NoArguments| -> Result<Said, _> { panic!("oh no") }),
    ]
}

struct Connection {
    _dir: tempfile::TempDir,
    home: Home,
    gate: Arc<Gate>,
    background: Arc<AtomicBool>,
    state: connection::Connection,
    served: JoinHandle<io::Result<()>>,
    output: BufReader<pipe::Receiver>,
    input: Option<pipe::Sender>,
}

impl Connection {
    fn open() -> Self {
        Self::open_with(CallThreads::new().unwrap())
    }

    fn open_with(threads: CallThreads) -> Self {
        let gate = Arc::new(Gate::default());
        let background = Arc::new(AtomicBool::new(false));
        let (dir, app) = App::example();
        let home = app.home.clone();
        let server = Server::on_threads(Arc::new(app), tools(&gate), "Test.", threads).unwrap();
        let state = server.connection.clone();
        let (their_input, input) = io::pipe().unwrap();
        let (output, their_output) = io::pipe().unwrap();
        let started = Arc::clone(&background);
        let task = move || started.store(true, Ordering::SeqCst);
        let served = tokio::spawn(serve_connection(server, their_input, their_output, task));
        let output = BufReader::new(pipe::Receiver::from_owned_fd(output.into()).unwrap());
        let input = Some(pipe::Sender::from_owned_fd(input.into()).unwrap());
        Self { _dir: dir, home, gate, background, state, served, output, input }
    }

    async fn send(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.input.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    }

    async fn request(&mut self, id: u64, method: &str, mut params: Value) {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
    }

    async fn call(&mut self, id: u64, tool: &str, arguments: Value) {
        self.request(id, "tools/call", json!({ "name": tool, "arguments": arguments })).await;
    }

    async fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        tokio::time::timeout(DEADLINE, self.output.read_line(&mut line)).await.unwrap().unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    async fn someone_waits_at_the_gate(&self) {
        let deadline = Instant::now() + DEADLINE;
        while self.gate.waiting.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "the tool was not called");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends the input; returns how long the server took to leave.
    async fn end(&mut self) -> Duration {
        let began = Instant::now();
        self.input = None;
        tokio::time::timeout(DEADLINE, &mut self.served).await.unwrap().unwrap().unwrap();
        let took = began.elapsed();
        self.gate.open();
        took
    }
}

#[tokio::test]
async fn without_threads_a_call_that_waits_makes_way_for_the_next() {
    let mut connection = Connection::open_with(CallThreads::only_the_reserve());
    connection.call(1, "watch", json!({})).await;
    connection.call(2, "say", json!({ "text": "stop" })).await;
    for (id, said) in [(1, "called off"), (2, "stop")] {
        let answer = connection.receive().await.unwrap();
        assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["said"]), (&json!(id), &json!(said)));
    }
    connection.end().await;
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_lives_on() {
    let mut connection = Connection::open();
    connection.call(1, "panic", json!({})).await;
    let answer = connection.receive().await.unwrap();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("oh no") && text.contains("`panic`"), "{text}");
    connection.call(2, "say", json!({ "text": "still here" })).await;
    assert_eq!(connection.receive().await.unwrap()["result"]["structuredContent"]["said"], "still here");
    assert!(connection.end().await < AT_ONCE);
}

#[tokio::test]
async fn a_tool_that_blocks_holds_up_nobody() {
    let mut connection = Connection::open();
    for id in 0..20 {
        connection.call(id, "wait", json!({})).await;
    }
    connection.call(99, "say", json!({ "text": "first" })).await;
    assert_eq!(connection.receive().await.unwrap()["id"], 99);
    connection.gate.open();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(connection.receive().await.unwrap()["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_end_of_input_does_not_wait_for_a_tool_that_blocks() {
    let mut connection = Connection::open();
    connection.call(1, "wait", json!({})).await;
    connection.someone_waits_at_the_gate().await;
    let took = connection.end().await;
    assert!(took >= LAST_ANSWERS_TIMEOUT && took < DEADLINE / 2, "{took:?}");
}

#[tokio::test]
async fn calls_under_way_at_the_end_of_input_still_answer() {
    let mut connection = Connection::open();
    connection.call(1, "wait", json!({})).await;
    connection.someone_waits_at_the_gate().await;
    connection.input = None;
    connection.gate.open();
    assert_eq!(connection.receive().await.unwrap()["result"]["structuredContent"]["said"], "through");
    assert_eq!(connection.receive().await, None);
}

#[tokio::test]
async fn a_subscription_is_acknowledged_and_ends_with_the_input() {
    let mut connection = Connection::open();
    connection.request(1, "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } })).await;
    let acknowledgement = connection.receive().await.unwrap();
    assert_eq!(acknowledgement["method"], "notifications/subscriptions/acknowledged", "{acknowledgement}");
    assert!(connection.end().await < AT_ONCE);
}

#[tokio::test]
async fn changes_are_reported_while_a_call_waits_on_the_only_thread() {
    let mut connection = Connection::open_with(CallThreads::only_the_reserve());
    let wishes = json!({ "notifications": { "resourceSubscriptions": ["moadim://health"] } });
    connection.request(1, "subscriptions/listen", wishes).await;
    assert_eq!(connection.receive().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
    connection.call(2, "wait", json!({})).await;
    connection.someone_waits_at_the_gate().await;
    for text in ["# one", "# another"] {
        std::fs::write(connection.home.config_file(), text).unwrap();
        assert_eq!(connection.receive().await.unwrap()["params"]["uri"], "moadim://health");
    }
    connection.gate.open();
}

#[tokio::test]
async fn the_end_of_input_finds_nobody_waiting_for_a_message_to_be_sent() {
    for round in 0..100 {
        let mut connection = Connection::open();
        connection.request(1, "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } })).await;
        if round % 2 == 0 {
            connection.receive().await.unwrap();
        }
        let took = connection.end().await;
        assert!(took < AT_ONCE, "round {round}: {took:?}");
    }
}

#[tokio::test]
async fn a_signal_ends_a_connection_like_the_end_of_input() {
    let mut connection = Connection::open();
    connection.request(1, "subscriptions/listen", json!({ "notifications": {} })).await;
    connection.receive().await.unwrap();
    connection.state.closing.cancel();
    tokio::time::timeout(AT_ONCE, &mut connection.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_stops_reading_ends_the_connection() {
    let mut connection = Connection::open();
    connection.call(1, "say", json!({ "text": "x" })).await;
    connection.receive().await.unwrap();
    let Connection { _dir, served, output, mut input, .. } = connection;
    drop(output);
    let ping = "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n";
    input.as_mut().unwrap().write_all(ping.as_bytes()).await.unwrap();
    tokio::time::timeout(DEADLINE, served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_cancelled_call_is_not_answered_and_holds_up_nothing() {
    let mut connection = Connection::open();
    connection.call(1, "wait", json!({})).await;
    connection.someone_waits_at_the_gate().await;
    let params = json!({ "requestId": 1, "reason": "changed my mind" });
    connection.send(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    connection.call(2, "say", json!({ "text": "next" })).await;
    assert_eq!(connection.receive().await.unwrap()["id"], 2);
    assert!(connection.end().await < AT_ONCE, "nobody waits for it any more");
    assert_eq!(connection.receive().await, None);
}

#[tokio::test]
async fn the_background_starts_with_the_first_answer() {
    let mut connection = Connection::open();
    connection.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    connection.call(1, "wait", json!({})).await;
    connection.someone_waits_at_the_gate().await;
    assert!(!connection.background.load(Ordering::SeqCst));
    connection.gate.open();
    connection.receive().await.unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !connection.background.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the background did not start");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn the_notice_says_what_this_is_and_what_to_do() {
    let notice = notice_in_a_terminal();
    for word in ["MCP server", "demo", "mcpServers", "Ctrl-D"] {
        assert!(notice.contains(word), "{word}");
    }
}
