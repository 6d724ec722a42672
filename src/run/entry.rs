//! `running/<run>/`: there exactly while a run is unfinished, and out of its agent's reach.

use std::io;
use std::path::{Path, PathBuf};

use super::disagreement::Verification;
use super::id::RunId;
use super::record::{
    self, AgentExit, EndRequest, Environment, Gone, Manifest, ProcessesRecord, RecordError, Started, SubmittedJob,
    SupervisorRecord,
};
use crate::agent::question_hook::PersonsAnswer;
use crate::engine::slurm::Job;
use crate::home::atomic_file::{self, FileError};
use crate::home::names::{self, Kind};
use crate::home::{self, Home};
use crate::process_tree::ProcessId;
use crate::routine::slug::Slug;

/// The file whose lock owners share and a judge takes alone.
pub(crate) const LOCK: &str = "lock";
/// The file whose lock a judge takes first. Judges queue on it, so that an owners' lock that is held has an owner.
pub(crate) const JUDGE_LOCK: &str = "judge";
/// Where the `exec` stub reports how starting the agent went, and everything else that runs in the workbench.
pub(crate) const EXEC_REPORT: &str = "exec.report";
pub(crate) const SETUP_REPORT: &str = "setup.report";
pub(crate) const PRECHECK_REPORT: &str = "precheck.report";
pub(crate) const VERIFY_REPORT: &str = "verify.report";
/// What a precheck prints.
pub(crate) const PRECHECK_OUTPUT: &str = "precheck.out";
/// What git prints, and what the login shell's start-up files print.
pub(crate) const GIT_LOG: &str = "git.log";
pub(crate) const SHELL_LOG: &str = "shell.log";
/// What was seen of unsaved work.
pub(crate) const WORK: &str = "work.json";
/// What a person answered to the question of the run that this one continues.
pub(crate) const ANSWER: &str = "answer.json";
/// The fifo for what is typed for an agent on a terminal.
pub(crate) const KEYS: &str = "keys";

/// The entry of one unfinished run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    id: RunId,
    directory: PathBuf,
}

impl Entry {
    /// Names the entry of a run; it need not be there.
    pub fn of(home: &Home, id: &RunId) -> Self {
        Self { id: id.clone(), directory: home.running().join(id.to_string()) }
    }

    /// Lists the entries of unfinished runs, oldest first. Other things in the folder are not ours to judge.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn list(home: &Home) -> Result<Vec<Self>, FileError> {
        let mut entries = Vec::new();
        names::scan(&home.running(), |name, kind| {
            if kind == Kind::Directory {
                entries.extend(name.parse().ok().map(|id| Self::of(home, &id)));
            }
        })?;
        entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    /// Lists the entries of a routine's unfinished runs, oldest first.
    pub(crate) fn of_routine(home: &Home, routine: &Slug) -> Result<Vec<Self>, FileError> {
        let mut entries = Self::list(home)?;
        entries.retain(|entry| entry.id.routine() == routine);
        Ok(entries)
    }

    /// Returns the run.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Returns the entry's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the run is unfinished. An entry that cannot be looked at counts as there.
    pub fn exists(&self) -> bool {
        match self.directory.symlink_metadata() {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Reads what was decided at the trigger.
    ///
    /// # Errors
    /// The record is missing, damaged or newer than this program.
    pub(crate) fn manifest(&self) -> Result<Manifest, RecordError> {
        let path = self.file("run.json");
        let manifest: Manifest = record::read(&path)?;
        if manifest.id == self.id {
            Ok(manifest)
        } else {
            Err(FileError::damaged(&path, format_args!("it is about the run {}", manifest.id)).into())
        }
    }

    /// Replaces what was decided at the trigger.
    ///
    /// # Errors
    /// The system's; the old record is then still there.
    pub(crate) fn set_manifest(&self, manifest: &Manifest) -> Result<(), FileError> {
        atomic_file::write_json(&self.file("run.json"), manifest)
    }

    /// Reads since when the agent runs; `None` before that.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub fn started(&self) -> Result<Option<Started>, FileError> {
        atomic_file::read_json_if_present(&self.file("started.json"))
    }

    /// Notes that the agent runs, and drops the environment that it was started with.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_started(&self, started: &Started) -> Result<(), FileError> {
        // First: once `started.json` is there, the secrets are gone.
        let path = self.file("env.json");
        std::fs::remove_file(&path).map_err(|source| FileError::io("remove", &path, source))?;
        // Not synced: nothing of a run outlives a power cut, and an entry of an earlier boot needs no such record.
        atomic_file::replace_json_unsynced(&self.file("started.json"), started)
    }

    /// Notes that the agent ended well, and that its verification begins. Not synced: after a power cut it is as lost as the run.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_verifying(&self, exit: &AgentExit) -> Result<(), FileError> {
        atomic_file::replace_json_unsynced(&self.file("verifying.json"), exit)
    }

    /// Reads how the agent of a run ended whose verification has begun.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn verifying(&self) -> Result<Option<AgentExit>, FileError> {
        atomic_file::read_json_if_present(&self.file("verifying.json"))
    }

    /// Notes how the verification ended: what the workbench says of it may be the agent's own.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_verified(&self, verification: &Verification) -> Result<(), FileError> {
        atomic_file::replace_json_unsynced(&self.file("verified.json"), verification)
    }

    /// Reads how the verification ended; `None` while it has not.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn verified(&self) -> Result<Option<Verification>, FileError> {
        atomic_file::read_json_if_present(&self.file("verified.json"))
    }

    /// Reads how an agent on a terminal ended, as release 0.1.0 wrote it down beside a supervisor that might be gone.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn terminal_exit(&self) -> Result<Option<AgentExit>, FileError> {
        atomic_file::read_json_if_present(&self.file("exit.json"))
    }

    /// Notes why the run has no window. That is worth no error: a run that has ended meanwhile needs none.
    pub(crate) fn set_window_problem(&self, problem: &str) {
        let _ = atomic_file::replace_json_unsynced(&self.file("window_problem.json"), &problem);
    }

    /// Reads why the run has no window, if that is so.
    pub(crate) fn window_problem(&self) -> Option<String> {
        atomic_file::read_json(&self.file("window_problem.json")).ok()
    }

    /// Reads the environment for the agent.
    ///
    /// # Errors
    /// The record is missing, unreadable or damaged.
    pub(crate) fn environment(&self) -> Result<Environment, FileError> {
        atomic_file::read_json(&self.file("env.json"))
    }

    /// Writes down the environment of a precheck or a verification that a login shell starts. It holds no secret.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_check_environment(&self, environment: &Environment) -> Result<(), FileError> {
        atomic_file::replace_json_unsynced(&self.file("check_env.json"), environment)
    }

    /// Reads that environment.
    ///
    /// # Errors
    /// The record is missing, unreadable or damaged.
    pub(crate) fn check_environment(&self) -> Result<Environment, FileError> {
        atomic_file::read_json(&self.file("check_env.json"))
    }

    /// Keeps the answer to what its agent asked with a tool of its own.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_answer(&self, answer: &PersonsAnswer) -> Result<(), FileError> {
        atomic_file::replace_json_unsynced(&self.file(ANSWER), answer)
    }

    /// Reads why somebody wants the run ended; `None` while nobody does.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn end_request(&self) -> Result<Option<EndRequest>, FileError> {
        atomic_file::read_json_if_present(&self.file("end.json"))
    }

    /// Asks for the run's end, unless somebody did before; returns whether this was the first time.
    ///
    /// # Errors
    /// The entry is gone because the run has ended, or the system refuses.
    pub(crate) fn request_end(&self, request: &EndRequest) -> Result<bool, FileError> {
        atomic_file::write_json_once(&self.file("end.json"), request)
    }

    /// Asks for the run's end, and returns the request that counts: the first one. The run ends even if nothing can be
    /// written, as on a full disk.
    pub(crate) fn first_end_request(&self, request: EndRequest) -> EndRequest {
        match self.request_end(&request) {
            Ok(true) => request,
            Ok(false) => self.end_request().ok().flatten().unwrap_or(request),
            Err(error) => {
                tracing::warn!(%error, "the request for the end is not on disk");
                request
            }
        }
    }

    /// Reads which processes were written down; `None` if none were.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn processes(&self) -> Result<Option<ProcessesRecord>, FileError> {
        atomic_file::read_json_if_present(&self.file("processes.json"))
    }

    /// Writes down processes that belong to the run. Not synced: no process outlives a power cut.
    ///
    /// # Errors
    /// The system's; the old record is then still there.
    pub(crate) fn set_processes(&self, processes: &ProcessesRecord) -> Result<(), FileError> {
        atomic_file::replace_json_unsynced(&self.file("processes.json"), processes)
    }

    /// Reads the processes that release 0.1.0 wrote down when it ended the run; none where it did not.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn doomed(&self) -> Result<Option<Vec<ProcessId>>, FileError> {
        atomic_file::read_json_if_present(&self.file("doomed.json"))
    }

    /// Takes the run for a supervisor, unless another has it already; returns whether it was taken.
    ///
    /// # Errors
    /// The entry is gone, or the system refuses.
    pub(crate) fn take(&self, supervisor: &SupervisorRecord) -> Result<bool, FileError> {
        let path = self.file("supervisor.json");
        match supervisor.job {
            // No process outlives a power cut.
            None => atomic_file::create_json_unsynced(&path, supervisor),
            // Another machine reads it.
            Some(_) => atomic_file::write_json_once(&path, supervisor),
        }
    }

    /// Reads which supervisor has a run on a node; `None` while none has, also if it is barred from starting.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn supervisor_on_node(&self) -> Result<Option<SupervisorRecord>, FileError> {
        Ok(self.supervisor()?.filter(|taken| taken.job.is_some()))
    }

    /// Notes how Slurm saw its job end, once: Slurm forgets it within minutes.
    pub(crate) fn set_job_end(&self, job: &Job) {
        let path = self.file("job_end.json");
        if let Err(error) = atomic_file::create_json_unsynced(&path, job) {
            tracing::warn!(run = %self.id, %error, "how its job ended is not on disk");
        }
    }

    /// Reads how Slurm saw its job end; `None` if that was not noted.
    pub(crate) fn job_end(&self) -> Option<Job> {
        atomic_file::read_json(&self.file("job_end.json")).ok()
    }

    /// Reads which supervisor has the run; `None` while none has.
    ///
    /// # Errors
    /// The record is unreadable or damaged.
    pub(crate) fn supervisor(&self) -> Result<Option<SupervisorRecord>, FileError> {
        atomic_file::read_json_if_present(&self.file("supervisor.json"))
    }

    /// Notes what became of its submission to Slurm. That is worth no error: its jobs are found by name and token.
    pub(crate) fn set_job(&self, job: &SubmittedJob) {
        if let Err(error) = atomic_file::replace_json_unsynced(&self.file("job.json"), job) {
            tracing::warn!(run = %self.id, %error, "what Slurm answered is not on disk");
        }
    }

    /// Reads what became of its submission to Slurm.
    pub(crate) fn job(&self) -> Option<SubmittedJob> {
        atomic_file::read_json(&self.file("job.json")).ok()
    }

    /// Attests that nothing of the run is left on this machine, on which it took place.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_gone(&self, gone: &Gone) -> Result<(), FileError> {
        atomic_file::write_json(&self.file("gone.json"), gone)
    }

    /// Reads whether the machine on which it took place attested that nothing is left.
    ///
    /// # Errors
    /// The record is unreadable.
    pub(crate) fn gone(&self) -> Result<Option<Gone>, FileError> {
        atomic_file::unless_damaged(atomic_file::read_json_if_present(&self.file("gone.json")))
    }

    /// Takes the entry out of sight and deletes it: the run is finished.
    ///
    /// # Errors
    /// The rename's; what could not be deleted stays in the trash for the janitor.
    pub(crate) fn dispose(&self, home: &Home) -> Result<(), FileError> {
        let aside = home.trash().join(format!("{}.{}", self.id, home::random_suffix()));
        std::fs::rename(&self.directory, &aside)
            .map_err(|source| FileError::io("put away", &self.directory, source))?;
        // Not synced: an entry that a power cut brings back has its outcome and its line, and is closed once more.
        // It holds only files that we wrote, a dozen at most.
        let _ = std::fs::remove_dir_all(&aside);
        Ok(())
    }

    /// Returns where a file of the entry is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
