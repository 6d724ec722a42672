//! A look at everything that has ever gone wrong, for a person: what is well too, and the command that mends what is not.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::{StatVfs, statvfs};
use serde::Serialize;

use super::clock_doubt::ClockDoubt;
use super::status::Status;
use super::turn::clock_doubt;
use super::{company, health, locks};
use crate::agent::{Registry, SearchPath};
use crate::clock::Moment;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::routine::model::Routine;
use crate::routine::store;
use crate::run::context::{App, Context};
use crate::session::HostKind;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is, in a word or two, or its path.
    pub what: String,
    /// Whether it is as it should be.
    pub well: bool,
    /// What was found.
    pub found: String,
    /// The command, or the act, that mends it; of what is well, what would make it better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    /// Notes something that is as it should be.
    #[must_use]
    pub fn well(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), well: true, found: found.into(), fix: None }
    }

    /// Notes something that is not.
    #[must_use]
    pub fn wrong(what: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { well: false, ..Self::well(what, found).better_with(fix) }
    }

    /// Adds what would make it better.
    #[must_use]
    pub fn better_with(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Looks at everything; takes some seconds at most.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn examine(app: &App, search_path: &SearchPath) -> Result<Vec<Check>, FileError> {
    let context = app.context_for_looking();
    let home = &context.home;
    let mut checks = vec![Check::well("home", format!("{}, open to nobody else", home.root().display()))];
    checks.push(of_sessions(&context));
    if search_path.is_known() {
        checks.push(Check::well("login shell", "it tells its PATH"));
    }
    checks.extend(of_agents(home, &store::list(home)?.routines, search_path)?);
    checks.push(of_company(&company::of(home)));
    // Health reports those that are not well.
    if locks::stuck(home).is_empty() {
        checks.push(Check::well("locks", "they work, and nobody holds one for long"));
    }
    checks.push(of_clock(clock_doubt(home, &Moment::now())));
    checks.extend(statvfs(home.root()).ok().map(|disk| of_disk(home, &disk)));
    let health = health::examine(app, &Status::default(), Some(search_path))?;
    let runs: Vec<String> = health.runs.iter().map(|(status, count)| format!("{count} {status}")).collect();
    checks.push(Check::well("routines and runs", format!("routines: {}; runs: {}", health.routines, runs.join(", "))));
    checks.extend(health.problems.into_iter().map(|problem| {
        let is_of_shell = search_path.problem() == Some(problem.problem.as_str());
        let what = problem.path.unwrap_or_else(|| if is_of_shell { "login shell" } else { "home" }.to_owned());
        Check::wrong(what, problem.problem, problem.fix)
    }));
    Ok(checks)
}

fn of_sessions(context: &Context) -> Check {
    let host = &context.session_host;
    let why = host.why();
    if host.kind() == HostKind::Detached {
        return Check::well("tmux", format!("{why}: runs have no windows, and work as well"))
            .better_with("to watch runs, install tmux 3.2 or newer and restart the hosts");
    }
    // Health tells of a tmux that was asked for and is not there.
    match host.version() {
        None => Check::wrong("tmux", why, "install tmux 3.2 or newer, or set session_host = \"auto\" in config.toml"),
        Some(_) => Check::well("tmux", why),
    }
}

/// Looks for each agent's command. One that no enabled routine names may well be missing.
fn of_agents(home: &Home, routines: &[Routine], search_path: &SearchPath) -> Result<Vec<Check>, FileError> {
    let registry = Registry::load(home)?;
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for routine in routines.iter().filter(|routine| routine.definition.enabled) {
        users.entry(&routine.definition.agent).or_default().insert(routine.slug.as_str());
    }
    let mut checks = Vec::new();
    for agent in registry.agents() {
        let what = format!("agent {}", agent.name);
        let used_by = users.remove(agent.name.to_string().as_str());
        checks.push(match (search_path.find(&agent.definition), used_by) {
            (Ok(found), _) => Check::well(what, found.to_string()),
            (Err(_), None) => Check::well(what, "its command is not installed, and no routine names it"),
            (Err(error), Some(routines)) => Check::wrong(
                what,
                format!("{error}; it is named by {}", listed(&routines)),
                format!(
                    "install it, or set `command` in {}",
                    home.agents().join(format!("{}.toml", agent.name)).display()
                ),
            ),
        });
    }
    checks.extend(users.into_iter().map(|(agent, routines)| {
        let file = home.agents().join(format!("{agent}.toml"));
        Check::wrong(
            format!("agent {agent}"),
            format!("there is no such agent, or its file is damaged; it is named by {}", listed(&routines)),
            format!("write {} (see `moadim-mcp agents`), or change the routine", file.display()),
        )
    }));
    Ok(checks)
}

fn listed(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

fn of_company(others: &[company::Companion]) -> Check {
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        return Check::well("at work here", "no server and no janitor: nothing is fired or removed until there is one");
    }
    Check::well("at work here", names.join(", "))
}

fn of_clock(doubt: Option<ClockDoubt>) -> Check {
    match doubt {
        None => Check::well("clock", "it was not set since the last sweep"),
        Some(doubt) => Check::wrong(
            "clock",
            format!("{doubt}; the next sweep removes nothing"),
            "see that it is right: timedatectl (date on macOS); the sweep after the next goes on by itself",
        ),
    }
}

/// Below this a home is short of disk: a run's records and the end of its log need far less.
const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;
const MIN_FREE_FILES: u64 = 1000;

fn of_disk(home: &Home, disk: &StatVfs) -> Check {
    let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let found = format!("{} MiB and {} files free", bytes / (1024 * 1024), disk.f_favail);
    // A file system that makes its inodes as it needs them tells of none.
    let short_of_files = disk.f_files > 0 && disk.f_favail < MIN_FREE_FILES;
    if bytes >= MIN_FREE_BYTES && !short_of_files {
        return Check::well("disk", found);
    }
    let shown = home.root().display();
    let fix =
        format!("moadim-mcp cleanup; then look where it went: du -xhd1 '{shown}'; df -h '{shown}'; df -i '{shown}'");
    Check::wrong("disk", found, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_and_a_full_disk_are_wrong() {
        assert!(of_clock(None).well && !of_clock(Some(ClockDoubt::Set { by_secs: 90 })).well);
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let sound = StatVfs { f_bavail: 1 << 20, f_frsize: 4096, f_files: 1 << 20, f_favail: 1 << 19, ..disk(&home) };
        assert!(of_disk(&home, &sound).well);
        assert!(!of_disk(&home, &StatVfs { f_bavail: 10, ..sound }).well);
        assert!(!of_disk(&home, &StatVfs { f_favail: 10, ..sound }).well);
        assert!(of_disk(&home, &StatVfs { f_favail: 0, f_files: 0, ..sound }).well, "no inodes to count");
    }

    fn disk(home: &Home) -> StatVfs {
        statvfs(home.root()).unwrap()
    }
}
