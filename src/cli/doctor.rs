//! `doctor`: looks at everything that has ever gone wrong, and prints the command that mends it.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use serde_json::json;

use super::app::{self, Format, print_json};
use crate::home::{Home, HomeError};
use crate::janitor::doctor::{Check, examine};
use crate::quote::quote;
use crate::service::{Service, State};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    format: Format,
}

/// The longest text of a line, and the most lines: names of files and processes are in them, which others chose.
const MAX_CHARS: usize = 1000;
const MAX_LINES: usize = 20;

/// Examines the home; returns whether all is well.
pub(super) fn doctor(arguments: &Arguments) -> anyhow::Result<bool> {
    let checks = checks()?;
    let well = checks.iter().all(|check| check.well);
    if arguments.format.json {
        print_json(&json!({ "well": well, "checks": checks }))?;
        return Ok(well);
    }
    const GOOD: Style = AnsiColor::Green.on_default();
    const BAD: Style = AnsiColor::Red.on_default().bold();
    let mut out = anstream::stdout();
    for Check { what, well, found, fix } in checks {
        let (style, mark) = if well { (GOOD, "well ") } else { (BAD, "WRONG") };
        // Most of what is wrong with a file names it.
        let what = if found.starts_with(&what) { String::new() } else { format!("{what}: ") };
        let [what, found] = [&what, &found].map(|text| shown(text));
        writeln!(out, "{style}{mark}{style:#} {what}{found}")?;
        if let Some(fix) = fix {
            writeln!(out, "      {}: {fix}", if well { "hint" } else { "mend" }, fix = shown(&fix))?;
        }
    }
    Ok(well)
}

/// Shows a text with its lines below each other: what is wrong in a file has several.
fn shown(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().take(MAX_LINES).map(|line| quote(line, MAX_CHARS)).collect();
    if text.lines().nth(MAX_LINES).is_some() {
        lines.push("…".to_owned());
    }
    // With a mark, so that none can be taken for one of ours.
    lines.join("\n      | ")
}

fn checks() -> anyhow::Result<Vec<Check>> {
    let root = Home::from_environment()?;
    let mut checks = match Home::open(&root) {
        Ok(_) => {
            let app = app::open_with_login_shell()?;
            examine(&app, &app.search_path())?
        }
        Err(HomeError::Unsafe { path, problem, fix }) => {
            vec![Check::wrong("home", format!("{} {problem}", path.display()), fix)]
        }
        Err(error) => {
            let fix = format!("ls -ld '{}'; or set MOADIM_HOME to a directory of your own", root.display());
            vec![Check::wrong("home", error.to_string(), fix)]
        }
    };
    checks.push(match Service::of_this_user().and_then(|service| service.state()) {
        Ok(state) => of_service(&state),
        Err(error) => Check::wrong("service", error.to_string(), "moadim-mcp service status"),
    });
    Ok(checks)
}

fn of_service(state: &State) -> Check {
    let install = "moadim-mcp service install";
    match (state.installed, state.active) {
        (false, _) => Check::well("service", "not installed: the janitor works while a host is open")
            .better_with(format!("to have it always: {install}")),
        (true, false) => Check::wrong("service", format!("installed, not alive: {}", state.detail), install),
        (true, true) if state.lingers == Some(false) => {
            Check::wrong("service", "alive, and ends when you log out", "loginctl enable-linger")
        }
        (true, true) => Check::well("service", "alive"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_wrong_when_it_is_wanted_and_not_alive_or_not_for_long() {
        let state = |installed, active, lingers| State {
            manager: "systemd",
            file: "/f".to_owned(),
            installed,
            active,
            detail: "failed".to_owned(),
            lingers,
        };
        assert!(of_service(&state(false, false, Some(false))).well);
        assert!(of_service(&state(true, true, Some(true))).well && of_service(&state(true, true, None)).well);
        assert_eq!(of_service(&state(true, false, None)).fix.as_deref(), Some("moadim-mcp service install"));
        assert_eq!(of_service(&state(true, true, Some(false))).fix.as_deref(), Some("loginctl enable-linger"));
    }
}
