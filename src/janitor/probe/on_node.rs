//! What a probe does on its node.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{LOCK, Locks, REPORT, REQUEST, Report, Request};
use crate::agent::{Registry, ShellMode, Source, env_file, find_command, through_shell};
use crate::bounded_command;
use crate::environment::{self, Variables};
use crate::home::Home;
use crate::home::atomic_file;
use crate::home::lock::{FileLock, Mode};
use crate::process_tree::host_name;

/// How long each shell of a node may take to say its PATH.
const SHELL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node may take to reach the network.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(3);

/// What the job executes on its node.
///
/// # Errors
/// Its request cannot be read, or the report not written.
pub(crate) fn report(root: PathBuf, directory: &Path) -> anyhow::Result<()> {
    // Where the home is another one, it is not made.
    let request: Request = atomic_file::read_json(&directory.join(REQUEST))?;
    ensure!(directory.starts_with(&root), "{} is not in the home", directory.display());
    let home = Home::open(root)?;
    let locks = match FileLock::try_existing(&directory.join(LOCK), Mode::Exclusive) {
        Err(error) if error.is_held() => Locks::Reach,
        Err(error) => Locks::Unknown(error.to_string()),
        Ok(_) => Locks::DoNotReach,
    };
    let network = request.address.map(|address| connect(&address));
    let report = Report {
        token: request.token,
        node: std::env::var("SLURMD_NODENAME").unwrap_or_else(|_| host_name()),
        locks,
        agents: find_agents(&home, directory, request.agents)?,
        network,
    };
    atomic_file::write_json_in_place(&directory.join(REPORT), &report)?;
    Ok(())
}

/// Looks for the agents' commands as a run would: on the PATH that is set for it, else on that of the login shell, on our own, and on
/// that of an interactive shell. These are asked, because what is noted in the home is what they say on another machine.
fn find_agents(
    home: &Home,
    directory: &Path,
    agents: Vec<String>,
) -> anyhow::Result<BTreeMap<String, Result<String, String>>> {
    let registry = Registry::load(home)?;
    let program = std::env::current_exe()?;
    let environment = environment::inherited(&environment::of_this_process(), &[]);
    let ask = |mode| path_of_shell(mode, &program, &environment, directory);
    let (mut login, mut interactive) = (None, None);
    let mut find = |name: &str| -> Result<String, String> {
        let agent = registry.get(&name.parse().map_err(|_| "its name is none".to_owned())?);
        let agent = agent.map_err(|error| error.to_string())?;
        let definition = &agent.definition;
        let given = env_file::read(home, &agent.name).map_err(|error| error.to_string())?;
        if let Some(path) = definition.env.get("PATH").or(given.get("PATH")) {
            let found = find_command(&definition.command, vec![(Source::Set, path.into())]);
            return found.map(|found| found.to_string()).map_err(|error| error.to_string());
        }
        let mut paths = Vec::new();
        if definition.login_shell {
            let path = login.get_or_insert_with(|| ask(ShellMode::Login));
            paths.extend(path.clone().map(|path| (Source::LoginShell, path)));
        }
        paths.extend(std::env::var_os("PATH").map(|path| (Source::Own, path)));
        let mut found = find_command(&definition.command, paths.clone());
        if found.is_err() && definition.login_shell && !definition.command.starts_with('/') {
            let path = interactive.get_or_insert_with(|| ask(ShellMode::Interactive));
            paths.extend(path.clone().map(|path| (Source::InteractiveShell, path)));
            found = find_command(&definition.command, paths);
        }
        found.map(|found| found.to_string()).map_err(|error| error.to_string())
    };
    Ok(agents.into_iter().map(|name| (name.clone(), find(&name))).collect())
}

/// Asks a shell of this node for its PATH; `None` if it gives no answer.
fn path_of_shell(mode: ShellMode, program: &Path, environment: &Variables, directory: &Path) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let answer = directory.join(mode.name());
    let words = through_shell(
        mode,
        std::env::var_os("SHELL").as_deref(),
        program,
        &["print-path".into(), answer.clone().into()],
    );
    let mut command = Command::new(&words[0]);
    let started_in = std::env::home_dir().filter(|directory| directory.is_dir()).unwrap_or_else(|| "/".into());
    command.args(&words[1..]).env_clear().envs(environment).current_dir(started_in);
    if let Err(error) = bounded_command::run(&mut command, Instant::now() + SHELL_TIMEOUT) {
        tracing::debug!(%error, %mode, "it was asked for its PATH");
    }
    atomic_file::read(&answer, atomic_file::MAX_RECORD_BYTES).ok().map(OsString::from_vec)
}

/// Connects to an address and hangs up.
fn connect(address: &str) -> Result<(), String> {
    let deadline = Instant::now() + NETWORK_TIMEOUT;
    let (sender, answer) = mpsc::channel();
    let to = address.to_owned();
    // Whoever resolves a name has no deadline. The thread ends with the process.
    let attempt = move || -> Result<(), String> {
        let mut last = "its name has no address".to_owned();
        for one in to.to_socket_addrs().map_err(|error| error.to_string())? {
            let rest = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&one, rest) {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    };
    std::thread::Builder::new().spawn(move || drop(sender.send(attempt()))).map_err(|error| error.to_string())?;
    let no_answer = |_| Err(format!("no answer within {} s", NETWORK_TIMEOUT.as_secs()));
    answer.recv_timeout(NETWORK_TIMEOUT).unwrap_or_else(no_answer)
}

#[cfg(test)]
mod tests {
    use super::super::Files;
    use super::*;

    #[test]
    fn a_node_reports_what_it_sees_and_the_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::write(home.agents().join("there.toml"), "command = 'sh'\nlogin_shell = false\n").unwrap();
        std::fs::write(home.agents().join("not.toml"), "command = 'not-there'\nlogin_shell = false\n").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Some(listener.local_addr().unwrap().to_string());
        let files = Files::make(&home).unwrap();
        let agents = ["there", "not"].map(str::to_owned).into();
        let request = Request { token: "t".to_owned(), agents, address };
        atomic_file::write_json(&files.file(REQUEST), &request).unwrap();
        let held = FileLock::acquire_unsigned(&files.file(LOCK), Duration::ZERO).unwrap();
        report(home.root().to_owned(), &files.directory).unwrap();
        assert_eq!(files.report("another"), None);
        let seen = files.report("t").unwrap();
        assert_eq!((seen.locks, seen.network), (Locks::Reach, Some(Ok(()))));
        assert!(seen.agents["there"].is_ok(), "{:?}", seen.agents);
        assert!(seen.agents["not"].as_ref().unwrap_err().contains("not-there"));
        drop(held);
        report(home.root().to_owned(), &files.directory).unwrap();
        assert_eq!(files.report("t").unwrap().locks, Locks::DoNotReach);
        assert!(report(dir.path().join("another"), &files.directory).is_err());
        let directory = files.directory.clone();
        drop(files);
        assert!(!directory.exists());
        assert!(report(dir.path().join("another"), &directory).is_err());
        assert!(!dir.path().join("another").exists(), "no home is made");
    }

    #[test]
    fn a_port_that_nobody_listens_at_is_not_reached() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        connect(&address).unwrap_err();
        connect("no port").unwrap_err();
    }
}
