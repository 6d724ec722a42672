//! `trigger_routine`, `list_runs`, `get_run`, `wait_run`, `stop_run` and `pin_run`.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page;
use crate::clock::UnixSeconds;
use crate::mcp::Core;
use crate::mcp::call::Call;
use crate::mcp::tool::{Hints, Reply, Tool, ToolError};
use crate::process_tree::names;
use crate::query::inspect::{Inspection, inspect};
use crate::query::listing::{self, RunFilter};
use crate::query::view::RunView;
use crate::query::wait;
use crate::routine::invalid_field::InvalidField;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::context::Context;
use crate::run::end::{Ended, Order, end_run};
use crate::run::id::RunId;
use crate::run::pin;
use crate::run::record::EndCause;
use crate::run::status::Status;
use crate::run::trigger;

pub(super) fn tools() -> [Tool; 6] {
    let starts = Hints { read_only: false, destructive: false, idempotent: false, open_world: true };
    let reads = Hints { read_only: true, destructive: false, idempotent: true, open_world: false };
    let keeps = Hints { read_only: false, destructive: false, idempotent: true, open_world: false };
    let stops = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    [
        Tool::conversing(
            "trigger_routine",
            "Trigger a routine",
            "Starts a run and returns within 5 seconds: its agent has started, or is being prepared (clones, setup), or why \
             not. The run goes on by itself: see wait_run and read_log.",
            starts,
            trigger_routine,
        ),
        Tool::new(
            "list_runs",
            "List runs",
            "Lists runs, newest first, also those whose workbench is gone (reaped).",
            reads,
            list_runs,
        ),
        Tool::new(
            "get_run",
            "Get a run",
            "Tells all about one run: why it counts as alive, its processes, the end of its log, and when \
             and why its workbench goes.",
            reads,
            |core, arguments: GetRun| inspection(core, &arguments.run),
        ),
        Tool::conversing(
            "wait_run",
            "Wait for a run",
            "Returns as soon as a run is over, or after timeout_secs.",
            reads,
            wait_run,
        ),
        Tool::new(
            "stop_run",
            "Stop a run",
            "Ends a run and every process that it started, and returns when none is left. Stopping one that has ended changes \
             nothing.",
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
    /// While a run of it is alive: "skip" (the default) refuses, "allow" starts another.
    overlap: Option<Overlap>,
    /// Wait up to 45 s for its end.
    wait: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Overlap {
    Skip,
    Allow,
}

#[derive(Serialize, JsonSchema)]
struct OneRun {
    /// As in list_runs.
    #[schemars(with = "Map<String, Value>")]
    run: RunView,
}

#[derive(Serialize, JsonSchema)]
struct Stopped {
    /// As in list_runs.
    #[schemars(with = "Map<String, Value>")]
    run: RunView,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Triggered {
    /// Whether the run is over, where it was waited for; if not, wait_run waits on.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<bool>,
    /// As in list_runs.
    #[schemars(with = "Map<String, Value>")]
    run: RunView,
}

/// With the time that a trigger may take, this stays within what hosts give a call.
const WAIT_AFTER_TRIGGER: Duration = Duration::from_secs(45);

fn trigger_routine(core: &Core, arguments: TriggerRoutine, call: &Call) -> Result<Reply<Triggered>, ToolError> {
    let context = core.app.context()?;
    let overlap = match arguments.overlap {
        Some(Overlap::Allow) => trigger::Overlap::Allow,
        Some(Overlap::Skip) | None => trigger::Overlap::Skip,
    };
    let run = trigger::trigger(&context, &arguments.routine, overlap, call.received())?;
    if !arguments.wait.unwrap_or(false) {
        return Ok(Reply::Answer(Triggered { finished: None, run: listing::find(&context, &run)? }));
    }
    if call.takes_tasks() {
        return Ok(Reply::Task(run));
    }
    let Waited { finished, run } = wait_for(&context, &run, WAIT_AFTER_TRIGGER, call)?;
    Ok(Reply::Answer(Triggered { finished: Some(finished), run }))
}

#[derive(Deserialize, JsonSchema)]
struct ListRuns {
    /// Only runs of this routine.
    routine: Option<Slug>,
    /// Only runs in this state; reaped ones also by their outcome.
    status: Option<Status>,
    /// Triggered then or later.
    since: Option<UnixSeconds>,
    /// Triggered then or before.
    until: Option<UnixSeconds>,
    /// 1 to 200; default 20.
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
    let context = core.app.context_for_looking();
    let filter = RunFilter {
        routine: arguments.routine,
        status: arguments.status,
        since: arguments.since,
        until: arguments.until,
    };
    let listing::RunPage { runs, total, next } = listing::list(&context, &filter, after.as_ref(), limit)?;
    if let Some(routine) = filter.routine.filter(|_| total == 0) {
        check_is_known(&context, routine)?;
    }
    Ok(Runs { runs, total, next_cursor: next })
}

/// Makes sure that there is such a routine, or was one that ran: else it is a typing error.
fn check_is_known(context: &Context, routine: Slug) -> Result<(), ToolError> {
    let of_routine = RunFilter { routine: Some(routine.clone()), ..RunFilter::default() };
    match store::check_exists(&context.home, &routine) {
        Err(error) if listing::list(context, &of_routine, None, 1)?.total == 0 => Err(error.into()),
        _ => Ok(()),
    }
}

#[derive(Deserialize, JsonSchema)]
struct GetRun {
    /// The run's id.
    run: RunId,
}

pub(in crate::mcp) fn inspection(core: &Core, run: &RunId) -> Result<Inspection, ToolError> {
    Ok(inspect(&core.app.context_for_looking(), run)?)
}

#[derive(Deserialize, JsonSchema)]
struct WaitRun {
    /// The run's id.
    run: RunId,
    /// How long to wait, 0 to 50; 30 if left out.
    timeout_secs: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct Waited {
    /// Whether the run is over; if not, wait again.
    finished: bool,
    /// As in list_runs.
    #[schemars(with = "Map<String, Value>")]
    run: RunView,
}

/// Hosts give a call 60 s.
const MAX_WAIT_SECS: u64 = 50;

fn wait_run(core: &Core, arguments: WaitRun, call: &Call) -> Result<Reply<Waited>, ToolError> {
    let secs = arguments.timeout_secs.unwrap_or(30);
    if secs > MAX_WAIT_SECS {
        let rule = format!("it must be at most {MAX_WAIT_SECS}; call again for more");
        return Err(InvalidField::new("timeout_secs", secs, rule).into());
    }
    let context = core.app.context_for_looking();
    if call.takes_tasks() {
        return Ok(Reply::Task(listing::find(&context, &arguments.run)?.id));
    }
    wait_for(&context, &arguments.run, Duration::from_secs(secs), call).map(Reply::Answer)
}

fn wait_for(context: &Context, run: &RunId, patience: Duration, call: &Call) -> Result<Waited, ToolError> {
    let began = Instant::now();
    let tell = &mut |run: &RunView| {
        let message = || format!("{} is {}; its log has {} bytes", run.id, run.status, run.log_bytes);
        call.tell(began.elapsed().as_secs_f64(), patience.as_secs_f64(), message);
    };
    let run = wait::wait(context, run, patience, call.bell(), tell)?;
    Ok(Waited { finished: wait::is_over(&run), run })
}

#[derive(Deserialize, JsonSchema)]
struct StopRun {
    /// The run's id.
    run: RunId,
    /// Why, for the record.
    reason: Option<String>,
}

const MAX_REASON_CHARS: usize = 500;

fn stop_run(core: &Core, arguments: StopRun) -> Result<Stopped, ToolError> {
    let reason = arguments.reason.unwrap_or_else(|| "stopped on request".to_owned());
    if reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        let rule = format!("it must be one line of at most {MAX_REASON_CHARS} characters; shorten it");
        return Err(InvalidField::new("reason", format_args!("'{reason}'"), rule).into());
    }
    let context = core.app.context_for_looking();
    let order = Order { cause: EndCause::Stopped, reason, by: "stop_run".to_owned() };
    let note = match end_run(&context, &arguments.run, &order)? {
        Ended::Finished | Ended::Already => None,
        Ended::Unrecorded(cause) => Some(format!(
            "everything that the run started has ended; its end is recorded as soon as that is possible: {cause}"
        )),
        Ended::Survived(left) => {
            return Err(ToolError::new(format!(
                "the run {} is not over: these processes could not be killed: {}. The watchdog tries again; look at them with \
             ps, and end them by hand",
                arguments.run,
                names(&left)
            )));
        }
    };
    Ok(Stopped { run: listing::find(&context, &arguments.run)?, note })
}

#[derive(Deserialize, JsonSchema)]
struct PinRun {
    /// The run's id.
    run: RunId,
    /// Whether it is to be kept.
    pinned: bool,
}

fn pin_run(core: &Core, arguments: PinRun) -> Result<OneRun, ToolError> {
    let context = core.app.context_for_looking();
    if arguments.pinned {
        pin::pin(&context.home, &arguments.run)?;
    } else {
        pin::unpin(&context.home, &arguments.run)?;
    }
    Ok(OneRun { run: listing::find(&context, &arguments.run)? })
}
