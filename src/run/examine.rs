//! The look for unsaved work in a workbench, in a process that can be ended: a repository of an agent may hang its reader.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::context::Context;
use super::id::RunId;
use super::workbench::Workbench;
use crate::bounded_command;
use crate::git::{self, Closed, Work};
use crate::process_tree::{COOKIE_VARIABLE, Cookie};

/// How long listing the repositories of a workbench may take.
const FIND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the look may take: it ends itself before, unless a disk or a mount hangs.
pub(crate) const EXAMINE_TIMEOUT: Duration = Duration::from_secs(35);

/// Looks at every repository of a workbench, which is given by its name. `look` runs the command, and returns what it printed, or why it could not. What
/// cannot be examined says so.
pub(crate) fn examine_by(
    context: &Context,
    name: &RunId,
    cookie: &Cookie,
    look: impl FnOnce(&mut Command) -> Result<Vec<u8>, String>,
) -> Vec<Work> {
    let workbench = Workbench::named(&context.home, name);
    if !workbench.directory().is_dir() {
        return Vec::new();
    }
    let unreadable = |reason: &dyn std::fmt::Display| vec![Work::unreadable(Path::new(""), reason)];
    match git::find(workbench.directory(), Closed::Open, Instant::now() + FIND_TIMEOUT) {
        Ok(listing) if listing.found.is_empty() && listing.skipped.is_empty() => return Vec::new(),
        Ok(_) => {}
        Err(error) => return unreadable(&error),
    }
    let mut command = Command::new(context.program.path());
    command.arg("examine").arg(context.home.root()).arg(name.to_string());
    command.arg(context.config.max_run_archive_bytes.to_string()).env(COOKIE_VARIABLE, cookie.to_string());
    match look(&mut command) {
        Ok(printed) => serde_json::from_slice(&printed).unwrap_or_else(|error| unreadable(&error)),
        Err(reason) => unreadable(&format!("it was not examined: {reason}")),
    }
}

/// Looks at every repository of the workbench of a run that has no supervisor any more.
pub(super) fn examine(context: &Context, name: &RunId, cookie: &Cookie) -> Vec<Work> {
    examine_by(context, name, cookie, |command| match bounded_command::run(command, Instant::now() + EXAMINE_TIMEOUT) {
        Ok(finished) if finished.succeeded != Some(false) => Ok(finished.stdout),
        Ok(finished) => Err(String::from_utf8_lossy(&finished.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    })
}
