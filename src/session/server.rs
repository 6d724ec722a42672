//! Our own tmux server, one a home: started as nobody's child, deaf to the user's configuration, found again when its
//! socket was deleted.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, Mode};
use crate::process_tree::{COOKIE_VARIABLE, Cookie};

use super::client::{self, Finished, Reply};
use super::known_server::KnownServer;
use super::place::Place;
use super::words::{follow, quoted, terminal, words};
use super::{Launcher, SessionError, listening};

/// The server's configuration: all that it ever reads.
const CONFIGURATION: &str = include_str!("tmux.conf");

const START: &str = "start its server";

/// Pause between two looks at a server that is coming or going.
const PAUSE: Duration = Duration::from_millis(3);

/// The server of a home. Nothing here starts it but [`Server::open`]: clients are told so with `-N`.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) program: Option<PathBuf>,
    launcher: Launcher,
    home: Home,
    pub(super) place: Place,
}

/// A client's command: what it is for, in words that follow "did not", and its words.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    action: &'static str,
    words: &'a [OsString],
    directory: &'a Path,
}

impl Server {
    pub(super) fn new(home: &Home, program: Option<PathBuf>, launcher: Launcher) -> Self {
        Self { program, launcher, place: Place::of(home.root()), home: home.clone() }
    }

    /// See [`super::SessionHost::open`].
    pub(super) fn open(&self, name: &str, log: &Path, directory: &Path, deadline: Instant) -> Result<(), SessionError> {
        check_name(name)?;
        check_directory(directory)?;
        // Without it the session would be gone at once, and tmux would not complain.
        let tail = client::find("tail").ok_or_else(|| {
            let source = io::Error::from(io::ErrorKind::NotFound);
            SessionError::Io { action: "find on PATH", path: "tail".into(), source }
        })?;
        self.open_with(&follow(name, &tail, log), directory, deadline)
    }

    /// See [`super::SessionHost::open_terminal`].
    pub(super) fn open_terminal(
        &self,
        name: &str,
        words: &[OsString],
        sink: &[OsString],
        directory: &Path,
        deadline: Instant,
    ) -> Result<(), SessionError> {
        check_name(name)?;
        check_directory(directory)?;
        self.open_with(&terminal(name, words, sink), directory, deadline)
    }

    fn open_with(&self, words: &[OsString], directory: &Path, deadline: Instant) -> Result<(), SessionError> {
        let ask = Ask { action: "open a session", words, directory };
        while Instant::now() < deadline {
            // A server that nobody noted could not be called back one day.
            if KnownServer::load(&self.record())?.is_some() {
                // Shared: many may open at once, but none while another process shuts the server down.
                let _lock = self.lock(Mode::Shared, deadline)?;
                match self.reach(ask, deadline)? {
                    Reply::Said(_) => return Ok(()),
                    Reply::NoSession => return Err(self.refused(ask.action, "it looked for one instead".into())),
                    Reply::NoServer(_) => {}
                }
            }
            self.ensure_running(deadline)?;
        }
        Err(self.timed_out(START))
    }

    /// Makes a server run and be reachable, and notes which process it is.
    fn ensure_running(&self, deadline: Instant) -> Result<(), SessionError> {
        let words = words(["display-message", "-p", "#{pid}"]);
        let ask = self.asking("tell its pid", &words);
        let _lock = self.lock(Mode::Exclusive, deadline)?;
        self.place.prepare()?;
        let mut reply = self.reach_or_recover(ask, deadline)?;
        if matches!(reply, Reply::NoServer(_)) {
            self.start(deadline)?;
            reply = self.reach_patiently(ask, deadline)?.ok_or_else(|| self.timed_out(START))?;
        }
        match reply {
            Reply::Said(pid) => self.remember(pid.trim(), deadline),
            Reply::NoServer(_) | Reply::NoSession => Err(self.refused(ask.action, "it looked for a session".into())),
        }
    }

    /// See [`super::SessionHost::list`].
    pub(super) fn list(&self, deadline: Instant) -> Result<BTreeSet<String>, SessionError> {
        let words = words(["list-sessions", "-F", "#{session_name}"]);
        self.names(self.ask(self.asking("list its sessions", &words), deadline)?)
    }

    /// See [`super::SessionHost::close`].
    pub(super) fn close(&self, name: &str, deadline: Instant) -> Result<(), SessionError> {
        check_name(name)?;
        let words = words(["kill-session", "-t", &format!("={name}")]);
        self.ask(self.asking("close a session", &words), deadline).map(|_| ())
    }

    /// See [`super::SessionHost::attach_command`].
    pub(super) fn attach_command(&self, name: &str) -> Option<String> {
        let program = quoted(self.program.as_ref()?.to_str()?);
        let socket = quoted(self.place.socket().to_str()?);
        Some(format!("{program} -N -S {socket} attach -t {}", quoted(&format!("={name}"))))
    }

    /// See [`super::SessionHost::shut_down_if_idle`].
    pub(super) fn shut_down_if_idle(&self, deadline: Instant) -> Result<(), SessionError> {
        const ACTION: &str = "end its server";
        let _lock = self.lock(Mode::Exclusive, deadline)?;
        let list = words(["list-sessions", "-F", "#{session_name}"]);
        let reply = self.reach_or_recover(self.asking("list its sessions", &list), deadline)?;
        if !matches!(reply, Reply::NoServer(_)) {
            if !self.names(reply)?.is_empty() {
                return Ok(());
            }
            // A server that ends has no last words.
            let kill = words(["kill-server"]);
            if let Some(finished) = self.tell(self.asking(ACTION, &kill), deadline)? {
                finished.meaning().map_err(|said| self.refused(ACTION, said))?;
            }
            while self.may_live()? {
                if Instant::now() >= deadline {
                    return Err(self.timed_out(ACTION));
                }
                std::thread::sleep(PAUSE);
            }
        }
        self.forget()?;
        self.place.clear()
    }

    fn asking<'a>(&'a self, action: &'static str, words: &'a [OsString]) -> Ask<'a> {
        Ask { action, words, directory: self.home.root() }
    }

    fn names(&self, reply: Reply) -> Result<BTreeSet<String>, SessionError> {
        match reply {
            Reply::Said(list) => Ok(list.lines().map(str::to_owned).collect()),
            Reply::NoServer(_) => Ok(BTreeSet::new()),
            Reply::NoSession => Err(self.refused("list its sessions", "it looked for one instead".into())),
        }
    }

    /// Has a client do something; a server that lives without its socket is called back first.
    fn ask(&self, ask: Ask<'_>, deadline: Instant) -> Result<Reply, SessionError> {
        let reply = self.reach(ask, deadline)?;
        if !matches!(reply, Reply::NoServer(_)) || !self.may_live()? {
            return Ok(reply);
        }
        // Another process may just be starting, ending or calling it back; those hold the lock.
        let _lock = self.lock(Mode::Exclusive, deadline)?;
        self.reach_or_recover(ask, deadline)
    }

    /// Has a client do something, and calls the server back if that is needed. The caller holds the lock alone.
    fn reach_or_recover(&self, ask: Ask<'_>, deadline: Instant) -> Result<Reply, SessionError> {
        match self.reach(ask, deadline)? {
            Reply::NoServer(_) => self.recover(ask, deadline),
            reply => Ok(reply),
        }
    }

    /// Has a client do something, if the server can be reached, and hears the whole answer.
    fn reach(&self, ask: Ask<'_>, deadline: Instant) -> Result<Reply, SessionError> {
        let words = [ask.words, &client::last_words()].concat();
        match self.tell(Ask { words: &words, ..ask }, deadline)? {
            Some(finished) => finished.whole_answer().map_err(|said| self.refused(ask.action, said)),
            None => Ok(Reply::NoServer(self.place.socket().to_owned())),
        }
    }

    /// Starts a client, if the socket is there: otherwise no process is worth starting.
    fn tell(&self, ask: Ask<'_>, deadline: Instant) -> Result<Option<Finished>, SessionError> {
        if !self.place.has_socket()? {
            return Ok(None);
        }
        let Some(program) = &self.program else {
            // A socket that a reboot left behind is no reason to complain.
            return match self.may_live()? {
                true => Err(SessionError::NoTmux { why: "a tmux server runs, but tmux was not found on PATH".into() }),
                false => Ok(None),
            };
        };
        let mut command = Command::new(program);
        command.arg("-N").arg("-S").arg(self.place.socket()).args(ask.words);
        command.env_clear().envs(client::environment()).current_dir(ask.directory);
        client::run(&mut command, deadline).map(Some).map_err(|error| self.failed(ask.action, program, error))
    }

    /// Reaches a server that is about to listen; `None` when it does not come.
    fn reach_patiently(&self, ask: Ask<'_>, deadline: Instant) -> Result<Option<Reply>, SessionError> {
        loop {
            match self.reach(ask, deadline)? {
                Reply::NoServer(_) if Instant::now() >= deadline => return Ok(None),
                Reply::NoServer(_) => std::thread::sleep(PAUSE),
                reply => return Ok(Some(reply)),
            }
        }
    }

    /// Makes a server that cannot be reached create its socket anew. No server: says so.
    fn recover(&self, ask: Ask<'_>, deadline: Instant) -> Result<Reply, SessionError> {
        let socket = || self.place.socket().to_owned();
        match self.known()? {
            Some(known) => {
                // Whatever cleaned the socket away may have taken its directory too.
                self.place.prepare()?;
                known.call_back();
                let back = self.reach_patiently(ask, deadline)?;
                back.ok_or_else(|| SessionError::Unreachable { socket: socket(), pid: Some(known.process.pid) })
            }
            None if listening::is_bound(self.place.socket()) => {
                Err(SessionError::Unreachable { socket: socket(), pid: None })
            }
            None => Ok(Reply::NoServer(socket())),
        }
    }

    fn may_live(&self) -> Result<bool, SessionError> {
        Ok(self.known()?.is_some() || listening::is_bound(self.place.socket()))
    }

    /// Returns the recorded server if it lives.
    fn known(&self) -> Result<Option<KnownServer>, SessionError> {
        let Some(known) = KnownServer::load(&self.record())? else { return Ok(None) };
        Ok(known.lives()?.then_some(known))
    }

    /// Starts the server by the launcher, so that nobody who is ended or who waits for a stream takes it along.
    fn start(&self, deadline: Instant) -> Result<(), SessionError> {
        let program = self.program.as_ref().ok_or(SessionError::NoTmux { why: "tmux was not found on PATH".into() })?;
        let configuration = self.home.root().join("tmux.conf");
        self.forget()?;
        atomic_file::write(&configuration, CONFIGURATION.as_bytes())?;
        let mut command = Command::new(&self.launcher.program);
        command.args(&self.launcher.arguments).arg(program);
        command.arg("-f").arg(&configuration).arg("-S").arg(self.place.socket()).arg("start-server");
        command.env_clear().envs(client::environment()).env(COOKIE_VARIABLE, Cookie::random()?.to_string());
        command.current_dir(self.home.root());
        let finished =
            client::run(&mut command, deadline).map_err(|error| self.failed(START, &self.launcher.program, error))?;
        match finished.meaning() {
            Ok(Reply::Said(_)) => Ok(()),
            Ok(_) => Err(self.refused(START, "the launcher did not launch it".into())),
            Err(said) => Err(self.refused(START, said)),
        }
    }

    /// Notes the server that has just answered with its pid, unless that is known.
    fn remember(&self, pid: &str, deadline: Instant) -> Result<(), SessionError> {
        let number = pid.parse().map_err(|_| self.refused("tell its pid", pid.to_owned()))?;
        if self.known()?.is_some_and(|known| known.process.pid == number) {
            return Ok(());
        }
        let words = words(["show-environment", "-g", COOKIE_VARIABLE]);
        let Reply::Said(line) = self.reach(self.asking("tell its cookie", &words), deadline)? else { return Ok(()) };
        let value = line.trim().strip_prefix(COOKIE_VARIABLE).and_then(|rest| rest.strip_prefix('='));
        let unseen = || self.refused("run where it can be seen", format!("its process {pid} is not to be found here"));
        let known = KnownServer::observe(number, value.and_then(|value| value.parse().ok()))?.ok_or_else(unseen)?;
        Ok(atomic_file::write_json(&self.record(), &known)?)
    }

    /// See [`super::SessionHost::check_record`].
    pub(super) fn check_record(&self) -> Result<(), FileError> {
        KnownServer::load(&self.record()).map(|_| ())
    }

    fn forget(&self) -> Result<(), SessionError> {
        let record = self.record();
        match std::fs::remove_file(&record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io("remove", &record, error).into())
            }
            _ => Ok(()),
        }
    }

    fn record(&self) -> PathBuf {
        self.home.root().join("tmux.json")
    }

    fn lock(&self, mode: Mode, deadline: Instant) -> Result<FileLock, SessionError> {
        let patience = deadline.saturating_duration_since(Instant::now());
        Ok(FileLock::acquire(&self.home.session_lock(), mode, patience)?)
    }

    fn failed(&self, action: &'static str, program: &Path, error: io::Error) -> SessionError {
        match error.kind() {
            io::ErrorKind::TimedOut => self.timed_out(action),
            _ => SessionError::Io { action: "run", path: program.to_owned(), source: error },
        }
    }

    fn timed_out(&self, action: &'static str) -> SessionError {
        SessionError::TimedOut { action, by_hand: self.by_hand() }
    }

    fn refused(&self, action: &'static str, said: String) -> SessionError {
        SessionError::Refused { action, said, by_hand: self.by_hand() }
    }

    fn by_hand(&self) -> String {
        format!("tmux -N -S {} list-sessions", quoted(&self.place.socket().to_string_lossy()))
    }
}

/// Targets are patterns and `.`, `:` part them; our names need no escaping.
fn check_name(name: &str) -> Result<(), SessionError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && name.bytes().all(fits) {
        Ok(())
    } else {
        Err(SessionError::Name { name: name.chars().take(96).flat_map(char::escape_debug).collect() })
    }
}

/// tmux would not complain: the session would be elsewhere.
fn check_directory(directory: &Path) -> Result<(), SessionError> {
    if directory.is_dir() {
        return Ok(());
    }
    let source = io::Error::from(io::ErrorKind::NotADirectory);
    Err(SessionError::Io { action: "show a run in", path: directory.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_patterns_are_refused() {
        for name in ["", "a*", "a.b", "a:b", "=a", "a b", "A", "ä", "$1", "a\n"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        check_name("moadim-triage-1780000000").unwrap();
    }
}
