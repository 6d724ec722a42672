//! Starts a command detached from us, in a session of its own.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Starts the command with null streams and our environment, and returns at once; our end makes it an orphan.
pub(super) fn detach(command: &[OsString]) -> anyhow::Result<()> {
    // Fails only for the leader of a group, which then has a session of its own already.
    let _ = rustix::process::setsid();
    let [program, arguments @ ..] = command else { anyhow::bail!("no command to detach was given") };
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(())
}
