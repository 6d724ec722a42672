//! Commands that run when a run has ended or needs a person: `on_finish`, `on_failure` and `on_attention` of `config.toml`, or those of
//! its routine's `[trusted]` instead.
//!
//! Each is a process of its own, with a runner of ours that ends it in time, so that neither the end of a run nor a watchdog's
//! pass ever waits for it.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::context::Context;
use super::entry::Entry;
use super::id::RunId;
use super::log;
use super::own_tree;
use super::record::Outcome;
use super::status::Hook;
use super::workbench::Workbench;
use crate::bounded_command::{sleep, wait_until};
use crate::env_vars;
use crate::environment;
use crate::git::Work;
use crate::home::config::Config;
use crate::home::{self, Home};
use crate::process_tree::{COOKIE_VARIABLE, Cookie, KnownProcesses, become_subreaper};
use crate::quote::quote;
use crate::routine::model::Trusted;
use crate::routine::store;

const HOOK_LIMIT: Duration = Duration::from_secs(30);

/// Starts the hooks of a run that was just recorded, and returns at once. A failure is noted in the run's log, and harmless.
pub fn start(context: &Context, outcome: &Outcome) {
    start_each(context, outcome, outcome.status.hooks());
}

/// Starts `on_failure` for a run that ended well enough, and of which nothing came. The caller sees to it that this happens once.
pub fn start_failure(context: &Context, outcome: &Outcome) {
    start_each(context, outcome, &[Hook::Failure]);
}

/// Starts `on_attention` for a run that needs a person, and returns at once. The caller sees to it that this happens once.
pub fn start_attention(context: &Context, outcome: &Outcome) {
    start_each(context, outcome, &[Hook::Attention]);
}

fn start_each(context: &Context, outcome: &Outcome, hooks: &[Hook]) {
    if hooks.is_empty() {
        return;
    }
    // A routine that cannot be read has the home's hooks: a message too many is better than none.
    let of_routine = store::load_or_archived(&context.home, outcome.id.routine()).map(|definition| definition.trusted);
    for hook in hooks {
        let command = hook.command(of_routine.as_ref(), &context.config);
        if !command.is_empty()
            && let Err(error) = start_for_run(context, outcome, hook.key(), command)
        {
            note(&context.home, &outcome.id, hook.key(), &error);
        }
    }
}

impl Hook {
    fn key(self) -> &'static str {
        match self {
            Self::Finish => "on_finish",
            Self::Failure => "on_failure",
            Self::Attention => "on_attention",
        }
    }

    /// Returns the routine's own command, which may be empty, else the home's.
    fn command<'a>(self, of_routine: Option<&'a Trusted>, config: &'a Config) -> &'a [String] {
        let (own, home) = match self {
            Self::Finish => (of_routine.map(|trusted| &trusted.on_finish), &config.on_finish),
            Self::Failure => (of_routine.map(|trusted| &trusted.on_failure), &config.on_failure),
            Self::Attention => (of_routine.map(|trusted| &trusted.on_attention), &config.on_attention),
        };
        own.and_then(Option::as_ref).unwrap_or(home)
    }

    /// Returns whether it has a command for this run.
    pub(crate) fn is_set(self, context: &Context, run: &RunId) -> bool {
        let of_routine = store::load_or_archived(&context.home, run.routine()).map(|definition| definition.trusted);
        !self.command(of_routine.as_ref(), &context.config).is_empty()
    }
}

fn start_for_run(context: &Context, outcome: &Outcome, name: &str, command: &[String]) -> Result<(), String> {
    let home = context.home.root().as_os_str();
    let run = outcome.id.to_string();
    let runner = ["hook".as_ref(), name.as_ref(), home, run.as_ref()];
    start_runner(context, &runner, command, variables(&context.home, outcome))
}

/// Starts a command of a person's through a runner, which is this program with the words `runner`, and returns at once.
pub(crate) fn start_runner(
    context: &Context,
    runner: &[&OsStr],
    command: &[String],
    variables: Vec<(&'static str, OsString)>,
) -> Result<(), String> {
    let cookie = Cookie::random().map_err(|error| error.to_string())?;
    let inherited = environment::inherited(&environment::of_this_process(), &[]);
    let mut runner = environment::detached(context.program.path(), &inherited)
        .args(runner)
        .arg("--")
        .args(command)
        .envs(variables)
        .env(COOKIE_VARIABLE, cookie.to_string())
        .current_dir(context.home.root())
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    // It only detaches the runner, and ends at once.
    let _ = runner.wait();
    Ok(())
}

/// Describes a run in variables of the hook's environment.
fn variables(home: &Home, outcome: &Outcome) -> Vec<(&'static str, OsString)> {
    let workbench = outcome.workbench(home);
    // What is not known to be over has neither.
    let finished = outcome.status.is_final().then_some(outcome.finished_at);
    let duration = finished.and_then(|_| outcome.duration_secs());
    let usage = outcome.output.as_ref().and_then(|output| output.usage.as_ref());
    let cost = usage.and_then(|usage| usage.cost_usd).map(f64::from);
    let texts = [
        (env_vars::RUN, Some(outcome.id.to_string())),
        (env_vars::ROUTINE, Some(outcome.id.routine().to_string())),
        (env_vars::AGENT, Some(outcome.agent.clone())),
        (env_vars::STATUS, Some(outcome.status.to_string())),
        (env_vars::REASON, outcome.reason.clone()),
        (env_vars::ENDED_BY, outcome.ended_by.clone()),
        (env_vars::EXIT_CODE, outcome.exit_code.map(|code| code.to_string())),
        (env_vars::SIGNAL, outcome.signal.map(|signal| signal.to_string())),
        (env_vars::TRIGGERED_AT, Some(outcome.triggered_at.to_string())),
        (env_vars::FINISHED_AT, finished.map(|at| at.to_string())),
        (env_vars::DURATION_SECS, duration.map(|secs| secs.to_string())),
        (env_vars::HEADLINE, outcome.report.as_ref().map(|report| report.headline.clone())),
        (env_vars::QUESTION, outcome.question.as_ref().map(|question| question.text.clone())),
        (env_vars::COST_USD, cost.map(|dollars| dollars.to_string())),
        (env_vars::UNSAVED_WORK, unsaved_work(&outcome.work)),
    ];
    // A NUL cannot be passed on, and too long a text would keep the hook from starting.
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, bounded(text?.replace('\0', " ")).into())));
    let paths = [
        (env_vars::HOME, home.root().as_os_str().to_owned()),
        (env_vars::WORKBENCH, workbench.directory().as_os_str().to_owned()),
        (env_vars::LOG, workbench.log().into_os_string()),
    ];
    texts.chain(paths).collect()
}

/// How long a text in a variable may be.
const MAX_TEXT_BYTES: usize = 4 * 1024;

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}

fn unsaved_work(work: &[Work]) -> Option<String> {
    let unsaved: Vec<String> = work.iter().filter(|work| work.is_unsaved()).map(Work::to_string).collect();
    (!unsaved.is_empty()).then(|| unsaved.join("; "))
}

/// The runner: runs a hook to its end, or ends it and all its processes, and notes a failure in the run's log.
pub fn run(name: &str, root: PathBuf, id: &RunId, command: &[OsString]) -> anyhow::Result<()> {
    let _ = rustix::process::setsid();
    let home = Home::open(root)?;
    let result = run_bounded(&home, command);
    match &result {
        Ok(None) => {}
        Ok(Some(failure)) => note(&home, id, name, failure),
        Err(error) => note(&home, id, name, error),
    }
    result.map(|_| ())
}

fn note(home: &Home, id: &RunId, name: &str, failure: &dyn Display) {
    tracing::warn!(run = %id, hook = name, %failure);
    let workbench = Workbench::of(home, id);
    // The agent or a sweep may have removed it, and a note must not create it again. A run that may be alive is not touched.
    let may_be_alive = name == Hook::Attention.key() && Entry::of(home, id).exists();
    if workbench.exists() && !may_be_alive {
        log::append_note(&workbench, &format!("{name} failed: {failure}"));
    }
}

/// Runs a command to its end, or ends it and all its processes, within the bound of a hook. Returns what went wrong, if something did.
pub(crate) fn run_bounded(home: &Home, command: &[OsString]) -> anyhow::Result<Option<String>> {
    run_within(home, command, HOOK_LIMIT)
}

fn run_within(home: &Home, command: &[OsString], limit: Duration) -> anyhow::Result<Option<String>> {
    become_subreaper()?;
    let [program, arguments @ ..] = command else { return Ok(Some("no command is given".to_owned())) };
    let cookie: Cookie = std::env::var(COOKIE_VARIABLE).context("the cookie is missing")?.parse()?;
    let output = unnamed_file(home)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()
        .map_err(|error| anyhow!("cannot start {}: {error}", program.display()))?;
    let ended = wait_until(&mut child, Instant::now() + limit, &mut sleep)?;
    let reap = || while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|one| one.is_some()) {};
    let left = own_tree::end(home, &cookie, KnownProcesses::default(), GRACE, &mut |_| reap())?;
    let output = end_of(&output);
    let failure = match ended {
        Some(status) if status.success() => None,
        Some(status) => Some(format!("{}{output}", how(status))),
        None => Some(format!("it took more than {} s, and was ended{output}", limit.as_secs())),
    };
    Ok(failure.or_else(|| (!left.is_empty()).then(|| "it left processes that could not be ended".to_owned())))
}

/// The time between TERM and KILL for processes that a hook leaves.
const GRACE: Duration = Duration::from_secs(2);

fn how(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("it exited with status {code}"))
}

/// Makes a file for what a hook prints, which disappears with the runner.
fn unnamed_file(home: &Home) -> io::Result<File> {
    let path = home.trash().join(format!("hook.{}", home::random_suffix()));
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
    match std::fs::remove_file(&path) {
        // A sweep that empties the trash was first.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(file),
    }
}

fn end_of(output: &File) -> String {
    use std::os::unix::fs::FileExt;
    const MOST: u64 = 512;
    let length = output.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = [0; MOST as usize];
    let count = output.read_at(&mut bytes, length.saturating_sub(MOST)).unwrap_or(0);
    let text = quote(String::from_utf8_lossy(&bytes[..count]).trim(), MOST as usize);
    if text.is_empty() { text } else { format!("; it said: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_would_keep_a_hook_from_starting_is_cut() {
        assert_eq!(bounded("short".into()), "short");
        let cut = bounded("é".repeat(100_000));
        assert!(cut.len() <= MAX_TEXT_BYTES + '…'.len_utf8() && cut.ends_with("é…"));
    }

    #[test]
    fn a_routine_s_own_command_replaces_the_home_s_of_that_name_alone() {
        let words = |word: &str| vec![word.to_owned()];
        let config = Config { on_finish: words("home"), on_failure: words("home"), ..Config::default() };
        let own = Trusted { on_finish: Some(words("own")), on_failure: Some(Vec::new()), ..Trusted::default() };
        let commands = |own: Option<&Trusted>| {
            [Hook::Finish, Hook::Failure, Hook::Attention].map(|hook| hook.command(own, &config).to_vec())
        };
        assert_eq!(commands(None), [words("home"), words("home"), vec![]]);
        assert_eq!(commands(Some(&Trusted::default())), commands(None));
        assert_eq!(commands(Some(&own)), [words("own"), vec![], vec![]]);
    }
}
