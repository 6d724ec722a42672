//! Computing again only what has changed, by cheap marks of what it was made from.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::UnixSeconds;

/// Until when something holds that does not change with the time.
pub(super) const END: UnixSeconds = UnixSeconds(u64::MAX);

/// Something that stays as it is while its mark does, and until a time.
#[derive(Debug)]
pub(super) struct Kept<T> {
    value: Option<T>,
    mark: Option<u64>,
    until: UnixSeconds,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: None, mark: None, until: END }
    }
}

impl<T> Kept<T> {
    /// Returns it, made again by `make` if that is necessary.
    ///
    /// # Errors
    /// Those of `make`; then it stays what it was.
    pub(super) fn get<E>(
        &mut self,
        mark: Option<u64>,
        now: UnixSeconds,
        make: impl FnOnce() -> Result<(T, UnixSeconds), E>,
    ) -> Result<&T, E> {
        let fresh = match self.value.take() {
            Some(value) if mark.is_some() && mark == self.mark && now < self.until => value,
            before => match make() {
                Ok((value, until)) => {
                    (self.mark, self.until) = (mark, until);
                    value
                }
                Err(error) => {
                    self.value = before;
                    self.mark = None;
                    return Err(error);
                }
            },
        };
        Ok(self.value.insert(fresh))
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

/// How old something gets before it is computed again although no mark shows a change.
const MAX_AGE: Duration = Duration::from_secs(60);
/// The shortest pause between two computations.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// At most this part of the time is spent on a computation.
const TIMES_LONGER: u32 = 20;

/// Whether something that takes a while is computed again.
fn is_due(age: Duration, took: Duration, has_changed: bool) -> bool {
    let pause = LEAST_PAUSE.max(took * TIMES_LONGER);
    age >= MAX_AGE.max(pause) || (has_changed && age >= pause)
}

/// Something that takes a while, computed on a thread of its own and no more often than it is worth.
#[derive(Debug)]
pub(super) struct Background<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    slot: Mutex<Slot<T>>,
    done: Condvar,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<Arc<T>>,
    mark: Option<u64>,
    until: UnixSeconds,
    computed: Option<(Instant, Duration)>,
    is_running: bool,
}

impl<T> Default for Background<T> {
    fn default() -> Self {
        let slot = Slot { value: None, mark: None, until: END, computed: None, is_running: false };
        Self(Arc::new(Shared { slot: Mutex::new(slot), done: Condvar::new() }))
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a computation, also one that panics.
struct Running<T>(Arc<Shared<T>>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.lock().is_running = false;
        self.0.done.notify_all();
    }
}

impl<T: Send + Sync + 'static> Background<T> {
    /// Returns what was computed last, and begins to compute it again if that is due; waits so long for what has just begun.
    /// `compute` also says until when it stays as it is.
    pub(super) fn get(
        &self,
        mark: Option<u64>,
        now: UnixSeconds,
        wait: Duration,
        compute: impl FnOnce() -> (T, UnixSeconds) + Send + 'static,
    ) -> Option<Arc<T>> {
        let shared = &self.0;
        let mut slot = shared.lock();
        let has_changed = mark.is_none() || mark != slot.mark || now >= slot.until;
        if !slot.is_running && slot.computed.is_none_or(|(at, took)| is_due(at.elapsed(), took, has_changed)) {
            slot.is_running = true;
            drop(slot);
            let running = Running(Arc::clone(shared));
            let work = move || {
                let began = Instant::now();
                let (value, until) = compute();
                let mut slot = running.0.lock();
                slot.value = Some(Arc::new(value));
                slot.until = until;
                slot.computed = Some((Instant::now(), began.elapsed()));
                slot.mark = mark;
            };
            // Where the system has no thread left, the next look tries again.
            let _ = std::thread::Builder::new().name("dashboard".into()).spawn(work);
            slot = shared.lock();
            let waited = shared.done.wait_timeout_while(slot, wait, |slot| slot.is_running);
            slot = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        slot.value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_computed_again_on_a_change_but_not_for_more_than_its_share_of_the_time() {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        for (age, took, has_changed, due) in [
            (ms(999), ms(1), true, false),
            (ms(1_000), ms(1), true, true),
            (secs(59), ms(1), false, false),
            (secs(60), ms(1), false, true),
            (secs(39), secs(2), true, false),
            (secs(40), secs(2), true, true),
            (secs(199), secs(10), false, false),
            (secs(200), secs(10), false, true),
        ] {
            assert_eq!(is_due(age, took, has_changed), due, "{age:?} {took:?} {has_changed}");
        }
    }

    #[test]
    fn what_did_not_change_is_kept_until_its_time() {
        let mut kept: Kept<u32> = Kept::default();
        let mut made = 0;
        let mut get = |mark: Option<u64>, now: u64| {
            let make = || {
                made += 1;
                Ok::<_, ()>((made, UnixSeconds(10)))
            };
            *kept.get(mark, UnixSeconds(now), make).unwrap()
        };
        assert_eq!(
            [get(Some(1), 0), get(Some(1), 9), get(Some(2), 9), get(Some(2), 10), get(None, 0)],
            [1, 1, 2, 3, 4]
        );
        assert_eq!(get(None, 0), 5, "a change might not show");
        assert_eq!(kept.get(Some(3), UnixSeconds(0), || Err(())), Err(()));
        assert_eq!(kept.last(), Some(&5));
    }

    #[test]
    fn a_computation_is_made_again_when_its_time_is_over() {
        let background: Background<u32> = Background::default();
        let get = |now, value| {
            let value =
                background.get(Some(1), UnixSeconds(now), Duration::from_secs(60), move || (value, UnixSeconds(10)));
            // As if that were long ago.
            background.0.lock().computed = Some((Instant::now().checked_sub(LEAST_PAUSE).unwrap(), Duration::ZERO));
            value.as_deref().copied()
        };
        assert_eq!([get(0, 1), get(9, 2), get(10, 3)], [Some(1), Some(1), Some(3)]);
    }

    #[test]
    fn a_computation_that_panics_is_not_the_last() {
        let background: Background<u32> = Background::default();
        let (now, patience) = (UnixSeconds(0), Duration::from_secs(60));
        assert_eq!(background.get(Some(1), now, patience, || panic!("once")), None);
        assert_eq!(background.get(Some(1), now, patience, || (7, END)).as_deref(), Some(&7));
        assert_eq!(background.get(Some(1), now, patience, || (8, END)).as_deref(), Some(&7), "nothing has changed");
    }
}
