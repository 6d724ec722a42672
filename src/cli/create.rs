//! `create`: saves a routine.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::app::{self, Format, print_json};
use super::completion;
use super::editor::{Drafts, Refusal};
use super::file_schemas::WrittenFile;
use super::template;
use super::time::moment;
use crate::agent::agent_names;
use crate::clock::UnixSeconds;
use crate::mcp::tools::routines::{OneRoutine, create_from, create_written};
use crate::quote::quote;
use crate::routine::slug::Slug;
use crate::run::context::App;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("when").multiple(true))]
pub(super) struct Arguments {
    /// A short name for people
    title: Option<String>,
    /// The agent that does the work, as `moadim-mcp agents` lists it
    #[arg(long, add = completion::agents())]
    agent: Option<String>,
    /// What the agent should do; without this and --prompt-file, an editor opens on all settings and the prompt
    #[arg(long, conflicts_with = "prompt_file", requires_all = ["title", "agent"])]
    prompt: Option<String>,
    /// A file that says what the agent should do; - is the standard input
    #[arg(long, value_name = "FILE", requires_all = ["title", "agent"], value_hint = clap::ValueHint::FilePath)]
    prompt_file: Option<PathBuf>,
    /// The routine's permanent name; if absent, made of the title
    #[arg(long)]
    slug: Option<Slug>,
    /// When it runs by itself: five cron fields, or @daily and the like; can be given several times
    #[arg(long = "schedule", group = "when", value_name = "CRON")]
    schedules: Vec<String>,
    /// Run it once, at a local time such as 2026-12-01T09:00, or at one with an offset
    #[arg(long, group = "when", value_name = "TIME")]
    run_at: Option<String>,
    /// The time zone of --schedule and --run-at, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "when")]
    timezone: Option<String>,
    /// What a fire does while a run is alive
    #[arg(long, value_parser = ["skip", "queue", "replace", "allow"], requires = "when")]
    overlap: Option<String>,
    /// Whether to make up for the newest fire that was missed because nothing was running
    #[arg(long, value_parser = ["latest", "none"], requires = "when")]
    catch_up: Option<String>,
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
    /// How long the workbench of a run that did not succeed is kept
    #[arg(long, value_name = "TIME", value_parser = length)]
    failed_ttl: Option<Duration>,
    /// How many of the newest finished runs are kept whatever their age
    #[arg(long, value_name = "COUNT")]
    keep_last: Option<u64>,
    /// How many attempts in all, including the first
    #[arg(long, value_name = "COUNT", requires = "backoff")]
    max_attempts: Option<u32>,
    /// The pause before it is tried again
    #[arg(long, value_name = "TIME", value_parser = length, requires = "max_attempts")]
    backoff: Option<Duration>,
    /// Disable the routine after this many failed runs in a row
    #[arg(long, value_name = "COUNT")]
    max_consecutive_failures: Option<u64>,
    /// A variable for its runs, of those that the agent accepts
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// How many runs may start in one day
    #[arg(long, value_name = "COUNT")]
    max_daily_runs: Option<u64>,
    /// What a day's runs may cost, at the list prices that the agent reports
    #[arg(long, value_name = "USD")]
    max_daily_cost_usd: Option<f64>,
    /// A git repository that each run gets a fresh clone of
    #[arg(long = "repository", value_name = "URL")]
    repositories: Vec<String>,
    /// The branch or tag to clone, if there is one --repository
    #[arg(long, requires = "repositories")]
    branch: Option<String>,
    /// What becomes of unsaved work when a workbench goes
    #[arg(long, value_parser = ["archive", "keep"])]
    unsaved_work: Option<String>,
    /// A glob of files to archive from the workbench, such as out/**/*.csv
    #[arg(long = "archive-file", value_name = "GLOB")]
    archive_files: Vec<String>,
    /// Give each run the beginning of the last successful run's report
    #[arg(long)]
    continuity: bool,
    /// Where its runs take place
    #[arg(long, value_parser = ["local", "slurm"])]
    engine: Option<String>,
    /// What its runs ask of Slurm: cpus, memory_mib, gpus, partition or constraint, such as gpus=1
    #[arg(long = "resource", value_name = "NAME=VALUE", value_parser = pair)]
    resources: Vec<(String, String)>,
    /// A word to find the routine by
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// Create it disabled
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    format: Format,
}

/// Reads a length of time in whole seconds, such as `90s`, `2h` or `1d`.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).ok().filter(|length| length.subsec_nanos() == 0);
    length.ok_or_else(|| "write for example 90s, 30m, 2h or 1d".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Makes numbers of those resources that are counted.
fn with_numbers(mut resources: Value) -> Value {
    for name in ["cpus", "memory_mib", "gpus"] {
        let number = resources.get(name).and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
        if let Some(number) = number {
            resources[name] = json!(number);
        }
    }
    resources
}

pub(super) fn create(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open_with_login_shell()?;
    let answer = match given_prompt(arguments)? {
        Some(prompt) => create_from(&app, with_prompt(arguments, prompt)?)?,
        None if std::io::stdin().is_terminal() => create_in_editor(&app, arguments)?,
        None => bail!("there is no prompt; give --prompt or --prompt-file"),
    };
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
    if let Some(at) = routine.firing.next_fires.first() {
        let when = moment(*at, UnixSeconds::now());
        writeln!(
            out,
            "It fires next: {when}, if a host's server is open or the service is installed (moadim-mcp service install)."
        )?;
    }
    Ok(writeln!(out, "To run it now: moadim-mcp trigger {}", routine.slug)?)
}

/// Returns the prompt that the command line names; `None` if it names none.
fn given_prompt(arguments: &Arguments) -> anyhow::Result<Option<String>> {
    match (&arguments.prompt, &arguments.prompt_file) {
        (Some(prompt), _) => Ok(Some(prompt.clone())),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut prompt = String::new();
            std::io::stdin().read_to_string(&mut prompt).context("cannot read the prompt from the standard input")?;
            Ok(Some(prompt))
        }
        (None, Some(file)) => {
            std::fs::read_to_string(file).map(Some).with_context(|| format!("cannot read {}", file.display()))
        }
        (None, None) => Ok(None),
    }
}

/// Opens both files of the new routine in an editor, with what the command line says of it.
fn create_in_editor(app: &App, arguments: &Arguments) -> anyhow::Result<OneRoutine> {
    let agents: Vec<String> = agent_names(&app.home).iter().map(ToString::to_string).collect();
    let template = template::definition(&WrittenFile::Routine.schema(), &settings(arguments)?, &agents)?;
    let drafts = Drafts::new(&[("routine.toml", &template), ("prompt.md", template::PROMPT)])?;
    let created = drafts.edit_until(|texts| {
        let [definition, prompt] = texts else { return Ok(None) };
        if *definition == template && prompt == template::PROMPT {
            return Ok(None);
        }
        let definition = template::without_comments(definition, &template);
        let prompt = template::without_comments(prompt, template::PROMPT);
        let created = create_written(app, arguments.slug.clone(), &definition, &prompt);
        created.map(Some).map_err(|error| Refusal { reason: format!("{error:#}"), is_in_the_text: true })
    })?;
    created.context("nothing was created: both files are as they were")
}

/// Returns the arguments of the tool that creates.
fn with_prompt(arguments: &Arguments, prompt: String) -> anyhow::Result<Map<String, Value>> {
    let mut all = settings(arguments)?;
    all.insert("prompt".to_owned(), prompt.into());
    all.extend(arguments.slug.as_ref().map(|slug| ("slug".to_owned(), json!(slug))));
    Ok(all)
}

/// Returns the settings that the command line gives, by their names in `routine.toml`.
fn settings(arguments: &Arguments) -> anyhow::Result<Map<String, Value>> {
    if arguments.branch.is_some() && arguments.repositories.len() > 1 {
        bail!("--branch is for one --repository; set the branches of several with: moadim-mcp edit ROUTINE");
    }
    let secs = |length: &Option<Duration>| length.map(|length| json!(length.as_secs()));
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    let list = |words: &[String]| (!words.is_empty()).then(|| json!(words));
    let table = |pairs: &[(String, String)]| {
        let table: Map<String, Value> = pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        (!table.is_empty()).then(|| json!(table))
    };
    let repository = |url: &String| match &arguments.branch {
        Some(branch) => json!({ "url": url, "branch": branch }),
        None => json!({ "url": url }),
    };
    let repositories: Vec<Value> = arguments.repositories.iter().map(repository).collect();
    let retry = arguments.max_attempts.zip(arguments.backoff);
    let retry = retry.map(|(attempts, backoff)| json!({ "max_attempts": attempts, "backoff_secs": backoff.as_secs() }));
    let all = [
        ("title", text(&arguments.title)),
        ("agent", text(&arguments.agent)),
        ("schedule", list(&arguments.schedules)),
        ("run_at", text(&arguments.run_at)),
        ("timezone", text(&arguments.timezone)),
        ("overlap", text(&arguments.overlap)),
        ("catch_up", text(&arguments.catch_up)),
        ("options", table(&arguments.options)),
        ("max_runtime_secs", secs(&arguments.max_runtime)),
        ("max_silence_secs", secs(&arguments.max_silence)),
        ("ttl_secs", secs(&arguments.ttl)),
        ("failed_ttl_secs", secs(&arguments.failed_ttl)),
        ("keep_last", arguments.keep_last.map(|count| json!(count))),
        ("retry", retry),
        ("max_consecutive_failures", arguments.max_consecutive_failures.map(|count| json!(count))),
        ("env", table(&arguments.env)),
        ("max_daily_runs", arguments.max_daily_runs.map(|count| json!(count))),
        ("max_daily_cost_usd", arguments.max_daily_cost_usd.map(|dollars| json!(dollars))),
        ("repositories", (!repositories.is_empty()).then(|| repositories.into())),
        ("unsaved_work", text(&arguments.unsaved_work)),
        ("archive_files", list(&arguments.archive_files)),
        ("continuity", arguments.continuity.then_some(json!(true))),
        ("engine", text(&arguments.engine)),
        ("resources", table(&arguments.resources).map(with_numbers)),
        ("tags", list(&arguments.tags)),
        ("enabled", arguments.disabled.then_some(json!(false))),
    ];
    Ok(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}
