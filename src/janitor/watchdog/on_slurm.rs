//! What a watchdog pass does about runs on Slurm beside ending and recording them.

use std::time::{Duration, Instant};

use super::{Failed, failed};
use crate::engine::slurm::{Job, run_job_name};
use crate::home::Home;
use crate::run::check_job::due_check;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::liveness::Assessment;

/// How long the end of a run's job is waited for. Slurm hears of it a moment after the run's own, and may tell more: that it took too
/// much memory.
const JOB_END_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two looks for it.
const JOB_END_PAUSE: Duration = Duration::from_millis(500);

/// Returns the name and the token of a dead run's job that Slurm still called alive.
pub(super) fn ending_job(assessment: &Assessment) -> Option<(String, String)> {
    let order = assessment.manifest.as_ref().ok()?.job.as_ref()?;
    let is_ending = assessment.placed.job.is_some() && assessment.placed.end.is_none();
    is_ending.then(|| (run_job_name(&assessment.entry.id().to_string()), order.token.clone()))
}

/// Waits until these jobs are over, and not for long.
pub(super) fn await_ends_of_jobs(context: &Context, mut jobs: Vec<(String, String)>) {
    let until = Instant::now() + JOB_END_TIMEOUT;
    while !jobs.is_empty() && Instant::now() < until {
        let Ok(seen) = context.slurm().look(Duration::ZERO).result else { return };
        jobs.retain(|(name, token)| !seen.of(name, token).iter().all(Job::is_over));
        if !jobs.is_empty() {
            std::thread::sleep(JOB_END_PAUSE);
        }
    }
}

/// How many checks one pass submits: each may take seconds.
const CHECKS_PER_PASS: usize = 4;

/// The checks of one pass.
#[derive(Default)]
pub(super) struct Checks {
    submitted: usize,
}

impl Checks {
    /// Notes how the job of a run ended, and has Slurm look on its node for what is left of it, if only that can tell; returns what
    /// failed.
    pub(super) fn look_after(&mut self, context: &Context, assessment: &Assessment) -> Option<Failed> {
        let entry = &assessment.entry;
        if let Some(job) = &assessment.placed.unnoted_end {
            entry.set_job_end(job);
        }
        let node = assessment.placed.needs_check.as_ref()?;
        let order = assessment.manifest.as_ref().ok()?.job.as_ref()?;
        let due = due_check(entry).filter(|_| self.submitted < CHECKS_PER_PASS)?;
        self.submitted += 1;
        match due.submit(context, entry, order, node) {
            Ok(()) => {
                tracing::info!(run = %entry.id(), node, "submitted a check job");
                None
            }
            Err(error) => {
                let error = format!("cannot submit a check job to {node}: {error}");
                Some(failed(context, entry.id().clone(), error))
            }
        }
    }
}

/// Returns the runs that have ended on their nodes and wait to be recorded here. It costs one look at each entry.
pub(in crate::janitor) fn ended_elsewhere(home: &Home) -> Vec<RunId> {
    let mut entries = Entry::list(home).unwrap_or_default();
    entries.retain(|entry| entry.gone().is_ok_and(|gone| gone.is_some()));
    entries.iter().map(|entry| entry.id().clone()).collect()
}
