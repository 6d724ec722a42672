//! The settings that tools can give a routine: each is an argument, a name that `clear` takes, and a field of the definition.

use std::collections::BTreeMap;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::agent::AgentName;
use crate::home::config::{EngineKind, UnsavedWork};
use crate::money::MicroDollars;
use crate::options::{OptionValue, Options};
use crate::routine::check::parse_env;
use crate::routine::invalid_field::InvalidField;
use crate::routine::model::{CatchUp, Definition, Overlap, Retry, WhenAsked};
use crate::routine::repository::Repository;
use crate::routine::resources::Resources;
use crate::routine::schedule::CronExpressions;
use crate::routine::slug::Slug;

/// Declares the settings that create_routine and update_routine share, each once: an argument of both, a name that `clear`
/// takes, and a field of the definition that is set from it.
macro_rules! settings {
    ($($(#[$doc:meta])+ $field:ident: $type:ty $(as $merged:ident)? $(=> $convert:expr)?,)+) => {
        #[derive(Deserialize, JsonSchema)]
        pub(super) struct CreateRoutine {
            /// A short name for people.
            pub(super) title: String,
            /// Its permanent name; default: from the title.
            pub(super) slug: Option<Slug>,
            /// As in list_agents.
            pub(super) agent: AgentName,
            /// What the agent should do. Make it complete: a question may wait for hours.
            pub(super) prompt: String,
            $($(#[$doc])+ pub(super) $field: Option<$type>,)+
        }

        /// Without descriptions: a model reads those of create_routine too.
        #[derive(Deserialize, JsonSchema)]
        #[schemars(transform = without_descriptions)]
        pub(super) struct UpdateRoutine {
            /// The routine's slug.
            pub(super) routine: Slug,
            pub(super) title: Option<String>,
            pub(super) agent: Option<AgentName>,
            pub(super) prompt: Option<String>,
            $(pub(super) $field: Option<$type>,)+
            /// Names of settings to set back to their defaults.
            #[schemars(with = "Option<Vec<String>>")]
            pub(super) clear: Option<Vec<Setting>>,
        }

        #[derive(Clone, Copy, Serialize, Deserialize)]
        #[allow(non_camel_case_types, reason = "they are the names of the fields")]
        pub(super) enum Setting {
            $($field),+
        }

        impl Setting {
            fn clear(self, definition: &mut Definition) {
                match self {
                    $(Self::$field => definition.$field = Definition::default().$field),+
                }
            }
        }

        settings!(@set CreateRoutine: $($field $(as $merged)? $(=> $convert)?,)+);
        settings!(@set UpdateRoutine: $($field $(as $merged)? $(=> $convert)?,)+);
    };
    (@set $arguments:ident: $($field:ident $(as $merged:ident)? $(=> $convert:expr)?,)+) => {
        impl $arguments {
            /// Sets in a definition what was given; the rest stays.
            pub(super) fn set(&mut self, definition: &mut Definition) -> Result<(), InvalidField> {
                $(if let Some(value) = self.$field.take() {
                    settings!(@assign definition.$field, value $(as $merged)? $(, $convert)?);
                })+
                Ok(())
            }
        }
    };
    (@assign $place:expr, $value:ident) => { $place = $value.into() };
    (@assign $place:expr, $value:ident, $convert:expr) => { $place = $convert($value)? };
    (@assign $place:expr, $value:ident as merged) => { merge(&mut $place, $value) };
}

settings! {
    /// Whether it may be triggered; default true.
    enabled: bool,
    /// How long a finished run's workbench is kept; default 1 day.
    ttl_secs: u64,
    /// The same for a run that did not succeed; default 3 x ttl_secs.
    failed_ttl_secs: u64,
    /// How many of the newest finished runs stay whatever their age; default 0.
    keep_last: u64,
    /// How long a run may take; default 1 hour.
    max_runtime_secs: u64,
    /// How long it may print nothing; default no limit.
    max_silence_secs: u64,
    /// When it fires by itself: 5 cron fields, or @daily and the like; or a list of them.
    schedule: CronExpressions => |written: CronExpressions| Ok::<_, InvalidField>(Some(written.tidied())),
    /// Fire once: a local time such as 2026-12-01T09:00, or RFC 3339.
    run_at: String => |text: String| Ok::<_, InvalidField>(Some(text.trim().to_owned())),
    /// IANA time zone of schedule and run_at; default the machine's.
    timezone: String,
    /// What a fire does while a run is alive; default skip.
    overlap: Overlap,
    /// What a fire does while a question is open; default skip.
    when_asked: WhenAsked,
    /// How long a question waits for an answer; default 3 days.
    answer_within_secs: u64,
    /// Whether to make up for fires that no server was there for; default latest.
    catch_up: CatchUp,
    /// Disable the routine after this many failed runs in a row.
    max_consecutive_failures: u64,
    /// How many runs may start in one day; once set, it can only be lowered.
    max_daily_runs: u64,
    /// What a day's runs may cost, at list prices; once set, it can only be lowered.
    max_daily_cost_usd: MicroDollars,
    /// Try a failed run again.
    retry: Retry,
    /// Variables for its runs, of those that its agent accepts.
    env: BTreeMap<String, String> => parse_env,
    /// Its agent's options, as in list_agents: model, permissions and the like; null removes one.
    options: BTreeMap<String, Option<OptionValue>> as merged,
    /// What becomes of unpushed work and archive_files when a workbench goes; default archive.
    unsaved_work: ArchiveOrKeep => |choice| Ok::<_, InvalidField>(Some(UnsavedWork::from(choice))),
    /// Globs of files to archive from the workbench; default report.md.
    archive_files: Vec<String>,
    /// Give each run the last successful report.
    continuity: bool,
    /// Where its runs take place; default the home's.
    engine: EngineKind,
    /// What they ask of Slurm: cpus, memory_mib, gpus, partition, constraint.
    resources: Requested,
    /// For finding it.
    tags: Vec<String>,
    /// Cloned for each run.
    repositories: Vec<Repository>,
}

/// What a routine asks of a cluster; the description names the keys.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Requested(#[schemars(with = "BTreeMap<String, serde_json::Value>")] Resources);

impl From<Requested> for Resources {
    fn from(requested: Requested) -> Self {
        requested.0
    }
}

/// Leaves out what a model reads in create_routine.
fn without_descriptions(schema: &mut Schema) {
    let properties = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if let Ok(property) = <&mut Schema>::try_from(property)
            && !["routine", "clear"].contains(&name.as_str())
        {
            let mut leave_out = |schema: &mut Schema| drop(schema.remove("description"));
            RecursiveTransform(&mut leave_out).transform(property);
        }
    }
}

/// Sets and removes single options: one that a person chose, such as their permissions, should not go with another's change.
fn merge(options: &mut Options, changes: BTreeMap<String, Option<OptionValue>>) {
    for (name, value) in changes {
        match value {
            Some(value) => options.insert(name, value),
            None => options.remove(&name),
        };
    }
}

/// What to do with unsaved work when a workbench is removed; only a person can choose `discard`.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ArchiveOrKeep {
    Archive,
    Keep,
}

impl From<ArchiveOrKeep> for UnsavedWork {
    fn from(choice: ArchiveOrKeep) -> Self {
        match choice {
            ArchiveOrKeep::Archive => Self::Archive,
            ArchiveOrKeep::Keep => Self::Keep,
        }
    }
}

/// Returns a field of a change that tells the agent what to do, where, or how.
pub(super) fn instructing_field(arguments: &UpdateRoutine) -> Option<&'static str> {
    let clears = |name: &str| {
        let mut cleared = arguments.clear.iter().flatten().map(|setting| serde_json::json!(setting));
        cleared.any(|setting| setting == name)
    };
    let fields = [
        ("prompt", arguments.prompt.is_some()),
        ("title", arguments.title.is_some()),
        ("agent", arguments.agent.is_some()),
        ("repositories", arguments.repositories.is_some() || clears("repositories")),
        ("options", arguments.options.is_some() || clears("options")),
        ("env", arguments.env.is_some() || clears("env")),
        ("continuity", arguments.continuity.is_some()),
    ];
    fields.into_iter().find(|(_, given)| *given).map(|(field, _)| field)
}

pub(super) fn apply(mut arguments: UpdateRoutine, definition: &mut Definition) -> Result<(), InvalidField> {
    let clear = arguments.clear.take().unwrap_or_default();
    clear.iter().for_each(|field| field.clear(definition));
    if let Some(title) = &arguments.title {
        title.trim().clone_into(&mut definition.title);
    }
    if let Some(agent) = &arguments.agent {
        definition.agent = agent.to_string();
    }
    arguments.set(definition)?;
    for field in clear {
        let mut without = definition.clone();
        field.clear(&mut without);
        if without != *definition {
            let rule = "the same call gives it a value; do one of the two";
            return Err(InvalidField::new("clear", serde_json::json!(field), rule));
        }
    }
    Ok(())
}
