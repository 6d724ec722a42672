//! `show`: all about a routine, or about a run.

use std::io::Write;

use anyhow::bail;

use super::app::{self, Format, print_json};
use super::completion;
use super::time::moment;
use super::usage::today_in_words;
use crate::agent::output::{LimitWarning, Needs, Summary, Usage, grouped, limit_in_words, plain};
use crate::clock::{HumanDuration, UnixSeconds};
use crate::git::Work;
use crate::mcp::tools::routines::{GetRoutine, WholeRoutine, get_routine};
use crate::mcp::tools::runs::{GetRun, get_run};
use crate::query::inspect::{Chain, Inspection};
use crate::query::question_view::QuestionView;
use crate::quote::{quote, shell_word};
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::run::context::App;
use crate::run::question::state::QuestionState;
use crate::run::record::SlurmJob;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A routine's slug, or a run's id
    #[arg(add = completion::runs())]
    what: String,
    /// Show the routine's newest run
    #[arg(long)]
    run: bool,
    /// Show a routine's prompt as a run started now would get it
    #[arg(long, conflicts_with = "run")]
    preview: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let app = app::open_with_login_shell()?;
    let routine = arguments.what.parse::<Slug>().ok().filter(|slug| store::check_exists(&app.home, slug).is_ok());
    match routine.filter(|_| !arguments.run) {
        None if arguments.preview => {
            bail!("--preview needs a routine, and '{}' is none; see: moadim-mcp routines", quote(&arguments.what, 80))
        }
        Some(routine) => show_routine(&app, routine, arguments.preview, arguments.format),
        None => show_run(&app, &arguments.what, arguments.format),
    }
}

/// The longest text on one line, in columns: others chose it.
const MAX_COLUMNS: usize = 500;

/// Prints facts as a column of names and one of values, and leaves out those without a value.
fn print(facts: Vec<(&str, Option<String>)>) -> anyhow::Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = anstream::stdout();
    for (name, value) in facts {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            writeln!(out, "{name:<width$}  {}", quote(&value, MAX_COLUMNS))?;
        }
    }
    Ok(())
}

/// Prints a text that has lines, under a heading, without what controls a terminal: others wrote it.
fn print_text(heading: &str, text: &str) -> anyhow::Result<()> {
    let text = plain(text);
    if text.trim().is_empty() {
        return Ok(());
    }
    Ok(writeln!(anstream::stdout(), "\n{heading}\n{}", text.trim_end())?)
}

fn show_routine(app: &App, routine: Slug, preview: bool, format: Format) -> anyhow::Result<()> {
    let answer = get_routine(app, GetRoutine { routine, preview: Some(preview) })?;
    if format.json {
        return print_json(&answer);
    }
    let now = UnixSeconds::now();
    let WholeRoutine {
        routine,
        prompt,
        preview,
        settings,
        trusted_env_keys,
        trusted_options,
        trusted_precheck,
        trusted_verify,
        recent_runs,
    } = answer;
    let secs = |secs: u64| Some(HumanDuration(secs).to_string());
    let found = if routine.agent_available { "" } else { " (not found)" };
    let state = match (&routine.disabled_because, routine.enabled) {
        (_, true) => "enabled".to_owned(),
        (Some(because), false) => format!("disabled because {because}"),
        (None, false) => "disabled".to_owned(),
    };
    let list = |words: Vec<String>| Some(words.join(", "));
    let mut facts = vec![
        ("routine", Some(routine.slug.to_string())),
        ("title", Some(routine.title)),
        ("agent", Some(routine.agent + found)),
        ("state", Some(state)),
        ("running", list(routine.running.iter().map(ToString::to_string).collect())),
        ("fires next", routine.firing.next_fires.first().map(|at| moment(*at, now))),
        ("waiting", routine.waiting),
        ("used today", routine.used_today.as_ref().map(today_in_words)),
        ("a run may take", secs(routine.max_runtime_secs)),
        ("workbench stays", secs(routine.ttl_secs)),
        ("tags", list(routine.tags)),
        ("variables", list(routine.env_keys)),
        ("trusted variables", list(trusted_env_keys)),
        ("trusted options", list(trusted_options.iter().map(|(name, value)| format!("{name} = {value}")).collect())),
        ("precheck", command(&trusted_precheck)),
        ("verification", trusted_verify.and_then(|words| command(&words).or(Some("none".to_owned())))),
        ("changed", Some(moment(routine.updated_at, now))),
    ];
    let shown = ["ttl_secs", "max_runtime_secs"];
    let others = settings.iter().filter(|(name, _)| !shown.contains(&name.as_str()));
    facts.extend(others.map(|(name, value)| (name.as_str(), Some(value.to_string()))));
    print(facts)?;
    match preview {
        Some(preview) => print_text("PROMPT OF A RUN STARTED NOW", &preview)?,
        None => print_text("PROMPT", &prompt)?,
    }
    let runs = recent_runs.iter().map(|run| format!("{}  {}  {}", run.run, run.status, moment(run.triggered_at, now)));
    print_text("NEWEST RUNS", &runs.collect::<Vec<_>>().join("\n"))
}

fn command(words: &[String]) -> Option<String> {
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn show_run(app: &App, name: &str, format: Format) -> anyhow::Result<()> {
    let run = app::find_run(app, name)?.id;
    let answer = get_run(app, GetRun { run })?;
    if format.json {
        return print_json(&answer);
    }
    let now = UnixSeconds::now();
    let Inspection {
        run, chain, agent, options, retention, archive, recover_command, window_problem, log_tail, ..
    } = answer;
    let summary = run.output.unwrap_or_default();
    let options = options.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");
    let work: Vec<String> = run.work.iter().filter(|work| Work::is_unsaved(work)).map(ToString::to_string).collect();
    print(vec![
        ("run", Some(run.id.to_string())),
        ("routine", Some(run.routine)),
        ("status", Some(run.outcome.unwrap_or(run.status).to_string())),
        ("why", run.status_reason),
        ("continues", run.continues.map(|before| before.to_string())),
        ("continued by", run.continued_by.map(|next| next.to_string())),
        ("whole chain", chain.as_ref().map(chain_in_words)),
        ("report", run.report.as_ref().map(|report| report.headline.clone())),
        ("agent", agent),
        ("options", Some(options)),
        ("triggered", Some(moment(run.triggered_at, now))),
        ("job", run.job.as_ref().map(SlurmJob::in_words)),
        ("took", run.duration_secs.map(|secs| HumanDuration(secs).to_string())),
        ("exit status", run.exit_code.map(|code| code.to_string())),
        ("verified", run.verified.map(|verified| if verified { "yes" } else { "no" }.to_owned())),
        ("model", summary.model.clone()),
        ("turns", summary.turns.map(|turns| turns.to_string())),
        ("used", used(&summary)),
        ("denied", Some(denied(&summary))),
        ("needs", summary.needs.map(|needs| if needs == Needs::Login { "a login" } else { "money" }.to_owned())),
        (
            "limit",
            summary.limit.as_ref().map(|limit| match limit.resets_at {
                Some(at) => format!("{}, until {}", limit_in_words(&limit.kind), moment(at, now)),
                None => limit_in_words(&limit.kind),
            }),
        ),
        ("limit is near", summary.limit_warning.as_ref().map(|warning| near(warning, now))),
        ("unsaved work", Some(work.join("; "))),
        ("archive", archive.map(|archive| archive.path)),
        ("to bring it back", recover_command),
        ("workbench", Some(run.workbench)),
        ("retention", Some(retention)),
        ("to watch it", run.attach_command),
        ("window", window_problem),
        ("to continue it", run.resume_command),
    ])?;
    if let Some(question) = &run.question {
        print_text("QUESTION", &question_in_words(question, now))?;
    }
    let report = run.report.and_then(|report| report.text);
    print_text("REPORT", report.as_deref().unwrap_or_default())?;
    print_text("THE AGENT'S LAST MESSAGE", summary.result.as_deref().unwrap_or_default())?;
    print_text("END OF THE LOG", &log_tail)
}

fn question_in_words(question: &QuestionView, now: UnixSeconds) -> String {
    let QuestionView { text, expires_at, state, answer, closed_at, closed_by, .. } = question;
    let state = match state {
        Some(QuestionState::Open) => {
            let until = expires_at.map(|at| format!(", expires {}", moment(at, now))).unwrap_or_default();
            format!("open{until}")
        }
        Some(state) => {
            let at = closed_at.map(|at| format!(", {}", moment(at, now))).unwrap_or_default();
            let by = closed_by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
            format!("{state}{at}{by}")
        }
        None => "what became of it is in the history".to_owned(),
    };
    let answer = answer.as_ref().map(|answer| format!("\n\nAnswer: {answer}")).unwrap_or_default();
    format!("{text}\n\n[{state}]{answer}")
}

fn chain_in_words(chain: &Chain) -> String {
    let runs: Vec<String> = chain.runs.iter().map(ToString::to_string).collect();
    let used = chain.usage.as_ref().map(|usage| format!("; together {}", usage_in_words(usage))).unwrap_or_default();
    format!("{}{used}", runs.join(", "))
}

fn used(summary: &Summary) -> Option<String> {
    let so_far = if summary.so_far { " so far" } else { "" };
    Some(format!("{}{so_far}", usage_in_words(summary.usage.as_ref()?)))
}

fn usage_in_words(usage: &Usage) -> String {
    let cost = usage.cost_usd.map(|cost| format!(", {cost} at list prices")).unwrap_or_default();
    let (input, output) = (grouped(usage.input_tokens), grouped(usage.output_tokens));
    format!("{input} tokens in, {output} out{cost}")
}

fn near(warning: &LimitWarning, now: UnixSeconds) -> String {
    let used = warning.used_percent.map(|percent| format!("{percent} % used"));
    let resets = warning.resets_at.map(|at| format!("resets {}", moment(at, now)));
    std::iter::once(limit_in_words(&warning.kind)).chain(used).chain(resets).collect::<Vec<_>>().join(", ")
}

fn denied(summary: &Summary) -> String {
    summary.denied.iter().map(|denied| format!("{} ({})", denied.tool, denied.count)).collect::<Vec<_>>().join(", ")
}
