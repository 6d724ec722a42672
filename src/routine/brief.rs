//! A routine in brief: when it has something to do and what is wrong with it, small enough to keep for tens of thousands.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::SystemTime;

use super::bounds::Limits;
use super::ledger::{Ledger, Waiting};
use super::model::{Definition, Overlap};
use super::schedule::Schedule;
use super::slug::Slug;
use super::store::{self, StoreError};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::stamp::{Fingerprint, Stamp};

/// A routine in brief, and the files it was read from.
#[derive(Debug)]
pub struct Brief {
    pub(super) slug: Slug,
    /// Those that `definition` and `plan` follow from, as they were read.
    files: [Option<Fingerprint>; 2],
    /// Whether a change of them would show; if not, they are read at each look.
    pub(super) is_settled: bool,
    definition: DefinitionBrief,
    plan: Result<Plan, Box<FileError>>,
    /// Whether something may be written into its ledger while the definition stays as it is.
    has_use_for_a_ledger: bool,
    prompt: PromptBrief,
    /// What the pass that is under way still has to look at.
    pub(super) wanted: Wanted,
}

/// A definition that is another one than before, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    pub written: Option<SystemTime>,
}

/// Parts of a routine to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Nothing,
    Files,
    FilesAndPrompt,
}

#[derive(Debug)]
enum DefinitionBrief {
    /// Not read yet, or gone since the directory was listed.
    Absent,
    Damaged(Box<FileError>),
    Readable(Limits),
}

/// A prompt file as it was checked.
#[derive(Debug)]
enum PromptBrief {
    Unchecked,
    Good(Fingerprint),
    Damaged(Box<FileError>),
}

/// When a routine has something to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The first occurrence that is not dealt with.
    pub next: Option<UnixSeconds>,
    /// Up to when they are.
    pub fired_until: UnixSeconds,
    /// Whether its ledger has to be brought up to date, whatever the time.
    pub is_behind: bool,
    /// What waits to be started.
    pub waiting: Option<Arc<Waiting>>,
    /// What a fire does while a run of it is alive.
    pub overlap: Overlap,
    /// Whether `next` is another one once the machine's time zone is.
    pub follows_machine_zone: bool,
}

impl Plan {
    fn of(definition: &Definition, schedule: Option<&Schedule>, ledger: Ledger) -> Self {
        let schedule = schedule.filter(|_| definition.enabled);
        let absolved = definition.enabled && ledger.disabled_because.is_some();
        let dropped = !definition.enabled && ledger.waiting.is_some();
        Self {
            next: schedule.and_then(|schedule| schedule.next_after(ledger.fired_until)),
            fired_until: ledger.fired_until,
            is_behind: !ledger.follows(definition) || absolved || dropped,
            waiting: ledger.waiting.map(Arc::new),
            overlap: definition.overlap,
            follows_machine_zone: schedule.is_some_and(Schedule::follows_machine_zone),
        }
    }
}

impl Brief {
    /// Makes one of a routine that has not been read.
    pub(super) fn of(slug: Slug) -> Self {
        Self {
            slug,
            files: [None; 2],
            is_settled: false,
            definition: DefinitionBrief::Absent,
            plan: Ok(Plan::default()),
            has_use_for_a_ledger: true,
            prompt: PromptBrief::Unchecked,
            wanted: Wanted::Nothing,
        }
    }

    /// Has this much looked at, at least.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted = self.wanted.max(wanted);
    }

    /// Returns its name.
    #[must_use]
    pub fn slug(&self) -> &Slug {
        &self.slug
    }

    /// Returns what it sets of its limits; `None` if its file cannot be read.
    #[must_use]
    pub fn limits(&self) -> Option<&Limits> {
        match &self.definition {
            DefinitionBrief::Readable(limits) => Some(limits),
            DefinitionBrief::Absent | DefinitionBrief::Damaged(_) => None,
        }
    }

    /// Returns why its file cannot be read.
    #[must_use]
    pub fn damage(&self) -> Option<&FileError> {
        match &self.definition {
            DefinitionBrief::Damaged(error) => Some(error),
            DefinitionBrief::Absent | DefinitionBrief::Readable(_) => None,
        }
    }

    /// Returns why its prompt cannot be read, as of the last look at that.
    #[must_use]
    pub fn prompt_damage(&self) -> Option<&FileError> {
        match &self.prompt {
            PromptBrief::Damaged(error) if self.limits().is_some() => Some(error),
            _ => None,
        }
    }

    /// Returns when it has something to do; that of a routine whose file cannot be read is empty.
    ///
    /// # Errors
    /// Its ledger cannot be read.
    pub fn plan(&self) -> Result<&Plan, &FileError> {
        self.plan.as_ref().map_err(AsRef::as_ref)
    }

    /// Returns when it needs something at the earliest; the begin of time if it does now, and nothing if it never does.
    pub(super) fn needed_at(&self) -> Option<UnixSeconds> {
        match &self.plan {
            Ok(plan) if !plan.is_behind => {
                plan.next.into_iter().chain(plan.waiting.as_ref().map(|waiting| waiting.not_before)).min()
            }
            Ok(_) | Err(_) => Some(UnixSeconds(0)),
        }
    }

    /// Does what is wanted, reading only what changed; `routines` is the directory of routines. Returns when the definition was
    /// written if that is another one than before.
    pub(super) fn look(&mut self, home: &Home, routines: BorrowedFd<'_>) -> Option<Changed> {
        let mut changed = None;
        let wanted = std::mem::replace(&mut self.wanted, Wanted::Nothing);
        if wanted >= Wanted::Files {
            let now = SystemTime::now();
            let look = |file| Stamp::below(routines, &format!("{}/{file}", self.slug));
            let definition = look(store::DEFINITION_FILE);
            let mut files = [definition.map(|stamp| stamp.fingerprint()), self.files[1]];
            let mut stamps = [definition, None];
            if self.has_use_for_a_ledger || files[0] != self.files[0] || wanted > Wanted::Files || !self.is_settled {
                stamps[1] = look(super::ledger::FILE_NAME);
                files[1] = stamps[1].map(|stamp| stamp.fingerprint());
            }
            if !self.is_settled || self.was_refused() || files != self.files {
                self.is_settled = stamps.iter().flatten().all(|stamp| stamp.is_settled(now));
                if files[0] != self.files[0] {
                    changed = Some(Changed { written: stamps[0].map(|stamp| stamp.modified()) });
                }
                self.files = files;
                self.read(home);
            }
        }
        if wanted >= Wanted::FilesAndPrompt && self.limits().is_some() {
            self.check_prompt(home, routines);
        }
        changed
    }

    /// Says whether the system refused to read it, which it may not do the next time; what is damaged stays so.
    fn was_refused(&self) -> bool {
        let problem = self.damage().or(self.plan().err());
        problem.is_some_and(|problem| matches!(problem, FileError::Io { .. }))
    }

    fn read(&mut self, home: &Home) {
        self.plan = Ok(Plan::default());
        self.definition = match store::load_with_schedule(home, &self.slug) {
            Ok((definition, schedule)) => {
                let plan = |ledger| Plan::of(&definition, schedule.as_ref(), ledger);
                self.plan = Ledger::read(home, &self.slug).map(plan).map_err(Box::new);
                let writes_one = definition.schedule.is_some() || definition.retry.is_some();
                self.has_use_for_a_ledger = writes_one || !self.plan().is_ok_and(|plan| *plan == Plan::default());
                DefinitionBrief::Readable(Limits::of(&definition))
            }
            Err(StoreError::File(error)) => DefinitionBrief::Damaged(Box::new(error)),
            Err(_) => DefinitionBrief::Absent,
        };
    }

    fn check_prompt(&mut self, home: &Home, routines: BorrowedFd<'_>) {
        let now = SystemTime::now();
        let stamp = Stamp::below(routines, &format!("{}/{}", self.slug, store::PROMPT_FILE));
        let seen = stamp.filter(|stamp| stamp.is_settled(now)).map(|stamp| stamp.fingerprint());
        match (&self.prompt, seen) {
            (PromptBrief::Good(known), Some(seen)) if *known == seen => {}
            _ => {
                self.prompt = match (store::prompt(home, &self.slug), seen) {
                    (Ok(_), Some(seen)) => PromptBrief::Good(seen),
                    (Ok(_), None) => PromptBrief::Unchecked,
                    (Err(error), _) => PromptBrief::Damaged(Box::new(error)),
                };
            }
        }
    }
}
