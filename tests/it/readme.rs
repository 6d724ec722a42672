//! The README tells what is there: every tool, every setting, and blocks that a host can read.

use crate::harness::{Server, TestHome};
use moadim_mcp::home::config::Config;
use moadim_mcp::setup::HOSTS;
use serde_json::{Value, json};

const README: &str = include_str!("../../README.md");

/// Returns the fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_tool_has_its_row_and_no_other() {
    let home = TestHome::new();
    let mut server = Server::start(&home);
    let tools = server.request("tools/list", json!({})).unwrap();
    let mut names: Vec<&str> = tools["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    let section = README.split("\n## Tools\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut rows: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    names.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, names);
}

#[test]
fn every_command_has_its_row_and_no_other() {
    let home = TestHome::new();
    let help = home.moadim(&["--help"]).ok();
    let listed = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names =
        listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let mut names: Vec<&str> = names.filter(|name| *name != "help").collect();
    let section = README.split("\n## From the command line\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', ' ']).next());
    let mut rows: Vec<&str> = rows.collect();
    names.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, names);
}

#[test]
fn every_setting_has_its_row() {
    let home = TestHome::new();
    let file = home.scratch().join("config.toml");
    std::fs::write(&file, "no_such_key = 1").unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    let keys: Vec<&str> = error.split('`').skip(1).step_by(2).filter(|key| *key != "no_such_key").collect();
    assert!(keys.contains(&"kill_grace_secs"), "the error names the keys: {error}");
    for key in keys {
        assert!(README.contains(&format!("\n| `{key}` | ")), "{key} is missing");
    }
}

#[test]
fn every_host_that_can_be_set_up_is_named() {
    let line = README.lines().find(|line| line.starts_with("moadim-mcp setup claude-code")).unwrap();
    for host in &HOSTS {
        assert!(line.contains(host.name), "{} is missing", host.name);
    }
}

#[test]
fn every_block_can_be_read() {
    let json = blocks("json");
    let servers = |key: &str| json.iter().any(|block| serde_json::from_str::<Value>(block).unwrap()[key].is_object());
    assert!(servers("mcpServers") && servers("servers"));
    let toml = blocks("toml");
    assert!(toml.len() > 3);
    for block in toml {
        block.parse::<toml::Table>().unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
}
