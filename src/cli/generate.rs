//! `generate`: prints completions for shells, the man page, and the schemas of files.

use std::io::Write;

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;

use super::app::print_json;
use super::file_schemas::WrittenFile;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The shell to print completions for; man for the man page, moadim-mcp(1); or a JSON schema for your editor
    #[arg(value_parser = choices())]
    what: String,
}

fn choices() -> PossibleValuesParser {
    let schemas = WrittenFile::ALL.map(WrittenFile::schema_name);
    PossibleValuesParser::new(["bash", "elvish", "fish", "powershell", "zsh", "man"].into_iter().chain(schemas))
}

pub(super) fn generate(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(file) = WrittenFile::ALL.into_iter().find(|file| file.schema_name() == arguments.what) {
        return print_json(&file.schema());
    }
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
