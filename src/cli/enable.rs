//! `enable` and `disable`: whether routines may be triggered.

use std::io::Write;

use serde_json::json;

use super::app::{self, Format, print_json};
use super::completion;
use crate::mcp::tools::routines::changed_by_hand;
use crate::routine::edit;
use crate::routine::slug::Slug;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The slugs of routines
    #[arg(required = true, add = completion::routines())]
    routines: Vec<Slug>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn set_enabled(arguments: &Arguments, enabled: bool) -> anyhow::Result<()> {
    if arguments.format.json {
        return set_enabled_as_json(&arguments.routines, enabled);
    }
    let app = app::open()?;
    for slug in &arguments.routines {
        edit::switch(&app.home, slug, enabled)?;
        writeln!(anstream::stdout(), "{slug} is {}", if enabled { "enabled" } else { "disabled" })?;
        let warnings = if enabled { changed_by_hand(&app, slug)?.warnings } else { Vec::new() };
        warnings.iter().try_for_each(|warning| writeln!(anstream::stderr(), "moadim-mcp: {slug}: {warning}"))?;
    }
    Ok(())
}

/// Prints those that were switched, also if another one could not be.
fn set_enabled_as_json(slugs: &[Slug], enabled: bool) -> anyhow::Result<()> {
    let app = app::open_with_login_shell()?;
    let mut routines = Vec::new();
    let switched = slugs.iter().try_for_each(|slug| {
        edit::switch(&app.home, slug, enabled)?;
        routines.push(changed_by_hand(&app, slug)?.routine);
        anyhow::Ok(())
    });
    if !routines.is_empty() {
        print_json(&json!({ "routines": routines }))?;
    }
    switched
}
