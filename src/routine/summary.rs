//! A routine in brief: when it has something to do and what is wrong with it, small enough to keep for tens of thousands.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

use super::bounds::Limits;
use super::ceilings::Ceilings;
use super::invalid_field::InvalidField;
use super::ledger::{LEDGER_FILE, Ledger, Waiting};
use super::model::{Definition, Overlap};
use super::prompt::{self, PROMPT_FILE};
use super::schedule::{Schedule, check_as_meant};
use super::slug::Slug;
use super::store::{self, DEFINITION_FILE, Read, StoreError};
use crate::clock::UnixSeconds;
use crate::environment::EnvName;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::config::EngineKind;
use crate::home::file_cache::{Fingerprint, Stamp};

#[derive(Debug, Clone)]
pub struct Summary {
    pub(super) slug: Slug,
    /// Definition and ledger as they were read.
    files: [Option<Fingerprint>; 2],
    read_at: Option<Instant>,
    /// Whether a change of them would show; if not, they are read at each look.
    pub(super) is_settled: bool,
    /// `None` if it was not read yet, or is gone since the directory was listed.
    definition: Option<Result<DefinitionSummary, Arc<FileError>>>,
    plan: Result<Plan, Arc<FileError>>,
    prompt: PromptSummary,
}

#[derive(Debug, Clone)]
pub struct DefinitionSummary {
    pub limits: Limits,
    pub set_by_tools: Option<Box<SetByTools>>,
    /// What its schedule does not mean as it is written.
    pub schedule_fault: Option<Box<InvalidField>>,
    /// What it may use in a day, where it says so.
    pub daily: Option<Box<Daily>>,
}

/// Ceilings of a day's runs, with what tells the day and whether they can be kept.
#[derive(Debug, Clone)]
pub struct Daily {
    pub ceilings: Ceilings,
    pub timezone: Option<String>,
    pub agent: String,
}

/// The variables that a routine's `env` sets, which tools write, and the agent that has to accept them.
#[derive(Debug, Clone)]
pub struct SetByTools {
    pub agent: String,
    pub names: Vec<EnvName>,
}

/// A prompt file as it was checked.
#[derive(Debug, Clone)]
enum PromptSummary {
    Unchecked,
    Good(Fingerprint),
    Empty,
    Damaged(Arc<FileError>),
}

/// When a routine has something to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The first occurrence after `fired_until`.
    pub next: Option<UnixSeconds>,
    /// All occurrences up to here are dealt with.
    pub fired_until: UnixSeconds,
    /// Whether its ledger needs an update, whatever the time.
    pub is_behind: bool,
    pub waiting: Option<Arc<Waiting>>,
    /// The agent of what waits.
    pub agent: Option<Box<str>>,
    pub overlap: Overlap,
    pub engine: Option<EngineKind>,
    /// Whether `next` is another one once the machine's time zone is.
    pub follows_machine_zone: bool,
}

#[derive(Debug)]
pub(super) struct Place<'a> {
    pub home: &'a Home,
    /// When this look was asked for; what another look has read since is not read again.
    pub since: Instant,
    /// The directory of all routines.
    pub directory: &'a OwnedFd,
    pub machine: &'a TimeZone,
    pub checks_prompts: bool,
    /// Until when prompts are read, if not to the end; one that is not read by then is only checked to be there.
    pub prompts_until: Option<Instant>,
}

impl Plan {
    fn of(definition: &Definition, schedule: Option<&Schedule>, ledger: Ledger, machine: &TimeZone) -> Self {
        let schedule = schedule.filter(|_| definition.enabled);
        let was_enabled_again = definition.enabled && ledger.disabled_because.is_some();
        let was_disabled = !definition.enabled && ledger.waiting.is_some();
        Self {
            next: schedule.and_then(|schedule| schedule.next_after(machine, ledger.fired_until)),
            fired_until: ledger.fired_until,
            is_behind: !ledger.follows(definition) || was_enabled_again || was_disabled,
            agent: ledger.waiting.as_ref().map(|_| definition.agent.as_str().into()),
            waiting: ledger.waiting.map(Arc::new),
            overlap: definition.overlap,
            engine: definition.engine,
            follows_machine_zone: schedule.is_some_and(Schedule::follows_machine_zone),
        }
    }

    /// Returns when the routine needs something next, unless the clock is set back; `None` if it never does.
    pub fn next_need(&self) -> Option<UnixSeconds> {
        let behind = self.is_behind.then_some(UnixSeconds(0));
        let waiting = self.waiting.as_ref().map(|waiting| waiting.not_before);
        [behind, self.next, waiting].into_iter().flatten().min()
    }
}

impl Daily {
    fn of(definition: &Definition) -> Self {
        let Definition { timezone, agent, .. } = definition;
        Self { ceilings: Ceilings::of(definition), timezone: timezone.clone(), agent: agent.clone() }
    }
}

impl DefinitionSummary {
    fn of(definition: &Definition) -> Self {
        let names: Vec<EnvName> = definition.env.keys().cloned().collect();
        let fault = definition.schedule.as_ref().and_then(|schedule| check_as_meant(schedule).err());
        Self {
            limits: Limits::of(definition),
            set_by_tools: (!names.is_empty()).then(|| Box::new(SetByTools { agent: definition.agent.clone(), names })),
            schedule_fault: fault.map(Box::new),
            daily: Ceilings::of(definition).is_any().then(|| Box::new(Daily::of(definition))),
        }
    }
}

impl Summary {
    /// Makes one of a routine that has not been read.
    pub(super) fn of(slug: Slug) -> Self {
        Self {
            slug,
            files: [None; 2],
            read_at: None,
            is_settled: false,
            definition: None,
            plan: Ok(Plan::default()),
            prompt: PromptSummary::Unchecked,
        }
    }

    pub fn slug(&self) -> &Slug {
        &self.slug
    }

    /// Whether another summary was read from the same definition and ledger.
    pub fn is_of_same_files(&self, other: &Self) -> bool {
        self.files == other.files
    }

    /// Returns what its definition says; `None` if that cannot be read.
    pub fn readable(&self) -> Option<&DefinitionSummary> {
        self.definition.as_ref()?.as_ref().ok()
    }

    pub fn damage(&self) -> Option<&FileError> {
        self.definition.as_ref()?.as_ref().err().map(AsRef::as_ref)
    }

    /// Returns why its prompt cannot be read, as of the last look at that.
    pub fn prompt_damage(&self) -> Option<&FileError> {
        match &self.prompt {
            PromptSummary::Damaged(error) if self.readable().is_some() => Some(error),
            _ => None,
        }
    }

    /// Whether its prompt says nothing, as of the last look at that.
    pub fn has_empty_prompt(&self) -> bool {
        matches!(self.prompt, PromptSummary::Empty) && self.readable().is_some()
    }

    /// Returns when it has something to do, or why its ledger cannot be read; that of a routine whose definition cannot be read
    /// is empty.
    pub fn plan(&self) -> Result<&Plan, &FileError> {
        self.plan.as_ref().map_err(AsRef::as_ref)
    }

    /// Looks at a routine's files, and replaces the summary if they changed. Returns when the definition was written if that is
    /// another one than before; the epoch if it is gone.
    pub(super) fn look(summary: &mut Arc<Self>, at: &Place<'_>) -> Option<SystemTime> {
        let now = SystemTime::now();
        let mut changed = None;
        let was_read_since = summary.read_at.is_some_and(|read_at| read_at > at.since);
        if !was_read_since && (!summary.is_settled || summary.was_refused() || summary.files_now(at) != summary.files) {
            let new = Arc::make_mut(summary);
            new.read_at = Some(Instant::now());
            let stamps = new.read(at);
            let files = stamps.map(|stamp| stamp.map(Fingerprint::from));
            if files[0] != new.files[0] {
                changed = Some(stamps[0].map_or(UNIX_EPOCH, |stamp| stamp.modified()));
            }
            new.files = files;
            new.is_settled = stamps.iter().flatten().all(|stamp| stamp.is_settled(now));
        }
        if at.checks_prompts
            && summary.readable().is_some()
            && let Some(prompt) = summary.changed_prompt(at)
        {
            Arc::make_mut(summary).prompt = prompt;
        }
        changed
    }

    fn stamp(&self, file: &str, at: &Place<'_>) -> Option<Stamp> {
        Stamp::below(at.directory, &format!("{}/{file}", self.slug))
    }

    fn stamps(&self, at: &Place<'_>) -> [Option<Stamp>; 2] {
        [DEFINITION_FILE, LEDGER_FILE].map(|file| self.stamp(file, at))
    }

    fn files_now(&self, at: &Place<'_>) -> [Option<Fingerprint>; 2] {
        self.stamps(at).map(|stamp| stamp.map(Fingerprint::from))
    }

    /// Returns whether the system refused to read it, which it may not do the next time; what is damaged stays so.
    fn was_refused(&self) -> bool {
        let problem = self.damage().or(self.plan().err());
        problem.is_some_and(|problem| matches!(problem, FileError::Io { .. }))
    }

    /// Reads both files, and returns their stamps as of then.
    fn read(&mut self, at: &Place<'_>) -> [Option<Stamp>; 2] {
        self.plan = Ok(Plan::default());
        let Read { definition, schedule, stamp, .. } = match store::read(at.home, &self.slug) {
            Ok(read) => read,
            Err(error) => {
                self.definition = match error {
                    StoreError::File(error) => Some(Err(Arc::new(error))),
                    _ => None,
                };
                return self.stamps(at);
            }
        };
        self.definition = Some(Ok(DefinitionSummary::of(&definition)));
        match Ledger::read_with_stamp(at.home, &self.slug) {
            Ok((ledger, ledger_stamp)) => {
                let left = ledger.left_of(&definition, schedule);
                self.plan = Ok(Plan::of(&definition, left.as_ref(), ledger, at.machine));
                [Some(stamp), ledger_stamp]
            }
            Err(error) => {
                self.plan = Err(Arc::new(error));
                [Some(stamp), self.stamp(LEDGER_FILE, at)]
            }
        }
    }

    /// Reads its prompt, unless that is good and has not changed, or there is no time.
    fn changed_prompt(&self, at: &Place<'_>) -> Option<PromptSummary> {
        let known = self.stamp(PROMPT_FILE, at);
        match self.prompt {
            PromptSummary::Good(good) if Some(good) == known.map(Fingerprint::from) => return None,
            PromptSummary::Unchecked
                if known.is_some() && at.prompts_until.is_some_and(|end| Instant::now() >= end) =>
            {
                return None;
            }
            _ => {}
        }
        let now = SystemTime::now();
        Some(match prompt::read_with_stamp(&prompt::file(at.home, &self.slug)) {
            Ok((text, _)) if prompt::is_empty(&text) => PromptSummary::Empty,
            Ok((_, stamp)) if stamp.is_settled(now) => PromptSummary::Good(stamp.into()),
            Ok(_) => PromptSummary::Unchecked,
            Err(error) => PromptSummary::Damaged(Arc::new(error)),
        })
    }
}
