//! The user's own tmux server, where other programs keep sessions for workbenches that are not ours.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::client::{self, Reply};
use super::{SessionError, answer_deadline};
use crate::home::atomic_file::FileError;

const ACTION: &str = "list the sessions of your own server";
const BY_HAND: &str = "tmux list-sessions";

/// Lists the sessions on the user's default server.
///
/// # Errors
/// Anything but a list or the certainty that no such server runs; also a missing tmux, whose sessions may still be there.
pub(crate) fn users_sessions() -> Result<BTreeSet<String>, SessionError> {
    let program = client::find("tmux").ok_or(SessionError::NoTmux { why: "tmux was not found on PATH".into() })?;
    sessions_below(&program, std::env::var_os("TMUX_TMPDIR").as_deref(), answer_deadline())
}

/// Lists the sessions of the default server whose socket is below `directory`, or below tmux's own choice.
pub(super) fn sessions_below(
    program: &Path,
    directory: Option<&OsStr>,
    deadline: Instant,
) -> Result<BTreeSet<String>, SessionError> {
    let mut command = Command::new(program);
    command.env_clear().envs(client::environment());
    if let Some(directory) = directory {
        command.env("TMUX_TMPDIR", directory);
    }
    command.args(["-u", "list-sessions", "-F", "#{session_name}"]).args(client::last_words());
    let finished = client::run_within(&mut command, ACTION, || BY_HAND.into(), deadline)?;
    let refused = |said| SessionError::Refused { action: ACTION, said, by_hand: BY_HAND.into() };
    match finished.whole_answer().map_err(refused)? {
        Reply::Said(list) => Ok(list.lines().map(str::to_owned).collect()),
        Reply::NoServer(socket) => certainly_none(socket).map(|()| BTreeSet::new()),
        Reply::NoSession => Err(refused("it looked for a session instead".into())),
    }
}

/// Looks whether a server is there after all: its socket may have been deleted or replaced under it.
fn certainly_none(socket: PathBuf) -> Result<(), SessionError> {
    match std::fs::symlink_metadata(&socket) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError::io("look at", &socket, source).into())
        }
        Ok(found) if !found.file_type().is_socket() => {
            Err(SessionError::InTheWay { path: socket, problem: "is not the socket it should be".into() })
        }
        _ if is_bound(&socket) => Err(SessionError::Unreachable { socket }),
        _ => Ok(()),
    }
}

/// Returns whether a process of this network namespace is bound to `path`: `/proc/net/unix` (proc(5)) keeps the name of a socket
/// whose file is gone. Where that is not shown, as outside Linux, what tmux says about the path has to do.
fn is_bound(path: &Path) -> bool {
    let table = match std::fs::read("/proc/net/unix") {
        Ok(table) => table,
        // Where it could not be read, nothing is known.
        Err(error) => return !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied),
    };
    let entry = [b" ", path.as_os_str().as_bytes(), b"\n"].concat();
    table.windows(entry.len()).any(|window| window == entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::{
        in_a_minute, noting_its_pid, require_tmux, wait_until, while_its_client_is_ended, write_script,
    };
    use rustix::process::Pid;

    #[test]
    fn the_users_sessions_are_listed_and_a_lost_socket_is_not_taken_for_none() {
        let Some(program) = require_tmux() else { return };
        // tmux takes no TMUX_TMPDIR whose socket would exceed the limit, so this has to be a short path.
        let dir = tempfile::Builder::new().prefix("mu").tempdir_in("/tmp").unwrap();
        let list = || sessions_below(&program, Some(dir.path().as_os_str()), answer_deadline());
        assert_eq!(list().unwrap(), BTreeSet::new());

        let tmux = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.env_remove("TMUX").env("TMUX_TMPDIR", dir.path()).args(["-f", "/dev/null"]).args(arguments);
            command.output().unwrap()
        };
        assert!(tmux(&["new-session", "-d", "-s", "theirs", "sleep", "60"]).status.success());
        assert_eq!(list().unwrap(), BTreeSet::from(["theirs".to_owned()]));

        let server = tmux(&["display-message", "-p", "#{pid}"]).stdout;
        let server = String::from_utf8(server).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
        let (noting, pid) = (dir.path().join("noting"), dir.path().join("pid"));
        write_script(&noting, &noting_its_pid(&program, &pid));
        let cut_off = while_its_client_is_ended(server, &pid, || {
            sessions_below(&noting, Some(dir.path().as_os_str()), in_a_minute())
        });
        assert!(matches!(cut_off, Err(SessionError::Refused { .. })), "{cut_off:?}");

        let socket = dir.path().join(format!("tmux-{}/default", rustix::process::geteuid().as_raw()));
        let aside = socket.with_file_name("aside");
        std::fs::rename(&socket, &aside).unwrap();
        if cfg!(target_os = "linux") {
            assert!(matches!(list(), Err(SessionError::Unreachable { .. })), "{:?}", list());
        }
        std::fs::write(&socket, "").unwrap();
        assert!(matches!(list(), Err(SessionError::InTheWay { .. })), "{:?}", list());

        std::fs::rename(&aside, &socket).unwrap();
        tmux(&["kill-server"]);
        wait_until("no server counts as no session", || list().is_ok_and(|names| names.is_empty()));
    }

    #[test]
    fn a_tmux_that_cannot_be_understood_is_an_error() {
        let error = sessions_below(Path::new("/bin/false"), None, answer_deadline()).unwrap_err();
        assert!(matches!(error, SessionError::Refused { .. }), "{error}");
        let error = sessions_below(Path::new("/nowhere/tmux"), None, answer_deadline()).unwrap_err();
        assert!(matches!(error, SessionError::File(_)), "{error}");
    }
}
