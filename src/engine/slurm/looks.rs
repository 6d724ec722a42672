//! What Slurm last answered, shared by all calls of a process, so that a busy controller is asked once.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::jobs::Jobs;
use super::survey::Surveys;
use crate::clock::UnixSeconds;

/// How old a look may be that a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Whatever was seen last; nothing is asked while nobody may wait.
    Known,
    /// At most this old.
    Within(Duration),
}

/// After a failure the answer is not asked for again for so long, so that calls answer while the controller hangs.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// One look at all jobs of the user.
#[derive(Debug, Clone)]
pub struct Look {
    /// When it was asked: what was submitted later may be missing.
    at: Instant,
    asked_at: UnixSeconds,
    answered: Instant,
    /// What was seen, or why nothing was.
    pub answer: Result<Arc<Jobs>, String>,
}

impl Look {
    fn of(at: Instant, asked_at: UnixSeconds, answer: Result<Arc<Jobs>, String>) -> Self {
        Self { at, asked_at, answered: Instant::now(), answer }
    }

    fn is_fresh(&self, freshness: Freshness) -> bool {
        match freshness {
            Freshness::Known => true,
            Freshness::Within(age) if self.answer.is_ok() => self.answered.elapsed() <= age,
            Freshness::Within(age) => self.answered.elapsed() <= age.max(PAUSE_AFTER_FAILURE),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    look: Option<Look>,
    /// Whether somebody is asking.
    is_asking: bool,
    /// Since when each run is absent from the answers, by the name of its job.
    absent_since: HashMap<String, Instant>,
}

/// The looks of a process.
#[derive(Debug, Default)]
pub struct Looks {
    state: Mutex<State>,
    answered: Condvar,
    pub(super) surveys: Surveys,
}

impl Looks {
    /// Returns a look that is fresh enough, by way of `ask` if there is none. Of several callers one asks, and the others wait for its
    /// answer, for `timeout` at most.
    pub(super) fn get(
        &self,
        freshness: Freshness,
        timeout: Duration,
        ask: impl FnOnce() -> Result<Jobs, String>,
    ) -> Result<Look, String> {
        const NOT_ASKED: &str = "Slurm was not asked yet";
        let mut state = self.lock();
        let is_fresh = |state: &State| state.look.as_ref().is_some_and(|look| look.is_fresh(freshness));
        if state.is_asking && freshness != Freshness::Known && !is_fresh(&state) {
            state = self
                .answered
                .wait_timeout_while(state, timeout, |state| state.is_asking)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        match &state.look {
            Some(look) if look.is_fresh(freshness) => return Ok(look.clone()),
            None if freshness == Freshness::Known => return Err(NOT_ASKED.to_owned()),
            _ if state.is_asking => return Err("Slurm does not answer".to_owned()),
            _ => state.is_asking = true,
        }
        drop(state);
        let asking = Asking(self);
        let (at, asked_at) = (Instant::now(), UnixSeconds::now());
        let look = Look::of(at, asked_at, ask().map(Arc::new));
        self.lock().look = Some(look.clone());
        drop(asking);
        Ok(look)
    }

    /// Notes that Slurm did not answer another question: the next to ask would wait in vain.
    pub(super) fn did_not_answer(&self, cause: &str) {
        self.lock().look = Some(Look::of(Instant::now(), UnixSeconds::now(), Err(cause.to_owned())));
    }

    /// Returns for how long answers have lacked the job of this name, as far as this process has asked since it was submitted.
    pub(super) fn absent_secs(&self, name: &str, look: &Look, submitted: UnixSeconds) -> u64 {
        if look.asked_at <= submitted {
            return 0;
        }
        let mut state = self.lock();
        let since = *state.absent_since.entry(name.to_owned()).or_insert(look.at);
        look.at.saturating_duration_since(since).as_secs()
    }

    /// Notes that an answer had the job of this name.
    pub(super) fn was_seen(&self, name: &str) {
        self.lock().absent_since.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the others go on, also after a panic.
struct Asking<'a>(&'a Looks);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().is_asking = false;
        self.0.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const NOW: Freshness = Freshness::Within(Duration::ZERO);
    const RECENT: Freshness = Freshness::Within(Duration::from_secs(600));

    #[test]
    fn one_of_many_asks_and_all_get_the_answer() {
        let (looks, asked) = (Looks::default(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let ask = || {
                        asked.fetch_add(1, Ordering::Relaxed);
                        Ok(Jobs::default())
                    };
                    assert!(looks.get(RECENT, Duration::from_secs(20), ask).unwrap().answer.is_ok());
                });
            }
        });
        assert_eq!(asked.into_inner(), 1);
    }

    #[test]
    fn a_failure_is_known_for_a_while_and_an_answer_as_long_as_asked_for() {
        let looks = Looks::default();
        let get = |freshness, answer| looks.get(freshness, Duration::ZERO, || answer).map(|look| look.answer.is_ok());
        assert!(get(Freshness::Known, Ok(Jobs::default())).unwrap_err().contains("not asked"));
        assert_eq!(get(NOW, Err("no".to_owned())), Ok(false));
        assert_eq!(get(NOW, Ok(Jobs::default())), Ok(false), "not asked again at once");
        let looks = Looks::default();
        let get = |freshness, answer| looks.get(freshness, Duration::ZERO, || answer).map(|look| look.answer.is_ok());
        assert_eq!(get(NOW, Ok(Jobs::default())), Ok(true));
        assert_eq!(get(RECENT, Err("no".to_owned())), Ok(true));
        assert_eq!(get(NOW, Err("no".to_owned())), Ok(false));
        assert_eq!(get(Freshness::Known, Ok(Jobs::default())), Ok(false));
    }

    #[test]
    fn absence_counts_from_the_first_answer_without_the_run_that_was_asked_for_since_its_submission() {
        let looks = Looks::default();
        let look = |secs, asked_at| {
            let at = Instant::now() + Duration::from_secs(secs);
            Look { at, ..Look::of(at, UnixSeconds(asked_at), Ok(Arc::default())) }
        };
        let submitted = UnixSeconds(1_000);
        assert_eq!(looks.absent_secs("n", &look(0, 1_000), submitted), 0, "it may have been asked before");
        assert_eq!(looks.absent_secs("n", &look(100, 1_100), submitted), 0, "the first that counts");
        let later = looks.absent_secs("n", &look(161, 1_161), submitted);
        assert!((60..=61).contains(&later), "{later}");
        looks.was_seen("n");
        assert_eq!(looks.absent_secs("n", &look(161, 1_161), submitted), 0);
    }
}
