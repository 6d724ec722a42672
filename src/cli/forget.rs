//! `forget`: records an unknown run as lost.

use std::io::{IsTerminal, Write};

use anyhow::bail;

use super::app::{self, Format, print_json};
use super::completion;
use crate::clock::UnixSeconds;
use crate::mcp::tools::runs::Stopped;
use crate::process_tree::{Cookie, Whereabouts, whereabouts};
use crate::query::listing;
use crate::quote::quote;
use crate::run::check_job::{was_checked, withdraw_check};
use crate::run::context::Context;
use crate::run::continuation::index::Continuations;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, JUDGE_LOCK_TIMEOUT, Liveness, judge};
use crate::run::outcome_file::read_outcome;
use crate::run::record::{Ending, Outcome, RecordError};
use crate::run::recording::record_forgotten;
use crate::run::status::Status;
use crate::run::workbench::Workbench;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A run's id
    #[arg(add = completion::live_runs())]
    run: String,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    format: Format,
}

const MAX_CAUSE_CHARS: usize = 500;

pub(super) fn forget(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open()?;
    let run = app::find_run(&app, &arguments.run)?.id;
    let context = app.context()?;
    let cause = quote(&Unknown::find(&context, &run)?.cause, MAX_CAUSE_CHARS);
    if !arguments.yes {
        let question = format!(
            "The run {run} is unknown: {cause}\nProcesses of it that are still alive keep running, unsupervised. \
             Record the run as lost? [y/N] "
        );
        if !confirmed(&question)? {
            bail!("the run {run} stays unknown");
        }
    }
    // Once more: the answer may have taken hours.
    Unknown::find(&context, &run)?.record_as_lost(&context, &run)?;
    if arguments.format.json {
        return print_json(&Stopped { run: listing::find(&context, &run)?, note: None });
    }
    Ok(writeln!(anstream::stdout(), "{run} {}", Status::Lost)?)
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("stdin is not a terminal; use --yes to skip the question");
    }
    let mut terminal = anstream::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// A run that is unknown, locked so that no other process decides about it.
struct Unknown {
    cause: String,
    assessment: Option<Assessment>,
}

impl Unknown {
    /// Locks an unknown run and finds out why it is unknown.
    fn find(context: &Context, run: &RunId) -> anyhow::Result<Self> {
        let known = || {
            let status = listing::find(context, run)?.status;
            bail!("cannot forget the run {run}: it is {status}; only a run that is unknown can be forgotten")
        };
        let entry = Entry::of(&context.home, run);
        if entry.exists()
            && let Some(assessment) = judge(context, vec![entry], JUDGE_LOCK_TIMEOUT).pop()
        {
            return match assessment.liveness.clone() {
                Liveness::Unknown(cause) => Ok(Self { cause, assessment: Some(assessment) }),
                Liveness::Judging(by) => {
                    bail!("cannot forget the run {run}: another process is judging it ({by}); try again")
                }
                Liveness::Owned
                | Liveness::Unsupervised(_)
                | Liveness::Queued(_)
                | Liveness::Elsewhere(_)
                | Liveness::Dead => {
                    drop(assessment);
                    known()
                }
            };
        }
        let workbench = Workbench::of(&context.home, run);
        if !workbench.exists() {
            return known();
        }
        let cause = match read_outcome(&workbench, run) {
            Ok(_) => return known(),
            Err(newer @ RecordError::Newer { .. }) => bail!("cannot forget the run {run}: {newer}"),
            // Without an entry nothing else shows whether it is alive.
            Err(_) if is_in_use(&workbench, run)? => {
                bail!("cannot forget the run {run}: a process works in its workbench; end it first")
            }
            Err(RecordError::File(error)) if error.is_not_found() => {
                "it has neither an entry nor an outcome".to_owned()
            }
            Err(error) => error.to_string(),
        };
        Ok(Self { cause, assessment: None })
    }

    /// Ends nothing: the run's processes are not known.
    fn record_as_lost(self, context: &Context, run: &RunId) -> anyhow::Result<()> {
        let entry = Entry::of(&context.home, run);
        let manifest = self.assessment.as_ref().and_then(|assessment| assessment.manifest.as_ref().ok());
        let triggered_at = manifest.map_or(run.stamp(), |manifest| manifest.triggered.at);
        let reason = format!("forgotten by a person: {}", self.cause);
        let ending = Ending {
            ended_by: Some("moadim-mcp forget".to_owned()),
            retain_from: Workbench::of(&context.home, run).last_output_or(triggered_at),
            ..Ending::of(Status::Lost, reason, UnixSeconds::now())
        };
        let outcome = match manifest {
            Some(manifest) => Outcome::new(manifest, entry.started().ok().flatten().as_ref(), ending),
            None => {
                let record = Continuations::read(&context.home)?.of(run).cloned();
                let (continues, workbench) = record.map(|one| (one.continues, one.workbench)).unzip();
                Outcome { continues, workbench, ..Outcome::without_manifest(run, Cookie::random()?, ending) }
            }
        };
        let was_checked = was_checked(&entry);
        record_forgotten(context, &entry, &outcome)?;
        drop(self);
        if was_checked {
            withdraw_check(context, run);
        }
        Ok(())
    }
}

fn is_in_use(workbench: &Workbench, run: &RunId) -> anyhow::Result<bool> {
    let (directory, run) = (workbench.directory(), run.to_string());
    let uses = |one: &Whereabouts| {
        one.directory.as_ref().is_some_and(|at| at.starts_with(directory)) || one.run.as_ref() == Some(&run)
    };
    Ok(whereabouts()?.iter().any(uses))
}
