//! The lines of missed occurrences.

use std::collections::HashSet;
use std::fs::File;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recent::each_recent_line;
use super::{UpdateError, sync};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, Mode};
use crate::routine::slug::Slug;
use crate::run::record::FIRST_RECORD_VERSION;

/// Why an occurrence was not fired, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyMissed {
    /// Nothing fired it in time.
    Late,
    /// A run of the routine was alive, or an earlier fire still waited.
    Overlap,
    /// The routine was disabled.
    Disabled,
    /// Somebody asked to leave it out.
    Snoozed,
    /// The runs of the day, or their cost, are used up.
    Budget,
    /// The agent's account waits for its usage limit to be reset.
    Held,
    /// A run of the routine waits for an answer.
    Asked,
    /// The routine could not run, as for an agent that is gone.
    Refused,
}

/// An occurrence of a schedule that was not fired, or several of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The time in the schedule; the newest of several.
    pub occurrence: UnixSeconds,
    /// Why none of them was fired.
    pub why: WhyMissed,
    /// The same in words.
    pub reason: String,
    pub count: u64,
}

/// The line of missed occurrences.
#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct MissedLine<'a> {
    kind: &'static str,
    version: u32,
    routine: &'a Slug,
    occurrence: UnixSeconds,
    at: UnixSeconds,
    why: WhyMissed,
    reason: &'a str,
    count: Option<u64>,
}

/// Shorter than for the ends of runs: the caller holds the routines' lock meanwhile.
const HISTORY_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Adds a line for each missed occurrence of a routine, noticed at `at`, and returns when all are on disk.
///
/// Exactly once: the caller holds the routines' lock, has seen under it that the ledger does not yet count these occurrences
/// as dealt with, and writes that there right afterwards. A process that dies in between leaves lines that the next one would
/// add again, so lines that the end of the history has are left out.
///
/// # Errors
/// The lock was not free in time, or the file cannot be read or written; the caller tries again later.
pub fn append_missed(home: &Home, routine: &Slug, missed: &[Missed], at: UnixSeconds) -> Result<(), UpdateError> {
    if missed.is_empty() {
        return Ok(());
    }
    let path = home.history_file();
    let lock = FileLock::acquire(&home.history_lock(), Mode::Exclusive, HISTORY_LOCK_TIMEOUT)?;
    let (recorded, files) = recorded_lately(home, routine)?;
    let (recorded, new): (Vec<&Missed>, Vec<&Missed>) =
        missed.iter().partition(|one| recorded.contains(&one.occurrence));
    let mut written = None;
    for Missed { occurrence, why, reason, count } in new {
        let count = (*count > 1).then_some(*count);
        let (version, occurrence, why) = (FIRST_RECORD_VERSION, *occurrence, *why);
        let line = MissedLine { kind: "missed", version, routine, occurrence, at, why, reason, count };
        written = Some(atomic_file::append_record(&path, &line)?);
    }
    drop(lock);
    // Also lines that were there: their writer may have died before this.
    let read = if recorded.is_empty() { Vec::new() } else { files };
    Ok(read.iter().chain(&written).try_for_each(|file| sync(file, &path))?)
}

/// Returns the missed occurrences of a routine that the end of the history has, and the files that were read.
fn recorded_lately(home: &Home, routine: &Slug) -> Result<(HashSet<UnixSeconds>, Vec<File>), FileError> {
    #[derive(Deserialize)]
    struct Line {
        kind: String,
        routine: Slug,
        occurrence: UnixSeconds,
    }
    let mut recorded = HashSet::new();
    let files = each_recent_line(home, |line| {
        let line = serde_json::from_slice::<Line>(line).ok();
        let of_routine = line.filter(|line| line.kind == "missed" && line.routine == *routine);
        recorded.extend(of_routine.map(|line| line.occurrence));
    })?;
    Ok((recorded, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_recorded_once_however_often_it_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let (a, b): (Slug, Slug) = ("a".parse().unwrap(), "b".parse().unwrap());
        let missed =
            |secs, count| Missed { occurrence: UnixSeconds(secs), why: WhyMissed::Late, reason: "x".into(), count };
        let now = UnixSeconds(100);
        append_missed(&home, &a, &[missed(10, 7), missed(20, 1)], now).unwrap();
        let text = std::fs::read_to_string(home.history_file()).unwrap();
        assert_eq!(text.lines().count(), 2);
        // The file is closed in between, as by the first sweep of the one who repeats it.
        std::fs::rename(home.history_file(), home.root().join("history.100.jsonl")).unwrap();
        append_missed(&home, &a, &[missed(10, 7), missed(20, 1), missed(30, 1)], now).unwrap();
        append_missed(&home, &a, &[missed(20, 1)], now).unwrap();
        append_missed(&home, &b, &[missed(10, 1)], now).unwrap();
        assert_eq!(std::fs::read_to_string(home.history_file()).unwrap().lines().count(), 2);
        assert_eq!(
            text.lines().next().unwrap(),
            "{\"kind\":\"missed\",\"version\":1,\"routine\":\"a\",\"occurrence\":\"1970-01-01T00:00:10Z\",\
             \"at\":\"1970-01-01T00:01:40Z\",\"why\":\"late\",\"reason\":\"x\",\"count\":7}"
        );
    }
}
