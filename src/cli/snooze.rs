//! `snooze`: keeps a schedule from firing for a while.

use std::io::Write;

use super::app::{self, Format, print_json};
use super::completion;
use super::create::length;
use super::time::moment;
use super::time_words;
use crate::clock::UnixSeconds;
use crate::mcp::tools::snooze::{Snooze, Snoozed, snooze_routine};
use crate::routine::slug::Slug;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub(super) struct Arguments {
    /// The routine's slug
    #[arg(add = completion::routines())]
    routine: Slug,
    /// How long, such as 2h or 1d
    #[arg(group = "how", value_name = "TIME", value_parser = length)]
    length: Option<std::time::Duration>,
    /// Until when: a date, or a time such as '2026-01-31 08:00'
    #[arg(long, group = "how", value_name = "WHEN", value_parser = time_words::until)]
    until: Option<UnixSeconds>,
    /// Skip the next fire only
    #[arg(long, group = "how")]
    next: bool,
    /// End the snooze
    #[arg(long, group = "how")]
    off: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn snooze(arguments: &Arguments) -> anyhow::Result<()> {
    let now = UnixSeconds::now();
    let until = arguments.length.map(|length| now.plus_secs(length.as_secs())).or(arguments.until);
    let wanted = Snooze { routine: arguments.routine.clone(), until, skip_next: Some(arguments.next) };
    let answer = snooze_routine(&app::open()?, wanted)?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let Snoozed { routine, firing } = answer;
    let next = firing.next_fires.first().map_or_else(|| "never".to_owned(), |at| moment(*at, now));
    Ok(writeln!(anstream::stdout(), "{routine} fires next: {next}")?)
}
