//! `logs`: what a run's agent printed, and what it goes on printing.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::desk::{Desk, Format, print_json};
use crate::query::view::RunView;
use crate::query::wait::{self, Bell};
use crate::run::entry::Workbench;
use crate::run::log::Log;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id, or a routine's slug for its newest run
    run: String,
    /// Print what is added too, until the run is over
    #[arg(short, long, conflicts_with_all = ["json", "grep"])]
    follow: bool,
    /// How many lines from the end, 1 to 10000
    #[arg(short = 'n', long, default_value_t = 200, conflicts_with = "grep")]
    lines: usize,
    /// Only lines that match this regular expression; case does not matter
    #[arg(long)]
    grep: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// Prints them.
pub(super) fn logs(arguments: Arguments) -> anyhow::Result<()> {
    let desk = Desk::open()?;
    let run = desk.run(&arguments.run)?;
    let wanted = match &arguments.grep {
        Some(pattern) => json!({ "run": run.id, "grep": pattern }),
        None => json!({ "run": run.id, "tail_lines": arguments.lines }),
    };
    let answer = desk.call("read_log", wanted)?;
    if arguments.format.json {
        return print_json(&answer);
    }
    if let Some(note) = answer["note"].as_str().filter(|_| !arguments.follow) {
        eprintln!("moadim-mcp: {note}");
    }
    match arguments.grep {
        Some(pattern) => all_matches(&desk, &run, &pattern, answer),
        None => {
            print(answer["text"].as_str().unwrap_or_default())?;
            let offset = answer["next_offset"].as_u64().unwrap_or_default();
            if arguments.follow { follow(&desk, run, offset) } else { Ok(()) }
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A tool answers with the first matches; a person gets all of them, without their offsets.
fn all_matches(desk: &Desk, run: &RunView, pattern: &str, first: Value) -> anyhow::Result<()> {
    let mut answer = first;
    let mut searched_to = None;
    loop {
        for line in answer["text"].as_str().unwrap_or_default().lines() {
            print(&format!("{}\n", line.split_once(':').map_or(line, |(_, text)| text)))?;
        }
        let next = answer["next_offset"].as_u64();
        // A log that was cut off meanwhile begins again; what was printed is not printed once more.
        if answer["cut"] != true || next <= searched_to {
            return Ok(());
        }
        searched_to = next;
        answer = desk.call("read_log", json!({ "run": run.id, "grep": pattern, "offset": next }))?;
    }
}

/// Pause between two looks at a log.
const PAUSE: Duration = Duration::from_millis(250);

/// Prints what is added to a run's log from a byte on, until the run is over.
pub(super) fn follow(desk: &Desk, run: RunView, mut offset: u64) -> anyhow::Result<()> {
    let context = desk.context();
    let workbench = Workbench::of(&context.home, &run.id);
    let mut over = wait::is_over(&run);
    loop {
        let part = Log::open(&workbench)?.part(offset)?;
        print(&part.text)?;
        offset = part.next_offset;
        if part.more {
            continue;
        }
        if over {
            return Ok(());
        }
        let began = Instant::now();
        let run = wait::wait(&context, &run.id, PAUSE, &Bell::default(), &mut |_| {})?;
        // What it printed last is still to be read.
        over = wait::is_over(&run) || began.elapsed() < PAUSE;
    }
}
