//! `recover`: brings back work that was archived, or that a workbench still holds.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use indicatif::BinaryBytes;
use serde_json::json;

use super::app::{self, Format, print_json};
use super::completion;
use super::table::{Table, text};
use super::time::moment;
use crate::archive::{self, Recovered, Wanted};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::routine::bounds::Bounds;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::continuation::workbench_name;
use crate::run::id::RunId;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The run, as in `moadim-mcp recover --list`
    #[arg(required_unless_present_any = ["list", "routine"], add = completion::recoverable_runs())]
    run: Option<RunId>,
    /// Where to put it; default: ./RUN
    #[arg(value_hint = clap::ValueHint::DirPath)]
    directory: Option<PathBuf>,
    /// List what is archived
    #[arg(long, conflicts_with_all = ["run", "directory"])]
    list: bool,
    /// Bring back a deleted routine instead
    #[arg(long, value_name = "ROUTINE", conflicts_with_all = ["run", "directory", "list"], add = completion::deleted_routines())]
    routine: Option<Slug>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn recover(arguments: &Arguments) -> anyhow::Result<()> {
    let context = app::open()?.context()?;
    if let Some(slug) = &arguments.routine {
        let directory = store::unarchive(&context.home, slug)?;
        if arguments.format.json {
            return print_json(&json!({ "routine": slug, "directory": directory }));
        }
        return Ok(writeln!(anstream::stdout(), "{}", directory.display())?);
    }
    let Some(run) = &arguments.run else { return list(&context.home, arguments.format.json) };
    let target = match &arguments.directory {
        Some(directory) => std::path::absolute(directory)?,
        None => std::env::current_dir().context("cannot tell the current directory")?.join(run.to_string()),
    };
    let bounds = Bounds::of(&context.home, &context.config, run.routine());
    let wanted = Wanted { run: &workbench_name(&context, run), files: &bounds.archive_files };
    let recovered = archive::recover(&context.home, &wanted, &target)?;
    if arguments.format.json {
        return print_json(&json!({
            "run": run, "directory": target, "repositories": recovered.repositories,
            "files": recovered.files, "notes": recovered.notes, "failures": recovered.failures,
        }))
        .and_then(|()| complete(&recovered));
    }
    let mut out = anstream::stdout();
    for repository in &recovered.repositories {
        writeln!(out, "{}", repository.display())?;
    }
    for file in &recovered.files {
        writeln!(out, "{}", target.join(file).display())?;
    }
    for note in &recovered.notes {
        eprintln!("moadim-mcp: {note}");
    }
    complete(&recovered)?;
    if recovered.repositories.is_empty() && recovered.files.is_empty() {
        bail!("nothing to recover: the workbench of {run} holds no unsaved work");
    }
    Ok(())
}

/// Fails if something did not come back.
fn complete(recovered: &Recovered) -> anyhow::Result<()> {
    if recovered.failures.is_empty() { Ok(()) } else { bail!("{}", recovered.failures.join("\n")) }
}

fn list(home: &Home, as_json: bool) -> anyhow::Result<()> {
    let (mut archives, damaged) = archive::all(home)?;
    for error in damaged {
        eprintln!("moadim-mcp: {error}");
    }
    archives.sort_unstable_by(|one, other| other.run.cmp(&one.run));
    if as_json {
        return print_json(&archives);
    }
    let now = UnixSeconds::now();
    let mut table = Table::new(&["RUN", "ARCHIVED", "SIZE", "COMMITS", "FILES", "REPOSITORIES"]);
    for one in &archives {
        let paths: Vec<String> = one.repositories.iter().map(|repository| repository.work.path.clone()).collect();
        table.row(vec![
            text(&one.run.to_string()),
            text(&moment(one.made_at, now)),
            text(&BinaryBytes(one.bytes).to_string()),
            text(&one.unpushed_commits().to_string()),
            text(&one.file_count().to_string()),
            text(&paths.join(", ")),
        ]);
    }
    Ok(table.print("nothing is archived")?)
}
