//! Asking a person's shell for its PATH, as rarely and as gently as can be.
//!
//! Start-up files are a person's own: they may hold locks, write files, and leave work in the background. So a shell is asked by a
//! process of its own, which no host and no end of a server cuts off; it is let finish, and its answer is kept in a file that
//! holds until a start-up file changes.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::login_shell::{not_started, through_shell};
use super::start_up_files;
use crate::bounded_command::{sleep, wait_until};
use crate::clock::UnixSeconds;
use crate::environment::{self, Variables, detached};
use crate::home::atomic_file::{self, FileError};
use crate::home::file_cache::Stamp;
use crate::home::lock::{FileLock, Mode as LockMode};
use crate::home::{self, Home};

pub use super::login_shell::ShellMode as Mode;

/// A PATH, or why there is none.
pub type Answer = Result<String, String>;

/// How long a shell may be silent before it is asked to end, and after that before it is killed.
const SHELL_ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const SHELL_END_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer is kept: files that the start-up files read may change, too. And how long that there is none.
const ANSWER_HOLDS_SECS: u64 = 24 * 60 * 60;
const PROBLEM_HOLDS_SECS: u64 = 10 * 60;
const PAUSE: Duration = Duration::from_millis(5);

/// Asks shells, and keeps their answers in a home.
#[derive(Debug, Clone)]
pub struct Asker {
    program: PathBuf,
    home: Home,
    environment: Variables,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Their fingerprint at the time.
    start_up_files: u64,
    asked_at: UnixSeconds,
    answer: Answer,
}

const VERSION: u32 = 2;

impl Record {
    fn answer(self, start_up_files: u64, now: UnixSeconds) -> Option<Answer> {
        let holds_secs = if self.answer.is_ok() { ANSWER_HOLDS_SECS } else { PROBLEM_HOLDS_SECS };
        let holds = self.version == VERSION
            && self.start_up_files == start_up_files
            && self.asked_at.age_secs_at(now) < holds_secs;
        holds.then_some(self.answer)
    }
}

/// The files of one question: what a shell answers depends on what it is started with.
struct Files {
    record: PathBuf,
    lock: PathBuf,
    /// Where the shell writes, once it is our program.
    answer: PathBuf,
}

impl Files {
    fn of(home: &Home, mode: Mode, environment: &Variables) -> Self {
        let wanted = ["SHELL", "HOME", "USER", "PATH", "ZDOTDIR", "XDG_CONFIG_HOME", "XDG_DATA_DIRS"];
        let key: String = wanted.iter().map(|name| format!("{name}={:?}\0", environment.get(*name))).collect();
        let stem = format!("{}-{:016x}", mode.name(), home::stable_hash(key.as_bytes()));
        let file = |end: &str| home.cache().join("paths").join(format!("{stem}.{end}"));
        Self { record: file("json"), lock: file("lock"), answer: file("answer") }
    }
}

impl Asker {
    /// Asks with `program`, which is this program's own file, keeps answers in a home, and starts shells with an environment.
    pub fn new(program: PathBuf, home: Home, environment: Variables) -> Self {
        Self { program, home, environment }
    }

    /// As [`Self::new`] with what a run that this process starts would inherit.
    pub fn of_this_process(program: PathBuf, home: Home) -> Self {
        Self::new(program, home, environment::inherited(&environment::of_this_process(), &[]))
    }

    fn files(&self, mode: Mode) -> Files {
        Files::of(&self.home, mode, &self.environment)
    }

    /// Returns the answer that is on disk and still holds.
    pub fn known(&self, mode: Mode) -> Option<Answer> {
        let record: Record = atomic_file::read_json(&self.files(mode).record).ok()?;
        record.answer(start_up_files::fingerprint(&self.environment), UnixSeconds::now())
    }

    /// Starts to ask a shell, unless that is under way, and returns at once; whatever it said before, if `again`. Where the system
    /// refuses, there is no answer.
    pub fn ask(&self, mode: Mode, again: bool) {
        if FileLock::try_existing(&self.files(mode).lock, LockMode::Shared).is_err_and(|error| error.is_held()) {
            return;
        }
        let asking = detached(&self.program, &self.environment)
            .arg("ask-shell")
            .args(again.then_some("--again"))
            .arg(self.home.root())
            .arg(mode.name())
            .status();
        if let Err(error) = asking {
            tracing::debug!(%error, "the shell is not asked for its PATH");
        }
    }

    /// Returns the answer; asks the shell and waits for it if need be.
    pub fn answer(&self, mode: Mode, timeout: Duration) -> Option<Answer> {
        let deadline = Instant::now() + timeout;
        let mut answer = self.known(mode);
        if answer.is_none() && !timeout.is_zero() {
            self.ask(mode, false);
            while answer.is_none() && Instant::now() < deadline {
                std::thread::sleep(PAUSE);
                answer = self.known(mode);
            }
        }
        answer
    }

    /// Asks the shell whatever it said before, and waits for the answer.
    pub fn ask_again(&self, mode: Mode, timeout: Duration) -> Option<Answer> {
        let (deadline, files) = (Instant::now() + timeout, self.files(mode));
        let before = Stamp::of(&files.record);
        self.ask(mode, true);
        while Stamp::of(&files.record) == before {
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
        self.known(mode)
    }
}

/// Asks the shell and writes its answer down, as the hidden `ask-shell`; it was started for that alone. Takes as long as the shell.
pub fn ask_shell(root: PathBuf, mode: Mode, again: bool) -> anyhow::Result<()> {
    // A host that ignores it would have us never know that the shell has ended.
    signal_hook::flag::register(signal_hook::consts::SIGCHLD, Arc::default())?;
    // Nobody waits for us, so the home may be gone by now; opening it would make it again.
    if !root.is_dir() {
        return Ok(());
    }
    let asker = Asker::of_this_process(std::env::current_exe()?, Home::open(root)?);
    let (files, environment) = (asker.files(mode), &asker.environment);
    home::make_directory(files.record.parent().unwrap_or(asker.home.root()))?;
    let Ok(_lock) = FileLock::acquire_unsigned(&files.lock, Duration::ZERO) else { return Ok(()) };
    if !again && asker.known(mode).is_some() {
        return Ok(());
    }
    let asked_at = UnixSeconds::now();
    let keep = |answer: Answer| -> Result<(), FileError> {
        // As they are now: some start-up files write others.
        let start_up_files = start_up_files::fingerprint(environment);
        atomic_file::write_json(&files.record, &Record { version: VERSION, start_up_files, asked_at, answer })
    };
    let _ = std::fs::remove_file(&files.answer);
    let shell = std::env::var_os("SHELL");
    let words =
        through_shell(mode, shell.as_deref(), &asker.program, &["print-path".into(), files.answer.clone().into()]);
    let shown = Path::new(&words[0]).display().to_string();
    let directory = std::env::home_dir().filter(|directory| directory.is_dir()).unwrap_or_else(|| "/".into());
    let started = Command::new(&words[0])
        .args(&words[1..])
        .env_clear()
        .envs(environment)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut shell = match started {
        Ok(shell) => shell,
        Err(error) => return Ok(keep(Err(not_started(&words[0], &error)))?),
    };
    let answered = wait(&mut shell, &files.answer)?;
    let answer = match atomic_file::read(&files.answer, atomic_file::MAX_RECORD_BYTES) {
        Ok(path) => Ok(as_text(&path)),
        Err(_) if answered => {
            Err(format!("the {mode} {shown} ended without running our command; see its start-up files"))
        }
        Err(_) => Err(format!("the {mode} {shown} was silent for {} s", SHELL_ANSWER_TIMEOUT.as_secs())),
    };
    let _ = std::fs::remove_file(&files.answer);
    Ok(keep(answer)?)
}

/// Waits until the shell has ended; returns whether it did so by itself. What it leaves in the background is none of our business.
fn wait(shell: &mut Child, answer: &Path) -> std::io::Result<bool> {
    let group = Pid::from_child(shell);
    let within = |shell: &mut Child, timeout| wait_until(shell, Instant::now() + timeout, &mut sleep);
    if within(shell, SHELL_ANSWER_TIMEOUT)?.is_some() || answer.exists() {
        shell.wait()?;
        return Ok(true);
    }
    // The whole group: a start-up file that hangs does so in a child of the shell.
    let _ = kill_process_group(group, Signal::TERM);
    if within(shell, SHELL_END_TIMEOUT)?.is_none() {
        let _ = kill_process_group(group, Signal::KILL);
        shell.wait()?;
    }
    Ok(false)
}

/// Leaves directories out of a PATH that no text can name.
fn as_text(path: &[u8]) -> String {
    let directories = path.split(|byte| *byte == b':').filter_map(|directory| std::str::from_utf8(directory).ok());
    directories.collect::<Vec<_>>().join(":")
}

/// Writes PATH to a file, whatever else start-up files have printed: the shell has become this.
pub fn print_path(file: &Path) -> Result<(), FileError> {
    atomic_file::write(file, std::env::var_os("PATH").unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_a_day_and_a_problem_for_minutes_unless_a_file_changes() {
        let record = |path: bool| Record {
            version: VERSION,
            start_up_files: 7,
            asked_at: UnixSeconds(1_000_000),
            answer: if path { Ok("/bin".to_owned()) } else { Err("silent".to_owned()) },
        };
        let after = |path, secs| record(path).answer(7, UnixSeconds(1_000_000 + secs));
        assert_eq!(after(true, ANSWER_HOLDS_SECS - 1), Some(Ok("/bin".into())));
        assert_eq!(after(true, ANSWER_HOLDS_SECS), None);
        assert_eq!(after(false, PROBLEM_HOLDS_SECS - 1), Some(Err("silent".to_owned())));
        assert_eq!(after(false, PROBLEM_HOLDS_SECS), None);
        assert_eq!(record(true).answer(8, UnixSeconds(1_000_000)), None);
        assert_eq!(Record { version: VERSION + 1, ..record(true) }.answer(7, UnixSeconds(1_000_000)), None);
    }
}
