//! The threads that tools run on.
//!
//! Each call has its own, so that one which waits holds up no other. The pool of tokio's `spawn_blocking` would do but
//! for one case: when the system has no thread left it panics, or puts the work behind a thread that never gets free,
//! and the caller is never answered. Agents that fork without end make that case real, and the call is the one that
//! stops them. So one thread is kept in reserve; what gets no other waits for that, and must not itself wait there.
//!
//! A thread that has done its call rests for a while before it ends, for the next call often comes soon. It is given work
//! only while it rests, so that none ever waits behind another.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(CallThread) + Send>;

/// The thread that a call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallThread {
    /// One of its own.
    Own,
    /// The one that all share which got none.
    Reserve,
}

/// How long a thread rests.
const REST: Duration = Duration::from_secs(5);
/// How many rest at most.
const RESTING: usize = 2;

/// Starts work on threads.
pub(super) struct CallThreads {
    start: fn(Job, &Arc<Rest>) -> Result<(), Job>,
    rest: Arc<Rest>,
    reserve: mpsc::Sender<Job>,
}

/// Where threads rest.
#[derive(Default)]
struct Rest {
    now: Mutex<Resting>,
    given: Condvar,
}

/// There are never more jobs than threads that rest.
#[derive(Default)]
struct Resting {
    threads: usize,
    jobs: VecDeque<Job>,
}

impl Rest {
    fn now(&self) -> MutexGuard<'_, Resting> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a job to a thread that rests, or back.
    fn give(&self, job: Job) -> Result<(), Job> {
        let mut resting = self.now();
        if resting.jobs.len() == resting.threads {
            return Err(job);
        }
        resting.jobs.push_back(job);
        self.given.notify_one();
        Ok(())
    }

    /// Rests until there is a job; `None` if none comes.
    fn next(&self) -> Option<Job> {
        let mut resting = self.now();
        if resting.threads == RESTING {
            return None;
        }
        resting.threads += 1;
        let waited = self.given.wait_timeout_while(resting, REST, |resting| resting.jobs.is_empty());
        let (mut resting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        resting.threads -= 1;
        resting.jobs.pop_front()
    }
}

/// What a panic said.
#[derive(Debug)]
pub(super) struct Panicked(pub(super) String);

impl CallThreads {
    /// Starts the reserve.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn new() -> io::Result<Self> {
        let (reserve, jobs) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("reserve".into())
            .spawn(move || jobs.into_iter().for_each(|job| job(CallThread::Reserve)))?;
        Ok(Self { start: start_thread, rest: Arc::default(), reserve })
    }

    /// Starts the reserve of a system that has no other thread.
    #[cfg(test)]
    pub(super) fn only_the_reserve() -> Self {
        Self { start: |job, _| Err(job), ..Self::new().unwrap() }
    }

    /// Runs work that may block, and tells its result or its panic. The work runs to its end even if nobody waits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(CallThread) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let (sender, result) = oneshot::channel();
        let job: Job = Box::new(move |thread| {
            // What the work shares with others is behind locks, and those tell of a panic themselves.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(|| work(thread))));
        });
        if let Err(job) = self.rest.give(job).or_else(|job| (self.start)(job, &self.rest)) {
            tracing::warn!("the system has no threads left; calls now run one after another");
            let _ = self.reserve.send(job);
        }
        match result.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(payload)) => Err(Panicked(said(payload.as_ref()))),
            Err(_) => Err(Panicked("its thread is gone".into())),
        }
    }
}

fn start_thread(job: Job, rest: &Arc<Rest>) -> Result<(), Job> {
    // A thread that fails to start takes its closure with it, so the job is handed over by way of a slot.
    let slot = Arc::new(Mutex::new(Some(job)));
    let take = |slot: &Mutex<Option<Job>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (handed, rest) = (Arc::clone(&slot), Arc::clone(rest));
    let started = thread::Builder::new().name("call".into()).spawn(move || {
        let mut next = take(&handed);
        while let Some(job) = next {
            job(CallThread::Own);
            next = rest.next();
        }
    });
    match started {
        Ok(_) => Ok(()),
        Err(_) => take(&slot).map_or(Ok(()), Err),
    }
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words").to_owned()
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
    async fn a_thread_that_rests_takes_the_next_call_and_one_at_work_does_not() {
        let threads = CallThreads::new().unwrap();
        let id = |on| (on, thread::current().id());
        let (on, first) = threads.run(id).await.unwrap();
        assert_eq!(on, CallThread::Own);
        // The answer is there a moment before the thread rests.
        while threads.rest.now().threads == 0 {
            tokio::task::yield_now().await;
        }
        let meeting = Arc::new(std::sync::Barrier::new(2));
        let meet = |meeting: Arc<std::sync::Barrier>| move |_| (meeting.wait(), thread::current().id()).1;
        let (one, other) = tokio::join!(threads.run(meet(meeting.clone())), threads.run(meet(meeting)));
        assert_eq!(one.unwrap(), first);
        assert_ne!(other.unwrap(), first);
    }

    #[tokio::test]
    async fn a_panic_is_told_in_its_own_words() {
        let threads = CallThreads::new().unwrap();
        assert_eq!(threads.run(|_| -> u8 { panic!("plain") }).await.unwrap_err().0, "plain");
        let n = 7;
        assert_eq!(threads.run(move |_| -> u8 { panic!("with {n}") }).await.unwrap_err().0, "with 7");
    }
}
