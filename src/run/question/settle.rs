//! What follows from a question that was closed.

use super::state::{self, Close, QuestionState};
use crate::run::context::Context;
use crate::run::continue_run::go_on_with_answer;
use crate::run::history;

/// Does all that follows from the close of a question. Doing so twice is fine, also where another process does so at the same time.
///
/// # Errors
/// Something could not be done yet: the question stays unsettled, and a janitor tries again.
pub(crate) fn settle(context: &Context, close: &Close) -> anyhow::Result<()> {
    history::append_question(&context.home, close)?;
    if close.state == QuestionState::Answered {
        go_on_with_answer(context, close)?;
    }
    Ok(state::settled(&context.home, &close.run)?)
}
