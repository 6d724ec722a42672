//! `config.toml`: the home's few settings, all optional.

mod slurm;

use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::atomic_file::{self, FileError};
use super::toml_text;
use crate::money::MicroDollars;
use crate::options::Permissions;

/// Where a run can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionHostSetting {
    /// Windows in tmux if it is installed.
    #[default]
    Auto,
    /// Windows in tmux; `health` says so if it is not installed.
    Tmux,
    /// No windows; the run is the same.
    Detached,
}

/// Where runs take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// On the machine that triggers them.
    #[default]
    Local,
    /// As jobs of Slurm, on the nodes of a cluster.
    Slurm,
}

/// What becomes of work that exists only in a workbench whose retention has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnsavedWork {
    /// It is archived, then the workbench goes.
    #[default]
    Archive,
    /// The workbench stays.
    Keep,
    /// It goes with the workbench.
    Discard,
}

/// Whose words go on with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswersFrom {
    /// A person's: through a host that asks them, in the browser, or on the command line.
    #[default]
    Person,
    /// Those of any tool call, a model's too.
    Anyone,
}

/// The settings of a home. Every key is optional in the file, and an unknown one is an error that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where you can watch runs.
    pub session_host: SessionHostSetting,
    /// How long a finished run's workbench is kept if its routine does not say.
    pub default_ttl_secs: u64,
    /// How long the workbench of a run that did not succeed is kept if its routine does not say. If absent, three times the
    /// retention of a run that succeeded.
    pub default_failed_ttl_secs: Option<u64>,
    /// How many of its newest finished runs a routine keeps whatever their age, if it does not say.
    pub default_keep_last: u64,
    /// How long a question of a run waits for an answer, and keeps its workbench, if its routine does not say.
    pub default_answer_within_secs: u64,
    /// The longest retention. Workbenches whose routine is gone get it too.
    pub ttl_ceiling_secs: u64,
    /// How long a run may take if its routine does not say.
    pub default_max_runtime_secs: u64,
    /// The longest that any run may take. Runs whose routine is gone get it too.
    pub max_runtime_ceiling_secs: u64,
    /// Time between TERM and KILL; 20 at most.
    pub kill_grace_secs: u64,
    /// The largest `agent.log` on disk, at least 1 MiB. Beyond it the middle is dropped.
    pub max_log_bytes: u64,
    /// Disk that all workbenches may take before finished ones are removed early. If absent, no limit.
    pub max_workbench_bytes: Option<u64>,
    /// Disk to leave free by removing finished workbenches early. If absent, none.
    pub min_free_bytes: Option<u64>,
    /// Disk that the history may take, at least 1 MiB. Beyond it the oldest lines go, a sixteenth at a time.
    pub max_history_bytes: u64,
    /// How old a line of the history may get before it goes.
    pub history_age_secs: u64,
    /// What becomes of unsaved work (unpushed commits, changes, files to archive) when a workbench is removed.
    pub unsaved_work: UnsavedWork,
    /// The largest archive of one run. If its work takes more, the workbench stays.
    pub max_run_archive_bytes: u64,
    /// Disk that all archives may take. Beyond it the oldest go, but none younger than 7 days.
    pub max_archive_bytes: u64,
    /// How old an archive may get before it goes, at least 7 days.
    pub archive_age_secs: u64,
    /// Disk that mirrors of repositories may take. Beyond it those go that were unused for longest.
    pub max_cache_bytes: u64,
    /// How long a mirror of a repository may be unused before it goes.
    pub cache_age_secs: u64,
    /// A command and its arguments, run once for each run that ended.
    pub on_finish: Vec<String>,
    /// A command and its arguments, run once for each run that failed, was ended at a bound, never started, was interrupted
    /// or lost, and for each question that expired.
    pub on_failure: Vec<String>,
    /// A command and its arguments, run once for each run that needs you: it asks something, its usage limit outlasted the last try,
    /// or its state stays `unknown`.
    pub on_attention: Vec<String>,
    /// A command and its arguments, run after a pass of the scheduler, at most once a minute: it tells an outside monitor that
    /// schedules are being fired.
    pub heartbeat: Vec<String>,
    /// What tools may allow agents at most: `read-only`, `files` (file tools), `edit` (any command, confined to the workbench) or
    /// `full`. Agents get the highest level that they have up to this.
    pub max_permissions: Permissions,
    /// Who may answer a run's question, or have a finished run go on.
    pub answers_from: AnswersFrom,
    /// How many runs may be alive before a schedule's fire waits its turn.
    pub max_concurrent_runs: u64,
    /// How many runs of all routines may be started on one day of the machine's time zone. If absent, any number.
    pub max_daily_runs: Option<u64>,
    /// What the runs of all routines on one day may cost, at the list prices that their agents report. If absent, any amount; if set,
    /// agents that report no cost do not start.
    pub max_daily_cost_usd: Option<MicroDollars>,
    /// How late the newest missed occurrence of a schedule is still caught up.
    pub catch_up_window_secs: u64,
    /// Where runs take place if their routine does not say.
    pub engine: EngineKind,
    /// Arguments of `sbatch` for every job, each one long option, such as `--account=x`. Not those that are set for each run.
    pub slurm_args: Vec<String>,
    /// The partitions that routines may choose; the first is the default. If empty, Slurm's default and no other.
    pub slurm_partitions: Vec<String>,
    /// How many CPUs a routine may ask for. If absent, as many as Slurm gives.
    pub slurm_max_cpus: Option<u64>,
    /// How much memory a routine may ask for. If absent, as much as Slurm gives.
    pub slurm_max_memory_mib: Option<u64>,
    /// How many GPUs a routine may ask for. If absent, none.
    pub slurm_max_gpus: Option<u64>,
    /// How long a run may wait in Slurm's queue, from its trigger.
    pub max_queue_secs: u64,
    /// How many runs may wait or be alive on Slurm before another is refused, or a schedule's fire waits its turn.
    pub slurm_max_jobs: u64,
    /// After how long a failed node counts as powered off by your site, so that its runs are over. If absent, never: such a run stays
    /// `unknown` until its node answers, or you forget it.
    pub slurm_fenced_secs: Option<u64>,
    /// Pause between two watchdog passes.
    pub watchdog_interval_secs: u64,
    /// Pause between two sweeps.
    pub cleanup_interval_secs: u64,
    /// No effect; accepted because 0.1.0 had it.
    pub confirm_over_workbenches: Option<u64>,
    /// No effect; accepted because 0.1.0 had it.
    pub confirm_over_bytes: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_host: SessionHostSetting::Auto,
            default_ttl_secs: 24 * 60 * 60,
            default_failed_ttl_secs: None,
            default_keep_last: 0,
            default_answer_within_secs: 3 * 24 * 60 * 60,
            ttl_ceiling_secs: 30 * 24 * 60 * 60,
            default_max_runtime_secs: 60 * 60,
            max_runtime_ceiling_secs: 24 * 60 * 60,
            kill_grace_secs: 10,
            max_log_bytes: 64 * 1024 * 1024,
            max_workbench_bytes: None,
            min_free_bytes: None,
            max_history_bytes: 256 * 1024 * 1024,
            history_age_secs: 365 * 24 * 60 * 60,
            unsaved_work: UnsavedWork::default(),
            max_run_archive_bytes: 1 << 30,
            max_archive_bytes: 10 << 30,
            archive_age_secs: 90 * 24 * 60 * 60,
            max_cache_bytes: 10 << 30,
            cache_age_secs: 30 * 24 * 60 * 60,
            on_finish: Vec::new(),
            on_failure: Vec::new(),
            on_attention: Vec::new(),
            heartbeat: Vec::new(),
            max_permissions: Permissions::default(),
            answers_from: AnswersFrom::default(),
            max_concurrent_runs: 4,
            max_daily_runs: None,
            max_daily_cost_usd: None,
            catch_up_window_secs: 24 * 60 * 60,
            engine: EngineKind::default(),
            slurm_args: Vec::new(),
            slurm_partitions: Vec::new(),
            slurm_max_cpus: None,
            slurm_max_memory_mib: None,
            slurm_max_gpus: None,
            max_queue_secs: 24 * 60 * 60,
            slurm_max_jobs: 200,
            slurm_fenced_secs: None,
            watchdog_interval_secs: 30,
            cleanup_interval_secs: 60 * 60,
            confirm_over_workbenches: None,
            confirm_over_bytes: None,
        }
    }
}

/// The longest grace: ending a run has to fit into the 40 s that a clean-up call may take.
pub const MAX_KILL_GRACE_SECS: u64 = 20;

impl Config {
    /// Reads `config.toml`; a missing file means all defaults.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Self::load_if_present(path).map(Option::unwrap_or_default)
    }

    /// Reads `config.toml`; `None` if it is not there.
    pub fn load_if_present(path: &Path) -> Result<Option<Self>, FileError> {
        let Some(text) = atomic_file::if_present(atomic_file::read_text(path))? else { return Ok(None) };
        // Editors write in place, and a full disk leaves it so: no default may stand in for what was there.
        if text.is_empty() {
            let problem =
                "it is empty, as while an editor saves it; write your settings, or a comment to use the defaults";
            return Err(FileError::io("use", path, io::Error::other(problem)));
        }
        Self::parse(&text).map(Some).map_err(|problem| FileError::damaged(path, problem))
    }

    /// Returns the keys that are set and no longer have an effect.
    pub fn ignored_keys(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("confirm_over_workbenches", self.confirm_over_workbenches),
            ("confirm_over_bytes", self.confirm_over_bytes),
        ];
        keys.into_iter().filter_map(|(key, value)| value.map(|_| key))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml_text::parse(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let positive = [
            ("default_ttl_secs", self.default_ttl_secs),
            ("default_failed_ttl_secs", self.default_failed_ttl_secs.unwrap_or(1)),
            ("history_age_secs", self.history_age_secs),
            ("ttl_ceiling_secs", self.ttl_ceiling_secs),
            ("default_max_runtime_secs", self.default_max_runtime_secs),
            ("max_runtime_ceiling_secs", self.max_runtime_ceiling_secs),
            ("max_concurrent_runs", self.max_concurrent_runs),
            ("max_daily_runs", self.max_daily_runs.unwrap_or(1)),
            ("max_queue_secs", self.max_queue_secs),
            ("slurm_max_jobs", self.slurm_max_jobs),
            ("slurm_fenced_secs", self.slurm_fenced_secs.unwrap_or(1)),
            ("watchdog_interval_secs", self.watchdog_interval_secs),
            ("cleanup_interval_secs", self.cleanup_interval_secs),
            ("max_run_archive_bytes", self.max_run_archive_bytes),
            ("max_archive_bytes", self.max_archive_bytes),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key} is 0; it must be at least 1"));
        }
        if self.max_daily_cost_usd == Some(MicroDollars(0)) {
            return Err("max_daily_cost_usd is 0; it must be more than 0".to_owned());
        }
        let grace = self.kill_grace_secs;
        if grace > MAX_KILL_GRACE_SECS {
            return Err(format!("kill_grace_secs is {grace}; it must be at most {MAX_KILL_GRACE_SECS}"));
        }
        if self.max_log_bytes < MIN_LOG_BYTES {
            return Err(format!("max_log_bytes is {}; it must be at least {MIN_LOG_BYTES}", self.max_log_bytes));
        }
        if self.max_history_bytes < MIN_HISTORY_BYTES {
            let bytes = self.max_history_bytes;
            return Err(format!("max_history_bytes is {bytes}; it must be at least {MIN_HISTORY_BYTES}"));
        }
        if self.archive_age_secs < MIN_ARCHIVE_AGE_SECS {
            let secs = self.archive_age_secs;
            return Err(format!(
                "archive_age_secs is {secs}; it must be at least {MIN_ARCHIVE_AGE_SECS}, which is 7 days"
            ));
        }
        slurm::check_arguments(&self.slurm_args)?;
        slurm::check_partitions(&self.slurm_partitions)?;
        let commands = [
            ("on_finish", &self.on_finish),
            ("on_failure", &self.on_failure),
            ("on_attention", &self.on_attention),
            ("heartbeat", &self.heartbeat),
        ];
        if let Some((key, _)) = commands.iter().find(|(_, command)| !is_command(command)) {
            return Err(format!("{key} is {COMMAND_RULE}"));
        }
        Ok(())
    }
}

/// Returns whether a list names a command, or nothing at all.
pub fn is_command(words: &[String]) -> bool {
    words.first().is_none_or(|program| !program.is_empty()) && !words.iter().any(|word| word.contains('\0'))
}

/// What a person may write where a command runs.
pub const COMMAND_RULE: &str = "a list of a command and its arguments, as in [\"notify-send\", \"done\"]";

pub(crate) use slurm::is_slurm_name;

/// How long an archive is kept at least, whatever it takes.
pub const MIN_ARCHIVE_AGE_SECS: u64 = 7 * 24 * 60 * 60;

/// The smallest bound of the history: a smaller one would hold the last few runs only.
const MIN_HISTORY_BYTES: u64 = 1024 * 1024;

/// The smallest bound of a log: below it, too little is left of its beginning and its end to be of use.
const MIN_LOG_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_means_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_empty_file_is_not_taken_for_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        std::fs::write(&path, "").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("config.toml") && error.contains("empty"), "{error}");
        std::fs::write(&path, "# nothing").unwrap();
        assert_eq!(Config::load_if_present(&path).unwrap(), Some(Config::default()));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let problem = Config::parse("ttl = 3").unwrap_err();
        assert!(problem.contains("ttl") && problem.contains("unknown field"), "{problem}");
    }

    #[test]
    fn a_key_without_effect_is_accepted_and_named() {
        let config = Config::parse("confirm_over_bytes = 1\ndefault_ttl_secs = 9").unwrap();
        assert_eq!(config.ignored_keys().collect::<Vec<_>>(), ["confirm_over_bytes"]);
        assert_eq!(config.default_ttl_secs, 9);
    }

    #[test]
    fn money_is_a_number_with_or_without_a_point() {
        for (text, micros) in [("5", 5_000_000), ("0.5", 500_000)] {
            let config = Config::parse(&format!("max_daily_cost_usd = {text}")).unwrap();
            assert_eq!(config.max_daily_cost_usd, Some(MicroDollars(micros)));
        }
    }

    #[test]
    fn senseless_values_are_refused() {
        assert!(Config::parse("cleanup_interval_secs = 0").unwrap_err().contains("cleanup_interval_secs"));
        assert!(Config::parse("kill_grace_secs = 21").unwrap_err().contains("kill_grace_secs"));
        assert!(Config::parse("default_ttl_secs = -1").is_err());
        assert!(Config::parse("default_failed_ttl_secs = 0").unwrap_err().contains("default_failed_ttl_secs"));
        assert!(Config::parse("max_history_bytes = 5").unwrap_err().contains("max_history_bytes"));
        assert!(Config::parse("archive_age_secs = 604799").unwrap_err().contains("7 days"));
        assert!(Config::parse("max_daily_runs = 0").unwrap_err().contains("max_daily_runs"));
        for nothing in ["0", "0.0", "-1.5", "nan"] {
            let problem = Config::parse(&format!("max_daily_cost_usd = {nothing}")).unwrap_err();
            assert!(problem.contains("more than 0"), "{nothing}: {problem}");
        }
        assert!(Config::parse("max_daily_cost_usd = '5'").is_err());
        assert!(Config::parse("unsaved_work = 'forget'").is_err());
        assert!(Config::parse("on_finish = ['']").unwrap_err().contains("on_finish"));
        assert!(Config::parse("on_finish = 'a shell line'").is_err());
        assert!(Config::parse("heartbeat = ['']").unwrap_err().contains("heartbeat"));
        assert!(Config::parse("session_host = 'screen'").is_err());
        assert!(Config::parse("engine = 'cloud'").is_err());
        assert!(Config::parse("max_queue_secs = 0").unwrap_err().contains("max_queue_secs"));
        assert!(Config::parse("slurm_args = ['--export=ALL']").unwrap_err().contains("slurm_args"));
        assert!(Config::parse("slurm_partitions = ['a,b']").unwrap_err().contains("slurm_partitions"));
    }
}
