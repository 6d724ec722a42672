//! What wakes the supervisor: a dead child, a signal that asks it to end, or the passing of time.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::run::end::UNWRITTEN_REQUEST;

/// The signals that a supervisor listens to.
#[derive(Debug)]
pub(super) struct Wake {
    stream: UnixStream,
    termination_signal: Arc<AtomicBool>,
    request_unwritten: Arc<AtomicBool>,
}

impl Wake {
    /// Starts listening. A hangup is no reason to end anything: it only wakes.
    pub(super) fn listen() -> io::Result<Self> {
        let (stream, sender) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let (termination_signal, request_unwritten) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&termination_signal))?;
        }
        signal_hook::flag::register(UNWRITTEN_REQUEST.as_raw(), Arc::clone(&request_unwritten))?;
        for signal in [SIGCHLD, SIGHUP, SIGTERM, SIGINT, UNWRITTEN_REQUEST.as_raw()] {
            pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self { stream, termination_signal, request_unwritten })
    }

    /// Waits for a signal, `at_most` this long.
    pub(super) fn wait(&mut self, at_most: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        let mut descriptors = [PollFd::new(&self.stream, PollFlags::IN)];
        // An interrupted poll is a signal too.
        let _ = poll(&mut descriptors, Some(&timeout));
        let mut drained = [0u8; 256];
        while self.stream.read(&mut drained).is_ok_and(|count| count == drained.len()) {}
    }

    /// Returns whether a termination signal ever arrived.
    pub(super) fn termination_signal(&self) -> bool {
        self.termination_signal.load(Ordering::Relaxed)
    }

    /// Returns whether a signal ever announced a request to end that is not on disk.
    pub(super) fn request_unwritten(&self) -> bool {
        self.request_unwritten.load(Ordering::Relaxed)
    }
}
