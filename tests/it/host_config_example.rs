//! `mcp-config.example.json` is what a host takes: the server starts from exactly that block.

use std::path::Path;
use std::process::Command;

use crate::harness::{Era, Server, TestHome};
use serde_json::{Value, json};

#[test]
fn a_host_can_start_the_server_from_the_example() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/mcp-config.example.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let servers = config["mcpServers"].as_object().unwrap();
    assert_eq!((config.as_object().unwrap().len(), servers.len()), (1, 1), "one key, one server");
    let server = &servers["moadim"];
    let command = Path::new(server["command"].as_str().unwrap());
    assert!(command.is_absolute() && command.ends_with("moadim-mcp"), "hosts do not share a person's PATH");

    let home = TestHome::new();
    let words = |of: &Value| -> Vec<String> { serde_json::from_value(of.clone()).unwrap() };
    let env = server["env"].as_object().unwrap().iter().map(|(name, value)| (name, value.as_str().unwrap()));
    let mut start = Command::new(env!("CARGO_BIN_EXE_moadim-mcp"));
    start.args(words(&server["args"])).env_clear().env("HOME", home.user()).env("PATH", "/usr/bin:/bin").envs(env);
    let mut server = Server::spawn(start);
    let answer = server.introduce(Era::Legacy("2025-11-25"));
    assert_eq!(answer["serverInfo"]["name"], "moadim-mcp");
    let tools = server.request("tools/list", json!({})).unwrap();
    assert!(tools["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "trigger_routine"));
    assert!(home.user().join(".moadim").is_dir(), "the default home");
    let (status, _) = server.close_stdin_and_wait();
    assert!(status.success());
}
