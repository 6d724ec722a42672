//! One call under way, as a tool that waits sees it.

use tokio::sync::mpsc::UnboundedSender;

use crate::run::wait::Bell;

/// How far a call is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Progress {
    pub(super) done: f64,
    pub(super) total: f64,
    pub(super) message: String,
}

/// A call: how its tool learns that nobody waits for it any more, and tells how far it is.
#[derive(Debug, Default)]
pub struct Call {
    bell: Bell,
    progress: Option<UnboundedSender<Progress>>,
}

impl Call {
    /// Makes a call whose progress goes to `progress`, if the client wants to know.
    pub(super) fn new(progress: Option<UnboundedSender<Progress>>) -> Self {
        Self { bell: Bell::default(), progress }
    }

    /// Returns what is called off when the client cancels the call, or is gone.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Tells how far the call is, of `total`; each time it must be further than before.
    pub fn tell(&self, done: f64, total: f64, message: impl FnOnce() -> String) {
        if let Some(progress) = &self.progress {
            // A call that nobody waits for has nobody to tell.
            let _ = progress.send(Progress { done, total, message: message() });
        }
    }
}
