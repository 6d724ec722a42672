//! `doctor`: checks for known problems and shows how to fix each.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use serde_json::json;

use super::app::{self, Format, print_json};
use crate::home::Home;
use crate::janitor::checks::{self, Finding};
use crate::quote::quote;

/// The longest line, and the most lines: others chose the names of files and processes in them.
const MAX_CHARS: usize = 1000;
const MAX_LINES: usize = 20;

/// Checks the home; returns whether all is well.
pub(super) fn doctor(format: Format) -> anyhow::Result<bool> {
    let findings = findings()?;
    let well = findings.iter().all(|finding| finding.well);
    if format.json {
        print_json(&json!({ "well": well, "checks": findings }))?;
        return Ok(well);
    }
    const GOOD: Style = AnsiColor::Green.on_default();
    const BAD: Style = AnsiColor::Red.on_default().bold();
    let mut out = anstream::stdout();
    for Finding { what, well, found, fix, .. } in findings {
        let (style, mark) = if well { (GOOD, "ok   ") } else { (BAD, "WRONG") };
        // Most problems of a file name it.
        let what = if found.starts_with(&what) { String::new() } else { format!("{what}: ") };
        let [what, found] = [&what, &found].map(|text| shown(text));
        writeln!(out, "{style}{mark}{style:#} {what}{found}")?;
        if let Some(fix) = fix {
            writeln!(out, "      {}: {fix}", if well { "hint" } else { "fix" }, fix = shown(&fix))?;
        }
    }
    Ok(well)
}

/// Aligns the lines of a text: a problem in a file has several.
fn shown(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().take(MAX_LINES).map(|line| quote(line, MAX_CHARS)).collect();
    if text.lines().nth(MAX_LINES).is_some() {
        lines.push("…".to_owned());
    }
    // Marked, so that none looks like a line of ours.
    lines.join("\n      | ")
}

fn findings() -> anyhow::Result<Vec<Finding>> {
    let root = Home::from_environment()?;
    if let Err(error) = Home::open(&root) {
        return Ok(checks::without_home(&root, &error));
    }
    let app = app::open_with_login_shell()?;
    Ok(checks::all(&app, &app.search_path()))
}
