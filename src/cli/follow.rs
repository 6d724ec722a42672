//! `follow`, hidden: shows a run in its window, and leaves with the run.
//!
//! It prints the log as it grows. Where the agent has a terminal, it also passes on the keys that are typed here, and the size
//! of this terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;

use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::run::entry::{Entry, KEYS};
use crate::run::id::RunId;
use crate::run::log::{Follower, Log};
use crate::run::workbench::Workbench;
use crate::supervisor::keys;

/// The pauses between two looks at the log: short while something happens.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The most of a log that is shown from its beginning, and how much of a larger one.
const MAX_SHOWN_BYTES: u64 = 1024 * 1024;
const SHOWN_END_BYTES: u64 = 64 * 1024;

/// How long a terminal takes to answer what an old output asks it.
const OLD_ANSWERS: Duration = Duration::from_millis(50);

/// What gives a person's terminal back: the main screen, a cursor, no colours, no reports of the mouse and of pastes.
const RESET: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[0m\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\r\n";

/// Shows a run until it is over, or until a person types the key `leave`.
///
/// # Errors
/// The terminal fails.
pub(super) fn follow(root: PathBuf, run: &RunId, leave: Option<u8>) -> anyhow::Result<()> {
    // A home that is gone is not made again.
    if !root.join("running").is_dir() {
        return Ok(());
    }
    let home = Home::open(root)?;
    let (entry, workbench) = (Entry::of(&home, run), Workbench::of(&home, run));
    let events = Follower::new(&workbench, 0);
    let mut shown = Shown { workbench, events, offset: 0, may_have_asked: false, problem: None };
    let mut keyboard = None;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let is_over = !entry.exists();
        // Before anything is shown, so that no key is taken for a signal to us.
        keyboard = keyboard.or_else(|| Keyboard::open(&entry, leave));
        let has_printed = shown.print_more()?;
        if is_over && !has_printed {
            shown.print_rest()?;
            return Ok(());
        }
        if has_printed {
            // Keys and sizes go on while output flows.
            pause = Duration::ZERO;
        }
        pause = match &mut keyboard {
            None => {
                std::thread::sleep(pause);
                longer(pause)
            }
            Some(keyboard) => {
                keyboard.begin(shown.may_have_asked)?;
                match keyboard.pass_on(pause)? {
                    Typed::Nothing => longer(pause),
                    Typed::Keys => SHORTEST_PAUSE,
                    Typed::Leave => return Ok(()),
                }
            }
        };
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// What was printed of a log.
struct Shown {
    workbench: Workbench,
    /// Where the log is for programs.
    events: Option<Follower>,
    offset: u64,
    /// Whether what was printed may have asked the terminal something.
    may_have_asked: bool,
    /// Why the log could not be read at the last look.
    problem: Option<String>,
}

impl Shown {
    /// Prints what the log holds beyond what was printed; returns whether that was anything. A log that cannot be read is no
    /// reason to leave: it says so, and looks again.
    ///
    /// # Errors
    /// The terminal's.
    fn print_more(&mut self) -> io::Result<bool> {
        let (bytes, problem) = match self.read_more() {
            Ok(bytes) => (bytes, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let mut stdout = io::stdout().lock();
        if let Some(new) = problem.as_ref().filter(|_| self.problem != problem) {
            write!(stdout, "[moadim] {new}\r\n")?;
        }
        self.problem = problem;
        self.may_have_asked |= bytes.contains(&b'\x1b');
        stdout.write_all(&bytes)?;
        stdout.flush()?;
        Ok(!bytes.is_empty())
    }

    fn print_rest(&mut self) -> io::Result<()> {
        let rest = self.events.as_mut().map(Follower::finish).unwrap_or_default();
        io::stdout().lock().write_all(rest.as_bytes())
    }

    fn read_more(&mut self) -> Result<Vec<u8>, FileError> {
        if let Some(events) = &mut self.events {
            let (size, read) = events.progress()?;
            if size.saturating_sub(read) > MAX_SHOWN_BYTES {
                events.skip_to(size - SHOWN_END_BYTES);
            }
            // An event that shows nothing is no silence.
            loop {
                let shown = events.read_more()?;
                let (size, read) = events.progress()?;
                if !shown.is_empty() || read >= size {
                    return Ok(shown.into_bytes());
                }
            }
        }
        let log = Log::open(&self.workbench)?;
        if log.size.saturating_sub(self.offset) > MAX_SHOWN_BYTES {
            self.offset = log.size - SHOWN_END_BYTES;
        }
        let (bytes, next) = log.raw(self.offset)?;
        self.offset = next;
        Ok(bytes)
    }
}

enum Typed {
    Nothing,
    Keys,
    Leave,
}

/// Our own terminal, in raw mode, and the way to that of the agent.
struct Keyboard {
    before: Termios,
    keys: File,
    resized: Arc<AtomicBool>,
    leave: Option<u8>,
    has_begun: bool,
    /// What the agent does not take yet.
    waiting: Vec<u8>,
}

impl Keyboard {
    /// Opens it; `None` without a terminal here, or before the agent has one.
    fn open(entry: &Entry, leave: Option<u8>) -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        // Without a reader this fails rather than waits.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let keys = OpenOptions::new().write(true).custom_flags(flags).open(entry.file(KEYS)).ok()?;
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        let resized = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register(SIGWINCH, Arc::clone(&resized)).ok()?;
        Some(Self { before, keys, resized, leave, has_begun: false, waiting: Vec::new() })
    }

    /// Throws away what our terminal answers to an old output, which the agent would take for typed.
    fn begin(&mut self, may_have_asked: bool) -> io::Result<()> {
        if !self.has_begun && may_have_asked {
            std::thread::sleep(OLD_ANSWERS);
            tcflush(io::stdin(), QueueSelector::IFlush)?;
        }
        self.has_begun = true;
        Ok(())
    }

    /// Passes on what is typed, waiting for that `at_most` so long.
    fn pass_on(&mut self, at_most: Duration) -> io::Result<Typed> {
        if self.waiting.is_empty() && self.resized.swap(false, Ordering::Relaxed) {
            let size = tcgetwinsize(io::stdin())?;
            self.waiting = keys::resize(size.ws_row, size.ws_col);
        }
        if !self.waiting.is_empty() {
            match self.keys.write(&self.waiting) {
                Ok(_) => self.waiting.clear(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The agent does not read, so what is typed waits in our terminal, unless one of the keys may be the one that leaves.
                    if self.leave.is_none() {
                        std::thread::sleep(at_most);
                        return Ok(Typed::Nothing);
                    }
                }
                // Its supervisor is gone.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.waiting.clear(),
                Err(error) => return Err(error),
            }
        }
        let stdin = io::stdin();
        let timeout = Timespec { tv_sec: 0, tv_nsec: at_most.subsec_nanos().into() };
        // An interrupted poll is a new size.
        if !poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0) {
            return Ok(Typed::Nothing);
        }
        let mut typed = [0; keys::MAX_KEYS];
        // Not through `Stdin`, whose buffer the poll does not see.
        match rustix::io::read(&stdin, &mut typed)? {
            0 => Ok(Typed::Leave),
            count if self.leave.is_some_and(|key| typed[..count].contains(&key)) => Ok(Typed::Leave),
            _ if !self.waiting.is_empty() => Ok(Typed::Nothing),
            count => {
                self.waiting = keys::typed(&typed[..count]);
                Ok(Typed::Keys)
            }
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
        if self.leave.is_some() {
            let _ = io::stdout().write_all(RESET);
        }
    }
}
