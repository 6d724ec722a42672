//! What clients listen to: subscriptions of both eras, and what they are told.
//!
//! A modern client opens a subscription that lasts as long as its request, and each notification carries its id. A legacy
//! session subscribes to one resource after another; all of them, and the change of lists, go to it as they are.

use std::collections::BTreeSet;

use rmcp::ErrorData;
use rmcp::model::{ErrorCode, ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, RoleServer, SubscriptionContext};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::resources;
use super::stdio::while_open;
use super::subscriptions::{Changes, Feed, MAX_TOPICS, Subscriptions};
use crate::query::changes::Topic;

/// Returns the part of a modern client's wishes that can be fulfilled.
pub(super) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let mut accepted = requested.clone();
    if let Some(uris) = &mut accepted.resource_subscriptions {
        uris.retain(|uri| resources::topic(uri).is_some());
        uris.truncate(MAX_TOPICS);
    }
    accepted
}

/// Tells a modern client what it wants to know, until it cancels its request or the connection ends.
///
/// # Errors
/// The system has no threads left.
pub(super) async fn listen(
    context: &SubscriptionContext,
    subscriptions: &Subscriptions,
    closing: &CancellationToken,
) -> Result<(), ErrorData> {
    let (feed, mut changes) = open(subscriptions)?;
    let wanted = context.accepted();
    let uris = wanted.resource_subscriptions.iter().flatten();
    let mut topics: BTreeSet<Topic> = uris.filter_map(|uri| resources::topic(uri)).collect();
    if wanted.resources_list_changed == Some(true) {
        topics.insert(Topic::Lists);
    }
    if !topics.is_empty() {
        feed.set(topics).await;
    }
    let sink = context.sink();
    loop {
        let changed = tokio::select! {
            () = context.cancelled() => return Ok(()),
            () = closing.cancelled() => return Ok(()),
            changed = changes.recv() => changed.unwrap_or_default(),
        };
        for topic in &changed {
            let told = while_open(closing, async {
                match resources::uri(topic) {
                    Some(uri) => sink.notify_resource_updated(uri).await,
                    None => sink.notify_resource_list_changed().await,
                }
            });
            if let Some(Err(error)) = told.await {
                tracing::debug!(%error, "a change was not told");
            }
        }
    }
}

fn open(subscriptions: &Subscriptions) -> Result<(Feed, Changes), ErrorData> {
    subscriptions.open().map_err(|error| ErrorData::internal_error(format!("changes cannot be watched: {error}"), None))
}

/// What the legacy session of this connection is told.
#[derive(Default)]
pub(super) struct Session {
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    topics: BTreeSet<Topic>,
    feed: Option<Feed>,
}

impl Session {
    /// Tells the session of a topic, too.
    ///
    /// # Errors
    /// It has asked for too many, or the system has no threads left.
    pub(super) async fn add(
        &self,
        topic: Topic,
        subscriptions: &Subscriptions,
        peer: &Peer<RoleServer>,
    ) -> Result<(), ErrorData> {
        let mut wanted = self.wanted.lock().await;
        let Wanted { topics, feed } = &mut *wanted;
        if topics.contains(&topic) {
            return Ok(());
        }
        // The lists are not asked for by name, and do not count.
        let asked_for = topics.iter().filter(|topic| **topic != Topic::Lists).count();
        if asked_for >= MAX_TOPICS && topic != Topic::Lists {
            let text = format!("{MAX_TOPICS} subscriptions are open already; unsubscribe from some of them first");
            return Err(ErrorData::new(ErrorCode::INVALID_REQUEST, text, None));
        }
        let feed = match feed {
            Some(feed) => feed,
            None => {
                let (begun, changes) = open(subscriptions)?;
                tokio::spawn(forward(changes, peer.clone()));
                feed.insert(begun)
            }
        };
        topics.insert(topic);
        feed.set(topics.clone()).await;
        Ok(())
    }

    /// Tells the session of a topic no more.
    pub(super) async fn remove(&self, topic: &Topic) {
        let mut wanted = self.wanted.lock().await;
        if wanted.topics.remove(topic)
            && let Some(feed) = &wanted.feed
        {
            feed.set(wanted.topics.clone()).await;
        }
    }
}

async fn forward(mut changes: Changes, peer: Peer<RoleServer>) {
    while let Some(changed) = changes.recv().await {
        for topic in &changed {
            let told = match resources::uri(topic) {
                Some(uri) => peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await,
                None => peer.notify_resource_list_changed().await,
            };
            if told.is_err() {
                // Nobody reads any more.
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
