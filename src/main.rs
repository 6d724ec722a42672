//! The `moadim-mcp` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match moadim_mcp::cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("moadim-mcp: {error:#}");
            ExitCode::FAILURE
        }
    }
}
