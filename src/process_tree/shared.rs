//! Work that serves everyone who asked for it before it began.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What many threads want at the same time, and one makes for all of them.
#[derive(Debug)]
pub(super) struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// How many were begun.
    begun: u64,
    is_under_way: bool,
    waiting: usize,
    /// The newest, by its number, while somebody may want it.
    latest: Option<(u64, Arc<T>)>,
}

impl<T> Shared<T> {
    pub(super) const fn new() -> Self {
        let state = State { begun: 0, is_under_way: false, waiting: 0, latest: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Returns one whose making began after this call. Who fails tells only its own caller; the others try by themselves.
    pub(super) fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut state = self.state();
        let earliest = state.begun + 1;
        state.waiting += 1;
        while state.is_under_way {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            let served =
                state.latest.as_ref().filter(|(number, _)| *number >= earliest).map(|(_, made)| Arc::clone(made));
            if let Some(made) = served {
                state.stop_waiting();
                return Ok(made);
            }
        }
        state.stop_waiting();
        state.begun += 1;
        state.is_under_way = true;
        let turn = Turn { shared: self, number: state.begun };
        drop(state);
        turn.end(make()?)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn stop_waiting(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.latest = None;
        }
    }
}

/// Lets the next one begin when it is dropped, however the work ended.
struct Turn<'a, T> {
    shared: &'a Shared<T>,
    number: u64,
}

impl<T> Turn<'_, T> {
    fn end<E>(self, made: T) -> Result<Arc<T>, E> {
        let made = Arc::new(made);
        let mut state = self.shared.state();
        if state.waiting > 0 {
            state.latest = Some((self.number, Arc::clone(&made)));
        }
        drop(state);
        Ok(made)
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.shared.state().is_under_way = false;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn many_who_ask_at_once_share_what_began_after_they_asked() {
        let shared = Shared::new();
        let (made, clock) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    let asked = clock.fetch_add(1, Ordering::SeqCst);
                    let begun = shared.get(|| {
                        let begun = clock.fetch_add(1, Ordering::SeqCst);
                        made.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(100));
                        Ok::<_, ()>(begun)
                    });
                    assert!(*begun.unwrap() > asked);
                });
            }
        });
        let made = made.into_inner();
        assert!((1..=10).contains(&made), "{made} for 50 who asked at once");
        assert!(shared.state().latest.is_none(), "nobody wants it any more");
    }

    #[test]
    fn a_failure_is_told_to_one_alone_and_a_panic_lets_the_next_begin() {
        let shared = Shared::new();
        std::thread::scope(|scope| {
            for number in 0..10 {
                let shared = &shared;
                scope.spawn(move || {
                    let got = shared.get(|| if number % 2 == 0 { Err(number) } else { Ok(number) });
                    // Another one's failure never.
                    assert!(got.map_or_else(|error| error == number, |made| *made % 2 == 1));
                });
            }
        });
        let panics = || shared.get::<()>(|| panic!("in the middle"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(*shared.get(|| Ok::<_, ()>(7)).unwrap(), 7);
    }
}
