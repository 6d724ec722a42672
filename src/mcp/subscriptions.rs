//! Telling clients what changed in the home, whichever process changed it.
//!
//! A modern client opens a subscription that lasts as long as its request. A legacy session subscribes to one resource after
//! another, and all its notifications come from one watch. A watch looks twice a second, and the next look waits until the client
//! has taken what the last one found: a slow client gets fewer notifications, and misses no change.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{ErrorCode, ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, RoleServer, SubscriptionContext};

use super::call_threads::{CallThreads, Panicked};
use super::connection::Connection;
use super::resources;
use crate::query::changes::{Observer, Topic};
use crate::run::context::App;

/// The pause between two looks, so that a client hears of one thing at most twice a second.
const PAUSE: Duration = Duration::from_millis(510);

/// How many topics one client may subscribe to.
const MAX_TOPICS: usize = 1_000;

/// The subscriptions of one connection.
pub(super) struct Subscriptions {
    app: Arc<App>,
    threads: Arc<CallThreads>,
    connection: Connection,
    /// What the legacy session subscribed to, and whether somebody looks for it yet.
    session: Watch,
    session_is_watched: AtomicBool,
}

/// Topics that somebody looks for.
#[derive(Clone)]
struct Watch(Arc<Mutex<Watched>>);

struct Watched {
    observer: Observer,
    topics: BTreeSet<Topic>,
    /// What changed and was not reported yet.
    changed: BTreeSet<Topic>,
}

impl Watch {
    fn new(app: &App, topics: BTreeSet<Topic>) -> Self {
        let observer = Observer::new(app.home().clone(), app.routines());
        Self(Arc::new(Mutex::new(Watched { observer, topics, changed: BTreeSet::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn look(&mut self) {
        self.changed.extend(self.observer.look(&self.topics));
    }

    fn take_changes(&mut self) -> BTreeSet<Topic> {
        self.look();
        self.changed.retain(|topic| self.topics.contains(topic));
        take(&mut self.changed)
    }

    /// Adds a topic; what changes from now on is reported.
    fn add(&mut self, topic: Topic) -> Result<(), ErrorData> {
        if self.topics.contains(&topic) {
            return Ok(());
        }
        // The lists are not asked for by name, and do not count.
        let asked_for = self.topics.iter().filter(|topic| **topic != Topic::Lists).count();
        if asked_for >= MAX_TOPICS && topic != Topic::Lists {
            let text = format!("{MAX_TOPICS} subscriptions are open already; unsubscribe from some of them first");
            return Err(ErrorData::new(ErrorCode::INVALID_REQUEST, text, None));
        }
        self.topics.insert(topic);
        self.look();
        Ok(())
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
    pub(super) fn new(app: Arc<App>, threads: Arc<CallThreads>, connection: Connection) -> Self {
        let session = Watch::new(&app, BTreeSet::new());
        Self { app, threads, connection, session, session_is_watched: AtomicBool::new(false) }
    }

    /// Tells a modern client what it subscribed to, until it cancels its request or the connection ends.
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
            let watch = Watch::new(&self.app, topics);
            let first = watch.clone();
            if let Err(Panicked(message)) = self.threads.run(move |_| first.lock().look()).await {
                tracing::error!(message, "looking for changes panicked");
            }
            let notify = |uri: Option<String>| async move {
                match uri {
                    Some(uri) => sink.notify_resource_updated(uri).await,
                    None => sink.notify_resource_list_changed().await,
                }
            };
            self.report(&watch, notify).await;
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
        let session = self.session.clone();
        let added = self.threads.run(move |_| session.lock().add(topic)).await;
        added.unwrap_or_else(|Panicked(message)| Err(ErrorData::internal_error(message, None)))?;
        if !self.session_is_watched.swap(true, Ordering::Relaxed) {
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

    /// Ends the legacy session's subscription to a topic, on a thread for calls: a look under way holds the lock.
    pub(super) async fn unsubscribe(&self, topic: Topic) {
        let session = self.session.clone();
        let removed = self.threads.run(move |_| session.lock().topics.remove(&topic)).await;
        if let Err(Panicked(message)) = removed {
            tracing::error!(message, "unsubscribing panicked");
        }
    }

    /// Looks for changes and notifies the client, until it takes no more notifications.
    async fn report<E: Display, F: Future<Output = Result<(), E>>>(
        &self,
        watch: &Watch,
        notify: impl Fn(Option<String>) -> F,
    ) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let looking = watch.clone();
            let changed = self.threads.run(move |_| looking.lock().take_changes()).await;
            let changed = changed.unwrap_or_else(|Panicked(message)| {
                tracing::error!(message, "looking for changes panicked");
                BTreeSet::new()
            });
            for topic in &changed {
                match self.connection.while_open(notify(resources::uri(topic))).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a change was not reported");
                    }
                    None => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::entry::Workbench;

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
        let watch = Watch::new(&app, runs.iter().cloned().map(Topic::Run).collect());
        watch.lock().look();
        for run in &runs {
            std::fs::create_dir(Workbench::of(app.home(), run).directory()).unwrap();
            watch.lock().look();
        }
        assert_eq!(watch.lock().take_changes().into_iter().collect::<Vec<_>>(), runs.map(Topic::Run));
        assert_eq!(watch.lock().take_changes(), BTreeSet::new());
    }

    #[test]
    fn what_is_no_longer_wanted_is_not_reported() {
        let (_dir, app) = App::example();
        let watch = Watch::new(&app, BTreeSet::new());
        for topic in [Topic::Health, Topic::Lists] {
            watch.lock().add(topic).unwrap();
        }
        std::fs::create_dir(app.home().routines().join("a")).unwrap();
        watch.lock().look();
        watch.lock().topics.remove(&Topic::Health);
        assert_eq!(watch.lock().take_changes(), BTreeSet::from([Topic::Lists]));
    }

    #[test]
    fn a_client_may_subscribe_to_so_many_and_no_more() {
        let (_dir, app) = App::example();
        let topics = (0..MAX_TOPICS).map(|n| Topic::Run(format!("a-{n}").parse().unwrap())).collect();
        let watch = Watch::new(&app, topics);
        assert!(watch.lock().add(Topic::Run("a-0".parse().unwrap())).is_ok(), "it is subscribed to already");
        assert!(watch.lock().add(Topic::Lists).is_ok());
        assert!(watch.lock().add(Topic::Health).unwrap_err().message.contains("unsubscribe"));
    }
}
