//! What a routine's schedule needs now, and whether a fire may start: pure decisions.

use std::sync::Arc;

use crate::clock::{HumanDuration, UnixSeconds};
use crate::home::config::{Config, EngineKind};
use crate::routine::home_snooze::HomeSnooze;
use crate::routine::known::Known;
use crate::routine::ledger::{Fire, LastMissed, Ledger, Waiting};
use crate::routine::model::{CatchUp, Definition, Overlap, WhenAsked};
use crate::routine::schedule::{Passed, Schedule};
use crate::routine::slug::Slug;
use crate::routine::summary::Plan;
use crate::run::history::{Missed, WhyMissed};
use crate::run::hold::{self, Hold, Holds};
use crate::run::id::RunId;

/// What becomes of a routine's ledger, and the occurrences missed on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advance {
    pub ledger: Ledger,
    pub missed: Vec<Missed>,
}

impl Advance {
    pub(super) fn miss(&mut self, occurrence: UnixSeconds, count: u64, why: WhyMissed, reason: String) {
        let as_asked = matches!(why, WhyMissed::Snoozed | WhyMissed::Disabled);
        self.ledger.last_missed = Some(LastMissed { occurrence, reason: reason.clone(), as_asked });
        self.missed.push(Missed { occurrence, why, reason, count });
    }
}

/// How late an occurrence is still on time: a busy machine, or one that just woke.
const ON_TIME_SECS: u64 = 60;

/// How far a ledger may be ahead of the clock. One further ahead was written while the clock was wrong, and would keep its
/// routine silent for as long.
const TRUSTED_AHEAD_SECS: u64 = 24 * 60 * 60;

const UNATTENDED: &str = "nothing fired it in time: no moadim-mcp ran, the machine slept, or its time zone changed";

/// What a routine needs by its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing until then, or ever.
    Rest(Option<UnixSeconds>),
    /// Only to start a fire whose time has come.
    Start(Arc<Waiting>),
    Attention,
}

/// Whether any routine may need something now; most of the time none does, however many there are.
pub(super) fn is_anything_due(known: &Known, holds: &Holds, now: UnixSeconds) -> bool {
    holds.was_any_lifted() || known.next.is_some_and(|next| next <= now) || is_too_far_ahead(known.fired_until, now)
}

fn is_too_far_ahead(fired_until: UnixSeconds, now: UnixSeconds) -> bool {
    fired_until > now.plus_secs(TRUSTED_AHEAD_SECS)
}

/// Decides what a routine needs now, without reading it.
pub(super) fn need(slug: &Slug, plan: &Plan, holds: &Holds, now: UnixSeconds) -> Need {
    let is_passed = plan.next.is_some_and(|next| next <= now);
    if plan.is_behind || is_passed || is_too_far_ahead(plan.fired_until, now) {
        return Need::Attention;
    }
    let Some(waiting) = &plan.waiting else { return Need::Rest(plan.next) };
    let hold = plan.agent.as_deref().and_then(|agent| holds.of(agent));
    let start_at = hold::start_at(hold, waiting, slug);
    if start_at <= now {
        Need::Start(Arc::clone(waiting))
    } else {
        Need::Rest(plan.next.into_iter().chain([start_at]).min())
    }
}

/// What keeps a routine's schedule from firing that is not the routine's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Circumstances {
    pub home_snooze: Option<HomeSnooze>,
    /// The hold of its agent.
    pub hold: Option<Hold>,
    /// A run of it that waits for an answer.
    pub asked: Option<RunId>,
}

/// Advances the ledger to now: older occurrences are missed, and the newest waits for its start unless there is a reason to
/// miss it too.
pub(super) fn advance(
    slug: &Slug,
    definition: &Definition,
    schedule: Option<&Schedule>,
    ledger: &Ledger,
    circumstances: &Circumstances,
    now: UnixSeconds,
    catch_up_window_secs: u64,
) -> Advance {
    let home_snooze = circumstances.home_snooze;
    let hold = circumstances.hold.as_ref();
    let mut advance = Advance { ledger: ledger.clone(), missed: Vec::new() };
    if definition.enabled && ledger.disabled_because.is_some() {
        advance.ledger.reset_failures();
    }
    if !definition.enabled
        && let Some(waiting) = advance.ledger.waiting.take()
        && let Fire::Occurrence(occurrence) = waiting.fire
    {
        let reason = "the routine was disabled before it could start".to_owned();
        advance.miss(occurrence, 1, WhyMissed::Disabled, reason);
    }
    if let Some((why, reason)) = snoozed(ledger, home_snooze, now)
        && let Some(waiting) = advance.ledger.waiting.take_if(|waiting| matches!(waiting.fire, Fire::Occurrence(_)))
        && let Fire::Occurrence(occurrence) = waiting.fire
    {
        advance.miss(occurrence, 1, why, reason);
    }
    if advance.ledger.follow(definition, now) {
        return advance;
    }
    let Some(schedule) = schedule.filter(|_| definition.enabled) else { return advance };
    if is_too_far_ahead(ledger.fired_until, now) {
        advance.ledger.fired_until = now;
        return advance;
    }
    let Passed { older, newest } = schedule.passed(ledger.fired_until, now);
    let Some((last, before)) = newest.split_last() else { return advance };
    advance.ledger.fired_until = *last;
    let unwanted = |ledger: &mut Ledger, occurrence| {
        let snooze = home_snooze.filter(|snooze| snooze.covers(occurrence, now));
        snooze.map(of_home_snooze).or_else(|| unwanted(ledger, occurrence))
    };
    let unattended = older.into_iter().chain(before.iter().map(|one| (1, *one)));
    for (count, occurrence) in unattended {
        let (why, reason) =
            unwanted(&mut advance.ledger, occurrence).unwrap_or_else(|| (WhyMissed::Late, UNATTENDED.to_owned()));
        advance.miss(occurrence, count, why, reason);
    }
    let age_secs = last.age_secs_at(now);
    let refused = unwanted(&mut advance.ledger, *last)
        .or_else(|| too_late(definition.catch_up, age_secs, catch_up_window_secs))
        .or_else(|| match &advance.ledger.waiting {
            Some(waiting @ Waiting { fire: Fire::Occurrence(earlier), .. })
                if is_held(hold, waiting, slug, now).is_none() =>
            {
                Some((WhyMissed::Overlap, format!("the fire of {earlier} still waits")))
            }
            // No other fire would be about that.
            Some(Waiting { fire: Fire::Retry { of, .. } | Fire::Reset { of, .. }, text: Some(_), .. }) => {
                let why =
                    if hold.is_some_and(|hold| hold.is_in_force(now)) { WhyMissed::Held } else { WhyMissed::Overlap };
                Some((why, format!("another attempt of {of} still waits, with the text of its trigger")))
            }
            // The new fire replaces an attempt without one, and a fire that its agent's limit holds.
            _ => None,
        });
    match refused {
        Some((why, reason)) => advance.miss(*last, 1, why, reason),
        None => {
            if let Some(waiting @ Waiting { fire: Fire::Occurrence(earlier), .. }) = &advance.ledger.waiting
                && let Some(hold) = is_held(hold, waiting, slug, now)
            {
                let reason =
                    format!("the agent '{}' was held until {}: {}", hold.agent, hold.held_until, hold.in_words());
                advance.miss(*earlier, 1, WhyMissed::Held, reason);
            }
            if schedule.run_at() == Some(*last) {
                advance.ledger.run_at_fired.clone_from(&definition.run_at);
            }
            let fire = Fire::Occurrence(*last);
            advance.ledger.waiting = Some(Waiting { fire, since: *last, not_before: *last, text: None });
        }
    }
    if advance.ledger.snoozed_until.is_some_and(|until| until <= now) {
        advance.ledger.snoozed_until = None;
    }
    advance
}

/// Whether the time of what waits has come, given its agent's hold and the snoozes: an attempt waits for the end of both, while
/// an occurrence is missed for a snooze.
pub(super) fn may_start(slug: &Slug, ledger: &Ledger, circumstances: &Circumstances, now: UnixSeconds) -> bool {
    let Circumstances { home_snooze, hold, .. } = circumstances;
    let starts_by = |waiting: &Waiting| hold::start_at(hold.as_ref(), waiting, slug) <= now;
    ledger.waiting.as_ref().is_some_and(starts_by) && snoozed(ledger, *home_snooze, now).is_none()
}

/// Returns the snooze that is in force, if one is.
fn snoozed(ledger: &Ledger, home_snooze: Option<HomeSnooze>, now: UnixSeconds) -> Option<(WhyMissed, String)> {
    let of_home = home_snooze.filter(|snooze| snooze.is_in_force(now)).map(of_home_snooze);
    of_home.or_else(|| ledger.snoozed_until.filter(|until| now < *until).map(of_own_snooze))
}

fn of_own_snooze(until: UnixSeconds) -> (WhyMissed, String) {
    (WhyMissed::Snoozed, format!("snoozed until {until}"))
}

fn of_home_snooze(snooze: HomeSnooze) -> (WhyMissed, String) {
    (WhyMissed::Snoozed, format!("all schedules are snoozed until {}", snooze.until))
}

/// Returns the hold that a fire waits for, if it does.
fn is_held<'a>(hold: Option<&'a Hold>, waiting: &Waiting, slug: &Slug, now: UnixSeconds) -> Option<&'a Hold> {
    hold.filter(|hold| waiting.not_before <= now && hold::start_at(Some(hold), waiting, slug) > now)
}

/// Returns why an occurrence of the routine is left out on request, if it is.
fn unwanted(ledger: &mut Ledger, occurrence: UnixSeconds) -> Option<(WhyMissed, String)> {
    if let Some(until) = ledger.snoozed_until.filter(|until| occurrence < *until) {
        return Some(of_own_snooze(until));
    }
    std::mem::take(&mut ledger.skip_next).then(|| (WhyMissed::Snoozed, "skipped once, as asked".to_owned()))
}

fn too_late(catch_up: CatchUp, age_secs: u64, window_secs: u64) -> Option<(WhyMissed, String)> {
    let reason = match catch_up {
        _ if age_secs <= ON_TIME_SECS => None,
        CatchUp::None => Some(format!("{UNATTENDED} (catch_up = \"none\")")),
        CatchUp::Latest if age_secs > window_secs => {
            Some(format!("{UNATTENDED}; {} late (catch_up_window_secs = {window_secs})", HumanDuration(age_secs)))
        }
        CatchUp::Latest => None,
    };
    reason.map(|reason| (WhyMissed::Late, reason))
}

/// An unfinished run that may be alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AliveRun {
    pub id: RunId,
    pub certainty: Certainty,
    /// Whether its end was requested.
    pub ending: bool,
    /// Where it takes place: each engine has room of its own.
    pub engine: EngineKind,
}

/// How many runs may be alive where a fire's run is to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub engine: EngineKind,
    pub max_runs: u64,
}

impl Room {
    /// Returns the room for the runs of a routine that names an engine, or none.
    pub(super) fn of(engine: Option<EngineKind>, config: &Config) -> Self {
        let engine = engine.unwrap_or(config.engine);
        let max_runs = match engine {
            EngineKind::Local => config.max_concurrent_runs,
            EngineKind::Slurm => config.slurm_max_jobs,
        };
        Self { engine, max_runs }
    }
}

/// How certain it is that a run is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    Alive,
    /// Undecidable until a person forgets the run.
    Unknown,
    BeingJudged,
}

/// What becomes of a fire whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FireDecision {
    Start,
    /// It waits for its routine's own runs; these are ended for it.
    AfterOwn(Vec<RunId>),
    /// It waits for any run to end.
    InLine,
    Miss(WhyMissed, String),
}

/// Returns why an occurrence is not fired while a run of its routine waits for an answer. Another attempt is of a run that did not ask.
pub(super) fn decide_while_asked(when_asked: WhenAsked, fire: &Fire, asked: Option<&RunId>) -> Option<FireDecision> {
    let run = asked.filter(|_| when_asked == WhenAsked::Skip && matches!(fire, Fire::Occurrence(_)))?;
    let reason = format!("the run {run} waits for an answer (when_asked = \"skip\")");
    Some(FireDecision::Miss(WhyMissed::Asked, reason))
}

/// Decides about a fire, given the runs that are alive in the home. Another attempt waits for the routine's own runs where an
/// occurrence would be missed or would end them.
pub(super) fn decide_fire(slug: &Slug, overlap: Overlap, fire: &Fire, alive: &[AliveRun], room: Room) -> FireDecision {
    let own: Vec<&AliveRun> = alive.iter().filter(|run| run.id.routine() == slug).collect();
    if let Some(first) = own.first() {
        match (overlap, fire) {
            (Overlap::Allow, _) => {}
            // It may be dead, and then nothing is missed for it.
            _ if own.iter().any(|run| run.certainty == Certainty::BeingJudged) => {
                return FireDecision::AfterOwn(Vec::new());
            }
            (Overlap::Skip, Fire::Occurrence(_)) => {
                let doubt = if first.certainty == Certainty::Alive { "" } else { ", or may have been" };
                let reason = format!("the run {} was alive{doubt} (overlap = \"skip\")", first.id);
                return FireDecision::Miss(WhyMissed::Overlap, reason);
            }
            (Overlap::Replace, Fire::Occurrence(_)) => {
                let to_end = own.iter().filter(|run| run.certainty == Certainty::Alive && !run.ending);
                return FireDecision::AfterOwn(to_end.map(|run| run.id.clone()).collect());
            }
            (Overlap::Queue, _) | (Overlap::Skip | Overlap::Replace, Fire::Retry { .. } | Fire::Reset { .. }) => {
                return FireDecision::AfterOwn(Vec::new());
            }
        }
    }
    // A run that may be alive counts too.
    let there = alive.iter().filter(|run| run.engine == room.engine).count();
    if there as u64 >= room.max_runs { FireDecision::InLine } else { FireDecision::Start }
}

#[cfg(test)]
mod tests;
