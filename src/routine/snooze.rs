//! Keeping a schedule from firing for a while.

use super::invalid_field::InvalidField;
use super::ledger::Ledger;
use super::model::Definition;
use super::slug::Slug;
use super::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::lock::{FileLock, Mode};

/// Keeps a routine's schedule from firing before `until`, or once; with neither, lets it fire again.
pub fn snooze(
    home: &Home,
    slug: &Slug,
    until: Option<UnixSeconds>,
    skip_next: bool,
    now: UnixSeconds,
) -> Result<(Definition, Ledger), StoreError> {
    let _lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    let definition = store::load(home, slug)?.definition;
    if !definition.has_schedule() {
        let rule = "it has no schedule, so it never fires by itself; give it one first";
        return Err(InvalidField::new("routine", format_args!("'{slug}'"), rule).into());
    }
    until.map_or(Ok(()), |until| check_ahead(until, now))?;
    let mut ledger = Ledger::read(home, slug)?;
    ledger.follow(&definition, now);
    ledger.snoozed_until = until;
    ledger.skip_next = skip_next;
    ledger.write(home, slug)?;
    Ok((definition, ledger))
}

pub(super) fn check_ahead(until: UnixSeconds, now: UnixSeconds) -> Result<(), InvalidField> {
    if until > now {
        return Ok(());
    }
    let rule = format!("it is {now} now; give a later time, or leave it out");
    Err(InvalidField::new("until", until, rule))
}
