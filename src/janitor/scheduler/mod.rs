//! The scheduler: fires routines when their schedule says so, and starts what waits.
//!
//! Any number of processes on a home do this at the same time. What is due is found without a lock, and dealt with under the
//! routines' lock by whoever still finds the ledger as it was: the run is claimed, what was missed is told, the ledger is
//! written, and only then the lock is let go and the run is launched. Who dies after the claim leaves a run that names its
//! occurrence, and whoever comes next counts that as fired.

mod decide;
mod fire;
mod known;
pub(super) mod time;

use std::time::Duration;

use crate::clock::UnixSeconds;
use crate::home::UnsafeHome;
use crate::home::atomic_file::FileError;
use crate::routine::ledger::Ledger;
use crate::routine::slug::Slug;
use crate::run::workplace::Workplace;
use decide::{Turn, advance};
use fire::{Case, Dealt, alive_runs};
use known::{KnownRoutines, State};

/// Fires routines, and remembers what it has read of them.
#[derive(Debug, Default)]
pub struct Scheduler {
    known: KnownRoutines,
}

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

impl Scheduler {
    /// Deals with everything that is due at `now`. Runs are launched in the background.
    ///
    /// # Errors
    /// The home is not safe for runs, or a folder of it cannot be listed.
    pub fn tick(&mut self, workplace: &Workplace, now: UnixSeconds) -> Result<TickReport, TickError> {
        let home = &workplace.home;
        self.known.refresh(home)?;
        let damaged = self.known.damaged();
        let mut report = TickReport {
            failed: damaged.map(|(slug, error)| failure(workplace, slug, error)).collect(),
            pause: LONGEST_PAUSE,
        };
        let mut cases: Vec<Case<'_>> = self
            .known
            .states()
            .filter(|(_, state)| !state.rests(now))
            .map(|(slug, state)| case(workplace, slug, state, now))
            .collect();
        if !cases.is_empty() {
            home.check_sole_and_lockable()?;
            cases.sort_by_key(Case::place);
            let outdated = deal_with_all(workplace, cases, now, &mut report)?;
            self.known.forget(&outdated);
        }
        let next = self.known.states().filter_map(|(_, state)| state.due()).filter(|due| *due > now).min();
        if let Some(next) = next {
            report.pause = report.pause.min(Duration::from_secs(now.age_secs_at(next)));
        }
        Ok(report)
    }
}

fn case<'a>(workplace: &Workplace, slug: &'a Slug, state: &'a State, now: UnixSeconds) -> Case<'a> {
    let State { definition, schedule, ledger, .. } = state;
    let advance = advance(definition, schedule.as_ref(), ledger, now, workplace.config.catch_up_window_secs);
    Case { slug, definition, ledger, advance }
}

/// Deals with what is due, in the order in which it waits; returns the routines that are not as they were read.
fn deal_with_all(
    workplace: &Workplace,
    cases: Vec<Case<'_>>,
    now: UnixSeconds,
    report: &mut TickReport,
) -> Result<Vec<Slug>, FileError> {
    let alive = alive_runs(workplace)?;
    let mut outdated = Vec::new();
    // Once one has to wait in the line, those behind it do not overtake it, whatever ends meanwhile.
    let mut line_stands = false;
    for case in cases {
        let turn = case.turn(workplace, &alive, now);
        if turn.is_none() && case.changes_nothing() {
            continue;
        }
        let only_waits = match &turn {
            Some(Turn::AfterOwn(doomed)) => doomed.is_empty(),
            Some(Turn::InLine) => true,
            Some(Turn::Start) => line_stands,
            Some(Turn::Miss(_)) | None => false,
        };
        if only_waits && case.changes_nothing() {
            line_stands |= matches!(turn, Some(Turn::InLine));
            report.pause = report.pause.min(WAITING_PAUSE);
            continue;
        }
        let pause = match case.deal_with(workplace, now, line_stands) {
            Ok(Dealt::Done) => continue,
            Ok(Dealt::Waits { in_line }) => {
                line_stands |= in_line;
                WAITING_PAUSE
            }
            Ok(Dealt::Outdated) => {
                outdated.push(case.slug.clone());
                SHORTEST_PAUSE
            }
            Err(error) => {
                report.failed.push(failure(workplace, case.slug, &error));
                WAITING_PAUSE
            }
        };
        report.pause = report.pause.min(pause);
    }
    Ok(outdated)
}

fn failure(workplace: &Workplace, slug: &Slug, error: &dyn std::fmt::Display) -> TickFailure {
    TickFailure { path: Ledger::file(&workplace.home, slug).display().to_string(), error: error.to_string() }
}
