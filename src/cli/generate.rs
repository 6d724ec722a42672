//! `generate`: prints completions for shells, and the man page.

use std::io::Write;

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to print
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Completions for the shell
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    /// The man page, moadim-mcp(1)
    Man,
}

pub(super) fn generate(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = super::Arguments::command();
    let shell = match arguments.what {
        What::Bash => Shell::Bash,
        What::Elvish => Shell::Elvish,
        What::Fish => Shell::Fish,
        What::Powershell => Shell::PowerShell,
        What::Zsh => Shell::Zsh,
        What::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            return Ok(std::io::stdout().lock().write_all(&page)?);
        }
    };
    // Writing straight to stdout, it would panic when the reader of a pipe leaves.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, env!("CARGO_PKG_NAME"), &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}
