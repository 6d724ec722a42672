//! `cleanup`: ends hung runs and removes expired workbenches, now.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

use super::app::{self, Format, print_json};
use super::table::{Table, faint, judged, text};
use super::time::moment;
use crate::clock::UnixSeconds;
use crate::janitor::cleanup::{CleanupReport, clean_up_within};
use crate::janitor::extent::Allowance;
use crate::janitor::sweep::Progress;
use crate::mcp::tools::cleanup::answer;
use crate::routine::slug::Slug;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only say what would be done, and why each other workbench is kept
    #[arg(long)]
    dry_run: bool,
    /// Only runs of this routine, which need not exist any more
    #[arg(long)]
    routine: Option<Slug>,
    #[command(flatten)]
    format: Format,
}

/// A person who waits at a terminal can stop by Ctrl-C: what is not deleted then lies in the trash, for the next sweep.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Cleans up; returns whether everything that was due could be done.
pub(super) fn cleanup(arguments: &Arguments) -> anyhow::Result<bool> {
    let context = app::open()?.context()?;
    let bar = Bar::new();
    let tell = &mut |progress: Progress| bar.show(progress);
    let report =
        clean_up_within(&context, arguments.routine.as_ref(), arguments.dry_run, Allowance::All, PATIENCE, tell)?;
    bar.0.finish_and_clear();
    let all_done = report.not_killed.is_empty() && report.sweep.failed.is_empty();
    if arguments.format.json {
        print_json(&answer(arguments.dry_run, report))?;
    } else {
        show(&report, arguments.dry_run)?;
    }
    Ok(all_done)
}

struct Bar(ProgressBar);

impl Bar {
    /// Makes one that is seen on a terminal, once there is something to tell.
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

fn show(report: &CleanupReport, dry_run: bool) -> std::io::Result<()> {
    let CleanupReport { killed, not_killed, sweep, note, .. } = report;
    let now = UnixSeconds::now();
    let mut table = Table::new(&["RUN", "", "SIZE", "UNTIL", "WHY"]);
    let mut row = |run: &dyn std::fmt::Display, what, size: &str, until: &str, why: &str| {
        table.row(vec![text(&run.to_string()), what, text(size), text(until), text(why)]);
    };
    let (ended, gone) = if dry_run { ("would be ended", "would be removed") } else { ("ended", "removed") };
    for one in killed {
        row(&one.run, judged(ended, false), "", "", &one.reason);
    }
    for one in &sweep.removed {
        row(&one.run, judged(gone, true), &BinaryBytes(one.bytes).to_string(), "", &one.reason.to_string());
    }
    for one in &sweep.kept {
        let until = one.until.map(|until| moment(until, now)).unwrap_or_default();
        row(&one.run, faint("kept"), "", &until, &one.reason.to_string());
    }
    for one in not_killed {
        row(&one.run, judged("not ended", false), "", "", &format!("{}: {}", one.path, one.error));
    }
    for one in &sweep.failed {
        row(&one.run, judged("not removed", false), "", "", &format!("{}: {}", one.path, one.error));
    }
    table.print("no workbenches")?;
    if let Some(note) = note {
        eprintln!("moadim-mcp: {note}");
    }
    let (removed, scanned) = (sweep.removed.len(), sweep.scanned);
    match sweep.removable {
        Some(removable) => {
            eprintln!("{removed} of {scanned} workbenches would be removed, {}", BinaryBytes(removable.bytes));
        }
        None => eprintln!("{removed} of {scanned} workbenches removed, {} freed", BinaryBytes(sweep.freed_bytes)),
    }
    Ok(())
}
