//! `enable` and `disable`: whether routines may be triggered.

use std::io::Write;

use super::app;
use super::completion;
use crate::routine::edit;
use crate::routine::slug::Slug;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The slugs of routines
    #[arg(required = true, add = completion::routines())]
    routines: Vec<Slug>,
}

pub(super) fn set_enabled(arguments: &Arguments, enabled: bool) -> anyhow::Result<()> {
    let home = app::open()?.home;
    for slug in &arguments.routines {
        edit::switch(&home, slug, enabled)?;
        writeln!(anstream::stdout(), "{slug} is {}", if enabled { "enabled" } else { "disabled" })?;
    }
    Ok(())
}
