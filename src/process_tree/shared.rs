//! Work that serves everyone who asked for it before it began.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What many threads want at the same time, and one makes for all of them.
#[derive(Debug)]
pub(super) struct Shared<T> {
    /// The newest, and when its making began, while threads wait that may want it.
    latest: Mutex<Option<(Instant, Arc<T>)>>,
    waiting: AtomicUsize,
}

impl<T> Shared<T> {
    pub(super) const fn new() -> Self {
        Self { latest: Mutex::new(None), waiting: AtomicUsize::new(0) }
    }

    /// Returns one whose making began after this call. Only the caller that made it sees an error; the others try by themselves.
    pub(super) fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let asked = Instant::now();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // Held while it is made: those that wait here want just that.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let others_wait = self.waiting.fetch_sub(1, Ordering::SeqCst) > 1;
        let (began, made) = match latest.take() {
            Some((began, made)) if began > asked => (began, made),
            _ => (Instant::now(), Arc::new(make()?)),
        };
        if others_wait {
            *latest = Some((began, Arc::clone(&made)));
        }
        Ok(made)
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
        assert!(shared.latest.lock().unwrap().is_none(), "nobody wants it any more");
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
