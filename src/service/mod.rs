//! Keeping a janitor, or a dashboard, alive without any host: by systemd as a user's unit, or by launchd as a user's agent.

mod launchd;
mod systemd;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::geteuid;
use serde::Serialize;

use crate::home::atomic_file::{self, FileError};

/// The first words of what we write: a file without them is not ours.
const MARK: &str = "Written by `moadim-mcp service install`; removed by `moadim-mcp service uninstall`.";

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("no home directory is known; set HOME")]
    Nowhere,
    /// A path that a service manager does not take.
    #[error("cannot install the service: the path {path} has a quote, a backslash or a control character; move it")]
    Unspeakable { path: String },
    #[error("moadim-mcp did not write {path}; look at it, and move it away")]
    NotOurs { path: PathBuf },
    #[error(
        "`{command}` does not work here: {said}. Nothing was changed. {hint}; or have something else keep \
         `moadim-mcp janitor` running"
    )]
    NoManager { command: String, said: String, hint: &'static str },
    #[error("`{command}` failed: {said}")]
    Refused { command: String, said: String },
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a service keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Janitor,
    Dashboard,
}

impl Kind {
    /// Returns the part of its service's name that is its own.
    fn name(self) -> &'static str {
        match self {
            Self::Janitor => "janitor",
            Self::Dashboard => "dashboard",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Janitor => "fires routines, ends hung runs, removes expired workbenches",
            Self::Dashboard => "a page in the browser, on this machine alone",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub kind: Kind,
    /// This program, by its absolute path.
    pub program: String,
    /// The words that it gets: a command and its flags, none of which needs quotes.
    pub arguments: Vec<String>,
    /// Variables that it needs: a service manager passes on none of a terminal's.
    pub environment: Vec<(&'static str, String)>,
}

impl Job {
    /// Makes the job of keeping a janitor alive, see [`Job::of_this_process`].
    pub fn janitor(program: &Path) -> Result<Self, ServiceError> {
        Self::of_this_process(Kind::Janitor, program, vec!["janitor".to_owned()])
    }

    /// Makes the job of keeping a dashboard alive at a port, or at any if it is 0.
    pub fn dashboard(program: &Path, port: u16) -> Result<Self, ServiceError> {
        let mut arguments = vec!["dashboard".to_owned(), "--as-service".to_owned()];
        if port != 0 {
            arguments.extend(["--port".to_owned(), port.to_string()]);
        }
        Self::of_this_process(Kind::Dashboard, program, arguments)
    }

    /// Makes the job of `program` with this process's `MOADIM_HOME` and `PATH`: tmux and git are looked for there.
    fn of_this_process(kind: Kind, program: &Path, arguments: Vec<String>) -> Result<Self, ServiceError> {
        let environment = [crate::env_vars::HOME, "PATH"].into_iter().filter_map(|name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
            Some(speakable(value.as_ref()).map(|value| (name, value)))
        });
        let (program, environment) = (speakable(program)?, environment.collect::<Result<_, _>>()?);
        Ok(Self { kind, program, arguments, environment })
    }
}

/// systemd takes neither quotes nor backslashes in a program's name, and no line can hold a line's end.
fn speakable(path: &Path) -> Result<String, ServiceError> {
    let bad = |c: char| c.is_control() || matches!(c, '"' | '\'' | '\\');
    match path.to_str() {
        Some(text) if !text.contains(bad) => Ok(text.to_owned()),
        _ => Err(ServiceError::Unspeakable { path: path.display().to_string() }),
    }
}

type Words = Vec<String>;

/// A service of the user, installed or not, with the commands of this machine's service manager.
#[derive(Debug)]
pub struct Service {
    manager: &'static str,
    /// The service's file, below the user's home or configuration directory.
    pub(crate) file: PathBuf,
    /// Fails where the manager cannot be talked to.
    probe: Words,
    hint: &'static str,
    /// What the file says for a job.
    pub(crate) text: fn(&Job) -> String,
    /// The arguments of the program in such a file.
    arguments: fn(&str) -> Words,
    /// Before a start, and allowed to fail.
    prepare: Vec<Words>,
    start: Vec<Words>,
    stop: Vec<Words>,
    forget: Vec<Words>,
    /// Succeeds while the service is alive.
    is_active: Words,
}

fn words(text: &str) -> Words {
    text.split(' ').map(str::to_owned).collect()
}

#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// Whose it is: `systemd` or `launchd`.
    pub manager: &'static str,
    pub file: String,
    pub installed: bool,
    pub active: bool,
    /// What the manager says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Whether it goes on when the user logs out; absent where that is unknown.
    pub lingers: Option<bool>,
}

impl Service {
    pub fn of_this_user(kind: Kind) -> Result<Self, ServiceError> {
        let home = std::env::home_dir().filter(|home| home.is_absolute()).ok_or(ServiceError::Nowhere)?;
        if cfg!(target_os = "macos") {
            return Ok(launchd::service(kind, &home, geteuid().as_raw()));
        }
        let configuration = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        Ok(systemd::service(kind, &configuration.unwrap_or_else(|| home.join(".config"))))
    }

    /// Returns the commands that an installation executes after the file is written.
    pub fn commands(&self) -> Vec<String> {
        self.prepare.iter().chain(&self.start).map(|words| words.join(" ")).collect()
    }

    /// Returns the port that the installed file names; 0 if it names none, `None` if it is not installed.
    ///
    /// # Errors
    /// The file is not ours, or cannot be read.
    pub fn installed_port(&self) -> Result<Option<u16>, ServiceError> {
        let Some(text) = self.installed_text()? else { return Ok(None) };
        let arguments = (self.arguments)(&text);
        let port = arguments.iter().skip_while(|word| *word != "--port").nth(1);
        Ok(Some(port.and_then(|port| port.parse().ok()).unwrap_or_default()))
    }

    /// Writes the file and starts the service; one that is there already is replaced and restarted.
    ///
    /// # Errors
    /// The manager cannot be talked to (then nothing was changed) or refuses, or the file is not ours.
    pub fn install(&self, job: &Job) -> Result<(), ServiceError> {
        self.check_ours()?;
        self.check_manager()?;
        let file = &self.file;
        let parent = file.parent().unwrap_or(file);
        std::fs::create_dir_all(parent).map_err(|source| FileError::io("create", parent, source))?;
        atomic_file::write(file, (self.text)(job).as_bytes())?;
        for words in &self.prepare {
            // What must stop before a start may not be there.
            let _ = run(words);
        }
        self.start.iter().try_for_each(|words| execute(words))
    }

    /// Stops the service and removes its file; returns whether there was one.
    pub fn uninstall(&self) -> Result<bool, ServiceError> {
        if !self.check_ours()? {
            return Ok(false);
        }
        self.check_manager()?;
        self.stop.iter().try_for_each(|words| execute(words))?;
        let file = &self.file;
        std::fs::remove_file(file).map_err(|source| FileError::io("remove", file, source))?;
        self.forget.iter().try_for_each(|words| execute(words))?;
        Ok(true)
    }

    pub fn state(&self) -> Result<State, ServiceError> {
        let installed = self.check_ours()?;
        let (active, detail) = match run(&self.is_active) {
            Ok(output) => (output.status.success(), first_line(&output)),
            Err(error) => (false, error.to_string()),
        };
        Ok(State {
            manager: self.manager,
            file: self.file.display().to_string(),
            installed,
            active,
            detail,
            lingers: systemd::lingers(self.manager),
        })
    }

    /// Returns whether the file is there.
    fn check_ours(&self) -> Result<bool, ServiceError> {
        Ok(self.installed_text()?.is_some())
    }

    fn installed_text(&self) -> Result<Option<String>, ServiceError> {
        let path = &self.file;
        match atomic_file::if_present(atomic_file::read_text(path))? {
            Some(text) if !text.contains(MARK) => Err(ServiceError::NotOurs { path: path.clone() }),
            text => Ok(text),
        }
    }

    fn check_manager(&self) -> Result<(), ServiceError> {
        execute(&self.probe).map_err(|error| match error {
            ServiceError::Refused { command, said } => ServiceError::NoManager { command, said, hint: self.hint },
            error => error,
        })
    }
}

fn run(words: &[String]) -> io::Result<Output> {
    Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output()
}

fn execute(words: &[String]) -> Result<(), ServiceError> {
    let refused = |said| ServiceError::Refused { command: words.join(" "), said };
    let output = run(words).map_err(|error| refused(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(refused(first_line(&output))) }
}

/// Returns the first thing that a command said, on whichever stream.
fn first_line(output: &Output) -> String {
    let said = [&*output.stderr, b"\n", &*output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_unit_can_hold_is_refused() {
        for bad in ["/a\"b", "/a'b", "/a\\b", "/a\nb"] {
            assert!(speakable(Path::new(bad)).is_err(), "{bad}");
        }
        assert_eq!(speakable(Path::new("/a b%$é")).unwrap(), "/a b%$é");
    }

    #[test]
    fn the_port_of_an_installed_dashboard_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let managers =
            [systemd::service(Kind::Dashboard, dir.path()), launchd::service(Kind::Dashboard, dir.path(), 501)];
        for service in managers {
            assert_eq!(service.installed_port().unwrap(), None);
            std::fs::create_dir_all(service.file.parent().unwrap()).unwrap();
            for port in [0, 7878] {
                let job = Job::dashboard(Path::new("/opt/a --port 1/moadim-mcp"), port).unwrap();
                std::fs::write(&service.file, (service.text)(&job)).unwrap();
                assert_eq!(service.installed_port().unwrap(), Some(port), "{}", service.manager);
            }
            std::fs::write(&service.file, "mine").unwrap();
            assert!(matches!(service.installed_port(), Err(ServiceError::NotOurs { .. })));
        }
    }
}
