//! `trigger_routine`, `list_runs`, `read_log` and `stop_run`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page;
use crate::clock::UnixSeconds;
use crate::mcp::Core;
use crate::mcp::tool::{Hints, Tool, ToolError};
use crate::routine::model::InvalidField;
use crate::routine::slug::Slug;
use crate::run::end::{Ended, Order, end_run};
use crate::run::entry::Workbench;
use crate::run::id::RunId;
use crate::run::listing::{self, Filter};
use crate::run::log;
use crate::run::pin;
use crate::run::record::{EndCause, Status};
use crate::run::trigger;
use crate::run::view::{RunView, names};

pub(super) fn tools() -> [Tool<Core>; 5] {
    let starts = Hints { read_only: false, destructive: false, idempotent: false, open_world: true };
    let reads = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    let keeps = Hints { read_only: false, destructive: false, idempotent: true, open_world: false };
    let stops = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    [
        Tool::new(
            "trigger_routine",
            "Trigger a routine",
            "Starts a run of a routine now and returns once its agent has really started, within 5 seconds, or tells why \
             it did not. The run goes on by itself: see list_runs and read_log.",
            starts,
            trigger_routine,
        ),
        Tool::new(
            "list_runs",
            "List runs",
            "Lists runs, newest first: those that run, those that ended, and from the history those whose workbench is gone \
             (reaped).",
            reads,
            list_runs,
        ),
        Tool::new(
            "read_log",
            "Read a run's log",
            "Returns the end of what a run's agent printed, as clean text, at most 256 KiB.",
            reads,
            read_log,
        ),
        Tool::new(
            "stop_run",
            "Stop a run",
            "Ends a run and every process that it started, and returns when none is left. Its workbench stays until its \
             retention has passed. Stopping a run that has ended changes nothing.",
            stops,
            stop_run,
        ),
        Tool::new(
            "pin_run",
            "Pin a run",
            "Keeps a run's workbench until it is unpinned, whatever its age and however short the disk.",
            keeps,
            pin_run,
        ),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct TriggerRoutine {
    /// The routine's slug.
    routine: Slug,
    /// What to do while a run of this routine is alive: "skip" (the default) refuses, "allow" starts another beside it.
    overlap: Option<Overlap>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Overlap {
    Skip,
    Allow,
}

#[derive(Serialize, JsonSchema)]
struct OneRun {
    run: RunView,
}

fn trigger_routine(core: &Core, arguments: TriggerRoutine) -> Result<OneRun, ToolError> {
    let workplace = core.site.workplace()?;
    let overlap = match arguments.overlap {
        Some(Overlap::Allow) => trigger::Overlap::Allow,
        Some(Overlap::Skip) | None => trigger::Overlap::Skip,
    };
    let run = trigger::trigger(&workplace, &arguments.routine, overlap)?;
    Ok(OneRun { run: listing::find(&workplace, &run)? })
}

#[derive(Deserialize, JsonSchema)]
struct ListRuns {
    /// Only runs of this routine.
    routine: Option<Slug>,
    /// Only runs in this state; reaped ones are found by their outcome, too.
    status: Option<Status>,
    /// Only runs triggered at this time or later.
    since: Option<UnixSeconds>,
    /// Only runs triggered at this time or before.
    until: Option<UnixSeconds>,
    /// The most runs to answer with, 1 to 200; 20 if left out.
    limit: Option<usize>,
    /// The next_cursor of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Runs {
    runs: Vec<RunView>,
    /// How many there are on all pages.
    total: usize,
    /// Gives the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<RunId>,
}

fn list_runs(core: &Core, arguments: ListRuns) -> Result<Runs, ToolError> {
    let limit = page::limit(arguments.limit, 20)?;
    let after: Option<RunId> = page::cursor(arguments.cursor.as_deref())?;
    let workplace = core.site.workplace_for_looking();
    let filter =
        Filter { routine: arguments.routine, status: arguments.status, since: arguments.since, until: arguments.until };
    let listing::Page { runs, total, next } = listing::list(&workplace, &filter, after.as_ref(), limit)?;
    Ok(Runs { runs, total, next_cursor: next })
}

#[derive(Deserialize, JsonSchema)]
struct ReadLog {
    /// The run's id.
    run: RunId,
    /// How many lines from the end, 1 to 10000; 200 if left out.
    tail_lines: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct LogText {
    run: RunId,
    /// The last lines, without control codes.
    text: String,
    /// Whether the log holds more before them.
    cut: bool,
    /// What was cut, and where the whole is.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// The size of the whole log.
    log_bytes: u64,
}

const MAX_TAIL_LINES: usize = 10_000;

fn read_log(core: &Core, arguments: ReadLog) -> Result<LogText, ToolError> {
    let lines = match arguments.tail_lines.unwrap_or(200) {
        lines @ 1..=MAX_TAIL_LINES => lines,
        lines => {
            let rule = format!("it must be between 1 and {MAX_TAIL_LINES}; the whole log is the file `log_path`");
            return Err(InvalidField::new("tail_lines", lines, rule).into());
        }
    };
    let workplace = core.site.workplace_for_looking();
    let run = listing::find(&workplace, &arguments.run)?;
    if let Some(text) = run.last_output {
        let note = Some("cut: the run's workbench is gone, and this is what the history kept of its output".to_owned());
        return Ok(LogText { run: run.id, text, cut: true, note, log_bytes: 0 });
    }
    let tail = log::tail(&Workbench::of(&workplace.home, &run.id), lines)?;
    let note = tail.cut.then(|| {
        let shown = tail.text.lines().count();
        let dropped = match tail.dropped_bytes {
            0 => String::new(),
            bytes => format!(" ({bytes} bytes of its middle were dropped, for it had grown beyond max_log_bytes)"),
        };
        format!(
            "cut: these are the last {shown} lines of {} bytes; the whole log is {}{dropped}",
            tail.log_bytes, run.log_path
        )
    });
    Ok(LogText { run: run.id, text: tail.text, cut: tail.cut, note, log_bytes: tail.log_bytes })
}

#[derive(Deserialize, JsonSchema)]
struct StopRun {
    /// The run's id.
    run: RunId,
    /// Why, for the record.
    reason: Option<String>,
}

const MAX_REASON_CHARS: usize = 500;

fn stop_run(core: &Core, arguments: StopRun) -> Result<OneRun, ToolError> {
    let reason = arguments.reason.unwrap_or_else(|| "stopped on request".to_owned());
    if reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        let rule = format!("it must be one line of at most {MAX_REASON_CHARS} characters; shorten it");
        return Err(InvalidField::new("reason", format_args!("'{reason}'"), rule).into());
    }
    let workplace = core.site.workplace_for_looking();
    let order = Order { cause: EndCause::Stopped, reason, by: "stop_run".to_owned() };
    match end_run(&workplace, &arguments.run, &order)? {
        Ended::Finished | Ended::Already => Ok(OneRun { run: listing::find(&workplace, &arguments.run)? }),
        Ended::Survived(left) => Err(ToolError::new(format!(
            "the run {} is not over: these processes could not be killed: {}. The watchdog tries again; look at them with \
             ps, and end them by hand",
            arguments.run,
            names(&left)
        ))),
    }
}

#[derive(Deserialize, JsonSchema)]
struct PinRun {
    /// The run's id.
    run: RunId,
    /// Whether it is to be kept.
    pinned: bool,
}

fn pin_run(core: &Core, arguments: PinRun) -> Result<OneRun, ToolError> {
    let workplace = core.site.workplace_for_looking();
    if arguments.pinned {
        pin::pin(&workplace.home, &arguments.run)?;
    } else {
        pin::unpin(&workplace.home, &arguments.run)?;
    }
    Ok(OneRun { run: listing::find(&workplace, &arguments.run)? })
}
