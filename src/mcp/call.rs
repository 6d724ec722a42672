//! One call under way, as a tool that waits sees it.

use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::query::wait::Bell;

/// How far a call is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Progress {
    pub(super) done: f64,
    pub(super) total: f64,
    pub(super) message: String,
}

/// A call: how its tool learns that nobody waits for it any more, and what its client can do.
#[derive(Debug)]
pub struct Call {
    received: Instant,
    bell: Bell,
    progress: Option<UnboundedSender<Progress>>,
    takes_tasks: bool,
    agreed: Option<Value>,
}

impl Default for Call {
    fn default() -> Self {
        let (bell, progress, takes_tasks, agreed) = Default::default();
        Self { received: Instant::now(), bell, progress, takes_tasks, agreed }
    }
}

impl Call {
    /// Makes a call whose progress goes to `progress`, if the client wants to know.
    pub(super) fn new(progress: Option<UnboundedSender<Progress>>) -> Self {
        Self { progress, ..Self::default() }
    }

    /// Notes whether the client understands a task as an answer.
    pub(super) fn taking_tasks(self, takes_tasks: bool) -> Self {
        Self { takes_tasks, ..self }
    }

    /// Notes what a person has said yes to.
    pub(super) fn agreed(self, agreed: Option<Value>) -> Self {
        Self { agreed, ..self }
    }

    /// Returns when the request came in: how long a tool may take counts from there.
    #[must_use]
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Tells whether the client understands a task as an answer, and looks at it by itself.
    #[must_use]
    pub fn takes_tasks(&self) -> bool {
        self.takes_tasks
    }

    /// Returns the terms of the tool's question that a person has said yes to.
    #[must_use]
    pub fn agreed_to<T: DeserializeOwned>(&self) -> Option<T> {
        self.agreed.clone().and_then(|terms| serde_json::from_value(terms).ok())
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
