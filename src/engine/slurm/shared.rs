//! One answer for all callers of a process, so that a busy controller is asked once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::ClientError;
use crate::clock::UnixSeconds;

/// After a failure the question is not asked again for so long, so that calls answer while the controller hangs.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// A caller that waits for less than this says nothing to the others by waiting in vain.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// What Slurm answered, and when.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// When it was asked: what was submitted later may be missing.
    pub(super) asked: Instant,
    pub(super) asked_at: UnixSeconds,
    pub(super) answered: Instant,
    /// The answer, or why there is none.
    pub result: Result<T, ClientError>,
}

impl<T> Answer<T> {
    /// Returns what `ask` answers, with the time before and after it.
    fn to(ask: impl FnOnce() -> Result<T, ClientError>) -> Self {
        let (asked, asked_at) = (Instant::now(), UnixSeconds::now());
        let result = ask();
        Self { asked, asked_at, answered: Instant::now(), result }
    }

    /// Makes one of a question that was not asked, or whose answer nobody waited for.
    pub(super) fn missing(error: ClientError) -> Self {
        Self::to(|| Err(error))
    }

    fn is_fresh(&self, max_age: Duration) -> bool {
        let max_age = if self.result.is_ok() { max_age } else { max_age.max(PAUSE_AFTER_FAILURE) };
        self.answered.elapsed() <= max_age
    }
}

#[derive(Debug)]
struct State<T> {
    last: Option<Answer<T>>,
    /// Whether somebody is asking.
    is_asking: bool,
}

/// The last answer to one question.
#[derive(Debug)]
pub(super) struct Shared<T> {
    state: Mutex<State<T>>,
    answered: Condvar,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { last: None, is_asking: false }), answered: Condvar::new() }
    }
}

impl<T: Clone> Shared<T> {
    /// Returns the last answer, if there was one.
    pub(super) fn last(&self) -> Option<Answer<T>> {
        self.lock().last.clone()
    }

    /// Returns the last answer if it is fresh enough, else that of `program`, which `ask` runs. Of several callers one asks, without
    /// a lock, and the others wait for its answer, until the deadline at most.
    pub(super) fn get(
        &self,
        max_age: Duration,
        deadline: Instant,
        program: &'static str,
        ask: impl FnOnce() -> Result<T, ClientError>,
    ) -> Answer<T> {
        let mut state = self.lock();
        let fresh = |state: &State<T>| state.last.clone().filter(|last| last.is_fresh(max_age));
        if let Some(last) = fresh(&state) {
            return last;
        }
        if state.is_asking {
            let timeout = deadline.saturating_duration_since(Instant::now());
            let waited = self.answered.wait_timeout_while(state, timeout, |state| state.is_asking);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if let Some(last) = fresh(&state) {
                return last;
            }
            if state.is_asking {
                return Answer::missing(ClientError::TimedOut(program));
            }
        }
        state.is_asking = true;
        drop(state);
        let asking = Asking(self);
        let had_time = deadline >= Instant::now() + LEAST_TIME;
        let answer = Answer::to(ask);
        if answer.result.is_ok() || had_time {
            self.lock().last = Some(answer.clone());
        }
        drop(asking);
        answer
    }

    /// Notes that Slurm did not answer another question: the next to ask this one would wait in vain. `since` is when that was asked.
    pub(super) fn failed(&self, error: ClientError, since: Instant) {
        let mut state = self.lock();
        let has_answered = |last: &Answer<T>| last.result.is_ok() && last.answered >= since;
        if !state.last.as_ref().is_some_and(has_answered) {
            state.last = Some(Answer::missing(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the others go on, also after a panic.
struct Asking<'a, T: Clone>(&'a Shared<T>);

impl<T: Clone> Drop for Asking<'_, T> {
    fn drop(&mut self) {
        self.0.lock().is_asking = false;
        self.0.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(600);
    const NO: ClientError = ClientError::TimedOut("squeue");

    fn get(shared: &Shared<u32>, max_age: Duration, answer: Result<u32, ClientError>) -> Result<u32, ClientError> {
        shared.get(max_age, Instant::now() + LONG, "squeue", || answer).result
    }

    #[test]
    fn a_caller_that_waits_in_vain_for_a_moment_leaves_the_answer_to_others() {
        let shared = Shared::default();
        let soon = Instant::now() + LEAST_TIME / 2;
        assert_eq!(shared.get(NOW, soon, "squeue", || Err(NO)).result, Err(NO));
        assert_eq!(get(&shared, NOW, Ok(1)), Ok(1));
    }

    #[test]
    fn one_of_many_asks_and_all_get_the_answer() {
        let (shared, asked) = (Shared::default(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let deadline = Instant::now() + Duration::from_secs(20);
                    let answer = shared.get(LONG, deadline, "squeue", || Ok(asked.fetch_add(1, Ordering::Relaxed)));
                    assert_eq!(answer.result, Ok(0));
                });
            }
        });
        assert_eq!(asked.into_inner(), 1);
    }

    #[test]
    fn while_one_asks_the_others_wait_until_their_deadline_and_see_the_last_answer() {
        let shared = Shared::default();
        let answer = shared.get(NOW, Instant::now(), "squeue", || {
            assert!(shared.last().is_none(), "the one that asks holds no lock");
            assert_eq!(shared.get(LONG, Instant::now(), "squeue", || Ok(2)).result, Err(NO));
            Ok(1)
        });
        assert_eq!(answer.result, Ok(1));
        assert_eq!(shared.last().unwrap().result, Ok(1));
    }

    #[test]
    fn an_answer_holds_as_long_as_a_caller_says_and_a_failure_for_a_while() {
        let shared = Shared::default();
        assert_eq!(get(&shared, NOW, Ok(1)), Ok(1));
        assert_eq!(get(&shared, LONG, Ok(2)), Ok(1));
        assert_eq!(get(&shared, NOW, Err(NO)), Err(NO));
        assert_eq!(get(&shared, NOW, Ok(3)), Err(NO), "it is not asked again at once");
    }

    #[test]
    fn another_question_that_failed_counts_unless_this_one_was_answered_meanwhile() {
        let shared = Shared::default();
        let before = Instant::now();
        assert_eq!(get(&shared, NOW, Ok(1)), Ok(1));
        shared.failed(NO, before);
        assert_eq!(get(&shared, LONG, Ok(2)), Ok(1));
        shared.failed(NO, Instant::now() + LONG);
        assert_eq!(get(&shared, LONG, Ok(2)), Err(NO));
    }
}
