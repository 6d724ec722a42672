//! Telling clients what changed in the home, whichever process changed it.
//!
//! One thread looks at everything that anybody wants to know, as long as anybody does. How often it looks is also how often
//! one thing is told at most. A client that does not read is not piled upon: what it was not told yet is kept as a set.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc as channel;
use tokio::sync::oneshot;

use crate::home::Home;
use crate::query::changes::{Observer, Topic};
use crate::routine::known::KnownRoutines;

/// The pause between two looks: no two in half a second, so that nothing is told more than twice a second.
const PAUSE: Duration = Duration::from_millis(510);

/// Nothing is told so soon after somebody has asked: their answer is still on its way out.
const AFTER_THE_ANSWER: Duration = Duration::from_millis(50);

/// How many topics one client may ask for.
pub(super) const MAX_TOPICS: usize = 1_000;

type Topics = BTreeSet<Topic>;

/// Everything that clients of this process want to be told.
pub(super) struct Subscriptions {
    home: Home,
    routines: Arc<KnownRoutines>,
    /// To the thread that looks, once there is one.
    orders: Mutex<Option<mpsc::Sender<Order>>>,
    next: AtomicU64,
}

enum Order {
    Want { feed: u64, topics: Topics, told: channel::Sender<Topics>, begun: oneshot::Sender<()> },
    Forget { feed: u64 },
}

/// What one client wants to be told; it is forgotten when this is dropped.
pub(super) struct Feed {
    id: u64,
    orders: mpsc::Sender<Order>,
    told: channel::Sender<Topics>,
}

/// What one client is told: each time, what changed since the time before.
pub(super) type Changes = channel::Receiver<Topics>;

impl Subscriptions {
    /// Makes it for a home. Nothing is looked at until somebody asks.
    pub(super) fn new(home: Home, routines: Arc<KnownRoutines>) -> Self {
        Self { home, routines, orders: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Begins a feed about nothing yet.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn open(&self) -> io::Result<(Feed, Changes)> {
        // One, so that what a slow client was not told yet stays with the others.
        let (told, changes) = channel::channel(1);
        let feed = Feed { id: self.next.fetch_add(1, Ordering::Relaxed), orders: self.orders()?, told };
        Ok((feed, changes))
    }

    fn orders(&self) -> io::Result<mpsc::Sender<Order>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = &*orders {
            return Ok(orders.clone());
        }
        let (sender, receiver) = mpsc::channel();
        let observer = Observer::new(self.home.clone(), Arc::clone(&self.routines));
        thread::Builder::new().name("changes".into()).spawn(move || Watch::new(observer).run(&receiver))?;
        Ok(orders.insert(sender).clone())
    }
}

impl Feed {
    /// Sets what the client wants to be told from now on; everything that changes after this has returned is.
    pub(super) async fn set(&self, topics: Topics) {
        let (begun, has_begun) = oneshot::channel();
        let order = Order::Want { feed: self.id, topics, told: self.told.clone(), begun };
        if self.orders.send(order).is_ok() {
            let _ = has_begun.await;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // A thread that is gone has forgotten it.
        let _ = self.orders.send(Order::Forget { feed: self.id });
    }
}

struct Watch {
    observer: Observer,
    wanted: BTreeMap<u64, Wanted>,
}

struct Wanted {
    topics: Topics,
    untold: Topics,
    told: channel::Sender<Topics>,
}

impl Watch {
    fn new(observer: Observer) -> Self {
        Self { observer, wanted: BTreeMap::new() }
    }

    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        let mut next_look = Instant::now();
        loop {
            let order = if self.wanted.is_empty() {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                orders.recv_timeout(next_look.saturating_duration_since(Instant::now()))
            };
            match order {
                Ok(Order::Want { feed, topics, told, begun }) => {
                    let untold = self.wanted.remove(&feed).map(|wanted| wanted.untold).unwrap_or_default();
                    self.wanted.insert(feed, Wanted { topics, untold, told });
                    self.look();
                    let _ = begun.send(());
                    next_look = next_look.max(Instant::now() + AFTER_THE_ANSWER);
                }
                Ok(Order::Forget { feed }) => drop(self.wanted.remove(&feed)),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    self.tell();
                    next_look = Instant::now() + PAUSE;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        let all = self.wanted.values().flat_map(|wanted| &wanted.topics).cloned().collect();
        let changed = self.observer.look(&all);
        for wanted in self.wanted.values_mut() {
            wanted.untold.extend(changed.intersection(&wanted.topics).cloned());
        }
    }

    fn tell(&mut self) {
        self.wanted.retain(|_, wanted| {
            let untold: Topics = take(&mut wanted.untold).intersection(&wanted.topics).cloned().collect();
            if untold.is_empty() {
                return true;
            }
            match wanted.told.try_send(untold) {
                Ok(()) => true,
                Err(channel::error::TrySendError::Full(untold)) => {
                    wanted.untold = untold;
                    true
                }
                Err(channel::error::TrySendError::Closed(_)) => false,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::entry::Workbench;
    use std::io::Write;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn next(changes: &mut Changes) -> Vec<Topic> {
        tokio::time::timeout(PATIENCE, changes.recv()).await.unwrap().unwrap().into_iter().collect()
    }

    #[tokio::test]
    async fn what_changes_is_told_to_whom_it_concerns_and_at_most_twice_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let subscriptions = Subscriptions::new(home.clone(), Arc::default());
        let (chatty, quiet) = ("chatty-1".parse().unwrap(), "quiet-1".parse().unwrap());
        let workbench = Workbench::of(&home, &chatty);
        std::fs::create_dir(workbench.directory()).unwrap();

        let ((feed, mut changes), (other, mut others)) = (subscriptions.open().unwrap(), subscriptions.open().unwrap());
        feed.set(Topics::from([Topic::Log(chatty.clone())])).await;
        other.set(Topics::from([Topic::Log(quiet)])).await;

        let mut log = std::fs::File::create(workbench.log()).unwrap();
        let (began, mut told) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_millis(1600) {
            writeln!(log, "a line").unwrap();
            if changes.try_recv().is_ok() {
                told += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let most = 2 * began.elapsed().as_millis() / 1000 + 1;
        assert!((1..=most).contains(&told), "{told} > {most}");
        // A look may have come after the last line, and its word been taken above.
        writeln!(log, "the last line").unwrap();
        assert_eq!(next(&mut changes).await, [Topic::Log(chatty)], "the last line is not forgotten");
        assert!(others.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_told_once_of_all_that_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let subscriptions = Subscriptions::new(home.clone(), Arc::default());
        let runs = ["a-1", "a-2", "a-3"].map(|id| id.parse().unwrap());
        let (feed, mut changes) = subscriptions.open().unwrap();
        feed.set(runs.iter().cloned().map(Topic::Run).collect()).await;
        for run in &runs {
            std::fs::create_dir(Workbench::of(&home, run).directory()).unwrap();
            tokio::time::sleep(PAUSE + Duration::from_millis(100)).await;
        }
        let mut missed = next(&mut changes).await;
        missed.extend(next(&mut changes).await);
        assert_eq!(missed, runs.map(Topic::Run));
    }

    #[tokio::test]
    async fn what_is_no_longer_wanted_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let subscriptions = Subscriptions::new(home.clone(), Arc::default());
        let (feed, mut changes) = subscriptions.open().unwrap();
        feed.set(Topics::from([Topic::Health])).await;
        feed.set(Topics::from([Topic::Lists])).await;
        // The home is new, so both had changed just before, and either may have been told meanwhile.
        let _ = changes.try_recv();
        std::fs::create_dir(home.routines().join("a")).unwrap();
        assert_eq!(next(&mut changes).await, [Topic::Lists]);
        drop(feed);
        assert_eq!(tokio::time::timeout(PATIENCE, changes.recv()).await.unwrap(), None);
    }
}
