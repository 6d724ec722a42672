//! Waiting until a run is over.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::listing;
use super::view::RunView;
use crate::run::context::Context;
use crate::run::end::EndError;
use crate::run::entry::Entry;
use crate::run::id::RunId;

/// The pause between two checks of whether the run's entry is gone, which cost one `stat` each.
const ENTRY_PAUSE: Duration = Duration::from_millis(50);

/// The pause between two looks at the run itself, whose supervisor may have been killed.
const RUN_PAUSE: Duration = Duration::from_secs(1);

/// Ends a wait from any thread.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    called_off: Arc<(Mutex<bool>, Condvar)>,
}

impl Bell {
    /// Ends this wait and every later one: nobody wants the result any more.
    pub fn call_off(&self) {
        let (called_off, changed) = &*self.called_off;
        *called_off.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits this long, or until it is called off; returns whether the wait goes on.
    pub(crate) fn wait(&self, pause: Duration) -> bool {
        let (called_off, changed) = &*self.called_off;
        let called_off = called_off.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(called_off, pause, |called_off| !*called_off);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Waits until a run is over, for `timeout` at most, or until `bell` calls it off; returns the run as it is then. `report` gets
/// the unfinished run about once a second.
pub fn wait(
    context: &Context,
    id: &RunId,
    timeout: Duration,
    bell: &Bell,
    report: &mut dyn FnMut(&RunView),
) -> Result<RunView, EndError> {
    let deadline = Instant::now() + timeout;
    let entry = Entry::of(&context.home, id);
    let mut goes_on = true;
    loop {
        let looked = Instant::now();
        let over = !entry.exists();
        let run = listing::find(context, id)?;
        if over || is_over(&run) || !goes_on || looked >= deadline {
            return Ok(run);
        }
        let next_look = deadline.min(looked + RUN_PAUSE);
        while goes_on && entry.exists() && Instant::now() < next_look {
            goes_on = bell.wait(ENTRY_PAUSE.min(next_look.saturating_duration_since(Instant::now())));
        }
        if goes_on && looked.elapsed() >= RUN_PAUSE {
            report(&run);
        }
    }
}

/// Whether a run has ended: its outcome is known, or nothing of it is left and a judge will write it.
pub fn is_over(run: &RunView) -> bool {
    run.finished_at.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_was_called_off_stays_so() {
        let bell = Bell::default();
        assert!(bell.wait(Duration::from_millis(5)), "it goes on");
        let far = bell.clone();
        let began = Instant::now();
        std::thread::spawn(move || far.call_off());
        assert!(!bell.wait(Duration::from_secs(30)));
        assert!(!bell.wait(Duration::from_secs(30)));
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
