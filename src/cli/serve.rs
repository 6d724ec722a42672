//! The MCP server, and its janitor.

use std::sync::Arc;

use anyhow::Context as _;

use crate::home::Home;
use crate::janitor;
use crate::janitor::registration::Registration;
use crate::logging;
use crate::mcp::server::Server;
use crate::mcp::tool::Tool;
use crate::mcp::tools::selection::Selection;
use crate::mcp::{INSTRUCTIONS, serve, tools};
use crate::run::context::{App, Program};

/// Which tools the server offers.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Offer {
    /// As an MCP server, offer only tools that change nothing
    #[arg(long)]
    read_only: bool,
    /// As an MCP server, offer only these tools, separated by commas
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    tools: Option<Vec<String>>,
}

/// Serves until the host closes stdin.
pub(super) fn serve(offer: Offer) -> anyhow::Result<()> {
    let all = tools::all();
    let count = all.len();
    let offered = Selection { read_only: offer.read_only, only: offer.tools }.of(all)?;
    let instructions = instructions(&offered, count);
    logging::start_writing();
    let home = Home::open(Home::from_environment()?)?;
    let _registration = Registration::enter(&home);
    let program = Program::current().context("this program's own file is not known")?;
    let app = Arc::new(App::new(home, program).with_login_shell());
    let server = Server::new(Arc::clone(&app), offered, instructions)?;
    let background = async move {
        let shell_paths = Arc::clone(app.shell_paths());
        // If the system has no thread left, the first call that needs the answer asks.
        let _ = std::thread::Builder::new().name("shell paths".into()).spawn(move || shell_paths.ask());
        let _janitor = janitor::start(&app);
        std::future::pending().await
    };
    Ok(serve::run(server, background)?)
}

/// Returns the instructions, which name the offered tools if some are left out.
fn instructions(offered: &[Tool], count: usize) -> String {
    if offered.len() == count {
        return INSTRUCTIONS.to_owned();
    }
    let mut names: Vec<&str> = offered.iter().map(Tool::name).collect();
    names.sort_unstable();
    format!("{INSTRUCTIONS}\nOf these tools, only some are offered here: {}.", names.join(", "))
}
