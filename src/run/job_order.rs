//! What a run is submitted to Slurm with, decided at its trigger.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::context::Context;
use super::entry::Entry;
use super::home_machine::{self, NotHere};
use super::on_disk::ids_with_workbench;
use super::outcome_file::read_outcome;
use super::record::{JobOrder, Origin};
use super::status::Status;
use super::workbench::Workbench;
use crate::agent::Agent;
use crate::home::atomic_file::FileError;
use crate::home::config::{Config, EngineKind, is_slurm_name};
use crate::random_token::random_token;
use crate::routine::invalid_field::InvalidField;
use crate::routine::model::Routine;

/// A run cannot be submitted to Slurm.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// It asks for more than the home allows.
    #[error(transparent)]
    Resources(#[from] InvalidField),
    #[error(
        "its agent needs a terminal (terminal = true), which runs on Slurm do not have yet; set engine = \"local\""
    )]
    Terminal,
    #[error(
        "{unfinished} runs wait or are alive on Slurm, and slurm_max_jobs in config.toml is {max}; wait, stop some, or raise it"
    )]
    TooMany { unfinished: usize, max: u64 },
    #[error(transparent)]
    File(#[from] FileError),
    /// Another machine records, and this run would take place here.
    #[error(
        "it would run on this machine ({here}), and {owner} schedules and records for this home; trigger it there, or if {owner} does \
         not work for it any more, remove {}", path.display()
    )]
    AnotherMachine { here: String, owner: String, path: PathBuf },
    #[error("the system gave no random bytes: {0}")]
    NoToken(#[from] getrandom::Error),
}

/// Returns where a routine's runs take place.
pub(crate) fn engine_of(routine: &Routine, config: &Config) -> EngineKind {
    routine.definition.engine.unwrap_or(config.engine)
}

/// Checks, before anything is written, that a run of the routine can be submitted, if it goes to Slurm.
///
/// # Errors
/// Why it cannot.
pub(super) fn check_placement(context: &Context, routine: &Routine, agent: &Agent) -> Result<(), PlacementError> {
    if engine_of(routine, &context.config) == EngineKind::Local {
        return Ok(());
    }
    if agent.definition.terminal {
        return Err(PlacementError::Terminal);
    }
    Ok(routine.definition.resources.check_allowed(&context.config)?)
}

/// Decides what a run is submitted with; `None` if it runs on this machine. The caller holds the routines' lock.
///
/// # Errors
/// So many runs wait or are alive on Slurm already that another is refused; or it would run here, where nobody may record it.
pub(super) fn job_order(
    context: &Context,
    routine: &Routine,
    origin: &Origin,
    max_runtime_secs: u64,
) -> Result<Option<JobOrder>, PlacementError> {
    let config = &context.config;
    if engine_of(routine, config) == EngineKind::Local {
        return match home_machine::owner(&context.home) {
            Err(NotHere::Theirs { owner, here, path, .. }) => Err(PlacementError::AnotherMachine { here, owner, path }),
            Err(NotHere::File(error)) => Err(error.into()),
            Ok(_) => Ok(None),
        };
    }
    let unfinished = Entry::list(&context.home)?.iter().filter(|entry| is_on_slurm(entry)).count();
    if unfinished as u64 >= config.slurm_max_jobs {
        return Err(PlacementError::TooMany { unfinished, max: config.slurm_max_jobs });
    }
    let resources = routine.definition.resources.clone().with_defaults(config);
    let limit_secs = max_runtime_secs.saturating_add(config.kill_grace_secs + LIMIT_ALLOWANCE_SECS);
    Ok(Some(JobOrder {
        token: random_token()?,
        resources,
        excluded: excluded_nodes(context, routine, origin),
        limit_secs: limit_secs.next_multiple_of(60),
    }))
}

/// How much longer than its bound and grace Slurm lets a run go on. The supervisor ends it, and Slurm only where that is stuck. The
/// supervisor may take it a minute after its job has started, and Slurm sends TERM a minute before the limit, or two.
const LIMIT_ALLOWANCE_SECS: u64 = 240;

/// Whether an unfinished run was submitted to Slurm.
pub(crate) fn is_on_slurm(entry: &Entry) -> bool {
    entry.manifest().is_ok_and(|manifest| manifest.is_on_slurm())
}

/// How many of a routine's newest workbenches are searched for earlier attempts.
const SEARCHED_WORKBENCHES: usize = 32;

/// Returns the nodes on which earlier attempts were interrupted: a node that failed once may do so again. Workbenches that are gone are
/// no loss: the run may then be placed there again.
fn excluded_nodes(context: &Context, routine: &Routine, origin: &Origin) -> Vec<String> {
    let Origin::Retry { of, .. } = origin else { return Vec::new() };
    let mut ids = ids_with_workbench(&context.home).unwrap_or_default();
    ids.retain(|id| *id.routine() == routine.slug);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let node = |id| {
        let outcome = read_outcome(&Workbench::of(&context.home, &id), &id).ok()?;
        let is_attempt = outcome.origin.attempt_of(&id).0 == of && outcome.status == Status::Interrupted;
        outcome.job.filter(|_| is_attempt)?.node.filter(|node| is_slurm_name(node))
    };
    let nodes: BTreeSet<String> = ids.into_iter().take(SEARCHED_WORKBENCHES).filter_map(node).collect();
    nodes.into_iter().collect()
}
