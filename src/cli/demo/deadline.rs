//! How long the demo waits: until its time is up, or somebody presses Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A deadline for the whole demo, and a flag that signals set; from here on they only end the waiting.
pub(super) struct Deadline {
    at: Instant,
    interrupted: Arc<AtomicBool>,
}

/// Pause between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(20);

impl Deadline {
    pub(super) fn start(limit: Duration) -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot listen for signals")?;
        }
        Ok(Self { at: Instant::now() + limit, interrupted })
    }

    /// Looks until there is something. Errors name `what` was waited for.
    pub(super) fn poll<T>(&self, what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
        loop {
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            anyhow::ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted while waiting for {what}");
            anyhow::ensure!(Instant::now() < self.at, "it took too long: still waiting for {what}");
            std::thread::sleep(PAUSE);
        }
    }
}
