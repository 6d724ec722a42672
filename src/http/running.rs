//! The dashboard of a home that is running: there is one at most, and others find it by `locks/dashboard.json`.
//!
//! The file is locked as long as its writer lives, so one that a killed process left is not believed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::{Home, holder};

/// Where the running dashboard is, and the token that opens it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Address {
    address: String,
    pub(crate) port: u16,
    pub(crate) token: String,
    pub(crate) pid: u32,
    started_at: UnixSeconds,
    /// Whether it serves only tools that change nothing.
    pub(crate) read_only: bool,
}

impl Address {
    pub(crate) fn of_this_process(port: u16, token: &str, read_only: bool) -> Self {
        let (address, token) = (Ipv4Addr::LOCALHOST.to_string(), token.to_owned());
        Self { address, port, token, pid: std::process::id(), started_at: UnixSeconds::now(), read_only }
    }

    /// Returns what a browser opens. A browser keeps the part after `#` to itself.
    pub(crate) fn url(&self) -> String {
        format!("{}#token={}", self.url_without_token(), self.token)
    }

    pub(crate) fn url_without_token(&self) -> String {
        self.url_of("/")
    }

    /// Returns the address of a path.
    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.address, self.port)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunningError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "another dashboard of this home is running but does not answer{}; end it, and try again", by_pid(*pid)
    )]
    Silent { pid: u32 },
}

fn by_pid(pid: u32) -> String {
    if pid == 0 { String::new() } else { format!(" (pid {pid})") }
}

/// This process's claim to be the dashboard of a home; gone when dropped.
pub(crate) struct Running {
    path: PathBuf,
    lock: FileLock,
}

/// What [`Running::enter`] found.
pub(crate) enum Entered {
    /// There was none: this process is the dashboard now.
    First(Running),
    /// There is one, and this path of it opens its page once.
    Already { address: Address, link: String },
}

/// How long another that is starting may take, and one that is ending.
const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the running one may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// More than it answers.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

impl Running {
    /// Claims to be the dashboard of a home, or finds the one that is.
    ///
    /// # Errors
    /// The system refuses the lock, or the process that has it does not answer.
    pub(crate) fn enter(home: &Home) -> Result<Entered, RunningError> {
        let path = home.dashboard_file();
        let deadline = Instant::now() + ANNOUNCEMENT_TIMEOUT;
        loop {
            match FileLock::acquire_unsigned(&path, Duration::ZERO) {
                Ok(lock) => {
                    let mut running = Self { path, lock };
                    // What a killed process left must not be taken for ours. On a full disk it stays, and leads nowhere.
                    let _ = running.lock.set_content("{}\n");
                    return Ok(Entered::First(running));
                }
                Err(error) if !error.is_held() => return Err(error.into()),
                Err(_) => {}
            }
            let address: Address = holder::read(&path);
            let link = (address.port != 0).then(|| ask_for_link(&address)).flatten();
            if let Some(link) = link {
                return Ok(Entered::Already { address, link });
            }
            if Instant::now() >= deadline {
                return Err(RunningError::Silent { pid: address.pid });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Finds the dashboard that is running, if one is.
    pub(crate) fn find(home: &Home) -> Option<Address> {
        let path = home.dashboard_file();
        let is_held = FileLock::try_existing(&path, Mode::Shared).is_err_and(|error| error.is_held());
        let address: Address = holder::read(&path);
        (is_held && address.port != 0).then_some(address)
    }

    /// Tells others where this process listens.
    ///
    /// # Errors
    /// The disk is full, for example: others will not find this dashboard, which works nevertheless.
    pub(crate) fn announce(&mut self, address: &Address) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(address)?;
        self.lock.set_content(&format!("{text}\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // While it is locked: a process that comes after makes a new one.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What the running dashboard answers to a command that wants to open it.
#[derive(Deserialize)]
struct Opening {
    link: String,
}

/// Asks the dashboard at this address for a link that opens its page once; `None` if it does not answer.
fn ask_for_link(address: &Address) -> Option<String> {
    let ask = || {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port));
        let mut stream = TcpStream::connect_timeout(&to, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        let token = &address.token;
        write!(
            stream,
            "POST /api/link HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = ask().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let opening = head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str::<Opening>(body).ok())??;
    Some(opening.link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    #[test]
    fn what_a_killed_process_left_is_replaced_and_nothing_is_left_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, home) = home();
        let path = home.dashboard_file();
        std::fs::write(&path, format!("{{\"port\":1,\"token\":\"{}\"}}", "x".repeat(900))).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let Ok(Entered::First(mut running)) = Running::enter(&home) else { panic!("it is not the first") };
        let address = Address::of_this_process(7, "hush", false);
        assert!(Running::find(&home).is_none(), "it does not listen yet");
        running.announce(&address).unwrap();
        assert_eq!(Running::find(&home).unwrap().url_without_token(), "http://127.0.0.1:7/");
        let read: Address = holder::read(&path);
        assert_eq!((read.url().as_str(), read.pid), ("http://127.0.0.1:7/#token=hush", std::process::id()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(running);
        assert!(!path.exists() && Running::find(&home).is_none());
    }

    #[test]
    fn one_that_does_not_answer_is_named() {
        let (_dir, home) = home();
        let Ok(Entered::First(mut running)) = Running::enter(&home) else { panic!("it is not the first") };
        // Nobody listens there: the listener is gone again.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        running.announce(&Address { pid: 7, ..Address::of_this_process(port, "hush", false) }).unwrap();
        let Err(error) = Running::enter(&home) else { panic!("it is taken for one that answers") };
        assert!(error.to_string().contains("pid 7"), "{error}");
    }
}
