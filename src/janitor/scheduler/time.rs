//! The scheduler's clock: the machine's. In a debug build a test can move it, because no test can wait for days.

use std::time::Duration;

use crate::clock::UnixSeconds;
#[cfg(debug_assertions)]
use crate::env_vars::TEST_CLOCK;

/// Returns the time by which routines fire.
pub(in crate::janitor) fn now() -> UnixSeconds {
    #[cfg(debug_assertions)]
    if let Some(file) = std::env::var_os(TEST_CLOCK) {
        let moved = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        return moved.map_or_else(UnixSeconds::now, UnixSeconds);
    }
    UnixSeconds::now()
}

/// Returns how long a pause lasts by the machine's clock.
pub(in crate::janitor) fn pause(pause: Duration) -> Duration {
    #[cfg(debug_assertions)]
    if std::env::var_os(TEST_CLOCK).is_some() {
        return pause.min(Duration::from_millis(20));
    }
    pause
}
