//! The life of a supervisor, from its share of the lock to the recorded outcome.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::ending::Evidence;
use super::finish::SHUTDOWN_WINDOW;
use super::job;
use super::setup_step::NotPrepared;
use super::silence::Silence;
use super::supervision::Supervisor;
use super::wake::Wake;
use super::watch::{Step, TERMINATION_SIGNAL, decide};
use super::workbench_identity::WorkbenchIdentity;
use crate::clock::{Moment, UnixSeconds};
use crate::home::Home;
use crate::home::config::Config;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::process_tree::{ProcessId, become_subreaper};
use crate::run::context::{Context, Program};
use crate::run::end::Order;
use crate::run::entry::{Entry, LOCK};
use crate::run::id::RunId;
use crate::run::record::{EndCause, EndRequest, Ending, Manifest, Started, SupervisorRecord};
use crate::run::status::Status;
use crate::run::this_machine::Here;

/// The same while a trigger's caller waits for the launch.
const SHORT_SHUTDOWN_WINDOW: Duration = Duration::from_millis(200);

/// What became of a launch.
enum Launched {
    /// The agent runs.
    Agent(Started),
    /// Nothing was started, for this reason.
    Nothing(String),
}

/// Starts the agent of a run and stays with it until nothing of it is alive and its outcome is recorded.
///
/// # Errors
/// It could not; a judge decides about what is left.
pub fn supervise(root: PathBuf, id: &RunId) -> anyhow::Result<()> {
    const NOT_SET_UP: &str = "the supervisor cannot be set up";
    let _ = rustix::process::setsid();
    become_subreaper().context(NOT_SET_UP)?;
    let wake = Wake::listen().context(NOT_SET_UP)?;
    let home = Home::open(root)?;
    let entry = Entry::of(&home, id);
    // Before anything else: from here on the run has an owner that outlives its trigger.
    let _lock = take_share(&entry)?;
    let manifest = entry.manifest()?;
    let Some(taken) = take(&home, &entry, &manifest)? else { return Ok(()) };
    if taken.job.is_some()
        && let Err(error) = job::pass_on_environment(&entry)
    {
        // The start of the agent says whatever is wrong with it.
        tracing::warn!(%error, "the agent does not learn of its job");
    }
    let config = Config::load(&home.config_file()).unwrap_or_else(|error| {
        tracing::warn!(%error, "the defaults hold");
        Config::default()
    });
    let context = Context::of_supervisor(home, config, Program::current().context(NOT_SET_UP)?);
    Supervisor::new(context, entry, manifest, taken, wake).run()
}

/// How long judges are waited for: a run that waits on Slurm has no owner, and each look at it takes the lock for a moment.
const JUDGES_TIMEOUT: Duration = Duration::from_secs(60);
const JUDGES_PAUSE: Duration = Duration::from_millis(5);

/// Takes a share of the run's lock.
fn take_share(entry: &Entry) -> Result<FileLock, LockError> {
    let deadline = Instant::now() + JUDGES_TIMEOUT;
    loop {
        match FileLock::try_existing(&entry.file(LOCK), Mode::Shared) {
            Err(error) if error.is_held() && Instant::now() < deadline => std::thread::sleep(JUDGES_PAUSE),
            result => return result,
        }
    }
}

/// Takes the run, which one supervisor does. `None` if another has it and Slurm merely started the job a second time.
fn take(home: &Home, entry: &Entry, manifest: &Manifest) -> anyhow::Result<Option<SupervisorRecord>> {
    let here = Here::of(home);
    if let Some(cause) = here.stranger(manifest) {
        bail!("cannot supervise the run {}: {cause}", entry.id());
    }
    let reaper = rustix::process::getppid().map_or(1, |parent| parent.as_raw_pid());
    let mut record = here.supervisor_record(ProcessId::current()?, reaper);
    if manifest.is_on_slurm() {
        (record.at, record.job) = (Some(Moment::now()), Some(job::of_this_process()?));
    }
    if entry.take(&record)? {
        return Ok(Some(record));
    }
    let who = match entry.supervisor() {
        Ok(Some(_)) if record.job.is_some() => return Ok(None),
        Ok(Some(record)) => record.supervisor.to_string(),
        _ => "its record cannot be read".to_owned(),
    };
    bail!("cannot supervise the run {}: another supervisor has it ({who})", entry.id())
}

impl Supervisor {
    fn run(mut self) -> anyhow::Result<()> {
        if let Some(request) = self.entry.end_request()? {
            return self.end(&request);
        }
        match self.launch() {
            Ok(Launched::Agent(started)) => self.started = Some(started),
            Ok(Launched::Nothing(reason)) => return self.skip(reason),
            Err(NotPrepared::Obey(request)) => return self.end(&request),
            Err(NotPrepared::End(mut cause, mut reason)) => {
                // What failed may have received the same signal.
                let window = if self.manifest.needs_preparation() { SHUTDOWN_WINDOW } else { SHORT_SHUTDOWN_WINDOW };
                if cause == EndCause::LaunchFailed && self.is_shutdown(Instant::now(), window) {
                    (cause, reason) = (EndCause::Interrupted, format!("{TERMINATION_SIGNAL}; {reason}"));
                }
                let request = self.request(cause, reason);
                return self.end(&request);
            }
        }
        // The agent has opened the file that has the log's name by now.
        self.log_cap.watch_again(&self.workbench(), self.context.config.max_log_bytes);
        let mut silence = Silence::from(Moment::now());
        loop {
            self.children.reap();
            let pause = self.log_cap.look();
            let silent_secs = silence.secs(self.log_cap.marks(), &Moment::now());
            match decide(self.state(silent_secs)) {
                Step::Wait => self.wake.wait(pause),
                Step::Finish(exit) => return self.finish(exit),
                Step::Obey(request) => return self.end(&request),
                Step::End(cause, reason) => {
                    let request = self.request(cause, reason);
                    return self.end(&request);
                }
            }
        }
    }

    /// Starts the agent, unless its precheck says no.
    fn launch(&mut self) -> Result<Launched, NotPrepared> {
        if let Some(reason) = self.precheck()? {
            return Ok(Launched::Nothing(reason));
        }
        self.prepare()?;
        self.workbench_identity = WorkbenchIdentity::of(&self.workbench());
        self.start_agent().map(Launched::Agent)
    }

    /// Records that there was nothing to do.
    fn skip(self, reason: String) -> anyhow::Result<()> {
        match self.entry.end_request().ok().flatten() {
            Some(request) => self.end(&request),
            None => self.record(Ending::of(Status::Skipped, reason, UnixSeconds::now()), Evidence::default()),
        }
    }

    /// Writes down why we end the run; the first reason written counts.
    pub(super) fn request(&self, cause: EndCause, reason: String) -> EndRequest {
        let order = Order { cause, reason, by: "supervisor".to_owned() };
        self.entry.first_end_request(order.request(&self.workbench(), &self.manifest))
    }
}
