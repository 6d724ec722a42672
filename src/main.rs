//! The `moadim-mcp` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match moadim_mcp::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moadim-mcp: {error:#}");
            ExitCode::FAILURE
        }
    }
}
