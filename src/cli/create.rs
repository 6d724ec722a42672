//! `create`: saves a routine.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::app::{self, Format, print_json};
use super::editor;
use crate::mcp::tools::routines::{OneRoutine, create_from};
use crate::quote::quote;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A short name for people
    title: String,
    /// The agent that does the work, as `moadim-mcp agents` lists it
    #[arg(long)]
    agent: String,
    /// What the agent should do; without this and --prompt-file, an editor opens
    #[arg(long, conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// A file that says what the agent should do; - is the standard input
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// The routine's permanent name; if absent, made of the title
    #[arg(long)]
    slug: Option<String>,
    /// When it runs by itself: five cron fields, or @daily and the like
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// The time zone of the schedule, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    timezone: Option<String>,
    /// A value of an option of the agent, such as model=opus or permissions=read-only
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
    /// How long a run may take, such as 90s, 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = length)]
    max_runtime: Option<Duration>,
    /// How long a run may print nothing
    #[arg(long, value_name = "TIME", value_parser = length)]
    max_silence: Option<Duration>,
    /// How long a finished run's workbench is kept, such as 2d
    #[arg(long, value_name = "TIME", value_parser = length)]
    ttl: Option<Duration>,
    /// How many of the newest finished runs are kept whatever their age
    #[arg(long, value_name = "COUNT")]
    keep_last: Option<u64>,
    /// How many runs a day may have
    #[arg(long, value_name = "COUNT")]
    max_daily_runs: Option<u64>,
    /// What the runs of a day may cost, by the list prices that the agent reports
    #[arg(long, value_name = "USD")]
    max_daily_cost_usd: Option<f64>,
    /// A git repository that each run gets a fresh clone of
    #[arg(long = "repository", value_name = "URL")]
    repositories: Vec<String>,
    /// A word to find the routine by
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// Create it disabled
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    format: Format,
}

/// Reads a length of time, such as `90s`, `2h` or `1d`.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write for example 90s, 30m, 2h or 1d".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as model=opus")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What a new prompt is written over.
const TEMPLATE: &str = "\n\
    # Write above what the agent should do. Lines that begin with # are left out.\n\
    # Nobody is there to answer questions: say where to look, what to write, and what to leave alone.\n";

pub(super) fn create(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open_with_login_shell()?;
    let prompt = prompt(arguments)?;
    let answer = create_from(&app, wanted(arguments, prompt))?;
    if arguments.format.json {
        return print_json(&answer);
    }
    let OneRoutine { routine, permissions, warnings } = answer;
    for warning in &warnings {
        writeln!(anstream::stderr(), "moadim-mcp: {}", quote(warning, 500))?;
    }
    let mut out = anstream::stdout();
    writeln!(out, "Created the routine {}.", routine.slug)?;
    if let Some(permissions) = permissions {
        writeln!(out, "Its agent's permissions: {}.", quote(&permissions, 500))?;
    }
    Ok(writeln!(out, "To run it now: moadim-mcp trigger {}", routine.slug)?)
}

fn wanted(arguments: &Arguments, prompt: String) -> Map<String, Value> {
    let secs = |length: &Option<Duration>| length.map(|length| json!(length.as_secs()));
    let list = |words: &[String]| (!words.is_empty()).then(|| json!(words));
    let repositories: Vec<Value> = arguments.repositories.iter().map(|url| json!({ "url": url })).collect();
    let options: Map<String, Value> =
        arguments.options.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let all = [
        ("title", Some(json!(arguments.title))),
        ("agent", Some(json!(arguments.agent))),
        ("prompt", Some(json!(prompt))),
        ("slug", arguments.slug.as_ref().map(|slug| json!(slug))),
        ("schedule", arguments.schedule.as_ref().map(|schedule| json!(schedule))),
        ("timezone", arguments.timezone.as_ref().map(|zone| json!(zone))),
        ("options", (!options.is_empty()).then(|| options.into())),
        ("max_runtime_secs", secs(&arguments.max_runtime)),
        ("max_silence_secs", secs(&arguments.max_silence)),
        ("ttl_secs", secs(&arguments.ttl)),
        ("keep_last", arguments.keep_last.map(|count| json!(count))),
        ("max_daily_runs", arguments.max_daily_runs.map(|count| json!(count))),
        ("max_daily_cost_usd", arguments.max_daily_cost_usd.map(|dollars| json!(dollars))),
        ("repositories", (!repositories.is_empty()).then(|| repositories.into())),
        ("tags", list(&arguments.tags)),
        ("enabled", arguments.disabled.then_some(json!(false))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn prompt(arguments: &Arguments) -> anyhow::Result<String> {
    if let Some(prompt) = &arguments.prompt {
        return Ok(prompt.clone());
    }
    match &arguments.prompt_file {
        Some(file) if file.as_os_str() == "-" => {
            let mut prompt = String::new();
            std::io::stdin().read_to_string(&mut prompt).context("cannot read the prompt from the standard input")?;
            Ok(prompt)
        }
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())),
        None if std::io::stdin().is_terminal() => {
            let drafts = editor::Drafts::new(&[("prompt.md", TEMPLATE)])?;
            let text = drafts.edit()?.remove(0);
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let prompt = lines.join("\n").trim().to_owned();
            if prompt.is_empty() {
                bail!("nothing was created: the prompt is empty");
            }
            Ok(prompt + "\n")
        }
        None => bail!("there is no prompt; give --prompt or --prompt-file"),
    }
}
