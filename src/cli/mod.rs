//! The commands for people. Without one, the program serves MCP on stdin and stdout.

use std::io::IsTerminal;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::mcp::server::Server;
use crate::mcp::{Core, serve, tools};

const INSTRUCTIONS: &str = "moadim-mcp runs AI agents unattended.";

#[derive(Parser)]
#[command(version, about)]
struct Arguments {}

/// Runs the program with the process's arguments.
///
/// # Errors
/// What kept it from doing what it was asked, complete for a person to read.
pub fn run() -> anyhow::Result<()> {
    let Arguments {} = Arguments::parse();
    log_to_stderr();
    let core = Core { version: env!("CARGO_PKG_VERSION") };
    serve::run(Server::new(core, tools::all(), INSTRUCTIONS)?, async {})?;
    Ok(())
}

/// stdout belongs to JSON-RPC.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).with_ansi(ansi).init();
}
