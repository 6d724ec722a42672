//! README and `docs/` name what is there: every tool, command and host, links that lead somewhere, and blocks that can be read.

use std::path::{Path, PathBuf};

use crate::harness::{Server, TestHome};
use moadim_mcp::setup::HOSTS;
use serde_json::{Value, json};

const README: &str = include_str!("../../README.md");
const COMMAND_LINE: &str = include_str!("../../docs/command-line.md");
const HOSTS_PAGE: &str = include_str!("../../docs/hosts.md");

/// Returns the pages for readers, with their paths.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_folder = |folder: &str| std::fs::read_dir(root.join(folder)).unwrap().map(|file| file.unwrap().path());
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name));
    let all = top.into_iter().chain(in_folder("docs")).chain(in_folder("docs/decisions"));
    let pages = all.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Returns the fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let of_page = |(_, text): &(PathBuf, String)| -> Vec<String> {
        text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    pages().iter().flat_map(of_page).collect()
}

/// Returns the first word of each row of a page's tables that begins with code.
fn rows(section: &'static str) -> Vec<&'static str> {
    let mut rows: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', ' ']).next()).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn the_readme_is_short() {
    assert!(README.len() <= 8_000, "{} bytes; move something to docs/", README.len());
}

#[test]
fn every_tool_has_its_row_and_no_other() {
    let home = TestHome::new();
    let mut server = Server::start(&home);
    let tools = server.request("tools/list", json!({})).unwrap();
    let mut names: Vec<&str> = tools["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(rows(README.split("\n## Tools\n").nth(1).unwrap().split("\n## ").next().unwrap()), names);
}

#[test]
fn every_command_has_its_row_and_no_other() {
    let home = TestHome::new();
    let help = home.moadim(&["--help"]).ok();
    let listed = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names =
        listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let mut names: Vec<&str> = names.filter(|name| *name != "help").collect();
    names.sort_unstable();
    assert_eq!(rows(COMMAND_LINE.split("\n## ").next().unwrap()), names);
}

#[test]
fn every_host_that_can_be_set_up_is_named() {
    let in_readme = README.lines().find(|line| line.starts_with("moadim-mcp setup claude-code")).unwrap();
    let on_its_page = HOSTS_PAGE.split("\nKnown hosts: ").nth(1).unwrap().split("\n\n").next().unwrap();
    for host in &HOSTS {
        assert!(in_readme.contains(host.name) && on_its_page.contains(host.name), "{} is missing", host.name);
    }
}

#[test]
fn what_lets_a_host_work_unattended_stands_on_its_page() {
    for host in &HOSTS {
        if let Some(line) = host.unattended("moadim") {
            let row = HOSTS_PAGE.lines().find(|row| row.starts_with(&format!("| {} |", host.title)));
            assert_eq!(row.map(|row| row.replace('`', "")), Some(format!("| {} | {line} |", host.title)));
        }
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

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for (path, text) in pages() {
        let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let linked = std::fs::read(&linked).unwrap_or_else(|error| panic!("{target} in {path:?}: {error}"));
            let linked = String::from_utf8_lossy(&linked);
            assert!(heading.is_empty() || anchors(&linked).any(|anchor| anchor == heading), "{target} in {path:?}");
            count += 1;
        }
    }
    assert!(count > 30);
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let is_path = |word: &&str| {
        let in_words = word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_/.".contains(&byte));
        in_words && (word.ends_with(".rs") || word.ends_with('/')) && !word.starts_with("running/")
    };
    for path in text.split('`').skip(1).step_by(2).filter(is_path) {
        assert!(root.join("src").join(path).exists() || root.join(path).exists(), "{path} is not there");
    }
}

/// Returns what the headings of a page are linked by.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let plain = line.trim_start_matches(['#', ' ']).replace("&lt;", "").replace("&gt;", "").to_lowercase();
        plain.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    })
}
