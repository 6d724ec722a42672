//! A routine, and what may stand in one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid_field::InvalidField;
use super::repository::Repository;
use super::resources::Resources;
use super::schedule::{CronExpressions, run_at};
use super::slug::Slug;
use crate::clock::UnixSeconds;
use crate::environment::Variables;
use crate::home::config::{COMMAND_RULE, EngineKind, UnsavedWork, is_command};
use crate::money::MicroDollars;
use crate::options::{Options, PERMISSIONS, Permissions};

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
    /// The time zone of `schedule` and `run_at`, an IANA name. If absent, the machine's.
    pub timezone: Option<String>,
    /// What a fire of the schedule does while a run of the routine is alive.
    #[serde(skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// What a fire of the schedule does while a run of the routine waits for an answer.
    #[serde(skip_serializing_if = "is_default")]
    pub when_asked: WhenAsked,
    /// How long a question of a run waits for an answer, and keeps its workbench. If absent, the home's default.
    pub answer_within_secs: Option<u64>,
    /// What happens to occurrences that nobody was there to fire.
    #[serde(skip_serializing_if = "is_default")]
    pub catch_up: CatchUp,
    /// How many runs in a row may fail before the routine is disabled. If absent, any number.
    pub max_consecutive_failures: Option<u64>,
    /// How many runs may start on one day of its time zone. If absent, any number. Tools can set it where there is none, and lower it.
    pub max_daily_runs: Option<u64>,
    /// What the runs of one day may cost, at the list prices that its agent reports. If absent, any amount. Tools can set it where there
    /// is none, and lower it.
    pub max_daily_cost_usd: Option<MicroDollars>,
    /// What becomes of unsaved work when a workbench is removed. If absent, what the home says.
    pub unsaved_work: Option<UnsavedWork>,
    /// Globs of files in the workbench to archive before it is removed, at most 20. If absent, `report.md`.
    pub archive_files: Option<Vec<String>>,
    /// Whether each run gets the beginning of the last successful run's report.
    #[serde(skip_serializing_if = "is_default")]
    pub continuity: bool,
    /// Where its runs take place. If absent, what the home says.
    pub engine: Option<EngineKind>,
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
    /// What its runs ask of the cluster, where they take place on one.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Variables for its runs, of those that its agent accepts. Tools can write these too.
    #[serde(skip_serializing_if = "Variables::is_empty")]
    pub env: Variables,
    /// Values of its agent's options, as `moadim-mcp agents` lists them. Tools can write these too.
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
    /// Runs instead of the home's `on_finish`; an empty list runs nothing.
    pub on_finish: Option<Vec<String>>,
    /// Runs instead of the home's `on_failure`; an empty list runs nothing.
    pub on_failure: Option<Vec<String>>,
    /// Runs instead of the home's `on_attention`; an empty list runs nothing.
    pub on_attention: Option<Vec<String>>,
    /// A command and its arguments, run in the workbench before anything else: exit status 0 starts the run, 1 skips it, and anything
    /// else starts it and says so. `{prompt_file}`, `{workbench}` and `{run}` are filled in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub precheck: Vec<String>,
    /// A command and its arguments, run in the workbench once the agent has ended well; the run succeeds only if it exits with 0. An
    /// empty list switches off the agent's own `verify`. The same placeholders are filled in.
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
    pub(super) fn check_hooks(&self) -> Result<(), InvalidField> {
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

/// What a fire of the schedule does while a run of its routine waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenAsked {
    /// Nothing; the occurrence is missed.
    #[default]
    Skip,
    /// It starts a run that knows nothing of the question.
    Run,
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
            when_asked: WhenAsked::default(),
            answer_within_secs: None,
            catch_up: CatchUp::default(),
            max_consecutive_failures: None,
            max_daily_runs: None,
            max_daily_cost_usd: None,
            unsaved_work: None,
            archive_files: None,
            continuity: false,
            engine: None,
            tags: Vec::new(),
            created_at: UnixSeconds::default(),
            updated_at: UnixSeconds::default(),
            retry: None,
            resources: Resources::default(),
            env: Variables::new(),
            options: Options::new(),
            repositories: Vec::new(),
            trusted: Trusted::default(),
        }
    }
}
