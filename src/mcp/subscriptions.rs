//! Reporting what changed in the home to the client, whichever process changed it.
//!
//! A modern client opens a subscription that lasts as long as its request. A legacy session subscribes to one resource after
//! another, and has one watch for all of them. One thread looks twice a second for all watches of a connection. What it finds
//! is collected until the client takes it: a slow client gets fewer notifications, and misses no change.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::ErrorData;
use rmcp::model::{ErrorCode, ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, RoleServer, SubscriptionContext};
use tokio::sync::Notify;

use super::call_threads::{CallThreads, Panicked};
use super::connection::Connection;
use super::resources;
use super::watches::{Watch, Watches};
use crate::query::changes::{Observer, Topic};
use crate::run::context::App;

/// How many topics one client may subscribe to.
const MAX_TOPICS: usize = 1_000;

/// The subscriptions of one connection.
pub(super) struct Subscriptions {
    app: Arc<App>,
    threads: Arc<CallThreads>,
    connection: Connection,
    watches: Watches<TopicWatch>,
    /// What the legacy session subscribed to, and whether its changes are reported yet.
    session: Arc<TopicWatch>,
    session_is_reported: AtomicBool,
}

/// Topics that are looked at, and what was found.
struct TopicWatch {
    /// Held for as long as a look takes.
    observer: Mutex<Observer>,
    noted: Mutex<Noted>,
    /// Rung by the thread alone: what a subscription finds at once is reported after the thread's next look.
    has_looked: Notify,
}

#[derive(Default)]
struct Noted {
    topics: BTreeSet<Topic>,
    /// What changed and was not reported yet.
    changed: BTreeSet<Topic>,
}

impl TopicWatch {
    fn new(app: &App, topics: BTreeSet<Topic>) -> Arc<Self> {
        let observer = Mutex::new(Observer::new(app.home.clone(), Arc::clone(&app.routines)));
        let noted = Mutex::new(Noted { topics, changed: BTreeSet::new() });
        Arc::new(Self { observer, noted, has_looked: Notify::new() })
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = self.noted().topics.clone();
        let changed = observer.look(&topics);
        self.noted().changed.extend(changed);
    }

    fn take_changes(&self) -> BTreeSet<Topic> {
        let Noted { topics, changed } = &mut *self.noted();
        changed.retain(|topic| topics.contains(topic));
        take(changed)
    }

    /// Adds a topic; what changes from now on is reported.
    fn add(&self, topic: Topic) -> Result<(), ErrorData> {
        let mut noted = self.noted();
        // The lists are not asked for by name, and do not count.
        let asked_for = noted.topics.iter().filter(|topic| **topic != Topic::Lists).count();
        if asked_for >= MAX_TOPICS && topic != Topic::Lists && !noted.topics.contains(&topic) {
            let text = format!("{MAX_TOPICS} subscriptions are open already; unsubscribe from some of them first");
            return Err(ErrorData::new(ErrorCode::INVALID_REQUEST, text, None));
        }
        let is_new = noted.topics.insert(topic);
        drop(noted);
        if is_new {
            self.look();
        }
        Ok(())
    }
}

impl Watch for TopicWatch {
    fn look(&self) {
        self.look();
    }

    fn has_looked(&self) {
        self.has_looked.notify_one();
    }
}

/// Returns the part of a modern client's wishes that can be fulfilled.
pub(super) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let mut accepted = requested.clone();
    if let Some(uris) = &mut accepted.resource_subscriptions {
        uris.retain(|uri| resources::topic(uri).is_some());
        uris.truncate(MAX_TOPICS);
    }
    accepted
}

impl Subscriptions {
    /// Starts the thread that looks: an agent may use up all threads later.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn new(app: Arc<App>, threads: Arc<CallThreads>, connection: Connection) -> io::Result<Self> {
        let watches = Watches::start()?;
        let session = TopicWatch::new(&app, BTreeSet::new());
        Ok(Self { app, threads, connection, watches, session, session_is_reported: AtomicBool::new(false) })
    }

    /// Reports to a modern client what it subscribed to, until it cancels its request or the connection ends.
    pub(super) async fn listen(&self, context: &SubscriptionContext) {
        let wanted = context.accepted();
        let uris = wanted.resource_subscriptions.iter().flatten();
        let mut topics: BTreeSet<Topic> = uris.filter_map(|uri| resources::topic(uri)).collect();
        if wanted.resources_list_changed == Some(true) {
            topics.insert(Topic::Lists);
        }
        let sink = context.sink();
        let report = async {
            if topics.is_empty() {
                return std::future::pending().await;
            }
            let notify = |uri: Option<String>| async move {
                match uri {
                    Some(uri) => sink.notify_resource_updated(uri).await,
                    None => sink.notify_resource_list_changed().await,
                }
            };
            self.report(&TopicWatch::new(&self.app, topics), notify).await;
        };
        tokio::select! {
            () = context.cancelled() => {}
            () = self.connection.closing.cancelled() => {}
            () = report => {}
        }
    }

    /// Subscribes the legacy session to a topic.
    ///
    /// # Errors
    /// It has subscribed to too many.
    pub(super) async fn subscribe(self: &Arc<Self>, topic: Topic, peer: &Peer<RoleServer>) -> Result<(), ErrorData> {
        let session = Arc::clone(&self.session);
        let added = self.threads.run(move |_| session.add(topic)).await;
        added.unwrap_or_else(|Panicked(message)| Err(ErrorData::internal_error(message, None)))?;
        if !self.session_is_reported.swap(true, Ordering::Relaxed) {
            let (this, peer) = (Arc::clone(self), peer.clone());
            tokio::spawn(async move {
                let notify = |uri: Option<String>| {
                    let peer = peer.clone();
                    async move {
                        match uri {
                            Some(uri) => peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await,
                            None => peer.notify_resource_list_changed().await,
                        }
                    }
                };
                this.report(&this.session, notify).await;
            });
        }
        Ok(())
    }

    /// Ends the legacy session's subscription to a topic.
    pub(super) fn unsubscribe(&self, topic: &Topic) {
        self.session.noted().topics.remove(topic);
    }

    /// Notifies the client of what is found, until it takes no more notifications.
    async fn report<E: Display, F: Future<Output = Result<(), E>>>(
        &self,
        watch: &Arc<TopicWatch>,
        notify: impl Fn(Option<String>) -> F,
    ) {
        self.watches.add(watch);
        while self.connection.while_open(watch.has_looked.notified()).await.is_some() {
            for topic in watch.take_changes() {
                if let Some(Err(error)) = self.connection.while_open(notify(resources::uri(&topic))).await {
                    tracing::debug!(%error, "a change was not reported");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::workbench::Workbench;

    #[test]
    fn only_what_we_know_is_accepted() {
        let wishes = SubscriptionFilter::builder()
            .resource_subscriptions(["moadim://runs/a-1", "file:///etc/passwd", "moadim://health"])
            .resources_list_changed()
            .build();
        let accepted = accepted(&wishes);
        assert_eq!(accepted.resource_subscriptions.unwrap(), ["moadim://runs/a-1", "moadim://health"]);
        assert_eq!(accepted.resources_list_changed, Some(true));
    }

    #[test]
    fn a_change_is_reported_once_however_many_looks_saw_it() {
        let (_dir, app) = App::example();
        let runs = ["a-1", "a-2"].map(|id| id.parse().unwrap());
        let watch = TopicWatch::new(&app, runs.iter().cloned().map(Topic::Run).collect());
        watch.look();
        for run in &runs {
            std::fs::create_dir(Workbench::of(&app.home, run).directory()).unwrap();
            watch.look();
        }
        assert_eq!(watch.take_changes().into_iter().collect::<Vec<_>>(), runs.map(Topic::Run));
        assert_eq!(watch.take_changes(), BTreeSet::new());
    }

    #[test]
    fn what_is_no_longer_wanted_is_not_reported() {
        let (_dir, app) = App::example();
        let watch = TopicWatch::new(&app, BTreeSet::new());
        for topic in [Topic::Health, Topic::Lists] {
            watch.add(topic).unwrap();
        }
        std::fs::create_dir(app.home.routines().join("a")).unwrap();
        watch.look();
        watch.noted().topics.remove(&Topic::Health);
        assert_eq!(watch.take_changes(), BTreeSet::from([Topic::Lists]));
    }

    #[test]
    fn a_client_may_subscribe_to_so_many_and_no_more() {
        let (_dir, app) = App::example();
        let topics = (0..MAX_TOPICS).map(|n| Topic::Run(format!("a-{n}").parse().unwrap())).collect();
        let watch = TopicWatch::new(&app, topics);
        assert!(watch.add(Topic::Run("a-0".parse().unwrap())).is_ok(), "it is subscribed to already");
        assert!(watch.add(Topic::Lists).is_ok());
        assert!(watch.add(Topic::Health).unwrap_err().message.contains("unsubscribe"));
    }
}
