//! Ending a run that Slurm placed: its supervisor is asked, then Slurm ends all of its job. No process is touched from here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::context::Context;
use super::end::{EndError, Ended, SUPERVISOR_MARGIN};
use super::entry::Entry;
use super::liveness::{self, JUDGE_LOCK_TIMEOUT, Liveness};
use super::recording::record_abandoned;
use crate::engine::slurm::run_job_name;

/// The pause between two looks at the run, which may ask Slurm.
const PAUSE: Duration = Duration::from_millis(500);

/// The pause between two looks for the record of its end.
const RECORD_PAUSE: Duration = Duration::from_millis(20);

/// How much longer Slurm gets to end all of the job. What takes longer is finished by the watchdog.
const SLURM_MARGIN: Duration = Duration::from_secs(5);

/// Ends a run whose end is requested on disk, where its supervisor looks every second.
///
/// # Errors
/// It has not ended yet, and why.
pub(super) fn end(context: &Context, entry: &Entry) -> Result<Ended, EndError> {
    let name = run_job_name(&entry.id().to_string());
    let asked = Instant::now();
    let patience = Duration::from_secs(context.config.kill_grace_secs) + SUPERVISOR_MARGIN;
    let (mut woken, mut ended) = (HashMap::new(), HashMap::new());
    loop {
        let judged = liveness::judge(context, vec![entry.clone()], JUDGE_LOCK_TIMEOUT).pop();
        let Some(assessment) = judged else { return Ok(Ended::Finished) };
        let jobs = assessment.placed.open_jobs.clone();
        let is_late = asked.elapsed() >= patience;
        let still = match assessment.liveness.clone() {
            Liveness::Dead => {
                let recorded = assessment.into_judgement().map(|judgement| record_abandoned(context, &judgement));
                return match recorded {
                    Some(Err(error)) => Ok(Ended::Unrecorded(error.to_string())),
                    Some(Ok(_)) | None => Ok(Ended::Finished),
                };
            }
            Liveness::Queued(why) => {
                drop(assessment);
                tell(jobs, &mut ended, |job| context.slurm().end(&name, job));
                why
            }
            Liveness::Owned | Liveness::Elsewhere(_) | Liveness::Unsupervised(_) => {
                drop(assessment);
                if is_late {
                    tell(jobs, &mut ended, |job| context.slurm().end(&name, job));
                } else {
                    tell(jobs, &mut woken, |job| context.slurm().wake(&name, job));
                }
                "Slurm is still ending its job".to_owned()
            }
            Liveness::Unknown(cause) | Liveness::Judging(cause) => {
                drop(assessment);
                cause
            }
        };
        if asked.elapsed() >= patience + SLURM_MARGIN {
            return Err(EndError::Pending { run: entry.id().clone(), cause: still });
        }
        let next = Instant::now() + PAUSE;
        while Instant::now() < next && entry.exists() && !entry.gone().is_ok_and(|gone| gone.is_some()) {
            std::thread::sleep(RECORD_PAUSE);
        }
    }
}

/// How long to wait before a request that Slurm did not take is repeated.
const UNTIL_TOLD_AGAIN: Duration = Duration::from_secs(5);

/// Tells Slurm about jobs, each once; what fails is tried again, and is no reason to stop waiting.
fn tell<E: std::fmt::Display>(
    jobs: Vec<String>,
    told: &mut HashMap<String, (Instant, bool)>,
    tell: impl Fn(&str) -> Result<(), E>,
) {
    for job in jobs {
        if told.get(&job).is_some_and(|(at, took)| *took || at.elapsed() < UNTIL_TOLD_AGAIN) {
            continue;
        }
        let answer = tell(&job);
        if let Err(error) = &answer {
            tracing::warn!(job, %error, "Slurm did not take the request to end its job");
        }
        told.insert(job, (Instant::now(), answer.is_ok()));
    }
}
