//! Another machine: a real sshd on loopback, with keys, a home and a PATH of its own.
//!
//! It serves our listener as `inetd` would, a process for each connection, so that its port is its own from the first moment
//! on, and nothing is left when the connections are over.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::home::TestHome;
use super::server::Server;

/// How long sshd may take to see that a client has gone.
const EXIT: Duration = Duration::from_secs(10);

pub struct Sshd {
    directory: PathBuf,
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
    path: String,
}

impl Sshd {
    /// Starts one that the name `box` leads to, for commands with [`Self::path`]. `gone` leads nowhere, and `stranger` to it
    /// without a key that it knows. `None` where OpenSSH is not installed, unless `MOADIM_REQUIRE_SSHD=1`.
    pub fn start(home: &TestHome, test: &str) -> Option<Self> {
        let programs = match programs() {
            Ok(programs) => programs,
            Err(missing) => {
                let required = std::env::var("MOADIM_REQUIRE_SSHD").is_ok_and(|value| value == "1");
                assert!(!required, "MOADIM_REQUIRE_SSHD=1, and {missing}");
                // On the real standard error, which the test harness does not catch.
                let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {missing}");
                return None;
            }
        };
        let directory = home.scratch().join("remote");
        for name in ["home", "bin"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        for key in ["host_key", "known", "unknown"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.join(key));
            assert!(command.status().unwrap().success());
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = directory.display();
        std::fs::write(
            directory.join("sshd_config"),
            format!(
                "HostKey {at}/host_key\nAuthorizedKeysFile {at}/known.pub\nStrictModes no\nUsePAM no\nPidFile none\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 SetEnv HOME={at}/home PATH={at}/bin:/usr/bin:/bin\n"
            ),
        )
        .unwrap();
        let host = |name: &str, port: u16, key: &str| {
            format!("Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {at}/{key}\n")
        };
        let hosts = host("box", address.port(), "known")
            + &host("gone", free.port(), "known")
            + &host("stranger", address.port(), "unknown")
            + &format!(
                "Host *\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {at}/known_hosts\n  \
                 StrictHostKeyChecking accept-new\n"
            );
        std::fs::write(directory.join("ssh_config"), hosts).unwrap();
        // ssh takes its configuration from the home that the system's list of users names, not from HOME.
        home.script("ssh", &format!("exec {} -F {at}/ssh_config \"$@\"", programs.ssh.display()));

        let mut sshd = Command::new(&programs.sshd);
        sshd.arg("-i").arg("-f").arg(directory.join("sshd_config")).arg("-E").arg(directory.join("log"));
        let closing = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let closing = Arc::clone(&closing);
            std::thread::spawn(move || serve(&listener, sshd, &closing))
        };
        Some(Self { directory, address, closing, acceptor: Some(acceptor), path: home.path_with_scripts() })
    }

    /// Returns a PATH on which `ssh` knows its names.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the home directory on the other machine.
    pub fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// Returns a directory on the PATH of the other machine.
    pub fn bin(&self) -> PathBuf {
        self.directory.join("bin")
    }

    /// Starts a server as a host does, with ssh from [`Self::path`].
    pub fn start_server(&self, home: &TestHome, words: &[String]) -> Server {
        let mut command = home.command_of(Path::new("ssh"));
        Server::spawn({
            command.args(words).env("PATH", &self.path);
            command
        })
    }

    /// Returns what sshd has written of its connections.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

struct Programs {
    ssh: PathBuf,
    sshd: PathBuf,
}

fn programs() -> Result<Programs, String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let find = |name: &str| {
        let candidates = path.split(':').map(|directory| Path::new(directory).join(name));
        candidates.into_iter().find(|program| program.is_file()).ok_or_else(|| format!("there is no {name}"))
    };
    let programs = Programs { ssh: find("ssh")?, sshd: find("sshd")? };
    find("ssh-keygen")?;
    // The package's service makes it, at each start of the machine.
    let separation = Path::new("/run/sshd");
    if cfg!(target_os = "linux") && rustix::process::geteuid().is_root() && !separation.is_dir() {
        return Err(format!("sshd needs {}: mkdir -m 755 {0}", separation.display()));
    }
    Ok(programs)
}

fn serve(listener: &TcpListener, mut sshd: Command, closing: &AtomicBool) {
    let mut children: Vec<Child> = Vec::new();
    while let Ok((connection, _)) = listener.accept() {
        if closing.load(Ordering::Relaxed) {
            break;
        }
        let output = connection.try_clone().unwrap();
        let sides = [connection, output].map(|side| Stdio::from(OwnedFd::from(side)));
        let [input, output] = sides;
        children.push(sshd.stdin(input).stdout(output).stderr(Stdio::null()).spawn().unwrap());
    }
    // The command holds the last connection.
    drop(sshd);
    let deadline = Instant::now() + EXIT;
    for mut child in children {
        while child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
