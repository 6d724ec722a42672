//! The scheduler: fires routines when their schedule says so, and starts what waits.
//!
//! Any number of processes on a home do this at the same time. What is due is found without a lock, and dealt with under the
//! routines' lock by whoever still finds the ledger as it was: the run is claimed, what was missed is told, the ledger is
//! written, and only then the lock is let go and the run is launched. Who dies after the claim leaves a run that names its
//! occurrence, and whoever comes next counts that as fired.

mod decide;
mod fire;
mod state;
pub(super) mod time;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::UnixSeconds;
use crate::home::UnsafeHome;
use crate::home::atomic_file::FileError;
use crate::routine::known::Look;
use crate::routine::ledger::{Ledger, Waiting};
use crate::routine::model::Overlap;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use decide::{AliveRun, Need, Turn, need, turn};
use fire::{Case, Dealt, alive_runs};
use state::State;

/// No tick took place.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// No run may be started in this home.
    #[error(transparent)]
    UnsafeHome(#[from] UnsafeHome),
    /// A folder of the home cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a tick could not do, and when the next one is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickReport {
    /// What could not be done; the next tick tries again.
    pub failed: Vec<TickFailure>,
    /// The pause before the next tick.
    pub pause: Duration,
}

/// Something that a tick could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickFailure {
    /// The file that it is about.
    pub path: String,
    /// Why not.
    pub error: String,
}

/// The longest pause, after which files that were edited by hand are looked at.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pause while a fire waits for a run to end.
const WAITING_PAUSE: Duration = Duration::from_millis(500);
/// The pause after another process changed what was to be dealt with.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// How long a tick deals with what is due: what becomes due meanwhile is found by the next one.
const LONGEST_TICK: Duration = Duration::from_secs(2);

/// Deals with everything that is due at `now`, or as much of it as a few seconds allow. Runs are launched in the background.
///
/// # Errors
/// The home is not safe for runs, or a folder of it cannot be listed.
pub fn tick(context: &Context, now: UnixSeconds) -> Result<TickReport, TickError> {
    let home = &context.home;
    context.routines.refresh(home, Look::Share)?;
    let mut report = TickReport { failed: Vec::new(), pause: LONGEST_PAUSE };
    let (mut found, mut next) = (Vec::new(), None::<UnixSeconds>);
    context.routines.each(|routine| {
        let slug = routine.slug();
        let waits = match routine.plan().map(|plan| (need(plan, now), plan.overlap)) {
            Ok((Need::Rest(until), _)) => {
                next = next.into_iter().chain(until).min();
                return;
            }
            Ok((Need::Start(waiting), overlap)) => Some((waiting, overlap)),
            Ok((Need::Attention, _)) => None,
            Err(error) => {
                report.failed.push(failure(context, slug, error));
                return;
            }
        };
        found.push((slug.clone(), waits));
    });
    if !found.is_empty() {
        home.check_sole_and_lockable()?;
        deal_with_all(context, found, now, &mut report)?;
    }
    if let Some(next) = next.filter(|next| *next > now) {
        report.pause = report.pause.min(Duration::from_secs(now.age_secs_at(next)));
    }
    Ok(report)
}

/// A routine that needs something, and the fire that waits if there is nothing else.
type Found = (Slug, Option<(Arc<Waiting>, Overlap)>);

/// Returns what was found, in the order in which it is dealt with: fires in that in which they wait, then the rest.
fn in_line(context: &Context, found: Vec<Found>, now: UnixSeconds) -> Vec<Found> {
    let since = |(slug, waits): &Found| match waits {
        Some((waiting, _)) => Some(waiting.since),
        // Of a ledger that cannot be read the next look tells.
        None => State::read(&context.home, slug).ok()??.waiting_since(now, context.config.catch_up_window_secs),
    };
    let mut line: Vec<(UnixSeconds, Found)> =
        found.into_iter().map(|found| (since(&found).unwrap_or(UnixSeconds(u64::MAX)), found)).collect();
    line.sort_by(|(one, (slug, _)), (other, (other_slug, _))| (one, slug).cmp(&(other, other_slug)));
    line.into_iter().map(|(_, found)| found).collect()
}

/// Deals with what is due. What is known of each that was read is forgotten: it may have been outdated, or is by now.
fn deal_with_all(
    context: &Context,
    found: Vec<Found>,
    now: UnixSeconds,
    report: &mut TickReport,
) -> Result<(), FileError> {
    let began = Instant::now();
    let alive = alive_runs(context)?;
    // Once one has to wait in the line, those behind it do not overtake it, whatever ends meanwhile.
    let mut line_stands = false;
    let mut read = Vec::new();
    for (slug, waits) in in_line(context, found, now) {
        if began.elapsed() > LONGEST_TICK {
            report.pause = SHORTEST_PAUSE;
            break;
        }
        let turn = waits
            .map(|(waiting, overlap)| turn(&slug, overlap, &waiting.fire, &alive, context.config.max_concurrent_runs));
        if turn.is_some_and(|turn| only_waits(&turn, &mut line_stands)) {
            report.pause = report.pause.min(WAITING_PAUSE);
            continue;
        }
        match deal_with(context, &slug, &alive, now, &mut line_stands) {
            Ok(pause) => report.pause = report.pause.min(pause),
            Err(error) => {
                report.failed.push(failure(context, &slug, &*error));
                report.pause = report.pause.min(WAITING_PAUSE);
            }
        }
        read.push(slug);
    }
    context.routines.forget(&read);
    Ok(())
}

/// Says whether a fire has nothing to do but wait.
fn only_waits(turn: &Turn, line_stands: &mut bool) -> bool {
    match turn {
        Turn::AfterOwn(doomed) => doomed.is_empty(),
        Turn::InLine => {
            *line_stands = true;
            true
        }
        Turn::Start => *line_stands,
        Turn::Miss(_) => false,
    }
}

/// Reads a routine and does what is due; returns the pause before the next look at it.
fn deal_with(
    context: &Context,
    slug: &Slug,
    alive: &[AliveRun],
    now: UnixSeconds,
    line_stands: &mut bool,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let Some(state) = State::read(&context.home, slug)? else { return Ok(LONGEST_PAUSE) };
    let case = Case::of(context, slug, &state, now);
    if case.changes_nothing() {
        match case.turn(context, alive, now) {
            None => return Ok(LONGEST_PAUSE),
            Some(turn) if only_waits(&turn, line_stands) => return Ok(WAITING_PAUSE),
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

fn failure(context: &Context, slug: &Slug, error: &dyn std::fmt::Display) -> TickFailure {
    TickFailure { path: Ledger::file(&context.home, slug).display().to_string(), error: error.to_string() }
}
