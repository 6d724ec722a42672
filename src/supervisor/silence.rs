//! For how long an agent has printed nothing.

use std::time::SystemTime;

use crate::clock::Moment;

/// What distinguishes one state of a log from another: its size, and its last write.
pub(super) type LogMark = (u64, SystemTime);

/// Remembers when the log was last seen to change. Times in the log itself are not used: the wall clock can be set.
#[derive(Debug)]
pub(super) struct Silence {
    seen: Vec<Option<LogMark>>,
    since: Moment,
}

impl Silence {
    /// Starts to listen; nothing before `now` counts as silence.
    pub(super) fn from(now: Moment) -> Self {
        Self { seen: Vec::new(), since: now }
    }

    /// Returns for how many seconds the logs have been as they are now. A log that cannot be looked at is not silent.
    pub(super) fn secs(&mut self, logs: Vec<Option<LogMark>>, now: &Moment) -> u64 {
        if logs.is_empty() || logs.contains(&None) || logs != self.seen {
            self.seen = logs;
            self.since = now.clone();
        }
        self.since.elapsed_secs_at(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;
    use std::time::Duration;

    /// A moment of a machine whose wall clock stands still.
    fn moment(secs: u64) -> Moment {
        Moment { at: UnixSeconds(9), boot_id: "a".into(), since_boot_ms: secs * 1000 }
    }

    fn mark(bytes: u64) -> Vec<Option<LogMark>> {
        vec![Some((bytes, SystemTime::UNIX_EPOCH))]
    }

    #[test]
    fn every_change_of_the_log_ends_the_silence() {
        let mut silence = Silence::from(moment(0));
        assert_eq!(silence.secs(mark(0), &moment(1)), 0);
        assert_eq!(silence.secs(mark(0), &moment(31)), 30);
        assert_eq!(silence.secs(mark(5), &moment(32)), 0);
        assert_eq!(silence.secs(mark(5), &moment(42)), 10);
        assert_eq!(silence.secs(mark(0), &moment(43)), 0, "it was emptied");
        let written = vec![Some((0, SystemTime::UNIX_EPOCH + Duration::from_secs(1)))];
        assert_eq!(silence.secs(written, &moment(50)), 0, "it was written to, and emptied");
    }

    #[test]
    fn output_on_stderr_alone_ends_the_silence_too() {
        let mut silence = Silence::from(moment(0));
        let both = |bytes| [mark(7), mark(bytes)].concat();
        assert_eq!(silence.secs(both(0), &moment(1)), 0);
        assert_eq!(silence.secs(both(0), &moment(9)), 8);
        assert_eq!(silence.secs(both(1), &moment(10)), 0);
    }

    #[test]
    fn a_log_that_cannot_be_looked_at_is_not_silent() {
        let mut silence = Silence::from(moment(0));
        for secs in 1..100 {
            let logs = if secs % 2 == 0 { Vec::new() } else { vec![None] };
            assert_eq!(silence.secs(logs, &moment(secs * 1000)), 0);
        }
    }
}
