//! The records that a run leaves on its way: staged, running, outcome.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::id::RunId;
use super::status::Status;
use crate::agent::AgentCommand;
use crate::clock::{HumanDuration, Moment, UnixSeconds};
use crate::environment::{EnvName, Variables};
use crate::home::atomic_file::{self, FileError};
use crate::home::identity::HomeIdentity;
use crate::process_tree::{Cookie, KnownProcesses, ProcessId};
use crate::routine::repository::Repository;
use crate::session::HostKind;

/// The form of the newest records that this program writes. Those of version 1 lack the home, the machine of `started.json`,
/// and statuses that came later.
pub const RECORD_VERSION: u32 = 2;

/// The form of the records that release 0.1.0 reads and writes. It takes a newer one for unknown and leaves the run alone.
pub const FIRST_RECORD_VERSION: u32 = 1;

/// A record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer program wrote it; what it means is not ours to guess.
    #[error("{path} is of version {version}, newer than this program knows ({RECORD_VERSION}); update moadim-mcp")]
    Newer {
        /// The record's file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// The file is missing, unreadable or damaged.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads a record of a version that we know.
///
/// # Errors
/// It is newer than we are, or the file is missing, unreadable or damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bytes = atomic_file::read(path, atomic_file::MAX_RECORD_BYTES)?;
    let damaged = |error| FileError::damaged(path, error);
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version > RECORD_VERSION {
        return Err(RecordError::Newer { path: path.display().to_string(), version });
    }
    Ok(serde_json::from_slice(&bytes).map_err(damaged)?)
}

/// `run.json`: what was decided when the run was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this record.
    pub version: u32,
    /// The run.
    pub id: RunId,
    /// When it was triggered.
    pub triggered: Moment,
    /// How its processes are recognised.
    pub cookie: Cookie,
    /// Where its processes are.
    pub machine: Machine,
    /// The home that it was started in; absent in records of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<HomeIdentity>,
    /// The bound that its routine had at the trigger, which holds once the routine is gone; absent in records of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime_secs: Option<u64>,
    /// What it executes.
    pub command: AgentCommand,
    /// Where it can be watched.
    pub session_host: HostKind,
    /// What started it.
    #[serde(default)]
    pub origin: Origin,
    /// What is cloned into its workbench first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository>,
    /// What its agent was to inherit and the process that started it did not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_env: Vec<EnvName>,
}

impl Manifest {
    /// Returns whether the agent has started, as far as can be told: `started.json` does not outlive a power cut, so in an
    /// entry of an earlier boot its absence says nothing.
    #[must_use]
    pub fn may_have_started(&self, started: Option<&Started>) -> bool {
        started.is_some() || self.triggered.boot_id != Moment::now().boot_id
    }

    /// Tells whether there is something to do before the agent can start.
    #[must_use]
    pub fn needs_preparation(&self) -> bool {
        !self.repositories.is_empty() || !self.command.setup.is_empty()
    }
}

/// What started a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Origin {
    /// Somebody asked for it.
    #[default]
    Call,
    /// Its routine's schedule.
    Schedule {
        /// The moment that the schedule names.
        occurrence: UnixSeconds,
    },
    /// A run before it failed.
    Retry {
        /// The first of the attempts.
        of: RunId,
        /// Which attempt this is; the first run is 1.
        attempt: u32,
    },
}

/// Where processes can be seen from: elsewhere, nothing can be said about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The machine's own id.
    pub machine_id: String,
    /// The process namespace; empty where there is no such thing.
    pub pid_namespace: String,
}

/// `env.json`: the run's environment, there only until its agent has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// What it inherits; a login shell may change these.
    pub inherited: Variables,
    /// What its agent and routine set; nothing overrides these.
    pub set: Variables,
}

/// `supervisor.json`: the supervisor that has the run. The first writer has it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorRecord {
    /// The supervisor.
    pub supervisor: ProcessId,
    /// Where it is.
    pub machine: Machine,
    /// Which boot of the machine this was: start times mean something within one boot only.
    pub boot_id: String,
    /// The process that took the supervisor in when it was detached: the system's first process, or a subreaper. It takes in
    /// the run's orphans as well, once the supervisor is gone.
    pub reaper: i32,
}

/// `started.json`: the agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Who watches it.
    pub supervisor: ProcessId,
    /// The agent itself.
    pub agent: ProcessId,
    /// Since when.
    pub at: UnixSeconds,
    /// Where both are; absent in records of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// `processes.json`: processes that belong to the run and might not be recognised by its cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessesRecord {
    /// Where they are.
    pub machine: Machine,
    /// The boot within which their start times mean something.
    pub boot_id: String,
    /// The processes.
    pub processes: KnownProcesses,
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct AgentExit {
    /// Its exit status.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl AgentExit {
    /// Says how it ended, to follow its name.
    #[must_use]
    pub fn how(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended in a way that the system does not tell".to_owned(),
        }
    }

    /// Returns the status of a run whose agent ended so by itself.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.code == Some(0) { Status::Succeeded } else { Status::Failed }
    }
}

/// Why a run was ended by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// It exceeded its bound.
    TimedOut,
    /// Somebody asked.
    Stopped,
    /// Its start took too long.
    LaunchFailed,
    /// It printed nothing for too long.
    Silent,
    /// Its supervisor received a termination signal.
    Interrupted,
}

impl From<EndCause> for Status {
    fn from(cause: EndCause) -> Self {
        match cause {
            EndCause::TimedOut => Self::TimedOut,
            EndCause::Stopped => Self::Stopped,
            EndCause::LaunchFailed => Self::LaunchFailed,
            EndCause::Silent => Self::Silent,
            EndCause::Interrupted => Self::Interrupted,
        }
    }
}

/// Says that a run exceeded its bound, with both numbers.
#[must_use]
pub fn exceeded_max_runtime(age_secs: u64, max_runtime_secs: u64) -> String {
    let (age, allowed) = told_apart(age_secs, max_runtime_secs);
    format!("exceeded max runtime: {age} since its trigger, {allowed} allowed")
}

/// Says that an agent printed nothing for too long, with both numbers.
#[must_use]
pub fn exceeded_max_silence(silent_secs: u64, max_silence_secs: u64) -> String {
    let (silent, allowed) = told_apart(silent_secs, max_silence_secs);
    format!("hung: it printed nothing for {silent}, {allowed} allowed")
}

/// Says two lengths of time so that they differ.
fn told_apart(one: u64, other: u64) -> (String, String) {
    let said = (HumanDuration(one).to_string(), HumanDuration(other).to_string());
    if said.0 == said.1 { (format!("{one} s"), format!("{other} s")) } else { said }
}

/// `end.json`: the run is to end. The first writer wins, so that every reader knows one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRequest {
    /// Why.
    pub cause: EndCause,
    /// The same in words, with the numbers.
    pub reason: String,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: UnixSeconds,
    /// The run's last output before that.
    pub last_output: UnixSeconds,
}

/// `outcome.json`, and a line of the history: how a run ended, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The form of this record.
    pub version: u32,
    /// The run.
    pub id: RunId,
    /// How it ended.
    pub status: Status,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who ended it by force, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// The agent's exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The agent's name.
    pub agent: String,
    /// Where it could be watched.
    pub session_host: HostKind,
    /// What started it.
    #[serde(default)]
    pub origin: Origin,
    /// When it was triggered.
    pub triggered_at: UnixSeconds,
    /// When its agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UnixSeconds>,
    /// When it ended.
    pub finished_at: UnixSeconds,
    /// From when its retention counts: its last output if it was ended by force, so that our note is no new life.
    pub retain_from: UnixSeconds,
    /// How its processes were recognised: none may be alive when its workbench goes.
    pub cookie: Cookie,
}

/// How a run ended, as its owner or its judge found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The status that follows.
    pub status: Status,
    /// Why, in words.
    pub reason: Option<String>,
    /// Who ended it by force, if somebody did.
    pub ended_by: Option<String>,
    /// The agent's exit status.
    pub exit_code: Option<i32>,
    /// The signal that ended the agent.
    pub signal: Option<i32>,
    /// When it ended.
    pub finished_at: UnixSeconds,
    /// From when its retention counts.
    pub retain_from: UnixSeconds,
}

impl Outcome {
    /// Completes a run's record.
    #[must_use]
    pub fn new(manifest: &Manifest, started: Option<&Started>, ending: Ending) -> Self {
        Self {
            version: ending.status.record_version(),
            id: manifest.id.clone(),
            status: ending.status,
            reason: ending.reason,
            ended_by: ending.ended_by,
            exit_code: ending.exit_code,
            signal: ending.signal,
            agent: manifest.command.agent.clone(),
            session_host: manifest.session_host,
            origin: manifest.origin.clone(),
            triggered_at: manifest.triggered.at,
            started_at: started.map(|started| started.at),
            finished_at: ending.finished_at,
            retain_from: ending.retain_from,
            cookie: manifest.cookie,
        }
    }

    /// Makes the record of a run of which nothing but its name can be read. No process carries its `cookie`.
    #[must_use]
    pub fn without_manifest(id: &RunId, cookie: Cookie, ending: Ending) -> Self {
        Self {
            version: ending.status.record_version(),
            id: id.clone(),
            status: ending.status,
            reason: ending.reason,
            ended_by: ending.ended_by,
            exit_code: ending.exit_code,
            signal: ending.signal,
            agent: "unknown".to_owned(),
            session_host: HostKind::Detached,
            origin: Origin::Call,
            triggered_at: id.stamp(),
            started_at: None,
            finished_at: ending.finished_at,
            retain_from: ending.retain_from,
            cookie,
        }
    }
}

impl Ending {
    /// Tells how a run ended that nobody is left of and nobody wrote down: by the request that was made, else it never
    /// started, else as its agent did if that is known, else it is lost. Its last output is the last thing known of it.
    #[must_use]
    pub fn of_abandoned(
        started: bool,
        request: Option<&EndRequest>,
        exit: Option<AgentExit>,
        last_output: UnixSeconds,
        now: UnixSeconds,
    ) -> Self {
        let unforced = |status, reason: &str, at| Self {
            status,
            reason: Some(reason.to_owned()),
            ended_by: None,
            exit_code: None,
            signal: None,
            finished_at: at,
            retain_from: at,
        };
        match (request, exit) {
            (Some(request), _) => Self::by_request(request, now),
            (None, Some(exit)) if started => {
                let reason = format!("its supervisor was gone when its agent {}", exit.how());
                let ending = unforced(exit.status(), &reason, last_output);
                Self { exit_code: exit.code, signal: exit.signal, ..ending }
            }
            (None, None) if started => unforced(
                Status::Lost,
                "its supervisor and its processes vanished without recording an end",
                last_output,
            ),
            (None, _) => {
                unforced(Status::LaunchFailed, "whoever launched it vanished before its agent had started", now)
            }
        }
    }

    /// Tells how a run ended that was ended by force.
    #[must_use]
    pub fn by_request(request: &EndRequest, now: UnixSeconds) -> Self {
        Self {
            status: request.cause.into(),
            reason: Some(request.reason.clone()),
            ended_by: Some(request.by.clone()),
            exit_code: None,
            signal: None,
            finished_at: now,
            retain_from: request.last_output,
        }
    }
}

#[cfg(test)]
impl Outcome {
    /// Makes the outcome of a run that was triggered and started at the second of its name and took one more.
    pub(crate) fn example(id: &str, status: Status) -> Self {
        let id: RunId = id.parse().unwrap();
        let (began, ended) = (id.stamp(), id.stamp().plus_secs(1));
        Self {
            version: status.record_version(),
            id,
            status,
            reason: None,
            ended_by: None,
            exit_code: None,
            signal: None,
            agent: "a".into(),
            session_host: HostKind::Detached,
            origin: Origin::Call,
            triggered_at: began,
            started_at: Some(began),
            finished_at: ended,
            retain_from: ended,
            cookie: Cookie::random().unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_record_is_unknown_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        std::fs::write(&path, format!(r#"{{"version": {}, "shape": "new"}}"#, RECORD_VERSION + 1)).unwrap();
        assert!(matches!(read::<Manifest>(&path), Err(RecordError::Newer { .. })));
        std::fs::write(&path, r#"{"version": 1}"#).unwrap();
        assert!(matches!(read::<Manifest>(&path), Err(RecordError::File(FileError::Damaged { .. }))));
    }

    #[test]
    fn an_abandoned_run_ended_as_asked_else_never_started_else_is_lost() {
        let (last, now) = (UnixSeconds(50), UnixSeconds(99));
        let request = EndRequest {
            cause: EndCause::Stopped,
            reason: "asked".into(),
            by: "stop_run".into(),
            at: UnixSeconds(60),
            last_output: last,
        };
        let asked = Ending::of_abandoned(true, Some(&request), Some(AgentExit::default()), UnixSeconds(61), now);
        assert_eq!((asked.status, asked.retain_from, asked.finished_at), (Status::Stopped, last, now));
        assert_eq!(Ending::of_abandoned(false, None, None, last, now).status, Status::LaunchFailed);
        let lost = Ending::of_abandoned(true, None, None, last, now);
        assert_eq!((lost.status, lost.finished_at, lost.retain_from), (Status::Lost, last, last));
    }

    #[test]
    fn an_abandoned_run_ended_as_its_agent_did_if_that_is_known() {
        let (last, now) = (UnixSeconds(50), UnixSeconds(99));
        let ending = |started, exit| Ending::of_abandoned(started, None, Some(exit), last, now);
        let exit = |code, signal| AgentExit { code, signal };
        let good = ending(true, exit(Some(0), None));
        assert_eq!((good.status, good.exit_code, good.retain_from), (Status::Succeeded, Some(0), last));
        for (exit, how) in [
            (exit(Some(3), None), "exited with status 3"),
            (exit(None, Some(9)), "signal 9"),
            (exit(None, None), "does not tell"),
        ] {
            let bad = ending(true, exit);
            assert_eq!((bad.status, bad.exit_code, bad.signal), (Status::Failed, exit.code, exit.signal));
            let reason = bad.reason.unwrap();
            assert!(reason.contains("supervisor was gone") && reason.contains(how), "{reason}");
        }
        let stub = ending(false, exit(Some(1), None));
        assert_eq!(stub.status, Status::LaunchFailed, "what ended was not the agent yet");
    }
}
