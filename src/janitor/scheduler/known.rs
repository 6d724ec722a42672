//! Routines as they were last read: with a thousand of them a tick looks at names and times, and reads what has changed.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::stamp::Stamp;
use crate::routine::ledger::Ledger;
use crate::routine::model::Definition;
use crate::routine::schedule::Schedule;
use crate::routine::slug::Slug;
use crate::routine::store;

/// All routines that a scheduler has read.
#[derive(Debug, Default)]
pub(super) struct KnownRoutines {
    by_slug: HashMap<Slug, Known>,
}

#[derive(Debug)]
struct Known {
    files: [Option<Stamp>; 2],
    /// See [`Stamp::is_settled`].
    settled: bool,
    state: Option<Result<State, FileError>>,
}

/// A routine with its ledger.
#[derive(Debug)]
pub(super) struct State {
    pub definition: Definition,
    pub schedule: Option<Schedule>,
    pub ledger: Ledger,
    /// The first occurrence that is not dealt with.
    pub next: Option<UnixSeconds>,
}

impl KnownRoutines {
    /// Reads what has changed. A routine whose own file cannot be read is left out: whoever lists routines tells of it.
    ///
    /// # Errors
    /// The directory of routines cannot be listed.
    pub(super) fn refresh(&mut self, home: &Home) -> Result<(), FileError> {
        let mut before = std::mem::take(&mut self.by_slug);
        for slug in store::slugs(home)? {
            let files = [store::definition_file(home, &slug), Ledger::file(home, &slug)].map(|file| Stamp::of(&file));
            let known = before.remove(&slug).filter(|known| known.settled && known.files == files);
            let known = known.unwrap_or_else(|| Known::read(home, &slug, files));
            self.by_slug.insert(slug, known);
        }
        Ok(())
    }

    /// Forgets routines, so that they are read again whatever their files look like.
    pub(super) fn forget(&mut self, slugs: &[Slug]) {
        self.by_slug.retain(|slug, _| !slugs.contains(slug));
    }

    /// Returns those that can be read.
    pub(super) fn states(&self) -> impl Iterator<Item = (&Slug, &State)> {
        self.by_slug.iter().filter_map(|(slug, known)| Some((slug, known.state.as_ref()?.as_ref().ok()?)))
    }

    /// Returns why the ledgers of others cannot be read.
    pub(super) fn damaged(&self) -> impl Iterator<Item = (&Slug, &FileError)> {
        self.by_slug.iter().filter_map(|(slug, known)| Some((slug, known.state.as_ref()?.as_ref().err()?)))
    }
}

impl Known {
    fn read(home: &Home, slug: &Slug, files: [Option<Stamp>; 2]) -> Self {
        let now = SystemTime::now();
        let settled = files.iter().flatten().all(|stamp| stamp.is_settled(now));
        Self { files, settled, state: State::read(home, slug) }
    }
}

impl State {
    /// Reads a routine; `None` if its own file cannot be read, or it is gone.
    fn read(home: &Home, slug: &Slug) -> Option<Result<Self, FileError>> {
        let definition = store::load(home, slug).ok()?.definition;
        // It was found good when it was loaded.
        let parse = |text: &String| Schedule::parse(text, definition.timezone.as_deref()).ok();
        let schedule = definition.schedule.as_ref().and_then(parse);
        Some(Ledger::read(home, slug).map(|ledger| {
            let next = schedule.as_ref().filter(|_| definition.enabled);
            let next = next.and_then(|schedule| schedule.next_after(ledger.fired_until));
            Self { definition, schedule, ledger, next }
        }))
    }

    /// Tells whether there is nothing to do for the routine now.
    pub(super) fn rests(&self, now: UnixSeconds) -> bool {
        let ledger = &self.ledger;
        let absolved = !self.definition.enabled || ledger.disabled_because.is_none();
        let in_step = ledger.follows(&self.definition);
        let ahead = self.next.is_none_or(|next| next > now) && ledger.fired_until <= now;
        let waiting = ledger.waiting.as_ref();
        let patient = waiting.is_none_or(|waiting| waiting.not_before > now && self.definition.enabled);
        absolved && in_step && ahead && patient
    }

    /// Returns when there will be something to do, as far as that is known.
    pub(super) fn due(&self) -> Option<UnixSeconds> {
        let waiting = self.ledger.waiting.as_ref().map(|waiting| waiting.not_before);
        self.next.into_iter().chain(waiting).min()
    }
}
