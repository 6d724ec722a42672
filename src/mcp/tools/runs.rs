//! `trigger_routine`, `list_runs`, `get_run`, `wait_run`, `stop_run` and `pin_run`.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page;
use crate::clock::UnixSeconds;
use crate::mcp::call::{Call, Reply};
use crate::mcp::tool::{Hints, Tool};
use crate::process_tree::names;
use crate::query::inspect::{Inspection, inspect};
use crate::query::listing::{self, RunFilter};
use crate::query::view::RunView;
use crate::query::wait;
use crate::routine::invalid_field::InvalidField;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::context::{App, Context};
use crate::run::end::{Ended, Order, end_run};
use crate::run::id::RunId;
use crate::run::options::{calling_run, check_may_give_text};
use crate::run::pin;
use crate::run::record::EndCause;
use crate::run::status::Status;
use crate::run::trigger::{IfAlive, Request, trigger};

pub(super) fn tools() -> [Tool; 6] {
    let starts = Hints { read_only: false, destructive: false, idempotent: false, open_world: true };
    let keeps = Hints { read_only: false, destructive: false, idempotent: true, open_world: false };
    let stops = Hints { read_only: false, destructive: true, idempotent: true, open_world: false };
    [
        Tool::with_call(
            "trigger_routine",
            "Trigger a routine",
            "Start a run of a routine now. Returns within 5 seconds: it has started, is being prepared (clones, setup), or why \
             it could not start. It goes on by itself: follow it with wait_run and read_log.",
            starts,
            trigger_routine,
        )
        .waiting_if(|arguments| arguments.get("wait") == Some(&Value::Bool(true))),
        Tool::new(
            "list_runs",
            "List runs",
            "List runs, newest first, reaped ones (whose workbench is gone) too.",
            Hints::READS,
            list_runs,
        ),
        Tool::new(
            "get_run",
            "Get a run",
            "Show all about one run: its status and why, its processes, the end of its log, and when and why \
             its workbench goes.",
            Hints::READS,
            get_run,
        ),
        Tool::with_call(
            "wait_run",
            "Wait for a run",
            "Wait until a run is over, or for timeout_secs. If `finished` is false, call it again.",
            Hints::READS,
            wait_run,
        )
        .waiting_if(|_| true),
        Tool::new(
            "stop_run",
            "Stop a run",
            "End a run and every process that it started; returns when none is left. Stopping a run that has ended changes \
             nothing.",
            stops,
            stop_run,
        ),
        Tool::new(
            "pin_run",
            "Pin a run",
            "Keep a run's workbench until it is unpinned, whatever its age and however short the disk.",
            keeps,
            pin_run,
        ),
    ]
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct TriggerRoutine {
    /// The routine's slug.
    pub(crate) routine: Slug,
    /// While a run of the routine is alive: "skip" (the default) refuses, "allow" starts another beside it.
    pub(crate) overlap: Option<IfAlive>,
    /// Wait up to 45 s for the run to end.
    pub(crate) wait: Option<bool>,
    /// What this run is about; its agent takes it as data.
    pub(crate) text: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct OneRun {
    /// As in list_runs.
    #[schemars(with = "Map<String, Value>")]
    pub(crate) run: RunView,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(crate) struct Stopped {
    /// As in list_runs.
    #[schemars(with = "Map<String, Value>")]
    pub(crate) run: RunView,
    pub(crate) note: Option<String>,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(crate) struct Awaited {
    /// Whether the run is over; if not, call wait_run. Absent without `wait`.
    pub(crate) finished: Option<bool>,
    /// As in list_runs.
    #[schemars(with = "Map<String, Value>")]
    pub(crate) run: RunView,
}

/// With the time that a trigger may take, this stays within what hosts give a call.
const WAIT_AFTER_TRIGGER: Duration = Duration::from_secs(45);

/// Within which a trigger answers, and the least time for the look at what it started.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(4_800);
const LEAST_LOOK: Duration = Duration::from_millis(100);

fn trigger_routine(app: &App, arguments: TriggerRoutine, call: &Call) -> anyhow::Result<Reply<Awaited>> {
    let context = app.context()?;
    let TriggerRoutine { routine, overlap, wait, text } = arguments;
    if text.is_some() {
        check_may_give_text(&context, &routine, calling_run(&context)?.as_ref())?;
    }
    let if_alive = overlap.unwrap_or_default();
    let run = trigger(&context, Request { routine, if_alive, text, asked: call.received })?;
    if !wait.unwrap_or(false) {
        let rest = (call.received + ANSWER_TIMEOUT).saturating_duration_since(Instant::now()).max(LEAST_LOOK);
        let run = listing::find_within(&context, &run, rest)?;
        return Ok(Reply::Answer(Awaited { finished: None, run }));
    }
    if call.takes_tasks {
        return Ok(Reply::Task(run));
    }
    wait_for(&context, &run, WAIT_AFTER_TRIGGER, call).map(Reply::Answer)
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ListRuns {
    /// Only runs of this routine.
    pub(crate) routine: Option<Slug>,
    /// Only runs with this status; reaped ones also by how they ended.
    pub(crate) status: Option<Status>,
    /// Triggered at this time or later.
    pub(crate) since: Option<UnixSeconds>,
    /// Triggered at this time or before.
    pub(crate) until: Option<UnixSeconds>,
    /// 1 to 200; default 20.
    pub(crate) limit: Option<usize>,
    /// The next_cursor of the previous page.
    pub(crate) cursor: Option<String>,
}

#[serde_with::skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(crate) struct Runs {
    pub(crate) runs: Vec<RunView>,
    /// How many there are on all pages.
    pub(crate) total: usize,
    /// Gives the next page; absent on the last one.
    pub(crate) next_cursor: Option<RunId>,
}

pub(crate) fn list_runs(app: &App, arguments: ListRuns) -> anyhow::Result<Runs> {
    let limit = page::limit(arguments.limit, 20)?;
    let after: Option<RunId> = page::cursor(arguments.cursor.as_deref())?;
    let context = app.context_for_looking();
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

/// Checks that there is such a routine, or was one that ran: otherwise its name is mistyped.
fn check_is_known(context: &Context, routine: Slug) -> anyhow::Result<()> {
    let of_routine = RunFilter { routine: Some(routine.clone()), ..RunFilter::default() };
    match store::check_exists(&context.home, &routine) {
        Err(error) if listing::list(context, &of_routine, None, 1)?.total == 0 => Err(error.into()),
        _ => Ok(()),
    }
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct GetRun {
    /// The run's id.
    pub(crate) run: RunId,
}

pub(crate) fn get_run(app: &App, GetRun { run }: GetRun) -> anyhow::Result<Inspection> {
    Ok(inspect(&app.context_for_looking(), &run)?)
}

#[derive(Deserialize, JsonSchema)]
struct WaitRun {
    /// The run's id.
    run: RunId,
    /// How long to wait, 0 to 50; 30 if left out.
    timeout_secs: Option<u64>,
}

/// Hosts give a call 60 s.
const MAX_WAIT_SECS: u64 = 50;

fn wait_run(app: &App, arguments: WaitRun, call: &Call) -> anyhow::Result<Reply<Awaited>> {
    let secs = arguments.timeout_secs.unwrap_or(30);
    if secs > MAX_WAIT_SECS {
        let rule = format!("it must be at most {MAX_WAIT_SECS}; call again for more");
        return Err(InvalidField::new("timeout_secs", secs, rule).into());
    }
    let context = app.context_for_looking();
    if call.takes_tasks {
        return Ok(Reply::Task(listing::find(&context, &arguments.run)?.id));
    }
    wait_for(&context, &arguments.run, Duration::from_secs(secs), call).map(Reply::Answer)
}

fn wait_for(context: &Context, run: &RunId, at_most: Duration, call: &Call) -> anyhow::Result<Awaited> {
    let began = Instant::now();
    let report = &mut |run: &RunView| {
        let message = || format!("{} is {}; its log has {} bytes", run.id, run.status, run.log_bytes);
        call.report(began.elapsed().as_secs_f64(), at_most.as_secs_f64(), message);
    };
    let run = wait::wait(context, run, at_most, &call.bell, report)?;
    Ok(Awaited { finished: Some(wait::is_over(&run)), run })
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct StopRun {
    /// The run's id.
    pub(crate) run: RunId,
    /// Why, for the record.
    pub(crate) reason: Option<String>,
}

const MAX_REASON_CHARS: usize = 500;

pub(crate) fn stop_run(app: &App, arguments: StopRun) -> anyhow::Result<Stopped> {
    let reason = arguments.reason.unwrap_or_else(|| "stopped on request".to_owned());
    if reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        let rule = format!("it must be one line of at most {MAX_REASON_CHARS} characters; shorten it");
        return Err(InvalidField::new("reason", format_args!("'{reason}'"), rule).into());
    }
    let context = app.context_for_looking();
    let order = Order { cause: EndCause::Stopped, reason, by: "stop_run".to_owned() };
    let note = match end_run(&context, &arguments.run, &order)? {
        Ended::Finished | Ended::Already => None,
        Ended::Unrecorded(cause) => Some(format!(
            "the run and all its processes have ended, but the end cannot be recorded yet ({cause}); moadim-mcp keeps trying"
        )),
        Ended::Survived(left) => {
            return Err(anyhow::Error::msg(format!(
                "cannot end the run {}: these processes survived SIGKILL: {}. The watchdog keeps trying; look at them with ps, \
                 and end them by hand",
                arguments.run,
                names(&left)
            )));
        }
    };
    Ok(Stopped { run: listing::find(&context, &arguments.run)?, note })
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct PinRun {
    /// The run's id.
    pub(crate) run: RunId,
    /// true to keep its workbench, false to let it go as usual.
    pub(crate) pinned: bool,
}

pub(crate) fn pin_run(app: &App, arguments: PinRun) -> anyhow::Result<OneRun> {
    let context = app.context_for_looking();
    if arguments.pinned {
        pin::pin(&context.home, &arguments.run)?;
    } else {
        pin::unpin(&context.home, &arguments.run)?;
    }
    Ok(OneRun { run: listing::find(&context, &arguments.run)? })
}
