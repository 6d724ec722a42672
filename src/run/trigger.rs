//! Starting a run now.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;

use super::argument_space::{self, TooLong};
use super::budget::{CostNotReported, OverBudget, check_cost_is_reported, over_budget, read_ahead};
use super::checks::{precheck, verify};
use super::claim::{Claim, ClaimError, Wanted, claim};
use super::context::{Context, ProgramGone};
use super::continuation::predecessor::NotContinuable;
use super::continuation::take_over::take_over;
use super::entry::Entry;
use super::environment::{NotAccepted, check_accepted, compose, missing};
use super::id::RunId;
use super::job_order::{PlacementError, check_placement, job_order};
use super::launch::{self, LaunchError};
use super::liveness::{Liveness, look};
use super::log;
use super::options::choose_options;
use super::prompt::{Composed, Occasion, check_text, check_words, compose as compose_prompt};
use super::record::{Environment, Machine, Manifest, Origin, RECORD_VERSION};
use super::workbench::Workbench;
use crate::agent::output::OutputFormat;
use crate::agent::question_hook::PersonsAnswer;
use crate::agent::{
    Agent, AgentCommand, AgentError, AgentName, Choice, CommandError, OptionError, Placeholders, Registry,
};
use crate::clock::{Moment, UnixSeconds};
use crate::environment::EnvName;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::{UnsafeHome, random_uuid};
use crate::process_tree::{Cookie, NoCookie};
use crate::routine::bounds::{Bounds, RoutineState};
use crate::routine::invalid_field::InvalidField;
use crate::routine::ledger::Ledger;
use crate::routine::model::Routine;
use crate::routine::prompt::{self, EmptyPrompt};
use crate::routine::slug::Slug;
use crate::routine::store::{self, ROUTINES_LOCK_TIMEOUT, StoreError};

/// What a trigger does while a run of the routine is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IfAlive {
    /// Refuse: hosts repeat calls, and a double run burns money.
    #[default]
    Skip,
    /// Start another.
    Allow,
}

/// A run was not started.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// The home is not safe for runs.
    #[error(transparent)]
    UnsafeHome(#[from] UnsafeHome),
    /// Our own program is gone.
    #[error(transparent)]
    ProgramGone(#[from] ProgramGone),
    /// The routine does not exist or cannot be read.
    #[error(transparent)]
    Routine(#[from] StoreError),
    /// The routine is switched off.
    #[error("the routine '{slug}' is disabled{because}; enable it with update_routine (enabled = true), or in {file}")]
    Disabled {
        slug: Slug,
        /// Why, as the end of the sentence.
        because: String,
        file: String,
    },
    /// The routine's agent does not exist or cannot be read.
    #[error("the routine '{slug}' cannot run: {source}")]
    Agent {
        slug: Slug,
        /// What is wrong with its agent.
        source: AgentError,
    },
    /// The routine sets variables that its agent does not accept.
    #[error("the routine '{slug}' cannot run: {source}")]
    NotAccepted {
        slug: Slug,
        /// The variables, and what to do.
        source: NotAccepted,
    },
    /// The routine's runs cannot be submitted to Slurm.
    #[error("the routine '{slug}' cannot run on Slurm: {source}")]
    Placement { slug: Slug, source: PlacementError },
    /// The routine's options do not fit its agent, this home or this machine.
    #[error("the routine '{slug}' cannot run: {source}")]
    Options { slug: Slug, source: OptionError },
    /// The run that it was to go on from cannot be continued.
    #[error(transparent)]
    NotContinuable(#[from] NotContinuable),
    /// What was said about the run is refused.
    #[error(transparent)]
    Text(#[from] InvalidField),
    /// The system would not take the run's environment and arguments.
    #[error("the routine '{slug}' cannot run: {source}")]
    TooLong { slug: Slug, source: TooLong },
    /// A ceiling on cost needs an agent that reports its cost.
    #[error("the routine '{slug}' cannot run: {source}")]
    CostNotReported { slug: Slug, source: CostNotReported },
    /// The runs of the day, or their cost, are used up.
    #[error("nothing was started: {0}")]
    OverBudget(Box<OverBudget>),
    /// A run of the routine is alive.
    #[error(
        "the run '{run}' of this routine is alive{doubt}; stop it with stop_run (moadim-mcp stop {run}), or start another \
         beside it with overlap = \"allow\" (--overlap allow)"
    )]
    Overlapping {
        run: RunId,
        /// What is uncertain about it, in words.
        doubt: String,
    },
    /// The routine's prompt says nothing.
    #[error("the routine '{slug}' cannot run: {} is empty; write what the agent should do", path.display())]
    EmptyPrompt {
        slug: Slug,
        path: PathBuf,
        /// Whether it is so for longer than an editor needs to save it.
        is_certain: bool,
    },
    /// The routine was edited since it was read.
    #[error("nothing was started: the routine '{slug}' was changed at the same time; try again")]
    Changed { slug: Slug },
    /// So much of the trigger's time is over that a launch would not fit into the rest.
    #[error("nothing was started: preparing the run took {secs} s, which is too long; try again")]
    HeldUp { secs: u64 },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process holds the routines and does not let go.
    #[error("{0}; try again")]
    Locked(#[from] LockError),
    /// No run could be claimed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The system has no random numbers.
    #[error(transparent)]
    Cookie(#[from] NoCookie),
    /// The run was claimed, and its agent did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// How long a trigger takes at most, less what its own answer needs: it is to come within 5 s.
pub(super) const TRIGGER_TIMEOUT: Duration = Duration::from_millis(4_700);

/// How much of a trigger's time its launch needs: one that runs out of time leaves a run that failed.
pub(super) const LEAST_LAUNCH: Duration = Duration::from_millis(500);

/// The least time that a trigger waits for the routines' lock, however late it is.
const LEAST_LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a prompt may be empty because an editor is saving it.
const PROMPT_SAVED_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a trigger waits until another process has judged a run of its routine, and the pause between two looks.
const OTHER_JUDGE_TIMEOUT: Duration = Duration::from_secs(3);
const JUDGING_PAUSE: Duration = Duration::from_millis(20);

/// A run that is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub routine: Slug,
    pub if_alive: IfAlive,
    /// What this one run is about.
    pub text: Option<String>,
    /// When it was asked for.
    pub asked: Instant,
}

/// Starts a run of a routine, and returns when its agent has really been started, within 5 s of when it was asked for.
///
/// # Errors
/// Why it was not started. A launch that failed leaves a run that says so; anything before it leaves nothing.
pub fn trigger(context: &Context, request: Request) -> Result<RunId, TriggerError> {
    let Request { routine, if_alive, text, asked } = request;
    let (triggered, deadline) = (Moment::now(), asked + TRIGGER_TIMEOUT);
    let occasion = Occasion { origin: Origin::Call, text, continues: None };
    let plan = Plan::read(context, &routine, occasion, Instant::now() + PROMPT_SAVED_TIMEOUT)?;
    if Instant::now() + LEAST_LAUNCH > deadline {
        return Err(TriggerError::HeldUp { secs: asked.elapsed().as_secs() });
    }
    let claim = plan.claim(context, &triggered, if_alive, asked + OTHER_JUDGE_TIMEOUT)?;
    plan.start(context, claim, deadline)
}

/// All that is known before anything is written.
#[derive(Debug)]
pub struct Plan {
    routine: Routine,
    /// As it is written.
    prompt: String,
    occasion: Occasion,
    composed: Composed,
    agent: Agent,
    choice: Choice,
    environment: Environment,
    cookie: Cookie,
}

impl Plan {
    /// Reads what a run of a routine is made of, waiting until `saved_by` for a prompt that is being saved.
    ///
    /// # Errors
    /// No run may be started in this home, or the routine is disabled, gone or unreadable, or its agent is.
    pub fn read(context: &Context, slug: &Slug, occasion: Occasion, saved_by: Instant) -> Result<Self, TriggerError> {
        let home = &context.home;
        home.check_sole_and_lockable()?;
        context.program.check()?;
        let routine = store::load(home, slug)?;
        if !routine.definition.enabled {
            let file = store::definition_file(home, slug).display().to_string();
            let because = Ledger::read(home, slug).ok().and_then(|ledger| ledger.disabled_because);
            let because = because.map_or_else(String::new, |because| format!(" because {because}"));
            return Err(TriggerError::Disabled { slug: slug.clone(), because, file });
        }
        read_ahead(context, &routine.definition)?;
        let prompt = prompt::read_for_run(home, slug, saved_by)?.map_err(|EmptyPrompt { path, is_certain }| {
            TriggerError::EmptyPrompt { slug: slug.clone(), path, is_certain }
        })?;
        let agent = agent_of(context, &routine).map_err(|source| TriggerError::Agent { slug: slug.clone(), source })?;
        match (&occasion.text, &occasion.continues) {
            (Some(text), None) => check_text(text, &agent)?,
            (Some(text), Some(_)) => check_words(text)?,
            (None, _) => {}
        }
        check_cost_is_reported(context, slug, &routine.definition, &agent)
            .map_err(|source| TriggerError::CostNotReported { slug: slug.clone(), source })?;
        check_accepted(home, slug, routine.definition.env.keys(), &agent)
            .map_err(|source| TriggerError::NotAccepted { slug: slug.clone(), source })?;
        check_placement(context, &routine, &agent)
            .map_err(|source| TriggerError::Placement { slug: slug.clone(), source })?;
        let choice = choose_options(context, &agent, &routine.definition)
            .map_err(|source| TriggerError::Options { slug: slug.clone(), source })?;
        let composed = compose_prompt(context, &routine, &prompt, &agent, &choice, &occasion)?;
        let environment = check_composed(context, &routine, &composed, &agent, &choice)?;
        Ok(Self { routine, prompt, occasion, composed, agent, choice, environment, cookie: Cookie::random()? })
    }

    /// Claims a run once no other is alive, waiting until `judged_by` for those that are being judged.
    fn claim(
        &self,
        context: &Context,
        triggered: &Moment,
        if_alive: IfAlive,
        judged_by: Instant,
    ) -> Result<Claim, TriggerError> {
        let slug = &self.routine.slug;
        loop {
            let rest = judged_by.saturating_duration_since(Instant::now());
            let timeout = rest.clamp(LEAST_LOCK_TIMEOUT, ROUTINES_LOCK_TIMEOUT);
            let lock = FileLock::acquire(&context.home.routines_lock(), Mode::Exclusive, timeout)?;
            // Since it was read it may have been deleted, by a process that saw no run of it, or given another task or more trust.
            self.check_unchanged(context)?;
            match blocking_run(context, slug)? {
                Some((run, liveness)) if if_alive == IfAlive::Skip => {
                    if !matches!(liveness, Liveness::Judging(_)) || Instant::now() >= judged_by {
                        return Err(TriggerError::Overlapping { run, doubt: doubt_of(&liveness) });
                    }
                }
                _ => return self.claim_locked(context, triggered),
            }
            // A judge may need the lock to finish.
            drop(lock);
            std::thread::sleep(JUDGING_PAUSE);
        }
    }

    /// Makes sure that the routine is as it was read. The caller holds the routines' lock.
    ///
    /// # Errors
    /// It is not, or is gone.
    pub fn check_unchanged(&self, context: &Context) -> Result<(), TriggerError> {
        let Routine { slug, definition } = &self.routine;
        let is_as_read = store::load(&context.home, slug)?.definition == *definition
            && prompt::read(&context.home, slug).is_ok_and(|prompt| prompt == self.prompt);
        if is_as_read { Ok(()) } else { Err(TriggerError::Changed { slug: slug.clone() }) }
    }

    /// Makes sure that another run is within the day's budget. The caller holds the routines' lock until it has claimed that run.
    ///
    /// # Errors
    /// A ceiling is reached, or it is not known whether one is.
    pub fn check_budget(&self, context: &Context, now: UnixSeconds) -> Result<(), TriggerError> {
        let over = over_budget(context, &self.routine, now)?;
        over.map_or(Ok(()), |over| Err(TriggerError::OverBudget(Box::new(over))))
    }

    /// Claims a run whatever else is alive, unless the day's budget is used up. The caller holds the routines' lock.
    ///
    /// # Errors
    /// A ceiling is reached, the system refuses, or no second is free.
    pub fn claim_locked(&self, context: &Context, triggered: &Moment) -> Result<Claim, TriggerError> {
        self.check_budget(context, triggered.at)?;
        let machine = Machine::this();
        let root = context.home.root();
        let home = context.home.identity().map_err(|source| FileError::io("look at", root, source))?;
        let bounds = Bounds::decide(RoutineState::Present(&self.routine.definition), &context.config);
        let max_runtime_secs = bounds.max_runtime_secs;
        let job = job_order(context, &self.routine, &self.occasion.origin, max_runtime_secs)
            .map_err(|source| TriggerError::Placement { slug: self.routine.slug.clone(), source })?;
        let Environment { inherited, set, .. } = &self.environment;
        let missing_env: Vec<EnvName> =
            missing(&self.agent, |name| inherited.contains_key(name) || set.contains_key(name)).cloned().collect();
        let predecessor = self.occasion.continues.as_ref().map(|predecessor| &predecessor.outcome);
        let workbench_of =
            |id: &RunId| predecessor.map_or_else(|| id.clone(), |outcome| outcome.workbench_name().clone());
        let definition = &self.routine.definition;
        let manifest_of = |id: &RunId| {
            let name = workbench_of(id);
            let workbench = Workbench::named(&context.home, &name);
            Ok(Manifest {
                version: RECORD_VERSION,
                id: id.clone(),
                triggered: triggered.clone(),
                cookie: self.cookie,
                machine: machine.clone(),
                home: Some(home.clone()),
                max_runtime_secs: Some(max_runtime_secs),
                command: self.command(id, &workbench)?,
                session_host: context.session_host.kind,
                origin: self.occasion.origin.clone(),
                text: self.occasion.text.clone(),
                continues: predecessor.map(|outcome| outcome.id.clone()),
                workbench: Some(name).filter(|name| name != id),
                asks_for_report: self.composed.asks_for_report,
                // What it goes on with was prepared.
                repositories: if predecessor.is_some() { Vec::new() } else { definition.repositories.clone() },
                missing_env: missing_env.clone(),
                precheck: precheck(&workbench, id, definition, self.composed.precheck_slot.as_ref())
                    .filter(|_| predecessor.is_none()),
                verify: verify(&workbench, id, definition, &self.agent),
                job: job.clone(),
            })
        };
        let wanted = Wanted {
            routine: &self.routine.slug,
            from: triggered.at,
            environment: &self.environment,
            continues: predecessor,
        };
        Ok(claim(context, &wanted, manifest_of)?)
    }

    /// Puts what was answered where the agent finds it that reads no prompt, or whose own tool asked.
    fn pass_on_answer(&self, entry: &Entry, workbench: &Workbench) -> Result<(), FileError> {
        let Occasion { text: Some(text), continues: Some(before), .. } = &self.occasion else { return Ok(()) };
        if let Some(asked) = before.asked_by_tool() {
            entry.set_answer(&PersonsAnswer {
                id: asked.id.clone(),
                input: asked.input.clone(),
                text: text.clone(),
            })?;
        }
        // Scripts read it line by line.
        atomic_file::write_in_place(&workbench.answer_file(), format!("{text}\n").as_bytes()).map(drop)
    }

    /// Returns the command of a run in a workbench; one that is continued was set up.
    fn command(&self, id: &RunId, workbench: &Workbench) -> Result<AgentCommand, CommandError> {
        let session = self.occasion.continues.as_ref().and_then(|before| before.session_of(&self.agent));
        let command = command(id, workbench, &self.composed.text, session, &self.agent, &self.choice)?;
        let setup = if self.occasion.continues.is_some() { Vec::new() } else { command.setup.clone() };
        Ok(AgentCommand { setup, ..command })
    }

    /// Starts a claimed run, and returns when its agent has really been started.
    ///
    /// # Errors
    /// Why it was not, until `deadline`. The run is then recorded with the reason; where even that fails, as on a full disk,
    /// nothing is left of it.
    pub fn start(&self, context: &Context, claim: Claim, deadline: Instant) -> Result<RunId, TriggerError> {
        let workbench = claim.manifest.workbench(&context.home);
        let id = claim.entry.id().clone();
        let made = match &claim.manifest.continues {
            Some(predecessor) => take_over(&context.home, &workbench, predecessor),
            None => workbench.make(),
        };
        let filled = made
            .and_then(|()| fill(&workbench, &self.composed.text, self.agent.definition.output))
            .and_then(|()| self.pass_on_answer(&claim.entry, &workbench));
        if let Err(error) = filled {
            return Err(launch::fail(context, claim, error.to_string(), deadline).into());
        }
        launch::launch(context, claim, deadline)?;
        Ok(id)
    }
}

/// Checks that the system would take what a routine's runs are started with.
///
/// # Errors
/// An argument, a variable, or all together are too long, or a file of the agent cannot be read.
pub fn check_routine(
    context: &Context,
    routine: &Routine,
    prompt: &str,
    agent: &Agent,
    choice: &Choice,
) -> Result<(), TriggerError> {
    let composed = compose_prompt(context, routine, prompt, agent, choice, &Occasion::default())?;
    check_composed(context, routine, &composed, agent, choice).map(drop)
}

/// Does the same for a run, and returns its environment.
fn check_composed(
    context: &Context,
    Routine { slug, definition }: &Routine,
    composed: &Composed,
    agent: &Agent,
    choice: &Choice,
) -> Result<Environment, TriggerError> {
    let environment = compose(&context.home, agent, definition, choice)?;
    let id = RunId::new(slug.clone(), UnixSeconds::now());
    let workbench = Workbench::named(&context.home, &id);
    let command = command(&id, &workbench, &composed.text, None, agent, choice).map_err(ClaimError::from)?;
    let checked = argument_space::check(&environment, &command);
    checked.map_err(|source| TriggerError::TooLong { slug: slug.clone(), source })?;
    Ok(environment)
}

fn command(
    id: &RunId,
    workbench: &Workbench,
    prompt: &str,
    session_id: Option<&str>,
    agent: &Agent,
    choice: &Choice,
) -> Result<AgentCommand, CommandError> {
    let values = Placeholders {
        prompt,
        prompt_file: &workbench.prompt_file(),
        workbench: workbench.directory(),
        run: &id.to_string(),
        uuid: &random_uuid(),
        session_id,
    };
    AgentCommand::build(agent, choice, values)
}

fn agent_of(context: &Context, routine: &Routine) -> Result<Agent, AgentError> {
    let name: AgentName = routine.definition.agent.parse()?;
    Registry::load(&context.home).map_err(|error| AgentError::File(error.into()))?.get(&name)
}

/// Returns a run of the routine that is alive, or not known to be dead: one that is being judged only if there is no other.
fn blocking_run(context: &Context, slug: &Slug) -> Result<Option<(RunId, Liveness)>, FileError> {
    let looked = look(context, Entry::of_routine(&context.home, slug)?, Duration::ZERO);
    let unfinished = looked.into_iter().filter(|one| one.liveness != Liveness::Dead);
    let blocking = unfinished.min_by_key(|one| matches!(one.liveness, Liveness::Judging(_)));
    Ok(blocking.map(|one| (one.entry.id().clone(), one.liveness)))
}

/// Says what is uncertain about a run, ready to be appended.
fn doubt_of(liveness: &Liveness) -> String {
    match liveness {
        Liveness::Owned | Liveness::Unsupervised(_) | Liveness::Queued(_) | Liveness::Elsewhere(_) | Liveness::Dead => {
            String::new()
        }
        Liveness::Unknown(cause) | Liveness::Judging(cause) => format!(", or may be ({cause})"),
    }
}

fn fill(workbench: &Workbench, prompt: &str, output: OutputFormat) -> Result<(), FileError> {
    // A copy for an agent that does not outlive a power cut; the routine has the original.
    atomic_file::write_in_place(&workbench.prompt_file(), prompt.as_bytes())?;
    atomic_file::write_in_place(&workbench.log(), b"")?;
    if output != OutputFormat::Text {
        // What is printed on stderr must neither cut an event in two nor pass for one.
        atomic_file::write_in_place(&workbench.stderr_log(), b"")?;
        log::write_format(workbench, output)?;
    }
    Ok(())
}
