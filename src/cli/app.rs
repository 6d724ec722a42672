//! What most commands share: opening the home, finding a run by its name, printing JSON.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::home::Home;
use crate::query::listing::{self, RunFilter};
use crate::query::view::RunView;
use crate::routine::slug::Slug;
use crate::run::context::{App, Program};
use crate::run::id::RunId;

/// How a command answers.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Format {
    /// Print one JSON document, the same as the tool's answer
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn open() -> anyhow::Result<App> {
    let program = program()?;
    Ok(App::new(Home::open(Home::from_environment()?)?, program))
}

pub(super) fn program() -> anyhow::Result<Program> {
    Program::current().context("cannot find this program's own file")
}

/// Makes sure that no run calls, whose agent may do less than its user.
///
/// # Errors
/// One does, or the runs cannot be listed.
pub(super) fn check_called_by_a_person(app: &App, what: &str) -> anyhow::Result<()> {
    if let Some(run) = std::env::var_os(crate::env_vars::RUN) {
        anyhow::bail!("cannot {what}: this call comes from the run {}; ask a person to do it", run.display());
    }
    match crate::run::options::calling_run(&app.context_for_looking())? {
        Some(caller) => anyhow::bail!("cannot {what}: {caller}; ask a person to do it"),
        None => Ok(()),
    }
}

/// How long a person waits for their login shell.
const LOGIN_SHELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the home, and asks the login shell where commands are found. That takes as long as its start-up files do.
pub(super) fn open_with_login_shell() -> anyhow::Result<App> {
    let app = open()?.with_login_shell();
    let _ = app.shell_paths.get(LOGIN_SHELL_TIMEOUT);
    Ok(app)
}

/// Finds a run by its id, or the newest run of a routine by its slug.
pub(super) fn find_run(app: &App, name: &str) -> anyhow::Result<RunView> {
    let context = app.context_for_looking();
    if let Ok(id) = name.parse::<RunId>()
        && let Ok(run) = listing::find(&context, &id)
    {
        return Ok(run);
    }
    let unknown = || anyhow!("there is no run '{name}', and no run of a routine '{name}'; see: moadim-mcp runs");
    let routine: Slug = name.parse().map_err(|_| unknown())?;
    let filter = RunFilter { routine: Some(routine), ..RunFilter::default() };
    listing::list(&context, &filter, None, 1)?.runs.pop().ok_or_else(unknown)
}

/// Writes a document to stdout.
pub(super) fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
