//! A routine, and what may stand in one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid_field::InvalidField;
use super::repository::{self, Repository};
use super::schedule::{CronExpressions, Schedule, check_as_meant, run_at};
use super::slug::Slug;
use crate::clock::UnixSeconds;
use crate::environment::{EnvName, Variables};
use crate::home::config::{COMMAND_RULE, Config, UnsavedWork, is_command};
use crate::money::MicroDollars;
use crate::options::{Options, PERMISSIONS, Permissions};
use crate::quote::quote;

/// A saved definition of work. Its prompt is a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routine {
    pub slug: Slug,
    pub definition: Definition,
}

/// What `routine.toml` holds.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Definition {
    /// Its name for people: one line, at most 200 characters.
    pub title: String,
    /// The agent's name, as `moadim-mcp agents` lists it.
    pub agent: String,
    /// Whether it may be triggered.
    pub enabled: bool,
    /// How long a finished run's workbench is kept. If absent, the home's default.
    pub ttl_secs: Option<u64>,
    /// How long a run may take, from its trigger. If absent, the home's default.
    pub max_runtime_secs: Option<u64>,
    /// How long a run may print nothing before it is ended. If absent, what its agent's file says.
    pub max_silence_secs: Option<u64>,
    /// How long the workbench of a run that did not succeed is kept. If absent, the home's default.
    pub failed_ttl_secs: Option<u64>,
    /// How many of its newest finished runs are kept whatever their age; succeeded and other runs are counted apart. If
    /// absent, the home's default.
    pub keep_last: Option<u64>,
    /// When it fires by itself: five cron fields, or a name such as `@daily`; or a list of at most 20. If absent, never.
    pub schedule: Option<CronExpressions>,
    /// A moment at which it fires once, beside its schedule or without one: local to its time zone, as `"2026-12-01T09:00"`, or
    /// RFC 3339.
    #[serde(deserialize_with = "run_at::text")]
    pub run_at: Option<String>,
    /// The time zone of both, an IANA name. If absent, the machine's.
    pub timezone: Option<String>,
    /// What a fire of the schedule does while a run of the routine is alive.
    #[serde(skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// What happens to occurrences that nobody was there to fire.
    #[serde(skip_serializing_if = "is_default")]
    pub catch_up: CatchUp,
    /// How many runs in a row may fail before the routine is disabled. If absent, any number.
    pub max_consecutive_failures: Option<u64>,
    /// How many runs may be started on one day of its time zone. If absent, any number. Tools can only lower it.
    pub max_daily_runs: Option<u64>,
    /// What the runs of one day may cost, by the list prices that its agent reports. If absent, any amount. Tools can only lower it.
    pub max_daily_cost_usd: Option<MicroDollars>,
    /// What becomes of unsaved work when a workbench is removed. If absent, what the home says.
    pub unsaved_work: Option<UnsavedWork>,
    /// Globs of files in the workbench to archive before it is removed, at most 20. If absent, `report.md`.
    pub archive_files: Option<Vec<String>>,
    /// Whether each run gets the beginning of the last successful run's report.
    #[serde(skip_serializing_if = "is_default")]
    pub continuity: bool,
    /// Words to find it by, at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// When it was created, written by tools. If absent, the file's last change.
    #[schemars(with = "String")]
    pub created_at: UnixSeconds,
    /// When a tool last changed it, written by tools. If absent, the file's last change.
    #[schemars(with = "String")]
    pub updated_at: UnixSeconds,
    // From here on tables, which TOML wants after values.
    /// Try a run that failed or was interrupted again.
    pub retry: Option<Retry>,
    /// Variables for its runs, of those that its agent accepts. Tools write these.
    #[serde(skip_serializing_if = "Variables::is_empty")]
    pub env: Variables,
    /// Values of its agent's options, as `moadim-mcp agents` lists them. Tools write these.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// Git repositories to clone into the workbench before the agent starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository>,
    /// What only you write: no tool writes or clears it.
    #[serde(skip_serializing_if = "is_default")]
    pub trusted: Trusted,
}

/// The part of `routine.toml` that no tool writes or clears.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// Runs in the place of the home's `on_finish`; nothing does if it is empty.
    pub on_finish: Option<Vec<String>>,
    /// Runs in the place of the home's `on_failure`; nothing does if it is empty.
    pub on_failure: Option<Vec<String>>,
    /// Runs in the place of the home's `on_attention`; nothing does if it is empty.
    pub on_attention: Option<Vec<String>>,
    /// A command and its arguments, run in the workbench before anything else: exit status 0 starts the run, 1 skips it, and anything
    /// else starts it and says so. `{prompt_file}`, `{workbench}` and `{run}` are filled in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub precheck: Vec<String>,
    /// A command and its arguments, run in the workbench once the agent has ended well; the run succeeds only if it exits with 0. An
    /// empty list switches off that of the agent's file. The same is filled in.
    pub verify: Option<Vec<String>>,
    /// How long `verify` may take. If absent, 300.
    pub verify_secs: Option<u64>,
    // From here on tables, which TOML wants after values.
    /// Variables for its runs, whatever its agent accepts.
    #[serde(default, skip_serializing_if = "Variables::is_empty")]
    pub env: Variables,
    /// Values of its agent's options, with permissions beyond the home's `max_permissions` too.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

impl Trusted {
    fn check_hooks(&self) -> Result<(), InvalidField> {
        let hooks = [
            ("trusted.on_finish", &self.on_finish),
            ("trusted.on_failure", &self.on_failure),
            ("trusted.on_attention", &self.on_attention),
        ];
        match hooks.into_iter().find(|(_, hook)| hook.as_ref().is_some_and(|hook| !is_command(hook))) {
            Some((field, _)) => Err(InvalidField::new(field, "no command", format!("it is {COMMAND_RULE}"))),
            None => Ok(()),
        }
    }

    /// Returns the permissions that it gives, if it does.
    pub fn permissions(&self) -> Option<Permissions> {
        Permissions::of_name(&self.options.get(PERMISSIONS)?.0)
    }
}

/// What a fire of the schedule does while a run of its routine is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// Nothing; the occurrence is missed.
    #[default]
    Skip,
    /// It waits until that run is over; at most one waits.
    Queue,
    /// It ends that run, and starts then.
    Replace,
    /// It starts another beside it.
    Allow,
}

/// What becomes of occurrences that passed while nobody was there to fire them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// All are missed.
    None,
    /// The newest is made up for if it is not too old; the others are missed.
    #[default]
    Latest,
}

/// Whether and when a failed run is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often in all, the first run included; 2 to 10.
    pub max_attempts: u32,
    /// Seconds from a failed run's end to the next attempt.
    pub backoff_secs: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Definition {
    /// A routine without a title or an agent, as a start for others.
    fn default() -> Self {
        Self {
            title: String::new(),
            agent: String::new(),
            enabled: true,
            ttl_secs: None,
            max_runtime_secs: None,
            max_silence_secs: None,
            failed_ttl_secs: None,
            keep_last: None,
            schedule: None,
            run_at: None,
            timezone: None,
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            max_consecutive_failures: None,
            max_daily_runs: None,
            max_daily_cost_usd: None,
            unsaved_work: None,
            archive_files: None,
            continuity: false,
            tags: Vec::new(),
            created_at: UnixSeconds::default(),
            updated_at: UnixSeconds::default(),
            retry: None,
            env: Variables::new(),
            options: Options::new(),
            repositories: Vec::new(),
            trusted: Trusted::default(),
        }
    }
}

const MAX_TITLE_CHARS: usize = 200;
const MAX_COUNT: u64 = 1_000_000;
const MAX_TAGS: usize = 20;
const MAX_TAG_CHARS: usize = 50;
const MAX_VARIABLES: usize = 100;
const MAX_VALUE_BYTES: usize = 32 * 1024;
const MAX_OPTIONS: usize = 20;
const MAX_OPTION_BYTES: usize = 1000;

impl Definition {
    /// Dates what a person wrote without saying when.
    pub(super) fn date(&mut self, written: UnixSeconds) {
        for time in [&mut self.created_at, &mut self.updated_at] {
            if *time == UnixSeconds::default() {
                *time = written;
            }
        }
    }

    /// Returns whether it fires by itself.
    pub fn has_schedule(&self) -> bool {
        self.schedule.is_some() || self.run_at.is_some()
    }

    pub fn parse_schedule(&self) -> Result<Option<Schedule>, InvalidField> {
        Schedule::parse(self.schedule.as_ref(), self.run_at.as_deref(), self.timezone.as_deref())
    }

    /// Checks a schedule that is about to be set in the place of `before`: that it is meant as it is written, and not past.
    pub(super) fn check_new_schedule(&self, before: &Self, now: UnixSeconds) -> Result<(), InvalidField> {
        if let Some(schedule) = self.schedule.as_ref().filter(|_| self.schedule != before.schedule) {
            check_as_meant(schedule)?;
        }
        self.check_new_run_at(before, now)
    }

    /// Checks a `run_at` that is about to be set in the place of that of `before`: it must not be past.
    pub(super) fn check_new_run_at(&self, before: &Self, now: UnixSeconds) -> Result<(), InvalidField> {
        let Some(text) = self.run_at.as_ref().filter(|_| self.run_at != before.run_at) else { return Ok(()) };
        match self.parse_schedule()?.and_then(|schedule| schedule.run_at()).filter(|at| *at <= now) {
            Some(past) => {
                let rule = format!("that is {past}, and it is {now} now; give a later time");
                Err(InvalidField::new("run_at", format_args!("'{text}'"), rule))
            }
            None => Ok(()),
        }
    }

    /// Checks what a tool was given, the home's ceilings included.
    pub fn check(&self, config: &Config) -> Result<(), InvalidField> {
        let ttl_ceiling = ("ttl_ceiling_secs", config.ttl_ceiling_secs);
        let runtime_ceiling = ("max_runtime_ceiling_secs", config.max_runtime_ceiling_secs);
        check_bound("ttl_secs", self.ttl_secs, ttl_ceiling)?;
        check_bound("max_runtime_secs", self.max_runtime_secs, runtime_ceiling)?;
        check_bound("failed_ttl_secs", self.failed_ttl_secs, ttl_ceiling)?;
        check_bound("max_silence_secs", self.max_silence_secs, runtime_ceiling)?;
        self.checked_schedule().map(drop)
    }

    /// Checks what a person may have written by hand, whatever the ceilings, and returns the schedule, which had to be parsed.
    pub(super) fn checked_schedule(&self) -> Result<Option<Schedule>, InvalidField> {
        let positive = [
            ("ttl_secs", self.ttl_secs),
            ("max_runtime_secs", self.max_runtime_secs),
            ("failed_ttl_secs", self.failed_ttl_secs),
            ("max_silence_secs", self.max_silence_secs),
            ("max_consecutive_failures", self.max_consecutive_failures),
            ("max_daily_runs", self.max_daily_runs),
            ("max_daily_cost_usd", self.max_daily_cost_usd.map(|cost| cost.0)),
        ];
        for (field, value) in positive {
            if value == Some(0) {
                let least = if field == "max_daily_cost_usd" { "more than 0" } else { "at least 1" };
                let rule = format!("it must be {least}; leave it out for the default");
                return Err(InvalidField::new(field, 0, rule));
            }
        }
        for (field, value) in [
            ("keep_last", self.keep_last),
            ("max_consecutive_failures", self.max_consecutive_failures),
            ("max_daily_runs", self.max_daily_runs),
        ] {
            if let Some(count) = value.filter(|count| *count > MAX_COUNT) {
                return Err(InvalidField::new(field, count, format!("it must be at most {MAX_COUNT}; give less")));
            }
        }
        check_title(&self.title)?;
        if self.agent.is_empty() {
            return Err(InvalidField::new("agent", "missing", "each routine names one; list_agents shows them"));
        }
        check_tags(&self.tags)?;
        check_archive_files(self.archive_files.as_deref().unwrap_or_default())?;
        let schedule = self.parse_schedule()?;
        check_retry(self.retry)?;
        repository::check(&self.repositories)?;
        check_env("env", &self.env)?;
        check_env("trusted.env", &self.trusted.env)?;
        self.trusted.check_hooks()?;
        check_command("trusted.precheck", &self.trusted.precheck)?;
        check_command("trusted.verify", self.trusted.verify.as_deref().unwrap_or_default())?;
        if self.trusted.verify_secs == Some(0) {
            let rule = "it must be at least 1; leave it out for 300";
            return Err(InvalidField::new("trusted.verify_secs", 0, rule));
        }
        check_options("options", &self.options)?;
        check_options("trusted.options", &self.trusted.options)?;
        // One that is misspelt would pass for none, and tools could instruct the routine until it is corrected.
        if let Some(level) = self.trusted.options.get(PERMISSIONS).filter(|_| self.trusted.permissions().is_none()) {
            let rule = "it must be read-only, files, edit or full; correct it by hand";
            return Err(InvalidField::new("trusted.options.permissions", format_args!("'{level}'"), rule));
        }
        Ok(schedule)
    }
}

const MAX_GLOBS: usize = 20;
const MAX_GLOB_BYTES: usize = 200;

fn check_archive_files(globs: &[String]) -> Result<(), InvalidField> {
    let invalid = |glob: &str, rule: &str| Err(InvalidField::new("archive_files", glob, rule));
    if globs.len() > MAX_GLOBS {
        let rule = format!("there may be at most {MAX_GLOBS}; use patterns such as \"out/**\"");
        return Err(InvalidField::new("archive_files", format!("{} globs", globs.len()), rule));
    }
    for glob in globs {
        if glob.is_empty() || glob.len() > MAX_GLOB_BYTES || glob.chars().any(char::is_control) {
            return invalid(glob, "each is a path or a pattern of at most 200 bytes on one line");
        }
        if glob.starts_with('/') || glob.split('/').any(|part| part == "..") {
            return invalid(glob, "each must be relative to the workbench, as in \"report.md\" or \"out/**/*.csv\"");
        }
    }
    Ok(())
}

const MAX_ATTEMPTS: u32 = 10;
const MAX_BACKOFF_SECS: u64 = 24 * 60 * 60;

fn check_retry(retry: Option<Retry>) -> Result<(), InvalidField> {
    let Some(Retry { max_attempts, backoff_secs }) = retry else { return Ok(()) };
    if !(2..=MAX_ATTEMPTS).contains(&max_attempts) {
        let rule =
            format!("it must be between 2 and {MAX_ATTEMPTS}, the first run included; leave `retry` out for one");
        return Err(InvalidField::new("retry.max_attempts", max_attempts, rule));
    }
    if backoff_secs > MAX_BACKOFF_SECS {
        let rule = format!("it must be at most {MAX_BACKOFF_SECS}; give a shorter time");
        return Err(InvalidField::new("retry.backoff_secs", backoff_secs, rule));
    }
    Ok(())
}

fn check_title(title: &str) -> Result<(), InvalidField> {
    let rule = format!("it must be one line of 1 to {MAX_TITLE_CHARS} characters; give a short name");
    if title.trim().is_empty() {
        return Err(InvalidField::new("title", "missing", rule));
    }
    if title.chars().count() > MAX_TITLE_CHARS || title.chars().any(char::is_control) {
        return Err(InvalidField::new("title", format_args!("'{title}'"), rule));
    }
    Ok(())
}

fn check_bound(field: &str, value: Option<u64>, (ceiling_key, ceiling): (&str, u64)) -> Result<(), InvalidField> {
    match value {
        Some(secs) if secs == 0 || secs > ceiling => {
            let rule = format!(
                "it must be between 1 and {ceiling} (the ceiling `{ceiling_key}` of the home's config.toml); give such a \
                 value, or leave it out for the default"
            );
            Err(InvalidField::new(field, secs, rule))
        }
        _ => Ok(()),
    }
}

fn check_tags(tags: &[String]) -> Result<(), InvalidField> {
    if tags.len() > MAX_TAGS {
        return Err(InvalidField::new("tags", tags.len(), format!("at most {MAX_TAGS} tags; give fewer")));
    }
    let bad = |tag: &&String| {
        tag.trim().is_empty() || tag.chars().count() > MAX_TAG_CHARS || tag.chars().any(char::is_control)
    };
    match tags.iter().find(bad) {
        Some(tag) => {
            let rule = format!("a tag has 1 to {MAX_TAG_CHARS} printable characters; give such a word");
            Err(InvalidField::new("tags", format_args!("'{tag}'"), rule))
        }
        None => Ok(()),
    }
}

fn check_env(field: &str, env: &Variables) -> Result<(), InvalidField> {
    if env.len() > MAX_VARIABLES {
        return Err(InvalidField::new(field, env.len(), format!("at most {MAX_VARIABLES} variables; give fewer")));
    }
    if let Some(name) = env.keys().find(|name| name.is_ours()) {
        let rule = "names that begin with MOADIM_ are this program's own; give another name";
        return Err(InvalidField::new(field, name, rule));
    }
    match env.iter().find(|(_, value)| value.contains('\0') || value.len() > MAX_VALUE_BYTES) {
        Some((name, _)) => {
            let rule = format!("its value holds a NUL or more than {MAX_VALUE_BYTES} bytes; give a shorter text");
            Err(InvalidField::new(field, name, rule))
        }
        None => Ok(()),
    }
}

/// Checks a person's command: it is found as an agent's is, and never in the workbench, where the agent could put another.
fn check_command(field: &str, command: &[String]) -> Result<(), InvalidField> {
    let invalid = |rule: &str| {
        let shown = command.first().map(|program| quote(program, 64)).unwrap_or_default();
        Err(InvalidField::new(field, format_args!("'{shown}'"), rule))
    };
    match command.first() {
        Some(program) if program.is_empty() => invalid("it names no program; give [\"npm\", \"test\"], for example"),
        Some(program) if program.contains('/') && !program.starts_with('/') => {
            invalid("a relative path; give a name on PATH or an absolute path")
        }
        _ if command.iter().any(|word| word.contains('\0')) => invalid("it holds a NUL character"),
        _ => Ok(()),
    }
}

/// Which options there are, and what they take, is their agent's matter, and checked at every launch.
fn check_options(field: &str, options: &Options) -> Result<(), InvalidField> {
    if options.len() > MAX_OPTIONS {
        return Err(InvalidField::new(field, options.len(), format!("at most {MAX_OPTIONS} options; give fewer")));
    }
    match options.iter().find(|(name, value)| name.len() > MAX_OPTION_BYTES || value.0.len() > MAX_OPTION_BYTES) {
        Some((name, _)) => {
            let rule =
                format!("a name or a value has more than {MAX_OPTION_BYTES} bytes; list_agents shows what they may be");
            Err(InvalidField::new(field, quote(name, 64), rule))
        }
        None => Ok(()),
    }
}

/// Checks the names of variables that came as plain text.
pub fn parse_env(env: std::collections::BTreeMap<String, String>) -> Result<Variables, InvalidField> {
    env.into_iter()
        .map(|(name, value)| match name.parse::<EnvName>() {
            Ok(name) => Ok((name, value)),
            Err(_) => {
                let rule = "a variable's name has letters, digits and underscores, and no digit first; rename it";
                Err(InvalidField::new("env", format_args!("'{name}'"), rule))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionValue;

    fn definition() -> Definition {
        Definition {
            title: "Triage".into(),
            agent: "claude".into(),
            created_at: UnixSeconds(1),
            updated_at: UnixSeconds(1),
            ..Definition::default()
        }
    }

    #[test]
    fn bounds_outside_their_range_are_refused_with_the_ceiling() {
        let config = Config::default();
        for secs in [0, config.ttl_ceiling_secs + 1] {
            let error = Definition { ttl_secs: Some(secs), ..definition() }.check(&config).unwrap_err().to_string();
            assert!(error.contains("ttl_secs") && error.contains("2592000"), "{error}");
        }
        assert!(Definition { max_runtime_secs: Some(86_401), ..definition() }.check(&config).is_err());
        assert!(Definition { max_runtime_secs: Some(86_400), ..definition() }.check(&config).is_ok());
        for (ceilings, rule) in [
            (Definition { max_daily_runs: Some(0), ..definition() }, "`max_daily_runs` is 0: it must be at least 1"),
            (Definition { max_daily_runs: Some(1_000_001), ..definition() }, "`max_daily_runs` is 1000001"),
            (
                Definition { max_daily_cost_usd: Some(MicroDollars(0)), ..definition() },
                "`max_daily_cost_usd` is 0: it must be more than 0",
            ),
        ] {
            let error = ceilings.check(&config).unwrap_err().to_string();
            assert!(error.starts_with(rule), "{error}");
        }
    }

    #[test]
    fn our_own_and_malformed_variables_are_refused_by_name() {
        let env = |name: &str| parse_env([(name.to_owned(), "v".to_owned())].into());
        for ours in [
            Definition { env: env("MOADIM_COOKIE").unwrap(), ..definition() },
            Definition {
                trusted: Trusted { env: env("MOADIM_COOKIE").unwrap(), ..Trusted::default() },
                ..definition()
            },
        ] {
            assert!(ours.check(&Config::default()).unwrap_err().to_string().contains("MOADIM_COOKIE"));
        }
        assert!(env("A-B").unwrap_err().to_string().contains("A-B"));
    }

    #[test]
    fn a_hook_names_a_command_or_nothing() {
        let with = |hook: &[&str]| {
            let hook = hook.iter().map(|word| (*word).to_owned()).collect();
            let trusted = Trusted { on_attention: Some(hook), ..Trusted::default() };
            Definition { trusted, ..definition() }.check(&Config::default())
        };
        assert!(with(&[]).is_ok() && with(&["true"]).is_ok());
        for words in [&[""][..], &["echo", "a\0b"]] {
            assert!(with(words).unwrap_err().to_string().contains("trusted.on_attention"));
        }
    }

    #[test]
    fn a_command_that_could_be_the_agents_own_is_refused() {
        let check = |trusted: &str| {
            let trusted: Trusted = toml::from_str(trusted).unwrap();
            Definition { trusted, ..definition() }.check(&Config::default()).map_err(|error| error.to_string())
        };
        for good in ["verify = []", "verify = ['npm', 'test']", "precheck = ['/usr/bin/git', 'x/y']\nverify_secs = 1"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, words) in [
            ("verify = ['./check.sh']", "`trusted.verify`"),
            ("verify = ['']", "names no program"),
            ("precheck = ['a/b']", "`trusted.precheck`"),
            ("precheck = [\"sh\", \"a\\u0000\"]", "NUL"),
            ("verify_secs = 0", "at least 1"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn a_title_that_is_empty_is_missing() {
        for title in ["", "  "] {
            let error = Definition { title: title.into(), ..definition() }.check(&Config::default()).unwrap_err();
            assert!(error.to_string().starts_with("`title` is missing: "), "{error}");
        }
    }

    #[test]
    fn a_hostile_title_is_shown_short_and_printable() {
        let title = "\u{1b}[31m".repeat(100_000);
        let error = Definition { title, ..definition() }.check(&Config::default()).unwrap_err().to_string();
        assert!(error.len() < 1000 && !error.contains('\u{1b}'));
    }

    #[test]
    fn a_schedule_is_a_text_or_a_list_and_a_moment_needs_no_quotes() {
        let read = |text: &str| toml::from_str::<Definition>(text);
        assert_eq!(read("schedule = '@daily'").unwrap().schedule, Some("@daily".into()));
        let list = read("schedule = ['@daily', '@hourly']").unwrap().schedule.unwrap();
        assert_eq!(list.texts(), ["@daily", "@hourly"]);
        for text in ["schedule = 5", "schedule = [5]"] {
            assert!(read(text).unwrap_err().to_string().contains("a list of texts"), "{text}");
        }
        let run_at = |text: &str| read(&format!("run_at = {text}")).unwrap().run_at.unwrap();
        assert_eq!(run_at("2026-12-01T09:00:00"), "2026-12-01T09:00:00");
        assert_eq!(run_at("2026-12-01 09:00:00+01:00"), "2026-12-01T09:00:00+01:00");
        assert_eq!(run_at("'2026-12-01T09:00'"), "2026-12-01T09:00");
        assert!(read("run_at = 5").unwrap_err().to_string().contains("a date and a time"));
        let plain = toml::to_string(&Definition { schedule: Some("@daily".into()), ..definition() }).unwrap();
        assert!(plain.contains("schedule = \"@daily\"\n"), "{plain}");
    }

    #[test]
    fn a_new_moment_must_be_ahead() {
        let at =
            |run_at: &str| Definition { run_at: Some(run_at.into()), timezone: Some("UTC".into()), ..definition() };
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let none = definition();
        assert!(at("2026-06-01T00:01").check_new_schedule(&none, now).is_ok());
        let error = at("2026-06-01T00:00").check_new_schedule(&none, now).unwrap_err().to_string();
        assert!(error.contains("`run_at`") && error.contains("2026-06-01T00:00:00Z now"), "{error}");
        let past = at("2020-01-01T00:00");
        assert!(past.check_new_schedule(&past, now).is_ok(), "that was there");
        assert!(past.check(&Config::default()).is_ok(), "a person may have left it there");
    }

    #[test]
    fn a_definition_survives_its_file() {
        let full = Definition {
            ttl_secs: Some(5),
            max_daily_runs: Some(3),
            max_daily_cost_usd: Some(MicroDollars(2_500_000)),
            schedule: Some("0 9 * * 1-5".into()),
            run_at: Some("2026-12-01T09:00".into()),
            overlap: Overlap::Queue,
            tags: vec!["a".into()],
            retry: Some(Retry { max_attempts: 3, backoff_secs: 60 }),
            repositories: vec![Repository { url: "https://example.com/a.git".into(), branch: None, directory: None }],
            env: parse_env([("A".to_owned(), "b".to_owned())].into()).unwrap(),
            trusted: Trusted {
                on_finish: Some(vec!["notify-send".into(), "done".into()]),
                on_attention: Some(Vec::new()),
                precheck: vec!["true".into()],
                verify: Some(vec!["npm".into(), "test".into()]),
                verify_secs: Some(60),
                env: parse_env([("B".to_owned(), "c".to_owned())].into()).unwrap(),
                options: [("permissions".to_owned(), OptionValue("full".to_owned()))].into(),
                ..Trusted::default()
            },
            ..definition()
        };
        let text = toml::to_string_pretty(&full).unwrap();
        assert_eq!(toml::from_str::<Definition>(&text).unwrap(), full);
    }
}
