//! `service`: keeps the janitor running without a host, and the dashboard on request.

use std::io::Write;

use serde::Serialize;

use super::app::{self, Format, print_json};
use crate::service::{Job, Kind, Service, ServiceError, State};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Start the janitor now and at each login, as a systemd user unit or a launchd agent
    ///
    /// It gets this shell's MOADIM_HOME and PATH. Installing again replaces and restarts it, and an installed dashboard too.
    Install(Install),
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

#[derive(clap::Args)]
struct Install {
    /// Keep the dashboard running too; `moadim-mcp dashboard` opens it
    #[cfg(feature = "dashboard")]
    #[arg(long)]
    dashboard: bool,
    /// The dashboard's port; if left out, the one it was installed with, or any free one
    #[cfg(feature = "dashboard")]
    #[arg(long, value_name = "N", requires = "dashboard")]
    port: Option<u16>,
    /// Only print the files and the commands
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

impl Install {
    /// Returns the port of the dashboard's service, or `None` if there will be none. An installed one keeps its port, which
    /// webhooks and tunnels name, and gets the new program.
    #[cfg(feature = "dashboard")]
    fn dashboard_port(&self) -> Result<Option<u16>, ServiceError> {
        let installed = Service::of_this_user(Kind::Dashboard)?.installed_port()?;
        Ok(self.port.or(installed).or(self.dashboard.then_some(0)))
    }

    #[cfg(not(feature = "dashboard"))]
    fn dashboard_port(&self) -> Result<Option<u16>, ServiceError> {
        Ok(None)
    }

    fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        let program = app::program()?;
        let mut jobs = vec![Job::janitor(program.path())?];
        if let Some(port) = self.dashboard_port()? {
            jobs.push(Job::dashboard(program.path(), port)?);
        }
        Ok(jobs)
    }
}

/// What an installation writes and executes.
#[derive(Serialize)]
struct Step {
    file: String,
    text: String,
    commands: Vec<String>,
}

/// Both services, the dashboard's only if it is installed.
#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct Services<T> {
    #[serde(flatten)]
    janitor: T,
    dashboard: Option<T>,
}

/// Returns whether all is well.
pub(super) fn service(arguments: &Arguments) -> anyhow::Result<bool> {
    match &arguments.action {
        Action::Install(install) if install.dry_run => print_steps(install),
        Action::Install(arguments) => install(arguments),
        Action::Status { format } => status(*format),
        Action::Uninstall { format } => uninstall(*format),
    }
}

fn print_steps(install: &Install) -> anyhow::Result<bool> {
    let mut steps = Vec::new();
    for job in install.jobs()? {
        let service = Service::of_this_user(job.kind)?;
        let (file, text) = (service.file.display().to_string(), (service.text)(&job));
        steps.push(Step { file, text, commands: service.commands() });
    }
    if install.format.json {
        let mut steps = steps.into_iter();
        if let Some(janitor) = steps.next() {
            print_json(&Services { janitor, dashboard: steps.next() })?;
        }
        return Ok(true);
    }
    let mut out = anstream::stdout();
    for step in steps {
        writeln!(out, "# {}\n{}", step.file, step.text)?;
        step.commands.iter().try_for_each(|command| writeln!(out, "$ {command}"))?;
    }
    Ok(true)
}

fn install(install: &Install) -> anyhow::Result<bool> {
    let mut out = anstream::stdout();
    let jobs = install.jobs()?;
    for job in &jobs {
        let service = Service::of_this_user(job.kind)?;
        service.install(job)?;
        if !install.format.json {
            writeln!(out, "installed and started: {}", service.file.display())?;
        }
    }
    let states = states()?;
    if install.format.json {
        print_json(&states)?;
        return Ok(true);
    }
    if states.janitor.lingers == Some(false) {
        writeln!(out, "it stops when you log out; to keep it running: loginctl enable-linger")?;
    }
    if jobs.iter().any(|job| job.kind == Kind::Dashboard) {
        writeln!(out, "to open the dashboard: moadim-mcp dashboard")?;
    }
    Ok(true)
}

fn states() -> Result<Services<State>, ServiceError> {
    let state = |kind| Service::of_this_user(kind)?.state();
    let dashboard = state(Kind::Dashboard)?;
    Ok(Services { janitor: state(Kind::Janitor)?, dashboard: dashboard.installed.then_some(dashboard) })
}

fn status(format: Format) -> anyhow::Result<bool> {
    let states = states()?;
    let is_well = states.janitor.active && states.dashboard.as_ref().is_none_or(|state| state.active);
    if format.json {
        print_json(&states)?;
        return Ok(is_well);
    }
    let mut out = anstream::stdout();
    let mut show = |of: &str, state: &State| {
        let installed = if state.installed { "installed" } else { "not installed" };
        let active = if state.active { "running" } else { "not running" };
        let detail = Some(&state.detail).filter(|detail| !detail.is_empty() && !state.active);
        let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        writeln!(out, "{of}{installed}, {active}{detail}\n{}: {}", state.manager, state.file)
    };
    show("", &states.janitor)?;
    states.dashboard.as_ref().map_or(Ok(()), |state| show("dashboard: ", state))?;
    Ok(is_well)
}

fn uninstall(format: Format) -> anyhow::Result<bool> {
    let mut out = anstream::stdout();
    for kind in [Kind::Janitor, Kind::Dashboard] {
        let service = Service::of_this_user(kind)?;
        match service.uninstall()? {
            _ if format.json => {}
            true => writeln!(out, "stopped and removed: {}", service.file.display())?,
            false if kind == Kind::Janitor => writeln!(out, "not installed: {}", service.file.display())?,
            false => {}
        }
    }
    if format.json {
        print_json(&states()?)?;
    }
    Ok(true)
}
