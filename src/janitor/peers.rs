//! The other servers and janitors of a home, recognised by command line and environment. Their versions are in their
//! registrations.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use sysinfo::{Pid, ProcessRefreshKind, UpdateKind};

use super::registration::{self, Registered};
use crate::home::Home;
use crate::process_tree::{ProcessId, look_at};

/// Another server or janitor of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pid: u32,
    pub(super) kind: Kind,
    pub(super) version: Version,
    /// The names of the variables that it was started with; empty where the system hides them.
    pub(super) variables: HashSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Janitor,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Janitor => "janitor",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    Is(String),
    /// It has not registered: 0.1.0 never does.
    Unregistered,
    /// It has registered without a version, or may be about to register.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.pid)?;
        match &self.version {
            Version::Is(version) if version != OURS => write!(f, " (version {version})"),
            Version::Unregistered => write!(f, " (probably version 0.1.0)"),
            Version::Is(_) | Version::Unknown => Ok(()),
        }
    }
}

const OURS: &str = env!("CARGO_PKG_VERSION");

impl Peer {
    /// Returns what is wrong with its version and how to fix it.
    pub(super) fn version_problem(&self) -> Option<(String, &'static str)> {
        let (kind, pid) = (self.kind, self.pid);
        let problem = match &self.version {
            Version::Unregistered => format!(
                "a {kind} (pid {pid}) on this home has not registered, so it is probably moadim-mcp 0.1.0, which shows newer \
                 records as unknown"
            ),
            Version::Is(version) if version != OURS => {
                format!("a {kind} of version {version} (pid {pid}) works on this home; this is version {OURS}")
            }
            Version::Is(_) | Version::Unknown => return None,
        };
        let fix = match kind {
            Kind::Server => "restart its host, so that all run one version",
            Kind::Janitor => {
                "restart it, so that all run one version: moadim-mcp service install, if it is the service"
            }
        };
        Some((problem, fix))
    }
}

/// How long a process may take to register.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process that has just removed its registration may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_millis(200);

/// Lists the peers that can be seen. Where the system hides environments, a process counts for the default home.
pub(super) fn of(home: &Home) -> Vec<Peer> {
    let place = [home.servers(), home.locks()].into_iter().find(|place| place.exists());
    let can_register = place.is_some_and(|place| access(&place, Access::WRITE_OK).is_ok());
    // In this order: a process that leaves meanwhile is registered, or gone.
    let registered = registration::list(home);
    let mut found = seen(home.root(), &registered, can_register);
    if found.iter().any(|peer| peer.version == Version::Unregistered) {
        std::thread::sleep(EXIT_TIMEOUT);
        let lives = |pid: u32| pid.try_into().ok().and_then(ProcessId::of).is_some();
        found.retain(|peer| peer.version != Version::Unregistered || lives(peer.pid));
    }
    found.sort_unstable_by_key(|peer| peer.pid);
    found
}

fn version(pid: u32, age: Duration, registered: &Registered, can_register: bool) -> Version {
    match registered.get(&pid) {
        Some(Some(version)) => Version::Is(version.clone()),
        Some(None) => Version::Unknown,
        None if can_register && age > REGISTRATION_TIMEOUT => Version::Unregistered,
        None => Version::Unknown,
    }
}

/// Lists the processes of a home by command line and environment, without those that started a registered one and wait for it.
fn seen(root: &Path, registered: &Registered, can_register: bool) -> Vec<Peer> {
    let wanted = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).with_environ(UpdateKind::Always);
    let Ok(system) = look_at(None, wanted) else { return Vec::new() };
    let own = std::process::id();
    let starter = |pid: &u32| system.process(Pid::from_u32(*pid))?.parent();
    let starters: HashSet<Pid> = registered.keys().filter_map(starter).collect();
    let others = system.processes().values().filter(|process| process.pid().as_u32() != own);
    others
        .filter(|process| !starters.contains(&process.pid()))
        .filter_map(|process| Some((process, kind_of(process.cmd())?)))
        .filter(|(process, _)| home_of(process.environ()).is_some_and(|home| home == root))
        .map(|(process, kind)| {
            let (pid, age) = (process.pid().as_u32(), Duration::from_secs(process.run_time()));
            let version = version(pid, age, registered, can_register);
            Peer { pid, kind, version, variables: names_in(process.environ()) }
        })
        .collect()
}

fn names_in(environment: &[OsString]) -> HashSet<String> {
    environment.iter().filter_map(|entry| Some(entry.to_str()?.split_once('=')?.0.to_owned())).collect()
}

fn kind_of(words: &[OsString]) -> Option<Kind> {
    let (program, arguments) = words.split_first()?;
    // Copies of several versions bear their version in their names.
    let name = Path::new(program).file_name()?.to_string_lossy();
    let rest = name.strip_prefix(env!("CARGO_PKG_NAME"))?;
    if !(rest.is_empty() || rest.starts_with(['-', '.'])) {
        return None;
    }
    let options = ["--read-only", "--tools"];
    match arguments {
        [] => Some(Kind::Server),
        [one] if one == "janitor" => Some(Kind::Janitor),
        [first, ..] if options.into_iter().any(|option| first.to_string_lossy().starts_with(option)) => {
            Some(Kind::Server)
        }
        _ => None,
    }
}

/// Returns the home that a process with this environment works on.
fn home_of(environment: &[OsString]) -> Option<PathBuf> {
    let value = |name: &str| {
        let entry = |entry: &OsString| entry.to_str()?.strip_prefix(name)?.strip_prefix('=').map(PathBuf::from);
        environment.iter().find_map(entry).filter(|path| path.is_absolute())
    };
    let root =
        value(crate::env_vars::HOME).or_else(|| Some(value("HOME").or_else(std::env::home_dir)?.join(".moadim")))?;
    root.canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_janitors_count_and_no_other_process() {
        let kind = |words: &[&str]| kind_of(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(kind(&["/opt/moadim-mcp"]), Some(Kind::Server));
        assert_eq!(kind(&["moadim-mcp", "--read-only"]), Some(Kind::Server));
        assert_eq!(kind(&["moadim-mcp", "--tools=health"]), Some(Kind::Server));
        assert_eq!(kind(&["moadim-mcp", "--tools", "health,list_runs"]), Some(Kind::Server));
        assert_eq!(kind(&["moadim-mcp", "janitor"]), Some(Kind::Janitor));
        assert_eq!(kind(&["/opt/moadim-mcp-0.1.0"]), Some(Kind::Server));
        assert_eq!(kind(&["moadim-mcpx"]), None);
        assert_eq!(kind(&["moadim-mcp", "supervise", "/h", "a-1"]), None);
        assert_eq!(kind(&["moadim-mcp", "--version"]), None);
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

    #[test]
    fn a_process_that_does_not_register_in_time_is_older_and_a_registered_one_is_what_it_says() {
        let registered = Registered::from([(1, Some("0.3.0".into())), (2, None)]);
        let (young, old) = (Duration::from_secs(5), Duration::from_secs(6));
        let version = |pid, age, registering| version(pid, age, &registered, registering);
        assert_eq!(version(1, young, true), Version::Is("0.3.0".into()));
        assert_eq!(version(2, old, true), Version::Unknown);
        assert_eq!((version(3, young, true), version(3, old, true)), (Version::Unknown, Version::Unregistered));
        assert_eq!(version(3, old, false), Version::Unknown, "nobody can register on a read-only home");
        let problem =
            |version| Peer { pid: 7, kind: Kind::Server, version, variables: HashSet::new() }.version_problem();
        assert_eq!((problem(Version::Is(OURS.into())), problem(Version::Unknown)), (None, None));
        for (version, said) in [(Version::Unregistered, "0.1.0"), (Version::Is("0.3.0".into()), "0.3.0")] {
            let (problem, fix) = problem(version).unwrap();
            assert!(
                problem.contains("pid 7") && problem.contains(said) && fix.contains("restart its host"),
                "{problem}"
            );
        }
    }
}
