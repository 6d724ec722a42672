//! The questions that wait for an answer, however old they are.

use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::run::context::Context;
use crate::run::id::RunId;
use crate::run::question::Question;
use crate::run::question::state::{open_runs, read_close};
use crate::run::workbench::Workbench;

/// A question that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenQuestion {
    pub(super) run: RunId,
    pub(super) agent: String,
    pub(super) question: Question,
    pub(super) asked_at: UnixSeconds,
}

/// All of them, the oldest run first.
#[derive(Debug, Default)]
pub(super) struct OpenQuestions {
    pub(super) all: Vec<OpenQuestion>,
    /// Why it is not known of some whether they are open.
    pub(super) unread: Vec<String>,
}

impl OpenQuestions {
    /// # Errors
    /// They cannot be listed, or the history cannot be read.
    pub(super) fn read(context: &Context) -> Result<Self, FileError> {
        let home = &context.home;
        let mut questions = Self::default();
        for run in open_runs(home)? {
            if let Err(error) = read_close(home, &run) {
                questions.unread.push(error.to_string());
                continue;
            }
            // Without its workbench nobody can go on with it, and a janitor closes it.
            if !Workbench::of(home, &run).exists() {
                continue;
            }
            // A run whose end is just being recorded follows with its line.
            let Some(past) = context.history.find(home, &run)? else { continue };
            let outcome = past.outcome;
            questions.all.extend(outcome.question.map(|question| OpenQuestion {
                run,
                agent: outcome.agent,
                question,
                asked_at: outcome.finished_at,
            }));
        }
        Ok(questions)
    }
}
