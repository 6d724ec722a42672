//! The MCP server, and its janitor.

use std::sync::Arc;

use super::app;
use crate::janitor;
use crate::janitor::registration::Registration;
use crate::logging;
use crate::mcp::server::Server;
use crate::mcp::tool::Tool;
use crate::mcp::tools::selection::select;
use crate::mcp::{INSTRUCTIONS, serve, tools};

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
pub(super) fn serve(offer: &Offer) -> anyhow::Result<()> {
    let all = tools::all();
    let count = all.len();
    let offered = select(all, offer.read_only, offer.tools.as_deref())?;
    let instructions = instructions(&offered, count);
    logging::start_writing();
    let app = Arc::new(app::open()?.with_login_shell());
    let _registration = Registration::enter(&app.home);
    let server = Server::new(Arc::clone(&app), offered, instructions)?;
    let background = move || {
        let shell_paths = Arc::clone(&app.shell_paths);
        // If the system has no thread left, the first call that needs the answer asks.
        let _ = std::thread::Builder::new().name("shell paths".into()).spawn(move || shell_paths.ask());
        janitor::start(&app);
    };
    Ok(serve::run(server, background)?)
}

/// Returns the instructions, which name the offered tools if some are left out.
fn instructions(offered: &[Tool], count: usize) -> String {
    if offered.len() == count {
        return INSTRUCTIONS.to_owned();
    }
    let mut names: Vec<&str> = offered.iter().filter(|tool| tool.is_for_models()).map(Tool::name).collect();
    names.sort_unstable();
    format!("{INSTRUCTIONS}\nOf these tools, only some are offered here: {}.", names.join(", "))
}
