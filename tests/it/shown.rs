//! What a person sees: help texts, tables and the doctor's findings, as golden files in `snapshots/`.
//!
//! Where a change is meant: `INSTA_UPDATE=always cargo test --test it shown`, and a look at the difference.

use crate::harness::TestHome;
use crate::old_home::old_home;
use insta::assert_snapshot;
use regex::Regex;
use serde_json::Value;

/// Runs a command, with times that do not depend on where the machine is, and returns what it prints.
fn shown(home: &TestHome, words: &[&str]) -> String {
    let output = home.command().args(words).env("TZ", "UTC").output().unwrap();
    assert!(output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Compares a text with its golden file.
fn assert_golden(name: &str, text: &str) {
    insta::with_settings!({ omit_expression => true }, { assert_snapshot!(name, text) });
}

/// The same without this test's own paths, without times, which go on, and without the widths of columns, which depend on both.
fn assert_golden_redacted(home: &TestHome, name: &str, text: &str) {
    let root = home.root();
    let filters = [
        (root.to_str().unwrap(), "[HOME]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d", "[TIME]"),
        (r"\b\d\d:\d\d (\()", "[TIME] $1"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
        (r"\((in )?\d+ (s|min|h|days?)( \d+ \w+)?( ago)?\)", "([AGE])"),
        // A run whose state is unknown still goes on.
        (r"(unknown .*\(\[AGE\]\) +)\d+ (s|min|h|days?)( \d+ \w+)?", "$1[AGE]"),
        (r" {2,}", "  "),
        (r" +\n", "\n"),
    ];
    let replace =
        |text: String, (pattern, with): (&str, &str)| Regex::new(pattern).unwrap().replace_all(&text, with).into();
    let text: String = filters.into_iter().fold(text.to_owned(), replace);
    assert_golden(name, &text);
}

#[test]
fn the_help_of_the_program_and_of_each_command() {
    let home = TestHome::new();
    let all = shown(&home, &["--help"]);
    let listed = all.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    assert!(names.contains(&"runs"), "{all}");
    assert_golden("help", &all);
    for name in names {
        assert_golden(&format!("help_{name}"), &shown(&home, &[name, "--help"]));
    }
}

#[test]
fn runs_of_every_status_and_why() {
    let home = old_home();
    assert_golden_redacted(&home, "runs", &shown(&home, &["runs", "--limit", "200"]));
}

#[test]
fn routines_in_every_state() {
    let home = old_home();
    assert_golden_redacted(&home, "routines", &shown(&home, &["routines"]));
}

#[test]
fn what_the_doctor_finds_and_what_to_do() {
    let home = old_home();
    home.write("routines/failed/routine.toml", "title = ");
    home.add_agent("setup", "command = 7\n");
    let report: Value = serde_json::from_str(&home.moadim(&["doctor", "--json"]).stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let wrong = report["checks"].as_array().unwrap().iter().filter(|check| check["well"] == false);
    let wrong = wrong.map(|check| ["what", "found", "fix"].map(|key| text(&check[key])).join("\n    ") + "\n");
    assert_golden_redacted(&home, "doctor", &wrong.collect::<String>());
}
