//! `questions`: what waits for a person.

use serde_json::json;

use super::app::{self, Format, print_json};
use super::completion;
use super::table::{Table, text};
use super::time::moment;
use crate::clock::UnixSeconds;
use crate::query::listing;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::question::state::open_runs;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only those of this routine's runs
    #[arg(add = completion::routines())]
    routine: Option<Slug>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn questions(arguments: Arguments) -> anyhow::Result<()> {
    let context = app::open()?.context_for_looking();
    let mut runs = open_runs(&context.home)?;
    if let Some(routine) = &arguments.routine {
        runs.retain(|run| run.routine() == routine);
        if runs.is_empty() {
            store::check_exists(&context.home, routine)?;
        }
    }
    let mut found = Vec::new();
    for run in &runs {
        match listing::find(&context, run) {
            Ok(run) => found.push(run),
            Err(error) => eprintln!("moadim-mcp: the question of run {run} cannot be read: {error}"),
        }
    }
    if arguments.format.json {
        return print_json(&json!({ "runs": found }));
    }
    let now = UnixSeconds::now();
    let mut table = Table::new(&["RUN", "ASKED", "EXPIRES", "QUESTION", "OPTIONS"]);
    for run in &found {
        let Some(question) = &run.question else { continue };
        let first_line = question.text.lines().next().unwrap_or_default();
        table.row(vec![
            text(&run.id.to_string()),
            text(&moment(question.asked_at, now)),
            text(&question.expires_at.map(|at| moment(at, now)).unwrap_or_default()),
            text(first_line),
            text(&question.options.join(" | ")),
        ]);
    }
    table.print("nothing waits for an answer")?;
    if !found.is_empty() {
        eprintln!("answer one with: moadim-mcp answer RUN");
    }
    Ok(())
}
