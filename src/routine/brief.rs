//! A routine in brief: when it has something to do and what is wrong with it, small enough to keep for tens of thousands.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use jiff::tz::TimeZone;

use super::bounds::Limits;
use super::invalid_field::InvalidField;
use super::ledger::{self, Ledger, Waiting};
use super::model::{Definition, Overlap};
use super::schedule::{Schedule, check_as_meant};
use super::slug::Slug;
use super::store::{self, StoreError};
use crate::clock::UnixSeconds;
use crate::environment::EnvName;
use crate::home::Home;
use crate::home::atomic_file::{Below, FileError};
use crate::home::file_cache::{Fingerprint, Stamp};

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
    /// Whether another process may write something there that is not found out in time when the routine is due: what waits.
    is_written_by_others: bool,
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
    Readable(Limits, Option<Box<Remarks>>),
}

/// What few routines have.
#[derive(Debug)]
struct Remarks {
    set_by_tools: Option<SetByTools>,
    schedule: Option<InvalidField>,
}

impl Remarks {
    fn of(definition: &Definition) -> Option<Box<Self>> {
        let set_by_tools = SetByTools::of(definition);
        let schedule = definition.schedule.as_deref().and_then(|schedule| check_as_meant(schedule).err());
        (set_by_tools.is_some() || schedule.is_some()).then(|| Box::new(Self { set_by_tools, schedule }))
    }
}

/// The variables that a routine's `env` sets, which tools write, and the agent that has to accept them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetByTools {
    /// The agent's name as it is written.
    pub agent: String,
    /// The variables.
    pub names: Vec<EnvName>,
}

impl SetByTools {
    fn of(definition: &Definition) -> Option<Self> {
        let names: Vec<EnvName> = definition.env.keys().cloned().collect();
        (!names.is_empty()).then(|| Self { agent: definition.agent.clone(), names })
    }
}

/// A prompt file as it was checked.
#[derive(Debug)]
enum PromptBrief {
    Unchecked,
    Good(Fingerprint),
    Empty,
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

/// Where and how routines are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub home: &'a Home,
    /// The directory of routines, open, and its path.
    pub routines: BorrowedFd<'a>,
    pub path: &'a Path,
    /// The zone that the machine has.
    pub machine: &'a TimeZone,
    /// Whether also those ledgers are looked at whose change can wait.
    pub is_thorough: bool,
    /// Until when prompts are read, if not to the end; one that is not read by then is only checked to be there.
    pub prompts_until: Option<Instant>,
}

impl Place<'_> {
    fn stamp(&self, slug: &Slug, file: &str) -> Option<Stamp> {
        Stamp::below(self.routines, &format!("{slug}/{file}"))
    }

    fn with<T>(&self, slug: &Slug, file: &str, read: impl FnOnce(&Below<'_>) -> T) -> T {
        let name = format!("{slug}/{file}");
        read(&Below { directory: self.routines, at: self.path, name: &name })
    }
}

impl Plan {
    fn of(definition: &Definition, schedule: Option<&Schedule>, ledger: Ledger, machine: &TimeZone) -> Self {
        let schedule = schedule.filter(|_| definition.enabled);
        let absolved = definition.enabled && ledger.disabled_because.is_some();
        let dropped = !definition.enabled && ledger.waiting.is_some();
        Self {
            next: schedule.and_then(|schedule| schedule.next_after_on(machine, ledger.fired_until)),
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
            is_written_by_others: true,
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
            DefinitionBrief::Readable(limits, _) => Some(limits),
            DefinitionBrief::Absent | DefinitionBrief::Damaged(_) => None,
        }
    }

    /// Returns the variables that its agent has to accept, if there are any.
    #[must_use]
    pub fn set_by_tools(&self) -> Option<&SetByTools> {
        self.remarks()?.set_by_tools.as_ref()
    }

    /// Returns what its schedule does not mean as it is written, if anything.
    #[must_use]
    pub fn schedule_fault(&self) -> Option<&InvalidField> {
        self.remarks()?.schedule.as_ref()
    }

    fn remarks(&self) -> Option<&Remarks> {
        match &self.definition {
            DefinitionBrief::Readable(_, remarks) => remarks.as_deref(),
            DefinitionBrief::Absent | DefinitionBrief::Damaged(_) => None,
        }
    }

    /// Returns why its file cannot be read.
    #[must_use]
    pub fn damage(&self) -> Option<&FileError> {
        match &self.definition {
            DefinitionBrief::Damaged(error) => Some(error),
            DefinitionBrief::Absent | DefinitionBrief::Readable(..) => None,
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

    /// Whether its prompt says nothing, as of the last look at that.
    #[must_use]
    pub fn has_empty_prompt(&self) -> bool {
        matches!(self.prompt, PromptBrief::Empty) && self.limits().is_some()
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

    /// Does what is wanted, reading only what changed. Returns when the definition was written if that is another one than before.
    pub(super) fn look(&mut self, at: &Place<'_>) -> Option<Changed> {
        let wanted = std::mem::replace(&mut self.wanted, Wanted::Nothing);
        let mut changed = None;
        if wanted > Wanted::Nothing {
            let now = SystemTime::now();
            let is_thorough = at.is_thorough || wanted == Wanted::FilesAndPrompt;
            if !self.is_settled || self.was_refused() || self.differs(at, is_thorough) {
                let stamps = self.read(at);
                let files = stamps.map(|stamp| stamp.map(|stamp| stamp.fingerprint()));
                if files[0] != self.files[0] {
                    changed = Some(Changed { written: stamps[0].map(|stamp| stamp.modified()) });
                }
                self.files = files;
                self.is_settled = stamps.iter().flatten().all(|stamp| stamp.is_settled(now));
            }
        }
        if wanted == Wanted::FilesAndPrompt && self.limits().is_some() {
            self.check_prompt(at);
        }
        changed
    }

    /// Says whether a file is another one than the one that was read.
    fn differs(&self, at: &Place<'_>, is_thorough: bool) -> bool {
        let differs = |file: &str, known: Option<Fingerprint>| {
            at.stamp(&self.slug, file).map(|stamp| stamp.fingerprint()) != known
        };
        let [definition, ledger] = self.files;
        let looks_at_ledger = self.has_use_for_a_ledger && (is_thorough || self.is_written_by_others);
        differs(store::DEFINITION_FILE, definition) || (looks_at_ledger && differs(ledger::FILE_NAME, ledger))
    }

    /// Says whether the system refused to read it, which it may not do the next time; what is damaged stays so.
    fn was_refused(&self) -> bool {
        let problem = self.damage().or(self.plan().err());
        problem.is_some_and(|problem| matches!(problem, FileError::Io { .. }))
    }

    /// Reads both files; returns what they are known by.
    fn read(&mut self, at: &Place<'_>) -> [Option<Stamp>; 2] {
        self.plan = Ok(Plan::default());
        (self.has_use_for_a_ledger, self.is_written_by_others) = (true, true);
        let (definition, schedule, stamp) =
            match at.with(&self.slug, store::DEFINITION_FILE, |file| store::read(at.home, &self.slug, file)) {
                Ok(store::Read { definition, schedule, stamp, .. }) => (definition, schedule, stamp),
                Err(error) => {
                    self.definition = match error {
                        StoreError::File(error) => DefinitionBrief::Damaged(Box::new(error)),
                        _ => DefinitionBrief::Absent,
                    };
                    return [store::DEFINITION_FILE, ledger::FILE_NAME].map(|file| at.stamp(&self.slug, file));
                }
            };
        self.definition = DefinitionBrief::Readable(Limits::of(&definition), Remarks::of(&definition));
        let ledger_stamp = match at.with(&self.slug, ledger::FILE_NAME, |file| Ledger::read_from(file)) {
            Ok((ledger, ledger_stamp)) => {
                let plan = Plan::of(&definition, schedule.as_ref(), ledger, at.machine);
                self.is_written_by_others = definition.retry.is_some() || plan.is_behind || plan.waiting.is_some();
                self.has_use_for_a_ledger = self.is_written_by_others || schedule.is_some();
                self.plan = Ok(plan);
                ledger_stamp
            }
            Err(error) => {
                self.plan = Err(Box::new(error));
                at.stamp(&self.slug, ledger::FILE_NAME)
            }
        };
        [Some(stamp), ledger_stamp]
    }

    fn check_prompt(&mut self, at: &Place<'_>) {
        let stamp = at.stamp(&self.slug, store::PROMPT_FILE);
        match (&self.prompt, stamp) {
            (PromptBrief::Good(known), Some(stamp)) if stamp.fingerprint() == *known => return,
            (PromptBrief::Unchecked, Some(_)) if at.prompts_until.is_some_and(|end| Instant::now() >= end) => return,
            _ => {}
        }
        let now = SystemTime::now();
        self.prompt = match at.with(&self.slug, store::PROMPT_FILE, |file| store::prompt_from(file)) {
            Ok((prompt, _)) if store::is_empty(&prompt) => PromptBrief::Empty,
            Ok((_, stamp)) if stamp.is_settled(now) => PromptBrief::Good(stamp.fingerprint()),
            Ok(_) => PromptBrief::Unchecked,
            Err(error) => PromptBrief::Damaged(Box::new(error)),
        };
    }
}
