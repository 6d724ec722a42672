//! Where commands are found: the PATH of the user's login shell, which an agent host's own often lacks.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::definition::AgentDefinition;
use super::login_shell::{LAUNCH_PATIENCE, through_login_shell};

use crate::environment::{self, Variables};

/// A command that is not to be found.
#[derive(Debug, thiserror::Error)]
#[error("the command '{command}' was not found ({cause}); install it, or give its absolute path in the agent's file")]
pub struct CommandNotFound {
    command: String,
    cause: String,
}

/// Finds a program: an absolute path as it is, a name on `path`.
///
/// # Errors
/// There is none that can be executed.
pub fn find_command(command: &str, path: Option<OsString>) -> Result<PathBuf, CommandNotFound> {
    let cause = match &path {
        _ if command.starts_with('/') => "no executable file is there".to_owned(),
        Some(path) => format!("PATH is {}", path.display()),
        None => "PATH is not set".to_owned(),
    };
    // Relative directories on PATH would depend on where we happen to be; "/" makes them harmless.
    which::which_in(command, path, "/").map_err(|_| CommandNotFound { command: command.to_owned(), cause })
}

/// The directories that agents' commands are looked for in.
#[derive(Debug, Clone)]
pub struct SearchPath {
    ours: Option<OsString>,
    /// `None` while the login shell has not answered.
    login: Option<Result<OsString, String>>,
}

const BEGIN: &[u8] = b"\0moadim PATH=";

impl SearchPath {
    /// Asks the login shell, once; takes as long as its start-up files do, at most [`LAUNCH_PATIENCE`].
    ///
    /// `program` is this program's own file, whose hidden `print-path` the shell becomes.
    #[must_use]
    fn probe(program: &Path, environment: &Variables, asked: &Mutex<Asked>) -> Self {
        let ours = std::env::var_os("PATH");
        Self { ours, login: Some(ask_login_shell(program, environment, asked)) }
    }

    /// Returns our own PATH, for as long as the login shell's is not known.
    fn ours() -> Self {
        Self { ours: std::env::var_os("PATH"), login: None }
    }

    /// Returns where the agent's command is.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn find(&self, definition: &AgentDefinition) -> Result<PathBuf, CommandNotFound> {
        let path = match &self.login {
            Some(Ok(login)) if definition.login_shell => Some(login.clone()),
            _ => self.ours.clone(),
        };
        find_command(&definition.command, path)
    }

    /// Tells whether the login shell has told its PATH.
    #[must_use]
    pub fn is_known(&self) -> bool {
        matches!(self.login, Some(Ok(_)))
    }

    /// Returns why the login shell gave no answer, once that is known; our own PATH stands in for its.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.login.as_ref()?.as_ref().err().map(String::as_str)
    }
}

/// A search path that is asked for once, so that no call has to wait for start-up files. By default nobody is asked, and our
/// own PATH has to do.
#[derive(Debug, Default)]
pub struct ProbedPath {
    /// This program's own file, which the login shell is told to become.
    program: Option<PathBuf>,
    begun: AtomicBool,
    answer: Mutex<Option<SearchPath>>,
    answered: Condvar,
    asked: Mutex<Asked>,
}

/// The shell that is being asked, so that it does not outlive us.
#[derive(Debug, Default)]
struct Asked {
    group: Option<Pid>,
    over: bool,
}

impl Asked {
    /// Ends the whole group, and not the shell alone: a start-up file that hangs does so in a child of it.
    fn end(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl ProbedPath {
    /// Has nothing asked yet.
    #[must_use]
    pub fn of(program: PathBuf) -> Arc<Self> {
        Arc::new(Self { program: Some(program), ..Self::default() })
    }

    /// Starts asking, on a thread of its own, unless that was done before.
    pub fn ask(self: &Arc<Self>) {
        let Some(program) = self.program.clone() else { return };
        if self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let probed = Arc::clone(self);
        let started = std::thread::Builder::new().name("login shell".into()).spawn(move || {
            let inherited = environment::inherited(&environment::of_this_process(), &[]);
            let path = SearchPath::probe(&program, &inherited, &probed.asked);
            *probed.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
            probed.answered.notify_all();
        });
        if started.is_err() {
            // The system has no threads left; the next one who wants to know tries again.
            self.begun.store(false, Ordering::Relaxed);
        }
    }

    /// Starts asking at once.
    #[must_use]
    pub fn start(program: PathBuf) -> Arc<Self> {
        let probed = Self::of(program);
        probed.ask();
        probed
    }

    /// Returns the login shell's path, or our own if the shell does not answer within `patience`.
    #[must_use]
    pub fn get(self: &Arc<Self>, patience: Duration) -> SearchPath {
        self.ask();
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_coming = |answer: &mut Option<_>| answer.is_none() && self.begun.load(Ordering::Relaxed);
        let waited = self.answered.wait_timeout_while(answer, patience, is_coming);
        let (answer, _) = waited.unwrap_or_else(PoisonError::into_inner);
        answer.clone().unwrap_or_else(SearchPath::ours)
    }

    /// Stops asking: a shell that hangs would otherwise stay when this process goes.
    pub fn give_up(&self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.over = true;
        asked.end();
    }
}

/// Writes PATH to stdout, marked so that it is found among whatever the shell's start-up files print.
///
/// # Errors
/// Stdout is gone.
pub fn print_search_path() -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut stdout = io::stdout().lock();
    stdout.write_all(&[BEGIN, path.as_bytes(), b"\0"].concat())?;
    stdout.flush()
}

fn ask_login_shell(program: &Path, environment: &Variables, asked: &Mutex<Asked>) -> Result<OsString, String> {
    let shell = std::env::var_os("SHELL");
    let words = through_login_shell(shell.as_deref(), program, &["print-path".into()]);
    let shown = Path::new(&words[0]).display().to_string();
    let lock = || asked.lock().unwrap_or_else(PoisonError::into_inner);
    let mut group = lock();
    if group.over {
        return Err("the login shell was not asked".to_owned());
    }
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the login shell {shown} does not start: {error}"))?;
    group.group = Some(Pid::from_child(&child));
    drop(group);
    let (sender, answer) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // A thread of its own: start-up files may leave a process behind that holds the pipe open for ever.
        std::thread::spawn(move || sender.send(read_marked(stdout)));
    }
    let path = answer.recv_timeout(LAUNCH_PATIENCE);
    // Before the leader is reaped: until then the group's number is nobody else's.
    lock().end();
    let _ = child.wait();
    match path {
        Ok(Some(path)) => Ok(path),
        Ok(None) => Err(format!("the login shell {shown} ended without running our command; see its start-up files")),
        Err(_) => Err(format!("the login shell {shown} was silent for {} s", LAUNCH_PATIENCE.as_secs())),
    }
}

fn read_marked(mut stdout: impl Read) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let mut seen = Vec::new();
    let mut buffer = [0u8; 4096];
    while seen.len() < 1024 * 1024 {
        match stdout.read(&mut buffer) {
            Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
        if let Some(start) = seen.windows(BEGIN.len()).position(|window| window == BEGIN) {
            let value = &seen[start + BEGIN.len()..];
            if let Some(end) = value.iter().position(|&byte| byte == 0) {
                return Some(OsString::from_vec(value[..end].to_vec()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_found_among_what_start_up_files_print() {
        let printed = b"Welcome!\n\0moadim PATH=/a:/b\0".as_slice();
        assert_eq!(read_marked(printed), Some("/a:/b".into()));
        assert_eq!(read_marked(b"Welcome!\n".as_slice()), None);
    }

    #[test]
    fn whoever_wants_to_know_asks_unless_nobody_is_to_be_asked() {
        let patience = Duration::from_secs(60);
        let asked = ProbedPath::of("/bin/false".into()).get(patience);
        assert!(asked.problem().unwrap().contains("without running our command"), "{asked:?}");
        let begun = std::time::Instant::now();
        let ours = Arc::new(ProbedPath::default()).get(patience);
        assert!(ours.problem().is_none() && begun.elapsed() < patience, "{ours:?}");
    }

    #[test]
    fn a_command_is_found_by_name_or_by_path() {
        let path = || Some(OsString::from("/usr/bin:/bin"));
        assert!(find_command("sh", path()).unwrap().is_absolute());
        assert_eq!(find_command("/bin/sh", None).unwrap(), Path::new("/bin/sh"));
        let error = find_command("no-such-agent", path()).unwrap_err().to_string();
        assert!(error.contains("no-such-agent") && error.contains("/usr/bin"), "{error}");
        assert!(find_command("/etc/passwd", None).is_err(), "not executable");
    }
}
