//! `trigger`: starts a run, and waits for its end if asked to.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use super::app::{self, Format, print_json};
use super::completion;
use super::text_file;
use crate::clock::HumanDuration;
use crate::janitor::cleanup;
use crate::mcp::tools::runs::Awaited;
use crate::query::listing;
use crate::query::view::RunView;
use crate::query::wait::{self, Bell};
use crate::quote::quote;
use crate::routine::slug::Slug;
use crate::run::options::{calling_run, check_may_give_text};
use crate::run::status::WaitExit;
use crate::run::trigger::{self, IfAlive, Request};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The routine's slug
    #[arg(add = completion::routines())]
    routine: Slug,
    /// Wait until the run is over and exit as its agent did; Ctrl-C stops the wait, not the run
    ///
    /// The exit status is the agent's own, 128 + N if signal N ended it, 124 if it took too long or was silent for too long,
    /// 125 if it asks a person, was stopped, interrupted, lost or at a usage limit, or never started, and 130 after Ctrl-C.
    #[arg(long)]
    wait: bool,
    /// If a run of the routine is alive: skip refuses, allow starts another
    #[arg(long, value_parser = ["skip", "allow"], default_value = "skip")]
    overlap: String,
    /// What this one run is about; its agent takes it as data
    #[arg(long)]
    text: Option<String>,
    /// A file to read that text from; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    text_file: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// A century.
const LONGER_THAN_ANY_RUN: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The exit status that shells give a command ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

pub(super) fn trigger(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { routine, wait, overlap, text, text_file, format } = arguments;
    let text = text_file.map(|file| text_file::read(&file)).transpose()?.or(text);
    let asked = Instant::now();
    let context = app::open()?.with_login_shell().context()?;
    if text.is_some()
        && let Some(caller) = calling_run(&context)?
    {
        check_may_give_text(&context, &routine, Some(&caller))?;
    }
    let if_alive = if overlap == "allow" { IfAlive::Allow } else { IfAlive::Skip };
    let run = trigger::trigger(&context, Request { routine, if_alive, text, asked })?;
    let bell = Bell::default();
    // Before the id is printed, so that Ctrl-C never comes too early.
    if wait {
        call_off_on_interrupt(&bell).context("cannot listen for Ctrl-C")?;
    }
    if !format.json {
        writeln!(anstream::stdout(), "{run}")?;
    }
    context.session_host.finish_opening();
    let run = if wait {
        wait::wait(&context, &run, LONGER_THAN_ANY_RUN, &bell, &mut |_| {})?
    } else {
        listing::find(&context, &run)?
    };
    let finished = wait.then(|| wait::is_over(&run));
    if finished == Some(true) {
        cleanup::record_end(&context, &run.id);
    }
    if format.json {
        print_json(&Awaited { finished, run: run.clone() })?;
    }
    let id = &run.id;
    Ok(match finished {
        None => {
            if !format.json {
                let watch = run.attach_command.map_or(String::new(), |_| format!(", or moadim-mcp attach {id}"));
                eprintln!("it is {}; follow it: moadim-mcp logs -f {id}{watch}", run.status);
            }
            ExitCode::SUCCESS
        }
        Some(true) => {
            let took = run.duration_secs.map(|secs| format!(" after {}", HumanDuration(secs))).unwrap_or_default();
            let why = run.status_reason.as_ref().map(|why| format!(": {}", quote(why, 300))).unwrap_or_default();
            eprintln!("{}{took}{why}", run.own_status());
            exit_code(&run).into()
        }
        Some(false) => {
            eprintln!(
                "stopped waiting; the run goes on; to follow it: moadim-mcp logs -f {id}; to stop it: moadim-mcp stop {id}"
            );
            INTERRUPTED.into()
        }
    })
}

/// Makes Ctrl-C end the wait, and nothing else.
fn call_off_on_interrupt(bell: &Bell) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT])?;
    let bell = bell.clone();
    std::thread::spawn(move || {
        signals.forever().next();
        bell.call_off();
    });
    Ok(())
}

fn exit_code(run: &RunView) -> u8 {
    match run.own_status().wait_exit() {
        WaitExit::Code(code) => code,
        WaitExit::OfTheAgent => match (run.exit_code, run.signal) {
            (Some(code), _) => u8::try_from(code).unwrap_or(1).max(1),
            (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            (None, None) => 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::status::Status;
    use serde_json::json;

    #[test]
    fn the_exit_status_tells_how_the_run_ended() {
        let cases = [
            ("succeeded", json!({ "exit_code": 0 }), 0),
            ("failed", json!({ "exit_code": 3 }), 3),
            ("failed", json!({ "signal": 9 }), 137),
            ("failed", json!({}), 1),
            ("failed", json!({ "exit_code": 300 }), 1),
            ("timed_out", json!({ "signal": 15 }), 124),
            ("silent", json!({}), 124),
            ("asked", json!({}), 125),
            ("stopped", json!({}), 125),
            ("launch_failed", json!({}), 125),
            ("lost", json!({}), 125),
            ("interrupted", json!({ "signal": 15 }), 125),
            ("unknown", json!({}), 125),
        ];
        for (status, more, expected) in cases {
            let mut run = json!({
                "id": "a-1", "routine": "a", "status": status, "triggered_at": "2026-01-01T00:00:00Z", "workbench": "/w",
                "session": "s", "session_host": "detached", "log_path": "/l", "log_bytes": 0,
            });
            run.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let run: RunView = serde_json::from_value(run).unwrap();
            assert_eq!(exit_code(&run), expected, "{status}");
            let reaped = RunView { status: Status::Reaped, outcome: Some(run.status), ..run };
            assert_eq!(exit_code(&reaped), expected, "{status}, and reaped meanwhile");
        }
    }
}
