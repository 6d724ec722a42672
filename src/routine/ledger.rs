//! `routines/<slug>/ledger.json`: how far a routine's schedule has been dealt with, and how its runs went.
//!
//! The program's own record of a routine, beside the file that is a person's. A process that changes it holds the routines' lock,
//! so that what it read is still true when it writes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::model::Definition;
use super::schedule::{CronExpressions, Schedule};
use super::slug::Slug;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::file_cache::{FileCache, Stamp};

const VERSION: u32 = 2;

/// The version that release 0.1.0 knows. A ledger is of the newest only while it holds what that release does not know: it fires
/// nothing then, rather than twice.
const FIRST_VERSION: u32 = 1;

pub(super) const LEDGER_FILE: &str = "ledger.json";

/// What is known of a routine's fires. A routine that never had a schedule, a retry or a limit of failures has none.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub version: u32,
    /// The schedule that `fired_until` belongs to; absent while the routine does not fire by itself.
    pub schedule: Option<ScheduleText>,
    /// All occurrences up to here are dealt with: fired, waiting or missed.
    pub fired_until: UnixSeconds,
    /// The `run_at` that has fired, as it is written: it fires once, whatever the clock and the time zone do.
    pub run_at_fired: Option<String>,
    /// Occurrences up to here are not fired.
    pub snoozed_until: Option<UnixSeconds>,
    /// The next occurrence is not fired.
    #[serde(default)]
    pub skip_next: bool,
    pub waiting: Option<Waiting>,
    /// The newest occurrence that was missed.
    pub last_missed: Option<LastMissed>,
    /// How many runs in a row have failed.
    #[serde(default)]
    pub consecutive_failures: u64,
    /// How many runs in a row met their account's usage limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_limits: u32,
    /// The newest runs whose end is counted in that; recording an end may be repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<String>,
    /// Why the program, and not a person, has disabled the routine.
    pub disabled_because: Option<String>,
}

#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleText {
    pub schedule: Option<CronExpressions>,
    pub run_at: Option<String>,
    pub timezone: Option<String>,
}

impl ScheduleText {
    fn of(definition: &Definition) -> Option<Self> {
        let Definition { schedule, run_at, timezone, .. } = definition;
        (definition.enabled && definition.has_schedule()).then(|| Self {
            schedule: schedule.clone(),
            run_at: run_at.clone(),
            timezone: timezone.clone(),
        })
    }
}

/// A fire that waits: for its time, for a run of its routine to end, or for its turn. A routine has one at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub fire: Fire,
    /// Since when; this is its place in the line.
    pub since: UnixSeconds,
    /// It does not start before this.
    pub not_before: UnixSeconds,
    /// What the run that is tried again was about, as its trigger said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A start without a trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fire {
    Occurrence(UnixSeconds),
    /// Another attempt after a failed run.
    Retry {
        /// The id of the first of the attempts.
        of: String,
        /// Which attempt it is; the first run is 1.
        attempt: u32,
    },
    /// The same attempt again, once the usage limit is reset that ended it.
    Reset {
        /// The id of the first of the attempts.
        of: String,
        attempt: u32,
        /// How many times the attempt met the limit, or more where other runs of the routine met it in a row: no two such fires
        /// of an attempt have the same.
        tries: u32,
        /// The occurrence that the first of the attempts was fired for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurrence: Option<UnixSeconds>,
    },
}

impl Fire {
    /// Returns the oldest version of ledgers whose readers know it.
    fn ledger_version(&self) -> u32 {
        match self {
            Self::Occurrence(_) | Self::Retry { .. } => FIRST_VERSION,
            Self::Reset { .. } => VERSION,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMissed {
    /// The moment that the schedule names.
    pub occurrence: UnixSeconds,
    pub reason: String,
    /// Whether somebody wanted that: it was snoozed, or its routine disabled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_asked: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: FIRST_VERSION,
            schedule: None,
            fired_until: UnixSeconds(0),
            run_at_fired: None,
            snoozed_until: None,
            skip_next: false,
            waiting: None,
            last_missed: None,
            consecutive_failures: 0,
            consecutive_limits: 0,
            counted: Vec::new(),
            disabled_because: None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How many runs' ends are remembered as counted: more than are recorded again at the same time.
const MOST_COUNTED: usize = 16;

impl Ledger {
    /// Names the file of a routine's ledger; it need not be there.
    pub fn file(home: &Home, slug: &Slug) -> PathBuf {
        slug.directory(home).join(LEDGER_FILE)
    }

    /// Reads a routine's ledger; one that is not there yet is empty.
    ///
    /// # Errors
    /// It is unreadable, damaged or of a newer version. Nothing may be fired then: it may have been fired already.
    pub fn read(home: &Home, slug: &Slug) -> Result<Self, FileError> {
        Self::read_with_stamp(home, slug).map(|(ledger, _)| ledger)
    }

    pub(super) fn read_with_stamp(home: &Home, slug: &Slug) -> Result<(Self, Option<Stamp>), FileError> {
        let file = Self::file(home, slug);
        let read = atomic_file::if_present(atomic_file::read_json_with_stamp::<Self>(&file))?;
        let Some((ledger, stamp)) = read else { return Ok((Self::default(), None)) };
        if ledger.version > VERSION {
            let problem = format!("it is of version {}, newer than this program knows ({VERSION})", ledger.version);
            return Err(FileError::damaged(&file, problem));
        }
        Ok((ledger, Some(stamp)))
    }

    /// Reads a routine's ledger as [`Self::read`] does, from a file that did not change as it was last parsed.
    pub fn read_for_looking(home: &Home, slug: &Slug) -> Result<Self, FileError> {
        static PARSED: FileCache<Ledger> = FileCache::new();
        PARSED.get(&Self::file(home, slug), || Self::read(home, slug)).map(Option::unwrap_or_default)
    }

    /// Writes a routine's ledger. The caller holds the routines' lock, and has read under it what it changed.
    pub fn write(&self, home: &Home, slug: &Slug) -> Result<(), FileError> {
        let version = self.waiting.as_ref().map_or(FIRST_VERSION, |waiting| waiting.fire.ledger_version());
        atomic_file::write_json(&Self::file(home, slug), &Self { version, ..self.clone() })
    }

    /// Returns whether it is about a routine's schedule as it is now.
    pub fn follows(&self, definition: &Definition) -> bool {
        self.schedule == ScheduleText::of(definition)
    }

    /// Starts over with a routine's schedule if that is another than before, and returns whether it did: nothing is made up for
    /// from before the schedule was set, changed, or enabled again.
    pub fn follow(&mut self, definition: &Definition, now: UnixSeconds) -> bool {
        let begins = !self.follows(definition);
        if begins {
            self.schedule = ScheduleText::of(definition);
            self.fired_until = now;
            self.skip_next = false;
        }
        begins
    }

    /// Returns what is left of a routine's schedule: a `run_at` that has fired is over.
    pub fn left_of(&self, definition: &Definition, schedule: Option<Schedule>) -> Option<Schedule> {
        let is_over = definition.run_at.is_some() && definition.run_at == self.run_at_fired;
        if is_over { schedule?.without_run_at() } else { schedule }
    }

    /// Notes that a run's end is counted; false if it was already.
    pub fn count(&mut self, run: &str) -> bool {
        if self.counted.iter().any(|counted| counted == run) {
            return false;
        }
        if self.counted.len() == MOST_COUNTED {
            self.counted.remove(0);
        }
        self.counted.push(run.to_owned());
        true
    }

    /// Forgets that the routine was disabled, and why, because it was enabled again.
    pub fn reset_failures(&mut self) {
        self.disabled_because = None;
        self.consecutive_failures = 0;
        self.consecutive_limits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_newer_ledger_is_an_error_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let slug: Slug = "a".parse().unwrap();
        assert_eq!(Ledger::read(&home, &slug).unwrap(), Ledger::default());
        std::fs::create_dir(home.routines().join("a")).unwrap();
        let fire = Fire::Retry { of: "a-1".into(), attempt: 2 };
        let waiting = Waiting { fire, since: UnixSeconds(5), not_before: UnixSeconds(6), text: None };
        let ledger = Ledger { waiting: Some(waiting), skip_next: true, ..Ledger::default() };
        ledger.write(&home, &slug).unwrap();
        assert_eq!(Ledger::read(&home, &slug).unwrap(), ledger);
        for text in ["{", "{}", "{\"version\":3,\"fired_until\":\"2026-01-01T00:00:00Z\"}"] {
            std::fs::write(Ledger::file(&home, &slug), text).unwrap();
            let error = Ledger::read(&home, &slug).unwrap_err().to_string();
            assert!(error.contains("ledger.json is damaged"), "{error}");
        }
    }

    #[test]
    fn a_ledger_of_the_first_release_follows_the_same_schedule() {
        let text =
            r#"{"version":1,"schedule":{"schedule":"@hourly","timezone":"UTC"},"fired_until":"2026-01-01T00:00:00Z"}"#;
        let ledger: Ledger = serde_json::from_str(text).unwrap();
        let hourly =
            Definition { schedule: Some("@hourly".into()), timezone: Some("UTC".into()), ..Definition::default() };
        assert!(ledger.follows(&hourly));
        let written = serde_json::to_value(&ledger).unwrap();
        assert_eq!(written["schedule"], serde_json::json!({ "schedule": "@hourly", "timezone": "UTC" }));
        let twice = CronExpressions::Several(vec!["@hourly".into(), "@daily".into()]);
        for changed in [
            Definition { schedule: Some(twice), ..hourly.clone() },
            Definition { run_at: Some("2026-12-01T09:00".into()), ..hourly },
        ] {
            assert!(!ledger.follows(&changed));
        }
    }

    #[test]
    fn only_a_ledger_that_an_old_program_would_misread_is_of_a_newer_version() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let slug: Slug = "a".parse().unwrap();
        std::fs::create_dir(home.routines().join("a")).unwrap();
        let version = |fire: Option<Fire>| {
            let waiting =
                fire.map(|fire| Waiting { fire, since: UnixSeconds(5), not_before: UnixSeconds(6), text: None });
            Ledger { waiting: waiting.clone(), consecutive_limits: 1, ..Ledger::default() }
                .write(&home, &slug)
                .unwrap();
            let read = Ledger::read(&home, &slug).unwrap();
            assert_eq!((read.waiting, read.consecutive_limits), (waiting, 1));
            read.version
        };
        assert_eq!(version(None), 1);
        assert_eq!(version(Some(Fire::Occurrence(UnixSeconds(5)))), 1);
        let occurrence = Some(UnixSeconds(5));
        assert_eq!(version(Some(Fire::Reset { of: "a-1".into(), attempt: 1, tries: 1, occurrence })), 2);
        assert_eq!(version(None), 1, "once nothing of it is left, an old program goes on");
        // As 0.1.0 wrote it.
        let old = "{\"version\":1,\"fired_until\":\"2026-01-01T00:00:00Z\",\"consecutive_failures\":2}";
        std::fs::write(Ledger::file(&home, &slug), old).unwrap();
        let read = Ledger::read(&home, &slug).unwrap();
        assert_eq!((read.consecutive_failures, read.consecutive_limits), (2, 0));
    }

    #[test]
    fn an_end_counts_once() {
        let mut ledger = Ledger::default();
        assert!(ledger.count("a-1"));
        assert!(!ledger.count("a-1"));
        (0..MOST_COUNTED).for_each(|n| assert!(ledger.count(&format!("b-{n}"))));
        assert_eq!(ledger.counted.len(), MOST_COUNTED);
    }
}
