//! `snooze`: keeps a schedule, or all of them, from firing for a while.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use super::app::{self, Format, print_json};
use super::completion;
use super::create::length;
use super::time::moment;
use super::time_words;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::logging;
use crate::mcp::tools::snooze::{Snooze, Snoozed, snooze_routine};
use crate::quote::quote;
use crate::routine::slug::Slug;
use crate::routine::store;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The routine's slug; if omitted, all schedules are snoozed
    #[arg(add = completion::routines())]
    routine: Option<String>,
    /// How long, such as 2h or 1d
    #[arg(value_name = "TIME", value_parser = length, conflicts_with_all = ["until", "next", "off"])]
    length: Option<Duration>,
    /// Until when: tomorrow, 08:00, 2026-12-01, '2026-12-01 08:00'; a date means its beginning
    #[arg(long, value_name = "WHEN", value_parser = time_words::ahead, conflicts_with_all = ["next", "off"])]
    until: Option<UnixSeconds>,
    /// Skip the next fire of the routine only
    #[arg(long, conflicts_with = "off")]
    next: bool,
    /// End the snooze
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn snooze(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let app = app::open()?;
    if arguments.next && arguments.routine.is_none() {
        logging::say("moadim-mcp: --next needs a routine; to snooze all schedules, give a time such as 2h, or --until");
        return Ok(ExitCode::from(USAGE_ERROR));
    }
    let Some((routine, length)) = meant(&app.home, arguments)? else {
        logging::say(&format!("moadim-mcp: {}", nothing_to_do(&app.home, arguments)));
        return Ok(ExitCode::from(USAGE_ERROR));
    };
    let now = UnixSeconds::now();
    let until = length.map(|length| now.plus_secs(length.as_secs())).or(arguments.until);
    let wanted = Snooze { routine, until, skip_next: Some(arguments.next) };
    let answer = snooze_routine(&app, wanted)?;
    if arguments.format.json {
        return print_json(&answer).map(|()| ExitCode::SUCCESS);
    }
    let mut out = anstream::stdout();
    let Snoozed { routine, firing } = answer;
    let Some(routine) = routine else {
        let until = firing.snoozed_until.map(|until| format!("No schedule fires until {}.", moment(until, now)));
        writeln!(out, "{}", until.as_deref().unwrap_or("Schedules fire again."))?;
        return Ok(ExitCode::SUCCESS);
    };
    let next = firing.next_fires.first().map_or_else(|| "never".to_owned(), |at| moment(*at, now));
    writeln!(out, "{routine} fires next: {next}")?;
    Ok(ExitCode::SUCCESS)
}

/// As of the parser.
const USAGE_ERROR: u8 = 2;

/// Says what is missing where the words say nothing to do.
fn nothing_to_do(home: &Home, arguments: &Arguments) -> String {
    let is_routine = |word: &str| word.parse::<Slug>().is_ok_and(|slug| store::check_exists(home, &slug).is_ok());
    match arguments.routine.as_deref().filter(|word| !is_routine(word)) {
        Some(word) => format!("'{}' is neither a routine nor a time such as 2h or 1d", quote(word, 80)),
        None => "a time is required, such as 2h; or --until, --next, or --off to end a snooze".to_owned(),
    }
}

/// Returns what is meant by the words: a first one that stands alone may be a routine, or how long the whole home stays silent. `None`
/// if they say nothing to do.
fn meant(home: &Home, arguments: &Arguments) -> anyhow::Result<Option<(Option<Slug>, Option<Duration>)>> {
    let is_said = arguments.length.is_some() || arguments.until.is_some() || arguments.next || arguments.off;
    let word = arguments.routine.as_deref();
    let slug = word.map(str::parse::<Slug>).transpose();
    let names_routine =
        slug.as_ref().is_ok_and(|slug| slug.as_ref().is_some_and(|slug| store::check_exists(home, slug).is_ok()));
    match word.and_then(|word| length(word).ok()).filter(|_| !is_said && !names_routine) {
        Some(length) => Ok(Some((None, Some(length)))),
        None if is_said => Ok(Some((slug?, arguments.length))),
        None => Ok(None),
    }
}
