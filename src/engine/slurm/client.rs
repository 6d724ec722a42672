//! Talking to Slurm's own programs: each call has a deadline of ours, because a daemon that hangs makes them hang for ever.

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::time::Instant;

use crate::bounded_command;
use crate::quote::saying;

/// Where sites install Slurm, beside PATH.
const USUAL_PLACES: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/opt/slurm/bin", "/usr/local/slurm/bin"];

/// What the programs need, and all that a job inherits from us: no secret is among it.
const KEPT: [&str; 8] = ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LD_LIBRARY_PATH", "SLURM_CONF"];

/// How much of a program's complaint is repeated.
const SHOWN_CHARS: usize = 300;

/// A Slurm command failed, or its answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("cannot find {0} on PATH; run moadim-mcp on a machine where you can submit jobs")]
    Missing(&'static str),
    /// There is no answer yet, and this caller does not wait for one.
    #[error("Slurm was not asked yet")]
    NotAsked,
    #[error("{0} did not answer in time")]
    TimedOut(&'static str),
    /// It failed, and what it said.
    #[error("{program} failed{said}")]
    Failed { program: &'static str, said: String },
    /// A host may start us with SIGCHLD ignored: then no exit status is known, and this may not be the whole answer.
    #[error("cannot tell whether {program} succeeded")]
    ExitUnknown { program: &'static str, printed: String },
    #[error("cannot run {program}: {error}")]
    NotRun { program: &'static str, error: String },
}

/// Prepares one of Slurm's programs.
pub(super) fn command(program: &'static str) -> Result<Command, ClientError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(USUAL_PLACES.map(Into::into));
    // "/" makes relative directories harmless.
    let found = which::which_in(program, std::env::join_paths(places).ok(), "/");
    let mut command = Command::new(found.map_err(|_| ClientError::Missing(program))?);
    let is_kept = |name: &OsString| name.to_str().is_some_and(|name| KEPT.contains(&name));
    let kept = std::env::vars_os().filter(|(name, _)| is_kept(name));
    command.env_clear().envs(kept);
    Ok(command)
}

/// Runs it until the deadline, and returns what it printed.
///
/// # Errors
/// It gave no answer in time, or failed. What it was asked to do may still be done.
pub(super) fn run(program: &'static str, command: &mut Command, deadline: Instant) -> Result<String, ClientError> {
    match bounded_command::run(command, deadline) {
        Ok(finished) if finished.succeeded == Some(true) => Ok(String::from_utf8_lossy(&finished.stdout).into_owned()),
        Ok(finished) if finished.succeeded.is_none() => {
            Err(ClientError::ExitUnknown { program, printed: String::from_utf8_lossy(&finished.stdout).into_owned() })
        }
        Ok(finished) => {
            let said = String::from_utf8_lossy(&finished.stderr);
            let said = saying(said.trim(), SHOWN_CHARS);
            Err(ClientError::Failed { program, said })
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(ClientError::TimedOut(program)),
        Err(error) => Err(ClientError::NotRun { program, error: error.to_string() }),
    }
}
