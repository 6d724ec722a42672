//! `setup --ssh`: the server of another machine becomes an entry once it has answered. ssh and sshd are real.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::harness::{Answer, Era, Sshd, TestHome};
use moadim_mcp::setup::{Host, Surroundings};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A person with a machine that ssh calls `box`.
struct Scene {
    // Dropped first: what runs on the other machine lies in the home.
    sshd: Sshd,
    home: TestHome,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let home = TestHome::new();
        Some(Self { sshd: Sshd::start(&home, test)?, home })
    }

    /// Installs the program there, at a path from its home directory.
    fn install(&self, path: &str) {
        let path = self.sshd.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(env!("CARGO_BIN_EXE_moadim-mcp"), path).unwrap();
    }

    fn setup(&self, words: &[&str]) -> Answer {
        let mut command = self.home.command();
        command.env("PATH", self.sshd.path()).arg("setup").args(words).output().unwrap().into()
    }

    fn config(&self, host: &str) -> PathBuf {
        let here = Surroundings { home: self.home.user(), macos: cfg!(target_os = "macos"), variable: |_| None };
        Host::by_name(host).unwrap().configs(&here).pop().unwrap()
    }
}

fn json_of(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn the_server_of_another_machine_stands_next_to_this_ones() {
    let Some(scene) = Scene::new("the_server_of_another_machine_stands_next_to_this_ones") else { return };
    scene.install(".cargo/bin/moadim-mcp");
    let file = scene.config("claude-code");
    std::fs::write(&file, "{}").unwrap();
    scene.setup(&["claude-code"]).ok();
    let alone = std::fs::read_to_string(&file).unwrap();

    let words = ["claude-code", "--ssh", "box", "--remote-program", "~/.cargo/bin/moadim-mcp"];
    let said = scene.setup(&words).ok();
    let version = env!("CARGO_PKG_VERSION");
    assert!(said.contains(&format!("moadim-mcp {version} answered on box.")), "{said}");
    assert!(said.contains("--allowedTools 'mcp__moadim-box__*'"), "{said}");
    let servers = json_of(&file)["mcpServers"].clone();
    let arguments = ["-T", "-o", "BatchMode=yes", "box", "~/.cargo/bin/moadim-mcp"];
    assert_eq!(servers["moadim-box"], json!({ "type": "stdio", "command": "ssh", "args": arguments }));
    assert_eq!(servers["moadim"]["command"], env!("CARGO_BIN_EXE_moadim-mcp"));
    assert!(scene.setup(&words).ok().contains("nothing changes"));

    // As the host starts it.
    let mut server = scene.sshd.start_server(&scene.home, &arguments.map(str::to_owned));
    server.introduce(Era::Legacy("2025-11-25"));
    let health = server.ok("health", json!({}));
    let there = scene.sshd.home().canonicalize().unwrap().join(".moadim");
    assert_eq!(health["home"], there.to_str().unwrap(), "its own home: {health}");
    let (status, _) = server.close_stdin_and_wait();
    assert!(status.success());

    scene.setup(&["claude-code", "--ssh", "box", "--remove"]).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), alone);
}

#[test]
fn a_run_goes_on_when_the_connection_ends() {
    let Some(scene) = Scene::new("a_run_goes_on_when_the_connection_ends") else { return };
    symlink(env!("CARGO_BIN_EXE_moadim-mcp"), scene.sshd.bin().join("moadim-mcp")).unwrap();
    let there = scene.sshd.home().join(".moadim");
    DirBuilder::new().recursive(true).mode(0o700).create(there.join("agents")).unwrap();
    std::fs::write(there.join("config.toml"), "session_host = \"detached\"\n").unwrap();
    std::fs::write(there.join("agents/shell.toml"), "command = \"sh\"\n").unwrap();
    let connect = || {
        let words = ["-T", "-o", "BatchMode=yes", "box", "moadim-mcp"].map(str::to_owned);
        let mut server = scene.sshd.start_server(&scene.home, &words);
        server.introduce(Era::Legacy("2025-11-25"));
        server
    };
    let prompt = "while [ ! -e ../../../go ]; do sleep 0.05; done; echo went on";
    let mut server = connect();
    let run = server.start_run("over ssh", prompt, json!({}));
    // As when the laptop is closed, and the machine notices.
    server.signal(Signal::KILL);
    server.wait();

    let mut server = connect();
    server.wait_for_run(&run, "running");
    std::fs::write(scene.sshd.home().join("go"), "").unwrap();
    server.wait_for_run(&run, "succeeded");
    let log = server.ok("read_log", json!({ "run": run }));
    assert!(log["text"] == "went on\n", "{log}");
    server.close_stdin_and_wait();
}

#[test]
fn each_host_has_ssh_where_it_expects_a_program() {
    let Some(scene) = Scene::new("each_host_has_ssh_where_it_expects_a_program") else { return };
    symlink(env!("CARGO_BIN_EXE_moadim-mcp"), scene.sshd.bin().join("moadim-mcp")).unwrap();
    let arguments = ["-T", "-o", "BatchMode=yes", "box", "moadim-mcp"];
    scene.setup(&["codex", "--ssh", "box"]).ok();
    let codex: toml::Table = std::fs::read_to_string(scene.config("codex")).unwrap().parse().unwrap();
    let ours = serde_json::to_value(&codex["mcp_servers"]["moadim-box"]).unwrap();
    assert_eq!((&ours["command"], &ours["args"]), (&json!("ssh"), &json!(arguments)));
    scene.setup(&["opencode", "--ssh", "box"]).ok();
    let ours = json_of(&scene.config("opencode"))["mcp"]["moadim-box"].clone();
    let words = [&["ssh"], &arguments[..]].concat();
    assert_eq!(ours, json!({ "type": "local", "command": words }));
    assert_eq!(ours.get("environment"), None, "the home of this machine means nothing there");
}

#[test]
fn what_does_not_answer_is_named_and_not_written() {
    let Some(scene) = Scene::new("what_does_not_answer_is_named_and_not_written") else { return };
    let script = |name: &str, text: &str| {
        let script = scene.home.script(name, text);
        std::fs::rename(script, scene.sshd.bin().join(name)).unwrap();
    };
    script("noisy", &format!("echo Welcome; exec {}", env!("CARGO_BIN_EXE_moadim-mcp")));
    script("broken", "echo 'no home' >&2; exit 3");
    for (words, expected) in [
        (&["--ssh", "box"][..], "box does not find moadim-mcp"),
        (&["--ssh", "box"], "--remote-program '~/.cargo/bin/moadim-mcp'"),
        (&["--ssh", "box", "--remote-program", "bin/nothing"], "box does not find bin/nothing"),
        (&["--ssh", "gone"], "ssh does not connect to gone, saying: "),
        (&["--ssh", "gone"], "refused"),
        (&["--ssh", "stranger"], "Permission denied"),
        (
            &["--ssh", "box", "--remote-program", "noisy"],
            "prints something else before noisy answers, saying: Welcome\n",
        ),
        (&["--ssh", "box", "--remote-program", "broken"], "(exit status: 3), saying: no home\n"),
        (&["--ssh", "box", "--remote-program", "cat"], "without an answer"),
    ] {
        let error = scene.setup(&[&["cursor"], words].concat()).failed(1);
        assert!(error.contains(expected), "{words:?}: {error}\n{}", scene.sshd.log());
        assert!(!scene.config("cursor").exists(), "{words:?}");
    }
}

#[test]
fn a_dry_run_and_a_removal_connect_to_nothing() {
    let home = TestHome::new();
    home.script("ssh", "echo called >> ~/ssh-was-called; exit 255");
    let setup = |words: &[&str]| -> Answer {
        let mut command = home.command();
        command.env("PATH", home.path_with_scripts()).args(["setup", "cursor", "--ssh", "box"]).args(words);
        command.output().unwrap().into()
    };
    assert!(setup(&["--dry-run"]).ok().contains("+    \"moadim-box\": {"));
    assert!(setup(&["--remove"]).ok().contains("has no moadim-box entry"));
    assert!(!home.user().join("ssh-was-called").exists());
    assert!(setup(&[]).failed(1).contains("ssh does not connect to box"));
    assert!(home.user().join("ssh-was-called").exists());
    assert!(!home.user().join(".cursor").exists());
}

#[test]
fn without_ssh_or_with_a_name_that_means_something_else_nothing_starts() {
    let home = TestHome::new();
    let setup = |words: &[&str]| -> Answer {
        home.command().env("PATH", home.scripts()).arg("setup").args(words).output().unwrap().into()
    };
    assert!(setup(&["cursor", "--ssh", "box"]).failed(1).contains("ssh is not installed here"));
    for words in [
        &["cursor", "--ssh=-oProxyCommand=touch x"][..],
        &["cursor", "--ssh", "a;b"],
        &["cursor", "--ssh", "box", "--remote-program", "a b"],
        &["cursor", "--ssh", "box", "--remote-program=-x"],
        &["cursor", "--remote-program", "x"],
        &["--ssh", "box"],
    ] {
        let error = setup(words).failed(2);
        assert!(!error.contains("not installed"), "{words:?}: {error}");
    }
}
