//! The MCP server, and its janitor.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;

use crate::agent::ProbedPath;
use crate::home::Home;
use crate::janitor;
use crate::janitor::status::Status;
use crate::mcp::server::Server;
use crate::mcp::{Core, INSTRUCTIONS, serve, tools};
use crate::run::workplace::{Program, Site};

/// Serves until the host is gone.
pub(super) fn serve() -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        eprintln!(
            "moadim-mcp: this is the MCP server, for an agent host; for people: moadim-mcp --help (Ctrl-D ends this)"
        );
    }
    let home = Home::open(Home::from_environment()?)?;
    let program = Program::current().context("this program's own file is not known")?;
    let search_path = ProbedPath::of(program.path().to_owned());
    let site = Arc::new(Site::new(home, program));
    let status = Arc::new(Status::default());
    let core = Core { site: Arc::clone(&site), janitor: Arc::clone(&status), search_path: Arc::clone(&search_path) };
    let asked = Arc::clone(&search_path);
    let background = async move {
        asked.ask();
        janitor::run(site, status).await;
    };
    let served = serve::run(Server::new(core, tools::all(), INSTRUCTIONS)?, background);
    search_path.give_up();
    Ok(served?)
}
