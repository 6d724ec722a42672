//! The scheduler: fires routines when their schedule says so, and starts what waits.
//!
//! Any number of processes on a home do this at the same time. What is due is found without a lock. Then, under the routines'
//! lock and if the ledger is unchanged, the run is claimed, missed occurrences are recorded and the ledger is written; the
//! launch comes after the lock. A process that dies after the claim leaves a run that names its occurrence, which the next
//! one counts as started. What waits for an agent's usage limit to be reset is not due before its hold is over or lifted.

mod decide;
mod fire;
pub(super) mod time;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PassError;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::home::config::EngineKind;
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::known::{Known, Look};
use crate::routine::ledger::{Ledger, Waiting};
use crate::routine::model::Overlap;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::hold::Holds;
use decide::{AliveRun, FireDecision, Need, Room, decide_fire, is_anything_due, need};
use fire::{Case, Dealt, alive_runs};

pub(super) struct TickReport {
    /// A file and what went wrong with it, for each failure; the next tick tries again.
    pub(super) failed: Vec<(String, String)>,
    pub(super) pause: Duration,
}

/// The longest pause: after it, files that were edited by hand are seen.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pause while a fire waits for a run to end.
const WAITING_PAUSE: Duration = Duration::from_millis(500);
/// The pause after another process was faster.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// How long a tick may take; the next one does the rest.
const LONGEST_TICK: Duration = Duration::from_secs(2);

/// Deals with what is due at `now`, as far as [`LONGEST_TICK`] allows. Runs are launched in the background.
pub(super) fn tick(context: &Context, now: UnixSeconds) -> Result<TickReport, PassError> {
    let known = context.routines.refresh(&context.home, Look::Share)?;
    let (holds, unreadable) = Holds::read(&context.home, now);
    let failed = unreadable.into_iter().map(|error| (context.home.holds().display().to_string(), error.to_string()));
    let mut report = TickReport { failed: failed.collect(), pause: LONGEST_PAUSE };
    let next = if is_anything_due(&known, &holds, now) {
        deal_with_due(context, &known, &holds, now, &mut report)?
    } else {
        known.next
    };
    if let Some(next) = next.filter(|next| *next > now) {
        report.pause = report.pause.min(Duration::from_secs(now.age_secs_at(next)));
    }
    Ok(report)
}

/// Deals with what is due, and returns when the first of the other routines is.
fn deal_with_due(
    context: &Context,
    known: &Known,
    holds: &Holds,
    now: UnixSeconds,
    report: &mut TickReport,
) -> Result<Option<UnixSeconds>, PassError> {
    let (mut found, mut next) = (Vec::new(), None::<UnixSeconds>);
    for routine in &known.summaries {
        let slug = routine.slug();
        match routine.plan().map(|plan| (need(slug, plan, holds, now), plan)) {
            Ok((Need::Rest(until), _)) => next = next.into_iter().chain(until).min(),
            Ok((Need::Start(waiting), plan)) => {
                let since = waiting.since;
                let waits = Waits { waiting, overlap: plan.overlap, engine: plan.engine };
                found.push(Found { slug: slug.clone(), since, waits: Some(waits) });
            }
            Ok((Need::Attention, plan)) => {
                let waiting = plan.waiting.as_ref().map(|one| one.since).or(plan.next);
                let since = waiting.unwrap_or(UnixSeconds(u64::MAX));
                found.push(Found { slug: slug.clone(), since, waits: None });
            }
            Err(error) => report.failed.push(failure(context, slug, error)),
        }
    }
    if !found.is_empty() {
        context.home.check_sole_and_lockable()?;
        deal_with_all(context, found, now, report)?;
    }
    Ok(next)
}

/// A routine that needs something.
struct Found {
    slug: Slug,
    /// Since when, which is its place in the line.
    since: UnixSeconds,
    /// The fire that waits, if there is nothing else.
    waits: Option<Waits>,
}

/// A fire that waits, with what its routine says of its start.
struct Waits {
    waiting: Arc<Waiting>,
    overlap: Overlap,
    engine: Option<EngineKind>,
}

/// Where a fire waits in the line: those behind it must not overtake it, whatever ends meanwhile. Each engine has a line of its own.
#[derive(Default)]
struct Lines {
    local: bool,
    slurm: bool,
}

impl Lines {
    fn of(&mut self, engine: EngineKind) -> &mut bool {
        match engine {
            EngineKind::Local => &mut self.local,
            EngineKind::Slurm => &mut self.slurm,
        }
    }
}

fn deal_with_all(
    context: &Context,
    mut found: Vec<Found>,
    now: UnixSeconds,
    report: &mut TickReport,
) -> Result<(), FileError> {
    found.sort_unstable_by(|a, b| (a.since, &a.slug).cmp(&(b.since, &b.slug)));
    let began = Instant::now();
    // While that cannot be read, nothing fires, for a reason that is said once.
    HomeSnooze::read(&context.home)?;
    let alive = alive_runs(context)?;
    let mut lines = Lines::default();
    for (at, Found { slug, waits, .. }) in found.into_iter().enumerate() {
        // One at least, however long that takes: else nothing would ever be dealt with.
        if at > 0 && began.elapsed() > LONGEST_TICK {
            report.pause = SHORTEST_PAUSE;
            break;
        }
        let only_waits = waits.is_some_and(|Waits { waiting, overlap, engine }| {
            let room = Room::of(engine, &context.config);
            let decision = decide_fire(&slug, overlap, &waiting.fire, &alive, room);
            only_waits(&decision, lines.of(room.engine))
        });
        if only_waits {
            report.pause = report.pause.min(WAITING_PAUSE);
            continue;
        }
        match deal_with(context, &slug, &alive, now, &mut lines) {
            Ok(pause) => report.pause = report.pause.min(pause),
            Err(error) => {
                report.failed.push(failure(context, &slug, &*error));
                report.pause = report.pause.min(WAITING_PAUSE);
            }
        }
    }
    Ok(())
}

/// Returns whether a fire can only wait.
fn only_waits(decision: &FireDecision, line_stands: &mut bool) -> bool {
    match decision {
        FireDecision::AfterOwn(to_end) => to_end.is_empty(),
        FireDecision::InLine => {
            *line_stands = true;
            true
        }
        FireDecision::Start => *line_stands,
        FireDecision::Miss(..) => false,
    }
}

/// Reads a routine and does what is due; returns the pause before the next look at it.
fn deal_with(
    context: &Context,
    slug: &Slug,
    alive: &[AliveRun],
    now: UnixSeconds,
    lines: &mut Lines,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let Some(case) = Case::read(context, slug, now)? else { return Ok(LONGEST_PAUSE) };
    let line_stands = lines.of(case.room(context).engine);
    if case.changes_nothing() {
        match case.decide(context, alive, now) {
            None => return Ok(LONGEST_PAUSE),
            Some(decision) if only_waits(&decision, line_stands) => return Ok(WAITING_PAUSE),
            Some(_) => {}
        }
    }
    Ok(match case.deal_with(context, now, *line_stands)? {
        Dealt::Done => LONGEST_PAUSE,
        Dealt::Waits { in_line } => {
            *line_stands |= in_line;
            WAITING_PAUSE
        }
        Dealt::Outdated => SHORTEST_PAUSE,
    })
}

fn failure(context: &Context, slug: &Slug, error: &dyn std::fmt::Display) -> (String, String) {
    (Ledger::file(&context.home, slug).display().to_string(), error.to_string())
}
