//! Programs that may hang, or print without end: each runs until a deadline.

use std::fs::File;
use std::io::{self, Read, Take, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// More than any program prints whose output is read whole.
const MAX_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

/// The pauses between two looks at a process: most end within milliseconds.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Waits until a process has ended, and calls `rest` between looks, which takes as long as it is told to, or less if something
/// happens; `None` if it has not at the deadline.
pub(crate) fn wait_until(
    child: &mut Child,
    deadline: Instant,
    rest: &mut dyn FnMut(Duration) -> io::Result<Rested>,
) -> io::Result<Option<ExitStatus>> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= deadline {
            return Ok(ended);
        }
        pause = match rest(pause)? {
            Rested::Fully => (pause * 2).min(LONGEST_PAUSE),
            Rested::Woken => SHORTEST_PAUSE,
        };
    }
}

/// How a rest between two looks at a process was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rested {
    Fully,
    /// The process printed something, or closed its output: it may end now.
    Woken,
}

/// Rests without looking at anything else.
#[allow(clippy::unnecessary_wraps, reason = "what `wait_until` calls")]
pub(crate) fn sleep(pause: Duration) -> io::Result<Rested> {
    std::thread::sleep(pause);
    Ok(Rested::Fully)
}

/// What a process said before it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` where another part of this process has collected the exit status.
    pub(crate) succeeded: Option<bool>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs a command to its end, or to the deadline: then it is killed, with what it started in its process group.
///
/// # Errors
/// `TimedOut`, and the system's.
pub(crate) fn run(command: &mut Command, deadline: Instant) -> io::Result<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let finished = gather(&mut child, deadline);
    if finished.is_err() {
        // It is not yet waited for, so that the number of its group cannot be anybody else's.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    finished
}

/// What a process said to a line of input.
#[derive(Debug)]
pub(crate) struct Reply {
    /// `None` where it had not ended at the deadline, and was killed.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Gives a command a line, and waits for a line. Then its input ends, and it has until the deadline to end, too: then it is
/// killed, with what it started in its process group.
pub(crate) fn ask(command: &mut Command, line: &[u8], deadline: Instant) -> io::Result<Reply> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let reply = hear(&mut child, line, deadline);
    if !reply.as_ref().is_ok_and(|reply| reply.status.is_some()) {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    reply
}

fn hear(child: &mut Child, line: &[u8], deadline: Instant) -> io::Result<Reply> {
    let mut stdout = Stream::of(child.stdout.take())?;
    let mut stderr = Stream::of(child.stderr.take())?;
    let mut stdin = child.stdin.take();
    // One that does not read it has a reason, and ends.
    let _ = stdin.as_mut().map(|stdin| stdin.write_all(line));
    let mut listen = || {
        stdout.drain()?;
        stderr.drain()?;
        if stdout.bytes.contains(&b'\n') {
            stdin = None;
        }
        io::Result::Ok(())
    };
    let status = wait_until(child, deadline, &mut |pause| {
        listen()?;
        sleep(pause)
    })?;
    listen()?;
    Ok(Reply { status, stdout: stdout.bytes, stderr: stderr.bytes })
}

/// Collects the output until the process has ended. A pipe that something else inherited may stay open for longer.
fn gather(child: &mut Child, deadline: Instant) -> io::Result<Finished> {
    let mut stdout = Stream::of(child.stdout.take())?;
    let mut stderr = Stream::of(child.stderr.take())?;
    let mut rest = |pause| {
        let rested = await_output([&stdout, &stderr], pause)?;
        stdout.drain()?;
        stderr.drain()?;
        Ok(rested)
    };
    let succeeded = match wait_until(child, deadline, &mut rest) {
        Ok(Some(status)) => Some(status.success()),
        Ok(None) => return Err(io::ErrorKind::TimedOut.into()),
        Err(error) if error.raw_os_error() == Some(Errno::CHILD.raw_os_error()) => None,
        Err(error) => return Err(error),
    };
    stdout.drain()?;
    stderr.drain()?;
    Ok(Finished { succeeded, stdout: stdout.bytes, stderr: stderr.bytes })
}

/// Rests until one of the streams has something to read or is closed.
fn await_output(streams: [&Stream; 2], pause: Duration) -> io::Result<Rested> {
    let open = streams.into_iter().filter(|stream| stream.is_open);
    let mut polled: Vec<PollFd<'_>> = open.map(|stream| PollFd::new(stream.pipe.get_ref(), PollFlags::IN)).collect();
    if polled.is_empty() {
        return sleep(pause);
    }
    let pause = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
    match poll(&mut polled, Some(&pause)) {
        Ok(0) | Err(Errno::INTR) => Ok(Rested::Fully),
        Ok(_) => Ok(Rested::Woken),
        Err(error) => Err(error.into()),
    }
}

/// One output of a process, read without waiting.
struct Stream {
    pipe: Take<File>,
    bytes: Vec<u8>,
    is_open: bool,
}

impl Stream {
    fn of(pipe: Option<impl Into<OwnedFd>>) -> io::Result<Self> {
        let pipe = File::from(pipe.ok_or(io::ErrorKind::BrokenPipe)?.into());
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: pipe.take(MAX_OUTPUT_BYTES), bytes: Vec::new(), is_open: true })
    }

    fn drain(&mut self) -> io::Result<()> {
        match self.pipe.read_to_end(&mut self.bytes) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if self.pipe.limit() == 0 => Err(io::Error::other("it never stops printing")),
            read => {
                self.is_open = read.is_err();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> io::Result<Finished> {
        run(Command::new("sh").args(["-c", script]), Instant::now() + limit)
    }

    #[test]
    fn a_process_is_bounded_also_when_its_children_hold_its_streams() {
        let limit = Duration::from_secs(60);
        let begun = Instant::now();
        let left = shell("sleep 20 & echo $!; exit 3", limit).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(left.succeeded, Some(false));
        let sleeper: i32 = String::from_utf8(left.stdout).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(sleeper).unwrap(), Signal::KILL).unwrap();
        let much = shell("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done", limit).unwrap();
        assert_eq!(much.stdout.len(), 220_000);
    }

    fn asked(script: &str, limit: Duration) -> Reply {
        ask(Command::new("sh").args(["-c", script]), b"question\n", Instant::now() + limit).unwrap()
    }

    #[test]
    fn a_process_that_is_asked_hears_the_end_of_its_input_after_its_answer() {
        let limit = Duration::from_secs(60);
        let reply = asked("read -r line; echo \"$line?\"; cat; echo end; echo well >&2; exit 3", limit);
        assert_eq!(reply.status.and_then(|status| status.code()), Some(3));
        assert_eq!((reply.stdout, reply.stderr), (b"question?\nend\n".to_vec(), b"well\n".to_vec()));
        let reply = asked("exec <&-; exit 4", limit);
        assert_eq!(reply.status.and_then(|status| status.code()), Some(4), "it reads nothing");
        let begun = Instant::now();
        let reply = asked("echo answer; sleep 60", Duration::from_secs(2));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!((reply.status, reply.stdout), (None, b"answer\n".to_vec()));
    }

    #[test]
    fn a_hanging_process_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 60 & echo $$ $! > '{}'; wait", pids.display());
        // Long enough for a busy machine to get to the hanging.
        let error = shell(&script, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let deadline = Instant::now() + Duration::from_secs(5);
        for pid in std::fs::read_to_string(&pids).unwrap().split_whitespace() {
            while is_running(pid) {
                assert!(Instant::now() < deadline, "{pid} lives");
                std::thread::sleep(LONGEST_PAUSE);
            }
        }
        let error = shell("exec yes", Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().contains("never stops"), "{error}");
    }

    fn is_running(pid: &str) -> bool {
        let state = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap().stdout;
        !state.is_empty() && !state.starts_with(b"Z")
    }
}
