//! `holds/<agent>.json`: an agent whose account's usage limit is used up, so that its scheduled runs wait.
//!
//! A process that changes one holds the routines' lock, and the scheduler claims runs under that lock: no run that waits for a
//! hold starts once it is there. A run that somebody asks for starts all the same, and is the probe: its success lifts the hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::id::RunId;
use super::limit;
use super::record::Outcome;
use super::status::{Status, Streak};
use crate::agent::AgentName;
use crate::agent::output::{MAX_RESET_AHEAD_SECS, limit_in_words};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, Mode};
use crate::home::{self, Home, names};
use crate::routine::ledger::{Fire, Waiting};
use crate::routine::slug::Slug;
use crate::routine::store::ROUTINES_LOCK_TIMEOUT;

const VERSION: u32 = 1;

/// What waits for a hold starts within this time after it: all at once would be too many requests.
const MAX_JITTER_SECS: u64 = 120;

/// A hold that lasts longer was written while the clock was wrong.
const TRUSTED_AHEAD_SECS: u64 = MAX_RESET_AHEAD_SECS + 24 * 60 * 60;

/// One whose run ends later than this after now was too: a clock is corrected by less while it runs well.
const TRUSTED_SINCE_AHEAD_SECS: u64 = 10 * 60;

/// How long the file of a hold that is over stays: what waited for it may wait for its turn.
const KEPT_SECS: u64 = 24 * 60 * 60;

/// That an agent is held, and until when.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub version: u32,
    pub agent: String,
    /// When the limit is reset, as far as that is known; else when the next attempt is. Where it was lifted: when.
    pub held_until: UnixSeconds,
    /// When the newest of the runs ended that met the limit.
    pub since: UnixSeconds,
    /// That run.
    pub run: RunId,
    /// Which limit it is, in its agent's own word.
    pub kind: String,
    /// When it is reset, if the agent said so.
    pub resets_at: Option<UnixSeconds>,
    /// The run that succeeded since.
    pub lifted_by: Option<RunId>,
}

impl Hold {
    /// Whether it holds anything back at `now`.
    pub fn is_in_force(&self, now: UnixSeconds) -> bool {
        self.lifted_by.is_none() && now < self.held_until
    }

    /// Says why the agent is held.
    pub fn in_words(&self) -> String {
        let kind = limit_in_words(&self.kind);
        match self.resets_at {
            Some(_) => format!("its account's {kind} is used up (run {})", self.run),
            None => format!("its account's {kind} is used up; when it resets is not known (run {})", self.run),
        }
    }

    fn is_from_a_wrong_clock(&self, now: UnixSeconds) -> bool {
        // Nothing begun before `since` lifts it, so that no success would until the clock is there.
        self.held_until > now.plus_secs(TRUSTED_AHEAD_SECS) || self.since > now.plus_secs(TRUSTED_SINCE_AHEAD_SECS)
    }
}

/// The holds of a home, by agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds(BTreeMap<String, Hold>);

impl Holds {
    /// Reads all; also returns those that cannot be read, which hold nothing.
    pub fn read(home: &Home, now: UnixSeconds) -> (Self, Vec<FileError>) {
        let (mut holds, mut problems) = (BTreeMap::new(), Vec::new());
        for agent in agents_with_one(home, &mut problems) {
            match read(home, &agent, now) {
                Ok(Some(hold)) => drop(holds.insert(agent, hold)),
                Ok(None) => {}
                Err(error) => problems.push(error),
            }
        }
        (Self(holds), problems)
    }

    pub fn of(&self, agent: &str) -> Option<&Hold> {
        self.0.get(agent)
    }

    /// Returns those that hold something back.
    pub fn in_force(&self, now: UnixSeconds) -> impl Iterator<Item = &Hold> {
        self.0.values().filter(move |hold| hold.is_in_force(now))
    }

    /// Whether one was lifted, so that something may be due sooner than its ledger says.
    pub fn was_any_lifted(&self) -> bool {
        self.0.values().any(|hold| hold.lifted_by.is_some())
    }
}

/// Returns when a fire that waits may start, given the hold of its agent.
pub fn start_at(hold: Option<&Hold>, waiting: &Waiting, slug: &Slug) -> UnixSeconds {
    let Some(hold) = hold else { return waiting.not_before };
    let after_hold = after(hold.held_until, slug);
    match waiting.fire {
        // It waits for nothing but the limit, which was found to be reset.
        Fire::Reset { .. } if hold.lifted_by.is_some() && hold.held_until >= waiting.since => after_hold,
        _ => waiting.not_before.max(after_hold),
    }
}

/// Returns when a routine's fire starts that waits until then: a moment later, and each routine at another.
pub(super) fn after(held_until: UnixSeconds, slug: &Slug) -> UnixSeconds {
    let seed = format!("{slug} {}", held_until.0);
    held_until.plus_secs(home::stable_hash(seed.as_bytes()) % (MAX_JITTER_SECS + 1))
}

/// Returns the hold that follows from the end of a run, if it is another than before. `tries` is how many runs in a row the limit
/// ended, this one included.
pub(super) fn after_end(before: Option<&Hold>, outcome: &Outcome, tries: u32) -> Option<Hold> {
    if outcome.status == Status::Limited { held(before, outcome, tries) } else { lifted(before?, outcome) }
}

fn held(before: Option<&Hold>, outcome: &Outcome, tries: u32) -> Option<Hold> {
    // An outcome that an agent wrote may name anything.
    outcome.agent.parse::<AgentName>().ok()?;
    // Recording an end may be repeated, and one may be recorded late.
    if before.is_some_and(|before| before.run == outcome.id || before.since > outcome.finished_at) {
        return None;
    }
    let limit = outcome.output.as_ref().and_then(|summary| summary.limit.as_ref());
    let resets_at = limit.and_then(|limit| limit.resets_at);
    let mut hold = Hold {
        version: VERSION,
        agent: outcome.agent.clone(),
        held_until: limit::held_until(limit, outcome.finished_at, tries),
        since: outcome.finished_at,
        run: outcome.id.clone(),
        kind: limit.map_or_else(|| "usage".to_owned(), |limit| limit.kind.clone()),
        resets_at,
        lifted_by: None,
    };
    // An account may have several limits used up, and what an earlier run knew is better than a guess: the later one counts. If
    // that is too long, a success shows it.
    if let Some(before) =
        before.filter(|before| before.is_in_force(outcome.finished_at) && before.held_until > hold.held_until)
    {
        (hold.held_until, hold.resets_at) = (before.held_until, before.resets_at);
        hold.kind.clone_from(&before.kind);
    }
    Some(hold)
}

fn lifted(before: &Hold, outcome: &Outcome) -> Option<Hold> {
    let proves_it = outcome.status.streak() == Streak::Reset
        && before.agent == outcome.agent
        && before.is_in_force(outcome.finished_at)
        // One that was at work before may have done all its work before.
        && outcome.started_at.is_some_and(|started| started > before.since);
    proves_it.then(|| Hold { held_until: outcome.finished_at, lifted_by: Some(outcome.id.clone()), ..before.clone() })
}

fn file(home: &Home, agent: &str) -> PathBuf {
    home.holds().join(format!("{agent}.json"))
}

/// Reads the hold of an agent.
///
/// # Errors
/// It is unreadable, damaged or of a newer version.
pub fn read(home: &Home, agent: &str, now: UnixSeconds) -> Result<Option<Hold>, FileError> {
    // What is no name is no file of ours.
    if agent.parse::<AgentName>().is_err() {
        return Ok(None);
    }
    let path = file(home, agent);
    let hold = atomic_file::read_json_if_present::<Hold>(&path)?;
    match hold {
        Some(hold) if hold.version > VERSION => {
            let problem = format!("it is of version {}, newer than this program knows ({VERSION})", hold.version);
            Err(FileError::damaged(&path, problem))
        }
        hold => Ok(hold.filter(|hold| !hold.is_from_a_wrong_clock(now))),
    }
}

/// Writes a hold. The caller holds the routines' lock, and has read under it what it changed.
pub(super) fn write(home: &Home, hold: &Hold) -> Result<(), FileError> {
    let directory = home.holds();
    if !directory.is_dir() {
        home::make_directory(&directory).map_err(|source| FileError::io("create", &directory, source))?;
    }
    atomic_file::write_json(&file(home, &hold.agent), hold)
}

/// Removes the files of holds that have been over for a day; returns what could not be removed.
#[must_use]
pub fn remove_old(home: &Home, now: UnixSeconds) -> Vec<FileError> {
    let mut problems = Vec::new();
    let is_old = |agent: &str| {
        read(home, agent, now).is_ok_and(|hold| hold.is_some_and(|hold| hold.held_until.age_secs_at(now) > KEPT_SECS))
    };
    let old: Vec<String> = agents_with_one(home, &mut problems).into_iter().filter(|agent| is_old(agent)).collect();
    if old.is_empty() {
        return problems;
    }
    // Whoever has the lock may be about to write one; the next sweep does this then.
    let Ok(_lock) = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT) else {
        return problems;
    };
    for path in old.iter().filter(|agent| is_old(agent)).map(|agent| file(home, agent)) {
        problems.extend(std::fs::remove_file(&path).err().map(|source| FileError::io("remove", &path, source)));
    }
    problems
}

fn agents_with_one(home: &Home, problems: &mut Vec<FileError>) -> Vec<String> {
    let mut agents = Vec::new();
    let listed = names::scan(&home.holds(), |name, _| {
        if let Some(agent) = Path::new(name).file_stem().and_then(|stem| stem.to_str())
            && name.ends_with(".json")
            && agent.parse::<AgentName>().is_ok()
        {
            agents.push(agent.to_owned());
        }
    });
    problems.extend(listed.err().filter(|error| !error.is_not_found()));
    agents.sort_unstable();
    agents
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slug() -> Slug {
        "a".parse().unwrap()
    }

    fn until(secs: u64) -> Hold {
        Hold {
            version: VERSION,
            agent: "claude".into(),
            held_until: UnixSeconds(secs),
            since: UnixSeconds(1_000),
            run: "b-900".parse().unwrap(),
            kind: "five_hour".into(),
            resets_at: Some(UnixSeconds(secs)),
            lifted_by: None,
        }
    }

    fn waiting(fire: Fire, since: u64, not_before: u64) -> Waiting {
        Waiting { fire, since: UnixSeconds(since), not_before: UnixSeconds(not_before), text: None }
    }

    fn reset() -> Fire {
        Fire::Reset { of: "a-1".into(), attempt: 1, tries: 1, occurrence: None }
    }

    #[test]
    fn a_lifted_hold_lets_go_of_what_waited_for_it_and_of_nothing_else() {
        let lifted = Hold { held_until: UnixSeconds(2_000), lifted_by: Some("b-1500".parse().unwrap()), ..until(0) };
        let moment = after(UnixSeconds(2_000), &slug());
        let retry = Fire::Retry { of: "a-1".into(), attempt: 2 };
        for (fire, since, not_before, expected) in [
            (reset(), 1_000, 9_000, moment),
            (Fire::Occurrence(UnixSeconds(1_500)), 1_500, 1_500, moment),
            (Fire::Occurrence(UnixSeconds(9_000)), 9_000, 9_000, UnixSeconds(9_000)),
            (retry, 1_500, 9_000, UnixSeconds(9_000)),
            // It met the limit after that, and its hold could not be written.
            (reset(), 2_001, 9_000, UnixSeconds(9_000)),
        ] {
            let waiting = waiting(fire, since, not_before);
            assert_eq!(start_at(Some(&lifted), &waiting, &slug()), expected, "{waiting:?}");
        }
        assert_eq!(start_at(None, &waiting(reset(), 1_000, 9_000), &slug()), UnixSeconds(9_000));
    }

    #[test]
    fn routines_do_not_start_in_the_same_second() {
        let starts: std::collections::BTreeSet<u64> =
            (0..8).map(|n| after(UnixSeconds(5_000), &format!("r{n}").parse().unwrap()).0).collect();
        assert!(starts.len() >= 7, "{starts:?}");
        assert_eq!(after(UnixSeconds(5_000), &slug()), after(UnixSeconds(5_000), &slug()));
    }

    #[test]
    fn what_an_earlier_run_knew_is_better_than_a_guess() {
        let limited = Outcome { agent: "claude".into(), ..Outcome::example("a-2000", Status::Limited) };
        let kept = after_end(Some(&until(90_000)), &limited, 1).unwrap();
        assert_eq!(
            (kept.held_until, kept.resets_at, kept.since.0),
            (UnixSeconds(90_000), Some(UnixSeconds(90_000)), 2_001)
        );
        let guessed = after_end(Some(&until(2_001)), &limited, 2).unwrap();
        assert_eq!((guessed.held_until, guessed.resets_at), (UnixSeconds(2_001 + 30 * 60), None));
        let late = Hold { since: UnixSeconds(2_002), ..until(90_000) };
        assert_eq!(after_end(Some(&late), &limited, 1), None, "recorded late");
        let forged = Outcome { agent: "../../routines/a".into(), ..limited };
        assert_eq!(after_end(None, &forged, 1), None);
        assert_eq!(after_end(None, &Outcome::example("a-1", Status::Succeeded), 1), None);
    }

    #[test]
    fn a_limit_that_is_reset_sooner_shortens_no_hold() {
        use crate::agent::output::{Limit, Summary};
        let limit = Limit { kind: "five_hour".into(), resets_at: Some(UnixSeconds(9_000)) };
        let output = Some(Summary { limit: Some(limit), ..Summary::default() });
        let limited = Outcome { agent: "claude".into(), output, ..Outcome::example("a-2000", Status::Limited) };
        let week = Hold { kind: "seven_day".into(), ..until(90_000) };
        let kept = after_end(Some(&week), &limited, 1).unwrap();
        assert_eq!(kept, Hold { since: UnixSeconds(2_001), run: "a-2000".parse().unwrap(), ..week.clone() });
        let lifted = Hold { lifted_by: Some("b-1500".parse().unwrap()), ..week.clone() };
        for over in [Hold { held_until: UnixSeconds(2_001), ..week }, lifted] {
            let next = after_end(Some(&over), &limited, 1).unwrap();
            assert_eq!((next.held_until, next.kind.as_str()), (UnixSeconds(9_000), "five_hour"), "{over:?}");
        }
    }

    #[test]
    fn a_hold_of_a_wrong_clock_or_a_newer_program_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let now = UnixSeconds(1_000);
        write(&home, &until(1_000 + TRUSTED_AHEAD_SECS + 1)).unwrap();
        assert_eq!(read(&home, "claude", now).unwrap(), None);
        let begun = |since| Hold { since: UnixSeconds(since), ..until(9_000) };
        write(&home, &begun(1_001 + TRUSTED_SINCE_AHEAD_SECS)).unwrap();
        assert_eq!(read(&home, "claude", now).unwrap(), None, "no run could lift it");
        write(&home, &begun(1_000 + TRUSTED_SINCE_AHEAD_SECS)).unwrap();
        assert!(read(&home, "claude", now).unwrap().is_some());
        write(&home, &until(2_000)).unwrap();
        assert!(read(&home, "claude", now).unwrap().is_some());
        write(&home, &Hold { version: VERSION + 1, agent: "codex".into(), ..until(2_000) }).unwrap();
        std::fs::write(home.holds().join(".codex.json.x.tmp"), "").unwrap();
        let (holds, problems) = Holds::read(&home, now);
        assert_eq!((holds.in_force(now).count(), problems.len()), (1, 1));
        assert!(problems[0].to_string().contains("newer than this program knows"), "{}", problems[0]);
        assert_eq!(read(&home, "../claude", now).unwrap(), None);
    }

    proptest! {
        #[test]
        fn nothing_starts_while_it_is_held_or_before_its_time(
            held in 0..100_000_u64, not_before in 0..100_000_u64, is_reset: bool
        ) {
            let fire = if is_reset { reset() } else { Fire::Occurrence(UnixSeconds(not_before)) };
            let at = start_at(Some(&until(held)), &waiting(fire, 0, not_before), &slug()).0;
            prop_assert!(at >= not_before && at >= held && at <= not_before.max(held + MAX_JITTER_SECS));
        }
    }
}
