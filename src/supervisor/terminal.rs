//! The terminal of an agent that needs one, held by its supervisor.
//!
//! What the agent prints goes to the log, and from there to everybody who watches. What they type, and the sizes of their
//! terminals, comes through the fifo `keys` of the run's entry, where it waits while the agent does not read. A thread of its own
//! does both: the supervisor itself waits for seconds while it ends processes, and an agent that prints then must not stand still.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use super::keys::{self, Piece};
use crate::run::entry::{Entry, KEYS};
use crate::run::log;
use crate::run::workbench::Workbench;

/// The size while nobody watches: what full-screen programs draw well on.
const SIZE: Winsize = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };

/// How long a size is another one, so that every full-screen program draws itself again.
const WIGGLE: Duration = Duration::from_millis(20);

/// How long the terminal is still read once nothing of the run is left. Something that is not of the run may hold it open.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// The pause between two looks at a terminal that nobody has open.
const UNUSED_PAUSE: Duration = Duration::from_millis(20);

/// The most reads before keys get their turn.
const READS_AT_ONCE: usize = 64;

/// A terminal that is read.
pub(super) struct Terminal {
    pub(super) name: OsString,
    /// Open until the agent has it: a terminal that nobody has open reads as gone.
    agent_side: Option<File>,
    /// Closed to say that nothing of the run is left.
    over: PipeWriter,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Opens a terminal, and begins to read it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(entry: &Entry, workbench: &Workbench) -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        // Not by a flag, which macOS does not have.
        fcntl_setfd(&ours, FdFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = OsString::from_vec(ptsname(&ours, Vec::new())?.into_bytes());
        let agent_side = open_side(Path::new(&name))?;
        tcsetwinsize(&ours, SIZE)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let (stop, over) = io::pipe()?;
        let mut held = Held {
            ours: File::from(ours),
            keys: open_keys(&entry.file(KEYS))?,
            log: workbench.open_log().map_err(io::Error::other)?,
            sizes: log::create_sizes(workbench).ok(),
            read: Vec::new(),
            typed: Vec::new(),
            dropped: false,
        };
        held.note_size(SIZE);
        let reader = std::thread::Builder::new().name("terminal".into()).spawn(move || held.pass_on(&stop))?;
        Ok(Self { name, agent_side: Some(agent_side), over, reader })
    }

    /// Lets go of the agent's side, which it has open by now.
    pub(super) fn hand_over(&mut self) {
        self.agent_side = None;
    }

    /// Waits until all that was printed is in the log.
    pub(super) fn finish(self) {
        let Self { agent_side, over, reader, .. } = self;
        drop((agent_side, over));
        let _ = reader.join();
    }
}

/// Opens the agent's side of a terminal, which does not become ours by that.
pub(super) fn open_side(name: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed()).open(name)
}

/// Makes the fifo, and holds both ends of it: writers come and go.
fn open_keys(path: &Path) -> io::Result<File> {
    make_fifo(path)?;
    OpenOptions::new().read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

#[cfg(target_os = "linux")]
fn make_fifo(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, mkfifoat};
    Ok(mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?)
}

#[cfg(not(target_os = "linux"))]
fn make_fifo(path: &Path) -> io::Result<()> {
    let made = std::process::Command::new("mkfifo").args(["-m", "600", "--"]).arg(path).status()?;
    if made.success() { Ok(()) } else { Err(io::Error::other(format!("mkfifo failed: {made}"))) }
}

struct Held {
    ours: File,
    keys: File,
    log: File,
    sizes: Option<File>,
    /// What was read from `keys` and is no whole piece yet.
    read: Vec<u8>,
    /// What the agent does not take yet.
    typed: Vec<u8>,
    /// Whether a part of the output is not in the log.
    dropped: bool,
}

impl Held {
    fn pass_on(&mut self, stop: &PipeReader) {
        let mut deadline: Option<Instant> = None;
        loop {
            let is_unused = self.read_output();
            if deadline.is_some_and(|deadline| is_unused || Instant::now() >= deadline) {
                return;
            }
            self.read_keys(deadline.is_some());
            self.type_keys();
            if self.wait(stop, is_unused, deadline.is_some()) {
                deadline.get_or_insert_with(|| Instant::now() + LAST_OUTPUT_TIMEOUT);
            }
        }
    }

    /// Waits for output, for keys, or for the end; returns whether that has come.
    fn wait(&self, stop: &PipeReader, is_unused: bool, is_ending: bool) -> bool {
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, !self.typed.is_empty());
        let mut fds = Vec::with_capacity(3);
        if !is_unused {
            fds.push(PollFd::new(&self.ours, wanted));
        }
        if self.typed.is_empty() {
            fds.push(PollFd::new(&self.keys, PollFlags::IN));
        }
        if !is_ending {
            fds.push(PollFd::new(stop, PollFlags::IN));
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: UNUSED_PAUSE.subsec_nanos().into() };
        let _ = poll(&mut fds, (is_unused || is_ending).then_some(&pause));
        is_ending || fds.last().is_some_and(|stop| !stop.revents().is_empty())
    }

    /// Moves what was printed into the log; returns whether nobody has the terminal open. What cannot be written, as on a full
    /// disk, is dropped: the agent would stand still.
    fn read_output(&mut self) -> bool {
        let mut buffer = [0; 4096];
        for _ in 0..READS_AT_ONCE {
            match self.ours.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => {
                    if let Err(error) = self.log.write_all(&buffer[..count])
                        && !std::mem::replace(&mut self.dropped, true)
                    {
                        tracing::warn!(%error, "a part of the output is not in the log");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }

    /// Reads the fifo once, and takes only the last size: however much is written there, output and the end have their turn.
    fn read_keys(&mut self, is_ending: bool) {
        if !self.typed.is_empty() {
            return;
        }
        let mut buffer = [0; 4096];
        let count = self.keys.read(&mut buffer).unwrap_or(0);
        self.read.extend_from_slice(&buffer[..count]);
        let mut last_size = None;
        while let Some(piece) = keys::next(&mut self.read) {
            match piece {
                Piece::Keys(keys) => self.typed.extend(keys),
                Piece::Size(size) => last_size = Some(size),
            }
        }
        if let Some(size) = last_size.filter(|_| !is_ending) {
            self.resize(size);
        }
    }

    fn type_keys(&mut self) {
        match self.ours.write(&self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // Nobody has the terminal open.
            Err(_) => self.typed.clear(),
        }
    }

    fn resize(&mut self, size: Winsize) {
        if size.ws_row < 2 || size.ws_col == 0 {
            return;
        }
        let is_so = tcgetwinsize(&self.ours).is_ok_and(|now| (now.ws_row, now.ws_col) == (size.ws_row, size.ws_col));
        if is_so {
            let _ = tcsetwinsize(&self.ours, Winsize { ws_row: size.ws_row - 1, ..size });
            std::thread::sleep(WIGGLE);
        } else {
            self.note_size(size);
        }
        let _ = tcsetwinsize(&self.ours, size);
    }

    /// Notes from where in the log on the terminal has which size.
    fn note_size(&mut self, size: Winsize) {
        if let (Some(sizes), Ok(log)) = (&mut self.sizes, self.log.metadata()) {
            let _ = writeln!(sizes, "{} {} {}", log.len(), size.ws_row, size.ws_col);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;

    #[test]
    fn a_flood_of_sizes_holds_up_neither_the_output_nor_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let id = "a-1".parse().unwrap();
        let (entry, workbench) = (Entry::of(&home, &id), Workbench::of(&home, &id));
        std::fs::create_dir(entry.directory()).unwrap();
        std::fs::create_dir(workbench.directory()).unwrap();
        std::fs::write(workbench.log(), "").unwrap();
        let terminal = Terminal::open(&entry, &workbench).unwrap();
        // Until nobody reads any more.
        let mut fifo = OpenOptions::new().write(true).open(entry.file(KEYS)).unwrap();
        let flood = std::thread::spawn(move || {
            let sizes = [keys::resize(40, 120), keys::resize(50, 200)].concat().repeat(100);
            while fifo.write_all(&sizes).is_ok() {}
        });
        let mut agent = terminal.agent_side.as_ref().unwrap();
        agent.write_all(b"printed\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::fs::read(workbench.log()).unwrap().is_empty() {
            assert!(Instant::now() < deadline, "the output waits for the sizes");
            std::thread::sleep(Duration::from_millis(5));
        }
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            terminal.finish();
            done.send(())
        });
        finished.recv_timeout(Duration::from_secs(20)).expect("the end waits for the sizes");
        flood.join().unwrap();
    }
}
