//! Where commands are found: on the PATH of the user's login shell, else on our own, else on that of an interactive login shell.
//!
//! A terminal reads start-up files that a login shell does not, and what is started from a desktop has neither's PATH.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::definition::AgentDefinition;
use super::shell_path::{Answer, Asker, Mode};

#[derive(Debug, thiserror::Error)]
#[error("the command '{command}' was not found ({cause}); install it, or give its absolute path in the agent's file")]
pub struct CommandNotFound {
    command: String,
    cause: String,
}

/// Whose PATH a command is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    LoginShell,
    /// That of this process, or of the one that triggered.
    Own,
    InteractiveShell,
    Set,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoginShell => "the login shell's PATH",
            Self::Own => "the PATH of moadim-mcp",
            Self::InteractiveShell => "the PATH of an interactive login shell",
            Self::Set => "the PATH that is set for it",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub program: PathBuf,
    /// The PATH it is on, and whose that is; `None` for an absolute path.
    pub on: Option<(Source, OsString)>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        self.on.as_ref().map_or(Ok(()), |(source, _)| write!(f, " (on {source})"))
    }
}

/// Finds a program: an absolute path as it is, a name on the first PATH that has it.
pub fn find_command(command: &str, paths: Vec<(Source, OsString)>) -> Result<Found, CommandNotFound> {
    let not_found = |cause| CommandNotFound { command: command.to_owned(), cause };
    // Relative directories on PATH would depend on where we happen to be; "/" makes them harmless.
    let find = |path: Option<&OsString>| which::which_in(command, path, "/").ok();
    if command.starts_with('/') {
        let program = find(None).ok_or_else(|| not_found("no executable file is there".to_owned()))?;
        return Ok(Found { program, on: None });
    }
    if let Some((program, on)) = paths.iter().find_map(|on| Some((find(Some(&on.1))?, on))) {
        return Ok(Found { program, on: Some(on.clone()) });
    }
    let searched: Vec<String> = paths.iter().map(|(source, path)| format!("{source} is {}", path.display())).collect();
    Err(not_found(if searched.is_empty() { "PATH is not set".to_owned() } else { searched.join("; ") }))
}

/// Whether a program is on PATH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    Yes,
    No,
    /// The login shell has not said its PATH yet.
    NotKnown,
}

/// The PATHs that agents' commands are looked for on.
#[derive(Debug, Clone)]
pub struct SearchPath {
    own: Option<OsString>,
    /// `None` while the login shell has not answered.
    login: Option<Answer>,
    shells: Option<Arc<ShellPaths>>,
    interactive_timeout: Duration,
}

impl SearchPath {
    /// Makes no look wait for an interactive shell: until that has answered, what only it would find is not found.
    pub fn without_waiting(self) -> Self {
        Self { interactive_timeout: Duration::ZERO, ..self }
    }

    /// Finds an agent's command. An interactive shell is asked only if it is nowhere else.
    pub fn find(&self, definition: &AgentDefinition) -> Result<Found, CommandNotFound> {
        if let Some(path) = definition.env.get("PATH") {
            return find_command(&definition.command, vec![(Source::Set, path.into())]);
        }
        let own = self.own.clone().map(|path| (Source::Own, path));
        let login = match &self.login {
            Some(Ok(path)) if definition.login_shell => Some((Source::LoginShell, path.into())),
            _ => None,
        };
        let mut paths: Vec<(Source, OsString)> = login.into_iter().chain(own).collect();
        let found = find_command(&definition.command, paths.clone());
        // A login shell that gives no answer gives none to a person either.
        let may_ask = definition.login_shell && !definition.command.starts_with('/') && self.is_known();
        match self.shells.as_ref().filter(|_| found.is_err() && may_ask) {
            Some(shells) => {
                let interactive = shells.answer(Mode::Interactive, self.interactive_timeout);
                paths.extend(interactive.and_then(Result::ok).map(|path| (Source::InteractiveShell, path.into())));
                find_command(&definition.command, paths)
            }
            None => found,
        }
    }

    /// Returns whether a program is on the PATH that an agent's runs get: that on which its own command is.
    pub fn has_beside(&self, definition: &AgentDefinition, program: &str) -> Installed {
        let on = self.find(definition).ok().and_then(|found| found.on);
        let own = || self.own.clone().map(|path| (Source::Own, path));
        let is_there = find_command(program, on.or_else(own).into_iter().collect()).is_ok();
        let may_come = self.shells.is_some() && self.login.is_none() && definition.login_shell;
        match is_there {
            true => Installed::Yes,
            false if may_come => Installed::NotKnown,
            false => Installed::No,
        }
    }

    /// Returns whether the login shell has answered.
    pub fn is_known(&self) -> bool {
        matches!(self.login, Some(Ok(_)))
    }

    /// Returns why the login shell gave no answer, once that is known; our own PATH stands in for its.
    pub fn problem(&self) -> Option<&str> {
        self.login.as_ref()?.as_ref().err().map(String::as_str)
    }
}

/// The shells' PATHs as this process knows them. By default no shell is asked, and our own PATH has to do.
#[derive(Debug, Default)]
pub struct ShellPaths {
    asker: Option<Asker>,
    login: Mutex<Asked>,
    interactive: Mutex<Asked>,
}

/// What came of asking one shell.
#[derive(Debug, Default)]
struct Asked {
    answer: Option<(Answer, Instant)>,
    /// When a call last waited in vain: none waits again soon.
    in_vain: Option<Instant>,
}

/// How long an answer holds before the start-up files are looked at again.
const ANSWER_HOLDS: Duration = Duration::from_secs(2);

/// How long no call waits again for a shell that has not answered in time.
const NO_WAIT_AFTER_SILENCE: Duration = Duration::from_secs(60);

/// How long a call waits for an interactive shell.
const INTERACTIVE_SHELL_TIMEOUT: Duration = Duration::from_secs(2);

impl ShellPaths {
    pub fn of(asker: Asker) -> Arc<Self> {
        Arc::new(Self { asker: Some(asker), ..Self::default() })
    }

    /// Has the login shell asked, unless it is known; returns at once.
    pub fn ask(&self) {
        if let Some(asker) = &self.asker
            && asker.known(Mode::Login).is_none()
        {
            asker.ask(Mode::Login, false);
        }
    }

    /// Returns the search path, with the login shell's if that answers within `timeout`.
    pub fn get(self: &Arc<Self>, timeout: Duration) -> SearchPath {
        let shells = self.asker.as_ref().map(|_| Arc::clone(self));
        let login = self.answer(Mode::Login, timeout);
        SearchPath { own: std::env::var_os("PATH"), login, shells, interactive_timeout: INTERACTIVE_SHELL_TIMEOUT }
    }

    fn answer(&self, mode: Mode, timeout: Duration) -> Option<Answer> {
        let asker = self.asker.as_ref()?;
        let asked = match mode {
            Mode::Login => &self.login,
            Mode::Interactive => &self.interactive,
        };
        let asked = || asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((answer, _)) = asked().answer.as_ref().filter(|(_, at)| at.elapsed() < ANSWER_HOLDS) {
            return Some(answer.clone());
        }
        let waits = asked().in_vain.is_none_or(|at| at.elapsed() >= NO_WAIT_AFTER_SILENCE);
        let timeout = if waits { timeout } else { Duration::ZERO };
        let answer = asker.answer(mode, timeout);
        if answer.is_none() && timeout.is_zero() && waits && mode == Mode::Interactive {
            // Who does not wait finds the answer at a later look.
            asker.ask(mode, false);
        }
        let now = Instant::now();
        match &answer {
            Some(answer) => asked().answer = Some((answer.clone(), now)),
            None if !timeout.is_zero() => asked().in_vain = Some(now),
            None => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_command_is_found_by_name_on_the_first_path_that_has_it_or_by_path() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/sh", dir.path().join("mine")).unwrap();
        let (ours, usual) = (dir.path().as_os_str().to_owned(), OsString::from("/usr/bin:/bin"));
        let paths = || vec![(Source::LoginShell, usual.clone()), (Source::Own, ours.clone())];
        let found = |command| find_command(command, paths()).unwrap();
        assert_eq!(found("sh").on, Some((Source::LoginShell, usual.clone())));
        assert_eq!(found("mine").on, Some((Source::Own, ours.clone())));
        assert_eq!((found("/bin/sh").program.as_path(), found("/bin/sh").on), (Path::new("/bin/sh"), None));
        let error = find_command("no-such-agent", paths()).unwrap_err().to_string();
        assert!(
            error.contains("no-such-agent") && error.contains("the login shell's PATH is /usr/bin:/bin;"),
            "{error}"
        );
        assert!(find_command("/etc/passwd", Vec::new()).is_err(), "not executable");
    }

    #[test]
    fn where_nobody_is_to_be_asked_our_own_path_has_to_do() {
        let begun = Instant::now();
        let path = Arc::new(ShellPaths::default()).get(Duration::from_secs(60));
        assert!(path.problem().is_none() && !path.is_known() && begun.elapsed() < Duration::from_secs(60));
        let sh = AgentDefinition { command: "sh".into(), ..AgentDefinition::default() };
        assert_eq!(path.find(&sh).unwrap().on.unwrap().0, Source::Own);
    }
}
