//! `logs`: what a run's agent printed, and what it goes on printing.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::app::{self, Format, print_json};
use super::completion;
use crate::mcp::tools::read_log::{LogText, ReadLog, read_log};
use crate::query::view::RunView;
use crate::query::wait::{self, Bell};
use crate::run::context::App;
use crate::run::id::RunId;
use crate::run::log::{Follower, Log};
use crate::run::workbench::Workbench;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    #[arg(add = completion::runs())]
    run: String,
    /// Follow the log until the run is over
    #[arg(short, long, conflicts_with_all = ["json", "grep"])]
    follow: bool,
    /// Print this many lines from the end, 1 to 10000
    #[arg(short = 'n', long, default_value_t = 200, conflicts_with = "grep")]
    lines: usize,
    /// Only lines that match this regular expression; case does not matter
    #[arg(long)]
    grep: Option<String>,
    /// Print the log as it is, with the JSON that some agents print
    #[arg(long, conflicts_with = "follow")]
    raw: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn logs(arguments: Arguments) -> anyhow::Result<()> {
    let app = app::open()?;
    let run = app::find_run(&app, &arguments.run)?;
    let tail_lines = arguments.grep.is_none().then_some(arguments.lines);
    let raw = Some(arguments.raw);
    let wanted = ReadLog { run: run.id.clone(), tail_lines, offset: None, grep: arguments.grep.clone(), raw };
    let answer = read_log(&app, wanted)?;
    if arguments.format.json {
        return print_json(&answer);
    }
    if let Some(note) = answer.note.as_ref().filter(|_| !arguments.follow) {
        eprintln!("moadim-mcp: {note}");
    }
    match arguments.grep {
        Some(pattern) => all_matches(&app, &run.id, &pattern, answer, raw),
        None => {
            print(&answer.text)?;
            if let Some(stderr) = &answer.stderr {
                eprint!("{stderr}");
            }
            if arguments.follow { follow(&app, run, answer.next_offset) } else { Ok(()) }
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A tool answers with the first matches; a person gets all of them, without their offsets.
fn all_matches(app: &App, run: &RunId, pattern: &str, first: LogText, raw: Option<bool>) -> anyhow::Result<()> {
    let mut answer = first;
    let mut searched_to = None;
    loop {
        for line in answer.text.lines() {
            print(&format!("{}\n", line.split_once(':').map_or(line, |(_, text)| text)))?;
        }
        let next = Some(answer.next_offset);
        // A log that was cut off meanwhile begins again; what was printed is not printed once more.
        if !answer.cut || next <= searched_to {
            return Ok(());
        }
        searched_to = next;
        let wanted = ReadLog { run: run.clone(), tail_lines: None, offset: next, grep: Some(pattern.to_owned()), raw };
        answer = read_log(app, wanted)?;
    }
}

/// Pause between two looks at a log.
const PAUSE: Duration = Duration::from_millis(250);

/// Prints what is added to a run's log from a byte on, until the run is over.
pub(super) fn follow(app: &App, run: RunView, mut offset: u64) -> anyhow::Result<()> {
    let context = app.context_for_looking();
    let workbench = Workbench::of(&context.home, &run.id);
    let mut events = Follower::new(&workbench, offset);
    if let Some(events) = &mut events {
        events.pass_over_stderr();
    }
    let mut over = wait::is_over(&run);
    loop {
        let has_more = match &mut events {
            Some(events) => {
                let text = events.read_more()?;
                print(&text)?;
                let (size, read) = events.progress()?;
                read < size
            }
            None => {
                let part = Log::open(&workbench)?.part(offset)?;
                print(&part.text)?;
                offset = part.next_offset;
                part.more
            }
        };
        if has_more {
            continue;
        }
        if over {
            return Ok(print(&events.as_mut().map(Follower::finish).unwrap_or_default())?);
        }
        let began = Instant::now();
        let run = wait::wait(&context, &run.id, PAUSE, &Bell::default(), &mut |_| {})?;
        // What it printed last is still to be read.
        over = wait::is_over(&run) || began.elapsed() < PAUSE;
    }
}
