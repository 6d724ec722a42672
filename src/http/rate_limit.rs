//! How often something may happen within a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// Lets something happen so many times within any minute.
#[derive(Debug)]
pub(super) struct RateLimit {
    max_per_minute: usize,
    /// When it happened within the last minute, oldest first.
    times: VecDeque<Instant>,
}

impl RateLimit {
    pub(super) fn per_minute(max: usize) -> Self {
        Self { max_per_minute: max, times: VecDeque::new() }
    }

    /// Counts one more at `now`.
    ///
    /// # Errors
    /// It is one too many, and does not count: the time until the next may happen.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        while self.times.front().is_some_and(|time| now.saturating_duration_since(*time) >= WINDOW) {
            self.times.pop_front();
        }
        match self.times.front() {
            Some(oldest) if self.times.len() >= self.max_per_minute => {
                Err(WINDOW.saturating_sub(now.saturating_duration_since(*oldest)))
            }
            _ => {
                self.times.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_too_many_waits_until_the_oldest_is_a_minute_old() {
        let (mut limit, start) = (RateLimit::per_minute(2), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!((limit.take(at(0)), limit.take(at(10))), (Ok(()), Ok(())));
        assert_eq!(limit.take(at(20)), Err(Duration::from_secs(40)));
        assert_eq!(limit.take(at(59)), Err(Duration::from_secs(1)));
        assert_eq!(limit.take(at(60)), Ok(()));
        assert_eq!(limit.take(at(60)), Err(Duration::from_secs(10)));
    }

    proptest! {
        #[test]
        fn no_minute_sees_more(max in 1_usize..5, steps in prop::collection::vec(0_u64..30, 0..60)) {
            let (mut limit, mut now) = (RateLimit::per_minute(max), Instant::now());
            let mut taken: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_secs(step);
                if limit.take(now).is_ok() {
                    taken.push(now);
                }
            }
            for first in &taken {
                let within = |time: &&Instant| **time >= *first && time.duration_since(*first) < WINDOW;
                prop_assert!(taken.iter().filter(within).count() <= max);
            }
        }
    }
}
