//! `continue_run`: answering the question of a run, or giving one that is over more to do.

use std::time::{Duration, Instant};

use anyhow::bail;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::UnixSeconds;
use crate::home::config::AnswersFrom;
use crate::mcp::call::{Call, Form, Question, Reply};
use crate::mcp::tool::{Hints, Tool};
use crate::query::listing;
use crate::query::question_view::QuestionView;
use crate::query::view::RunView;
use crate::quote::shortened;
use crate::run::answer::{Request, answer, check_continuable, dismiss};
use crate::run::context::{App, Context};
use crate::run::id::RunId;
use crate::run::options::{calling_run, check_may_give_text};

pub(super) fn tool() -> Tool {
    Tool::with_call(
        "continue_run",
        "Continue a run",
        "Answer a run whose status is asked, or give a finished run more to do: a new run goes on in its workbench and session. A \
         person is asked for the words, unless config.toml says anyone.",
        Hints { read_only: false, destructive: false, idempotent: false, open_world: true },
        run,
    )
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct ContinueRun {
    /// The run's id.
    pub(crate) run: RunId,
    /// The answer, or what to do; a proposal where the person is asked.
    pub(crate) text: Option<String>,
    /// true closes the question unanswered.
    pub(crate) dismiss: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Continued {
    /// The run that goes on, or whose question was dismissed; as in list_runs.
    #[schemars(with = "Map<String, Value>")]
    pub(crate) run: RunView,
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    run: RunId,
    /// Absent where a person dismisses the question.
    #[serde(default)]
    text: Option<String>,
    /// When they were shown the run.
    seen: UnixSeconds,
}

/// Within which a call answers, and the least time for the look at what it started.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(4_800);
const LEAST_LOOK: Duration = Duration::from_millis(100);

fn run(app: &App, arguments: ContinueRun, call: &Call) -> anyhow::Result<Reply<Continued>> {
    let context = app.context()?;
    let ContinueRun { run, text, dismiss } = arguments;
    let dismisses = dismiss.unwrap_or(false);
    if dismisses && text.is_some() {
        bail!("give either `text` or `dismiss`: a question that is dismissed has no answer");
    }
    if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
        bail!("`text` is empty: say what the answer is or what the run should do, or leave it out");
    }
    let said = call.agreed_to::<Said>().filter(|said| said.run == run);
    let now = || Said { run: run.clone(), text: text.clone(), seen: UnixSeconds::now() };
    let said = match said {
        Some(said) => said,
        None if call.is_persons || may_answer(&context, &run)? => now(),
        None => return Ok(Reply::Ask(question(&context, run, text.as_deref(), dismisses)?)),
    };
    let by = match (call.is_persons, call.agreed.is_some()) {
        (true, _) => "a person",
        (false, true) => "a person, asked by continue_run",
        (false, false) => "continue_run",
    };
    let next = if dismisses {
        self::dismiss(&context, &run, by)?;
        run
    } else {
        let Some(text) = said.text else {
            bail!("`text` is missing: say what the answer is, or what the run should do");
        };
        // A call that waited for a person begins now.
        let asked = if call.agreed.is_some() { Instant::now() } else { call.received };
        answer(&context, Request { run, text, by: by.to_owned(), seen: said.seen, asked })?
    };
    let rest = (call.received + ANSWER_TIMEOUT).saturating_duration_since(Instant::now()).max(LEAST_LOOK);
    Ok(Reply::Answer(Continued { run: listing::find_within(&context, &next, rest)? }))
}

/// Whether a call may answer by itself: where the home says so, and the routine's agent may do no more than tools allow.
fn may_answer(context: &Context, run: &RunId) -> anyhow::Result<bool> {
    if context.config.answers_from == AnswersFrom::Person {
        return Ok(false);
    }
    Ok(check_may_give_text(context, run.routine(), calling_run(context)?.as_ref()).is_ok())
}

/// How long a proposal may be to be one of the options.
const MAX_OPTION_CHARS: usize = 200;

/// How much of a question is shown where the host asks the person.
const MAX_SHOWN_CHARS: usize = 1500;

/// Returns as much of a question as a host shows, with its lines.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn question(context: &Context, run: RunId, proposed: Option<&str>, dismisses: bool) -> anyhow::Result<Question> {
    let found = listing::find(context, &run)?;
    let status = found.own_status();
    let asked = found.question.filter(QuestionView::is_open);
    if !dismisses {
        // Nobody is asked for words that lead nowhere.
        check_continuable(context, &run, UnixSeconds::now())?;
    }
    let about = match &asked {
        Some(question) => format!("Run {run} asks:\n\n{}", beginning(&question.text)),
        None if dismisses => bail!("run {run} has no open question; it is {status}"),
        None => format!("Run {run} is over ({status}). What should it do next?"),
    };
    let otherwise = format!(
        "a person has to say so (answers_from is \"person\", the default): in a host that asks, in the dashboard (moadim-mcp dashboard), or \
         with: moadim-mcp answer {run}"
    );
    let terms = json!(Said { run, text: None, seen: UnixSeconds::now() });
    if dismisses {
        let message = format!("{about}\n\nClose this question, so that nothing follows?");
        return Ok(Question { message, otherwise, terms, form: Form::Confirm });
    }
    let proposal = proposed
        .map(|text| format!("\n\nProposed by the model: {}", shortened(text, MAX_SHOWN_CHARS)))
        .unwrap_or_default();
    let mut options = asked.map(|question| question.options).unwrap_or_default();
    // One choice more, so that nobody has to type it again.
    let proposed = proposed.filter(|text| text.chars().count() <= MAX_OPTION_CHARS && !text.contains(char::is_control));
    options.extend(proposed.map(str::to_owned).filter(|text| !options.contains(text)));
    let message = format!("{about}{proposal}");
    Ok(Question { message, otherwise, terms, form: Form::Words { options } })
}
