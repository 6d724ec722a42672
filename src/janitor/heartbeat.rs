//! The heartbeat of a home: a stamp on disk that one of its schedulers renews each minute, and a command that tells an outside
//! monitor. The next process sees by the stamp for how long nothing was running.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::env_vars;
use crate::home::Home;
use crate::home::atomic_file;
use crate::home::lock::{FileLock, LockError};
use crate::run::context::Context;
use crate::run::hook;
use crate::run::janitor_status::{Downtime, JanitorStatus};

/// How long a beat is good for.
const INTERVAL_SECS: u64 = 60;

/// After how long without a beat nothing was running: a machine under load may skip one.
const DOWNTIME_SECS: u64 = 5 * 60;

/// How long after a downtime a process that starts still counts as started after it: hosts start several at once.
const STARTING_SECS: u64 = 2 * 60;

/// How long the runner of the command waits to note how that went: others hold the stamp for a moment.
const STAMP_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// What the stamp says.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// When a scheduler last renewed it after a pass.
    pub at: UnixSeconds,
    /// The last time that it was not renewed for long, until a process started.
    pub downtime: Option<Downtime>,
    /// What went wrong with the command when it last ran.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub problem: String,
    is_logged: bool,
}

impl Beat {
    /// Reads the stamp; one that is damaged, as by a power cut, is as good as none.
    pub(super) fn read(home: &Home) -> Option<Self> {
        atomic_file::read_json(&home.heartbeat()).ok()
    }

    /// A beat far ahead is from a clock that was wrong.
    fn is_fresh(&self, now: UnixSeconds) -> bool {
        self.at.0.abs_diff(now.0) < INTERVAL_SECS
    }

    /// Only a process that has just started knows that none was there: others may have slept with their machine.
    fn renewed(before: Option<Self>, now: UnixSeconds, is_first_pass: bool) -> Self {
        let Some(before) = before else { return Self { at: now, downtime: None, failure: None } };
        let is_new = is_first_pass && before.at.age_secs_at(now) > DOWNTIME_SECS;
        let downtime = if is_new { Some(Downtime { from: before.at, until: now }) } else { before.downtime };
        Self { at: now, downtime, failure: before.failure }
    }

    /// Returns the downtime after which a process started that makes its first pass now.
    fn downtime_before_start(&self, now: UnixSeconds) -> Option<Downtime> {
        self.downtime.clone().filter(|downtime| downtime.until.0.abs_diff(now.0) < STARTING_SECS)
    }
}

/// Returns when a scheduler of the home last renewed it.
pub(crate) fn last_beat(home: &Home) -> Option<UnixSeconds> {
    Beat::read(home).map(|beat| beat.at)
}

/// Renews the stamp after a pass of the scheduler and starts the home's command, unless a process did so within the last minute.
///
/// # Errors
/// The stamp cannot be written.
pub(super) fn beat(context: &Context, status: &JanitorStatus, now: UnixSeconds) -> Result<(), LockError> {
    let home = &context.home;
    if let Some(fresh) = Beat::read(home).filter(|beat| beat.is_fresh(now)) {
        status.started_after(|| fresh.downtime_before_start(now));
        return Ok(());
    }
    let path = home.heartbeat();
    let mut lock = match FileLock::acquire_unsigned(&path, Duration::ZERO) {
        // Another process renews it; the next pass sees what it wrote.
        Err(error) if error.is_held() => return Ok(()),
        lock => lock?,
    };
    let before = Beat::read(home);
    if before.as_ref().is_some_and(|beat| beat.is_fresh(now)) {
        return Ok(());
    }
    let mut beat = Beat::renewed(before, now, status.is_first_pass());
    if let Some(failure) = beat.failure.as_mut().filter(|failure| !failure.is_logged) {
        tracing::warn!(problem = failure.problem, "the heartbeat failed");
        failure.is_logged = true;
    }
    write(&mut lock, &beat).map_err(|source| LockError::Io { path, source })?;
    drop(lock);
    status.started_after(|| beat.downtime_before_start(now));
    if !context.config.heartbeat.is_empty() {
        start_command(context);
    }
    Ok(())
}

/// On a thread of its own: a process takes long to start on a busy machine, and fires must not wait for it.
fn start_command(context: &Context) {
    let context = context.clone();
    let body = move || {
        let runner = ["heartbeat".as_ref(), context.home.root().as_os_str()];
        let variables = vec![(env_vars::HOME, context.home.root().as_os_str().to_owned())];
        let started = hook::start_runner(&context, &runner, &context.config.heartbeat, variables);
        if let Err(problem) = started {
            note(&context.home, Some(problem));
        }
    };
    if let Err(error) = std::thread::Builder::new().name("heartbeat".into()).spawn(body) {
        tracing::warn!(%error, "no thread left for the heartbeat");
    }
}

/// The runner: runs the command to its end, or ends it and all its processes, and notes how that went.
pub(crate) fn run(root: PathBuf, command: &[OsString]) -> anyhow::Result<()> {
    let _ = rustix::process::setsid();
    let home = Home::open(root)?;
    let problem = hook::run_bounded(&home, command).unwrap_or_else(|error| Some(error.to_string()));
    note(&home, problem);
    Ok(())
}

/// Notes in the stamp what went wrong, if something did.
fn note(home: &Home, problem: Option<String>) {
    let noted = (|| {
        let mut lock = FileLock::acquire_unsigned(&home.heartbeat(), STAMP_LOCK_TIMEOUT).ok()?;
        let mut beat = Beat::read(home)?;
        if beat.failure.as_ref().map(|failure| &failure.problem) != problem.as_ref() {
            beat.failure = problem.map(|problem| Failure { problem, is_logged: false });
            write(&mut lock, &beat).ok()?;
        }
        Some(())
    })();
    if noted.is_none() {
        tracing::debug!("how the heartbeat went cannot be noted");
    }
}

fn write(lock: &mut FileLock, beat: &Beat) -> std::io::Result<()> {
    lock.set_content(&serde_json::to_string(beat)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn downtime(from: u64, until: u64) -> Downtime {
        Downtime { from: UnixSeconds(from), until: UnixSeconds(until) }
    }

    #[test]
    fn a_beat_is_good_for_a_minute_by_whatever_clock() {
        let beat = Beat::renewed(None, UnixSeconds(1000), true);
        for (now, is_fresh) in
            [(1000, true), (1059, true), (1060, false), (941, true), (940, false), (9_999_999, false)]
        {
            assert_eq!(beat.is_fresh(UnixSeconds(now)), is_fresh, "{now}");
        }
    }

    #[test]
    fn a_long_pause_is_a_downtime_for_those_that_start_after_it() {
        let first = Beat::renewed(None, UnixSeconds(1000), true);
        assert_eq!(first.downtime, None);
        let soon = Beat::renewed(Some(first.clone()), UnixSeconds(1300), true);
        assert_eq!(soon.downtime, None);
        let slept = Beat::renewed(Some(first.clone()), UnixSeconds(1301), false);
        assert_eq!(slept.downtime, None);
        let late = Beat::renewed(Some(first), UnixSeconds(1301), true);
        assert_eq!(late.downtime, Some(downtime(1000, 1301)));
        let after = Beat::renewed(Some(late), UnixSeconds(1361), false);
        assert_eq!(after.downtime_before_start(UnixSeconds(1361)), Some(downtime(1000, 1301)));
        assert_eq!(after.downtime_before_start(UnixSeconds(1421)), None, "others were there by then");
        let set_back = Beat::renewed(Some(after), UnixSeconds(5), true);
        assert_eq!((set_back.at, set_back.downtime), (UnixSeconds(5), Some(downtime(1000, 1301))));
    }

    #[test]
    fn a_failure_is_noted_until_the_command_works() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        note(&home, Some("lost".into()));
        assert_eq!(Beat::read(&home), None, "there is nothing to note it in");
        let mut lock = FileLock::acquire_unsigned(&home.heartbeat(), Duration::ZERO).unwrap();
        write(&mut lock, &Beat::renewed(None, UnixSeconds(1000), true)).unwrap();
        drop(lock);
        let failure = || Beat::read(&home).unwrap().failure.map(|failure| failure.problem);
        note(&home, Some("it exited with status 3".into()));
        assert_eq!(failure().as_deref(), Some("it exited with status 3"));
        note(&home, None);
        assert_eq!(failure(), None);
        std::fs::write(home.heartbeat(), "{\"at\":").unwrap();
        assert_eq!(Beat::read(&home), None);
    }
}
