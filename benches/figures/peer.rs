//! Beside the least server that the same library makes: `benches/bare`. Both are built as a release is, in a target
//! directory of their own, for the bench profile leaves out what makes a program small and quick to start.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Era, Server, TestHome};
use crate::population;
use crate::server::at_rest;
use crate::timing::{Times, memory_mib, row, row_of_ratio};

const ROUNDS: usize = 40;
/// How much is resident varies with where the loader put things.
const MEMORY_ROUNDS: usize = 5;
/// Calls of each, in turn; the first tenth is not counted.
const CALLS: usize = 2_000;
/// By when the first passes of the janitor are over, and the login shell has answered.
const SETTLED: Duration = Duration::from_secs(2);

/// Size, start, memory, calls and exit, against the bare server.
pub fn peer() {
    let (program, peer) = (build(env!("CARGO_MANIFEST_DIR"), "moadim-mcp"), build(BARE, "bare"));
    size("against a bare server's", "<= 8 MB", &program, &peer);
    let home = TestHome::detached("");
    population::context(&home.root());
    population::add_routines(&home.root(), 10);
    let ours = || home.command_of(&program);
    let bare = || home.command_of(&peer);
    start("against a bare server", "<= 1.5x", ours, bare);
    memory("against a bare server", "<= 2.5x", ours, bare);
    calls(ours, bare);
    exit(&program, bare);
}

/// Size, start and memory, against the release of another commit whose path is in `MOADIM_BEFORE`; without it, nothing.
pub fn before() {
    let Some(before) = std::env::var_os("MOADIM_BEFORE").map(PathBuf::from) else { return };
    let program = build(env!("CARGO_MANIFEST_DIR"), "moadim-mcp");
    size("against an earlier one's", "", &program, &before);
    let home = TestHome::detached("");
    population::context(&home.root());
    population::add_routines(&home.root(), 10);
    let (ours, earlier) = (|| home.command_of(&program), || home.command_of(&before));
    start("against an earlier release", "", ours, earlier);
    memory("against an earlier release", "", ours, earlier);
}

const BARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bare");

/// Builds a crate's program as it is released.
fn build(directory: &str, program: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--locked", "--bin", program, "--manifest-path"]);
    command.arg(Path::new(directory).join("Cargo.toml")).arg("--target-dir").arg(&target);
    assert!(command.status().unwrap().success(), "{command:?}");
    target.join("release").join(program)
}

fn size(against: &str, must: &str, ours: &Path, bare: &Path) {
    let [ours, bare] = [ours, bare].map(|program| std::fs::metadata(program).unwrap().len());
    let shown = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
    let ratio = format!("{:.2}x", ours as f64 / bare as f64);
    row(&format!("size of the released program, {against}"), &shown(ours), &shown(bare), &ratio, must);
}

fn start(against: &str, must: &str, ours: impl Fn() -> Command, bare: impl Fn() -> Command) {
    let mut times = [Times::default(), Times::default()];
    for round in 0..=ROUNDS {
        for (command, times) in [ours(), bare()].into_iter().zip(&mut times) {
            let mut discarded = Times::default();
            // What is not in the page cache yet is no part of the figure.
            let times = if round == 0 { &mut discarded } else { times };
            let wire = times.measure(|| Wire::open(command));
            // What a server does after its first answer is its own affair, not the next one's.
            std::thread::sleep(Duration::from_millis(100));
            wire.close();
        }
    }
    row_of_ratio(&format!("spawn to `initialize` answered, {against}"), &times[0], &times[1], must);
}

fn memory(against: &str, must: &str, ours: impl Fn() -> Command, bare: impl Fn() -> Command) {
    let mut figures = [const { Vec::new() }; 2];
    for _ in 0..MEMORY_ROUNDS {
        let wires = [ours(), bare()].map(Wire::open);
        std::thread::sleep(SETTLED);
        for (wire, figures) in wires.into_iter().zip(&mut figures) {
            figures.push(memory_mib(wire.child.id(), "VmRSS").unwrap_or(f64::NAN));
            wire.close();
        }
    }
    let [ours, bare] = figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[MEMORY_ROUNDS / 2]
    });
    let shown = |mib: f64| format!("{mib:.2} MiB");
    let ratio = format!("{:.2}x", ours / bare);
    row(&format!("resident at rest, {against}"), &shown(ours), &shown(bare), &ratio, must);
}

fn calls(ours: impl Fn() -> Command, bare: impl Fn() -> Command) {
    let mut wires = [ours(), bare()].map(Wire::open);
    std::thread::sleep(SETTLED);
    let calls = [("list_routines", json!({})), ("echo", json!({ "text": "hello" }))];
    let mut times = [Times::default(), Times::default()];
    for round in 0..CALLS {
        for ((wire, (tool, arguments)), times) in wires.iter_mut().zip(&calls).zip(&mut times) {
            let params = json!({ "name": tool, "arguments": arguments });
            let line = request(round + 2, "tools/call", &params);
            let mut discarded = Times::default();
            let times = if round < CALLS / 10 { &mut discarded } else { times };
            let answer = times.measure(|| wire.ask(&line));
            assert!(answer.contains("\"result\"") && !answer.contains("\"isError\":true"), "{answer}");
        }
    }
    wires.into_iter().for_each(Wire::close);
    row_of_ratio("`list_routines`, 10 of 10, against a bare server's echo", &times[0], &times[1], "<= 3x p50");
}

/// With a subscription open, and a call that waits for a run which is alive.
fn exit(ours: &Path, bare: impl Fn() -> Command) {
    let home = TestHome::detached("");
    let mut first = at_rest(Server::start(&home));
    let run = first.start_run("Waited for", "sleep 600", json!({}));
    let (mut busy, mut idle) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let mut server = Server::spawn(home.command_of(ours));
        server.introduce(Era::Modern);
        server.send("subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }));
        let waiting = server.send_call("wait_run", json!({ "run": run }));
        // Both are under way once something after them was answered.
        server.ok("list_runs", json!({}));
        assert!(!server.has_answer(waiting));
        busy.measure(|| server.close_stdin_and_wait());
        let wire = Wire::open(bare());
        idle.measure(|| wire.close());
    }
    first.ok("stop_run", json!({ "run": run }));
    row_of_ratio(
        "end of input to exit, a subscription open and a wait under way, against an idle bare server",
        &busy,
        &idle,
        "<= 50 ms",
    );
}

fn request(id: usize, method: &str, params: &serde_json::Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string() + "\n"
}

/// A client that does as little as it can, so that its own time hardly counts.
struct Wire {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Wire {
    /// Starts a server and shakes hands.
    fn open(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a server");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut wire = Self { child, input, output };
        let client = json!({ "name": "figures", "version": "0" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
        let answer = wire.ask(&request(1, "initialize", &params));
        assert!(answer.contains("serverInfo"), "{answer}");
        wire.input.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").unwrap();
        wire
    }

    fn ask(&mut self, line: &str) -> String {
        self.input.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer
    }

    fn close(mut self) {
        drop(self.input);
        self.child.wait().unwrap();
    }
}
