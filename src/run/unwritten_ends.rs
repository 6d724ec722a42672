//! Requests to end a run that could not be written, as on a full disk: kept in memory until they can.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::entry::Entry;
use super::id::RunId;
use super::record::EndRequest;
use crate::home::Home;

/// The requests of this process that are not on disk yet. Without them the runs would later count as lost.
#[derive(Debug, Default)]
pub struct UnwrittenEnds {
    kept: Mutex<HashMap<RunId, EndRequest>>,
    is_being_written: AtomicBool,
}

/// The watchdog of another process looks far less often.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl UnwrittenEnds {
    /// Keeps a request; the first one for a run counts.
    pub fn keep(&self, run: &RunId, request: &EndRequest) {
        self.change(|kept| _ = kept.entry(run.clone()).or_insert_with(|| request.clone()));
    }

    pub fn of(&self, run: &RunId) -> Option<EndRequest> {
        self.change(|kept| kept.get(run).cloned())
    }

    /// Tries again in the background until every request is written, or its run is over.
    pub fn write_when_possible(self: &Arc<Self>, home: &Home) {
        if self.is_being_written.swap(true, Ordering::Relaxed) {
            return;
        }
        let (ends, home) = (Arc::clone(self), home.clone());
        let write = move || {
            while !ends.change(|kept| kept.is_empty()) {
                std::thread::sleep(RETRY_PAUSE);
                ends.write(&home);
            }
            ends.is_being_written.store(false, Ordering::Relaxed);
        };
        // Without a thread the next watchdog pass writes.
        if std::thread::Builder::new().name("unwritten".into()).spawn(write).is_err() {
            self.is_being_written.store(false, Ordering::Relaxed);
        }
    }

    /// Writes what can be written now, and drops it along with requests whose runs are over.
    pub fn write(&self, home: &Home) {
        let kept: Vec<(RunId, EndRequest)> = self.change(|kept| kept.clone().into_iter().collect());
        for (run, request) in kept {
            let entry = Entry::of(home, &run);
            if entry.request_end(&request).is_ok() || !entry.exists() {
                self.change(|kept| _ = kept.remove(&run));
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<RunId, EndRequest>) -> T) -> T {
        change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;
    use crate::run::record::EndCause;

    #[test]
    fn a_request_is_kept_until_it_is_written_or_the_run_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let (run, over): (RunId, RunId) = ("a-1".parse().unwrap(), "a-2".parse().unwrap());
        let request = |reason: &str| EndRequest {
            cause: EndCause::Stopped,
            reason: reason.into(),
            by: "b".into(),
            at: UnixSeconds(1),
            last_output: UnixSeconds(1),
        };
        let ends = UnwrittenEnds::default();
        ends.keep(&run, &request("first"));
        ends.keep(&run, &request("second"));
        ends.keep(&over, &request("x"));
        assert_eq!(ends.of(&run).unwrap().reason, "first");
        std::fs::create_dir(Entry::of(&home, &run).directory()).unwrap();
        ends.write(&home);
        assert_eq!((ends.of(&run), ends.of(&over)), (None, None));
        assert_eq!(Entry::of(&home, &run).end_request().unwrap().unwrap().reason, "first");
    }
}
