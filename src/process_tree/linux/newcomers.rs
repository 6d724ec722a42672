//! Which pids are new.

/// The processes that were born since it was made.
///
/// A chain of processes that each fork and end at once is always younger than any listing of them.
pub(in crate::process_tree) struct Newcomers {
    last: i32,
}

impl Newcomers {
    pub(in crate::process_tree) fn from_now() -> Self {
        Self { last: newest_pid().unwrap_or(i32::MAX) }
    }

    /// Returns the pids that were given out since the last call, to threads too, the newest first, and no more than the
    /// newest 256.
    pub(in crate::process_tree) fn pids(&mut self) -> impl Iterator<Item = i32> + use<> {
        let newest = newest_pid().unwrap_or(self.last);
        // Pids come round: smaller than the last one is newer, too.
        let known = if newest < self.last { 0 } else { self.last };
        self.last = newest;
        (known.max(newest.saturating_sub(256)) + 1..=newest).rev()
    }
}

/// Returns the pid that was given out last: the fifth field of `/proc/loadavg`, see proc(5).
fn newest_pid() -> Option<i32> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().nth(4)?.parse().ok()
}
