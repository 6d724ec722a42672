//! What a supervisor holds of its run, and the state of it on which [`decide`](super::watch::decide) decides.

use std::collections::HashSet;
use std::time::Instant;

use super::children::Children;
use super::log_cap::LogCap;
use super::terminal::Terminal;
use super::unmarked::Unmarked;
use super::wake::Wake;
use super::watch::State;
use super::workbench_identity::WorkbenchIdentity;
use crate::clock::Moment;
use crate::environment::EnvName;
use crate::home::config::Config;
use crate::process_tree::ProcessId;
use crate::routine::bounds::Bounds;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::record::{Environment, Manifest, Started, SupervisorRecord};
use crate::run::workbench::Workbench;

pub(super) struct Supervisor {
    pub(super) context: Context,
    pub(super) entry: Entry,
    pub(super) manifest: Manifest,
    /// How it took the run.
    pub(super) taken: SupervisorRecord,
    pub(super) children: Children,
    pub(super) wake: Wake,
    pub(super) log_cap: LogCap,
    /// Of an agent that needs one, from its start on.
    pub(super) terminal: Option<Terminal>,
    pub(super) started: Option<Started>,
    /// As they were read last: they hold while the routine cannot be read, or is gone.
    bounds: Option<Bounds>,
    entry_gone: Option<Instant>,
    pub(super) unmarked: Unmarked,
    /// What the login shell's start-up files left running: it is ended with the run, and is not the agent's doing.
    pub(super) of_start_up_files: HashSet<ProcessId>,
    /// What the agent was to inherit and lacks even after the login shell's start-up files; `None` before it has started.
    pub(super) missing_env: Option<Vec<EnvName>>,
    /// That of a precheck and a verification; `None` where there is neither.
    pub(super) check_environment: Option<Environment>,
    /// That of the workbench when the agent was started.
    pub(super) workbench_identity: WorkbenchIdentity,
    /// Why the agent was started although its precheck did not say so.
    pub(super) precheck_trouble: Option<String>,
}

impl Supervisor {
    pub(super) fn new(context: Context, entry: Entry, manifest: Manifest, taken: SupervisorRecord, wake: Wake) -> Self {
        let log_cap = LogCap::watch(&manifest.workbench(&context.home), context.config.max_log_bytes);
        Self {
            context,
            entry,
            manifest,
            taken,
            children: Children::default(),
            wake,
            log_cap,
            terminal: None,
            started: None,
            bounds: None,
            entry_gone: None,
            unmarked: Unmarked::default(),
            of_start_up_files: HashSet::new(),
            missing_env: None,
            check_environment: None,
            workbench_identity: WorkbenchIdentity::default(),
            precheck_trouble: None,
        }
    }

    /// Reads what there is to decide on. What cannot be read is never a reason to leave the agent alone.
    pub(super) fn state(&mut self, silent_secs: u64) -> State {
        self.read_settings();
        self.unmarked.look(&self.context.home, &self.entry, &self.manifest);
        let bounds = self.read_bounds();
        let gone_since = if self.entry.exists() { None } else { Some(self.entry_gone.unwrap_or_else(Instant::now)) };
        self.entry_gone = gone_since;
        State {
            exit: self.children.agent_exit(),
            request: self.entry.end_request().unwrap_or_default(),
            request_unwritten: self.wake.request_unwritten(),
            termination_signal: self.wake.termination_signal(),
            // A run that waited in a queue has had nothing of its time.
            age_secs: self.taken.at.as_ref().unwrap_or(&self.manifest.triggered).elapsed_secs_at(&Moment::now()),
            max_runtime_secs: bounds.max_runtime_secs_of_run(self.manifest.max_runtime_secs),
            job_limit_secs: self.manifest.job.as_ref().map(|order| order.limit_secs),
            silent_secs,
            max_silence_secs: bounds.max_silence_secs_of_run(self.manifest.command.max_silence_secs),
            entry_gone_secs: gone_since.map_or(0, |since| since.elapsed().as_secs()),
        }
    }

    /// Reads the bounds as they are now.
    fn read_bounds(&mut self) -> Bounds {
        let (home, config, slug) = (&self.context.home, &self.context.config, self.entry.id().routine());
        self.bounds = Bounds::of_readable(home, config, slug).or(self.bounds.take());
        self.bounds.clone().unwrap_or_else(|| Bounds::of(home, config, slug))
    }

    /// Reads the settings. While they are missing or cannot be read, the last ones hold: the defaults could be shorter.
    pub(super) fn read_settings(&mut self) {
        match Config::load_if_present(&self.context.home.config_file()) {
            Ok(Some(config)) => self.context.config = config,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the settings from before hold"),
        }
    }

    pub(super) fn workbench(&self) -> Workbench {
        self.manifest.workbench(&self.context.home)
    }
}
