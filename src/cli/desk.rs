//! What the commands work with: the home, and the tools as functions. A command has no logic of its own.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use crate::agent::shell_path::Asker;
use crate::agent::{SearchPath, ShellPaths};
use crate::home::Home;
use crate::janitor::status::Status;
use crate::mcp::call::Call;
use crate::mcp::tool::{Reply, Tool};
use crate::mcp::{Core, tools};
use crate::query::listing::{self, RunFilter};
use crate::query::view::RunView;
use crate::routine::slug::Slug;
use crate::run::context::{App, Context, Program};
use crate::run::id::RunId;

/// How a command answers.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Format {
    /// Print one JSON document, the same as the tool's answer
    #[arg(long)]
    pub(super) json: bool,
}

/// A home, and what can be done there.
pub(super) struct Desk {
    core: Core,
    tools: Vec<Tool>,
}

/// How long a person is let wait for their login shell.
const LOGIN_SHELL_PATIENCE: Duration = Duration::from_secs(5);

impl Desk {
    /// Opens the home. The login shell is not asked for its PATH, which takes as long as its start-up files do.
    pub(super) fn open() -> anyhow::Result<Self> {
        Self::at(Home::open(Home::from_environment()?)?, program()?, Arc::default())
    }

    /// Opens the home, and asks the login shell where commands are found.
    pub(super) fn open_with_search_path() -> anyhow::Result<Self> {
        let home = Home::open(Home::from_environment()?)?;
        let program = program()?;
        let shell_paths = ShellPaths::of(Asker::of_this_process(program.path().to_owned(), home.clone()));
        let _ = shell_paths.get(LOGIN_SHELL_PATIENCE);
        Self::at(home, program, shell_paths)
    }

    fn at(home: Home, program: Program, shell_paths: Arc<ShellPaths>) -> anyhow::Result<Self> {
        let app = Arc::new(App::new(home, program));
        let core = Core { app, janitor: Arc::new(Status::default()), shell_paths };
        Ok(Self { core, tools: tools::all() })
    }

    /// Returns where the tools work.
    pub(super) fn app(&self) -> &App {
        &self.core.app
    }

    /// Returns where agents' commands are found.
    pub(super) fn search_path(&self) -> SearchPath {
        self.core.shell_paths.get(Duration::ZERO)
    }

    /// Calls a tool, and returns its structured answer.
    pub(super) fn call(&self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        let found = self.tools.iter().find(|one| one.name() == tool);
        let Value::Object(arguments) = arguments else { return Err(anyhow!("the arguments of {tool} are no object")) };
        let found = found.with_context(|| format!("there is no tool {tool}"))?;
        match found.call(&self.core, arguments, &Call::default()).map_err(|error| anyhow!("{error}"))? {
            Reply::Answer(answer) => Ok(serde_json::from_str(&answer.into_text())?),
            Reply::Ask(question) => Err(anyhow!(question.otherwise)),
            Reply::Task(run) => Err(anyhow!("{tool} answered with a task, the run {run}, which nobody asked for")),
        }
    }

    /// Reads the settings as they are now, for looking.
    pub(super) fn context(&self) -> Context {
        self.core.app.context_for_looking()
    }

    /// Reads the settings as they are now, for what depends on them; damaged ones are an error.
    pub(super) fn sound_context(&self) -> anyhow::Result<Context> {
        Ok(self.core.app.context()?)
    }

    /// Finds a run by its id, or the newest run of a routine by its slug.
    pub(super) fn run(&self, name: &str) -> anyhow::Result<RunView> {
        let context = self.context();
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
}

fn program() -> anyhow::Result<Program> {
    Program::current().context("this program's own file is not known")
}

/// Writes a document to stdout.
pub(super) fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
