//! Ending a run that Slurm placed: its supervisor is asked, then Slurm ends all of its job. No process is touched from here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::check_job::{was_checked, withdraw_check};
use super::context::Context;
use super::end::{EndError, Ended, SUPERVISOR_MARGIN, record_dead};
use super::entry::Entry;
use super::home_machine;
use super::liveness::{self, JUDGE_LOCK_TIMEOUT, Judgement, Liveness};
use crate::engine::slurm::run_job_name;

/// The pause between two looks at the run, which may ask Slurm.
const PAUSE: Duration = Duration::from_millis(500);

/// The pause between two looks for the record of its end.
const RECORD_PAUSE: Duration = Duration::from_millis(20);

/// How much longer Slurm gets to end all of the job. What takes longer is finished by the watchdog.
const SLURM_MARGIN: Duration = Duration::from_secs(5);

/// What is asked of Slurm about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    /// TERM for its supervisor, which looks for a request on disk every second anyway.
    Wake,
    /// The end of all that is in it.
    End,
}

/// Decides what to ask for; a job that waits needs no time to end well.
fn request(liveness: &Liveness, is_late: bool) -> Option<Request> {
    match liveness {
        Liveness::Queued(_) => Some(Request::End),
        Liveness::Owned | Liveness::Elsewhere(_) | Liveness::Unsupervised(_) => {
            Some(if is_late { Request::End } else { Request::Wake })
        }
        Liveness::Dead | Liveness::Unknown(_) | Liveness::Judging(_) => None,
    }
}

/// Ends a run whose end is requested on disk, where its supervisor looks every second.
///
/// # Errors
/// It has not ended yet, and why.
pub(super) fn end(context: &Context, entry: &Entry) -> Result<Ended, EndError> {
    let asked = Instant::now();
    let patience = Duration::from_secs(context.config.kill_grace_secs) + SUPERVISOR_MARGIN;
    let mut requests = Requests::default();
    loop {
        // Close to the end, what Slurm said last has to do.
        let rest = (patience + SLURM_MARGIN).saturating_sub(asked.elapsed()).max(RECORD_PAUSE);
        let judged = liveness::judge(context, vec![entry.clone()], JUDGE_LOCK_TIMEOUT.min(rest)).pop();
        let Some(assessment) = judged else { return Ok(Ended::Finished) };
        let recorder = home_machine::owner(&context.home);
        let assessment = match recorder {
            Err(_) => assessment.let_go(),
            Ok(_) => match assessment.into_judgement() {
                Ok(judgement) => return Ok(record(context, judgement)),
                Err(assessment) => assessment.let_go(),
            },
        };
        if let Some(request) = request(&assessment.liveness, asked.elapsed() >= patience) {
            requests.make(context, entry, request, assessment.placed.open_jobs);
        }
        if asked.elapsed() >= patience + SLURM_MARGIN {
            let run = entry.id().clone();
            return match (assessment.liveness, recorder) {
                (Liveness::Dead, Err(another)) => Ok(Ended::Unrecorded(another.to_string())),
                (Liveness::Unknown(cause), _) => Err(EndError::Unconfirmed { run, cause }),
                (Liveness::Queued(cause) | Liveness::Judging(cause), _) => Err(EndError::Pending { run, cause }),
                _ => Err(EndError::Pending { run, cause: "Slurm is still ending its job".to_owned() }),
            };
        }
        let can_record = || recorder.is_ok() && entry.gone().is_ok_and(|gone| gone.is_some());
        let next = Instant::now() + PAUSE;
        while Instant::now() < next && entry.exists() && !can_record() {
            std::thread::sleep(RECORD_PAUSE);
        }
    }
}

/// Records its end, and then, without its locks, takes a check of it out of the queue.
fn record(context: &Context, judgement: Judgement) -> Ended {
    let run = judgement.entry.id().clone();
    let was_checked = was_checked(&judgement.entry);
    let ended = record_dead(context, &judgement);
    drop(judgement);
    if was_checked {
        withdraw_check(context, &run);
    }
    ended
}

/// How long to wait before a request that Slurm did not take is repeated.
const UNTIL_REPEATED: Duration = Duration::from_secs(5);

/// The requests that were made, when, and whether Slurm took them.
#[derive(Default)]
struct Requests(HashMap<(String, Request), (Instant, bool)>);

impl Requests {
    /// Makes a request about each of these jobs, once; what fails is tried again, and is no reason to stop waiting.
    fn make(&mut self, context: &Context, entry: &Entry, request: Request, jobs: Vec<String>) {
        let name = run_job_name(&entry.id().to_string());
        for job in jobs {
            let made = self.0.get(&(job.clone(), request));
            if made.is_some_and(|(at, was_taken)| *was_taken || at.elapsed() < UNTIL_REPEATED) {
                continue;
            }
            let answer = match request {
                Request::Wake => context.slurm().wake(&name, &job),
                Request::End => context.slurm().end(&name, &job),
            };
            if let Err(error) = &answer {
                tracing::warn!(job, %error, "Slurm did not take the request to end its job");
            }
            self.0.insert((job, request), (Instant::now(), answer.is_ok()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_asked_first_and_what_is_not_certain_is_left_alone() {
        let words = String::new;
        assert_eq!(request(&Liveness::Queued(words()), false), Some(Request::End));
        for alive in [Liveness::Owned, Liveness::Elsewhere(words())] {
            assert_eq!(request(&alive, false), Some(Request::Wake));
            assert_eq!(request(&alive, true), Some(Request::End));
        }
        for left_alone in [Liveness::Unknown(words()), Liveness::Judging(words()), Liveness::Dead] {
            assert_eq!(request(&left_alone, true), None);
        }
    }
}
