//! `cleanup`: ends hung runs and removes expired workbenches, now.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

use super::app::{self, Format, print_json};
use super::completion;
use super::table::{Table, faint, judged, text};
use super::time::moment;
use crate::clock::UnixSeconds;
use crate::janitor::cleanup::{clean_up, dry_run};
use crate::janitor::plan::counted;
use crate::janitor::report::CleanupReport;
use crate::janitor::sweep::discard;
use crate::janitor::trash::Progress;
use crate::routine::slug::Slug;
use crate::run::id::RunId;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only show what would be done, and why every other workbench is kept
    #[arg(long)]
    dry_run: bool,
    /// Only runs of this routine, even a deleted one
    #[arg(long, add = completion::routines())]
    routine: Option<Slug>,
    /// Remove the workbench of this run with everything in it, unsaved work included
    #[arg(long, value_name = "RUN", conflicts_with_all = ["dry_run", "routine"], add = completion::runs_with_workbench())]
    discard: Option<RunId>,
    #[command(flatten)]
    format: Format,
}

/// A person who waits at a terminal can press Ctrl-C; the next sweep deletes the rest from the trash.
const DELETING_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Cleans up; returns whether nothing failed.
pub(super) fn cleanup(arguments: &Arguments) -> anyhow::Result<bool> {
    let context = app::open()?.context()?;
    let only = arguments.routine.as_ref();
    let report = if let Some(run) = &arguments.discard {
        let report = discard(&context, run)?;
        if report.scanned == 0 {
            bail!("the run {run} has no workbench to discard; see: moadim-mcp runs");
        }
        report
    } else if arguments.dry_run {
        dry_run(&context, only)?
    } else {
        let bar = Bar::new();
        let report = clean_up(&context, only, DELETING_TIMEOUT, &mut |progress| bar.show(progress))?;
        bar.0.finish_and_clear();
        report
    };
    let all_done = report.failed.is_empty();
    if arguments.format.json {
        print_json(&report.shortened())?;
    } else {
        show(&report)?;
    }
    Ok(all_done)
}

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} workbenches, {msg} freed");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn show(&self, progress: Progress) {
        if progress.total == 0 {
            return;
        }
        self.0.set_length(progress.total as u64);
        self.0.set_message(BinaryBytes(progress.freed_bytes).to_string());
        self.0.set_position(progress.done as u64);
    }
}

fn show(report: &CleanupReport) -> std::io::Result<()> {
    let now = UnixSeconds::now();
    let mut table = Table::new(&["RUN", "", "SIZE", "ARCHIVED", "NOT ARCHIVED", "UNTIL", "WHY"]);
    let mut row = |run: &dyn std::fmt::Display, what, parts: [&str; 4], why: &str| {
        let parts = parts.into_iter().map(text);
        table.row([text(&run.to_string()), what].into_iter().chain(parts).chain([text(why)]).collect());
    };
    let (ended, gone) = if report.dry_run { ("would be ended", "would be removed") } else { ("ended", "removed") };
    for one in &report.killed {
        row(&one.run, judged(ended, false), [""; 4], &one.reason);
    }
    for one in &report.removed {
        let size = BinaryBytes(one.bytes).to_string();
        let archived = one.archived.as_ref().map(ToString::to_string).unwrap_or_default();
        let others =
            one.not_archived.map(|others| format!("{}, {}", counted(others.files, "file"), BinaryBytes(others.bytes)));
        let parts = [&size, &archived, others.as_deref().unwrap_or_default(), ""];
        row(&one.run, judged(gone, true), parts, &one.reason.to_string());
    }
    for one in &report.kept {
        let until = one.until.map(|until| moment(until, now)).unwrap_or_default();
        row(&one.run, faint("kept"), ["", "", "", &until], &one.reason.to_string());
    }
    for one in &report.failed {
        row(&one.run, judged("failed", false), [""; 4], &format!("{}: {}", one.path, one.error));
    }
    table.print("no workbenches")?;
    if let Some(note) = &report.note {
        eprintln!("moadim-mcp: {note}");
    }
    for store in &report.stores {
        eprintln!("{}: {store}", store.name);
    }
    let (removed, scanned) = (report.removed.len(), report.scanned);
    match report.removable_bytes {
        Some(bytes) => eprintln!("{removed} of {scanned} workbenches would be removed, {}", BinaryBytes(bytes)),
        None => eprintln!("{removed} of {scanned} workbenches removed, {} freed", BinaryBytes(report.freed_bytes)),
    }
    Ok(())
}
