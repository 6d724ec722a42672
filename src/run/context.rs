//! What everything that starts, watches or ends runs works with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::history::HistoryIndex;
use super::janitor_status::JanitorStatus;
use super::liveness::WaitingRuns;
use super::unwritten_ends::UnwrittenEnds;
use crate::agent::shell_path::Asker;
use crate::agent::{SearchPath, ShellPaths};
use crate::engine::Local;
use crate::engine::slurm::{Looks, Slurm};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::config::{Config, SessionHostSetting};
use crate::home::file_cache::FileCache;
use crate::routine::known::KnownRoutines;
use crate::session::SessionHost;

/// A home with its settings as they are now, the sessions' host, and this program's own file.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where all of it is on disk.
    pub home: Home,
    /// As read for one operation.
    pub config: Config,
    /// Where runs can be watched.
    pub session_host: SessionHost,
    /// What supervisors are started from.
    pub program: Program,
    /// What this process knows of the history.
    pub history: Arc<HistoryIndex>,
    /// What this process was asked to end and could not write down.
    pub unwritten_ends: Arc<UnwrittenEnds>,
    /// What it knows of all routines.
    pub routines: Arc<KnownRoutines>,
    /// The PATHs of the user's shells.
    pub shell_paths: Arc<ShellPaths>,
    /// What Slurm last said.
    pub slurm_looks: Arc<Looks>,
    /// Which runs were last seen to wait there.
    pub waiting_runs: Arc<WaitingRuns>,
}

impl Context {
    /// Returns what starts supervisors on this machine.
    pub fn local(&self) -> Local {
        Local::new(self.program.path())
    }

    /// Returns what starts them on a cluster.
    pub fn slurm(&self) -> Slurm {
        Slurm::new(Arc::clone(&self.slurm_looks))
    }

    /// Makes the context of a supervisor, which opens no window.
    pub fn of_supervisor(home: Home, config: Config, program: Program) -> Self {
        let session_host = SessionHost::choose(&home, SessionHostSetting::Detached);
        Self {
            home,
            config,
            session_host,
            program,
            history: Arc::default(),
            routines: Arc::default(),
            unwritten_ends: Arc::default(),
            shell_paths: Arc::default(),
            slurm_looks: Arc::default(),
            waiting_runs: Arc::default(),
        }
    }
}

/// What lives as long as the process, while settings are edited under it. A clone shares all of it.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) home: Home,
    program: Program,
    /// The PATHs of the user's shells.
    pub(crate) shell_paths: Arc<ShellPaths>,
    /// What the janitor of this process last did.
    pub(crate) janitor: Arc<JanitorStatus>,
    history: Arc<HistoryIndex>,
    unwritten_ends: Arc<UnwrittenEnds>,
    /// What is known of all routines.
    pub(crate) routines: Arc<KnownRoutines>,
    /// What Slurm last said.
    slurm_looks: Arc<Looks>,
    waiting_runs: Arc<WaitingRuns>,
    /// As they were last read for looking.
    settings: Arc<FileCache<Config>>,
    had_settings: Arc<AtomicBool>,
    /// Choosing a host asks a program for its version, so it is done once for each setting, and again if there was no answer.
    chosen: Arc<Mutex<Option<Chosen>>>,
}

#[derive(Debug)]
struct Chosen {
    setting: SessionHostSetting,
    host: SessionHost,
    at: Instant,
}

/// How long a program that did not answer, as on a machine that is just starting, is not asked for its version again.
const UNTIL_ASKED_AGAIN: Duration = Duration::from_secs(60);

impl Chosen {
    fn holds(&self, setting: SessionHostSetting) -> bool {
        self.setting == setting && (self.host.is_certain || self.at.elapsed() < UNTIL_ASKED_AGAIN)
    }
}

/// How long a call waits for the PATH of the login shell, which is asked once, when the server starts.
pub(crate) const LOGIN_SHELL_TIMEOUT: Duration = Duration::from_millis(500);

impl App {
    /// Reads nothing yet. Agents' commands are looked for on this process's own PATH.
    pub(crate) fn new(home: Home, program: Program) -> Self {
        Self {
            home,
            program,
            shell_paths: Arc::default(),
            janitor: Arc::default(),
            history: Arc::default(),
            unwritten_ends: Arc::default(),
            routines: Arc::default(),
            slurm_looks: Arc::default(),
            waiting_runs: Arc::default(),
            settings: Arc::new(FileCache::new()),
            had_settings: Arc::default(),
            chosen: Arc::default(),
        }
    }

    /// Also looks for agents' commands on the PATH of the user's login shell.
    pub(crate) fn with_login_shell(self) -> Self {
        let asker = Asker::of_this_process(self.program.path().to_owned(), self.home.clone());
        Self { shell_paths: ShellPaths::of(asker), ..self }
    }

    /// Returns where agents' commands are found. Waits half a second at most for the login shell to answer.
    pub(crate) fn search_path(&self) -> SearchPath {
        self.shell_paths.get(LOGIN_SHELL_TIMEOUT)
    }

    /// Reads the settings as they are now.
    ///
    /// # Errors
    /// `config.toml` is damaged, or was there before and is not. No defaults stand in for it: they could be shorter than
    /// what a person wrote there.
    pub(crate) fn context(&self) -> Result<Context, FileError> {
        let file = self.home.config_file();
        let config = match Config::load_if_present(&file)? {
            Some(config) => {
                self.had_settings.store(true, Ordering::Relaxed);
                config
            }
            None if self.had_settings.load(Ordering::Relaxed) => {
                let problem = "it has disappeared; put it back, or restart the servers and janitors of this home to use the defaults";
                return Err(FileError::io("read", &file, io::Error::other(problem)));
            }
            None => Config::default(),
        };
        Ok(self.with(config))
    }

    /// Reads the settings as they are now for a call that only looks or stops a run, which should work with damaged settings
    /// too: then the defaults apply.
    pub(crate) fn context_for_looking(&self) -> Context {
        let file = self.home.config_file();
        let config = self.settings.get(&file, || Config::load(&file));
        self.with(config.ok().flatten().unwrap_or_default())
    }

    fn with(&self, config: Config) -> Context {
        let session_host = self.session_host(config.session_host);
        Context {
            home: self.home.clone(),
            config,
            session_host,
            program: self.program.clone(),
            history: Arc::clone(&self.history),
            routines: Arc::clone(&self.routines),
            unwritten_ends: Arc::clone(&self.unwritten_ends),
            shell_paths: Arc::clone(&self.shell_paths),
            slurm_looks: Arc::clone(&self.slurm_looks),
            waiting_runs: Arc::clone(&self.waiting_runs),
        }
    }

    /// Returns the host for a setting.
    pub(crate) fn session_host(&self, setting: SessionHostSetting) -> SessionHost {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = chosen.as_ref().filter(|chosen| chosen.holds(setting)) {
            return chosen.host.clone();
        }
        let host = SessionHost::choose(&self.home, setting);
        *chosen = Some(Chosen { setting, host: host.clone(), at: Instant::now() });
        host
    }
}

/// This program's file, asked for once at start: later the answer may name a file that an update has replaced.
#[derive(Debug, Clone)]
pub struct Program(PathBuf);

/// This program's file is gone.
#[derive(Debug, thiserror::Error)]
#[error("{path}, the program that this server was started from, is gone (updated?); restart the host, and try again")]
pub struct ProgramGone {
    path: PathBuf,
}

impl Program {
    /// Asks the system.
    ///
    /// # Errors
    /// The system does not know.
    pub fn current() -> std::io::Result<Self> {
        std::env::current_exe().map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes sure that the file is still there.
    ///
    /// # Errors
    /// It is not; the way out is to restart the host.
    pub fn check(&self) -> Result<(), ProgramGone> {
        if self.0.is_file() { Ok(()) } else { Err(ProgramGone { path: self.0.clone() }) }
    }
}

#[cfg(test)]
impl App {
    /// Opens an empty home, which lasts as long as the directory that comes with it.
    pub(crate) fn example() -> (tempfile::TempDir, Self) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::write(home.config_file(), "session_host = 'detached'").unwrap();
        let app = Self::new(home, Program::current().unwrap());
        (dir, app)
    }
}
