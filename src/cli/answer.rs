//! `answer`: answers the question of a run, or gives one that is over more to do.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;

use super::app::{self, Format, print_json};
use super::completion;
use super::editor::{Drafts, Refusal};
use super::text_file;
use crate::clock::UnixSeconds;
use crate::mcp::tools::questions::Continued;
use crate::query::listing;
use crate::query::question_view::QuestionView;
use crate::query::view::RunView;
use crate::run::answer::{self, AnswerError, Request, check_continuable, dismiss};
use crate::run::context::{App, Context};
use crate::run::id::RunId;
use crate::run::question::QuestionKind;
use crate::run::question::state::open_runs;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its run that asks, else its newest
    #[arg(add = completion::asking_runs())]
    run: String,
    /// The answer, or what it should do; without it, $EDITOR opens; to a question about a login, it says that you are logged in
    #[arg(conflicts_with = "dismiss")]
    text: Option<String>,
    /// A file to read the answer from; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "dismiss"])]
    text_file: Option<PathBuf>,
    /// Close the question, so that nothing follows
    #[arg(long)]
    dismiss: bool,
    #[command(flatten)]
    format: Format,
}

/// Who answers.
const BY: &str = "moadim-mcp answer";

pub(super) fn answer(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { run, text, text_file, dismiss: dismisses, format } = arguments;
    let app = app::open()?.with_login_shell();
    app::check_called_by_a_person(&app, "answer")?;
    let context = app.context()?;
    let seen = UnixSeconds::now();
    let run = find(&app, &run)?;
    if dismisses {
        dismiss(&context, &run, BY)?;
        let view = listing::find(&context, &run)?;
        if format.json {
            return print_json(&Continued { run: view });
        }
        return Ok(writeln!(anstream::stdout(), "dismissed: {run}")?);
    }
    let give = |text: String| {
        let request = Request { run: run.clone(), text, by: BY.to_owned(), seen, asked: Instant::now() };
        answer::answer(&context, request)
    };
    let next = match text_file.map(|file| text_file::read(&file)).transpose()?.or(text) {
        Some(text) => give(text)?,
        None => {
            check_continuable(&context, &run, seen)?;
            write(&context, &run, give)?
        }
    };
    if !format.json {
        writeln!(anstream::stdout(), "{next}")?;
    }
    context.session_host.finish_opening();
    if format.json {
        return print_json(&Continued { run: listing::find(&context, &next)? });
    }
    eprintln!("it goes on; follow it: moadim-mcp logs -f {next}");
    Ok(())
}

/// Finds a run by its id; or of a routine the run that asks, else the newest.
fn find(app: &App, name: &str) -> anyhow::Result<RunId> {
    let asking = open_runs(&app.home)?;
    let mut of_routine = asking.iter().filter(|run| run.routine().as_str() == name);
    match (of_routine.next(), of_routine.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => bail!("several runs of '{name}' ask; name one of them: moadim-mcp questions {name}"),
        (None, _) => Ok(app::find_run(app, name)?.id),
    }
}

/// Has a person write the answer above the question, in their editor, and gives it.
fn write(context: &Context, run: &RunId, give: impl Fn(String) -> Result<RunId, AnswerError>) -> anyhow::Result<RunId> {
    let view = listing::find(context, run)?;
    if view.question.as_ref().is_some_and(|question| question.is_open() && question.kind == QuestionKind::Login) {
        return Ok(give("You are logged in now.".to_owned())?);
    }
    let about = about(&view);
    let drafts = Drafts::new(&[("answer.md", &format!("\n{about}"))])?;
    let given = drafts.edit_until(|texts| {
        let Some(text) = answer_in(texts.first().map_or("", String::as_str)) else { return Ok(None) };
        match give(text) {
            // What was written is not needed any more.
            Err(error @ AnswerError::Postponed { .. }) => Ok(Some(Err(error))),
            Err(error) => Err(Refusal { reason: error.to_string(), is_in_the_text: false }),
            Ok(next) => Ok(Some(Ok(next))),
        }
    })?;
    let Some(given) = given else { bail!("nothing is written above the line, so nothing was answered") };
    Ok(given?)
}

/// Returns what was written above the line.
fn answer_in(text: &str) -> Option<String> {
    let written = text.split_once(MARK).map_or(text, |(above, _)| above).trim();
    (!written.is_empty()).then(|| written.to_owned())
}

/// Below it nothing is taken for the answer.
const MARK: &str = "# --- Write your answer above this line. What follows is left out. ---";

fn about(view: &RunView) -> String {
    let said = match view.question.as_ref().filter(|question| question.is_open()) {
        Some(QuestionView { text, .. }) => format!("Run {} asks:\n\n{text}", view.id),
        None => {
            let report = view.report.as_ref().and_then(|report| report.text.as_deref());
            let report = report.map(|text| format!(" It reported:\n\n{text}")).unwrap_or_default();
            format!("Run {} is over: {}.{report}", view.id, view.own_status())
        }
    };
    format!("{MARK}\n\n{said}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::Outcome;
    use crate::run::status::Status;

    #[test]
    fn what_a_run_said_is_never_taken_for_the_answer() {
        let (_dir, app) = App::example();
        let context = app.context_for_looking();
        let outcome = Outcome::example("a-1", Status::Succeeded);
        let about = about(&RunView::of_reaped(&context, outcome));
        assert!(about.starts_with(MARK) && about.contains("Run a-1 is over: succeeded."), "{about}");
        assert_eq!(answer_in(&format!("\n{about}")), None);
        assert_eq!(answer_in(&format!("Go on.\n\n{about}")).as_deref(), Some("Go on."));
        assert_eq!(answer_in("Go on.\n").as_deref(), Some("Go on."), "the line was deleted");
    }
}
