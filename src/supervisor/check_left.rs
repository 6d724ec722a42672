//! The job that looks on a node for what is left of a run whose supervisor is gone, and ends it: nobody else can see it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::job;
use crate::clock::Moment;
use crate::home::Home;
use crate::home::config::Config;
use crate::process_tree::names;
use crate::run::context::{Context, Program};
use crate::run::end::end_on_this_node;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::liveness::{Liveness, judge_on_node};
use crate::run::record::{Gone, Machine};

/// How long another judge is waited for.
const JUDGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends what is left of a run on this node, and attests that nothing is. A run that has an owner is left alone.
///
/// # Errors
/// It could not be ended, or not be judged here.
pub fn check_left(root: PathBuf, id: &RunId) -> anyhow::Result<()> {
    let home = Home::open(root)?;
    let config = Config::load(&home.config_file()).unwrap_or_default();
    let context = Context::of_supervisor(home, config, Program::current().context("the program cannot be found")?);
    let entry = Entry::of(&context.home, id);
    let node = job::of_this_process()?.node;
    let taken = entry.supervisor_on_node()?.and_then(|taken| taken.job);
    if taken.as_ref().is_none_or(|job| job.node != node) {
        bail!("cannot judge the run {id} here: it was on another node");
    }
    loop {
        let Some(assessment) = judge_on_node(&context, entry.clone(), JUDGE_TIMEOUT) else { return Ok(()) };
        match (assessment.liveness, assessment.manifest) {
            // Its supervisor's own word has an outcome.
            (Liveness::Dead, _) if entry.gone()?.is_some() => return Ok(()),
            (Liveness::Dead, _) => {
                let gone = Gone { machine: Machine::this(), at: Moment::now(), has_outcome: false };
                return Ok(entry.set_gone(&gone)?);
            }
            (Liveness::Unsupervised(_), Ok(manifest)) => {
                let survivors = end_on_this_node(&context, &entry, &manifest)?;
                if !survivors.is_empty() {
                    bail!("these processes of the run {id} could not be ended: {}", names(&survivors));
                }
            }
            (Liveness::Unknown(cause) | Liveness::Judging(cause), _) => bail!("cannot judge the run {id}: {cause}"),
            (_, Err(error)) => return Err(error.into()),
            // Its supervisor is alive.
            _ => return Ok(()),
        }
    }
}
