//! Questions to a person whose answers come with another call. An answer counts once, and only for the very call that raised its
//! question.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rmcp::model::JsonObject;

use super::call::Question;
use crate::random_token::random_token;

#[derive(Default)]
pub(crate) struct OpenQuestions {
    open: Mutex<VecDeque<OpenQuestion>>,
}

struct OpenQuestion {
    /// Names the question; random, so nobody can guess it.
    token: String,
    tool: String,
    arguments: JsonObject,
    asked: Asked,
}

/// A question that was asked.
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) at: Instant,
}

/// How many open questions are kept. A call whose question was dropped asks again.
const MAX_OPEN: usize = 64;

impl OpenQuestions {
    /// Keeps the question of a call, and returns the token that names it; `None` if no token can be made.
    pub(crate) fn keep(&self, tool: &str, arguments: &JsonObject, question: Question) -> Option<String> {
        let token = random_token().ok()?;
        let asked = Asked { question, at: Instant::now() };
        let kept = OpenQuestion { token: token.clone(), tool: tool.to_owned(), arguments: arguments.clone(), asked };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.truncate(MAX_OPEN - 1);
        open.push_front(kept);
        Some(token)
    }

    /// Takes out the question that a token names, if this very call raised it.
    pub(crate) fn take(&self, token: &str, tool: &str, arguments: &JsonObject) -> Option<Asked> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |one: &OpenQuestion| one.token == token && one.tool == tool && one.arguments == *arguments;
        let index = open.iter().position(is_it)?;
        open.remove(index).map(|taken| taken.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::call::Form;

    #[test]
    fn only_so_many_questions_stay_open() {
        let questions = OpenQuestions::default();
        let question =
            Question { message: String::new(), otherwise: String::new(), terms: true.into(), form: Form::Confirm };
        let ask = || questions.keep("remove", &JsonObject::new(), question.clone()).unwrap();
        let tokens: Vec<String> = (0..=MAX_OPEN).map(|_| ask()).collect();
        assert!(questions.take(&tokens[0], "remove", &JsonObject::new()).is_none());
        assert!(questions.take(&tokens[MAX_OPEN], "remove", &JsonObject::new()).is_some());
        assert_eq!(questions.open.lock().unwrap().len(), MAX_OPEN - 1);
    }
}
