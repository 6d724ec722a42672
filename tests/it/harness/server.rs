//! A raw client of the real binary: JSON-RPC lines over its stdin and stdout, in either era of the protocol.
//!
//! It knows nothing of rmcp, so that it sees what a client sees. Every line of stdout must be JSON; the first that is
//! not fails the test.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::home::TestHome;
use super::{PATIENCE, wait_until};

/// The longest that a server may take to leave, even on a busy machine.
const EXIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Era {
    /// With an `initialize` handshake of this version.
    Legacy(&'static str),
    /// In the `_meta` of every request (2026-07-28).
    Modern,
    None,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolAnswer {
    /// `structuredContent`; null where there is none.
    pub structured: Value,
    /// All text, joined.
    pub text: String,
    pub is_error: bool,
}

impl ToolAnswer {
    /// Returns the structure of a call that must have succeeded, whose text must say the same.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(!self.is_error, "the tool failed: {}", self.text);
        assert_eq!(
            serde_json::from_str::<Value>(&self.text).ok().as_ref(),
            Some(&self.structured),
            "text and structure"
        );
        self.structured
    }

    /// Returns the text of a call that must have failed.
    #[track_caller]
    pub fn error(self) -> String {
        assert!(self.is_error, "the tool succeeded: {}", self.text);
        self.text
    }
}

/// A running server. Dropping it kills the server, and only that: its runs live on, as they do for a real host.
pub struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
    stderr: Arc<Mutex<String>>,
    era: Era,
    /// What the server said in the handshake; null without one.
    pub handshake: Value,
    /// What the client says it can do.
    capabilities: Value,
    next_id: u64,
    answers: HashMap<String, Value>,
    /// Whatever came without being asked for, in order: notifications, errors without an id.
    unasked: Vec<Value>,
}

impl Server {
    /// Starts a server and shakes hands in the newest legacy version.
    pub fn start(home: &TestHome) -> Self {
        Self::start_in(home, Era::Legacy("2025-11-25"))
    }

    pub fn start_modern(home: &TestHome) -> Self {
        Self::start_in(home, Era::Modern)
    }

    pub fn start_in(home: &TestHome, era: Era) -> Self {
        let mut server = Self::spawn(home.command());
        server.introduce(era);
        server
    }

    pub fn start_able(home: &TestHome, era: Era, capabilities: Value) -> Self {
        let mut server = Self::spawn_able(home.command(), capabilities);
        server.introduce(era);
        server
    }

    /// Starts a server for a client that can do this, and says nothing to it.
    pub fn spawn_able(command: Command, capabilities: Value) -> Self {
        let mut server = Self::spawn(command);
        server.capabilities = capabilities;
        server
    }

    /// Starts a server whose first sweep is over: what is due from then on is left to the clean-ups that the test asks for.
    pub fn start_swept(home: &TestHome) -> Self {
        let mut server = Self::start(home);
        server.wait_for_the_first_sweep();
        server
    }

    pub(super) fn wait_for_the_first_sweep(&mut self) {
        wait_until("the first sweep", || self.ok("health", json!({}))["sweep"]["last"].is_string());
    }

    /// Starts a server with these variables and shakes hands.
    pub fn start_with_env<V: AsRef<OsStr>>(home: &TestHome, variables: &[(&str, V)]) -> Self {
        let mut command = home.command();
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Self::start_with(command)
    }

    pub fn start_with(command: Command) -> Self {
        let mut server = Self::spawn(command);
        server.introduce(Era::Legacy("2025-11-25"));
        server
    }

    pub fn spawn(command: Command) -> Self {
        Self::spawn_with_stderr(command, Stdio::piped())
    }

    /// Starts a server and says nothing to it; of its stderr nothing is known unless it is a pipe that is made here.
    pub fn spawn_with_stderr(mut command: Command, stderr: Stdio) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().expect("the server");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let errors = child.stderr.take();
        let (sender, lines) = channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&stderr);
        let readers = vec![
            std::thread::spawn(move || {
                for line in stdout.split(b'\n') {
                    let Ok(line) = line else { break };
                    if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        break;
                    }
                }
            }),
            std::thread::spawn(move || {
                let Some(mut errors) = errors else { return };
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = errors.read(&mut buffer) {
                    kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }),
        ];
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            lines,
            readers,
            stderr,
            era: Era::None,
            handshake: Value::Null,
            capabilities: json!({}),
            next_id: 1,
            answers: HashMap::new(),
            unasked: Vec::new(),
        }
    }

    /// Introduces the client as one of `era` from here on; returns the answer to a handshake, else null.
    pub fn introduce(&mut self, era: Era) -> Value {
        self.era = era;
        let Era::Legacy(version) = self.era else { return Value::Null };
        let client = json!({ "name": "test", "version": "0" });
        let params = json!({ "protocolVersion": version, "capabilities": self.capabilities, "clientInfo": client });
        let answer = self.request("initialize", params).expect("a handshake");
        self.notify("notifications/initialized", json!({}));
        self.handshake = answer.clone();
        answer
    }

    /// Changes what the client says it can do; in the modern era it says so with each request.
    pub fn set_capabilities(&mut self, capabilities: Value) {
        self.capabilities = capabilities;
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line as it is.
    pub fn send_line(&mut self, line: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("stdin was closed");
        // A wait for an answer notices that the server is gone.
        let _ = stdin.write_all(line.as_ref()).and_then(|()| stdin.write_all(b"\n")).and_then(|()| stdin.flush());
    }

    pub fn notify(&mut self, method: &str, params: Value) {
        self.send_line(json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// Sends a request and returns its id; [`Self::answer`] takes the answer.
    pub fn send(&mut self, method: &str, mut params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if self.era == Era::Modern {
            let meta =
                params.as_object_mut().expect("params are an object").entry("_meta").or_insert_with(|| json!({}));
            meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
            meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
            meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "0" });
        }
        self.send_line(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    /// Waits for the answer to a request, whatever comes before it.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Result<Value, RpcError> {
        self.answer_to(&json!(id))
    }

    /// Waits for the answer to a request whose id was made by hand.
    #[track_caller]
    pub fn answer_to(&mut self, id: &Value) -> Result<Value, RpcError> {
        let deadline = Instant::now() + PATIENCE;
        let key = id.to_string();
        while !self.answers.contains_key(&key) {
            if !self.receive(deadline) {
                panic!("no answer to {id}; stderr: {}", self.stderr());
            }
        }
        let mut message = self.answers.remove(&key).unwrap();
        match message.get_mut("error") {
            None => Ok(message["result"].take()),
            Some(error) => Err(RpcError {
                code: error["code"].as_i64().expect("a code"),
                message: error["message"].as_str().expect("a message").to_owned(),
                data: error["data"].take(),
            }),
        }
    }

    #[track_caller]
    pub fn request(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Calls a tool; a protocol error fails the test.
    #[track_caller]
    pub fn call_tool(&mut self, name: &str, arguments: Value) -> ToolAnswer {
        let id = self.send_call(name, arguments);
        self.tool_answer(id)
    }

    /// Sends a tool call and returns its id; [`Self::tool_answer`] takes the answer.
    pub fn send_call(&mut self, name: &str, arguments: Value) -> u64 {
        self.send("tools/call", json!({ "name": name, "arguments": arguments }))
    }

    /// Waits for a tool's answer; a protocol error fails the test.
    #[track_caller]
    pub fn tool_answer(&mut self, id: u64) -> ToolAnswer {
        let mut result = match self.answer(id) {
            Ok(result) => result,
            Err(error) => panic!("the call was refused: {error:?}"),
        };
        let content = result["content"].as_array().expect("content");
        let texts: Vec<&str> = content.iter().filter_map(|block| block["text"].as_str()).collect();
        let text = texts.join("\n");
        let is_error = result["isError"] == true;
        ToolAnswer { structured: result["structuredContent"].take(), text, is_error }
    }

    /// Whether the answer to a request has come and was not taken; of a server that was waited for this is certain.
    pub fn has_answer(&self, id: u64) -> bool {
        self.answers.contains_key(&json!(id).to_string())
    }

    /// Waits for the next message that answers no request: a notification, or an error without an id.
    #[track_caller]
    pub fn next_unasked(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while self.unasked.is_empty() {
            if !self.receive(deadline) {
                panic!("nothing came; stderr: {}", self.stderr());
            }
        }
        self.unasked.remove(0)
    }

    /// Waits until one of the messages that answer no request is as wanted, and returns it; those before it are gone.
    #[track_caller]
    pub fn wait_for_unasked(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.next_unasked();
            if wanted(&message) {
                return message;
            }
        }
    }

    /// Returns what has come without being asked for within `patience`.
    pub fn unasked_within(&mut self, patience: Duration) -> Vec<Value> {
        let deadline = Instant::now() + patience;
        while self.receive(deadline) {}
        std::mem::take(&mut self.unasked)
    }

    pub fn reply(&mut self, request: &Value, result: Value) {
        self.send_line(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string());
    }

    /// Whether nothing has come that was not asked for. A request that is answered first makes this certain.
    pub fn nothing_unasked(&self) -> bool {
        self.unasked.is_empty()
    }

    /// Files one message; false when the deadline passed or stdout ended.
    #[track_caller]
    fn receive(&mut self, deadline: Instant) -> bool {
        let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
        };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { panic!("stdout is not JSON: {line:?}") };
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        match message.get("id") {
            Some(id) if message.get("method").is_none() => {
                let before = self.answers.insert(id.to_string(), message.clone());
                assert!(before.is_none(), "answered twice: {line}");
            }
            _ => self.unasked.push(message),
        }
        true
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        #[cfg(target_os = "linux")]
        let pid = super::cluster::behind_entrance(pid);
        kill_process(pid, signal).expect("the server takes a signal");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Ends the server's input and waits until it is gone; returns how it ended and how long that took.
    #[track_caller]
    pub fn close_stdin_and_wait(&mut self) -> (ExitStatus, Duration) {
        self.close_stdin();
        self.wait()
    }

    /// Waits until the server is gone by itself; returns how it ended and how long that took from now.
    #[track_caller]
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let took = began.elapsed();
                // What it still said is part of the record, and must be JSON too.
                while self.receive(began + PATIENCE) {}
                while self.readers.iter().any(|reader| !reader.is_finished()) && began.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(2));
                }
                return (status, took);
            }
            assert!(began.elapsed() < PATIENCE, "the server does not end; stderr: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a server that was asked to end has ended, and makes sure that it ended well and had given up on no call.
    #[track_caller]
    pub fn assert_leaves(&mut self) {
        let (status, took) = self.wait();
        let stderr = self.stderr();
        assert!(status.success() && took < EXIT, "{status} after {took:?}: {stderr}");
        assert!(!stderr.contains("left while calls were under way"), "{took:?}: {stderr}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stdin = None;
        // Both are harmless once the server has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Not joined: they end with the pipes, and a process that wrongly inherited those should fail a test of its own
        // rather than hang this one.
        self.readers.clear();
    }
}
