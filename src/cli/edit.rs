//! `edit`: both files of a routine in an editor, checked before they are saved.

use std::io::Write;

use super::app::{self, Format, print_json};
use super::completion;
use super::editor::{Drafts, Refusal};
use crate::mcp::tools::routines::changed_by_hand;
use crate::routine::edit::{self, Texts};
use crate::routine::model::Definition;
use crate::routine::slug::Slug;
use crate::run::options::{calling_run, check_written};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The routine's slug
    #[arg(add = completion::routines())]
    routine: Slug,
    #[command(flatten)]
    format: Format,
}

pub(super) fn edit(arguments: &Arguments) -> anyhow::Result<()> {
    let app = if arguments.format.json { app::open_with_login_shell()? } else { app::open()? };
    let context = app.context()?;
    let slug = &arguments.routine;
    let caller = calling_run(&context)?;
    let allows = |before: Option<&Definition>, after: &Definition, is_new_prompt: bool| match &caller {
        Some(caller) => check_written(&context, before, after, is_new_prompt, caller),
        None => Ok(()),
    };
    let read = edit::read_texts(&context.home, slug)?;
    let drafts = Drafts::new(&[("routine.toml", &read.definition), ("prompt.md", &read.prompt)])?;
    let is_changed = drafts.edit_until(|texts| {
        let [definition, prompt] = texts else { return Ok(false) };
        let written = Texts { definition: definition.clone(), prompt: prompt.clone() };
        if written == read {
            return Ok(false);
        }
        let saved = edit::save_texts(&context.home, &context.config, slug, &read, &written, allows);
        let refusal =
            |error: edit::NotSaved| Refusal { reason: error.to_string(), is_in_the_text: error.is_in_the_text() };
        saved.map(|()| true).map_err(refusal)
    })?;
    if arguments.format.json {
        return print_json(&changed_by_hand(&app, slug)?);
    }
    let mut out = anstream::stdout();
    Ok(if is_changed { writeln!(out, "Saved {slug}.") } else { writeln!(out, "Nothing changed.") }?)
}
