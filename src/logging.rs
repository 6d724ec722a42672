//! The log on stderr, written so that no thread ever waits for its reader.
//!
//! A message goes into a bounded buffer, and one thread writes from there. Where nobody reads stderr that thread alone
//! waits: what finds no room is dropped and counted, and a line says how much once stderr takes something again.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How much waits to be written at most, beside what is being written.
const MOST_WAITING_BYTES: usize = 128 * 1024;

/// How long a panic, or the end of a process that serves others, waits for the log to be written.
pub const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(300);

static LOG: Log = Log::new();

/// Sends everything that is logged, panics too, to stderr. `RUST_LOG` sets the level.
pub fn start() {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()).and_then(|text| text.parse().ok());
    let usual = || Targets::new().with_default(LevelFilter::WARN).with_target("rmcp", LevelFilter::ERROR);
    let ansi = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(|| &LOG).with_ansi(ansi);
    tracing_subscriber::registry().with(wanted.unwrap_or_else(usual)).with(layer).init();
    // The standard hook writes to stderr itself, and would wait there.
    std::panic::set_hook(Box::new(log_panic));
}

/// Starts the thread that writes, which otherwise starts with the first message. A server cannot wait for that: by then
/// an agent may have used up all threads of the system.
pub fn start_writing() {
    LOG.ensure_writer(&mut LOG.state());
}

/// Writes a line of text for a person, whatever the level.
pub fn say(text: &str) {
    LOG.push(format!("{text}\n").as_bytes());
}

/// Waits until everything is written, but no longer than `timeout`.
pub fn finish(timeout: Duration) {
    LOG.wait_until_written(timeout);
}

/// Returns how many messages of this process are lost so far without a line in the log that says so.
pub fn dropped() -> u64 {
    LOG.state().dropped
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(thread, "{panic}\n{backtrace}");
    } else {
        tracing::error!(thread, "{panic}");
    }
    // It may be the end of the process.
    finish(LAST_WORDS_TIMEOUT);
}

/// What waits to be written. Its lock is never held while something is written.
#[derive(Debug)]
struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Some messages, one after the other, and how many they are.
    waiting: Vec<u8>,
    messages: u64,
    /// Messages that were dropped, and that no line in the log accounts for yet.
    dropped: u64,
    /// Something was dropped since the last batch was taken, so that all that follows is dropped until then: the line that
    /// accounts for it then stands where it belongs.
    full: bool,
    writing: bool,
    has_writer: bool,
}

impl Log {
    const fn new() -> Self {
        let state =
            State { waiting: Vec::new(), messages: 0, dropped: 0, full: false, writing: false, has_writer: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message, or drops it; never waits.
    fn push(&'static self, text: &[u8]) {
        let mut state = self.state();
        self.ensure_writer(&mut state);
        state.add(text);
        drop(state);
        self.changed.notify_all();
    }

    /// Starts the thread that writes, unless it is there. Where the system has no thread left, the next message tries again.
    fn ensure_writer(&'static self, state: &mut State) {
        if state.has_writer {
            return;
        }
        let started = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| {
            std::thread::Builder::new().name("log".into()).spawn(move || self.write_to(&mut Patient(stderr.into())))
        });
        state.has_writer = started.is_ok();
    }

    fn write_to(&self, out: &mut impl Write) {
        loop {
            self.write_next(out);
        }
    }

    /// Waits for messages, and writes them.
    fn write_next(&self, out: &mut impl Write) {
        let idle = |state: &mut State| state.messages == 0;
        let mut state = self.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut state.waiting);
        let messages = std::mem::take(&mut state.messages);
        // All of them came after those of the batch.
        let dropped = state.dropped;
        state.full = false;
        state.writing = true;
        drop(state);
        let written = out.write_all(&batch);
        let accounted = written.is_ok() && dropped > 0 && out.write_all(account_of(dropped).as_bytes()).is_ok();
        let mut state = self.state();
        state.writing = false;
        if written.is_err() {
            state.dropped += messages;
        }
        if accounted {
            state.dropped -= dropped;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn wait_until_written(&self, timeout: Duration) {
        let busy = |state: &mut State| state.writing || state.messages > 0;
        drop(self.changed.wait_timeout_while(self.state(), timeout, busy));
    }
}

/// Each message is written at once, by the thread that formats it.
impl Write for &'static Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    fn add(&mut self, text: &[u8]) {
        // One that is larger than all the room is taken when nothing else waits.
        let has_room = self.messages == 0 || self.waiting.len() + text.len() <= MOST_WAITING_BYTES;
        if self.full || !has_room {
            self.full = true;
            self.dropped += 1;
            return;
        }
        self.waiting.extend_from_slice(text);
        self.messages += 1;
    }
}

fn account_of(dropped: u64) -> String {
    format!("moadim-mcp: {dropped} log messages were dropped here: nobody read stderr\n")
}

/// A file that is waited for where it was made non-blocking, as some hosts do to a pipe that they share.
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(text) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log whose batches the test writes itself.
    fn unwritten() -> &'static Log {
        let log: &'static Log = Box::leak(Box::new(Log::new()));
        log.state().has_writer = true;
        log
    }

    fn written(log: &Log) -> String {
        let mut out = Vec::new();
        log.write_next(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_accounted_for_where_it_is_missing() {
        let log = unwritten();
        let line = format!("{}\n", "x".repeat(1023)).into_bytes();
        for _ in 0..200 {
            log.push(&line);
        }
        assert_eq!(log.state().dropped, 72);
        log.push(b"small, and after a gap\n");
        let text = written(log);
        assert_eq!(text.lines().count(), 129);
        assert_eq!(text.lines().last().unwrap(), account_of(73).trim_end());
        log.push(b"after\n");
        assert_eq!((written(log).as_str(), log.state().dropped), ("after\n", 0));
    }

    #[test]
    fn a_message_larger_than_the_room_is_written_when_nothing_else_waits() {
        let log = unwritten();
        let large = vec![b'x'; MOST_WAITING_BYTES + 1];
        log.push(&large);
        assert_eq!(written(log).len(), large.len());
        log.push(b"small\n");
        log.push(&large);
        assert_eq!(written(log), format!("small\n{}", account_of(1)));
    }

    #[test]
    fn what_stderr_refuses_counts_as_dropped_until_it_takes_something() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = unwritten();
        log.push(b"one\n");
        log.push(b"two\n");
        log.write_next(&mut Broken);
        assert_eq!(log.state().dropped, 2);
        log.push(b"three\n");
        assert_eq!(written(log), format!("three\n{}", account_of(2)));
        assert_eq!(log.state().dropped, 0);
    }

    #[test]
    fn finishing_waits_for_what_is_being_written_and_not_for_ever() {
        let log = unwritten();
        log.wait_until_written(Duration::MAX);
        log.push(b"one\n");
        log.wait_until_written(Duration::from_millis(1));
        let writer = std::thread::spawn(|| written(log));
        log.wait_until_written(Duration::from_secs(60));
        assert_eq!(writer.join().unwrap(), "one\n");
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        use std::io::Read;
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let text = vec![b'x'; 1 << 20];
        let length = text.len();
        let writing = std::thread::spawn(move || {
            Patient(std::os::fd::OwnedFd::from(writer).into()).write_all(&text).unwrap();
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        writing.join().unwrap();
        assert_eq!(read.len(), length);
    }

    /// The variable that lets a test go on in a process of its own.
    const BODY: &str = "MOADIM_TEST_BODY";

    #[test]
    fn a_panic_is_logged_and_does_not_wait_for_a_reader() {
        use std::io::Read;
        use std::process::{Command, Stdio};
        use std::time::Instant;
        let panicking = || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "logging::tests::panics", "--ignored", "--nocapture"]);
            command.env_remove("RUST_LOG").env(BODY, "1").stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        let heard = panicking().stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&heard.stderr).into_owned();
        assert!(said.contains("ERROR") && said.contains("logging.rs:") && said.contains("on purpose"), "{said}");
        let (mut reader, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while writer.write_all(b".").is_ok() {}
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        let mut unheard = panicking().stderr(writer).spawn().unwrap();
        let began = Instant::now();
        while unheard.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(60) {
                unheard.kill().unwrap();
                panic!("it waits for ever");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.iter().all(|byte| *byte == b'.'));
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn panics() {
        if std::env::var_os(BODY).is_some() {
            start();
            panic!("on purpose");
        }
    }
}
