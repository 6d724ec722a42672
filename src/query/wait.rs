//! Waiting until a run is over, woken by its end.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::listing;
use super::view::RunView;
use crate::run::context::Context;
use crate::run::end::EndError;
use crate::run::entry::Entry;
use crate::run::id::RunId;

/// The longest pause between two looks. The end of a run removes its entry, which wakes at once. Looking is needed for a run whose
/// supervisor was killed, and where the system cannot watch the folder.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Wakes one wait, or ends it, from any thread.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    shared: Arc<(Mutex<Signals>, Condvar)>,
}

#[derive(Debug, Default)]
struct Signals {
    rung: bool,
    called_off: bool,
}

impl Bell {
    /// Ends this wait and every later one: nobody wants the result any more.
    pub fn call_off(&self) {
        self.set(|state| state.called_off = true);
    }

    fn ring(&self) {
        self.set(|state| state.rung = true);
    }

    fn set(&self, change: impl FnOnce(&mut Signals)) {
        let (state, changed) = &*self.shared;
        change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    /// Waits until it rings, `at_most` this long; returns whether the wait goes on.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let (state, changed) = &*self.shared;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |state: &mut Signals| !state.rung && !state.called_off;
        let (mut state, _) = changed.wait_timeout_while(state, at_most, quiet).unwrap_or_else(PoisonError::into_inner);
        state.rung = false;
        !state.called_off
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
    // Before the first look, so that no end falls between the two.
    let _watcher = watch(&context.home.running(), bell);
    let mut reported = Instant::now();
    let mut goes_on = true;
    loop {
        let over = !entry.exists();
        let run = listing::find(context, id)?;
        let rest = deadline.saturating_duration_since(Instant::now());
        if over || is_over(&run) || !goes_on || rest.is_zero() {
            return Ok(run);
        }
        if reported.elapsed() >= LONGEST_PAUSE {
            reported = Instant::now();
            report(&run);
        }
        goes_on = bell.wait(rest.min(LONGEST_PAUSE));
    }
}

/// Whether a run has ended: its outcome is known, or nothing of it is left and a judge will write it.
pub fn is_over(run: &RunView) -> bool {
    run.finished_at.is_some()
}

/// Rings whenever an entry comes or goes; `None` if the system cannot watch the folder.
fn watch(running: &Path, bell: &Bell) -> Option<RecommendedWatcher> {
    let bell = bell.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the folder changes nothing.
        if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            bell.ring();
        }
    });
    let watching = watcher.and_then(|mut watcher| {
        watcher.watch(running, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching.inspect_err(|error| tracing::debug!(%error, "the end of a run is noticed by looking")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_wakes_from_afar_and_a_wait_that_was_called_off_stays_so() {
        let bell = Bell::default();
        let far = bell.clone();
        let began = Instant::now();
        std::thread::spawn(move || far.ring());
        assert!(bell.wait(Duration::from_secs(30)), "it goes on");
        bell.call_off();
        assert!(!bell.wait(Duration::from_secs(30)));
        bell.ring();
        assert!(!bell.wait(Duration::from_secs(30)));
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_comes_and_goes_in_the_folder_rings() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bell = Bell::default();
        let watcher = watch(dir.path(), &bell);
        assert!(watcher.is_some());
        let rings = |bell: &Bell| {
            let began = Instant::now();
            bell.wait(Duration::from_secs(20));
            began.elapsed() < Duration::from_secs(15)
        };
        let entry = dir.path().join("a-1");
        std::fs::create_dir(&entry).unwrap();
        assert!(rings(&bell));
        std::fs::rename(&entry, elsewhere.path().join("a-1")).unwrap();
        assert!(rings(&bell));
        assert!(watch(&dir.path().join("missing"), &bell).is_none());
    }
}
