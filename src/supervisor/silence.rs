//! For how long an agent has printed nothing.

use std::time::SystemTime;

use crate::clock::Moment;

/// What distinguishes one state of a log from another: its size, and its last write.
pub(super) type LogMark = (u64, SystemTime);

/// Remembers when the log was last seen to change. Times in the log itself are not used: the wall clock can be set.
#[derive(Debug)]
pub(super) struct Silence {
    seen: Option<LogMark>,
    since: Moment,
}

impl Silence {
    /// Starts to listen; nothing before `now` counts as silence.
    pub(super) fn from(now: Moment) -> Self {
        Self { seen: None, since: now }
    }

    /// Returns for how many seconds the log has been as it is now. A log that cannot be looked at is not silent.
    pub(super) fn secs(&mut self, log: Option<LogMark>, now: &Moment) -> u64 {
        if log.is_none() || log != self.seen {
            self.seen = log;
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

    fn mark(bytes: u64) -> Option<LogMark> {
        Some((bytes, SystemTime::UNIX_EPOCH))
    }

    #[test]
    fn every_change_of_the_log_ends_the_silence() {
        let mut silence = Silence::from(moment(0));
        assert_eq!(silence.secs(mark(0), &moment(1)), 0);
        assert_eq!(silence.secs(mark(0), &moment(31)), 30);
        assert_eq!(silence.secs(mark(5), &moment(32)), 0);
        assert_eq!(silence.secs(mark(5), &moment(42)), 10);
        assert_eq!(silence.secs(mark(0), &moment(43)), 0, "it was emptied");
        let written = Some((0, SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
        assert_eq!(silence.secs(written, &moment(50)), 0, "it was written to, and emptied");
    }

    #[test]
    fn a_log_that_cannot_be_looked_at_is_not_silent() {
        let mut silence = Silence::from(moment(0));
        for secs in 1..100 {
            assert_eq!(silence.secs(None, &moment(secs * 1000)), 0);
        }
    }
}
