//! `delete`: moves a routine to the archive.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::bail;

use super::app::{self, Format, print_json};
use super::completion;
use crate::mcp::tools::routines::DeletedRoutine;
use crate::routine::slug::Slug;
use crate::run::delete::{self, DeleteError, Deleted};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The routine's slug
    #[arg(add = completion::routines())]
    routine: Slug,
    /// End its unfinished runs first
    #[arg(long)]
    end_runs: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn delete(arguments: &Arguments) -> anyhow::Result<()> {
    let context = app::open()?.context_for_looking();
    let agreed = (!arguments.end_runs).then(BTreeSet::new);
    match delete::delete(&context, &arguments.routine, agreed.as_ref(), "moadim-mcp delete") {
        Ok(Deleted { ended, archived_to }) if arguments.format.json => print_json(&DeletedRoutine {
            deleted: arguments.routine.clone(),
            archived_to: archived_to.display().to_string(),
            stopped: ended,
        }),
        Ok(Deleted { ended, archived_to }) => {
            let mut out = anstream::stdout();
            for run in ended {
                writeln!(out, "Ended {run}.")?;
            }
            writeln!(out, "Deleted {}; its files are in {}.", arguments.routine, archived_to.display())?;
            Ok(writeln!(out, "To bring it back: moadim-mcp recover --routine {}", arguments.routine)?)
        }
        Err(error @ DeleteError::Unfinished { .. }) => bail!("{error}; wait for them, or add --end-runs to end them"),
        Err(error) => Err(error.into()),
    }
}
