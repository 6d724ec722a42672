//! `runs`: what runs, and what has ended.

use serde_json::Value;

use super::app::{self, Format, print_json};
use super::completion;
use super::table::{Cell, Table, faint, status, text};
use super::time::moment;
use super::time_words;
use crate::clock::{HumanDuration, UnixSeconds};
use crate::mcp::tools::runs::{ListRuns, Runs, list_runs};
use crate::query::view::RunView;
use crate::routine::slug::Slug;
use crate::run::status::Status;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only runs of this routine
    #[arg(long, add = completion::routines())]
    routine: Option<Slug>,
    /// Only runs with this status, such as running or failed
    #[arg(long, value_parser = a_status)]
    status: Option<Status>,
    /// Only runs triggered at this time or later: 2h, yesterday, 2026-01-31, 2026-01-31T08:00:00Z
    #[arg(long, value_parser = time_words::since)]
    since: Option<UnixSeconds>,
    /// Only runs triggered at this time or before; a date includes the whole day
    #[arg(long, value_parser = time_words::until)]
    until: Option<UnixSeconds>,
    /// Maximum number of runs to show, 1 to 200
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Continue after this run: the next_cursor of the page before
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    format: Format,
}

fn a_status(text: &str) -> Result<Status, String> {
    serde_json::from_value(Value::from(text)).map_err(|error| error.to_string())
}

pub(super) fn runs(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { routine, status, since, until, limit, cursor, format } = arguments;
    let answer = list_runs(&app::open()?, ListRuns { routine, status, since, until, limit: Some(limit), cursor })?;
    if format.json {
        return print_json(&answer);
    }
    let Runs { runs, total, next_cursor } = answer;
    show(&runs)?;
    if let Some(cursor) = next_cursor {
        eprintln!("{} of {total} runs; for more, add: --limit N, or --cursor {cursor}", runs.len());
    }
    Ok(())
}

fn show(runs: &[RunView]) -> std::io::Result<()> {
    let now = UnixSeconds::now();
    let mut table = Table::new(&["RUN", "STATUS", "TRIGGERED", "TOOK", "COST", "WORKBENCH", "WHAT HAPPENED"]);
    for run in runs {
        table.row(vec![
            text(&run.id.to_string()),
            status(run.status),
            text(&moment(run.triggered_at, now)),
            text(&run.duration_secs.map(|secs| HumanDuration(secs).to_string()).unwrap_or_default()),
            cost(run),
            workbench(run, now),
            text(&what_happened(run)),
        ]);
    }
    table.print("no runs; start one with: moadim-mcp trigger ROUTINE")
}

/// Shows list prices, where the agent says what it used; what is not known is no zero.
fn cost(run: &RunView) -> Cell {
    let cost = run.output.as_ref().and_then(|output| output.usage.as_ref()?.cost_usd);
    cost.map_or_else(|| faint(""), |cost| text(&cost.in_cents()))
}

/// Says where a run is, why it ended as it did, what became of its question, and what its agent says that it did.
fn what_happened(run: &RunView) -> String {
    let is_there = run.finished_at.is_none() && run.status != Status::Unknown;
    let place = run.job.as_ref().filter(|_| is_there).and_then(|job| job.on_node());
    let reason = run.status_reason.clone().or(place);
    let question = run.question.as_ref().filter(|question| !question.is_open());
    let became = question.and_then(|question| question.state).map(|state| state.to_string());
    let headline = run.report.as_ref().map(|report| report.headline.clone());
    [reason, became, headline].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn workbench(run: &RunView, now: UnixSeconds) -> Cell {
    match (run.reap_at, &run.kept_because) {
        (Some(at), _) if run.status == Status::Unknown => text(&format!("until {}, unless alive", moment(at, now))),
        (Some(at), _) if at <= now => text("until the next sweep"),
        (Some(at), _) => text(&format!("until {}", moment(at, now))),
        (None, Some(reason)) => faint(&format!("kept: {reason}")),
        (None, None) if run.status == Status::Reaped => faint("removed"),
        (None, None) => faint(""),
    }
}
