//! One thread looks for changes twice a second for all watches, and only while there are any.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

/// A look for changes that is repeated, and what it found.
pub(crate) trait Watch: Send + Sync + 'static {
    /// Looks for changes, and keeps what it finds.
    fn look(&self);

    /// Called by the thread after each look.
    fn has_looked(&self);
}

/// The pause between two looks, so that a client hears of one thing at most twice a second.
const PAUSE: Duration = Duration::from_millis(510);

/// The watches of one thread, which ends when this is dropped. A watch goes when nobody else holds it.
pub(crate) struct Watches<W> {
    new: mpsc::Sender<Weak<W>>,
}

impl<W: Watch> Watches<W> {
    /// Starts the thread: an agent may use up all threads later.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(crate) fn start() -> io::Result<Self> {
        let (new, watches) = mpsc::channel();
        thread::Builder::new().name("watch".into()).spawn(move || look_for_changes(&watches))?;
        Ok(Self { new })
    }

    /// Looks at a watch at once, and then after each pause.
    pub(crate) fn add(&self, watch: &Arc<W>) {
        // It fails only if the thread is gone, which lives as long as this.
        let _ = self.new.send(Arc::downgrade(watch));
    }
}

/// Looks at each watch when it comes, and then at all after each pause.
fn look_for_changes<W: Watch>(new: &mpsc::Receiver<Weak<W>>) {
    let look = |watch: &Weak<W>| {
        let Some(watch) = watch.upgrade() else { return false };
        // A bug in one look must not end the others.
        let _ = catch_unwind(AssertUnwindSafe(|| watch.look()));
        watch.has_looked();
        true
    };
    let mut watches = Vec::new();
    let mut next_look: Option<Instant> = None;
    loop {
        let came = match next_look {
            Some(at) => new.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => new.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match came {
            Ok(watch) => {
                look(&watch);
                watches.push(watch);
                next_look = next_look.or_else(|| Some(Instant::now() + PAUSE));
            }
            Err(RecvTimeoutError::Timeout) => {
                watches.retain(look);
                next_look = (!watches.is_empty()).then(|| Instant::now() + PAUSE);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
