//! Dealing with one routine: claiming its run, recording what it missed, writing its ledger, and launching.

use std::time::{Duration, Instant};

use super::decide::{
    Advance, AliveRun, Certainty, Circumstances, FireDecision, Room, advance, decide_fire, decide_while_asked,
    may_start,
};
use crate::agent::{LOGIN_SHELL_TIMEOUT, OptionError};
use crate::clock::{Moment, UnixSeconds};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::config::EngineKind;
use crate::home::lock::{FileLock, Mode};
use crate::process_tree::names;
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::ledger::{Fire, Ledger, Waiting};
use crate::routine::model::Definition;
use crate::routine::schedule::Schedule;
use crate::routine::slug::Slug;
use crate::routine::store::{self, StoreError};
use crate::run::claim::{Claim, ClaimError};
use crate::run::context::Context;
use crate::run::continuation::predecessor::{NotContinuable, Predecessor};
use crate::run::end::{Ended, Order, end_run};
use crate::run::entry::Entry;
use crate::run::history::{self, Missed, WhyMissed};
use crate::run::hold;
use crate::run::id::RunId;
use crate::run::job_order::PlacementError;
use crate::run::liveness::{Assessment, Liveness, look};
use crate::run::on_disk::ids_with_workbench;
use crate::run::outcome_file::read_outcome;
use crate::run::prompt::Occasion;
use crate::run::question::state::open_runs;
use crate::run::record::{EndCause, Origin};
use crate::run::trigger::{Plan, TriggerError};
use crate::run::workbench::Workbench;

/// A routine with its ledger as it was read, and what should become of the ledger.
#[derive(Debug)]
pub(super) struct Case<'a> {
    slug: &'a Slug,
    definition: Definition,
    schedule: Option<Schedule>,
    ledger: Ledger,
    circumstances: Circumstances,
    pub advance: Advance,
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dealt {
    Done,
    /// Its fire waits, in the line or for a run of its own routine.
    Waits {
        in_line: bool,
    },
    /// Another process was faster; look again.
    Outdated,
}

/// How long a tick waits for the routines' lock: other routines are due too.
const ROUTINES_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

impl<'a> Case<'a> {
    /// Reads a routine; `None` if its own file cannot be read, or it is gone.
    ///
    /// # Errors
    /// Its ledger, or the home's snooze, cannot be read.
    pub(super) fn read(context: &Context, slug: &'a Slug, now: UnixSeconds) -> Result<Option<Self>, FileError> {
        let Ok((definition, schedule)) = store::load_with_schedule(&context.home, slug) else { return Ok(None) };
        let ledger = Ledger::read(&context.home, slug)?;
        let schedule = ledger.left_of(&definition, schedule);
        let window = context.config.catch_up_window_secs;
        let circumstances = circumstances(&context.home, slug, &definition, now)?;
        let advance = advance(slug, &definition, schedule.as_ref(), &ledger, &circumstances, now, window);
        Ok(Some(Self { slug, definition, schedule, ledger, circumstances, advance }))
    }

    pub(super) fn changes_nothing(&self) -> bool {
        self.advance.ledger == self.ledger
    }

    /// Decides about its fire, if the time of one has come.
    pub(super) fn decide(&self, context: &Context, alive: &[AliveRun], now: UnixSeconds) -> Option<FireDecision> {
        let (definition, fire) = (&self.definition, &self.due(now)?.fire);
        let asked = decide_while_asked(definition.when_asked, fire, self.circumstances.asked.as_ref());
        Some(asked.unwrap_or_else(|| decide_fire(self.slug, definition.overlap, fire, alive, self.room(context))))
    }

    /// Returns the room for its runs.
    pub(super) fn room(&self, context: &Context) -> Room {
        Room::of(self.definition.engine, &context.config)
    }

    fn due(&self, now: UnixSeconds) -> Option<&Waiting> {
        let ledger = &self.advance.ledger;
        ledger.waiting.as_ref().filter(|_| may_start(self.slug, ledger, &self.circumstances, now))
    }

    /// Deals with it, if nothing has changed since it was read. After an error, the next tick finds what was begun, or begins
    /// again.
    pub(super) fn deal_with(&self, context: &Context, now: UnixSeconds, line_stands: bool) -> anyhow::Result<Dealt> {
        let (home, slug) = (&context.home, self.slug);
        let waiting = self.due(now).cloned();
        let due = waiting.as_ref().map(|waiting| waiting.fire.clone());
        let origin = due.as_ref().map(|fire| origin(home, slug, fire)).transpose()?;
        let text = waiting.and_then(|waiting| waiting.text);
        let plan_of = |origin: Origin| {
            let continues = continued_by(context, &origin)?.map(Box::new);
            Plan::read(context, slug, Occasion { origin, text, continues }, Instant::now())
        };
        let mut plan = origin.clone().map(plan_of);
        let lock = match FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT) {
            // Most likely another process that deals with the same.
            Err(error) if error.is_held() => return Ok(Dealt::Outdated),
            lock => lock?,
        };
        let unchanged = store::load(home, slug).is_ok_and(|routine| routine.definition == self.definition);
        let is_as_before = circumstances(home, slug, &self.definition, now)? == self.circumstances;
        if !unchanged || !is_as_before || Ledger::read(home, slug)? != self.ledger {
            return Ok(Dealt::Outdated);
        }
        // The machine's time zone may have changed as well.
        let window = context.config.catch_up_window_secs;
        let schedule = self.schedule.as_ref();
        if advance(slug, &self.definition, schedule, &self.ledger, &self.circumstances, now, window) != self.advance {
            return Ok(Dealt::Outdated);
        }
        let mut advance = self.advance.clone();
        let (mut started, mut to_end, mut dealt) = (None, Vec::new(), Dealt::Done);
        if let Some((fire, origin)) = due.as_ref().zip(origin.as_ref()) {
            // A process died between a claim and the ledger entry about it. Checked first: that run is this fire's own.
            let decision = if was_started(home, slug, origin)? {
                advance.ledger.waiting = None;
                None
            } else {
                self.decide(context, &alive_runs(context)?, now)
            };
            match decision {
                Some(FireDecision::AfterOwn(runs)) => match could_start(context, plan.take(), now) {
                    // Nothing could start in their place.
                    Err(error) if !runs.is_empty() => give_up(&mut advance, slug, fire, error)?,
                    _ => {
                        to_end = runs;
                        dealt = Dealt::Waits { in_line: false };
                    }
                },
                Some(FireDecision::Start) if !line_stands => match claim(context, plan.take(), now) {
                    Ok(claimed) => {
                        advance.ledger.waiting = None;
                        started = claimed;
                    }
                    Err(error) => give_up(&mut advance, slug, fire, error)?,
                },
                Some(FireDecision::Start | FireDecision::InLine) => dealt = Dealt::Waits { in_line: true },
                Some(FireDecision::Miss(why, reason)) => miss(&mut advance, slug, fire, why, reason),
                None => {}
            }
        }
        let kept = self.write(home, &advance, now);
        drop(lock);
        if let Some((plan, claim)) = started {
            launch(context, plan, claim, due);
        }
        end_in_background(context, to_end);
        // A claimed run is launched even if the ledger could not be written: the next tick finds that run.
        kept.map(|()| dealt)
    }

    /// Records what was missed, then writes the ledger. In this order: see [`history::append_missed`].
    fn write(&self, home: &Home, advance: &Advance, now: UnixSeconds) -> anyhow::Result<()> {
        history::append_missed(home, self.slug, &advance.missed, now)?;
        if advance.ledger != self.ledger {
            advance.ledger.write(home, self.slug)?;
        }
        Ok(())
    }
}

/// Returns the run that an attempt goes on from, if its run continues another.
fn continued_by(context: &Context, origin: &Origin) -> Result<Option<Predecessor>, TriggerError> {
    match origin {
        Origin::Retry { of, .. } | Origin::Reset { of, .. } => Ok(Predecessor::of_attempt(context, of)?),
        Origin::Call | Origin::Schedule { .. } => Ok(None),
    }
}

fn circumstances(
    home: &Home,
    slug: &Slug,
    definition: &Definition,
    now: UnixSeconds,
) -> Result<Circumstances, FileError> {
    // A hold that cannot be read holds nothing, and the tick reports it.
    let hold = hold::read(home, &definition.agent, now).ok().flatten();
    let asked = open_runs(home)?.into_iter().find(|run| run.routine() == slug);
    Ok(Circumstances { home_snooze: HomeSnooze::read(home)?, hold, asked })
}

/// Returns why a fire could not start even if no other run were alive.
fn could_start(
    context: &Context,
    plan: Option<Result<Plan, TriggerError>>,
    now: UnixSeconds,
) -> Result<(), TriggerError> {
    plan.transpose()?.map_or(Ok(()), |plan| plan.check_budget(context, now))
}

fn claim(
    context: &Context,
    plan: Option<Result<Plan, TriggerError>>,
    now: UnixSeconds,
) -> Result<Option<(Plan, Claim)>, TriggerError> {
    let Some(plan) = plan.transpose()? else { return Ok(None) };
    // By the scheduler's clock, so that the run counts for the day whose budget was looked at.
    let claim = plan.claim_locked(context, &Moment { at: now, ..Moment::now() })?;
    Ok(Some((plan, claim)))
}

fn origin(home: &Home, slug: &Slug, fire: &Fire) -> Result<Origin, FileError> {
    let run = |of: &String| of.parse().map_err(|error| FileError::damaged(&Ledger::file(home, slug), error));
    Ok(match fire {
        Fire::Occurrence(occurrence) => Origin::Schedule { occurrence: *occurrence },
        Fire::Retry { of, attempt } => Origin::Retry { of: run(of)?, attempt: *attempt },
        Fire::Reset { of, attempt, tries, occurrence } => {
            Origin::Reset { of: run(of)?, attempt: *attempt, tries: *tries, occurrence: *occurrence }
        }
    })
}

/// Returns whether an error is about the routine or its day, so that trying again changes nothing, or not soon.
fn is_permanent(error: &TriggerError) -> bool {
    match error {
        TriggerError::Options { source, .. } => !matches!(source, OptionError::NotKnown { .. }),
        // What the system refuses now it may allow later.
        TriggerError::Routine(StoreError::File(error)) | TriggerError::File(error) => {
            error.is_not_found() || matches!(error, FileError::Damaged { .. })
        }
        TriggerError::Placement { source, .. } => {
            matches!(source, PlacementError::Resources(_) | PlacementError::Terminal)
        }
        // Somebody may leave its workbench, and its last run is about to be over.
        TriggerError::NotContinuable(error) | TriggerError::Claim(ClaimError::NotContinuable(error)) => {
            !matches!(error, NotContinuable::InUse { .. } | NotContinuable::Unfinished(_) | NotContinuable::File(_))
        }
        TriggerError::Routine(_)
        | TriggerError::Disabled { .. }
        | TriggerError::Agent { .. }
        | TriggerError::NotAccepted { .. }
        | TriggerError::Text(_)
        | TriggerError::TooLong { .. }
        | TriggerError::CostNotReported { .. }
        | TriggerError::OverBudget(_)
        | TriggerError::EmptyPrompt { is_certain: true, .. }
        | TriggerError::Claim(ClaimError::Command(_)) => true,
        TriggerError::UnsafeHome(_)
        | TriggerError::ProgramGone(_)
        | TriggerError::EmptyPrompt { is_certain: false, .. }
        | TriggerError::HeldUp { .. }
        | TriggerError::Changed { .. }
        | TriggerError::Overlapping { .. }
        | TriggerError::Locked(_)
        | TriggerError::Claim(_)
        | TriggerError::Cookie(_)
        | TriggerError::Launch(_) => false,
    }
}

/// Gives a fire up for a permanent error; after any other the next tick tries again.
fn give_up(advance: &mut Advance, slug: &Slug, fire: &Fire, error: TriggerError) -> Result<(), TriggerError> {
    if !is_permanent(&error) {
        return Err(error);
    }
    let (why, reason) = match error {
        TriggerError::OverBudget(over) => (WhyMissed::Budget, over.to_string()),
        error => (WhyMissed::Refused, error.to_string()),
    };
    miss(advance, slug, fire, why, reason);
    Ok(())
}

fn miss(advance: &mut Advance, slug: &Slug, fire: &Fire, why: WhyMissed, reason: String) {
    let waiting = advance.ledger.waiting.take();
    match fire {
        Fire::Occurrence(occurrence) => advance.miss(*occurrence, 1, why, reason),
        Fire::Retry { of, attempt } | Fire::Reset { of, attempt, .. } if why == WhyMissed::Budget => {
            let due = waiting.map_or_else(UnixSeconds::now, |waiting| waiting.not_before);
            advance.miss(due, 1, why, format!("attempt {attempt} of {of}: {reason}"));
        }
        Fire::Retry { of, attempt } | Fire::Reset { of, attempt, .. } => {
            tracing::warn!(routine = %slug, of, attempt, reason, "the attempt is given up");
        }
    }
}

/// How many of a routine's newest workbenches are searched for the run of a fire.
const SEARCHED_WORKBENCHES: usize = 16;

/// Returns whether a run of this origin exists already: unfinished, or among the newest that ended.
fn was_started(home: &Home, slug: &Slug, origin: &Origin) -> Result<bool, FileError> {
    // Entries first: a run has its outcome before it loses its entry.
    if Entry::of_routine(home, slug)?
        .iter()
        .filter_map(|entry| entry.manifest().ok())
        .any(|manifest| manifest.origin == *origin)
    {
        return Ok(true);
    }
    let mut ended = ids_with_workbench(home)?;
    ended.retain(|id| id.routine() == slug);
    ended.sort_unstable_by(|a, b| b.cmp(a));
    let outcome = |id: &RunId| read_outcome(&Workbench::of(home, id), id).ok();
    Ok(ended.iter().take(SEARCHED_WORKBENCHES).filter_map(outcome).any(|outcome| outcome.origin == *origin))
}

/// How long a run's judge is waited for under the routines' lock: the judge may need that lock, and the next tick looks again.
const JUDGE_TIMEOUT: Duration = Duration::from_millis(20);

/// Returns the unfinished runs that may be alive.
pub(super) fn alive_runs(context: &Context) -> Result<Vec<AliveRun>, FileError> {
    let looked = look(context, Entry::list(&context.home)?, JUDGE_TIMEOUT);
    let alive = looked.into_iter().filter(|one| one.liveness != Liveness::Dead);
    let show = |one: Assessment| {
        let certainty = match one.liveness {
            Liveness::Judging(_) => Certainty::BeingJudged,
            Liveness::Unknown(_) => Certainty::Unknown,
            _ => Certainty::Alive,
        };
        let requested = !one.entry.end_request().is_ok_and(|request| request.is_none());
        let ending = requested || context.unwritten_ends.of(one.entry.id()).is_some();
        let is_job = one.manifest.as_ref().is_ok_and(|manifest| manifest.is_on_slurm());
        let engine = if is_job { EngineKind::Slurm } else { EngineKind::Local };
        AliveRun { id: one.entry.id().clone(), certainty, ending, engine }
    };
    Ok(alive.map(show).collect())
}

/// Launches on a thread of its own: that takes seconds with a login shell, and more where many start at once.
fn launch(context: &Context, plan: Plan, claim: Claim, fire: Option<Fire>) {
    let (context, deadline) = (context.clone(), Instant::now() + LOGIN_SHELL_TIMEOUT);
    let run = claim.entry.id().clone();
    let routine = run.routine().clone();
    let body = move || match plan.start(&context, claim, deadline) {
        Ok(run) => tracing::info!(%run, "started"),
        // The run is recorded as `launch_failed`.
        Err(TriggerError::Launch(error)) if !error.nothing_left => {
            tracing::warn!(%error, "a scheduled run did not start")
        }
        Err(error) => {
            tracing::warn!(%routine, %error, "a scheduled run did not start");
            if let Some(Fire::Occurrence(occurrence)) = fire {
                let (why, reason) = (WhyMissed::Refused, error.to_string());
                let missed = Missed { occurrence, why, reason, count: 1 };
                if let Err(error) = history::append_missed(&context.home, &routine, &[missed], UnixSeconds::now()) {
                    tracing::warn!(%routine, %error, "cannot record a missed occurrence");
                }
            }
        }
    };
    // Without a thread the claim's lock is released, and the next watchdog pass records the run as `launch_failed`.
    if let Err(error) = std::thread::Builder::new().name("fire".into()).spawn(body) {
        tracing::warn!(%run, %error, "no thread left to launch a run");
    }
}

/// Ends runs that another one replaces; the first tick after that starts it.
fn end_in_background(context: &Context, runs: Vec<RunId>) {
    for run in runs {
        let context = context.clone();
        let body = move || {
            let reason = "replaced by the next fire of its routine (overlap = \"replace\")".to_owned();
            let order = Order { cause: EndCause::Stopped, reason, by: "schedule".to_owned() };
            match end_run(&context, &run, &order) {
                Ok(Ended::Survived(left)) => tracing::warn!(%run, left = names(&left), "cannot end a replaced run"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%run, %error, "cannot end a replaced run"),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("replace".into()).spawn(body) {
            tracing::warn!(%error, "no thread left to end a run; the next tick tries again");
        }
    }
}
