//! `generate`: prints completions for shells, and the man page.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The shell to print completions for, or man for the man page, moadim-mcp(1)
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh", "man"])]
    what: String,
}

pub(super) fn generate(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = super::Arguments::command();
    let Ok(shell) = arguments.what.parse::<Shell>() else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return Ok(std::io::stdout().lock().write_all(&page)?);
    };
    // Writing straight to stdout, it would panic when the reader of a pipe leaves.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, env!("CARGO_PKG_NAME"), &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}
