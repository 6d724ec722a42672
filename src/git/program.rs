//! The program git: one command at a time, in a fixed environment, until a deadline.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::bounded_command::{sleep, wait_until};
use crate::quote::saying;

/// Git was not run, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git on the PATH.
    #[error("git was not found; install git 2.39 or newer")]
    Missing,
    /// It lacks what a shadow needs.
    #[error("{program} is version {version}; install git 2.39 or newer", program = program.display())]
    TooOld {
        /// Where it is.
        program: PathBuf,
        /// What it says of itself.
        version: String,
    },
    /// It took longer than it may.
    #[error("git {command} timed out")]
    TimedOut {
        /// The subcommand.
        command: String,
    },
    /// It failed, in these words.
    #[error("git {command} failed with {how}{said}")]
    Failed {
        /// The subcommand.
        command: String,
        /// Its exit status.
        how: ExitStatus,
        /// The end of its error output, ready to be appended to a sentence.
        said: String,
    },
    /// It printed something else than it is documented to print.
    #[error("git {command} printed something unexpected: {what}")]
    Unexpected {
        /// The subcommand.
        command: String,
        /// What.
        what: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What Git LFS keeps for the work is more than there is room for: the disk may have more soon.
    #[error("its contents in Git LFS take {bytes} bytes or more, and there is room for {max}")]
    TooMuchLfs {
        /// As far as it was counted.
        bytes: u64,
        /// What there is room for.
        max: u64,
    },
    /// The repository has something that no repository has, or that this program does not know.
    #[error("{0}")]
    Odd(String),
}

impl GitError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether it may succeed soon although the repository stays as it is, as once a full disk has room.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Missing | Self::TooOld { .. } | Self::Io { .. } | Self::TooMuchLfs { .. } => true,
            Self::Failed { said, .. } => said.contains("No space left on device"),
            Self::TimedOut { .. } | Self::Unexpected { .. } | Self::Odd(_) => false,
        }
    }

    /// What git says although it succeeds may mean that it left something out.
    pub(super) fn complaint(said: &str) -> Self {
        Self::Odd(format!("git complains{}", saying(said, MAX_SAID_COLUMNS)))
    }

    pub(super) fn odd(path: &Path, what: impl std::fmt::Display) -> Self {
        Self::Odd(format!("{} {what}", path.display()))
    }
}

/// The name of an object, in lowercase hexadecimal: 40 digits of SHA-1, or 64 of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct ObjectId(String);

impl ObjectId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands for "no object" in a reflog.
    pub(super) fn is_null(&self) -> bool {
        self.0.bytes().all(|digit| digit == b'0')
    }
}

impl FromStr for ObjectId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        if is_hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text:?} names no object"))
        }
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The oldest git whose commands a shadow can rely on.
const MIN_VERSION: (u32, u32) = (2, 39);

/// The most that one command may print into our memory.
const MAX_OUTPUT_BYTES: u64 = 512 * 1024 * 1024;

/// How much of what git complained about is shown.
const MAX_SAID_COLUMNS: usize = 200;

/// How long git may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// What a command reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Nothing,
    Bytes(&'a [u8]),
    File(&'a Path),
}

/// Runs git. Nothing of this process's environment reaches it but the PATH.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    program: PathBuf,
    path: OsString,
    /// Added to the environment, such as a run's cookie.
    extra: Vec<(String, String)>,
    /// For the files that commands read and write.
    scratch: PathBuf,
}

impl Git {
    /// Finds git on a PATH, and makes sure that it is new enough. `scratch` is a directory of ours for a command's input and
    /// output.
    ///
    /// # Errors
    /// There is none, or it is too old.
    pub(crate) fn find(path: OsString, extra: Vec<(String, String)>, scratch: &Path) -> Result<Self, GitError> {
        let program = which::which_in("git", Some(&path), "/").map_err(|_| GitError::Missing)?;
        let git = Self { program, path, extra, scratch: scratch.to_owned() };
        let said = git.command(&["version".as_ref()]).run(Input::Nothing, Instant::now() + VERSION_TIMEOUT)?;
        let said = String::from_utf8_lossy(&said);
        let version = said.trim().strip_prefix("git version ").unwrap_or(said.trim());
        if version_of(version).is_some_and(|version| version >= MIN_VERSION) {
            Ok(git)
        } else {
            Err(GitError::TooOld { program: git.program, version: version.to_owned() })
        }
    }

    pub(crate) fn command<'a>(&'a self, arguments: &[&OsStr]) -> GitCommand<'a> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("PATH", &self.path).current_dir(&self.scratch).process_group(0);
        command.envs(FIXED).envs(self.extra.iter().map(|(name, value)| (name, value)));
        let nowhere = self.scratch.join("no-home");
        command.env("HOME", &nowhere).env("XDG_CONFIG_HOME", &nowhere);
        // Without the settings before it.
        let mut words = arguments.iter();
        let name = loop {
            match words.next() {
                Some(word) if *word == "-c" => words.next(),
                word => break word,
            };
        };
        GitCommand { git: self, command, name: name.map_or_else(OsString::new, OsString::from) }
    }
}

/// What holds whatever a person, the system or the repository says: no configuration but the shadow's own, no network, no
/// question, no lock.
const FIXED: [(&str, &str); 11] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_ALLOW_PROTOCOL", ""),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
];

fn version_of(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A command that was not started yet.
pub(crate) struct GitCommand<'a> {
    git: &'a Git,
    command: Command,
    name: OsString,
}

impl GitCommand<'_> {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it to its end and returns what it printed. At the deadline it is killed, with what it started.
    ///
    /// # Errors
    /// It cannot be started, fails, or takes too long.
    pub(crate) fn run(self, input: Input<'_>, deadline: Instant) -> Result<Vec<u8>, GitError> {
        let output = self.git.scratch.join("stdout");
        self.run_into(&output, input, deadline)?;
        let file = File::open(&output).map_err(|source| GitError::io("open", &output, source))?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| GitError::io("read", &output, source))?;
        if bytes.len() as u64 > MAX_OUTPUT_BYTES {
            return Err(GitError::Odd("git printed more than 512 MiB".to_owned()));
        }
        Ok(bytes)
    }

    /// As [`Self::run`], with what git complained about although it succeeded, as where it leaves out what it cannot
    /// read.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn run_with_complaints(
        self,
        input: Input<'_>,
        deadline: Instant,
    ) -> Result<(Vec<u8>, String), GitError> {
        let errors = self.git.scratch.join("stderr");
        let printed = self.run(input, deadline)?;
        let said = std::fs::read(&errors).map_err(|source| GitError::io("read", &errors, source))?;
        Ok((printed, String::from_utf8_lossy(&said).into_owned()))
    }

    /// As [`Self::run`], with what it prints in a file.
    ///
    /// # Errors
    /// It cannot be started, fails, or takes too long.
    pub(crate) fn run_into(mut self, output: &Path, input: Input<'_>, deadline: Instant) -> Result<(), GitError> {
        let name = self.name.to_string_lossy().into_owned();
        let scratch = &self.git.scratch;
        let create = |path: &Path| File::create(path).map_err(|source| GitError::io("write", path, source));
        let stdin = match input {
            Input::Nothing => Stdio::null(),
            Input::File(path) => File::open(path).map_err(|source| GitError::io("open", path, source))?.into(),
            Input::Bytes(bytes) => {
                let path = scratch.join("stdin");
                std::fs::write(&path, bytes).map_err(|source| GitError::io("write", &path, source))?;
                File::open(&path).map_err(|source| GitError::io("open", &path, source))?.into()
            }
        };
        let errors = scratch.join("stderr");
        self.command.stdin(stdin).stdout(create(output)?).stderr(create(&errors)?);
        let mut child = self.command.spawn().map_err(|source| GitError::io("execute", &self.git.program, source))?;
        let Some(how) = wait_until(&mut child, deadline, &mut sleep)
            .map_err(|source| GitError::io("wait for", &self.git.program, source))?
        else {
            end(&mut child);
            return Err(GitError::TimedOut { command: name });
        };
        if how.success() {
            return Ok(());
        }
        let said = std::fs::read(&errors).unwrap_or_default();
        Err(GitError::Failed { command: name, how, said: saying(&String::from_utf8_lossy(&said), MAX_SAID_COLUMNS) })
    }
}

fn end(child: &mut Child) {
    // The child is not waited for yet, so the number of its group cannot be anybody else's.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}
