//! A routine as it is read to be dealt with.

use super::decide::{Advance, advance};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::routine::ledger::Ledger;
use crate::routine::model::Definition;
use crate::routine::schedule::Schedule;
use crate::routine::slug::Slug;
use crate::routine::store;

/// A routine with its ledger.
#[derive(Debug)]
pub(super) struct State {
    pub definition: Definition,
    pub ledger: Ledger,
    schedule: Option<Schedule>,
}

impl State {
    /// Reads a routine; `None` if its own file cannot be read, or it is gone.
    ///
    /// # Errors
    /// Its ledger cannot be read.
    pub(super) fn read(home: &Home, slug: &Slug) -> Result<Option<Self>, FileError> {
        let Ok((definition, schedule)) = store::load_with_schedule(home, slug) else { return Ok(None) };
        Ok(Some(Self { schedule, ledger: Ledger::read(home, slug)?, definition }))
    }

    /// Decides what becomes of its ledger, by the time zone that the machine has now.
    pub(super) fn advance(&self, now: UnixSeconds, catch_up_window_secs: u64) -> Advance {
        advance(&self.definition, self.schedule.as_ref(), &self.ledger, now, catch_up_window_secs)
    }

    /// Returns since when a fire of it waits, once that is decided; this is its place in the line.
    pub(super) fn waiting_since(&self, now: UnixSeconds, catch_up_window_secs: u64) -> Option<UnixSeconds> {
        self.advance(now, catch_up_window_secs).ledger.waiting.map(|waiting| waiting.since)
    }
}
