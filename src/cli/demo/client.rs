//! A minimal client of the server: JSON-RPC lines over a socket that is its stdin and stdout.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::deadline::Deadline;

/// A running server. Dropping it ends the server.
pub(super) struct Client {
    child: Child,
    server: BufReader<UnixStream>,
    last_id: u64,
}

/// The longest answer is that to a trigger.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);

impl Client {
    /// Starts the server as a host would, on this home. Its stderr is ours.
    pub(super) fn start(program: &Path, home: &Path) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let child = Command::new(program)
            .env(crate::env_vars::HOME, home)
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            // Ctrl-C is for us: we end the server, after what it runs.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, server: BufReader::new(ours), last_id: 0 })
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
            let mut line = String::new();
            let read = self.server.read_line(&mut line).with_context(|| format!("{method} was not answered"))?;
            ensure!(read > 0, "the server ended before it answered {method}");
            let mut message: Value =
                serde_json::from_str(&line).with_context(|| format!("the server wrote what is not JSON: {line}"))?;
            if message["id"] == id {
                ensure!(message.get("error").is_none(), "{method} was refused: {}", message["error"]);
                return Ok(message["result"].take());
            }
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

    /// Closes the server's stdin, as a host does, and waits for its end.
    pub(super) fn hang_up(mut self, deadline: &Deadline) -> anyhow::Result<()> {
        self.server.get_ref().shutdown(Shutdown::Write)?;
        let status = deadline.poll("the server's end", || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    fn send(&self, message: &Value) -> anyhow::Result<()> {
        // In one piece, newline and all.
        let line = format!("{message}\n");
        self.server.get_ref().write_all(line.as_bytes()).context("the server no longer reads its input")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both are harmless if it has exited. Its runs go on.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
