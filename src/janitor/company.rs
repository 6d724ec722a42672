//! Who else works on a home: the servers and janitors that are at it, told by their command line and their environment.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// A process of this program that watches over a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Its process id.
    pub pid: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a process of this program does for a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It serves a host.
    Server,
    /// It is the background task alone.
    Janitor,
}

impl fmt::Display for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Server => "server",
            Kind::Janitor => "janitor",
        };
        write!(f, "{kind} {}", self.pid)
    }
}

/// Lists those that can be seen: where the system hides environments, a process counts for the default home.
#[must_use]
pub fn of(root: &Path) -> Vec<Companion> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    let wanted = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_cmd(UpdateKind::OnlyIfNotSet)
        .with_environ(UpdateKind::OnlyIfNotSet);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let own = std::process::id();
    let others = system.processes().values().filter(|process| process.pid().as_u32() != own);
    let mut found: Vec<Companion> = others
        .filter(|process| home_of(process.environ()).is_some_and(|home| home == root))
        .filter_map(|process| Some(Companion { pid: process.pid().as_u32(), kind: kind_of(process.cmd())? }))
        .collect();
    found.sort_by_key(|companion| companion.pid);
    found
}

fn kind_of(words: &[OsString]) -> Option<Kind> {
    let (program, arguments) = words.split_first()?;
    if Path::new(program).file_name() != Some(OsStr::new(env!("CARGO_PKG_NAME"))) {
        return None;
    }
    match arguments {
        [] => Some(Kind::Server),
        [one] if one == "janitor" => Some(Kind::Janitor),
        _ => None,
    }
}

/// Returns the home that a process with this environment works on.
fn home_of(environment: &[OsString]) -> Option<PathBuf> {
    let value = |name: &str| {
        let entry = |entry: &OsString| entry.to_str()?.strip_prefix(name)?.strip_prefix('=').map(PathBuf::from);
        environment.iter().find_map(entry).filter(|path| path.is_absolute())
    };
    let root = value("MOADIM_HOME").or_else(|| Some(value("HOME").or_else(std::env::home_dir)?.join(".moadim")))?;
    root.canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_janitors_count_and_no_other_process() {
        let kind = |words: &[&str]| kind_of(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(kind(&["/opt/moadim-mcp"]), Some(Kind::Server));
        assert_eq!(kind(&["moadim-mcp", "janitor"]), Some(Kind::Janitor));
        assert_eq!(kind(&["moadim-mcp", "supervise", "/h", "a-1"]), None);
        assert_eq!(kind(&["vim", "moadim-mcp"]), None);
        assert_eq!(kind(&[]), None);
    }

    #[test]
    fn the_home_is_what_the_program_itself_would_take() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join(".moadim")).unwrap();
        let entry = |name: &str| OsString::from(format!("{name}={}", root.display()));
        assert_eq!(home_of(&[entry("HOME"), entry("MOADIM_HOME")]), Some(root.clone()));
        assert_eq!(home_of(&[entry("HOME"), "MOADIM_HOME=".into()]), Some(root.join(".moadim")));
    }
}
