//! The service as a unit of the user's systemd. Facts: systemd.service(5), systemd.exec(5), systemd.kill(5).

use std::path::Path;

use super::{Job, Kind, MARK, Service, run, words};

/// `configuration` is the user's configuration directory.
pub(super) fn service(kind: Kind, configuration: &Path) -> Service {
    let unit = format!("moadim-mcp-{}.service", kind.name());
    let ask = |rest: &str| words(&format!("systemctl --user {rest}"));
    Service {
        manager: "systemd",
        file: configuration.join("systemd/user").join(&unit),
        probe: ask("show-environment"),
        hint: "Try from a real login of this user (not su or sudo), or give it a manager of its own: \
               loginctl enable-linger",
        text: unit_file,
        arguments,
        prepare: Vec::new(),
        start: vec![ask("daemon-reload"), ask(&format!("enable {unit}")), ask(&format!("restart {unit}"))],
        stop: vec![ask(&format!("disable --now {unit}"))],
        forget: vec![ask("daemon-reload")],
        is_active: ask(&format!("is-active {unit}")),
    }
}

/// Returns whether the user's services go on when nobody is logged in.
pub(super) fn lingers(manager: &str) -> Option<bool> {
    if manager != "systemd" {
        return None;
    }
    let output = run(&words("loginctl show-user --property=Linger --value self")).ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Quotes a word; `%` begins a specifier everywhere. The name of a program is not searched for variables, so `$` stays.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

fn unit_file(job: &Job) -> String {
    let variable = |(name, value): &(&str, String)| format!("Environment={}\n", quoted(&format!("{name}={value}")));
    let environment: String = job.environment.iter().map(variable).collect();
    format!(
        "# {MARK}
[Unit]
Description=moadim-mcp {name}: {description}

[Service]
Type=exec
ExecStart={program} {arguments}
{environment}Restart=on-failure
RestartSec=10
# Runs and the tmux server that this {name} starts are in its control group. They outlive it: only the {name} itself is
# signalled when the service stops or restarts.
KillMode=process
# One agent that takes too much memory must not stop the service.
OOMPolicy=continue

[Install]
WantedBy=default.target
",
        name = job.kind.name(),
        description = job.kind.description(),
        program = quoted(&job.program),
        arguments = job.arguments.join(" "),
    )
}

/// Returns what follows the program in a unit's file.
fn arguments(text: &str) -> Vec<String> {
    let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=\"")).unwrap_or_default();
    command.rsplit_once("\" ").map(|(_, arguments)| words(arguments)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_take_for_more_than_a_letter_is_escaped() {
        let environment = vec![("MOADIM_HOME", "/a b%h".to_owned())];
        let (program, arguments) = ("/opt/100% $HOME/moadim-mcp".to_owned(), vec!["janitor".to_owned()]);
        let text = unit_file(&Job { kind: Kind::Janitor, program, arguments, environment });
        assert!(text.contains("ExecStart=\"/opt/100%% $HOME/moadim-mcp\" janitor\n"), "{text}");
        assert!(text.contains("Environment=\"MOADIM_HOME=/a b%%h\"\n"), "{text}");
        assert!(text.contains("\nKillMode=process\n") && text.contains(MARK), "{text}");
    }
}
