//! The threads that tools run on.
//!
//! Each call has its own, so that one which waits holds up no other. The pool of tokio's `spawn_blocking` would do but
//! for one case: when the system has no thread left it panics, or queues the work behind a thread that never becomes free,
//! and the caller is never answered. Agents that fork without end make that case real, and the call is the one that
//! stops them. So one thread is kept in reserve; what gets no other waits for that, and must not itself wait there.
//!
//! Starting a thread takes longer than a quick call, so one stays for the calls that come while no other is under way.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(CallThread) + Send>;

/// The thread that a call runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallThread {
    Own,
    /// The one that all calls share which got none of their own.
    Reserve,
}

pub(crate) struct CallThreads {
    start: fn(Job) -> Result<(), Job>,
    /// To the thread that stays: it takes a job only while it waits for one.
    idle: mpsc::SyncSender<Job>,
    reserve: mpsc::Sender<Job>,
}

/// The message of a panic.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

impl CallThreads {
    /// Starts the threads that stay.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(crate) fn new() -> io::Result<Self> {
        let (reserve, jobs) = mpsc::channel::<Job>();
        start_worker("reserve", CallThread::Reserve, jobs)?;
        let (idle, jobs) = mpsc::sync_channel::<Job>(0);
        start_worker("call", CallThread::Own, jobs)?;
        Ok(Self { start: start_thread, idle, reserve })
    }

    /// Starts the reserve of a system that has no other thread.
    #[cfg(test)]
    pub(super) fn only_the_reserve() -> Self {
        Self { start: Err, idle: mpsc::sync_channel(0).0, ..Self::new().unwrap() }
    }

    /// Runs work that may block. It runs to its end even if nobody waits.
    ///
    /// # Errors
    /// It panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(CallThread) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let (sender, result) = oneshot::channel();
        let job: Job = Box::new(move |thread| {
            // What the work shares with others is behind locks, which are poisoned by a panic.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(|| work(thread))));
        });
        let taken = self.idle.try_send(job).map_err(|(TrySendError::Full(job) | TrySendError::Disconnected(job))| job);
        if let Err(job) = taken.or_else(self.start) {
            tracing::warn!("the system has no threads left; calls now run one after another");
            let _ = self.reserve.send(job);
        }
        match result.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(payload)) => Err(Panicked(message(payload.as_ref()))),
            Err(_) => Err(Panicked("its thread is gone".into())),
        }
    }
}

fn start_worker(name: &str, thread: CallThread, jobs: mpsc::Receiver<Job>) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(move || jobs.into_iter().for_each(|job| job(thread)))?;
    Ok(())
}

fn start_thread(job: Job) -> Result<(), Job> {
    // A thread that fails to start takes its closure with it, so the job is handed over by way of a slot.
    let slot = Arc::new(Mutex::new(Some(job)));
    let take = |slot: &Mutex<Option<Job>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let handed_over = Arc::clone(&slot);
    let started = thread::Builder::new().name("call".into()).spawn(move || {
        if let Some(job) = take(&handed_over) {
            job(CallThread::Own);
        }
    });
    match started {
        Ok(_) => Ok(()),
        Err(_) => take(&slot).map_or(Ok(()), Err),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_another_thread_the_reserve_does_the_work() {
        let threads = CallThreads::only_the_reserve();
        let (one, other) = tokio::join!(threads.run(|thread| (1, thread)), threads.run(|thread| (2, thread)));
        assert_eq!((one.unwrap(), other.unwrap()), ((1, CallThread::Reserve), (2, CallThread::Reserve)));
        assert!(threads.run(|_| -> u8 { panic!("oh") }).await.is_err());
        let name = threads.run(|_| thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("reserve"), "it survives a panic");
    }

    #[tokio::test]
    async fn calls_run_side_by_side() {
        let threads = CallThreads::new().unwrap();
        let meeting = Arc::new(std::sync::Barrier::new(2));
        let meet = |meeting: Arc<std::sync::Barrier>| move |thread| (meeting.wait(), thread).1;
        let (one, other) = tokio::join!(threads.run(meet(meeting.clone())), threads.run(meet(meeting)));
        assert_eq!((one.unwrap(), other.unwrap()), (CallThread::Own, CallThread::Own));
    }

    #[tokio::test]
    async fn a_panic_keeps_its_message() {
        let threads = CallThreads::new().unwrap();
        assert_eq!(threads.run(|_| -> u8 { panic!("plain") }).await.unwrap_err().0, "plain");
        let n = 7;
        assert_eq!(threads.run(move |_| -> u8 { panic!("with {n}") }).await.unwrap_err().0, "with 7");
    }
}
