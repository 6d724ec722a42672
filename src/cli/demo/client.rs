//! A minimal client of the server: JSON-RPC lines over its stdin and stdout.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};

use super::deadline::Deadline;

/// A running server. Dropping it ends the server.
pub(super) struct Client<'a> {
    child: Child,
    /// `None` once it is closed.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    last_id: u64,
    deadline: &'a Deadline,
}

impl<'a> Client<'a> {
    /// Starts the server as a host would, on this home. Its stderr is ours.
    pub(super) fn start(program: &Path, home: &Path, deadline: &'a Deadline) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .env(crate::env_vars::HOME, home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for us: we end the server, after what it runs.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (sender, lines) = channel();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdout = BufReader::new(stdout.context("the server has no stdout")?);
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, stdin, lines, last_id: 0, deadline })
    }

    pub(super) fn initialize(&mut self) -> anyhow::Result<Value> {
        let client = json!({ "name": "moadim-mcp demo", "version": env!("CARGO_PKG_VERSION") });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
        let answer = self.request("initialize", params)?;
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(answer)
    }

    pub(super) fn request(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let id = json!(self.last_id);
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        loop {
            let line = self.next_line(method)?;
            let mut message: Value =
                serde_json::from_str(&line).with_context(|| format!("the server wrote what is not JSON: {line}"))?;
            if message["id"] != id {
                continue;
            }
            return match message.get("error") {
                Some(error) => Err(anyhow!("{method} was refused: {error}")),
                None => Ok(message["result"].take()),
            };
        }
    }

    /// Calls a tool, and returns its structured answer.
    pub(super) fn call_tool(&mut self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        let mut answer = self.request("tools/call", json!({ "name": tool, "arguments": arguments }))?;
        if answer["isError"] == true {
            bail!("{tool} failed: {}", answer["content"][0]["text"].as_str().unwrap_or("(it did not say why)"));
        }
        Ok(answer["structuredContent"].take())
    }

    /// Closes the server's stdin, as a host does, and returns how long it took to exit.
    pub(super) fn hang_up(mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.stdin = None;
        let status = self.deadline.poll("the server's end", || Ok(self.child.try_wait()?))?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(began.elapsed())
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("the server's input is closed")?;
        writeln!(stdin, "{message}").and_then(|()| stdin.flush()).context("the server no longer reads its input")
    }

    fn next_line(&self, method: &str) -> anyhow::Result<String> {
        self.deadline.poll(&format!("the answer to {method}"), || match self.lines.try_recv() {
            Ok(line) => Ok(Some(line)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(anyhow!("the server ended before it answered {method}")),
        })
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        // Both are harmless if it has exited. Its runs go on.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
