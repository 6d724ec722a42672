//! `edit`: both files of a routine in an editor, checked before they are saved.

use std::io::{IsTerminal, Write};

use anyhow::bail;

use super::app;
use super::editor::Drafts;
use crate::routine::ceilings::check_lowered;
use crate::routine::edit::{self, Texts};
use crate::routine::model::Definition;
use crate::routine::slug::Slug;
use crate::run::options::calling_run;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The routine's slug
    routine: Slug,
}

/// What stands before each line of an error in a draft; such lines are taken out again.
const MARK: &str = "#! ";

pub(super) fn edit(arguments: &Arguments) -> anyhow::Result<()> {
    let context = app::open()?.context()?;
    let slug = &arguments.routine;
    let is_agent = calling_run(&context)?.is_some();
    let allows = |before: &Definition, after: &Definition| {
        if is_agent { check_lowered(Some(before), after, &context.config) } else { Ok(()) }
    };
    let read = edit::read_texts(&context.home, slug)?;
    let drafts = Drafts::new(&[("routine.toml", &read.definition), ("prompt.md", &read.prompt)])?;
    loop {
        let mut texts = drafts.edit()?;
        let prompt = texts.pop().unwrap_or_default();
        let definition = without_marks(&texts.pop().unwrap_or_default());
        let written = Texts { definition, prompt };
        if written == read {
            return Ok(writeln!(anstream::stdout(), "Nothing changed.")?);
        }
        match edit::save_texts(&context.home, &context.config, slug, &read, &written, allows) {
            Ok(()) => return Ok(writeln!(anstream::stdout(), "Saved {slug}.")?),
            Err(error) if error.is_in_the_text() && std::io::stdin().is_terminal() => {
                // Back to the editor, with the reason at the top.
                drafts.rewrite(0, &(marked(&error.to_string()) + &written.definition))?;
                drafts.rewrite(1, &written.prompt)?;
            }
            Err(error) => bail!("{error}; what you wrote is in {}", drafts.keep().display()),
        }
    }
}

fn marked(error: &str) -> String {
    let lines = error.lines().map(|line| format!("{MARK}{line}\n"));
    lines.chain([format!("{MARK}Correct it, or leave both files as they were to change nothing.\n")]).collect()
}

fn without_marks(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(MARK)).collect()
}
