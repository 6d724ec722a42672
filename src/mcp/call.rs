//! One call of a tool: what the tool learns of its client, and how it may reply.

use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::query::wait::Bell;
use crate::run::id::RunId;

/// How far a call is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Progress {
    pub(super) done: f64,
    pub(super) total: f64,
    pub(super) message: String,
}

#[derive(Debug)]
pub(crate) struct Call {
    /// When the request came in: a tool's time counts from there.
    pub(crate) received: Instant,
    /// Called off when the client cancels the call or is gone.
    pub(crate) bell: Bell,
    /// Whether the client accepts a task as the answer, and polls it.
    pub(super) takes_tasks: bool,
    /// The names of the tools that are served, this one among them.
    pub(super) served: Arc<[&'static str]>,
    /// Whether a person makes it, and no model.
    pub(crate) is_persons: bool,
    /// The terms of the tool's question, if a person has agreed to them.
    pub(crate) agreed: Option<Value>,
    /// Where progress goes, if the client wants to know.
    pub(super) progress: Option<UnboundedSender<Progress>>,
}

impl Call {
    /// Makes a call of one of the tools that are served, received now, from a client that takes neither tasks nor progress.
    pub(crate) fn new(served: Arc<[&'static str]>) -> Self {
        Self {
            received: Instant::now(),
            bell: Bell::default(),
            takes_tasks: false,
            served,
            is_persons: false,
            agreed: None,
            progress: None,
        }
    }

    /// Adds the terms of the tool's question, if a person has agreed to them.
    pub(crate) fn with_agreement(self, terms: Option<Value>) -> Self {
        Self { agreed: terms, ..self }
    }

    /// Says that a person makes it, and no model.
    pub(crate) fn by_a_person(self) -> Self {
        Self { is_persons: true, ..self }
    }

    /// Returns the terms of the tool's question, if a person has agreed to them.
    pub(crate) fn agreed_to<T: DeserializeOwned>(&self) -> Option<T> {
        self.agreed.clone().and_then(|terms| serde_json::from_value(terms).ok())
    }

    /// Reports progress; `done` must grow from call to call.
    pub(super) fn report(&self, done: f64, total: f64, message: impl FnOnce() -> String) {
        if let Some(progress) = &self.progress {
            // It fails once nobody waits for the call.
            let _ = progress.send(Progress { done, total, message: message() });
        }
    }
}

/// What a tool replies to a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply<Answer> {
    Answer(Answer),
    /// A question: a person has to agree first. Then the tool is called again, see [`Call::agreed_to`].
    Ask(Question),
    /// A run that the client polls as a task, see [`Call::takes_tasks`].
    Task(RunId),
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    /// The question, complete in itself.
    pub(crate) message: String,
    /// The error if nobody can be asked or nobody answers: why nothing was done, and what to do.
    pub(crate) otherwise: String,
    /// What a yes agrees to. The tool does no more than this, whatever has changed by then.
    pub(crate) terms: Value,
    pub(crate) form: Form,
}

/// What a person is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// A yes or a no.
    Confirm,
    /// Words of their own, or one of the options: the terms get them as `text`.
    Words { options: Vec<String> },
}
