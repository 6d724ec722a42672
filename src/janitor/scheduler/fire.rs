//! Dealing with one routine: claiming its run, telling its misses, keeping its ledger, and launching.

use std::time::{Duration, Instant};

use super::decide::{Advance, AliveLife, AliveRun, Turn, turn};
use super::state::State;
use crate::agent::LAUNCH_PATIENCE;
use crate::clock::{Moment, UnixSeconds};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::process_tree::names;
use crate::routine::ledger::{Fire, Ledger, Waiting};
use crate::routine::slug::Slug;
use crate::routine::store::{self, StoreError};
use crate::run::claim::{Claim, ClaimError};
use crate::run::context::Context;
use crate::run::end::{Ended, Order, end_run};
use crate::run::entry::{Entry, Workbench};
use crate::run::history::{self, HistoryError, Missed};
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, Liveness, look};
use crate::run::on_disk::workbench_ids;
use crate::run::record::{EndCause, Origin};
use crate::run::recording::read_outcome;
use crate::run::trigger::{Plan, TriggerError};

/// A routine for which there is something to do, as it was read, and what is to become of its ledger.
#[derive(Debug)]
pub(super) struct Case<'a> {
    slug: &'a Slug,
    state: &'a State,
    advance: Advance,
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dealt {
    /// All that there was to do.
    Done,
    /// Its fire waits, in the line or for a run of its own routine.
    Waits { in_line: bool },
    /// Another process was faster; look again.
    Outdated,
}

/// A case could not be dealt with; everything is as if nobody had tried, or is found as begun by the next who does.
#[derive(Debug, thiserror::Error)]
pub(super) enum FireError {
    #[error(transparent)]
    Locked(#[from] LockError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Trigger(#[from] TriggerError),
}

/// How long another process is waited for: other routines are due too.
const PATIENCE_FOR_OTHERS: Duration = Duration::from_millis(500);

impl<'a> Case<'a> {
    /// Decides about a routine as it was read.
    pub(super) fn of(context: &Context, slug: &'a Slug, state: &'a State, now: UnixSeconds) -> Self {
        Self { slug, state, advance: state.advance(now, context.config.catch_up_window_secs) }
    }

    /// Tells whether the ledger is to stay as it is.
    pub(super) fn changes_nothing(&self) -> bool {
        self.advance.ledger == self.state.ledger
    }

    /// Decides about its fire, if the time of one has come.
    pub(super) fn turn(&self, context: &Context, alive: &[AliveRun], now: UnixSeconds) -> Option<Turn> {
        let fire = self.due(now)?;
        Some(turn(self.slug, self.state.definition.overlap, fire, alive, context.config.max_concurrent_runs))
    }

    fn due(&self, now: UnixSeconds) -> Option<&Fire> {
        let waiting = self.advance.ledger.waiting.as_ref();
        waiting.filter(|waiting| waiting.not_before <= now).map(|waiting: &Waiting| &waiting.fire)
    }

    /// Deals with it, if it still is as it was read.
    pub(super) fn deal_with(&self, context: &Context, now: UnixSeconds, line_stands: bool) -> Result<Dealt, FireError> {
        let (home, slug) = (&context.home, self.slug);
        let due = self.due(now).cloned();
        let mut plan = due.as_ref().map(|_| Plan::read(context, slug, Instant::now()));
        let lock = match FileLock::acquire(&home.routines_lock(), Mode::Exclusive, PATIENCE_FOR_OTHERS) {
            // Most likely another process that deals with the same.
            Err(error) if error.is_held() => return Ok(Dealt::Outdated),
            lock => lock?,
        };
        let before = &self.state.ledger;
        let unchanged = store::load(home, slug).is_ok_and(|routine| routine.definition == self.state.definition);
        // The machine's time zone may have changed as well.
        let holds = || self.state.advance(now, context.config.catch_up_window_secs) == self.advance;
        if !unchanged || Ledger::read(home, slug)? != *before || !holds() {
            return Ok(Dealt::Outdated);
        }
        let mut advance = self.advance.clone();
        let (mut started, mut doomed, mut dealt) = (None, Vec::new(), Dealt::Done);
        if let Some(fire) = &due {
            let origin = origin(home, slug, fire)?;
            // Somebody died between a claim and the ledger that tells of it. Before all else: that run is no other one.
            let turn = if was_started(home, slug, &origin)? {
                advance.ledger.waiting = None;
                None
            } else {
                self.turn(context, &alive_runs(context)?, now)
            };
            match turn {
                Some(Turn::AfterOwn(runs)) => match plan.take() {
                    // Nothing could start in their place.
                    Some(Err(error)) if !runs.is_empty() => refuse(&mut advance, slug, fire, error)?,
                    _ => {
                        doomed = runs;
                        dealt = Dealt::Waits { in_line: false };
                    }
                },
                Some(Turn::Start) if !line_stands => match claim(context, plan.take(), &origin) {
                    Ok(claimed) => {
                        advance.ledger.waiting = None;
                        started = claimed;
                    }
                    Err(error) => refuse(&mut advance, slug, fire, error)?,
                },
                Some(Turn::Start | Turn::InLine) => dealt = Dealt::Waits { in_line: true },
                Some(Turn::Miss(reason)) => {
                    advance.ledger.waiting = None;
                    drop_fire(&mut advance, slug, fire, reason);
                }
                None => {}
            }
        }
        let kept = keep(home, slug, before, &advance, now);
        drop(lock);
        if let Some((plan, claim)) = started {
            launch(context, plan, claim, due);
        }
        end_in_the_background(context, doomed);
        // A ledger that could not be kept is no reason to leave a claimed run alone: the next tick finds that run.
        kept.map(|()| dealt)
    }
}

fn claim(
    context: &Context,
    plan: Option<Result<Plan, TriggerError>>,
    origin: &Origin,
) -> Result<Option<(Plan, Claim)>, TriggerError> {
    let Some(plan) = plan.transpose()? else { return Ok(None) };
    let claim = plan.claim_locked(context, &Moment::now(), origin)?;
    Ok(Some((plan, claim)))
}

fn origin(home: &Home, slug: &Slug, fire: &Fire) -> Result<Origin, FileError> {
    match fire {
        Fire::Occurrence(occurrence) => Ok(Origin::Schedule { occurrence: *occurrence }),
        Fire::Retry { of, attempt } => {
            let of = of.parse().map_err(|error| FileError::damaged(&Ledger::file(home, slug), error))?;
            Ok(Origin::Retry { of, attempt: *attempt })
        }
    }
}

/// Tells whether an error is about the routine, so that trying again changes nothing.
fn is_for_good(error: &TriggerError) -> bool {
    match error {
        // What the system refused it may grant the next time.
        TriggerError::Routine(StoreError::File(error)) | TriggerError::File(error) => {
            error.is_not_found() || matches!(error, FileError::Damaged { .. })
        }
        TriggerError::Routine(_)
        | TriggerError::Disabled { .. }
        | TriggerError::Agent { .. }
        | TriggerError::NotAccepted { .. }
        | TriggerError::TooLong { .. }
        | TriggerError::EmptyPrompt { is_certain: true, .. }
        | TriggerError::Claim(ClaimError::Command(_)) => true,
        TriggerError::UnsafeHome(_)
        | TriggerError::ProgramGone(_)
        | TriggerError::EmptyPrompt { is_certain: false, .. }
        | TriggerError::HeldUp { .. }
        | TriggerError::Overlapping { .. }
        | TriggerError::Locked(_)
        | TriggerError::Claim(_)
        | TriggerError::Cookie(_)
        | TriggerError::Launch(_) => false,
    }
}

/// Gives a fire up for an error that stays; any other is passed on, so that the next tick tries again.
fn refuse(advance: &mut Advance, slug: &Slug, fire: &Fire, error: TriggerError) -> Result<(), TriggerError> {
    if !is_for_good(&error) {
        return Err(error);
    }
    advance.ledger.waiting = None;
    drop_fire(advance, slug, fire, error.to_string());
    Ok(())
}

fn drop_fire(advance: &mut Advance, slug: &Slug, fire: &Fire, reason: String) {
    match fire {
        Fire::Occurrence(occurrence) => advance.miss(*occurrence, 1, reason),
        Fire::Retry { of, attempt } => tracing::warn!(routine = %slug, of, attempt, reason, "no other attempt is made"),
    }
}

/// Tells what was missed, and writes the ledger. In this order: see [`history::append_missed`].
fn keep(home: &Home, slug: &Slug, before: &Ledger, advance: &Advance, now: UnixSeconds) -> Result<(), FireError> {
    history::append_missed(home, slug, &advance.missed, now)?;
    if advance.ledger != *before {
        advance.ledger.write(home, slug)?;
    }
    Ok(())
}

/// How many of a routine's newest workbenches are asked for what started them.
const ASKED: usize = 16;

/// Tells whether a run was started for this reason already: it is unfinished, or among the newest that ended.
fn was_started(home: &Home, slug: &Slug, origin: &Origin) -> Result<bool, FileError> {
    // Entries first: a run has its outcome before it loses its entry.
    let entries = Entry::list(home)?.into_iter().filter(|entry| entry.id().routine() == slug);
    if entries.filter_map(|entry| entry.manifest().ok()).any(|manifest| manifest.origin == *origin) {
        return Ok(true);
    }
    let mut ended = workbench_ids(home)?;
    ended.retain(|id| id.routine() == slug);
    ended.sort_by(|a, b| b.cmp(a));
    let outcome = |id: &RunId| read_outcome(&Workbench::of(home, id), id).ok();
    Ok(ended.iter().take(ASKED).filter_map(outcome).any(|outcome| outcome.origin == *origin))
}

/// How long another process's look at a run is waited for.
const MOMENT: Duration = Duration::from_millis(20);

/// Returns the unfinished runs that are not known to be dead.
pub(super) fn alive_runs(context: &Context) -> Result<Vec<AliveRun>, FileError> {
    // Under the routines' lock no judge is waited for long: it may need that lock to finish, and the next tick looks again.
    let looked = look(&context.home, Entry::list(&context.home)?, MOMENT);
    let alive = looked.into_iter().filter(|one| one.liveness != Liveness::Dead);
    let show = |one: Assessment| {
        let life = match one.liveness {
            Liveness::Judging(_) => AliveLife::Judging,
            Liveness::Unknown(_) => AliveLife::Perhaps,
            _ => AliveLife::Certainly,
        };
        let asked = !one.entry.end_request().is_ok_and(|request| request.is_none());
        let ending = asked || context.unwritten_ends.of(one.entry.id()).is_some();
        AliveRun { id: one.entry.id().clone(), life, ending }
    };
    Ok(alive.map(show).collect())
}

/// Launches on a thread of its own: it takes seconds where a login shell does, and more where many start at once.
fn launch(context: &Context, plan: Plan, claim: Claim, fire: Option<Fire>) {
    let (context, deadline) = (context.clone(), Instant::now() + LAUNCH_PATIENCE);
    let run = claim.entry.id().clone();
    let routine = run.routine().clone();
    let body = move || match plan.start(&context, claim, deadline) {
        Ok(run) => tracing::info!(%run, "fired"),
        Err(TriggerError::Launch(error)) if !error.nothing_left => tracing::warn!(%error, "fired in vain"),
        // Nothing is left of it that could tell.
        Err(error) => {
            tracing::warn!(%routine, %error, "not fired");
            if let Some(Fire::Occurrence(occurrence)) = fire {
                let missed = Missed { occurrence, reason: error.to_string(), count: 1 };
                if let Err(error) = history::append_missed(&context.home, &routine, &[missed], UnixSeconds::now()) {
                    tracing::warn!(%routine, %error, "a missed occurrence is not in the history");
                }
            }
        }
    };
    // Its lock goes with the thread that there was none for: the next watchdog pass records that it was not launched.
    if let Err(error) = std::thread::Builder::new().name("fire".into()).spawn(body) {
        tracing::warn!(%run, %error, "no thread to launch it on");
    }
}

/// Ends runs in whose place another is to start; the next tick after that starts it.
fn end_in_the_background(context: &Context, doomed: Vec<RunId>) {
    for run in doomed {
        let context = context.clone();
        let body = move || {
            let reason = "replaced by the next fire of its routine (overlap = \"replace\")".to_owned();
            let order = Order { cause: EndCause::Stopped, reason, by: "schedule".to_owned() };
            match end_run(&context, &run, &order) {
                Ok(Ended::Survived(left)) => tracing::warn!(%run, left = names(&left), "it was not to be ended"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%run, %error, "it was not to be ended"),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("replace".into()).spawn(body) {
            tracing::warn!(%error, "no thread to end a run on; the next tick tries again");
        }
    }
}
