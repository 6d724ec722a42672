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
