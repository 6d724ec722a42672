//! How long the demo waits for anything: until its time is up, or somebody presses Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A deadline for everything, and an ear for signals, which from here on only end the waiting.
pub(super) struct Patience {
    deadline: Instant,
    interrupted: Arc<AtomicBool>,
}

/// Pause between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(100);

impl Patience {
    /// Starts the clock, and listens.
    pub(super) fn start(limit: Duration) -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signals cannot be listened to")?;
        }
        Ok(Self { deadline: Instant::now() + limit, interrupted })
    }

    /// Looks, and looks again after each pause, until there is something to see.
    ///
    /// # Errors
    /// The look's own, an interruption, or the end of the time; `what` tells what was waited for.
    pub(super) fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(Duration) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        loop {
            if let Some(seen) = look(PAUSE)? {
                return Ok(seen);
            }
            anyhow::ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted while waiting for {what}");
            anyhow::ensure!(Instant::now() < self.deadline, "it took too long: still waiting for {what}");
        }
    }

    /// As [`Self::until`], with the pause between two looks made here.
    ///
    /// # Errors
    /// As [`Self::until`].
    pub(super) fn poll<T>(&self, what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
        self.until(what, |pause| {
            let seen = look()?;
            if seen.is_none() {
                std::thread::sleep(pause);
            }
            Ok(seen)
        })
    }
}
