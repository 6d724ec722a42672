//! `service`: keeps the janitor running without a host.

use std::io::Write;

use serde_json::json;

use super::app::{self, Format, print_json};
use crate::service::{Job, Service};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Start the janitor now and at each login, as a systemd user unit or a launchd agent
    ///
    /// It gets this shell's MOADIM_HOME and PATH. Installing again replaces and restarts it.
    Install {
        /// Only print the file and the commands
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Show whether the service is installed and running
    ///
    /// Exits with 1 if it is not running.
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Stop the service, and remove its file
    Uninstall {
        #[command(flatten)]
        format: Format,
    },
}

/// Returns whether all is well.
pub(super) fn service(arguments: &Arguments) -> anyhow::Result<bool> {
    let service = Service::of_this_user()?;
    let mut out = anstream::stdout();
    match &arguments.action {
        Action::Install { dry_run, format } => {
            let job = Job::of_this_process(app::program()?.path())?;
            if *dry_run && format.json {
                let (file, text, commands) = (&service.file, (service.text)(&job), service.commands());
                print_json(&json!({ "file": file, "text": text, "commands": commands }))?;
                return Ok(true);
            }
            if *dry_run {
                writeln!(out, "# {}\n{}", service.file.display(), (service.text)(&job))?;
                for command in service.commands() {
                    writeln!(out, "$ {command}")?;
                }
                return Ok(true);
            }
            service.install(&job)?;
            if format.json {
                print_json(&service.state()?)?;
                return Ok(true);
            }
            writeln!(out, "installed and started: {}", service.file.display())?;
            if service.state()?.lingers == Some(false) {
                writeln!(out, "it stops when you log out; to keep it running: loginctl enable-linger")?;
            }
        }
        Action::Status { format } => {
            let state = service.state()?;
            if format.json {
                print_json(&state)?;
                return Ok(state.active);
            }
            let installed = if state.installed { "installed" } else { "not installed" };
            let active = if state.active { "running" } else { "not running" };
            let detail = Some(&state.detail).filter(|detail| !detail.is_empty() && !state.active);
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            writeln!(out, "{installed}, {active}{detail}\n{}: {}", state.manager, state.file)?;
            return Ok(state.active);
        }
        Action::Uninstall { format } => match service.uninstall()? {
            _ if format.json => print_json(&service.state()?)?,
            true => writeln!(out, "stopped and removed: {}", service.file.display())?,
            false => writeln!(out, "not installed: {}", service.file.display())?,
        },
    }
    Ok(true)
}
