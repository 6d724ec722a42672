//! The `moadim-mcp` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    moadim_mcp::cli::run()
}
