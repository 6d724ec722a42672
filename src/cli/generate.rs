//! `generate`: completions for shells, and the man page.

use std::io::Write;

use clap::{CommandFactory, Subcommand, ValueEnum};
use clap_complete::Shell;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to print
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Completions, to be put where the shell looks for them
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    /// The man page, moadim-mcp(1)
    Man,
}

/// Prints it.
pub(super) fn generate(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = for_people();
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
    // Straight to stdout it would panic at the end of a pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, env!("CARGO_PKG_NAME"), &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

/// Returns the command without what is only for ourselves.
fn for_people() -> clap::Command {
    let whole = super::Arguments::command();
    let words = |text: Option<&clap::builder::StyledStr>| text.cloned().unwrap_or_default();
    let bare = clap::Command::new(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .about(words(whole.get_about()))
        .long_about(words(whole.get_long_about()))
        .after_help(super::EXIT_STATUS);
    super::Command::augment_subcommands(bare)
}
