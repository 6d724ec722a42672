//! What Slurm last answered, and since when it has not known which run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::jobs::Jobs;
use super::shared::{Answer, Shared};
use super::survey::Survey;
use crate::clock::UnixSeconds;

/// A look at all jobs of the user.
pub type Look = Answer<Arc<Jobs>>;

/// How long it is kept that a run is absent: what follows from that is decided long before.
const ABSENCE_KEPT: Duration = Duration::from_secs(3600);

/// The looks of a process.
#[derive(Debug, Default)]
pub struct Looks {
    pub(super) jobs: Shared<Arc<Jobs>>,
    pub(super) survey: Shared<Survey>,
    /// Since when each run is absent from the answers, by the name of its job.
    absent_since: Mutex<HashMap<String, Instant>>,
}

impl Looks {
    /// Returns for how long answers have lacked the job of this name, as far as this process has asked since it was submitted.
    pub(super) fn absent_secs(&self, name: &str, look: &Look, submitted: UnixSeconds) -> u64 {
        if look.asked_at <= submitted {
            return 0;
        }
        let mut absent_since = self.absent_since();
        absent_since.retain(|_, since| since.elapsed() < ABSENCE_KEPT);
        let since = *absent_since.entry(name.to_owned()).or_insert(look.asked);
        look.asked.saturating_duration_since(since).as_secs()
    }

    /// Notes that an answer had the job of this name.
    pub(super) fn was_seen(&self, name: &str) {
        self.absent_since().remove(name);
    }

    fn absent_since(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.absent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_counts_from_the_first_answer_without_the_run_that_was_asked_for_since_its_submission() {
        let looks = Looks::default();
        let first = looks.jobs.get(Duration::ZERO, Instant::now(), "squeue", || Ok(Arc::default()));
        let look = |secs, asked_at| Look {
            asked: first.asked + Duration::from_secs(secs),
            asked_at: UnixSeconds(asked_at),
            ..first.clone()
        };
        let submitted = UnixSeconds(1_000);
        assert_eq!(looks.absent_secs("n", &look(0, 1_000), submitted), 0, "it may have been asked before");
        assert_eq!(looks.absent_secs("n", &look(100, 1_100), submitted), 0, "the first that counts");
        assert_eq!(looks.absent_secs("n", &look(161, 1_161), submitted), 61);
        looks.was_seen("n");
        assert_eq!(looks.absent_secs("n", &look(161, 1_161), submitted), 0);
    }
}
