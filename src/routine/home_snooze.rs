//! `snooze.json`: keeps all schedules of the home from firing for a while.

use serde::{Deserialize, Serialize};

use super::invalid_field::InvalidField;
use super::snooze::check_ahead;
use super::store::{ROUTINES_LOCK_TIMEOUT, StoreError};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::file_cache::FileCache;
use crate::home::lock::{FileLock, Mode};

const VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeSnooze {
    version: u32,
    since: UnixSeconds,
    pub until: UnixSeconds,
}

impl HomeSnooze {
    /// Reads it, from memory while the file does not change; `None` if nobody asked for it.
    ///
    /// # Errors
    /// It is unreadable, damaged or of a newer version. Nothing may be fired then.
    pub fn read(home: &Home) -> Result<Option<Self>, FileError> {
        static PARSED: FileCache<HomeSnooze> = FileCache::new();
        let file = home.snooze_file();
        let parse = || {
            let snooze: Self = atomic_file::read_json(&file)?;
            if snooze.version > VERSION {
                let problem = format!("it is of version {}, newer than this program knows ({VERSION})", snooze.version);
                return Err(FileError::damaged(&file, problem));
            }
            Ok(snooze)
        };
        PARSED.get(&file, parse)
    }

    /// Returns until when no schedule fires, for a look at it.
    pub fn until(home: &Home, now: UnixSeconds) -> Option<UnixSeconds> {
        Self::read(home).ok().flatten().filter(|snooze| snooze.is_in_force(now)).map(|snooze| snooze.until)
    }

    pub fn is_in_force(&self, now: UnixSeconds) -> bool {
        now < self.until
    }

    /// Returns whether an occurrence that is dealt with at `now` is not to be fired: while the snooze is in force, nor is what was
    /// missed before it.
    pub fn covers(&self, occurrence: UnixSeconds, now: UnixSeconds) -> bool {
        occurrence < self.until && (self.is_in_force(now) || occurrence >= self.since)
    }
}

/// Keeps all schedules of the home from firing before `until`; without it, lets them fire again.
pub fn snooze_home(home: &Home, until: Option<UnixSeconds>, now: UnixSeconds) -> Result<(), StoreError> {
    let file = home.snooze_file();
    let _lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    let Some(until) = until else {
        atomic_file::remove_if_present(&file)?;
        return Ok(());
    };
    check_ahead(until, now)?;
    let before = HomeSnooze::read(home).ok().flatten().filter(|before| before.is_in_force(now));
    let since = before.map_or(now, |before| before.since.min(now));
    Ok(atomic_file::write_json(&file, &HomeSnooze { version: VERSION, since, until })?)
}

/// Refuses to skip the next fire of a home, which has many.
pub fn check_not_next(skip_next: bool) -> Result<(), InvalidField> {
    if !skip_next {
        return Ok(());
    }
    let rule =
        "only a routine has a next fire; name it in `routine`, or give `until` to keep all schedules from firing";
    Err(InvalidField::new("skip_next", "set without `routine`", rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> UnixSeconds {
        UnixSeconds(secs)
    }

    #[test]
    fn a_snooze_covers_its_own_time_and_what_is_made_up_for_in_it() {
        let snooze = HomeSnooze { version: 1, since: at(100), until: at(200) };
        for (occurrence, now, covered) in [
            (100, 100, true),
            (199, 199, true),
            (200, 200, false),
            (50, 150, true),
            (201, 201, false),
            (150, 300, true),
            (199, 201, true),
            (50, 300, false),
        ] {
            assert_eq!(snooze.covers(at(occurrence), at(now)), covered, "{occurrence} at {now}");
        }
    }

    #[test]
    fn a_snooze_is_set_prolonged_and_lifted_and_a_damaged_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let read = || HomeSnooze::read(&home).unwrap().map(|snooze| (snooze.since.0, snooze.until.0));
        assert_eq!(read(), None);
        snooze_home(&home, None, at(100)).unwrap();
        assert!(snooze_home(&home, Some(at(100)), at(100)).unwrap_err().to_string().contains("later"));
        snooze_home(&home, Some(at(200)), at(100)).unwrap();
        snooze_home(&home, Some(at(300)), at(150)).unwrap();
        assert_eq!(read(), Some((100, 300)));
        snooze_home(&home, Some(at(500)), at(400)).unwrap();
        assert_eq!(read(), Some((400, 500)), "another one");
        assert_eq!([at(499), at(500)].map(|now| HomeSnooze::until(&home, now)), [Some(at(500)), None]);
        for text in ["{", "{\"version\":2,\"since\":\"2026-01-01T00:00:00Z\",\"until\":\"2026-01-01T00:00:00Z\"}"] {
            std::fs::write(home.snooze_file(), text).unwrap();
            assert!(HomeSnooze::read(&home).unwrap_err().to_string().contains("snooze.json is damaged"));
        }
        snooze_home(&home, None, at(100)).unwrap();
        assert_eq!(read(), None);
    }
}
